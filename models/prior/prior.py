"""Cold start: what is believed of a product before its first order.

An empirical-Bayes prior ``theta_i ~ N(mean + W a_i + o_c, S)``, ``o_c ~ N(0, T)``: attributes a,
category c. It is a published document, known by its content hash. `models.prior.empirical_bayes`
learns it from the posteriors of a catalogue; `adapt` reads it for one product; `exchange` lets a
product that has learned already change over to a new document; `inherit` hands a predecessor's
belief to its successor.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from models.demand.demand import DEFAULT_SETTINGS, STEP_DAYS_MAX, DemandSettings, rebase
from schemas.codec import canonical
from schemas.events import DAY_MS
from schemas.learned import (
    AttributeEffect,
    Coefficients,
    Covariance,
    DemandPosterior,
    DemandPrior,
    PriorSource,
)

Matrix = NDArray[np.float64]

ATTRIBUTE_LIMIT = 4.0  # in sds: a typing error in the catalogue must not move the prior further
INHERIT_WIDENING = 2.0
INHERITED = "predecessor "  # a product's prior kind begins so where it inherited its belief

DEFAULT_PRIOR = DemandPrior(
    source=(
        "Own-price elasticity -2.62: Bijmolt, van Heerde, Pieters (2005), J. Marketing Research "
        "42(2), mean of 1,851 estimates. Cross-price elasticity 0.26: Auer, Papies (2020), J. of "
        "the Academy of Marketing Science 48, mean of 7,264 estimates. Level, spreads and the "
        "control's coefficient are assumptions, wide on purpose."
    ),
    mean=(math.log(0.5), -2.62, 0.26, 0.0),
    cov=(2.25, 0.0, 0.0, 0.0, 0.64, 0.0, 0.0, 0.09, 0.0, 1.0),
    category_cov=(1.0, 0.0, 0.0, 0.0, 0.25, 0.0, 0.0, 0.04, 0.0, 0.04),
)


def prior_sha256(prior: DemandPrior) -> str:
    """Return the document's identity: SHA-256 of its canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical(prior)).hexdigest()


def adapt(
    prior: DemandPrior,
    category: str,
    attributes: Mapping[str, float | str],
    now_ms: int,
    *,
    expected_demand_per_day: float | None = None,
    prior_hash: str | None = None,
) -> tuple[DemandPosterior, PriorSource]:
    """Return a new product's belief and where it came from.

    A category that the document does not have is the average one, with the spread between
    categories added. Numeric attributes count within 4 sds of the document's mean. One that the
    product lacks is filled with that mean and adds the spread it would have explained; text
    attributes, and those the document does not have, are ignored. The source names all of them.

    Parameters
    ----------
    expected_demand_per_day : orders per day at the reference price that the shop expects, above 0;
        nothing else says much about the level
    prior_hash : the document's `prior_sha256` where the caller has it; else it is computed

    Raises
    ------
    ValueError : expected_demand_per_day is not a finite number above 0
    """
    effect = prior.categories.get(category)
    mean = list(prior.mean)
    cov = list(prior.cov)
    _add(cov, prior.category_cov if effect is None else effect.cov)
    if effect is not None:
        _add(mean, effect.offset)
    used, missing = [], []
    for name, attribute in sorted(prior.attribute_effects.items()):
        value = number(attributes.get(name))
        if value is None:
            missing.append(name)
            _add(cov, _outer(attribute.weights))
        else:
            used.append(name)
            scaled = standardised(value, attribute)
            _add(mean, tuple(weight * scaled for weight in attribute.weights))
    if expected_demand_per_day is not None:
        if not 0.0 < expected_demand_per_day < math.inf:
            raise ValueError(
                f"expected_demand_per_day was {expected_demand_per_day}; expected a number above 0"
            )
        mean[0] = math.log(expected_demand_per_day)
        cov[:4] = [prior.known_level_sd**2, 0.0, 0.0, 0.0]
    posterior = DemandPosterior(
        mean=coefficients(mean),
        cov=_covariance(cov),
        epochs=0,
        orders=0,
        updated_ms=now_ms,
        begun_ms=now_ms,
    )
    source = PriorSource(
        kind="unseen_category" if effect is None else "category",
        prior_sha256=prior_hash or prior_sha256(prior),
        category=category,
        attributes_used=tuple(used),
        attributes_ignored=tuple(sorted(name for name in attributes if name not in used)),
        attributes_missing=tuple(missing),
    )
    return posterior, source


