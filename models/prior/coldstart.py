"""How sure the engine is of a new product, and what it leans on until it knows.

*Out of distribution* is decided by category: one that the document does not have adds the spread
between categories (`models.prior.prior.adapt`). The attributes' distance is shown beside it and
decides nothing: single products of a strange category often look familiar.

*Confidence* is the share of the elasticity's spread over all products that is explained,
``1 - Var(eps) / (S + T)``: 0 for a product of an unseen category, ``T / (S + T)`` for one of a
known one, and towards 1 as its own orders tell. Until a product has graduated, its aim is a blend,
in log price, of the model's optimum and the expert's price. The expert's share is the document's at
confidence 0, falls with confidence, and is none from that of a known category on.
"""

import math
from collections.abc import Mapping

import numpy as np

from models.demand import demand
from models.prior.prior import number, standardised
from schemas.learned import DemandPosterior, DemandPrior
from schemas.policy import Policy
from schemas.state import Passport

PRIOR_DIGITS = 16  # of its hash, enough to tell documents apart
ELASTICITY = 4  # place of the elasticity's variance in an upper triangle


def attribute_distance(prior: DemandPrior, attributes: Mapping[str, float | str]) -> float | None:
    """Mahalanobis distance of the numeric attributes from those of the products trained on.

    Per square root of an attribute, so that 1 is typical. A missing attribute is at the mean. None
    where the document has no attributes, or the product none of them.

    Notes
    -----
    Source: P. C. Mahalanobis (1936), On the generalised distance in statistics.
    """
    names = list(prior.attribute_effects)
    values = [number(attributes.get(name)) for name in names]
    if all(value is None for value in values):
        return None
    effects = prior.attribute_effects.values()
    z = np.array([
        0.0 if value is None else standardised(value, effect)
        for value, effect in zip(values, effects, strict=True)
    ])  # fmt: skip
    cov = np.eye(len(names))
    if prior.attribute_cov:
        cov[np.triu_indices(len(names))] = prior.attribute_cov
        cov = np.triu(cov) + np.triu(cov, 1).T
    return math.sqrt(max(float(z @ np.linalg.solve(cov, z)), 0.0) / len(names))


def passport(
    prior: DemandPrior,
    prior_hash: str,
    attributes: Mapping[str, float | str],
    graduated_ms: int | None = None,
) -> Passport:
    """A product's passport under a document; what it has graduated stays so."""
    return Passport(prior_hash[:PRIOR_DIGITS], attribute_distance(prior, attributes), graduated_ms)


def confidence(prior: DemandPrior, posterior: DemandPosterior) -> float:
    """Share of the elasticity's spread over products and categories that is explained, 0 to 1.

    >>> from models.prior.prior import DEFAULT_PRIOR, adapt
    >>> confidence(DEFAULT_PRIOR, adapt(DEFAULT_PRIOR, "unseen", {}, 0)[0])
    0.0
    """
    spread = prior.cov[ELASTICITY] + prior.category_cov[ELASTICITY]
    return min(max(1.0 - posterior.cov[ELASTICITY] / spread, 0.0), 1.0)


def expert_share(prior: DemandPrior, posterior: DemandPosterior) -> float:
    """The expert's share, 0 to 1, of a price that is not yet the model's alone.

    None of it while the document knows no habit: then there is no expert to lean on.
    """
    if prior.habit_markup is None:
        return 0.0
    between = prior.category_cov[ELASTICITY]
    unknown = (posterior.cov[ELASTICITY] - prior.cov[ELASTICITY]) / between
    return prior.expert_share * min(max(unknown, 0.0), 1.0)


def category_cases(
    prior: DemandPrior, category: str, posterior: DemandPosterior
) -> tuple[float, ...]:
    """How far a product's elasticity may lie from its mean while its category is unknown.

    The sd of what the category adds, down and up: two points that stand for its normal spread
    (Gauss-Hermite). The price is the geometric mean of the best prices there. The best price
    grows faster than in proportion as demand nears inelastic, so the price at the mean elasticity
    is too low on average. None for a known category, and while the document knows none at all.

    >>> from models.prior.prior import DEFAULT_PRIOR, adapt
    >>> category_cases(DEFAULT_PRIOR, "unseen", adapt(DEFAULT_PRIOR, "unseen", {}, 0)[0])
    ()
    """
    if not prior.categories or category in prior.categories:
        return ()
    unknown = posterior.cov[ELASTICITY] - prior.cov[ELASTICITY]
    if unknown <= 0.0:
        return ()
    return (-math.sqrt(unknown), math.sqrt(unknown))


def expert_markup(prior: DemandPrior, category: str, default: float) -> float:
    """What the expert multiplies unit cost over kept share by.

    The category's habit, else the geometric mean of the known categories', else ``default``.
    """
    effect = prior.categories.get(category)
    if effect is not None and effect.habit_markup is not None:
        return effect.habit_markup
    return default if prior.habit_markup is None else prior.habit_markup


def blended(optimum: float, expert: float, share: float) -> float:
    """The price between two in logs: ``optimum^(1 - share) expert^share``.

    >>> round(blended(100.0, 400.0, 0.5), 9)
    200.0
    """
    return math.exp((1.0 - share) * math.log(optimum) + share * math.log(expert))


def may_graduate(posterior: DemandPosterior, policy: Policy) -> bool:
    """Whether a product's own orders have made it known: enough of them, a narrow elasticity, and
    one that is not likely above -1.
    """
    return (
        posterior.orders >= policy.breaker.established_orders
        and math.sqrt(posterior.cov[ELASTICITY]) <= policy.decision.graduation_elasticity_sd_max
        and demand.probability_inelastic(posterior) <= policy.breaker.inelastic_probability_max
    )


def graduation_rule(policy: Policy) -> str:
    """The rule of `may_graduate` in words with its numbers."""
    return (
        f"{policy.breaker.established_orders} orders, elasticity's sd at most "
        f"{policy.decision.graduation_elasticity_sd_max:g}, probability that demand is inelastic "
        f"at most {policy.breaker.inelastic_probability_max:g}"
    )
