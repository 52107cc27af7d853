"""The price a shop showed, derived from what its customers paid, never looking ahead.

A product has up to three price lists: the account customers' price, their *bulk* price from some
quantity on, and a dearer list for guests (rows without a customer). The history is the account
price: the one that most account customers paid in a trailing window. It moves when another price
was paid by two customers more than the present one: customers, not lines or units, so that neither
one large order nor one customer with a price of their own moves it; and a lead of two, so that two
prices of equal use don't make it flip to and fro. A tie goes to the lower price.

A *bulk line* is below the present price and of at least ``BULK_MULTIPLE`` times the quantity that
is usual for the product. It says nothing about the account price and has no vote. A price cut for
all shows in small lines too, which do have one.

The ratio of the guests' list to the account price is kept as a running geometric mean, and only
brings a guest's price to the account price's level. Where a guest's line is a product's first, the
price starts at that guess, and the first account line puts it right.
"""

import math
from collections import deque
from typing import NamedTuple

WINDOW_DAYS = 14
LEAD_CUSTOMERS = 2
BULK_MULTIPLE = 3.0  # real price breaks of the data lie at 5 to 20 times the usual quantity
DAY_MS = 86_400_000


class PriceLevels(NamedTuple):
    """A product's price lists at present, minor units; None where no line has shown one.

    ``bulk_minor`` is below ``account_minor``; ``bulk_units_min`` is the smallest quantity of a bulk
    line so far.
    """

    account_minor: int
    bulk_minor: int | None
    bulk_units_min: int | None
    guest_minor: int | None


class _Product:
    __slots__ = (
        "account_lines", "bulk_minor", "bulk_units_min", "customers", "guest_minor",
        "ln_quantity_sum", "price_minor", "window",
    )  # fmt: skip

    def __init__(self, price_minor: int) -> None:
        self.price_minor = price_minor
        self.account_lines = 0  # bulk lines left out
        self.ln_quantity_sum = 0.0
        self.window: deque[tuple[int, int, str]] = deque()  # (time ms, price, customer), by arrival
        self.customers: dict[int, dict[str, int]] = {}  # price -> customer -> lines in the window
        self.bulk_minor: int | None = None
        self.bulk_units_min: int | None = None
        self.guest_minor: int | None = None

    def is_bulk(self, quantity: int, unit_price_minor: int) -> bool:
        """Whether a line is far larger than usual, at a price below the present one."""
        if unit_price_minor >= self.price_minor or not self.account_lines:
            return False
        usual = math.exp(self.ln_quantity_sum / self.account_lines)
        return quantity >= BULK_MULTIPLE * usual

    def levels(self) -> PriceLevels:
        """The price lists at present; a bulk price that the account price has passed is none."""
        if self.bulk_minor is None or self.bulk_minor >= self.price_minor:
            return PriceLevels(self.price_minor, None, None, self.guest_minor)
        return PriceLevels(self.price_minor, self.bulk_minor, self.bulk_units_min, self.guest_minor)

    def votes(self, price_minor: int) -> int:
        """Customers who paid a price within the window."""
        return len(self.customers.get(price_minor, ()))

    def expire(self, horizon_ms: int) -> None:
        """Forget the lines of before ``horizon_ms``."""
        while self.window[0][0] < horizon_ms:
            _, price_minor, customer = self.window.popleft()
            payers = self.customers[price_minor]
            payers[customer] -= 1
            if not payers[customer]:
                del payers[customer]
            if not payers:
                del self.customers[price_minor]


class PriceHistory:
    """The present price of every product, moved on by its order lines one at a time."""

    def __init__(self, window_days: int = WINDOW_DAYS) -> None:
        self._window_ms = window_days * DAY_MS
        self._products: dict[str, _Product] = {}
        self._ln_ratio_sum = 0.0
        self._ratios = 0
        self.bulk_lines = 0

    @property
    def guest_ratio(self) -> float:
        """Guests' price over the account price of the same product, geometric mean so far."""
        return math.exp(self._ln_ratio_sum / self._ratios) if self._ratios else 1.0

    def price_minor(self, sku: str) -> int | None:
        """The account price at present; None for a product without an order line."""
        product = self._products.get(sku)
        return None if product is None else product.price_minor

    def levels(self) -> dict[str, PriceLevels]:
        """The price lists of every product, by SKU."""
        return {sku: product.levels() for sku, product in sorted(self._products.items())}

    def start(self, sku: str, unit_price_minor: int, is_account: bool) -> int:
        """Begin a product's history with the first price seen, at the account price's level."""
        if not is_account:
            unit_price_minor = max(1, round(unit_price_minor / self.guest_ratio))
        self._products[sku] = _Product(unit_price_minor)
        return unit_price_minor

    def learn_account(
        self, sku: str, at_ms: int, customer: str, quantity: int, unit_price_minor: int
    ) -> bool:
        """Learn an account customer's order line; returns whether the price moved.

        The product must have been started.
        """
        product = self._products[sku]
        if product.is_bulk(quantity, unit_price_minor):
            self.bulk_lines += 1
            product.bulk_minor = unit_price_minor
            known = product.bulk_units_min
            product.bulk_units_min = quantity if known is None else min(known, quantity)
            return False
        product.account_lines += 1
        product.ln_quantity_sum += math.log(quantity)
        product.window.append((at_ms, unit_price_minor, customer))
        payers = product.customers.setdefault(unit_price_minor, {})
        payers[customer] = payers.get(customer, 0) + 1
        product.expire(at_ms - self._window_ms)
        if product.account_lines == 1 and unit_price_minor != product.price_minor:
            product.price_minor = unit_price_minor  # it stood at a guess from a guest's line
            return True
        if len(product.customers) == 1 and unit_price_minor == product.price_minor:
            return False
        mode = max(product.customers, key=lambda price: (product.votes(price), -price))
        if product.votes(mode) < product.votes(product.price_minor) + LEAD_CUSTOMERS:
            return False
        product.price_minor = mode
        return True

    def learn_guest(self, sku: str, unit_price_minor: int) -> None:
        """Learn from a guest's order line how much dearer the guests' list is."""
        product = self._products[sku]
        product.guest_minor = unit_price_minor
        if product.account_lines:
            self._ln_ratio_sum += math.log(unit_price_minor / product.price_minor)
            self._ratios += 1
