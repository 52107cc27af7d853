"""A look at lag as text for people."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from schemas.events import rfc3339
from streams.lag.broker import GroupLag, PartitionLag
from streams.lag.freshness import Freshness
from streams.lag.monitor import Look

UNKNOWN = "unknown"
NUMBERS = (
    "partition", "committed", "end", "messages", "seconds", "in/s", "out/s", "caught up in",
)  # fmt: skip


def look_text(look: Look) -> RenderableType:
    """A table per group, worst status in its head, and how fresh prices are."""
    observed = rfc3339(look.observed_ms)
    parts: list[RenderableType] = []
    for group in look.groups:
        parts.append(_table(group, observed))
        parts.extend(
            Text(f"topic {topic} does not exist: run pricemaker topics create")
            for topic in group.topics_missing
        )
    if look.freshness:
        parts.append(_freshness(look.freshness))
    return Group(*parts)


def _table(group: GroupLag, observed: str) -> Table:
    head = (
        f"{group.group}: {group.status_worst.value}, {group.state}, "
        f"{group.members} members, {observed}"
    )
    table = Table(title=head, title_justify="left", box=None, pad_edge=False)
    table.add_column("topic")
    for name in NUMBERS:
        table.add_column(name, justify="right")
    table.add_column("status")
    table.add_column("")
    for row in group.partitions:
        table.add_row(row.topic, *_cells(row))
    table.add_section()
    total, most = _count(group.messages_sum), _seconds(group.lag_ms_max)
    table.add_row("all", "", "", "", total, most, "", "", "", group.status_worst.value, "")
    return table


def _cells(row: PartitionLag) -> tuple[str, ...]:
    rates = row.rates
    words = [row.reason]
    if row.unknown is not None and row.unknown != row.reason:
        words.append(row.unknown)
    if row.not_moving:
        words.append("assigned but not moving")
    return (
        str(row.partition),
        _count(row.offset_committed),
        _count(row.offset_end),
        _count(row.consumer_lag_messages),
        _seconds(row.consumer_lag_ms),
        _rate(rates.messages_in_per_s),
        _rate(rates.messages_out_per_s),
        UNKNOWN if rates.catch_up_s is None else f"{rates.catch_up_s:,.0f} s",
        row.status.value,
        "; ".join(words),
    )


def _freshness(found: list[Freshness]) -> Table:
    table = Table(
        title="freshness of prices, in event time", title_justify="left", box=None, pad_edge=False
    )
    for name in ("tape partition", "applied up to", "newest event", "behind", "tape waiting"):
        table.add_column(name, justify="right")
    table.add_column("")
    for row in found:
        behind = "freshness unknown" if row.behind_ms is None else f"{row.behind_ms / 1000:,.0f} s"
        table.add_row(
            str(row.partition),
            _time(row.event_time_applied_ms),
            _time(row.event_time_newest_ms),
            behind,
            _count(row.tape_waiting),
            row.unknown or "",
        )
    return table


def _count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def _seconds(lag_ms: int | None) -> str:
    return UNKNOWN if lag_ms is None else f"{lag_ms / 1000:,.1f}"


def _rate(per_s: float | None) -> str:
    return UNKNOWN if per_s is None else f"{per_s:,.1f}"


def _time(at_ms: int | None) -> str:
    return UNKNOWN if at_ms is None else rfc3339(at_ms)
