"""The way from the optimum to the shop window: skew, exploration, guards, rounding."""

import math
from collections.abc import Sequence
from hashlib import blake2b
from statistics import geometric_mean
from typing import NamedTuple

from models.breaker import breaker
from models.demand import demand
from models.fold.partition import PartitionState
from models.guards import guards
from models.kernel.tile import Solution
from models.pricing import exploration
from models.pricing.pose import Posed
from models.prior import coldstart


class Coin(NamedTuple):
    """A probe's draw: both sides' whole prices inside the guards, and how likely the upper was."""

    up_minor: int
    down_minor: int
    up_probability: float
    drew_up: bool


class PricePath(NamedTuple):
    """Prices on the way, minor units, and the whole price that it ends at.

    ``optimum_minor`` is where the objective is highest; ``aimed_minor`` after the expert's share
    and exploration. ``exogenous_log`` is what exploration added to the log price in the end;
    ``hedged_minor`` the geometric mean of the best prices of ``Posed.cases``, None without them;
    ``base_minor`` the aim before exploration, ``rounded_minor`` what rounding made of it;
    ``coin`` what was drawn, None where chance chose nothing.
    """

    finite: bool
    interior: bool
    frictionless_minor: float
    optimum_minor: float
    aimed_minor: float
    aim: str
    moves: tuple[guards.Move, ...]
    wanted_minor: int
    exogenous_log: float
    expert_share: float
    hedged_minor: float | None
    base_minor: float
    base_aim: str
    rounded_minor: int
    ending_gave_way: bool
    rounding: str
    coin: Coin | None = None

    @property
    def floor_forced(self) -> bool:
        """Whether a floor set the price: a cost far off is news, and no slip to hold back."""
        return bool(self.moves) and self.moves[-1].guard in guards.FLOORS


EPOCH = "epoch"  # the trigger at which a new probe is drawn; others keep the present one
EXPLORATION = "exploration"
PROBE_KEPT = "exploration kept"
EXPERT = "expert price"
BLEND = "blend with the expert price"
HEDGED = "hedged over what the category may be"
OPTIMUM = "with stock and risk"
ROUNDED, ENDING = "rounded to the tick", "rounded to an ending"


def price_path(
    partition: PartitionState,
    posed: Posed,
    frictionless: Solution,
    full: Solution,
    cases: Sequence[Solution],
    *,
    probes: bool = True,
) -> PricePath:
    """Follow a decision from its optimum to a whole price inside the guards.

    Parameters
    ----------
    cases : best prices of ``posed.cases``
    probes : False leaves exploration out
    """
    rounding = guards.rounding_of(posed.policy.guards)
    reference = posed.reference_minor
    finite = frictionless.finite and full.finite and all(case.finite for case in cases)
    optimum = full.price * reference if finite else float(reference)
    hedged = None
    if finite and cases:
        hedged = geometric_mean([case.price for case in cases]) * reference
    base, base_aim, share = _base(partition, posed, hedged or optimum, finite)
    aimed, aim, up_probability = base, base_aim, None
    if probes and finite and aim != EXPERT:
        aimed, aim, up_probability = _probed(partition, posed, base, aim)
    moves = guards.clamp(aimed, posed.allowed)
    after = moves[-1].after_minor if moves else aimed
    wanted = rounded = guards.round_price(after, posed.allowed, rounding)
    exogenous = 0.0
    if aim in (EXPLORATION, PROBE_KEPT):
        exogenous = math.log(wanted / _whole(posed, base))
    approval = posed.request.approval
    if approval is not None:  # it goes where a person said, or is held
        wanted, exogenous = approval.price_minor, approval.exogenous_log
    return PricePath(
        finite=finite,
        interior=finite and full.at_bound == 0,
        frictionless_minor=frictionless.price * reference if finite else float(reference),
        optimum_minor=optimum,
        aimed_minor=aimed,
        aim=aim,
        moves=moves,
        wanted_minor=wanted,
        exogenous_log=exogenous,
        expert_share=share,
        hedged_minor=hedged,
        base_minor=base,
        base_aim=base_aim,
        rounded_minor=rounded,
        ending_gave_way=bool(rounding.endings_minor) and not guards.ends_well(rounded, rounding),
        rounding=ENDING if rounding.endings_minor else ROUNDED,
        coin=None if up_probability is None else _coin(posed, base, up_probability, aimed > base),
    )


