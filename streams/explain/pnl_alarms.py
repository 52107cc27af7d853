"""P&L explain: drift alarms of products, of categories, and of the catalogue."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from models.pnl.pnl_alarm import Direction, Sums, Watched, limit_nats, summed, watch

Scope = Literal["product", "category", "catalogue"]


class AlarmDay(msgspec.Struct, kw_only=True):
    """Evidence after a day, nats, at rest if it fired; ``fired``: which way demand went."""

    down_nats: float
    up_nats: float
    limit_nats: float
    fired: Direction | None


class PnlAlarm(msgspec.Struct, kw_only=True):
    """A day of one product, category or catalogue (name: all)."""

    scope: Scope
    name: str
    day: int
    seen: AlarmDay


def alarm_days(
    watched: Mapping[tuple[str, int], Watched], categories: Mapping[str, str], days: float
) -> list[PnlAlarm]:
    """All days that are watched, in order of scope, name and day.

    Parameters
    ----------
    watched : by product and day
    days : mean days between false alarms that is set for one series
    """
    series: dict[tuple[Scope, str], dict[int, list[Watched]]] = {}
    for (sku, day), seen in sorted(watched.items()):
        places: tuple[tuple[Scope, str], ...] = (
            ("product", sku), ("category", categories[sku]), ("catalogue", "all"),
        )  # fmt: skip
        for place in places:
            series.setdefault(place, {}).setdefault(day, []).append(seen)
    limit, found = limit_nats(days), list[PnlAlarm]()
    for (scope, name), by_day in sorted(series.items()):
        sums = Sums()
        for day in sorted(by_day):
            after, fired = watch(sums, summed(by_day[day]), limit)
            seen_day = AlarmDay(
                down_nats=after.down, up_nats=after.up, limit_nats=limit, fired=fired
            )
            found.append(PnlAlarm(scope=scope, name=name, day=day, seen=seen_day))
            sums = after
    return found
