"""A backtest's result: one document, from which the report is drawn and which ``--json`` prints.

Money is in minor units of the currency beside it. Every estimate has an interval or a reason why
there is none; a figure that could not be had is null, never 0. Days are event days, UTC.
"""

from msgspec import Struct


class Estimate(Struct, frozen=True, kw_only=True):
    """An amount of money with its uncertainty; ``low`` and ``high`` bound it with ``level``."""

    currency: str
    mean_minor: float
    sd_minor: float
    low_minor: float
    high_minor: float
    level: float


class Count(Struct, frozen=True, kw_only=True):
    """How often something happened under the baseline and under the candidate."""

    name: str
    baseline: int
    candidate: int


class Run(Struct, frozen=True, kw_only=True):
    """What was read, and with what; enough to run it again to the same bytes.

    ``reconstruction``: the tape was put together from source topics, where no tape was kept.
    ``baseline`` is the name of the policy that the others are compared with.
    """

    source: str
    reconstruction: bool
    first_event: str | None
    last_event: str | None
    records: int
    partitions: int
    tape_sha256: str
    engine: str
    version: str
    seed: int
    baseline: str
    seconds: float
    assumptions: tuple[str, ...]


class PolicyRun(Struct, frozen=True, kw_only=True):
    """One policy over the tape. ``edits`` are in words what of the tape was changed for it."""

    name: str
    policy_sha256: str
    prior_sha256: str
    edits: tuple[str, ...]
    products: int
    products_priced: int
    decisions: int
    published: int
    held: int
    reverted: int
    price_changes: int
    price_changes_per_product_day: float | None
    breaker_trips: int
    dead_letters: int
    decisions_sha256: str
    state_sha256: str


class Difference(Struct, frozen=True, kw_only=True):
    """A stretch in which a candidate shows another price than the baseline.

    ``at_stake_minor`` is the model's difference of profit over the stretch, candidate less
    baseline; ``reasons`` are what bound or triggered in one and not in the other.
    """

    sku: str
    category: str
    currency: str
    from_time: str
    to_time: str
    tape: str
    baseline_minor: int | None
    candidate_minor: int | None
    at_stake_minor: float | None
    reasons: tuple[str, ...]


class Differences(Struct, frozen=True, kw_only=True):
    """What would have been priced otherwise. Shares are of product-days on sale under both."""

    product_days: float
    same_share: float | None
    dearer_share: float | None
    cheaper_share: float | None
    mean_ln_ratio: float | None
    products_differing: int
    first_divergence: Difference | None
    largest: tuple[Difference, ...]
    guards: tuple[Count, ...]
    breakers: tuple[Count, ...]
    holds: tuple[Count, ...]


class CategoryValue(Struct, frozen=True, kw_only=True):
    """A category's part in the model-based difference."""

    category: str
    products: int
    difference: Estimate


class ModelValue(Struct, frozen=True, kw_only=True):
    """What the models say that the candidate earns more than the baseline, by currency.

    ``parameter_sd_minor`` comes from what is not known of demand and returns, ``noise_sd_minor``
    from the chance of single sales; the interval has the former, ``realised_low_minor`` and
    ``realised_high_minor`` both. ``calibration`` is realised over expected profit at the prices
    that were charged: far from 1 the model is not to be believed.
    """

    currency: str
    baseline: Estimate
    candidate: Estimate
    difference: Estimate
    parameter_sd_minor: float
    noise_sd_minor: float
    realised_low_minor: float
    realised_high_minor: float
    calibration: float | None
    calibration_sd: float | None
    categories: tuple[CategoryValue, ...]
    notes: tuple[str, ...] = ()


class OffPolicyValue(Struct, frozen=True, kw_only=True):
    """What logged exploration itself says of the candidate, by currency; or why it can't.

    ``supported_share`` is the share of decisions at which the candidate's price could have been
    logged; an estimate holds for these alone, over ``product_days`` of stretches that began with a
    coin. ``bias_bound_minor`` is the part of the interval for what lies between the prices tried,
    ``model_minor`` what the decisions' own models say of the same stretches.
    """

    currency: str
    estimator: str
    estimate: Estimate | None
    decisions: int
    explored: int
    supported_share: float
    effective_sample_size: float
    effective_sample_size_min: float
    refused: str | None
    product_days: float = 0.0
    bias_bound_minor: float | None = None
    model_minor: float | None = None


class FitCheck(Struct, frozen=True, kw_only=True):
    """How a figure of the history lies among the same figure of simulated histories."""

    name: str
    history: float
    simulated_mean: float
    simulated_sd: float


class ClosedLoopValue(Struct, frozen=True, kw_only=True):
    """What the candidate earns more in shops drawn from what is believed of this one.

    ``runs`` simulated shops, each with its own parameters drawn from the posterior, in which both
    policies meet the same customers for ``days``.
    """

    currency: str
    runs: int
    days: int
    products: int
    seed: int
    baseline_per_day: Estimate
    candidate_per_day: Estimate
    difference_per_day: Estimate
    share_better: float
    fit: tuple[FitCheck, ...]
    notes: tuple[str, ...] = ()


