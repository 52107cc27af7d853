"""The test that would prove a difference: units switch between two policies, block by block.

Units (families, never split) are paired by revenue. In every block one of a pair has the candidate
and the other the baseline, and each has both equally often, in an order drawn by a seed: days,
seasons and campaigns that move both cancel. The first days of a block, while what came before still
works, are not measured. With d the difference of a pair's mean profit a day in a block,

    effect of a pair = mean of d where the first has the candidate - mean of d where the second has
    its variance     = 4 / blocks * variance of d

and the catalogue's effect is the sum over pairs. The variance of d is history's own, over as many
consecutive blocks of the same length: autocorrelation, overdispersion and weekdays are in it. It is
planned with at its upper limit of 80 %, since the shape with the least of it is taken.

Sources: R. Browne (1995), On the use of a pilot sample for sample size determination, Statistics in
Medicine 14; I. Bojinov, D. Simchi-Levi, J. Zhao (2023), Design and analysis of switchback
experiments, Management Science 69(7). The latter randomise one unit every m periods, m the order of
the carry-over, and use what runs on over blocks by chance; here a washout is dropped always, so
that what is measured does not depend on the draw, and blocks are as long as variance asks for.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.lib.stride_tricks import sliding_window_view
from scipy import special

from models.backtest.columns import Floats, Outcomes, Products
from models.backtest.switchback_units import (
    Units,
    pair_differences,
    units_of,
)
from schemas.backtest import Estimate, ModelValue, SwitchbackCell, SwitchbackDesign

BASELINE, CANDIDATE = "baseline", "candidate"
MEASURED_DAYS = (1, 2, 3, 5, 7, 14, 21, 28)
DAYS_MAX = 84
BLOCKS_MIN = 4  # both policies twice: a variance within each pair
HISTORY_BLOCKS_MIN = 4
HISTORY_DAYS_MAX = 364
UNITS_MIN = 4
VARIANCE_SURE = 0.8  # history's variance is itself an estimate: its upper limit of that level
MEMORY_HALF_LIVES = 2.0  # a quarter of the memory is left


class CarryOver(NamedTuple):
    """How long a price works after it is gone, days; the longest of them is the washout.

    ``returns_delay`` is how long after its last day the test is analysed, when returns are in.
    """

    memory_half_life: float = 3.0
    stockpiling: float = 7.0
    rivals_follow: float = 7.0
    returns_delay: float = 30.0

    @property
    def washout_days(self) -> int:
        """Days at the start of each block that are not measured."""
        memory = MEMORY_HALF_LIVES * self.memory_half_life
        return math.ceil(max(memory, self.stockpiling, self.rivals_follow))


class Shape(NamedTuple):
    """Blocks of a test, what its estimate's sd would be, and the degrees of freedom of that."""

    measured: int
    blocks: int
    length: int
    sd: float
    freedom: float

    @property
    def days(self) -> int:
        """Of the whole test."""
        return self.blocks * self.length


def per_day(values: Sequence[ModelValue], days: float) -> tuple[Estimate, ...]:
    """The models' differences a day, from those of ``days``."""
    return tuple(
        replace(
            value.difference,
            mean_minor=value.difference.mean_minor / days,
            sd_minor=value.difference.sd_minor / days,
            low_minor=value.difference.low_minor / days,
            high_minor=value.difference.high_minor / days,
        )
        for value in values
    )


def design(
    products: Products,
    outcomes: Outcomes,
    effects: Sequence[Estimate],
    *,
    seed: int,
    days_max: int = DAYS_MAX,
    alpha: float = 0.05,
    power: float = 0.8,
    carry_over: CarryOver | None = None,
    leaking: Sequence[str] = (),
    names: tuple[str, str] = (BASELINE, CANDIDATE),
) -> tuple[SwitchbackDesign, ...]:
    """Design a test of candidate against baseline for each currency.

    Parameters
    ----------
    effects : the differences to be found, minor units a day, at most one a currency; without one
        the design says what it could find in ``days_max``
    days_max : how long a test may last
    alpha, power : of a two-sided test
    leaking : categories whose families are one unit
    names : what baseline and candidate are called in the schedule

    Returns
    -------
    By currency in alphabetical order: the shortest test that finds the effect, or one that is
    refused and says what would do.
    """
    wanted = {effect.currency: effect for effect in effects}
    carried = carry_over or CarryOver()
    found = []
    for currency in sorted(set(products.currencies)):
        days = _history(products, outcomes, currency)
        units = units_of(products, outcomes, currency, leaking, days)
        asked = _Asked(days_max, alpha, power, carried, wanted.get(currency))
        found.append(_designed(currency, units, asked, seed, names))
    return tuple(found)


