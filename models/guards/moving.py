"""Whether a price moves at all: the no-change band and the smallest step that buyers notice."""

from models.guards import guards
from models.kernel.tile import Evaluation
from models.pricing.path import EXPLORATION, PricePath
from models.pricing.pose import Posed
from schemas.exploration import Exploration

WITHIN_BAND = "within the no-change band"
TOO_SMALL = "smaller than the smallest step that buyers notice"
FORCED_SMALL = "smaller than the smallest step, as a guard demands"


def stays(posed: Posed, path: PricePath, at: Evaluation) -> bool:
    """Whether the move gains less than a change costs, so that the present price stays.

    ``at`` was evaluated with the previous price last but one and the wanted price last.
    """
    previous = posed.state.published_minor
    if previous is None or not at.finite:
        return False
    if posed.request.approval is not None or is_forced(posed, path, previous):
        return False
    if is_unseen(posed, path, previous):
        return True
    if path.aim == EXPLORATION:
        return False
    gain = at.objectives[-1] - at.objectives[-2]
    cost = posed.policy.decision.change_cost_profit_share * abs(at.objectives[-1])
    return previous == path.wanted_minor or gain <= cost


def is_forced(posed: Posed, path: PricePath, previous_minor: int) -> bool:
    """Whether the present price may not stay: a guard does not allow it, or how it ends."""
    if not posed.allowed.low_minor <= previous_minor <= posed.allowed.high_minor:
        return True
    if path.ending_gave_way:
        return previous_minor % posed.policy.guards.tick_minor != 0
    return not guards.ends_well(previous_minor, guards.rounding_of(posed.policy.guards))


def is_unseen(posed: Posed, path: PricePath, previous_minor: int) -> bool:
    """Whether buyers would not notice the move: smaller than the smallest step of any place."""
    least = max(place.guards.step_ratio_min for place in posed.placed)
    return 0 < abs(path.wanted_minor - previous_minor) < least * previous_minor


def explored(posed: Posed, path: PricePath) -> Exploration | None:
    """The coin behind a price and what either side of it leads to; None where none was tossed."""
    coin = path.coin
    if coin is None:
        return None
    return Exploration(
        up_minor=_seen(posed, path, coin.up_minor),
        down_minor=_seen(posed, path, coin.down_minor),
        up_probability=coin.up_probability,
        drew_up=coin.drew_up,
    )


def _seen(posed: Posed, path: PricePath, wanted_minor: int) -> int:
    """A wanted price, or the present one where buyers would not notice the move."""
    rounding = guards.rounding_of(posed.policy.guards)
    gave_way = bool(rounding.endings_minor) and not guards.ends_well(wanted_minor, rounding)
    side = path._replace(wanted_minor=wanted_minor, ending_gave_way=gave_way)
    previous = posed.state.published_minor
    if previous is None or is_forced(posed, side, previous):
        return wanted_minor
    return previous if is_unseen(posed, side, previous) else wanted_minor
