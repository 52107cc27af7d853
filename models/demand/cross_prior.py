"""What the catalogue expects of a family's cross elasticities, and how far estimates are used.

A prior by relation before any order, and after it a shrinkage that leaves nothing of what is not
known. docs/science/cross.md.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from schemas.state import CatalogueEntry

KNOWN_SDS = 2.5  # this and the next were chosen on the benchmark's seeds from 101 on
SPREAD_SHARE = 0.5  # sd between the pairs of a relation over their mean, at least
ALIKE_SHARE = 0.5
EVIDENCE_SHARE_MIN = 0.1  # of the prior's precision; less data say nothing of a pair


class Relation(NamedTuple):
    """What the catalogue says of d ln units_i / d ln price_j before any order: mean and sd."""

    mean: float
    sd: float


COMPLEMENT = Relation(-0.4, 0.4)  # an addition by the price of its anchor
SUBSTITUTE = Relation(0.15, 0.25)  # products of one kind
UNRELATED = Relation(0.0, 0.15)


def relation(entry: CatalogueEntry, partner: CatalogueEntry) -> Relation:
    """The catalogue's prior of the effect of ``partner``'s price on the product's demand.

    An addition sells less when its anchor is dearer. Products of one category, or with at least
    half of their common attributes equal, take demand from each other, unless one is the other's
    anchor. Anything else has a tight prior at 0.
    """
    anchored = entry.role == "addition" and partner.role == "anchor"
    if partner.sku in entry.anchors or anchored:
        return COMPLEMENT
    if entry.sku in partner.anchors or (entry.role == "anchor" and partner.role == "addition"):
        return UNRELATED
    common = [name for name in entry.attributes if name in partner.attributes]
    equal = sum([entry.attributes[name] == partner.attributes[name] for name in common])
    alike = bool(common) and equal >= ALIKE_SHARE * len(common)
    return SUBSTITUTE if alike or entry.category == partner.category else UNRELATED


def used(mean: float, sd: float) -> float:
    """How much of an estimate is used: nothing within 2.5 sd of 0, beyond that soon all of it.

    A positive-part factor like that of W. James, C. Stein (1961), ``1 - (2.5 sd / mean)^4``:
    continuous, so that no price jumps when an estimate crosses the threshold.

    >>> used(-0.5, 0.25), round(used(-0.5, 0.1), 3)
    (0.0, -0.469)
    """
    if mean == 0.0:
        return 0.0
    return mean * max(0.0, 1.0 - (KNOWN_SDS * sd / mean) ** 4)


class Pair(NamedTuple):
    """One learned effect of a family: what the catalogue expected, and the belief now."""

    prior: Relation
    mean: float
    sd: float


def used_effects(pairs: Sequence[Pair]) -> list[float]:
    """The cross elasticities of a family that pricing uses, in the order of ``pairs``.

    Pairs of one relation have a common mean and differ around it: a family in which additions take
    demand from each other shows it in all pairs together long before it shows in one. What data
    say of a pair is its belief with the catalogue's prior divided out. The common mean is used as
    far as it is known (`used`); each pair is drawn from its data towards it. Without data, or
    without effects, all are 0.

    Notes
    -----
    The variance between pairs is the method of moments of R. DerSimonian, N. Laird (1986), at
    least that of half the common mean, at most the catalogue's.
    """
    found = [0.0] * len(pairs)
    for prior in (COMPLEMENT, SUBSTITUTE, UNRELATED):
        places = [index for index, pair in enumerate(pairs) if pair.prior == prior]
        evidence = [_evidence(pairs[index]) for index in places]
        shared = _shared([one for one in evidence if one is not None])
        # what a whole relation has in common is no larger than the catalogue's prior thinks likely
        kept = _second_moment(prior) / (_second_moment(prior) + shared.variance)
        common = used(kept * shared.mean, math.sqrt(kept * shared.variance))
        between = min(max(shared.between, (SPREAD_SHARE * common) ** 2), prior.sd**2)
        for index, one in zip(places, evidence, strict=True):
            found[index] = common
            if one is not None:
                mean, variance = one
                found[index] += between / (between + variance) * (mean - common)
    return found


def _second_moment(found: Relation) -> float:
    return found.mean**2 + found.sd**2


def _evidence(pair: Pair) -> tuple[float, float] | None:
    """Mean and variance of what data say of a pair; None where they say nothing."""
    before, now = pair.prior.sd**-2, pair.sd**-2
    precision = now - before
    if precision < EVIDENCE_SHARE_MIN * before:
        return None
    return (pair.mean * now - pair.prior.mean * before) / precision, 1.0 / precision


class _Shared(NamedTuple):
    """What the pairs of one relation have in common, and the variance between them."""

    mean: float
    variance: float
    between: float


def _shared(evidence: list[tuple[float, float]]) -> _Shared:
    """Mean of pairs that differ among themselves; (0, 1) without any."""
    if not evidence:
        return _Shared(0.0, 1.0, 0.0)
    mean, total = _weighted_mean(evidence, 0.0)
    weights = [1.0 / variance for _, variance in evidence]
    spread = math.fsum(w * (m - mean) ** 2 for w, (m, _) in zip(weights, evidence, strict=True))
    scale = total - math.fsum(w * w for w in weights) / total
    excess = spread - (len(evidence) - 1)
    between = max(excess / scale, 0.0) if len(evidence) > 1 else 0.0
    mean, total = _weighted_mean(evidence, between)
    return _Shared(mean, 1.0 / total, between)


def _weighted_mean(evidence: list[tuple[float, float]], between: float) -> tuple[float, float]:
    weights = [1.0 / (variance + between) for _, variance in evidence]
    total = math.fsum(weights)
    return math.fsum(w * m for w, (m, _) in zip(weights, evidence, strict=True)) / total, total