class _Asked(NamedTuple):
    days_max: int
    alpha: float
    power: float
    carried: CarryOver
    effect: Estimate | None


def _history(products: Products, outcomes: Outcomes, currency: str) -> tuple[int, int]:
    """Whole event days of a currency's last year; the tape's last day may go on."""
    mine = np.array([one == currency for one in products.currencies], np.bool_)
    day = outcomes.day[mine[outcomes.product]]
    if not len(day):
        return 0, 0
    end = int(day.max())
    return max(int(day.min()), end - HISTORY_DAYS_MAX), end


def _designed(
    currency: str, units: Units, asked: _Asked, seed: int, names: tuple[str, str]
) -> SwitchbackDesign:
    washout = asked.carried.washout_days
    shapes = _shapes(units, washout, asked.days_max)
    if not shapes:
        return _refused(currency, units, asked, _too_little(units, asked))
    factors = [_factor(shape, asked) * shape.sd for shape in shapes]
    most = min(zip(factors, shapes, strict=True), key=lambda found: (found[0], found[1].days))
    effect = most[0] if asked.effect is None else abs(asked.effect.mean_minor)
    enough = [
        (shape.days, detectable, shape)
        for detectable, shape in zip(factors, shapes, strict=True)
        if detectable <= effect
    ]
    detectable, shape = most if not enough else min(enough)[1:]
    reason = None
    if not enough:
        reason = _what_would_do(asked, effect, most[1], most[0])
    cells = () if reason else schedule(units.names, shape.blocks, seed, names)
    return SwitchbackDesign(
        currency=currency,
        unit_kind=units.kind,
        units=len(units.names),
        block_days=float(shape.length),
        washout_days=float(washout),
        blocks=shape.blocks,
        days=float(shape.days),
        days_max=float(asked.days_max),
        alpha=asked.alpha,
        power=asked.power,
        effect_minor_per_day=effect,
        detectable_minor_per_day=detectable,
        sd_minor_per_day=shape.sd,
        intraclass_correlation=_intraclass(units, washout, shape.measured),
        schedule=cells,
        refused=reason,
        notes=_notes(units, asked),
        groups={
            name: tuple(members)
            for name, members in zip(units.names, units.members, strict=True)
            if members != [name]
        },
    )


# -- how sure a test would be


