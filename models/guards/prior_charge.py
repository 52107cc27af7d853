"""What it costs to lower the lowest price of the last days: reductions to come start lower.

An announced reduction of depth d sells at ``(1 - d)`` of the prior price at most. A price now that
becomes the lowest in its window takes ``(1 - d)`` of the fall off every unit sold in it:

    charge = units of the reduction * (1 - d) * (prior price before - after)

Where none is announced yet, a share of the units of the next days stands for those that may be.
Units at constant elasticity; money is what buyers pay, so VAT and returns are charged too.
"""

from math import exp, log

from models.fold.partition import PartitionState
from models.guards import prior_price
from models.guards.prior_price import MarketRule
from models.pricing.pose import Posed
from schemas.events import DAY_MS
from schemas.state import PriceWindow, Promotion


def charge_minor(partition: PartitionState, posed: Posed, price_minor: float) -> float:
    """What a price costs in announced reductions to come, minor units; 0 for one that lowers none.

    Reductions count whose window opens before an epoch that begins now can end.
    """
    window = partition.windows[posed.state.sku]
    seen_minor = prior_price.present_minor(window)
    if seen_minor is None or price_minor >= seen_minor:
        return 0.0
    rules = prior_price.applying(partition.prior_rules, posed.entry.category)
    now_ms = posed.request.now_ms
    until_ms = now_ms + int(partition.policy.decision.epoch_days_max * DAY_MS)
    known, charge = False, 0.0
    for found in window.promotions:
        if not found.announced or found.from_ms <= now_ms:
            continue
        low = _lowest(window, found, rules, until_ms)
        if low is None:
            continue
        known = True
        kept = 1.0 - found.depth
        days = (found.to_ms - found.from_ms) / DAY_MS
        units = units_per_day(posed, kept * low) * days
        charge += units * kept * max(low - price_minor, 0.0)
    if known:
        return charge
    share = partition.policy_of(posed.entry).guards.prior_price_charge_share
    if share == 0.0 or not rules:
        return 0.0
    lows = [
        prior_price.lowest_since(window, prior_price.window_opens_ms(now_ms, rule.days, rule.zone))
        for rule in rules
    ]
    fall = max(min(low for low in lows if low is not None) - price_minor, 0.0)
    days = float(max(rule.days for rule in rules))
    return share * units_per_day(posed, price_minor) * days * fall


def _lowest(
    window: PriceWindow, found: Promotion, rules: tuple[MarketRule, ...], until_ms: int
) -> int | None:
    """The prior price of a reduction to come as it is now; None where no price now can move it."""
    lows = [
        prior_price.prior_minor(window, found, rule)
        for rule in rules
        if prior_price.reduction_window_ms(window, found.from_ms, rule) <= until_ms
        and not prior_price.deepened_by(window, found, rule)
    ]
    return min((low for low in lows if low is not None), default=None)


def units_per_day(posed: Posed, price_minor: float) -> float:
    """Expected sales at a price, at constant elasticity and without limits of stock."""
    row = posed.full
    return row.demand_per_day * exp(row.elasticity * log(price_minor / posed.reference_minor))