class SwitchbackCell(Struct, frozen=True, kw_only=True):
    """Which policy a unit has in a block of time."""

    unit: str
    block: int
    policy: str


class SwitchbackDesign(Struct, frozen=True, kw_only=True):
    """The test on real customers that would prove the difference.

    ``effect_minor_per_day`` is the difference that it is to find with ``power``, of all units
    together, ``detectable_minor_per_day`` the smallest that it finds, ``sd_minor_per_day`` the sd
    of its estimate; null where there is no test at all. ``refused`` says why no test fits into
    ``days_max``. ``groups`` are the families of each unit that is not one. In the schedule pairs
    follow each other, and an odd unit comes last.
    """

    currency: str
    unit_kind: str
    units: int
    block_days: float
    washout_days: float
    blocks: int
    days: float
    days_max: float
    alpha: float
    power: float
    effect_minor_per_day: float | None
    detectable_minor_per_day: float | None
    sd_minor_per_day: float | None
    intraclass_correlation: float | None
    schedule: tuple[SwitchbackCell, ...]
    refused: str | None
    notes: tuple[str, ...] = ()
    groups: dict[str, tuple[str, ...]] = {}


class Comparison(Struct, frozen=True, kw_only=True):
    """One candidate against the baseline."""

    candidate: str
    differences: Differences
    model: tuple[ModelValue, ...]
    off_policy: tuple[OffPolicyValue, ...]
    closed_loop: tuple[ClosedLoopValue, ...]
    switchback: tuple[SwitchbackDesign, ...]


class PricePoint(Struct, frozen=True, kw_only=True, array_like=True):
    """A price from a time on; null: none."""

    at: str
    minor: float | None


class ProductSeries(Struct, frozen=True, kw_only=True):
    """One product for the report: prices by policy, the shop's own, cost, rival, and beliefs.

    ``elasticity`` holds (day, mean, sd) of the belief over time.
    """

    sku: str
    category: str
    currency: str
    at_stake_minor: float | None
    prices: dict[str, tuple[PricePoint, ...]]
    shown: tuple[PricePoint, ...]
    unit_cost: tuple[PricePoint, ...]
    rival: tuple[PricePoint, ...]
    elasticity: tuple[tuple[str, float, float], ...]


class DaySeries(Struct, frozen=True, kw_only=True):
    """Sums by event day of one policy and currency; null where nothing was decided by then.

    Greeks are those of the prices in force at the day's end, summed in currency: ``delta_minor``
    P dPi/dP, ``gamma_minor`` P^2 d2Pi/dP2, ``vega_minor`` sigma dPi/dsigma, per day of horizon.
    ``expected_profit_minor`` and ``margin_ratio`` are the model's at these prices.
    """

    policy: str
    currency: str
    days: tuple[str, ...]
    price_changes: tuple[int, ...]
    decisions: tuple[int, ...]
    held: tuple[int, ...]
    expected_profit_minor: tuple[float | None, ...]
    margin_ratio: tuple[float | None, ...]
    delta_minor: tuple[float | None, ...]
    gamma_minor: tuple[float | None, ...]
    vega_minor: tuple[float | None, ...]


class BreakerMove(Struct, frozen=True, kw_only=True):
    """A breaker's change of state."""

    policy: str
    at: str
    scope: str
    name: str
    state: str
    reason: str


class CalibrationBin(Struct, frozen=True, kw_only=True):
    """Units of like expectation: their mean forecast, what happened, and how much there was."""

    forecast: float
    observed: float
    observed_low: float
    observed_high: float
    weight: float


class Calibration(Struct, frozen=True, kw_only=True):
    """Forecast against outcome, by bins of the forecast: ``demand`` (orders an epoch), ``returns``
    (share of units).
    """

    name: str
    bins: tuple[CalibrationBin, ...]


class LedgerLine(Struct, frozen=True, kw_only=True):
    """What a rule costs a day on average, at the prices in force, by policy."""

    policy: str
    currency: str
    rule: str
    products: int
    cost_per_day_minor: float


class ExplainedDay(Struct, frozen=True, kw_only=True):
    """P&L explain of one policy, currency and day: terms by name, and what they leave."""

    policy: str
    currency: str
    day: str
    terms: dict[str, float]
    residual_minor: float


class BacktestReport(Struct, frozen=True, kw_only=True):
    """All that a backtest found."""

    run: Run
    policies: tuple[PolicyRun, ...]
    comparisons: tuple[Comparison, ...]
    days: tuple[DaySeries, ...] = ()
    products: tuple[ProductSeries, ...] = ()
    breakers: tuple[BreakerMove, ...] = ()
    calibration: tuple[Calibration, ...] = ()
    ledger: tuple[LedgerLine, ...] = ()
    explained: tuple[ExplainedDay, ...] = ()