def _whole(posed: Posed, aimed: float) -> int:
    """The whole price that an aim ends at: guards, then rounding."""
    moves = guards.clamp(aimed, posed.allowed)
    after = moves[-1].after_minor if moves else aimed
    return guards.round_price(after, posed.allowed, guards.rounding_of(posed.policy.guards))


def _coin(posed: Posed, base: float, up_probability: float, drew_up: bool) -> Coin:
    size = posed.policy.decision.exploration_log
    up, down = (_whole(posed, base * math.exp(sign * size)) for sign in (1, -1))
    return Coin(up, down, up_probability, drew_up)


def gave_way(posed: Posed, path: PricePath) -> tuple[str, ...]:
    """The rules that were not kept, the strongest first: guards, then how a price should end."""
    return (*posed.allowed.gave_way, "ending") if path.ending_gave_way else posed.allowed.gave_way


def expert_price_minor(partition: PartitionState, posed: Posed) -> float:
    """Cost plus by what is known of habits, minor units; not rounded."""
    markup = coldstart.expert_markup(
        partition.prior, posed.entry.category, posed.policy.objective.expert_markup_ratio
    )
    return markup * posed.unit_cost_minor / posed.entry.kept_share


def _base(
    partition: PartitionState, posed: Posed, optimum: float, finite: bool
) -> tuple[float, str, float]:
    """The aim before exploration, its name, and the expert's share in it.

    The expert's price alone while demand may be inelastic; a blend until the product graduates.
    ``optimum`` is hedged already where the category is unknown.
    """
    if not finite:
        return optimum, OPTIMUM, 0.0
    if is_unproven(posed):
        return expert_price_minor(partition, posed), EXPERT, 1.0
    share = blend_share(partition, posed)
    if share is None:
        return optimum, OPTIMUM, 0.0
    if share <= 0.0:
        return optimum, HEDGED if posed.cases else OPTIMUM, 0.0
    expert = expert_price_minor(partition, posed)
    return coldstart.blended(optimum, expert, share), BLEND, share


def blend_share(partition: PartitionState, posed: Posed) -> float | None:
    """The expert's share in the aim of a proven product; None for one that has graduated."""
    known = posed.state.passport
    if known is None or known.graduated_ms is not None:
        return None
    return coldstart.expert_share(partition.prior, posed.posterior)


def _probed(
    partition: PartitionState, posed: Posed, base: float, aim: str
) -> tuple[float, str, float | None]:
    """A probe beside the aim where it teaches more than it costs; else the aim itself.

    With how likely the upper one was where a probe is drawn: a half, and 1 where the lower costs
    too much; upward lowers no prior price.
    """
    state, decision = posed.state, posed.policy.decision
    if posed.request.approval is not None:
        return base, aim, None
    closed = posed.breaker.state == breaker.CLOSED and not posed.bounded
    if not closed or not exploration.pays(partition, posed, base):
        return base, aim, None
    probe_log = state.published_exogenous_log
    if probe_log != 0.0 and posed.request.trigger != EPOCH:
        return base * math.exp(probe_log), PROBE_KEPT, None
    down = base * math.exp(-decision.exploration_log)
    up_probability = 0.5 if exploration.pays(partition, posed, base, down) else 1.0
    if up_probability < 1.0 and not _drew_up(
        partition.manifest.partition, posed.request.offset, state.sku
    ):
        return down, EXPLORATION, up_probability
    return base * math.exp(decision.exploration_log), EXPLORATION, up_probability


def is_unproven(posed: Posed) -> bool:
    """Whether a product has too few orders to say that its demand is elastic."""
    limits = posed.policy.breaker
    return (
        posed.posterior.orders < limits.established_orders
        and demand.probability_inelastic(posed.posterior) > limits.inelastic_probability_max
    )


def _drew_up(partition: int, offset: int, sku: str) -> bool:
    """The toss of a coin, a pure function of the decision's place on the tape."""
    digest = blake2b(f"{partition}/{offset}/{sku}".encode(), digest_size=1).digest()
    return bool(digest[0] & 1)
