"""The prior price: the lowest that buyers were shown in the days before a reduction is announced.

Directive 98/6/EC art. 6a (as amended by 2019/2161): an announced reduction names the lowest price
of at least the 30 days before it; art. 6a(5): where reductions deepen without a break, that before
the first. CJEU C-330/23 (Aldi Sued, 2024): the announced percentage is taken off that prior price.

The window of a reduction that begins at b, in a market whose local date then is D, is [local
midnight of D - 30 days, b): whole calendar days on the market's clock, and the day of b up to b. A
price in force when it opens counts, and one that was replaced at once. A monotonic queue
(`PriceWindow`) answers for any beginning of a window: O(1) amortised for each price shown and,
since the queue has a length limit, for each question. Promotions keep the prior price that they
began with.
"""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from msgspec.structs import replace

from schemas.events import DAY_MS
from schemas.policy import MarketPolicy, Policy
from schemas.state import PriceWindow, Promotion
from schemas.time_zones import day_start_ms, local_date, zone_of_rule

LATE_DAYS = 32  # how long after it began a reduction or a cap may be made known
QUEUE_MAX = 128
CAP_DAYS = 30
WINDOWS_MAX = 1024  # whose beginnings are kept: decisions of one round share theirs
ANY_MARKET = "all"  # the market of a policy that names none


class MarketRule(NamedTuple):
    """What a market's law says of prior prices."""

    market: str
    zone: tzinfo
    days: int
    progressive: bool
    new_arrival_days: int | None
    exempt_categories: tuple[str, ...]


def rules_of(policy: Policy) -> tuple[MarketRule, ...]:
    """The markets' rules, by name; those of a policy without markets are the default's."""
    markets = policy.markets or {ANY_MARKET: MarketPolicy()}
    return tuple(
        MarketRule(
            name,
            zone_of_rule(found.time_zone),
            found.prior_price_days,
            found.progressive_reductions,
            found.new_arrival_days,
            found.prior_price_exempt_categories,
        )
        for name, found in sorted(markets.items())
    )


def applying(rules: Sequence[MarketRule], category: str) -> tuple[MarketRule, ...]:
    """The rules that hold for a category."""
    return tuple(rule for rule in rules if rule.days > 0 and category not in rule.exempt_categories)


@lru_cache(WINDOWS_MAX)
def window_opens_ms(at_ms: int, days: int, zone: tzinfo) -> int:
    """Local midnight so many calendar days before the local date of ``at_ms``."""
    return day_start_ms(local_date(at_ms, zone) - timedelta(days=days), zone)


# -- the queue


def show(window: PriceWindow, price_minor: int, at_ms: int, rules: Sequence[MarketRule]) -> None:
    """Note that buyers see a price from ``at_ms`` on; prices are shown in the order of calls.

    Promotions that have begun by then keep the prior price that they found.
    """
    begin_promotions(window, at_ms, rules)
    since, lowest = window.since_ms, window.lowest_minor
    if window.first_ms is None:
        window.first_ms = at_ms
    begins = max(at_ms, since[-1]) if since else at_ms
    while lowest and lowest[-1] >= price_minor:
        lowest.pop()
        begins = since.pop()
    since.append(begins)
    lowest.append(price_minor)
    days = max(CAP_DAYS, max((rule.days for rule in rules), default=0))
    _forget(window, at_ms - (days + LATE_DAYS + 1) * DAY_MS)


def _forget(window: PriceWindow, before_ms: int) -> None:
    since, lowest = window.since_ms, window.lowest_minor
    gone = max(bisect_right(since, before_ms) - 1, 0)
    del since[:gone], lowest[:gone]
    while len(since) > QUEUE_MAX:
        del since[1], lowest[1]  # the oldest low then counts for longer: never too high
    window.promotions = tuple(found for found in window.promotions if found.to_ms > before_ms)


def lowest_since(window: PriceWindow, from_ms: int) -> int | None:
    """The lowest price in force at any time from ``from_ms`` to now; None before the first.

    Of a product shown for less time, the lowest since it was first shown.
    """
    if not window.since_ms:
        return None
    return window.lowest_minor[max(bisect_right(window.since_ms, from_ms) - 1, 0)]


def present_minor(window: PriceWindow) -> int | None:
    """The price that buyers see now; the queue ends with it."""
    return window.lowest_minor[-1] if window.lowest_minor else None


# -- reductions


def begin_promotions(window: PriceWindow, now_ms: int, rules: Sequence[MarketRule]) -> None:
    """Fix the prior price of announced reductions that have begun, as long as it is what it was."""
    for index, found in enumerate(window.promotions):
        if found.announced and found.from_ms <= now_ms and found.prior_minor is None:
            priors = {rule.market: prior_minor(window, found, rule) for rule in rules}
            begun = replace(
                found,
                prior_minor={name: price for name, price in priors.items() if price is not None},
                before_minor=_before_minor(window, found),
            )
            promotions = list(window.promotions)
            promotions[index] = begun
            window.promotions = tuple(promotions)


def _before_minor(window: PriceWindow, promotion: Promotion) -> int | None:
    """The price that buyers saw before a reduction, and before those in whose course it begins."""
    found = [
        other.before_minor
        for other in window.promotions
        if other.announced and other.from_ms < promotion.from_ms <= other.to_ms
    ]
    prices = [price for price in (*found, present_minor(window)) if price is not None]
    return max(prices, default=None)


def prior_minor(window: PriceWindow, promotion: Promotion, rule: MarketRule) -> int | None:
    """The prior price of a reduction in a market; None where no price was shown before it.

    Where the market lets reductions deepen, one that begins while others run (or as they end) and
    is deeper than each of them has their prior price, the lowest of them.
    """
    if promotion.prior_minor is not None and rule.market in promotion.prior_minor:
        return promotion.prior_minor[rule.market]
    if promotion.prior_minor is not None and promotion.before_minor is None:
        return None  # what was shown since it began is no price before it
    earlier = deepened_by(window, promotion, rule)
    if earlier:
        priors = [prior_minor(window, found, rule) for found in earlier]
        return min((price for price in priors if price is not None), default=None)
    return lowest_since(window, reduction_window_ms(window, promotion.from_ms, rule))


def deepened_by(
    window: PriceWindow, promotion: Promotion, rule: MarketRule
) -> tuple[Promotion, ...]:
    """The reductions that this one deepens without a break, where the market has such a rule."""
    if not rule.progressive:
        return ()
    earlier = tuple(
        found
        for found in window.promotions
        if found.announced and found.from_ms < promotion.from_ms <= found.to_ms
    )
    return earlier if all(found.depth < promotion.depth for found in earlier) else ()


def reduction_window_ms(window: PriceWindow, from_ms: int, rule: MarketRule) -> int:
    """Where the window of a reduction that begins at ``from_ms`` opens."""
    opens_ms = window_opens_ms(from_ms, rule.days, rule.zone)
    new = rule.new_arrival_days is not None and (window.first_ms or 0) > opens_ms
    if new and rule.new_arrival_days is not None:
        return max(opens_ms, window_opens_ms(from_ms, rule.new_arrival_days, rule.zone))
    return opens_ms


def reduced_minor(prior_price_minor: int, depth: float) -> int:
    """The highest whole price that keeps an announced reduction.

    >>> reduced_minor(100, 0.07), reduced_minor(999, 0.2)
    (93, 799)
    """
    return int(prior_price_minor * (1 - Decimal(str(depth))))
