"""``pricemaker ingest``: events from files, onto the source topics or into an event file."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from schemas.errors import ConfigError
from streams.adapters.online_retail import (
    ATTRIBUTION,
    Assumptions,
    Converter,
    Report,
    modal_prices,
)
from streams.adapters.open_rows import open_rows
from streams.commands.feeding import ahead_option, make_feeder
from streams.commands.ingest_calendar import calendar
from streams.commands.ingest_traffic import ga4, yandex_metrica
from streams.output import Output, bootstrap_option, command_options
from streams.progress import progress_bar
from streams.tape.event_files import EventWriter, read_events

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("ingest")
def command() -> None:
    """Put events from a file on the source topics, or into an event file.

    Example: pricemaker ingest online-retail events.csv.gz --out events.jsonl.gz
    """


command.add_command(calendar)
command.add_command(ga4)
command.add_command(yandex_metrica)


@command.command("events")
@click.argument("file", type=FILE)
@ahead_option
@bootstrap_option
@command_options()
def events(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    ahead_max: int | None,
    file: Path,
) -> None:
    """Produce an event file (JSON lines, or .gz) to the source topics.

    Example: pricemaker ingest events events.jsonl.gz
    """
    size = max(file.stat().st_size, 1)
    with progress_bar(output, f"sending {file.name}") as advance:
        records = read_events(file, lambda position: advance(position / size))
        fed = make_feeder(config_file, bootstrap, ahead_max).feed(records)
    total = sum(fed.records.values())
    output.document(
        {"records": total, "records_by_topic": dict(sorted(fed.records.items()))},
        "\n".join([f"{total:,} records sent", *_counts("  ", fed.records)]),
    )


@command.command("online-retail")
@click.argument("file", type=FILE)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Event file to write.")
@click.option("--to-kafka", is_flag=True, help="Produce to the source topics.")
@click.option("--dry-run", is_flag=True, help="Only read, convert and report.")
@click.option(
    "--cost-share", type=click.FloatRange(0, 1, min_open=True), default=0.5, show_default=True,
    help="Unit cost as a share of the price.",
)  # fmt: skip
@click.option(
    "--cost-from", type=click.Choice(["first", "modal", "year"]), default="first",
    show_default=True,
    help="Which price: the first seen, the derived one as it moves, or the whole file's modal "
    "price, which looks ahead.",
)  # fmt: skip
@click.option(
    "--return-cost-minor", type=click.IntRange(0), default=50, show_default=True,
    help="Cost of handling a return, pence.",
)  # fmt: skip
@click.option(
    "--vat-rate", type=click.FloatRange(0, 1, max_open=True), default=0.0, show_default=True,
    help="VAT inside the shown price.",
)  # fmt: skip
@click.option(
    "--fee-rate", type=click.FloatRange(0, 1, max_open=True), default=0.0, show_default=True,
    help="Marketplace and payment fee, share of the price.",
)  # fmt: skip
@click.option(
    "--window-days", type=click.IntRange(1, 365), default=14, show_default=True,
    help="Trailing window of the derived price history, days.",
)  # fmt: skip
@click.option(
    "--guest-price", type=click.Choice(["account", "paid"]), default="account", show_default=True,
    help="Price of orders without a customer: at the account list's level, or as paid.",
)  # fmt: skip
@click.option(
    "--cancel-hours", type=click.IntRange(0, 720), default=24, show_default=True,
    help="A return within so many hours of its order is a cancellation.",
)  # fmt: skip
@ahead_option
@click.option("--day-first", is_flag=True, help="CSV export: dates are day/month/year.")
@bootstrap_option
@command_options()
def online_retail(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    file: Path,
    out: Path | None,
    to_kafka: bool,
    dry_run: bool,
    day_first: bool,
    ahead_max: int | None,
    **assumed: Any,
) -> None:
    """Turn the UCI data set Online Retail into events.

    FILE is the prepared CSV, the publisher's workbook (.xlsx) or its CSV export. Every row becomes
    one event or is counted with the reason why not.

    Example: pricemaker ingest online-retail "Online Retail.xlsx" --out events.jsonl.gz
    """
    if (out is not None) + to_kafka + dry_run != 1:
        raise ConfigError(
            "one_target", "give one of --out FILE, --to-kafka and --dry-run.", field="--out"
        )
    assumptions = Assumptions(**assumed)
    _say_assumptions(output, assumptions)
    year_prices = None
    if assumptions.cost_from == "year":
        with progress_bar(output, "reading prices") as advance:
            year_prices = modal_prices(open_rows(file, advance, day_first=day_first))
    converter = Converter(assumptions, year_prices)
    with progress_bar(output, f"converting {file.name}") as advance:
        records = _records(converter, file, advance, day_first)
        if out is not None:
            with EventWriter(out) as writer:
                for topic, value in records:
                    writer.write_event(topic, value)
        elif to_kafka:
            feeder = make_feeder(config_file, bootstrap, ahead_max)
            feeder.feed((topic.decode(), value) for topic, value in records)
        else:
            for _ in records:
                pass
    report = converter.finish()
    document = report.as_dict() | {"assumptions": assumptions.stamps()}
    output.document(document, _report_text(report))


def _records(
    converter: Converter, file: Path, advance: Callable[[float], None], day_first: bool
) -> Iterator[tuple[bytes, bytes]]:
    for row in open_rows(file, advance, day_first=day_first):
        yield from converter.convert(row)


def _say_assumptions(output: Output, assumptions: Assumptions) -> None:
    output.note(ATTRIBUTION)
    if output.as_json:
        return
    for name, value in assumptions.stamps().items():
        output.note(f"assumed {name}: {value}")


def _report_text(report: Report) -> str:
    accounted = report.row_events.total() + report.skipped.total()
    return "\n".join(
        [
            f"{report.rows:,} rows: {report.row_events.total():,} events, "
            f"{report.skipped.total():,} skipped, {report.rows - accounted} unaccounted",
            *_counts("  event   ", report.row_events),
            *_counts("  skipped ", report.skipped),
            f"{report.derived_events.total():,} events on top, {report.events:,} in all",
            *_counts("  derived ", report.derived_events),
            f"{report.products:,} products; returns matched {report.returns_matched:,}, "
            f"unmatched {report.returns_unmatched:,}",
            f"{report.bulk_lines:,} lines at a bulk price, of {report.bulk_products:,} products; "
            "they move no price",
            f"guests pay {report.guest_price_ratio:.2f} times the account price; "
            f"{report.guest_prices_mapped:,} guest prices brought to its level",
        ]
    )


def _counts(lead: str, counts: Any) -> list[str]:
    return [f"{lead}{name}: {count:,}" for name, count in sorted(counts.items())]
