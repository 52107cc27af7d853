"""``pricemaker pnl``: why expected profit moved, and what was earned against it."""

from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.table import Table

from models.pnl.pnl_alarm import ALARM_DAYS
from schemas.errors import ConfigError, InputError
from schemas.events import DAY_MS, rfc3339, time_ms
from schemas.money import format_minor
from schemas.topics import PARTITIONS_DEFAULT
from streams.config import load_settings
from streams.explain.pnl import PnlDay, decisions_from_file, decisions_from_kafka, explain_days
from streams.explain.pnl_alarms import AlarmDay, PnlAlarm
from streams.explain.pnl_totals import PnlTotal, totals
from streams.output import Output, bootstrap_option, command_options
from streams.tape.tape_selection import KAFKA, SourceSpec
from streams.tape.tape_sources import open_source


@click.command("pnl")
@click.argument("sku", required=False)
@click.option("--all", "everything", is_flag=True, help="All products, with totals by category.")
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="One day, UTC.  [default: all]")
@click.option(
    "--from", "file", type=click.Path(dir_okay=False, path_type=Path),
    help="Decisions written by replay --out, instead of Kafka.",
)  # fmt: skip
@click.option(
    "--tape", help='The decisions\' tape: "kafka", or a tape or event file; without it a --from '
    "has no realised layer.  [default: kafka, without --from]",
)  # fmt: skip
@click.option(
    "--partitions", type=click.IntRange(1, 1024), default=PARTITIONS_DEFAULT, show_default=True,
    help="Partitions that an event file is placed on, as replay was told.",
)  # fmt: skip
@click.option(
    "--alarm-days", type=click.FloatRange(min=10.0), default=ALARM_DAYS, show_default=True,
    help="Days between false alarms of a product, category or catalogue, at least and on average.",
)  # fmt: skip
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    sku: str | None,
    everything: bool,
    day: datetime | None,
    file: Path | None,
    tape: str | None,
    partitions: int,
    alarm_days: float,
) -> None:
    """Explain the profit of a product, or of all, by day.

    Model: the change of expected profit by what moved it (price, beliefs, stock, cost). Realised:
    what orders earned against what was expected, as sales noise and drift. Alarm: evidence that
    demand left what was believed three weeks before; with --all also of categories and catalogue.

    Example: pricemaker pnl 85123A --from decisions.jsonl --tape shop.tape --day 2025-11-28
    """
    if (sku is None) != everything:
        raise ConfigError("one_scope", "give one of SKU and --all.", field="--all")
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    decisions = (
        decisions_from_kafka(settings, sku) if file is None else decisions_from_file(file, sku)
    )
    source = KAFKA if tape is None and file is None else tape
    spec = None if source is None else SourceSpec(source=source, partitions=partitions)
    opened = None if spec is None else open_source(spec, settings)
    number = None if day is None else time_ms(day.replace(tzinfo=UTC)) // DAY_MS
    with nullcontext() if opened is None else opened.faults():
        records = None if opened is None else opened.records
        rows, alarms = explain_days(decisions, records, number, alarm_days)
    if not everything:
        alarms = []  # one product is neither its category nor the catalogue
    if not rows:
        raise InputError(
            "no_days",
            "no published decision or sale was found.",
            field="sku",
            value=sku,
            fix="See what there is: pricemaker prices --latest --no-follow",
        )
    sums = totals(rows)
    document = {
        "days": msgspec.to_builtins(rows),
        "totals": msgspec.to_builtins(sums),
        "alarms": [
            {**msgspec.to_builtins(one), "day": rfc3339(one.day * DAY_MS)[:10]} for one in alarms
        ],
    }
    output.document(document, _text(rows, sums, alarms))


def _text(rows: list[PnlDay], sums: list[PnlTotal], alarms: list[PnlAlarm]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("day", "product", "Pi", "by", "revalued", "expected", "realised", "noise",
                 "drift", "sd", "evidence", "alarm"):  # fmt: skip
        table.add_column(name, justify="left" if name in ("day", "product", "by") else "right")
    for row in rows:
        table.add_row(row.day, row.sku, *_model(row), *_realised(row), _alarm(row.alarm))
    for total in sums:
        money = (total.realised_expected_minor, total.realised_minor, total.noise_minor)
        table.add_row(
            "total",
            total.category,
            format_minor(total.change_minor, total.currency),
            _largest(total.terms, total.currency),
            format_minor(total.revaluation_minor, total.currency),
            *(format_minor(amount, total.currency) for amount in money),
            format_minor(total.drift_minor, total.currency),
        )
    for one in alarms:
        if one.seen.fired is not None:
            when = rfc3339(one.day * DAY_MS)[:10]
            table.add_row(when, f"{one.scope} {one.name}", *[""] * 9, _alarm(one.seen))
    return table


def _alarm(seen: AlarmDay | None) -> str:
    if seen is None:
        return "not watched"
    if seen.fired is not None:
        return f"demand {seen.fired}"
    return f"{max(seen.down_nats, seen.up_nats):.1f} of {seen.limit_nats:.1f} nats"


def _model(row: PnlDay) -> tuple[str, str, str]:
    if row.change_minor is None or row.terms is None or row.revaluation_minor is None:
        return "", "", ""
    money = row.currency
    return (
        format_minor(row.change_minor, money),
        _largest(row.terms, money),
        format_minor(row.revaluation_minor, money),
    )


def _largest(terms: dict[str, float], currency: str) -> str:
    """The three terms that moved most."""
    found = sorted(terms.items(), key=lambda one: -abs(one[1]))[:3]
    return ", ".join(f"{name} {format_minor(value, currency)}" for name, value in found if value)


def _realised(row: PnlDay) -> tuple[str, ...]:
    evidence, alarm = row.drift_evidence_nats, row.drift_alarm_nats
    watched = "" if evidence is None or alarm is None else f"{evidence:.1f} of {alarm:g} nats"
    found = row.realised
    if found is None:
        return "", "", "", "", "", watched
    amounts = (found.expected_minor, found.realised_minor, found.noise_minor, found.drift_minor)
    sd = "" if found.residual is None else f"{found.residual:+.2f}"
    return (*(format_minor(amount, row.currency) for amount in amounts), sd, watched)
