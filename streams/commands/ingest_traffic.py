"""``pricemaker ingest ga4`` and ``ingest yandex-metrica``: traffic from web analytics' exports."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from schemas.errors import ConfigError
from streams.adapters.ga4 import read_ga4
from streams.adapters.metrica import read_metrica
from streams.adapters.traffic import TrafficBook, TrafficReport
from streams.commands.feeding import ahead_option, make_feeder
from streams.output import Output, bootstrap_option, command_options
from streams.progress import progress_bar
from streams.tape.event_files import EventWriter

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
BUCKET_HOURS = ("1", "2", "3", "4", "6", "8", "12", "24")
Read = Callable[..., None]


def _traffic_options(zone: str) -> Callable[[Any], Any]:
    """The options that both exports share."""
    options = [
        click.argument("file", type=FILE),
        click.option("--out", type=click.Path(dir_okay=False, path_type=Path),
                     help="Event file to write."),
        click.option("--to-kafka", is_flag=True, help="Produce to the topic traffic."),
        click.option("--dry-run", is_flag=True, help="Only read, convert and report."),
        click.option("--time-zone", default=zone, show_default=True,
                     help="Of the export's days and hours, an IANA name."),
        click.option("--bucket-hours", type=click.Choice(BUCKET_HOURS), default="1",
                     show_default=True, help="Single views are summed over so long, hours of UTC."),
        click.option("--sku-column", help="Column, or field of an item, that has the SKU."),
        click.option("--date-column", help="Column of a report that has the day."),
        click.option("--visits-column", help="Column of a report that counts item views."),
        click.option("--impressions-column", help="Column that counts views in lists."),
        click.option("--searches-column", help="Column that counts searches for the product."),
        ahead_option,
        bootstrap_option,
        command_options(),
    ]  # fmt: skip

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@click.command("ga4")
@_traffic_options("UTC")
def ga4(output: Output, **options: Any) -> None:
    """Turn an export of Google Analytics 4 into traffic.

    FILE is a report as CSV, or events of the BigQuery export as JSON lines (.jsonl); .gz is
    unpacked. Every row is used or counted with the reason why not.

    Example: pricemaker ingest ga4 items.csv --time-zone Europe/Berlin --out traffic.jsonl.gz
    """
    _ingest(output, "ga4", read_ga4, **options)


@click.command("yandex-metrica")
@_traffic_options("Europe/Moscow")
def yandex_metrica(output: Output, **options: Any) -> None:
    """Turn an export of Yandex.Metrica into traffic.

    FILE is an e-commerce report (CSV, TSV), or a log of the Logs API (TSV); .gz is unpacked. Every
    row is used or counted with the reason why not.

    Example: pricemaker ingest yandex-metrica hits.tsv.gz --to-kafka
    """
    _ingest(output, "metrica", read_metrica, **options)


def _ingest(
    output: Output,
    source: str,
    read: Read,
    *,
    config_file: Path | None,
    bootstrap: str | None,
    ahead_max: int | None,
    file: Path,
    out: Path | None,
    to_kafka: bool,
    dry_run: bool,
    time_zone: str,
    bucket_hours: str,
    **columns: str | None,
) -> None:
    if (out is not None) + to_kafka + dry_run != 1:
        raise ConfigError(
            "one_target", "give one of --out FILE, --to-kafka and --dry-run.", field="--out"
        )
    chosen = {name.removesuffix("_column"): value for name, value in columns.items() if value}
    book = TrafficBook(source)
    with progress_bar(output, f"reading {file.name}") as advance:
        read(file, chosen, _zone(time_zone), int(bucket_hours), book, advance)
    records = book.events()
    if out is not None:
        with EventWriter(out) as writer:
            for topic, value in records:
                writer.write(topic, value)
    elif to_kafka:
        make_feeder(config_file, bootstrap, ahead_max).feed(records)
    else:
        for _ in records:
            pass
    output.document(book.report.as_dict(), _report_text(book.report))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ConfigError(
            "unknown_time_zone", f"there is no time zone {name}.", field="--time-zone", value=name,
            expected="an IANA name such as Europe/Berlin",
        ) from None  # fmt: skip


def _report_text(report: TrafficReport) -> str:
    lines = [
        f"{report.rows:,} rows: {report.used:,} used, {report.skipped.total():,} skipped",
        *(f"  skipped {name}: {count:,}" for name, count in sorted(report.skipped.items())),
        *(
            f"  items skipped {name}: {count:,}"
            for name, count in sorted(report.items_skipped.items())
        ),
        f"{report.events:,} events of {report.products:,} products",
    ]
    return "\n".join(lines)
