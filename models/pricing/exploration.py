"""Exploration: small price probes where they teach most for their cost, within a daily budget.

With elasticity -e, its variance V and a profit of Pi a day, a probe of log size d costs about
``e (e - 1) d^2 Pi / 2`` a day, half of |gamma| times the move squared, and not knowing e costs
``V Pi / (2 e (e - 1))``. A day of probes takes ``V^2 d^2 J`` off V, where J is the information that
a day's orders have on log demand. Over a payback time of H days it earns more than it costs where

    H V^2 J > lambda (e (e - 1))^2

lambda, at least 1, is the price of the budget: raised at a day tick while the products of a
partition spend more than their share of the expected profit, lowered while they spend less.
Source: N. B. Keskin, A. Zeevi (2014), Dynamic pricing with an unknown demand model, Oper. Res. 62:
myopic prices may stop learning, and semi-myopic ones do not. Measured: docs/science/exploration.md.
"""

from math import exp, expm1

from msgspec.structs import replace

from models.demand import demand
from models.fold.partition import PartitionState
from models.guards.prior_charge import charge_minor, units_per_day
from models.kernel.tile import Evaluation
from models.pricing.pose import Posed
from models.pricing.probe_value import value_over_cost
from schemas.state import ExplorationLedger, SkuState

MILLI = 1000
PRICE_FALL, PRICE_RISE = 0.8, 1.25  # the price of the budget moves at most so much a day
PRICE_MAX = 1e6


def pays(
    partition: PartitionState,
    posed: Posed,
    optimum_minor: float,
    probe_minor: float | None = None,
) -> bool:
    """Whether a probe around the optimum earns more than it costs, at the budget's price.

    With the price of the probe its cost has what the prior price falls by it (`charge_minor`).
    """
    policy, row = posed.policy.decision, posed.full
    size = -row.elasticity
    if 0.0 in (policy.exploration_log, policy.exploration_budget_profit_share) or size <= 1.0:
        return False
    if 0.5 * size * (size - 1.0) * policy.exploration_log**2 > policy.exploration_profit_share_max:
        return False
    orders_per_day = _orders_per_day(posed, optimum_minor)
    days = epoch_days(partition, posed, optimum_minor)
    dispersion = partition.demand_settings.dispersion
    information = orders_per_day / (1.0 + dispersion * orders_per_day * days)
    taught = value_over_cost(
        size, row.elasticity_variance, information, policy.exploration_payback_days
    )
    dear = 1.0
    if probe_minor is not None:
        charge = _own_charge(partition, posed, probe_minor, optimum_minor)
        profit_per_day = optimum_minor * row.kept_share / size
        profit_per_day *= units_per_day(posed, optimum_minor)
        cost = 0.5 * size * (size - 1.0) * policy.exploration_log**2 * profit_per_day * days
        dear += charge / max(cost, 1e-9)
    return taught > dear * budget_price(partition, posed.entry.currency)


def cost_per_day_minor(
    partition: PartitionState,
    posed: Posed,
    at: Evaluation,
    chosen_minor: int,
    probe_log: float,
) -> float:
    """Expected profit that a probe gives up, minor units a day.

    Half |gamma| times its square; and what a lower prior price costs, over the days it should last.
    """
    if probe_log == 0.0 or not at.finite:
        return 0.0
    moved = chosen_minor / posed.reference_minor * -expm1(-probe_log)
    cost = 0.5 * max(-at.greeks.gamma, 0.0) * moved**2
    days = epoch_days(partition, posed, chosen_minor)
    charge = _own_charge(partition, posed, chosen_minor, chosen_minor * exp(-probe_log))
    return cost * posed.reference_minor / posed.full.horizon_days + charge / days


def epoch_days(partition: PartitionState, posed: Posed, price_minor: float) -> float:
    """How long an epoch at a price is expected to last."""
    policy = partition.policy.decision
    orders_per_day = max(_orders_per_day(posed, price_minor), 1e-9)
    days = max(policy.epoch_orders_close / orders_per_day, policy.epoch_days_min)
    return min(days, policy.epoch_days_max)


def _own_charge(
    partition: PartitionState, posed: Posed, probe_minor: float, plain_minor: float
) -> float:
    """What the probe lowers the prior price beyond what the price without it does."""
    probe = charge_minor(partition, posed, probe_minor)
    return max(probe - charge_minor(partition, posed, plain_minor), 0.0) if probe else 0.0


def _orders_per_day(posed: Posed, price_minor: float) -> float:
    return units_per_day(posed, price_minor) / demand.mean_units_per_order(posed.posterior)


def budget_price(partition: PartitionState, currency: str) -> float:
    """lambda, as of the last day tick."""
    ledger = partition.manifest.exploration.get(currency)
    return 1.0 if ledger is None else ledger.budget_price


def book(
    partition: PartitionState,
    state: SkuState,
    currency: str,
    profit_per_day_minor: float,
    cost_per_day_minor: float,
) -> None:
    """Note what a product on sale is expected to earn a day, and what its probe costs.

    Sums are whole thousandths of a minor unit, so the order of decisions cannot reach them.
    """
    ledger = partition.manifest.exploration.get(currency) or ExplorationLedger()
    profit, cost = round(profit_per_day_minor * MILLI), round(cost_per_day_minor * MILLI)
    partition.manifest.exploration[currency] = replace(
        ledger,
        profit_per_day_milli=ledger.profit_per_day_milli + profit - state.profit_per_day_milli,
        cost_per_day_milli=ledger.cost_per_day_milli + cost - state.probe_cost_per_day_milli,
    )
    state.profit_per_day_milli, state.probe_cost_per_day_milli = profit, cost


def new_day(partition: PartitionState, day: int) -> None:
    """At the first tick of an event day, before the day that was is forgotten.

    What the days since the last one cost is added up, and the budget priced anew.
    """
    before = partition.manifest.returns_day
    days = 0 if before is None else day - before
    share = partition.policy.decision.exploration_budget_profit_share
    for currency, ledger in sorted(partition.manifest.exploration.items()):
        budget = share * max(ledger.profit_per_day_milli, 0)
        over = ledger.cost_per_day_milli / budget if budget > 0.0 else PRICE_RISE
        moved = ledger.budget_price * min(max(over, PRICE_FALL), PRICE_RISE)
        partition.manifest.exploration[currency] = replace(
            ledger,
            budget_price=min(max(moved, 1.0), PRICE_MAX),
            spent_milli=ledger.spent_milli + ledger.cost_per_day_milli * days,
        )
