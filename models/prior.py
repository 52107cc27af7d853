"""Cold start: what is believed of a product before its first order.

An empirical-Bayes prior ``theta_i ~ N(mean + W a_i + o_c, S)``, ``o_c ~ N(0, T)``: attributes a,
category c. It is a published document, known by its content hash. `refresh` learns it again from
the posteriors of a catalogue; `adapt` reads it for one product; `inherit` hands a predecessor's
belief to its successor.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from models.demand import rebase
from schemas.codec import canonical
from schemas.learned import (
    AttributeEffect,
    CategoryEffect,
    Coefficients,
    Covariance,
    DemandPosterior,
    DemandPrior,
    PriorSource,
)

Matrix = NDArray[np.float64]

ATTRIBUTE_LIMIT = 4.0  # in sds: a typing error in the catalogue must not move the prior further
INHERIT_WIDENING = 2.0
EM_STEPS = 2
MEAN_PRIOR_CATEGORIES = 2.0  # what the old document is worth when it is learned again
COV_PRIOR_PRODUCTS = 20.0
COV_PRIOR_CATEGORIES = 5.0
ATTRIBUTE_PRIOR_PRODUCTS = 20.0
ATTRIBUTE_PRODUCTS_MIN = 20
ATTRIBUTES_MAX = 16

DEFAULT_PRIOR = DemandPrior(
    source=(
        "Own-price elasticity -2.62: Bijmolt, van Heerde, Pieters (2005), J. Marketing Research "
        "42(2), mean of 1,851 estimates. Cross-price elasticity 0.26: Auer, Papies (2020), J. of "
        "the Academy of Marketing Science 48, mean of 7,264 estimates. Level, spreads and the "
        "control's coefficient are assumptions, wide on purpose."
    ),
    mean=(math.log(0.5), -2.62, 0.26, 0.0),
    cov=(2.25, 0.0, 0.0, 0.0, 0.64, 0.0, 0.0, 0.09, 0.0, 0.25),
    category_cov=(1.0, 0.0, 0.0, 0.0, 0.25, 0.0, 0.0, 0.04, 0.0, 0.04),
)


class Member(NamedTuple):
    """One product of a catalogue that a prior is learned from.

    ``initial`` is the belief it started with; None if `adapt` with the old document gave it.
    """

    sku: str
    category: str
    attributes: Mapping[str, float | str]
    posterior: DemandPosterior
    initial: DemandPosterior | None = None


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
        value = _number(attributes.get(name))
        if value is None:
            missing.append(name)
            _add(cov, _outer(attribute.weights))
        else:
            used.append(name)
            scaled = _standardised(value, attribute)
            _add(mean, tuple(weight * scaled for weight in attribute.weights))
    if expected_demand_per_day is not None:
        if not 0.0 < expected_demand_per_day < math.inf:
            raise ValueError(
                f"expected_demand_per_day was {expected_demand_per_day}; expected a number above 0"
            )
        mean[0] = math.log(expected_demand_per_day)
        cov[:4] = [prior.known_level_sd**2, 0.0, 0.0, 0.0]
    posterior = DemandPosterior(
        mean=_coefficients(mean), cov=_covariance(cov), epochs=0, orders=0, updated_ms=now_ms
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
    if not widening >= 1.0:
        raise ValueError(f"widening was {widening}; expected 1 or more")
    base = rebase(predecessor, ln_shift)
    cov = _covariance([entry * widening for entry in base.cov])
    return replace(base, cov=cov, epochs=0, orders=0, updated_ms=now_ms)


class _Catalogue(NamedTuple):
    """Members as arrays: likelihood precision and shift, standardised attributes, category."""

    precision: Matrix  # [product, 4, 4]
    shift: Matrix  # [product, 4], precision times the likelihood's mode
    attributes: Matrix  # [product, attribute]
    category: NDArray[np.int64]  # [product], index into names
    names: list[str]


class _Parameters(NamedTuple):
    mean: Matrix  # [4]
    cov: Matrix  # [4, 4]
    category_cov: Matrix  # [4, 4]
    offsets: Matrix  # [category, 4]
    offset_cov: Matrix  # [category, 4, 4]
    weights: Matrix  # [attribute, 4]


def refresh(prior: DemandPrior, members: Sequence[Member], source: str) -> DemandPrior:
    """Learn the document again from a catalogue's posteriors: two EM steps of empirical Bayes.

    Each product's own evidence is its posterior with its initial belief divided out, so nothing is
    counted twice. The old document keeps the weight of a few products and categories, which
    steadies a small catalogue. A numeric attribute enters once 20 products have it, 16 at most.
    The result does not depend on the order of ``members``; without members only the source changes.

    Notes
    -----
    Cost: `O(products)`. Source: B. Efron, C. Morris (1973), JASA 68(341); the M step goes by
    groups of parameters, X.-L. Meng, D. B. Rubin (1993), Biometrika 80(2).
    """
    if not members:
        return replace(prior, source=source)
    ordered = sorted(members, key=lambda member: member.sku)
    effects = _attribute_effects(prior, ordered)
    catalogue = _catalogue(prior, ordered, effects)
    start = _Parameters(
        mean=np.array(prior.mean),
        cov=_matrix(prior.cov),
        category_cov=_matrix(prior.category_cov),
        offsets=np.array([_known_offset(prior, name) for name in catalogue.names]),
        offset_cov=np.zeros((len(catalogue.names), 4, 4)),
        weights=np.array([effect.weights for effect in effects.values()]).reshape(-1, 4),
    )
    fitted = start
    for _ in range(EM_STEPS):
        fitted = _em_step(catalogue, fitted, start)
    counts = np.bincount(catalogue.category, minlength=len(catalogue.names))
    categories = dict(prior.categories)
    for index, name in enumerate(catalogue.names):
        categories[name] = CategoryEffect(
            offset=_coefficients(fitted.offsets[index].tolist()),
            cov=_packed(fitted.offset_cov[index]),
            products=int(counts[index]),
        )
    return replace(
        prior,
        source=source,
        mean=_coefficients(fitted.mean.tolist()),
        cov=_packed(fitted.cov),
        category_cov=_packed(fitted.category_cov),
        categories=categories,
        attribute_effects={
            name: replace(effect, weights=_coefficients(weights.tolist()))
            for (name, effect), weights in zip(effects.items(), fitted.weights, strict=True)
        },
    )


def _em_step(catalogue: _Catalogue, old: _Parameters, start: _Parameters) -> _Parameters:
    """One expectation step, then each group of parameters given the others."""
    products, categories = len(catalogue.category), len(catalogue.names)
    inverse = np.linalg.inv(old.cov)
    explained = old.mean + catalogue.attributes @ old.weights
    centre = explained + old.offsets[catalogue.category]
    spread = np.linalg.inv(catalogue.precision + inverse)
    theta = np.einsum("nij,nj->ni", spread, catalogue.shift + centre @ inverse)

    counts = np.bincount(catalogue.category, minlength=categories)[:, None, None]
    sums = np.zeros((categories, 4))
    np.add.at(sums, catalogue.category, theta - catalogue.attributes @ old.weights)
    # the mean with the offsets integrated out, then the offsets given the mean
    between = np.linalg.inv(old.category_cov + old.cov / counts)
    anchor = MEAN_PRIOR_CATEGORIES * np.linalg.inv(old.category_cov + old.cov)
    pulls = np.einsum("cij,cj->i", between, sums / counts[:, 0]) + anchor @ start.mean
    mean = np.linalg.solve(between.sum(axis=0) + anchor, pulls)
    offset_cov = np.linalg.inv(counts * inverse + np.linalg.inv(old.category_cov))
    offsets = np.einsum("cij,cj->ci", offset_cov, (sums - counts[:, 0] * mean) @ inverse)
    rest = theta - mean - offsets[catalogue.category]
    gram = catalogue.attributes.T @ catalogue.attributes
    ridge = ATTRIBUTE_PRIOR_PRODUCTS * np.eye(len(gram))
    weights = np.linalg.solve(gram + ridge, catalogue.attributes.T @ rest + ridge @ start.weights)
    error = rest - catalogue.attributes @ weights
    cov = (COV_PRIOR_PRODUCTS * start.cov + spread.sum(axis=0) + error.T @ error) / (
        COV_PRIOR_PRODUCTS + products
    )
    category_cov = (
        COV_PRIOR_CATEGORIES * start.category_cov + offset_cov.sum(axis=0) + offsets.T @ offsets
    ) / (COV_PRIOR_CATEGORIES + categories)
    return _Parameters(mean, cov, category_cov, offsets, offset_cov, weights)


def _attribute_effects(prior: DemandPrior, members: Sequence[Member]) -> dict[str, AttributeEffect]:
    """The document's attributes, and those that enough members have, sorted by name."""
    values: dict[str, list[float]] = {}
    for member in members:
        for name in member.attributes:
            number = _number(member.attributes[name])
            if number is not None:
                values.setdefault(name, []).append(number)
    effects = dict(prior.attribute_effects)
    for name, found in sorted(values.items(), key=lambda item: (-len(item[1]), item[0])):
        scale = float(np.std(found))
        if len(effects) >= ATTRIBUTES_MAX or len(found) < ATTRIBUTE_PRODUCTS_MIN:
            break
        if name not in effects and scale > 0.0:
            effects[name] = AttributeEffect(
                center=float(np.mean(found)), scale=scale, weights=(0.0, 0.0, 0.0, 0.0)
            )
    return dict(sorted(effects.items()))


