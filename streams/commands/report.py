"""``pricemaker report``: draw a saved backtest again."""

from pathlib import Path

import click
import msgspec

from schemas.backtest import BacktestReport
from schemas.errors import InputError, ServiceError
from streams.output import Output, command_options

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("report")
@click.argument("document", type=FILE)
@click.option("--html", type=FILE, required=True, help="The page to write.")
@command_options(config=False)
def command(output: Output, document: Path, html: Path) -> None:
    """Draw the HTML report of a backtest from its JSON document.

    DOCUMENT is what backtest --json printed. The same document gives the same page.

    Example: pricemaker report backtest.json --html backtest.html
    """
    from streams.report.page import write_report

    try:
        report = _read(document)
        write_report(report, html)
    except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
        raise InputError(
            "not_a_backtest", f"the file is no backtest document: {error}.", where=str(document),
            fix="Give what this printed: pricemaker backtest SOURCE ... --json",
        ) from error  # fmt: skip
    written = html.stat().st_size
    told = {"html": str(html), "bytes": written, "candidates": [
        one.candidate for one in report.comparisons
    ]}  # fmt: skip
    output.document(told, f"{html}: {written / 2**20:.1f} MiB")


def _read(path: Path) -> BacktestReport:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ServiceError("file_unreachable", f"{error}.", where=str(path)) from error
    return msgspec.json.decode(text, type=BacktestReport)
