"""``pricemaker simulate``: the events of a simulated shop, to a file or onto the source topics."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import click

from models.simulator.simulator import Shop
from models.simulator.simulator_customers import DAY_MS
from models.simulator.simulator_habit import CostPlusHabit
from models.simulator.simulator_presets import EFFECTS, Preset, shop_settings
from models.simulator.simulator_truth import ShopSettings
from schemas.errors import ConfigError
from schemas.topics import CONTROLS
from streams.commands.feeding import ahead_option, make_feeder
from streams.controls.calendars import Calendar, calendar_table
from streams.output import Output, bootstrap_option, command_options
from streams.progress import progress_bar
from streams.tape.event_files import EventWriter, SourceRecord

DaysEnd = Callable[[], None]


@click.command("simulate")
@click.option(
    "--preset", type=click.Choice(get_args(Preset)), default="shop", show_default=True,
    help="A small mixed catalogue, or the products of the reference world.",
)  # fmt: skip
@click.option(
    "--with", "effects", multiple=True, type=click.Choice(sorted(EFFECTS)), metavar="EFFECT",
    help=f"An effect to switch on, once or more often: {', '.join(sorted(EFFECTS))}.",
)  # fmt: skip
@click.option(
    "--country", default="DE", show_default=True,
    help="Whose public holidays, with the effect holidays; an ISO 3166 code.",
)  # fmt: skip
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
@click.option(
    "--open-loop/--closed-loop", "open_loop", default=True, show_default=True,
    help="Price by habit, or show what a worker publishes on prices-latest (with --to-kafka).",
)  # fmt: skip
@ahead_option
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    preset: Preset,
    effects: tuple[str, ...],
    country: str,
    products: int,
    days: int,
    seed: int,
    bad_share: float,
    start: str,
    out: Path | None,
    to_kafka: bool,
    open_loop: bool,
    ahead_max: int | None,
) -> None:
    """Make the events of a simulated shop that prices by habit, or as a worker tells it to.

    Beside FILE go FILE.products.parquet and FILE.days.parquet, with what demand, elasticity and
    best prices truly are. The same options give the same bytes.

    Example: pricemaker simulate --products 50 --days 14 --seed 7 --with season --out shop.jsonl.gz
    """
    if (out is not None) == to_kafka:
        raise ConfigError("one_target", "give one of --out FILE and --to-kafka.", field="--out")
    if not open_loop and not to_kafka:
        raise ConfigError(
            "no_worker", "--closed-loop needs --to-kafka and a worker.", field="--closed-loop"
        )
    if not open_loop and ahead_max is not None:
        raise ConfigError(
            "one_pace", "--closed-loop waits for the worker after each step.", field="--ahead"
        )
    calendar = _calendar(country, start, days) if "holidays" in effects else None
    settings = shop_settings(
        preset, effects, calendar=calendar, products=products, bad_share=bad_share, start=start
    )
    shop = Shop(seed, settings=settings)
    counts: Counter[str] = Counter()
    with progress_bar(output, "simulating") as advance:
        if out is not None:
            _write(out, shop, seed, days, counts, advance)
        elif open_loop:
            habit = CostPlusHabit(shop, seed)
            records = _records(shop, habit.prices, days, counts, advance, lambda: None)
            make_feeder(config_file, bootstrap, ahead_max).feed(records)
        else:
            _close_loop(config_file, bootstrap, shop, days, counts, advance)
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


def _calendar(country: str, start: str, days: int) -> Calendar:
    ShopSettings(start=start)  # refuses what is no midnight
    first = datetime.fromisoformat(start).date()
    return calendar_table(country, first, first + timedelta(days))


def _records(
    shop: Shop,
    prices: Callable[[], Mapping[str, int]],
    days: int,
    counts: Counter[str],
    advance: Any,
    day_ended: DaysEnd,
) -> Iterator[SourceRecord]:
    begin_ms, end_ms = shop.now_ms, shop.now_ms + days * DAY_MS
    while shop.now_ms < end_ms:
        for topic, value in shop.step(prices()):
            counts[topic] += 1
            yield topic, value
        if (shop.now_ms - begin_ms) % DAY_MS == 0:
            day_ended()
        advance((shop.now_ms - begin_ms) / (end_ms - begin_ms))


def _write(out: Path, shop: Shop, seed: int, days: int, counts: Counter[str], advance: Any) -> None:
    from streams.truth_files import TruthWriter

    habit = CostPlusHabit(shop, seed)
    with EventWriter(out) as writer, TruthWriter(out, shop) as truth:
        for topic, value in _records(shop, habit.prices, days, counts, advance, truth.add_day):
            writer.write(topic, value)


def _close_loop(
    config_file: Path | None,
    bootstrap: str | None,
    shop: Shop,
    days: int,
    counts: Counter[str],
    advance: Any,
) -> None:
    """Show what the worker publishes: after each step wait until it has priced all of it.

    The step's end is told as a tick, after its records: the clock moves with the shop's.
    """
    from streams.config import load_settings
    from streams.kafka.feeder import Feeder
    from streams.kafka.latest_prices import LatestPrices
    from streams.tape.pacing import GroupPace
    from streams.worker.ticks import tick_event

    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    feeder, pace = Feeder(settings), GroupPace(settings, 0, with_tape=True)
    begin_ms, end_ms = shop.now_ms, shop.now_ms + days * DAY_MS
    with LatestPrices(settings) as latest:
        while shop.now_ms < end_ms:
            for topic, value in shop.step(latest.prices):
                counts[topic] += 1
                feeder.send(topic, value)
            feeder.flush()
            pace(feeder.sent)
            feeder.send(CONTROLS.name, tick_event(shop.now_ms))
            feeder.flush()
            pace(feeder.sent)
            for _ in latest.read():
                pass
            advance((shop.now_ms - begin_ms) / (end_ms - begin_ms))
