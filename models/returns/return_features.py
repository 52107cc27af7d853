"""What a return rate may depend on, as the rows of its two models."""

import math
from datetime import date
from functools import cache, lru_cache
from typing import NamedTuple

from models.returns.logistic import LEVEL
from schemas.events import DAY_MS

LN_PRICE_LIMIT = 1.0  # beyond e times the reference price, or the rival's, no slope is trusted
BIN = 0.15  # width of the bins of log price ratios: lessons of one are summed at their mean
KINDS_MAX = 4096  # whose names are kept
EPOCH_DAY = date(1970, 1, 1).toordinal()


class Sale(NamedTuple):
    """Circumstances of a sale.

    ``category`` and ``segment`` None are unknown; so is ``month`` (1 to 12, of the order, UTC).
    ``ln_price`` is ln(P / P_ref); ``ln_rival`` ln(P_c / P), or None without a rival.
    """

    category: str | None
    segment: str | None
    month: int | None
    ln_price: float
    ln_rival: float | None = None

    def kinds(self) -> tuple[str, ...]:
        """What both models know by name: the level, category, segment and month, where known."""
        return _named(self.category, self.segment, self.month)

    def row(self) -> dict[str, float]:
        """Features of the logistic model. What is not known is left out: it adds no term."""
        row = dict.fromkeys(self.kinds(), 1.0)
        row["price"] = price = clip_ln(self.ln_price)
        if self.category is not None:
            row[f"price_category={self.category}"] = price
        if self.ln_rival is not None:
            row["rival"] = clip_ln(self.ln_rival)
        return row

    def factors(self) -> list[str]:
        """Factors of the multiplicative model."""
        names = [*self.kinds(), f"price={log_bin(self.ln_price)}"]
        if self.ln_rival is not None:
            names.append(f"rival={log_bin(self.ln_rival)}")
        return names


@lru_cache(KINDS_MAX)
def _named(category: str | None, segment: str | None, month: int | None) -> tuple[str, ...]:
    names = [LEVEL]
    if category is not None:
        names.append(f"category={category}")
    if segment is not None:
        names.append(f"segment={segment}")
    if month is not None:
        names.append(f"month={month:02d}")
    return tuple(names)


@cache
def month_of_day(day: int) -> int:
    """Month, 1 to 12, of an event day (days since 1970-01-01, UTC).

    >>> month_of_day(20_454), month_of_day(-1)
    (1, 12)
    """
    return date.fromordinal(EPOCH_DAY + day).month


def month_of_ms(time_ms: int) -> int:
    """Month, 1 to 12, of an event time."""
    return month_of_day(time_ms // DAY_MS)


def clip_ln(value: float) -> float:
    """A log price ratio within its limit.

    Raises
    ------
    ValueError : it is not finite
    """
    if -LN_PRICE_LIMIT <= value <= LN_PRICE_LIMIT:
        return value
    if not math.isfinite(value):
        raise ValueError(f"a log price ratio was {value}; expected a finite number")
    return min(max(value, -LN_PRICE_LIMIT), LN_PRICE_LIMIT)


def log_bin(value: float) -> int:
    """Number of the bin of a log price ratio."""
    return round(clip_ln(value) / BIN)
