"""The stretches of days that exploration's coins began, and what they earned."""

from typing import NamedTuple

import numpy as np

from models.backtest.columns import (
    INPUTS,
    Bools,
    Decisions,
    Epochs,
    Floats,
    Integers,
    Outcomes,
    Products,
)
from models.backtest.expected import model_profit
from models.backtest.experiment import (
    Mixture,
    is_coin,
    mixed_profit,
    prices_at,
    up_share,
)
from models.backtest.lookup import last_at
from models.backtest.realised import DaySums, profit_minor
from schemas.events import DAY_MS, HOUR_MS
from schemas.policy import DecisionPolicy

STRETCH_SHARE = 0.5  # of the epoch to be expected: in it few end early
SHOWN_MIN = 0.9  # of the drawn prices that buyers saw
FOLLOWING_MAX = 8  # decisions after a toss that are looked at
DELAY_DAYS_MAX = 2  # that a shop takes to show a price
GRACE_MS = HOUR_MS  # a decision so soon after midnight has the whole day

_DEMAND, _ELASTICITY = INPUTS.index("demand_per_day"), INPUTS.index("elasticity")


class Support(NamedTuple):
    """All logged decisions: which were drawn, which the candidate's price is supported at."""

    counted: Bools
    coin: Bools
    supported: Bools
    differs: Bools
    baseline: Mixture
    candidate: Mixture
    baseline_up: Floats
    candidate_up: Floats


class Trials(NamedTuple):
    """Supported coins with their stretches [trial]; money in minor units over the stretch.

    ``candidate`` and ``baseline`` are the policies' probabilities of the drawn side over its
    propensity; ``expected`` the model's profit at the drawn price, ``model`` its difference between
    the policies, ``gap`` the part of that which no mixture of the sides has.
    """

    row: Integers
    family: Integers
    first_day: Integers
    days: Floats
    profit: Floats
    candidate: Floats
    baseline: Floats
    contrast_up: Floats
    expected: Floats
    model: Floats
    gap: Floats

    def take(self, index: Integers | Bools) -> "Trials":
        """The trials of an index or mask."""
        return Trials._make(column[index] for column in self)


# -- what is supported


def supported(logged: Decisions, baseline: Decisions, candidate: Decisions) -> Support:
    """Look at each logged decision: could the candidate's price there have been drawn?

    Where no coin was tossed, only the price that was charged could.
    """
    place = logged.product, logged.offset
    shown, other = prices_at(baseline, *place), prices_at(candidate, *place)
    coin = is_coin(logged)
    up, down = np.where(coin, logged.up_minor, 2.0), np.where(coin, logged.down_minor, 1.0)
    baseline_up = np.where(coin, up_share(shown, up, down), np.nan)
    candidate_up = np.where(coin, up_share(other, up, down), np.nan)
    same = np.ones(len(coin), np.bool_)
    for one, two in zip(shown, other, strict=True):
        same &= one == two
    inside = ~np.isnan(baseline_up) & ~np.isnan(candidate_up)
    return Support(
        counted=~np.isnan(shown.up_minor),
        coin=coin,
        supported=np.where(coin, inside, same),
        differs=~same,
        baseline=shown,
        candidate=other,
        baseline_up=baseline_up,
        candidate_up=candidate_up,
    )


class Shown(NamedTuple):
    """Whether buyers saw what the policy set [decision]: 1 or 0, NaN where nothing says; and how
    many days the shop takes to show a price.
    """

    seen: Floats
    delay_days: int


def shown_after(logged: Decisions, epochs: Epochs, coin: Bools) -> Shown:
    """The shortest delay after which buyers saw nearly all drawn prices, else that with the most.

    One delay for all, so that it does not depend on the side that was drawn.
    """
    found = [
        Shown(_seen(logged, epochs, coin, delay), delay) for delay in range(DELAY_DAYS_MAX + 1)
    ]
    shares = [
        float(one.seen[~np.isnan(one.seen)].mean()) if not np.isnan(one.seen).all() else 0.0
        for one in found
    ]
    enough = [one for one, share in zip(found, shares, strict=True) if share >= SHOWN_MIN]
    return enough[0] if enough else found[int(np.argmax(shares))]


def _seen(logged: Decisions, epochs: Epochs, coin: Bools, delay_days: int) -> Floats:
    """At noon of the first day of the stretch: the drawn price, or what it became by then."""
    seen = np.full(len(coin), np.nan)
    rows = np.flatnonzero(coin & logged.effective)
    if not len(rows) or not len(epochs.product):
        return seen
    at_ms = (_first_day(logged.at_ms[rows]) + delay_days) * DAY_MS + DAY_MS // 2
    epoch = last_at(epochs.product, epochs.begin_ms, logged.product[rows], at_ms)
    known = (epoch >= 0) & (epochs.end_ms[epoch] > at_ms)
    same = np.zeros(len(rows), np.bool_)
    for step in range(FOLLOWING_MAX):  # a kept probe may have been moved a little before noon
        later = np.minimum(rows + step, len(coin) - 1)
        meant = (logged.product[later] == logged.product[rows]) & (logged.at_ms[later] <= at_ms)
        same |= meant & (logged.price_minor[later] == epochs.price_minor[epoch])
    seen[rows] = np.where(known, same, np.nan)
    return seen


