"""What logged exploration itself says of a candidate: off-policy estimates, or why not.

A decision at which a coin was tossed is an experiment: what was earned in a stretch of days that
was fixed before the toss is compared between its sides, each weighed by what the candidate would
have made of it. Estimators of the candidate's profit less the baseline's, over these stretches:

    inverse propensity    sum (w_c - w_b) Y
    self-normalised       D (sum w_c Y / sum w_c H - sum w_b Y / sum w_b H)
    doubly robust         sum H (q_c - q_b) + sum (w_c - w_b) (Y - H q)

Y profit of a stretch of H days, D all days, w a policy's probability of the drawn side over the
side's propensity, q the model's profit a day. Candidate prices between the sides are mixtures of
them to first order; the second order is the model's, and counts into the interval as a bound on
bias. Weights are at most 1 / (1/2) = 2, so none is clipped.

Sources: D. G. Horvitz, D. J. Thompson (1952), JASA 47; M. Dudik, J. Langford, L. Li (2011), Doubly
robust policy evaluation and learning, ICML; A. Swaminathan, T. Joachims (2015), The self-normalized
estimator for counterfactual learning, NIPS; A. C. Cameron, J. B. Gelbach, D. L. Miller (2011),
Robust inference with multiway clustering, J. Bus. Econ. Stat. 29; L. Kish (1965), Survey Sampling.
"""

import numpy as np
from scipy import special

from models.backtest.columns import Bools, Decisions, Epochs, Floats, Integers, Outcomes, Products
from models.backtest.trials import (
    SHOWN_MIN,
    Support,
    Trials,
    shown_after,
    supported,
    trials_of,
)
from schemas.backtest import Estimate, OffPolicyValue
from schemas.policy import DecisionPolicy

LEVEL = 0.9
SAMPLE_MIN = 40.0  # effective clusters; below, cluster-robust intervals are too short
SUPPORT_MIN = 0.05  # of the decisions at which the prices differ
WIDTH_MAX = 0.25  # half the interval over the profit of the stretches
CONTRAST_MIN = 1e-9
SHRINK_TRIALS, SCALE_MAX = 2.0, 10.0

DOUBLY_ROBUST = "doubly robust"
INVERSE = "inverse propensity"
SELF_NORMALISED = "self-normalised"


def compare(
    products: Products,
    baseline: Decisions,
    candidate: Decisions,
    epochs: Epochs,
    outcomes: Outcomes,
    *,
    logged: Decisions | None = None,
    stretch: DecisionPolicy | None = None,
) -> tuple[OffPolicyValue, ...]:
    """Estimate what the candidate earns more than the baseline where exploration logged both.

    Parameters
    ----------
    logged : decisions of the policy whose prices buyers saw; the baseline's where not given
    stretch : the policy's rule of how long an epoch lasts; the default's where not given

    Returns
    -------
    By currency, in alphabetical order: one line an estimator, the doubly robust first, or one that
    says why there is no estimate. Money is the sum over the supported stretches, nothing more.
    """
    logged = baseline if logged is None else logged
    support = supported(logged, baseline, candidate)
    seen, delay_days = shown_after(logged, epochs, support.coin)
    rule = stretch or DecisionPolicy()
    trials = trials_of(products, logged, epochs, outcomes, support, rule, delay_days)
    currency_of = np.array(products.currencies)[logged.product] if products.skus else np.array([])
    found: list[OffPolicyValue] = []
    for currency in sorted(set(products.currencies)):
        mine = currency_of == currency
        found += _values(
            currency, support, mine, trials.take(mine[trials.row]), seen[mine & support.coin]
        )
    return tuple(found)


# -- estimates


def _values(
    currency: str, support: Support, mine: Bools, trials: Trials, shown: Floats
) -> list[OffPolicyValue]:
    """One currency's lines; ``mine`` are its decisions, ``shown`` whether its coins were seen."""
    counted = mine & support.counted
    explored = int((counted & support.coin).sum())
    decisions = int(counted.sum())
    share = float((counted & support.supported).sum() / decisions) if decisions else 0.0
    size = _effective(trials)
    differing = counted & support.differs
    tried = support.supported & support.coin
    reason = _unsupported(explored, shown[~np.isnan(shown)], differing, tried, size)
    if reason is None and not min(trials.candidate.sum(), trials.baseline.sum()) > 0.0:
        reason = "the coins never came down on the candidate's side"

    def line(name: str, estimate: Estimate | None, refused: str | None) -> OffPolicyValue:
        return OffPolicyValue(
            currency=currency,
            estimator=name,
            estimate=estimate,
            decisions=decisions,
            explored=explored,
            supported_share=share,
            effective_sample_size=size,
            effective_sample_size_min=SAMPLE_MIN,
            refused=refused,
            product_days=float(trials.days.sum()),
            bias_bound_minor=None if refused else abs(float(_scale(trials) * trials.gap.sum())),
            model_minor=None if refused else float(_scale(trials) * trials.model.sum()),
        )

    if reason is not None:
        return [line(DOUBLY_ROBUST, None, reason)]
    found = []
    for name, estimator in _ESTIMATORS:
        estimate = _estimate(currency, trials, *estimator(trials))
        found.append(line(name, estimate, _useless(estimate, trials)))
    return [one if one.refused is None else line(one.estimator, None, one.refused) for one in found]


