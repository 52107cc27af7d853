"""Epochs: orders and exposure under one price, rival price and stock state.

(orders, exposure) of an epoch is a sufficient statistic of a Poisson likelihood, so a stretch with
traffic and no sale teaches, and time out of stock does not.
"""

import math
from typing import Literal, NamedTuple

from msgspec.structs import replace

from schemas.events import DAY_MS
from schemas.learned import OpenEpoch
from schemas.policy import DecisionPolicy

EXPOSURE_DAYS_MIN = 1.0 / 1440.0  # below a minute the epoch says nothing about a rate per day

CloseReason = Literal["price", "rival", "stock", "orders", "age"]


class Features(NamedTuple):
    """Regressors of an epoch beside the constant; logs relative to the reference price."""

    ln_price: float
    ln_rival: float | None
    control: float


class Observation(NamedTuple):
    """What a closed epoch teaches: ``orders`` in an exposure (days of typical traffic).

    ``lines`` and ``capped_units`` teach the units per order line; with a traffic feed ``lines`` can
    exceed ``orders`` by those whose traffic is unknown. ``offset`` is what else is believed to move
    the log of the mean (pooled effects, partners' prices), and ``offset_variance`` its variance.
    """

    features: Features
    orders: int
    exposure_days: float
    lines: int = 0
    capped_units: int = 0
    offset: float = 0.0
    offset_variance: float = 0.0


def open_epoch(
    now_ms: int,
    price_minor: int,
    reference_price_minor: int,
    *,
    rival_minor: float | None,
    exogenous_log: float | None,
    in_stock: bool | None,
    traffic_feed: bool = False,
) -> OpenEpoch:
    """Open an epoch at event time ``now_ms``.

    Parameters
    ----------
    price_minor, reference_price_minor : minor units of one currency, above 0
    rival_minor : robust rival price, minor units, or None while none is known
    exogenous_log : part of ln(P / P_ref) that no demand signal caused (exploration, calendar); None
        for a price of our own, which is a function of what the belief has learned already
    in_stock : None if no stock was ever reported; it then counts as in stock
    traffic_feed : whether visits are reported for this product

    Notes
    -----
    The control is u = ln(P / P_ref) - exogenous part, and 0 for a price of our own.

    >>> opened = open_epoch(0, 1100, 1000, rival_minor=None, exogenous_log=0.02, in_stock=True)
    >>> round(opened.control, 4)
    0.0753
    """
    ln_price = math.log(price_minor / reference_price_minor)
    return OpenEpoch(
        start_ms=now_ms,
        accrued_ms=now_ms,
        price_minor=price_minor,
        ln_price=ln_price,
        ln_rival=None if rival_minor is None else math.log(rival_minor / reference_price_minor),
        control=0.0 if exogenous_log is None else ln_price - exogenous_log,
        in_stock=in_stock,
        visits=0.0 if traffic_feed else None,
    )


def accrue(epoch: OpenEpoch, until_ms: int) -> OpenEpoch:
    """Count exposure up to event time ``until_ms``: in-stock time only, never backwards.

    With a traffic feed the clock moves and time adds nothing: see `add_visits`.
    """
    if until_ms <= epoch.accrued_ms:
        return epoch
    if epoch.in_stock is False or epoch.visits is not None:
        return replace(epoch, accrued_ms=until_ms)
    days = (until_ms - epoch.accrued_ms) / DAY_MS
    return replace(epoch, accrued_ms=until_ms, exposure_days=epoch.exposure_days + days)


def add_visits(epoch: OpenEpoch, visits: int, from_ms: int, to_ms: int) -> OpenEpoch:
    """Add a traffic report: the share of its visits that falls into this epoch, if in stock.

    Orders that came up to this report are covered by it; those after the last report are not
    learned when the epoch closes, since their traffic is unknown. An epoch that was opened without
    a traffic feed stays as it is.

    Raises
    ------
    ValueError : the report ends before it begins
    """
    if to_ms <= from_ms:
        raise ValueError(f"to_ms was {to_ms}; expected a time after from_ms {from_ms}")
    if epoch.visits is None or to_ms <= epoch.start_ms:
        return epoch
    if epoch.in_stock is False:
        return replace(epoch, covered_orders=epoch.orders)
    share = (to_ms - max(from_ms, epoch.start_ms)) / (to_ms - from_ms)
    return replace(epoch, visits=epoch.visits + visits * share, covered_orders=epoch.orders)