# -- stretches and what they earned


def trials_of(
    products: Products,
    logged: Decisions,
    epochs: Epochs,
    outcomes: Outcomes,
    support: Support,
    stretch: DecisionPolicy,
    delay_days: int = 0,
) -> Trials:
    """Collect the supported coins whose stretch ended before the tape's last day.

    A family's whole profit counts: what partners sell more or less is part of what a price does.
    """
    row = np.flatnonzero(support.coin & support.supported & support.counted)
    names = {name: number for number, name in enumerate(sorted(set(products.families)))}
    family_of = np.array([names[name] for name in products.families], np.int64)
    coins = Decisions._make(column[row] for column in logged)
    days = _days(coins, epochs, len(products.skus), stretch)
    first = _first_day(coins.at_ms) + delay_days
    amount = profit_minor(outcomes)
    unknown = np.isnan(amount)
    earned, gaps = (
        DaySums.of(family_of[outcomes.product], outcomes.day, column)
        for column in (np.where(unknown, 0.0, amount), unknown.astype(np.float64))
    )
    family = family_of[coins.product]
    drawn = np.where(coins.drew_up, coins.up_minor, coins.down_minor)
    chance = np.where(coins.drew_up, coins.up_probability, 1.0 - coins.up_probability)
    up, down = model_profit(coins, coins.up_minor), model_profit(coins, coins.down_minor)
    shares = support.candidate_up[row], support.baseline_up[row]
    mixed = [
        mixed_profit(coins, Mixture._make(column[row] for column in policy))
        for policy in (support.candidate, support.baseline)
    ]
    bend = [
        now - share * up - (1.0 - share) * down for now, share in zip(mixed, shares, strict=True)
    ]
    weights = [np.where(coins.drew_up, share, 1.0 - share) / chance for share in shares]
    partners = _partners(logged, coins, family_of)
    found = Trials(
        row=row,
        family=family,
        first_day=first,
        days=days.astype(np.float64),
        profit=earned.between(family, first, first + days),
        candidate=weights[0],
        baseline=weights[1],
        contrast_up=shares[0] - shares[1],
        expected=days * (model_profit(coins, drawn) + partners),
        model=days * (mixed[0] - mixed[1]),
        gap=days * (bend[0] - bend[1]),
    )
    last = max(
        int(outcomes.day.max(initial=0)), int(logged.at_ms.max(initial=0)) // DAY_MS
    )  # a day that may go on
    known = np.isfinite(found.expected) & np.isfinite(found.model)
    known &= gaps.between(family, first, first + days) == 0.0
    return found.take(known & (first + days <= last))


def _first_day(at_ms: Integers) -> Integers:
    """The first event day that a decision has whole."""
    return np.asarray(-((GRACE_MS - at_ms) // DAY_MS))


def _days(coins: Decisions, epochs: Epochs, products: int, stretch: DecisionPolicy) -> Integers:
    """Days of each stretch: half of what was to be expected of its epoch before the toss, at least
    one. What follows a toss, and would end it early, has no part in it.
    """
    units = np.bincount(epochs.product, epochs.units, products)
    orders = np.bincount(epochs.product, epochs.orders, products)
    units_per_order = np.where(orders > 0.0, units / np.maximum(orders, 1.0), 1.0)[coins.product]
    rate, elasticity = coins.inputs[:, _DEMAND], coins.inputs[:, _ELASTICITY]
    middle = 0.5 * np.log(coins.up_minor * coins.down_minor) - np.log(coins.reference_minor)
    per_day = rate * np.exp(elasticity * middle) / np.maximum(units_per_order, 1.0)
    expected = stretch.epoch_orders_close / np.maximum(np.nan_to_num(per_day), 1e-9)
    expected = np.clip(expected, stretch.epoch_days_min, stretch.epoch_days_max)
    return np.maximum(np.floor(STRETCH_SHARE * expected), 1.0).astype(np.int64)


def _partners(logged: Decisions, coins: Decisions, family_of: Integers) -> Floats:
    """What the other members of each coin's family were expected to earn a day [coin]."""
    found = np.zeros(len(coins.product))
    sizes = np.bincount(family_of) if len(family_of) else np.zeros(0, np.int64)
    if not len(found) or sizes.max() == 1:
        return found
    order = np.argsort(family_of, kind="stable")
    start = np.concatenate([[0], np.cumsum(sizes)])
    family = family_of[coins.product]
    for slot in range(int(sizes.max())):
        rows = np.flatnonzero(slot < sizes[family])
        other = order[start[family[rows]] + slot]
        place = last_at(logged.product, logged.offset, other, coins.offset[rows])
        expected = np.nan_to_num(logged.profit_per_day_minor[np.maximum(place, 0)])
        found[rows] += np.where((place >= 0) & (other != coins.product[rows]), expected, 0.0)
    return found
