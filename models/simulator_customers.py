"""Who visits the simulated shop, who orders, and what comes back."""

from typing import NamedTuple

import numpy as np

from models.simulator_market import Market
from models.simulator_truth import NEW_CUSTOMER_SHARE, Floats, Ints, ShopSettings, Truth

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
CHANNELS = ("web", "app", "marketplace")
CHANNEL_SHARES = (0.6, 0.3, 0.1)
CANCEL_HOURS_MAX = 12
DELAY_SHAPE = 2.0  # of the gamma distribution of return delays
ORDER_SHARE_MAX = 0.9  # of visits
HOUR_WEIGHTS = np.array(
    [2, 1, 1, 1, 1, 2, 4, 6, 8, 9, 10, 10, 10, 9, 9, 9, 10, 11, 12, 13, 13, 11, 8, 4], dtype=float
)
WEEKDAY_WEIGHTS = np.array([1.05, 1.0, 0.98, 0.98, 0.97, 0.95, 1.07])  # Monday first


class Purchase(NamedTuple):
    """One order as the customer wants it, and whether it will come back (and when)."""

    at_ms: int
    product: int
    quantity: int
    is_new_customer: bool
    channel: str
    is_cancelled: bool
    comes_back: bool
    back_at_ms: int


def season(start_ms: int, step_ms: int) -> float:
    """Days' worth of demand in a step: the weights of its hours and of its weekday."""
    hour = start_ms // HOUR_MS % 24
    weekday = (start_ms // DAY_MS + 3) % 7  # 1970-01-01 was a Thursday
    hours = HOUR_WEIGHTS[hour : hour + step_ms // HOUR_MS].sum() / HOUR_WEIGHTS.sum()
    return float(hours * WEEKDAY_WEIGHTS[weekday])


def draw_visits(market: Market, days: float, rng: np.random.Generator) -> Ints:
    """Visits [n] in a step that is worth ``days`` of demand."""
    return np.asarray(rng.poisson(market.visit_rate_per_day() * days), dtype=np.int64)


def draw_purchases(
    truth: Truth,
    market: Market,
    settings: ShopSettings,
    x: Floats,
    visits: Ints,
    start_ms: int,
    step_ms: int,
    rng: np.random.Generator,
) -> list[Purchase]:
    """Draw the orders among ``visits`` [n] at ln prices over list ``x`` [n], in time order."""
    ln_demand = truth.log_demand(x, market.rival_ratio(), market.family_move(x))
    share = truth.conversion * np.exp(ln_demand) * market.unseen_demand()
    orders = rng.binomial(visits, np.minimum(share, ORDER_SHARE_MAX))
    product = rng.permutation(np.repeat(np.arange(len(orders)), orders))
    n = len(product)
    at_ms = start_ms + np.sort(rng.integers(step_ms, size=n))
    quantity = rng.geometric(1 / truth.units_per_order[product])
    is_new = rng.random(n) < NEW_CUSTOMER_SHARE
    return_rate = np.where(
        is_new, truth.return_rate(x, True)[product], truth.return_rate(x, False)[product]
    )
    is_returned = rng.random(n) < return_rate
    is_cancelled = rng.random(n) < settings.cancelled_share
    cancel_ms = rng.integers(1, CANCEL_HOURS_MAX * HOUR_MS, n)
    scale_ms = settings.return_delay_days * DAY_MS / DELAY_SHAPE
    return_ms = rng.gamma(DELAY_SHAPE, scale_ms, n).astype(np.int64)
    channel = rng.choice(len(CHANNELS), n, p=CHANNEL_SHARES)
    columns = (
        at_ms.tolist(),
        product.tolist(),
        quantity.tolist(),
        is_new.tolist(),
        [CHANNELS[k] for k in channel.tolist()],
        is_cancelled.tolist(),
        (is_cancelled | is_returned).tolist(),
        (at_ms + np.where(is_cancelled, cancel_ms, return_ms)).tolist(),
    )
    return [Purchase(*row) for row in zip(*columns, strict=True)]
