"""Online Retail (Daqing Chen, UCI, CC BY 4.0) as events.

Every row becomes exactly one event (``order_placed``, ``order_cancelled``, ``order_returned``) or
is counted with the reason why not; ``product_listed``, ``price_applied`` and ``cost_changed`` come
on top. Nothing looks ahead, except ``cost_from="year"``, which says so. docs/online-retail.md has
the rules and what they assume.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal

import orjson

from schemas.events import rfc3339
from streams.adapters.categories import category_of
from streams.adapters.price_history import DAY_MS, WINDOW_DAYS, PriceHistory, PriceLevels
from streams.adapters.rows import NO_MATCH, ORDER, RETURN, OrderRows, Row

ATTRIBUTION = (
    "Online Retail, Daqing Chen, UCI Machine Learning Repository, CC BY 4.0, "
    "https://doi.org/10.24432/C5BW33"
)
CURRENCY = "GBP"
OVERSEAS = (
    "Australia", "Bahrain", "Brazil", "Canada", "Hong Kong", "Israel", "Japan", "Lebanon", "RSA",
    "Saudi Arabia", "Singapore", "USA", "United Arab Emirates",
)  # fmt: skip
CHANNEL_OF_COUNTRY = {
    "United Kingdom": "uk",
    "Channel Islands": "uk",
    "Unspecified": "unknown",
    **dict.fromkeys(OVERSEAS, "overseas"),
}
CHANNEL_ELSE = "europe"
PRICE_TOO_SMALL, NO_UNITS, NO_PRODUCT = "price_rounds_to_zero", "no_units", "no_product"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What the data does not hold and is assumed instead."""

    cost_share: float = 0.5
    cost_from: Literal["first", "modal", "year"] = "first"
    return_cost_minor: int = 50
    vat_rate: float = 0.0
    fee_rate: float = 0.0
    window_days: int = WINDOW_DAYS
    guest_price: Literal["account", "paid"] = "account"
    cancel_hours: int = 24

    def stamps(self) -> dict[str, str]:
        """The assumptions as they stand in every ``product_listed``."""
        return {
            "cost": f"{self.cost_share:g} of the {self.cost_from} price",
            "guest_price": self.guest_price,
            "price_history": f"price most account customers paid, {self.window_days} days, "
            "bulk lines left out",
            "return_cost": f"{self.return_cost_minor} {CURRENCY} minor units",
            "rivals": "none observed",
            "stock": "unlimited",
            "tax_and_fee": f"vat {self.vat_rate:g}, fee {self.fee_rate:g}",
            "time": "shop clock taken as UTC",
        }


@dataclass(slots=True)
class Report:
    """Every row accounted for: ``rows`` is the sum of ``row_events`` and ``skipped``."""

    rows: int = 0
    row_events: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    derived_events: Counter[str] = field(default_factory=Counter)
    returns_matched: int = 0
    returns_unmatched: int = 0
    rows_out_of_time_order: int = 0
    guest_prices_mapped: int = 0
    guest_price_ratio: float = 1.0
    bulk_lines: int = 0
    bulk_products: int = 0
    products: int = 0

    @property
    def events(self) -> int:
        """All events made."""
        return self.row_events.total() + self.derived_events.total()

    def as_dict(self) -> dict[str, object]:
        """The report as data."""
        counts = {name: dict(sorted(value.items())) for name, value in self._counters()}
        return {**asdict(self), **counts, "events": self.events, "attribution": ATTRIBUTION}

    def _counters(self) -> list[tuple[str, Counter[str]]]:
        return [
            ("row_events", self.row_events),
            ("skipped", self.skipped),
            ("derived_events", self.derived_events),
        ]


def modal_prices(rows: Iterator[Row]) -> dict[str, int]:
    """Each product's modal price over all rows, minor units: account lines if it has any."""
    account: dict[str, Counter[int]] = {}
    guest: dict[str, Counter[int]] = {}
    for row in rows:
        if row.kind == ORDER and row.unit_price_minor:
            lines = account if row.is_account else guest
            lines.setdefault(row.sku, Counter())[row.unit_price_minor] += 1
    return {
        sku: max(lines, key=lambda price: (lines[price], -price))
        for sku, lines in (guest | account).items()
    }


