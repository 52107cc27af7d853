"""What was decided before, in short: 51 bytes a decision, so that a desk's worth fits in memory."""

import math
import struct
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from schemas.events import rfc3339

PER_SKU_MAX = 500
PER_SKU_MIN = 50
_STATUSES = ("published", "held", "reverted")
_RECORD = struct.Struct("<qiBHqqdfff")  # money that is unknown is -1, other numbers are NaN
_UNKNOWN_MINOR = -1
_TRIGGERS_MAX = 65_535  # what the field holds; there are a few dozen
_DIGITS = 6  # of what is kept in single precision


class Past(Struct, frozen=True, kw_only=True):
    """A decision in short."""

    decided_ms: int
    version: int
    status: str
    price_minor: int | None
    wanted_minor: int | None
    rival_minor: float | None
    margin_pct: float | None
    elasticity: float | None
    return_rate: float | None
    trigger: str | None


class Histories:
    """The last decisions of each product.

    Parameters
    ----------
    records_max : of all products together. Each has an equal share of it, at least `PER_SKU_MIN`
        and at most `PER_SKU_MAX`; a product's oldest go when it is next decided
    """

    def __init__(self, records_max: int) -> None:
        self._records_max = records_max
        self._packed: dict[str, bytearray] = {}
        self._triggers: list[str] = [""]
        self._codes: dict[str, int] = {"": 0}

    def add(self, sku: str, past: Past) -> None:
        """Remember a decision, the newest of its product."""
        packed = self._packed.setdefault(sku, bytearray())
        packed += _RECORD.pack(
            past.decided_ms, past.version, _STATUSES.index(past.status),
            self._code(past.trigger or ""), _money(past.price_minor), _money(past.wanted_minor),
            _number(past.rival_minor), _number(past.margin_pct), _number(past.elasticity),
            _number(past.return_rate),
        )  # fmt: skip
        share = self._records_max // len(self._packed)
        excess = len(packed) - _RECORD.size * min(max(share, PER_SKU_MIN), PER_SKU_MAX)
        if excess > 0:
            del packed[:excess]

    def of(self, sku: str) -> list[dict[str, Any]]:
        """A product's decisions, the oldest first."""
        return list(self._read(self._packed.get(sku, bytearray())))

    def _read(self, packed: bytearray) -> Iterator[dict[str, Any]]:
        for at, version, status, trigger, price, wanted, *numbers in _RECORD.iter_unpack(packed):
            rival, margin, elasticity, returns = map(_rounded, numbers)
            yield {
                "decided_at": rfc3339(at), "version": version, "status": _STATUSES[status],
                "price_minor": None if price == _UNKNOWN_MINOR else price,
                "wanted_minor": None if wanted == _UNKNOWN_MINOR else wanted,
                "rival_minor": rival, "margin_pct": margin, "elasticity": elasticity,
                "return_rate": returns, "trigger": self._triggers[trigger] or None,
            }  # fmt: skip

    def _code(self, trigger: str) -> int:
        if trigger not in self._codes:
            if len(self._triggers) > _TRIGGERS_MAX:
                return 0
            self._codes[trigger] = len(self._triggers)
            self._triggers.append(trigger)
        return self._codes[trigger]


def _money(value: int | None) -> int:
    return _UNKNOWN_MINOR if value is None else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.{_DIGITS}g}")