def _unsupported(
    explored: int, shown: Floats, differing: Bools, tried: Bools, size: float
) -> str | None:
    """Why what was logged can't say anything of the candidate, in words; None where it can."""
    if not explored:
        return "exploration was off: chance chose no price that was logged"
    if not len(shown):
        return "nothing on the tape says that buyers saw a price that was drawn"
    if shown.mean() < SHOWN_MIN:
        return (
            f"buyers saw {shown.mean():.0%} of the prices that were drawn, {SHOWN_MIN:.0%} needed: "
            "this policy did not set them"
        )
    if not differing.any():
        return "the candidate's prices are the baseline's"
    supported = float((differing & tried).sum() / differing.sum())
    if supported < SUPPORT_MIN:
        return (
            f"exploration tried the candidate's price at {supported:.1%} of the decisions at which "
            f"it differs, {SUPPORT_MIN:.0%} needed"
        )
    if size < SAMPLE_MIN:
        return (
            f"too little was tried: as much as {size:.1f} equal families would tell, "
            f"{SAMPLE_MIN:.0f} needed"
        )
    return None


def _useless(estimate: Estimate, trials: Trials) -> str | None:
    half, profit = 0.5 * (estimate.high_minor - estimate.low_minor), abs(trials.profit.sum())
    if half <= WIDTH_MAX * profit:
        return None
    return (
        f"the interval is as wide as {half / max(profit, 1e-9):.0%} of the profit to either side, "
        f"{WIDTH_MAX:.0%} at most is of use"
    )


def _effective(trials: Trials) -> float:
    """Kish's effective number of families, each weighed by the profit that its trials contrast."""
    weight = np.abs(trials.contrast_up * trials.expected)
    weight = np.bincount(trials.family, np.where(weight > CONTRAST_MIN, weight, 0.0))
    square = float(weight @ weight)
    return float(weight.sum()) ** 2 / square if square > 0.0 else 0.0


def _scale(trials: Trials) -> float:
    """Realised over expected profit: brings the control variate to history's level."""
    expected = float(trials.expected.sum())
    return max(float(trials.profit.sum()) / expected, 0.0) if expected > 0.0 else 0.0


def _own_scale(trials: Trials) -> Floats:
    """The same for each trial by its family's other trials, drawn to all families' [trial].

    The trial itself has no part in it, so its toss is independent of it and no bias comes of it.
    """
    scale = _scale(trials)
    profit = np.bincount(trials.family, trials.profit)[trials.family] - trials.profit
    expected = np.bincount(trials.family, trials.expected)[trials.family] - trials.expected
    drawn = SHRINK_TRIALS * np.maximum(trials.expected, 0.0)
    known = np.maximum(expected, 0.0) + drawn
    own = (profit + scale * drawn) / np.where(known > 0.0, known, 1.0)
    return np.where(known > 0.0, np.clip(own, 0.0, SCALE_MAX), scale)


def _doubly_robust(trials: Trials) -> tuple[float, Floats]:
    """The estimate and what each trial's toss adds to it [trial]."""
    scale = _scale(trials)
    tossed = trials.profit - _own_scale(trials) * trials.expected
    tossed = (trials.candidate - trials.baseline) * tossed
    return float(scale * trials.model.sum() + tossed.sum()), tossed


def _inverse_propensity(trials: Trials) -> tuple[float, Floats]:
    tossed = (trials.candidate - trials.baseline) * trials.profit
    return float(_scale(trials) * trials.gap.sum() + tossed.sum()), tossed


def _self_normalised(trials: Trials) -> tuple[float, Floats]:
    total, tossed, sign = 0.0, np.zeros(len(trials.row)), 1.0
    for weight in (trials.candidate, trials.baseline):
        ratio = float(trials.days.sum() / (weight @ trials.days))
        mean = float((weight @ trials.profit) / (weight @ trials.days))
        total += sign * mean * float(trials.days.sum())
        tossed += sign * ratio * weight * (trials.profit - mean * trials.days)
        sign = -1.0
    return float(_scale(trials) * trials.gap.sum()) + total, tossed


_ESTIMATORS = (
    (DOUBLY_ROBUST, _doubly_robust),
    (INVERSE, _inverse_propensity),
    (SELF_NORMALISED, _self_normalised),
)


def _estimate(currency: str, trials: Trials, mean: float, tossed: Floats) -> Estimate:
    """With an interval of `LEVEL`: coins and sales by family and day, plus the bound on bias."""
    size = np.abs(trials.contrast_up * trials.expected)
    centred = tossed - tossed.sum() * size / size.sum()  # about one relative effect for all
    sd = float(np.sqrt(_variance(centred, trials.family, trials.first_day)))
    freedom = max(_effective(trials) - 1.0, 1.0)
    half = float(special.stdtrit(freedom, 0.5 * (1.0 + LEVEL))) * sd
    half += abs(float(_scale(trials) * trials.gap.sum()))
    return Estimate(
        currency=currency,
        mean_minor=mean,
        sd_minor=sd,
        low_minor=mean - half,
        high_minor=mean + half,
        level=LEVEL,
    )


def _variance(amount: Floats, family: Integers, day: Integers) -> float:
    """Cluster-robust, by family and by day of the toss; at least that by family."""
    by_family = np.bincount(family, amount)
    by_day = np.bincount(day - day.min(), amount) if len(day) else amount
    one, two, alone = (float(sums @ sums) for sums in (by_family, by_day, amount))
    return max(one, one + two - alone)