def _catalogue(
    prior: DemandPrior, members: Sequence[Member], effects: Mapping[str, AttributeEffect]
) -> _Catalogue:
    names = sorted(dict.fromkeys(member.category for member in members))
    index = {name: position for position, name in enumerate(names)}
    attributes = np.zeros((len(members), len(effects)))
    precisions, shifts = [], []
    for row, member in enumerate(members):
        initial = member.initial
        if initial is None:
            initial, _ = adapt(prior, member.category, member.attributes, 0)
        precision, shift = _likelihood(initial, member.posterior)
        precisions.append(precision)
        shifts.append(shift)
        for column, (name, effect) in enumerate(effects.items()):
            number = _number(member.attributes.get(name))
            if number is not None:  # a missing one stays at the mean, which is 0 here
                attributes[row, column] = _standardised(number, effect)
    category = np.array([index[member.category] for member in members], dtype=np.int64)
    return _Catalogue(np.array(precisions), np.array(shifts), attributes, category, names)


def _likelihood(initial: DemandPosterior, posterior: DemandPosterior) -> tuple[Matrix, Matrix]:
    """Divide a normal prior out of a normal posterior; directions without evidence become flat.

    The random walk can leave a direction wider than it began: its precision is cut at 0.
    """
    before, after = np.linalg.inv(_matrix(initial.cov)), np.linalg.inv(_matrix(posterior.cov))
    values, vectors = np.linalg.eigh(after - before)
    kept = np.maximum(values, 0.0)
    shift = after @ np.array(posterior.mean) - before @ np.array(initial.mean)
    return (vectors * kept) @ vectors.T, vectors @ ((values > 0.0) * (vectors.T @ shift))