def _shapes(units: Units, washout: int, days_max: int) -> list[Shape]:
    """All tests that fit, and that history can say something of."""
    if len(units.names) < UNITS_MIN:
        return []
    difference = pair_differences(units.profit)
    found = []
    for measured in MEASURED_DAYS:
        length = washout + measured
        known = difference.shape[1] // length
        if known < HISTORY_BLOCKS_MIN:
            continue
        for blocks in range(BLOCKS_MIN, days_max // length + 1, 2):
            variance = _variance(difference, washout, measured, min(blocks, known))
            variance *= 4.0 / blocks
            total, square = float(variance.sum()), float(variance @ variance)
            if total > 0.0:
                pairs = total**2 / square  # as many equal ones
                doubt = pairs * (known - 1) / special.chdtri(pairs * (known - 1), VARIANCE_SURE)
                found.append(
                    Shape(measured, blocks, length, math.sqrt(total * doubt), pairs * (blocks - 2))
                )
    return found


def _variance(difference: Floats, washout: int, measured: int, blocks: int) -> Floats:
    """Variance of d over so many consecutive blocks, in the mean over where they begin [pair]."""
    length = washout + measured
    means = sliding_window_view(difference, measured, axis=1).mean(axis=2)
    begins = np.arange(difference.shape[1] - blocks * length + 1)
    d = means[:, begins[:, None] + washout + length * np.arange(blocks)]
    return np.asarray(d.var(axis=2, ddof=1).mean(axis=1))


def _factor(shape: Shape, asked: _Asked) -> float:
    """The effect that is found with the power asked for, in sd of its estimate."""
    critical = special.stdtrit(shape.freedom, 1.0 - 0.5 * asked.alpha)
    return float(critical + special.stdtrit(shape.freedom, asked.power))


def _intraclass(units: Units, washout: int, measured: int) -> float | None:
    """How alike days of one block are: the part of d's variance that is common to them."""
    if measured < 2:
        return None
    difference = pair_differences(units.profit)
    length = washout + measured
    blocks = difference.shape[1] // length
    days = difference[:, : blocks * length].reshape(len(difference), blocks, length)[..., washout:]
    within = float(days.var(axis=2, ddof=1).mean(axis=1).sum())
    between = float(days.mean(axis=2).var(axis=1, ddof=1).sum()) - within / measured
    total = max(between, 0.0) + within
    return max(between, 0.0) / total if total > 0.0 else None


# -- words


def _too_little(units: Units, asked: _Asked) -> str:
    if len(units.names) < UNITS_MIN:
        return f"{len(units.names)} units sold anything whose profit is known; {UNITS_MIN} needed"
    shortest = asked.carried.washout_days + MEASURED_DAYS[0]
    if asked.days_max < BLOCKS_MIN * shortest:
        return (
            f"{asked.days_max} days are too few: {BLOCKS_MIN} blocks of {shortest} days, of which "
            f"{asked.carried.washout_days} wash out, are the least"
        )
    return (
        f"history has {units.profit.shape[1]} whole days; {HISTORY_BLOCKS_MIN * shortest} needed "
        "to know its variance"
    )


def _what_would_do(asked: _Asked, effect: float, best: Shape, detectable: float) -> str:
    """Why no test fits, and what would: longer, more units, or a larger effect."""
    if effect == 0.0:
        return "no difference is expected, so no test can find it"
    short = detectable / effect
    days, more = best.days * short**2, short**2
    return (
        f"a test of {best.days} days finds {short:,.1f} times the expected effect or more: it "
        f"would need about {days:,.0f} days, or {more:,.1f} times as many like units, or an effect "
        f"{short:,.1f} times as large"
    )


def _notes(units: Units, asked: _Asked) -> tuple[str, ...]:
    found = [
        f"analyse it {asked.carried.returns_delay:.0f} days after its end, when returns are in"
    ]
    if units.left_out:
        found.append(f"{units.left_out} products are left out: their profit is not known")
    if asked.effect is None:
        found.append("no effect was given: this is what a test of this length can find")
    elif asked.effect.low_minor <= 0.0 <= asked.effect.high_minor:
        found.append("the expected effect may be nothing: the power is for its mean")
    return tuple(found)


def _refused(currency: str, units: Units, asked: _Asked, reason: str) -> SwitchbackDesign:
    washout = asked.carried.washout_days
    return SwitchbackDesign(
        currency=currency,
        unit_kind=units.kind,
        units=len(units.names),
        block_days=0.0,
        washout_days=float(washout),
        blocks=0,
        days=0.0,
        days_max=float(asked.days_max),
        alpha=asked.alpha,
        power=asked.power,
        effect_minor_per_day=None if asked.effect is None else abs(asked.effect.mean_minor),
        detectable_minor_per_day=None,
        sd_minor_per_day=None,
        intraclass_correlation=None,
        schedule=(),
        refused=reason,
        notes=_notes(units, asked),
    )


# -- the schedule


def schedule(
    units: Sequence[str], blocks: int, seed: int, names: tuple[str, str]
) -> tuple[SwitchbackCell, ...]:
    """Who has which policy when: each pair's order is drawn apart, half and half."""
    rng = np.random.default_rng([seed, blocks, len(units)])
    half = np.repeat([False, True], blocks // 2)
    found = []
    for pair in range(0, len(units), 2):
        first = rng.permutation(half)
        for unit, drawn in zip(units[pair : pair + 2], (first, ~first), strict=False):
            found += [
                SwitchbackCell(unit=unit, block=block, policy=names[int(has)])
                for block, has in enumerate(drawn.tolist())
            ]
    return tuple(found)
