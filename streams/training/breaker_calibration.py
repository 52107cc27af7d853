"""Thresholds of the breakers from what the decisions of a tape looked like.

A threshold is an upper confidence bound of a high quantile of the evidence
(`models.breaker.breaker.Evidence`) of all decisions: an order statistic, so that nothing is assumed
of its distribution (David and Nagaraja 2003, Order Statistics, 7.1). Where a price stands in its
band is the product's more than the decision's, so the band counts products, each by its outermost
prices. A threshold is never below the smallest that makes sense. The categories of each cluster of
the prior (each category where it has no clusters) get their own where they have decisions enough.
The answer is TOML for a policy: its hash is the policy's, so thresholds are versioned with it.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from scipy.stats import binom

from models.breaker.breaker import Evidence
from models.prior import clusters
from schemas.errors import InputError
from schemas.learned import DemandPrior
from schemas.policy import BreakerPolicy
from schemas.scopes import parse_policy
from schemas.state import CatalogueEntry
from streams.tape.tape_selection import SourceSpec
from streams.training.training import TapeFold

DECISIONS_MIN = 1000  # of all, and of a group
CONFIDENCE = 0.95
FLOORS = {
    "scaled_delta_max": 0.5,
    "vega_at_risk_share_max": 0.2,
    "fast_sales_ratio": 1.5,
    "band_high_ratio": 1.2,
}
BAND_LOW_MAX = 0.8
FAST_SALES_ORDERS_MIN = BreakerPolicy().fast_sales_orders_min  # a ratio of few orders trips nothing


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds by group of categories ("all" first), and the policy that sets them."""

    decisions: int
    quantile: float
    tape_sha256: str
    thresholds: dict[str, dict[str, float]]
    categories: dict[str, tuple[str, ...]]
    policy: str


class Evidences:
    """Collects what the breaker looked at, by category; a partition's ``on_assessed``."""

    def __init__(self) -> None:
        self.found: dict[str, list[Evidence]] = defaultdict(list)
        self.ratios: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
        self.products: dict[str, CatalogueEntry] = {}

    def __call__(self, entry: CatalogueEntry, evidence: Any) -> None:
        self.found[entry.category].append(evidence)
        self.products[entry.sku] = entry
        if evidence.finite:
            ratio = evidence.price_minor / evidence.reference_price_minor
            low, high = self.ratios[entry.category].get(entry.sku, (ratio, ratio))
            self.ratios[entry.category][entry.sku] = (min(low, ratio), max(high, ratio))

    def thresholds(self, categories: Iterable[str], quantile: float) -> dict[str, float]:
        """The thresholds by the decisions and products of these categories."""
        names = list(categories)
        return thresholds_of(
            [one for name in names for one in self.found[name]],
            [pair for name in names for pair in self.ratios[name].values()],
            quantile,
        )


def calibrated(
    settings: Any,
    spec: SourceSpec,
    quantile: float,
    progress: Callable[[float], None] | None = None,
) -> Calibration:
    """Fold a tape and set thresholds by its decisions.

    Raises
    ------
    InputError : the tape is not whole, or has fewer than `decisions_min` decisions
    """
    seen = Evidences()
    fold = TapeFold(settings, spec, on_assessed=seen)
    read = fold.read(progress)
    prior = fold.engines[0].state.prior
    return calibration(seen, prior, quantile, read.tape_sha256, spec.source)


def calibration(
    seen: Evidences, prior: DemandPrior, quantile: float, tape_sha256: str, where: str
) -> Calibration:
    """Thresholds from collected evidence."""
    count = sum(map(len, seen.found.values()))
    least = decisions_min(quantile)
    if count < least:
        raise InputError(
            "too_few_decisions",
            f"the tape has {count} decisions; expected {least} or more.",
            where=where,
            fix="Calibrate on a longer tape, or for a lower --quantile.",
        )
    thresholds = {"all": seen.thresholds(sorted(seen.found), quantile)}
    categories: dict[str, tuple[str, ...]] = {}
    for name, members in _groups(seen, prior).items():
        if sum(len(seen.found[category]) for category in members) >= least:
            thresholds[name], categories[name] = seen.thresholds(members, quantile), members
    head = [
        f"# calibrated on tape {tape_sha256}",
        f"# {count} decisions, quantile {quantile:g}",
    ]
    text = "\n".join([*head, *_toml(thresholds, categories)]) + "\n"
    parse_policy(text)  # what is written can be published
    return Calibration(
        decisions=count, quantile=quantile, tape_sha256=tape_sha256,
        thresholds=thresholds, categories=categories, policy=text,
    )  # fmt: skip


