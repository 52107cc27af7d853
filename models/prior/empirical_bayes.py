"""Empirical Bayes: a catalogue's posteriors teach the prior that a new product starts with.

``theta_i ~ N(mean + W a_i + o_c, S)``, ``o_c ~ N(0, T)``: attributes a, category c. `refresh` fits
mean, W, offsets, S and T by EM, starting from the document in force.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from models.demand.demand import DEFAULT_SETTINGS, DemandSettings
from models.prior.prior import (
    Matrix,
    adapt,
    coefficients,
    likelihood,
    matrix,
    number,
    packed,
    standardised,
    walked,
    walked_days,
)
from schemas.learned import (
    AttributeEffect,
    CategoryEffect,
    Coefficients,
    DemandPosterior,
    DemandPrior,
)

EM_STEPS = 10
MEAN_PRIOR_CATEGORIES = 2.0  # what the old document is worth when it is learned again
COV_PRIOR_PRODUCTS = 5.0
COV_PRIOR_CATEGORIES = 5.0
ATTRIBUTE_PRIOR_PRODUCTS = 20.0
ATTRIBUTE_PRODUCTS_MIN = 20
ATTRIBUTES_MAX = 16


class Member(NamedTuple):
    """One product of a catalogue that a prior is learned from.

    ``initial`` is the belief it started with; None if `adapt` with the old document gave it.
    """

    sku: str
    category: str
    attributes: Mapping[str, float | str]
    posterior: DemandPosterior
    initial: DemandPosterior | None = None


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


def refresh(
    prior: DemandPrior,
    members: Sequence[Member],
    source: str,
    *,
    settings: DemandSettings = DEFAULT_SETTINGS,
    em_steps: int = EM_STEPS,
) -> DemandPrior:
    """Learn the document again from a catalogue's posteriors: EM steps of empirical Bayes.

    Each product's own evidence is its posterior with its initial belief divided out, so nothing is
    counted twice. Ten steps keep a document fresh; from a wide one some thirty converge. The old
    document keeps the weight of a few products and categories, which steadies a small catalogue. A
    numeric attribute enters once 20 products have it, 16 at most. The result does not depend on
    the order of ``members``; without members only the source changes.

    Notes
    -----
    Cost: `O(products)`. Source: B. Efron, C. Morris (1973), JASA 68(341); the M step goes by
    groups of parameters, X.-L. Meng, D. B. Rubin (1993), Biometrika 80(2).
    """
    if not members:
        return replace(prior, source=source)
    ordered = sorted(members, key=lambda member: member.sku)
    effects = _attribute_effects(prior, ordered)
    catalogue = _catalogue(prior, ordered, effects, settings)
    start = _Parameters(
        mean=np.array(prior.mean),
        cov=matrix(prior.cov),
        category_cov=matrix(prior.category_cov),
        offsets=np.array([_known_offset(prior, name) for name in catalogue.names]),
        offset_cov=np.zeros((len(catalogue.names), 4, 4)),
        weights=np.array([effect.weights for effect in effects.values()]).reshape(-1, 4),
    )
    fitted = start
    for _ in range(em_steps):
        fitted = _em_step(catalogue, fitted, start)
    counts = np.bincount(catalogue.category, minlength=len(catalogue.names))
    categories = dict(prior.categories)
    for index, name in enumerate(catalogue.names):
        categories[name] = CategoryEffect(
            offset=coefficients(fitted.offsets[index].tolist()),
            cov=packed(fitted.offset_cov[index]),
            products=int(counts[index]),
        )
    return replace(
        prior,
        source=source,
        mean=coefficients(fitted.mean.tolist()),
        cov=packed(fitted.cov),
        category_cov=packed(fitted.category_cov),
        categories=categories,
        attribute_effects={
            name: replace(effect, weights=coefficients(weights.tolist()))
            for (name, effect), weights in zip(effects.items(), fitted.weights, strict=True)
        },
    )


def _em_step(catalogue: _Catalogue, old: _Parameters, start: _Parameters) -> _Parameters:
    """One expectation step, then each group of parameters given the others.

    A category's offset is learned from its products' likelihoods with their own spread integrated
    out, so that its covariance says how well the data know it.
    """
    products, categories = len(catalogue.category), len(catalogue.names)
    of = catalogue.category
    inverse = np.linalg.inv(old.cov)
    spread = np.linalg.inv(catalogue.precision + inverse)
    passed = catalogue.precision @ spread  # [product, 4, 4]
    seen = catalogue.precision - passed @ catalogue.precision  # (P^-1 + S)^-1
    told = catalogue.shift - np.einsum("nij,nj->ni", passed, catalogue.shift)
    # the offsets around the mean, products integrated out
    explained = catalogue.attributes @ old.weights
    known, pulled = np.zeros((categories, 4, 4)), np.zeros((categories, 4))
    np.add.at(known, of, seen)
    np.add.at(pulled, of, told - np.einsum("nij,nj->ni", seen, explained))
    prior_precision = np.linalg.inv(old.category_cov)
    offset_cov = np.linalg.inv(known + prior_precision)
    # the mean with the offsets integrated out too, then the offsets given the mean
    kept = known @ offset_cov
    between = known - kept @ known
    anchor = MEAN_PRIOR_CATEGORIES * np.linalg.inv(old.category_cov + old.cov)
    pulls = (pulled - np.einsum("cij,cj->ci", kept, pulled)).sum(axis=0) + anchor @ start.mean
    mean = np.linalg.solve(between.sum(axis=0) + anchor, pulls)
    offsets = np.einsum("cij,cj->ci", offset_cov, pulled - known @ mean)
    centre = mean + explained + offsets[of]
    theta = np.einsum("nij,nj->ni", spread, catalogue.shift + centre @ inverse)
    rest = theta - mean - offsets[of]
    gram = catalogue.attributes.T @ catalogue.attributes
    ridge = ATTRIBUTE_PRIOR_PRODUCTS * np.eye(len(gram))
    weights = np.linalg.solve(gram + ridge, catalogue.attributes.T @ rest + ridge @ start.weights)
    error = rest - catalogue.attributes @ weights
    # a product's distance from its centre is as uncertain as the centre where its data know it
    unsure = np.einsum("nji,njk,nkl->il", passed, offset_cov[of], passed)
    cov = (COV_PRIOR_PRODUCTS * start.cov + spread.sum(axis=0) + unsure + error.T @ error) / (
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
            value = number(member.attributes[name])
            if value is not None:
                values.setdefault(name, []).append(value)
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
    prior: DemandPrior,
    members: Sequence[Member],
    effects: Mapping[str, AttributeEffect],
    settings: DemandSettings,
) -> _Catalogue:
    names = sorted(dict.fromkeys(member.category for member in members))
    index = {name: position for position, name in enumerate(names)}
    attributes = np.zeros((len(members), len(effects)))
    precisions, shifts = [], []
    for row, member in enumerate(members):
        initial = member.initial
        if initial is None:
            initial, _ = adapt(prior, member.category, member.attributes, 0)
        begun = walked(initial, walked_days(member.posterior), settings)
        precision, shift = likelihood(begun, member.posterior)
        precisions.append(precision)
        shifts.append(shift)
        for column, (name, effect) in enumerate(effects.items()):
            value = number(member.attributes.get(name))
            if value is not None:  # a missing one stays at the mean, which is 0 here
                attributes[row, column] = standardised(value, effect)
    category = np.array([index[member.category] for member in members], dtype=np.int64)
    return _Catalogue(np.array(precisions), np.array(shifts), attributes, category, names)


def _known_offset(prior: DemandPrior, name: str) -> Coefficients:
    effect = prior.categories.get(name)
    return (0.0, 0.0, 0.0, 0.0) if effect is None else effect.offset
