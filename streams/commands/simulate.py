"""``pricemaker simulate``: the events of a simulated shop, to a file or onto the source topics."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from models.simulator import Shop
from models.simulator_customers import DAY_MS
from models.simulator_habit import CostPlusHabit
from models.simulator_truth import ShopSettings
from schemas.errors import ConfigError, ServiceError
from streams.commands.feeding import ahead_option, make_feeder
from streams.event_files import EventWriter, SourceRecord
from streams.output import Output, bootstrap_option, command_options
from streams.progress import progress_bar

TRUTH_SUFFIX = ".truth.json"


@click.command("simulate")
@click.option(
    "--products", type=click.IntRange(1, 100_000), default=100, show_default=True,
    help="Products at the start.",
)  # fmt: skip
@click.option(
    "--days", type=click.IntRange(1, 3650), default=28, show_default=True, help="Simulated days."
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of everything.")
@click.option(
    "--bad-share", type=click.FloatRange(0, 0.5), default=0.0, show_default=True,
    help="Bad records on top, as a share of the good ones.",
)  # fmt: skip
@click.option(
    "--start", default="2025-01-06T00:00:00.000Z", show_default=True, metavar="TIME",
    help="First simulated midnight, UTC.",
)  # fmt: skip
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Event file to write.")
@click.option("--to-kafka", is_flag=True, help="Produce to the source topics instead.")
@ahead_option
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    products: int,
    days: int,
    seed: int,
    bad_share: float,
    start: str,
    out: Path | None,
    to_kafka: bool,
    ahead_max: int | None,
) -> None:
    """Make the events of a simulated shop that prices by habit: cost plus, looked at weekly.

    Beside FILE goes FILE.truth.json, with what the shop's demand and best prices truly are. The
    same options give the same bytes.

    Example: pricemaker simulate --products 50 --days 14 --seed 7 --out shop.jsonl.gz
    """
    if (out is not None) == to_kafka:
        raise ConfigError("one_target", "give one of --out FILE and --to-kafka.", field="--out")
    settings = ShopSettings(products=products, bad_share=bad_share, start=start)
    shop = Shop(seed, settings=settings)
    counts: Counter[str] = Counter()
    with progress_bar(output, "simulating") as advance:
        records = _records(shop, seed, days, counts, advance)
        if out is not None:
            with EventWriter(out) as writer:
                for topic, value in records:
                    writer.write(topic, value)
            _write(out.with_name(out.name + TRUTH_SUFFIX), shop.truth_json())
        else:
            _feed(config_file, bootstrap, ahead_max, records)
    document = {
        "records": counts.total(),
        "records_by_topic": dict(sorted(counts.items())),
        "totals": dict(sorted(shop.totals.items())),
        "repeats": shop.repeats,
        "bad_records": dict(sorted(shop.bad_records.items())),
    }
    lines = [f"{counts.total():,} records of {days} days"]
    lines += [f"  {topic}: {count:,}" for topic, count in sorted(counts.items())]
    output.document(document, "\n".join(lines))


def _records(
    shop: Shop, seed: int, days: int, counts: Counter[str], advance: Any
) -> Iterator[SourceRecord]:
    habit = CostPlusHabit(shop, seed)
    begin_ms, end_ms = shop.now_ms, shop.now_ms + days * DAY_MS
    while shop.now_ms < end_ms:
        for topic, value in shop.step(habit.prices()):
            counts[topic] += 1
            yield topic, value
        advance((shop.now_ms - begin_ms) / (end_ms - begin_ms))


def _feed(
    config_file: Path | None,
    bootstrap: str | None,
    ahead_max: int | None,
    records: Iterator[SourceRecord],
) -> None:
    make_feeder(config_file, bootstrap, ahead_max).feed(records)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content + b"\n")
    except OSError as error:
        raise ServiceError(
            "file_unreachable", f"{error.strerror or error}.", where=str(path)
        ) from error
