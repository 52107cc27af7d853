"""The price a shop showed, derived from what its customers paid, never looking ahead.

The history of a product is the modal unit price of its account customers' order lines in a
trailing window. It moves when another price is paid on more lines than the present one, by a lead
of two: lines, not units, so that one large order at a bulk break doesn't move it, and a lead, so
that two price tiers of equal use don't make it flip to and fro. A tie goes to the lower price.
Guests (rows without a customer) pay another, dearer list; its ratio to the account list is kept
as a running geometric mean, and only brings a guest's price to the account list's level.
"""

import math
from collections import Counter, deque

WINDOW_DAYS = 14
LEAD_LINES = 2
DAY_MS = 86_400_000


class _Product:
    __slots__ = ("account_lines", "lines", "price_minor", "window")

    def __init__(self, price_minor: int) -> None:
        self.price_minor = price_minor
        self.account_lines = 0
        self.window: deque[tuple[int, int]] = deque()  # (time ms, price minor), by time of arrival
        self.lines: Counter[int] = Counter()  # price minor -> lines in the window


class PriceHistory:
    """The present price of every product, moved on by its order lines one at a time."""

    def __init__(self, window_days: int = WINDOW_DAYS) -> None:
        self._window_ms = window_days * DAY_MS
        self._products: dict[str, _Product] = {}
        self._ln_ratio_sum = 0.0
        self._ratios = 0

    @property
    def guest_ratio(self) -> float:
        """Guests' price over the account price of the same product, geometric mean so far."""
        return math.exp(self._ln_ratio_sum / self._ratios) if self._ratios else 1.0

    def price_minor(self, sku: str) -> int | None:
        """The price shown at present; None for a product without an order line."""
        product = self._products.get(sku)
        return None if product is None else product.price_minor

    def start(self, sku: str, unit_price_minor: int, is_account: bool) -> int:
        """Begin a product's history with the first price seen, at the account list's level."""
        if not is_account:
            unit_price_minor = max(1, round(unit_price_minor / self.guest_ratio))
        self._products[sku] = _Product(unit_price_minor)
        return unit_price_minor

    def learn_account(self, sku: str, at_ms: int, unit_price_minor: int) -> bool:
        """Learn an account customer's order line; returns whether the price moved.

        The product must have been started.
        """
        product = self._products[sku]
        product.account_lines += 1
        product.window.append((at_ms, unit_price_minor))
        product.lines[unit_price_minor] += 1
        horizon_ms = at_ms - self._window_ms
        while product.window[0][0] < horizon_ms:
            _, gone = product.window.popleft()
            product.lines[gone] -= 1
            if not product.lines[gone]:
                del product.lines[gone]
        if len(product.lines) == 1 and unit_price_minor == product.price_minor:
            return False
        mode = max(product.lines, key=lambda price: (product.lines[price], -price))
        if product.lines[mode] < product.lines.get(product.price_minor, 0) + LEAD_LINES:
            return False
        product.price_minor = mode
        return True

    def learn_guest(self, sku: str, unit_price_minor: int) -> None:
        """Learn from a guest's order line how much dearer the guests' list is."""
        product = self._products[sku]
        if product.account_lines:
            self._ln_ratio_sum += math.log(unit_price_minor / product.price_minor)
            self._ratios += 1