def _known_offset(prior: DemandPrior, name: str) -> Coefficients:
    effect = prior.categories.get(name)
    return (0.0, 0.0, 0.0, 0.0) if effect is None else effect.offset


def _number(value: float | str | None) -> float | None:
    if isinstance(value, str) or value is None or not math.isfinite(value):
        return None
    return float(value)


def _standardised(value: float, effect: AttributeEffect) -> float:
    scaled = (value - effect.center) / effect.scale
    return min(max(scaled, -ATTRIBUTE_LIMIT), ATTRIBUTE_LIMIT)


def _outer(weights: Coefficients) -> list[float]:
    return [weights[i] * weights[j] for i in range(4) for j in range(i, 4)]


def _add(total: list[float], part: Sequence[float]) -> None:
    for index, value in enumerate(part):
        total[index] += value


def _coefficients(values: Sequence[float]) -> Coefficients:
    b, eps, eta, delta = values
    return (b, eps, eta, delta)


def _covariance(entries: Sequence[float]) -> Covariance:
    bb, be, bn, bd, ee, en, ed, nn, nd, dd = entries
    return (bb, be, bn, bd, ee, en, ed, nn, nd, dd)


def _matrix(cov: Covariance) -> Matrix:
    full = np.zeros((4, 4))
    full[np.triu_indices(4)] = cov
    return full + np.triu(full, 1).T


def _packed(matrix: Matrix) -> Covariance:
    entries: list[float] = (0.5 * (matrix + matrix.T))[np.triu_indices(4)].tolist()
    return _covariance(entries)
