"""Sensitivities of many products in money, added up by group: what moves the shop's profit."""

from collections.abc import Iterable
from typing import Any

from streams.gateway.judged import COLUMNS, Exposure, Judged

PROFIT, LEFT = (
    COLUMNS.index(name) for name in ("profit_per_day_minor", "left_on_table_per_day_minor")
)


def portfolio(found: Iterable[tuple[tuple[Any, ...], Judged]], by: str) -> dict[str, Any]:
    """The sums by a column of the catalogue, each in one currency, and what is unknown.

    Only amounts of one currency are added. Rows are added in the order of their SKU, so that the
    order in which products were decided moves no digit.
    """
    column = COLUMNS.index(by)
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    unknown = 0
    for row, judged in sorted(found, key=lambda one: one[0][0]):
        exposure = judged.exposure
        if exposure is None:
            unknown += 1
            continue
        name = "unknown" if row[column] is None else str(row[column])
        group = groups.setdefault((name, judged.currency), _group(name, judged.currency))
        group["products"] += 1
        for field, value in exposure._asdict().items():
            group[field] += value
        group["profit_per_day_minor"] += row[PROFIT]
        group["left_on_table_per_day_minor"] += row[LEFT]
    return {"by": by, "groups": [groups[key] for key in sorted(groups)], "unknown": unknown}


def _group(name: str, currency: str) -> dict[str, Any]:
    sums = (*Exposure._fields, "profit_per_day_minor", "left_on_table_per_day_minor")
    return {"name": name, "currency": currency, "products": 0, **dict.fromkeys(sums, 0.0)}