def add_order(
    epoch: OpenEpoch, units: int, price_minor: int, event_time_ms: int, units_cap: int
) -> OpenEpoch | None:
    """Count one order line; None if it is late.

    An order from before the epoch began belongs to it only if it was made at the epoch's price
    (clocks of shop and pricer differ a little). Any other is late: the caller counts it, and no
    model uses it. A price other than the epoch's after its start is a voucher: it counts.

    Parameters
    ----------
    units : units of the line, at least 1
    units_cap : units that count at most, from `models.demand.demand.units_cap`
    """
    if event_time_ms < epoch.start_ms and price_minor != epoch.price_minor:
        return None
    return replace(
        epoch,
        orders=epoch.orders + 1,
        units=epoch.units + units,
        capped_units=epoch.capped_units + min(units, units_cap),
    )


def remove_order(
    epoch: OpenEpoch, units: int, ordered_ms: int, units_cap: int, *, whole_line: bool
) -> OpenEpoch:
    """Take back a cancelled order line, or some of its units, that this epoch counted.

    ``ordered_ms`` is the event time of the order, not of the cancellation: a line of an earlier
    epoch has been learned already, and stays. Nothing falls below 0.
    """
    if ordered_ms < epoch.start_ms:
        return epoch
    orders = max(epoch.orders - 1, 0) if whole_line else epoch.orders
    return replace(
        epoch,
        orders=orders,
        units=max(epoch.units - units, 0),
        capped_units=max(epoch.capped_units - min(units, units_cap), 0),
        covered_orders=min(epoch.covered_orders, orders),
    )


def closes(
    epoch: OpenEpoch,
    now_ms: int,
    policy: DecisionPolicy,
    *,
    price_minor: int,
    ln_rival: float | None,
    in_stock: bool | None,
) -> CloseReason | None:
    """Why the epoch ends at event time ``now_ms`` in the present market, or None.

    In this order: the price changed; the rival's moved by more than ``rival_move_ratio``, appeared
    or went; stock ran out or came back; old enough with enough orders; too old. Old enough counts
    from the start, and with a traffic feed needs a report.
    """
    if price_minor != epoch.price_minor:
        return "price"
    if rival_moved(epoch.ln_rival, ln_rival, policy.rival_move_ratio):
        return "rival"
    if (in_stock is False) != (epoch.in_stock is False):
        return "stock"
    age_days = (now_ms - epoch.start_ms) / DAY_MS
    if age_days >= policy.epoch_days_max:
        return "age"
    countable = epoch.orders if epoch.visits is None else epoch.covered_orders
    if age_days >= policy.epoch_days_min and countable >= policy.epoch_orders_close:
        return "orders"
    return None


def rival_moved(before: float | None, now: float | None, move_ratio: float) -> bool:
    """Whether a rival's log price moved by more than ``move_ratio``, appeared or went."""
    if before is None or now is None:
        return before is not now
    return abs(now - before) > math.log1p(move_ratio)


def observation(epoch: OpenEpoch, reference_visits_per_day: float | None) -> Observation | None:
    """What the epoch teaches, or None where exposure is unknown or under a minute.

    Call it after `accrue` to the closing time.

    Parameters
    ----------
    reference_visits_per_day : visits of one day of typical traffic, above 0; needed with a feed

    Raises
    ------
    ValueError : the epoch has visits and the reference is missing or not above 0
    """
    exposure_days, orders = epoch.exposure_days, epoch.orders
    if epoch.visits is not None:
        if reference_visits_per_day is None or not reference_visits_per_day > 0.0:
            raise ValueError(
                f"reference_visits_per_day was {reference_visits_per_day}; expected a number above "
                "0 for an epoch with a traffic feed"
            )
        exposure_days, orders = epoch.visits / reference_visits_per_day, epoch.covered_orders
    if exposure_days < EXPOSURE_DAYS_MIN:
        return None
    return Observation(
        features=Features(epoch.ln_price, epoch.ln_rival, epoch.control),
        orders=orders,
        exposure_days=exposure_days,
        lines=epoch.orders,
        capped_units=epoch.capped_units,
    )