def inherit(
    predecessor: DemandPosterior,
    now_ms: int,
    *,
    ln_shift: float = 0.0,
    widening: float = INHERIT_WIDENING,
) -> DemandPosterior:
    """Hand a predecessor's belief to its successor: mean kept, covariance times ``widening``.

    Orders and epochs begin at 0 again: what the successor itself has shown. Units per order line
    stay. ``ln_shift`` is ln(P_ref of the successor / P_ref of the predecessor) where the successor
    is the same offer at another price; 0 where its reference price only restates its place.

    Raises
    ------
    ValueError : widening is below 1
    """
    base = widened(rebase(predecessor, ln_shift), widening)
    return replace(base, epochs=0, orders=0, updated_ms=now_ms, begun_ms=now_ms)


def widened(posterior: DemandPosterior, widening: float = INHERIT_WIDENING) -> DemandPosterior:
    """The belief with its covariance times ``widening``: what a product in a new place knows.

    Raises
    ------
    ValueError : widening is below 1
    """
    if not widening >= 1.0:
        raise ValueError(f"widening was {widening}; expected 1 or more")
    return replace(posterior, cov=_covariance([entry * widening for entry in posterior.cov]))


def exchange(
    posterior: DemandPosterior,
    old: DemandPosterior,
    new: DemandPosterior,
    settings: DemandSettings = DEFAULT_SETTINGS,
) -> DemandPosterior:
    """Return the belief as if it had begun at ``new`` and not at ``old``.

    What the product itself has shown is its posterior with ``old`` divided out; it is multiplied
    with ``new``. Both beginnings are taken as of now: the random walk has widened them since the
    product was listed. Counts, sizes and times stay.

    Parameters
    ----------
    old, new : what `adapt` gives for the product, with the old document and the new one
    settings : the walk that the posterior was learned with
    """
    waited_days = walked_days(posterior)
    precision, shift = likelihood(walked(old, waited_days, settings), posterior)
    begun = walked(new, waited_days, settings)
    before = np.linalg.inv(matrix(begun.cov))
    cov = np.linalg.inv(precision + before)
    mean = cov @ (shift + before @ np.array(begun.mean))
    return replace(posterior, mean=coefficients(mean.tolist()), cov=packed(cov))


def walked_days(posterior: DemandPosterior) -> float:
    """Days for which the random walk has widened a belief since it began."""
    return max(posterior.updated_ms - posterior.begun_ms, 0) / DAY_MS


def walked(
    initial: DemandPosterior, waited_days: float, settings: DemandSettings
) -> DemandPosterior:
    """A beginning as the random walk has widened it after so many days."""
    days = min(waited_days, STEP_DAYS_MAX)
    cov = list(initial.cov)
    cov[0] += settings.level_walk_per_day * days
    cov[4] += settings.elasticity_walk_per_day * days
    return replace(initial, cov=_covariance(cov))


def likelihood(initial: DemandPosterior, posterior: DemandPosterior) -> tuple[Matrix, Matrix]:
    """Divide a normal prior out of a normal posterior; directions without evidence become flat.

    The random walk can leave a direction wider than it began: its precision is cut at 0.
    """
    before, after = np.linalg.inv(matrix(initial.cov)), np.linalg.inv(matrix(posterior.cov))
    values, vectors = np.linalg.eigh(after - before)
    kept = np.maximum(values, 0.0)
    shift = after @ np.array(posterior.mean) - before @ np.array(initial.mean)
    return (vectors * kept) @ vectors.T, vectors @ ((values > 0.0) * (vectors.T @ shift))


def number(value: float | str | None) -> float | None:
    """A finite numeric attribute, or None."""
    if isinstance(value, str) or value is None or not math.isfinite(value):
        return None
    return float(value)


def standardised(value: float, effect: AttributeEffect) -> float:
    """An attribute in sds of the document, cut at ``ATTRIBUTE_LIMIT``."""
    scaled = (value - effect.center) / effect.scale
    return min(max(scaled, -ATTRIBUTE_LIMIT), ATTRIBUTE_LIMIT)


def _outer(weights: Coefficients) -> list[float]:
    return [weights[i] * weights[j] for i in range(4) for j in range(i, 4)]


def _add(total: list[float], part: Sequence[float]) -> None:
    for index, value in enumerate(part):
        total[index] += value


def coefficients(values: Sequence[float]) -> Coefficients:
    """Four numbers as coefficients."""
    b, eps, eta, delta = values
    return (b, eps, eta, delta)


def _covariance(entries: Sequence[float]) -> Covariance:
    bb, be, bn, bd, ee, en, ed, nn, nd, dd = entries
    return (bb, be, bn, bd, ee, en, ed, nn, nd, dd)


def matrix(cov: Covariance) -> Matrix:
    """The full symmetric matrix [4, 4] of an upper triangle."""
    full = np.zeros((4, 4))
    full[np.triu_indices(4)] = cov
    return full + np.triu(full, 1).T


def packed(matrix: Matrix) -> Covariance:
    """The upper triangle of a matrix [4, 4]."""
    entries: list[float] = (0.5 * (matrix + matrix.T))[np.triu_indices(4)].tolist()
    return _covariance(entries)