class Converter:
    """Turns rows into source records, one row at a time.

    Parameters
    ----------
    assumptions : what the data does not hold
    year_prices : ``modal_prices`` of the whole file, for ``cost_from="year"``
    """

    def __init__(self, assumptions: Assumptions, year_prices: dict[str, int] | None = None) -> None:
        self.report = Report()
        self._assumptions = assumptions
        self._year_prices = year_prices or {}
        self._stamps = assumptions.stamps()
        self._history = PriceHistory(assumptions.window_days)
        self._orders = OrderRows()
        self._sku_json: dict[str, bytes] = {}  # listed products
        self._at_ms = -1
        self._at = b""
        self._invoice, self._invoice_json = "", b'""'
        self._cancel_ms = assumptions.cancel_hours * DAY_MS // 24
        self._maps_guests = assumptions.guest_price == "account"

    def convert(self, row: Row) -> list[tuple[bytes, bytes]]:
        """The records of one row: (topic, event), in order; none if the row is skipped."""
        self.report.rows += 1
        self._orders.add(row)
        reason = _skipped(row)
        if reason is not None:
            self.report.skipped[reason] += 1
            return []
        if row.at_ms != self._at_ms:
            self.report.rows_out_of_time_order += row.at_ms < self._at_ms
            self._at_ms = row.at_ms
            self._at = rfc3339(row.at_ms).encode()
        if row.invoice != self._invoice:
            self._invoice, self._invoice_json = row.invoice, orjson.dumps(row.invoice)
        records = [] if row.sku in self._sku_json else self._list(row)
        if row.kind == RETURN:
            records.append(self._give_back(row))
            return records
        records.append(self._order(row))
        if not row.is_account:
            self._history.learn_guest(row.sku, row.unit_price_minor)
        elif self._history.learn_account(
            row.sku, row.at_ms, row.customer, row.quantity, row.unit_price_minor
        ):
            records.extend(self._move(row))
        return records

    def finish(self) -> Report:
        """The report, after the last row."""
        self.report.guest_price_ratio = round(self._history.guest_ratio, 4)
        self.report.products = len(self._sku_json)
        self.report.bulk_lines = self._history.bulk_lines
        levels = self._history.levels().values()
        self.report.bulk_products = sum(level.bulk_minor is not None for level in levels)
        return self.report

    def price_levels(self) -> dict[str, PriceLevels]:
        """Each product's price lists as of the last row, by SKU."""
        return self._history.levels()

    def _order(self, row: Row) -> tuple[bytes, bytes]:
        self.report.row_events["order_placed"] += 1
        price_minor = row.unit_price_minor
        if self._maps_guests and not row.is_account:
            self.report.guest_prices_mapped += 1
            price_minor = self._history.price_minor(row.sku) or price_minor
        return b"orders", (
            b'{"type":"order_placed","event_id":"row-%d","event_time":"%b","sku":%b,'
            b'"currency":"GBP","order_id":%b,"line_id":"%d","quantity":%d,'
            b'"unit_price_minor":%d,"segment":"%b","channel":"%b"}'
        ) % (
            row.number,
            self._at,
            self._sku_json[row.sku],
            self._invoice_json,
            row.number,
            row.quantity,
            price_minor,
            b"account" if row.is_account else b"guest",
            CHANNEL_OF_COUNTRY.get(row.country, CHANNEL_ELSE).encode(),
        )

    def _give_back(self, row: Row) -> tuple[bytes, bytes]:
        order_id, line, age_ms = row.invoice, row.number, None
        if row.matched == NO_MATCH:
            self.report.returns_unmatched += 1
        else:
            self.report.returns_matched += 1
            line = row.matched
            order_id, ordered_ms = self._orders.find(line)
            age_ms = row.at_ms - ordered_ms
        event = {
            "type": "order_returned",
            "event_id": f"row-{row.number}",
            "event_time": self._at.decode(),
            "sku": row.sku,
            "order_id": order_id,
            "line_id": str(line),
            "quantity": row.quantity,
        }
        if age_ms is not None and age_ms <= self._cancel_ms:
            self.report.row_events["order_cancelled"] += 1
            segment = "account" if row.is_account else "guest"
            channel = CHANNEL_OF_COUNTRY.get(row.country, CHANNEL_ELSE)
            event |= {"type": "order_cancelled", "segment": segment, "channel": channel}
            return b"orders", orjson.dumps(event)
        self.report.row_events["order_returned"] += 1
        event |= {
            "currency": CURRENCY,
            "refund_minor": row.quantity * row.unit_price_minor,
            "return_cost_minor": self._assumptions.return_cost_minor,
        }
        return b"returns", orjson.dumps(event)

    def _list(self, row: Row) -> list[tuple[bytes, bytes]]:
        price_minor = self._history.start(row.sku, row.unit_price_minor, row.is_account)
        self._sku_json[row.sku] = orjson.dumps(row.sku)
        if self._assumptions.cost_from == "year":
            cost_minor = self._cost_minor(self._year_prices.get(row.sku, price_minor))
        else:
            cost_minor = self._cost_minor(price_minor)
        listed = self._event("product_listed", f"listed-{row.sku}", row.sku) | {
            "category": category_of(row.description),
            "attributes": {"description": row.description} if row.description else {},
            "unit_cost_minor": cost_minor,
            "return_handling_cost_minor": self._assumptions.return_cost_minor,
            "list_price_minor": price_minor,
            "vat_rate": self._assumptions.vat_rate,
            "fee_rate": self._assumptions.fee_rate,
            "assumptions": self._stamps,
        }
        self.report.derived_events["product_listed"] += 1
        return [(b"products", orjson.dumps(listed)), self._applied(row, price_minor)]

    def _move(self, row: Row) -> Iterator[tuple[bytes, bytes]]:
        price_minor = self._history.price_minor(row.sku)
        assert price_minor is not None  # it has just moved
        yield self._applied(row, price_minor)
        if self._assumptions.cost_from == "modal":
            self.report.derived_events["cost_changed"] += 1
            event = self._event("cost_changed", f"cost-{row.number}", row.sku)
            event["unit_cost_minor"] = self._cost_minor(price_minor)
            yield b"products", orjson.dumps(event)

    def _applied(self, row: Row, price_minor: int) -> tuple[bytes, bytes]:
        self.report.derived_events["price_applied"] += 1
        event = self._event("price_applied", f"price-{row.number}", row.sku)
        return b"products", orjson.dumps(event | {"price_minor": price_minor})

    def _event(self, kind: str, event_id: str, sku: str) -> dict[str, object]:
        return {
            "type": kind,
            "event_id": event_id,
            "event_time": self._at.decode(),
            "sku": sku,
            "currency": CURRENCY,
        }

    def _cost_minor(self, price_minor: int) -> int:
        return max(1, round(self._assumptions.cost_share * price_minor))


def _skipped(row: Row) -> str | None:
    """Why a row makes no event; None if it makes one."""
    if row.kind != ORDER and row.kind != RETURN:
        return row.kind
    if row.unit_price_minor < 1:
        return PRICE_TOO_SMALL
    if row.quantity < 1:
        return NO_UNITS
    return None if row.sku else NO_PRODUCT