def decisions_min(quantile: float) -> int:
    """How many decisions can tell a quantile with confidence.

    >>> decisions_min(0.9), decisions_min(0.999)
    (1000, 2995)
    """
    return max(DECISIONS_MIN, math.ceil(math.log(1.0 - CONFIDENCE) / math.log(quantile)))


def thresholds_of(
    found: Iterable[Evidence], ratios: Sequence[tuple[float, float]], quantile: float
) -> dict[str, float]:
    """The thresholds that let so large a share of decisions (the band: of products) pass, each by
    itself. One that too few stand behind is not set.

    Parameters
    ----------
    ratios : each product's lowest and highest price over its reference price
    """
    sound = [one for one in found if one.finite]
    upper = {
        "scaled_delta_max": [abs(one.scaled_delta) for one in sound if not _guarded(one)],
        "vega_at_risk_share_max": [one.vega_at_risk_share for one in sound],
        "fast_sales_ratio": [
            one.sales_ratio
            for one in sound
            if one.sales_ratio is not None and one.epoch_orders >= FAST_SALES_ORDERS_MIN
        ],
        "band_high_ratio": [high for _, high in ratios],
    }
    limits = {}
    for name, values in upper.items():
        rank = rank_of(len(values), quantile)
        if rank is not None:
            limits[name] = _up(max(sorted(values)[rank - 1], FLOORS[name]))
    rank = rank_of(len(ratios), quantile)
    if rank is not None:
        lows = sorted(low for low, _ in ratios)
        limits["band_low_ratio"] = _down(min(lows[-rank], BAND_LOW_MAX))
    return limits


def _guarded(one: Evidence) -> bool:
    return one.guard_above if one.scaled_delta > 0.0 else one.guard_below


def rank_of(count: int, share: float) -> int | None:
    """The rank, from 1, of the value that bounds a quantile from above with confidence.

    None where even the largest of so few does not.

    >>> rank_of(1000, 0.9), rank_of(2994, 0.999), rank_of(2995, 0.999)
    (916, None, 2995)
    """
    rank = int(binom.ppf(CONFIDENCE, count, share)) + 1
    return rank if rank <= count else None


def _up(value: float) -> float:
    return min(math.ceil(value * 1000.0) / 1000.0, 100.0)


def _down(value: float) -> float:
    return math.floor(value * 1000.0) / 1000.0


def _groups(seen: Evidences, prior: DemandPrior) -> dict[str, tuple[str, ...]]:
    """Categories by the cluster that most of their products are in; each alone without clusters."""
    if prior.clusters is None:
        return {name: (name,) for name in sorted(seen.found)}
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    for sku in sorted(seen.products):
        entry = seen.products[sku]
        votes[entry.category][clusters.assign(prior, entry.category, entry.attributes) or 0] += 1
    found: dict[str, list[str]] = defaultdict(list)
    for category in sorted(votes):
        found[f"cluster {votes[category].most_common(1)[0][0]}"].append(category)
    return {name: tuple(found[name]) for name in sorted(found)}


def _toml(
    thresholds: dict[str, dict[str, float]], categories: dict[str, tuple[str, ...]]
) -> list[str]:
    lines = ["[breaker]", *_lines(thresholds["all"])]
    for name, members in categories.items():
        shown = ", ".join(_quoted(member) for member in members)
        lines += ["", "[[scopes]]", f"select = {{categories = [{shown}]}}", "[scopes.breaker]"]
        lines += _lines(thresholds[name])
    return lines


def _lines(limits: dict[str, float]) -> list[str]:
    return [f"{name} = {value:.3f}" for name, value in limits.items()]


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
