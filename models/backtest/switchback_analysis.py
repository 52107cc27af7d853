"""What came of a switchback test: its effect, from what was earned while it ran.

The equations stand in `models.backtest.switchback`. The residual variance of a pair is that of its
blocks about the means under either order; degrees of freedom over pairs by Satterthwaite, with the
squares of estimated variances brought down by what estimating adds to them.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from models.backtest.columns import Integers, Outcomes, Products
from models.backtest.switchback import CANDIDATE
from models.backtest.switchback_units import (
    block_means,
    pair_differences,
    profit_by_day,
    unknown_profit,
)
from schemas.backtest import Estimate, SwitchbackDesign


def analyse(
    tested: SwitchbackDesign,
    products: Products,
    outcomes: Outcomes,
    *,
    first_day: int,
    candidate: str = CANDIDATE,
) -> Estimate:
    """What the candidate earned more a day, by a test that ran from ``first_day`` on.

    Parameters
    ----------
    tested : a design with its schedule
    outcomes : what was earned, with the test's days in it; returns should be in
    first_day : event day of the first block
    candidate : its name in the schedule

    Returns
    -------
    Of all units together, minor units a day, with an interval of 1 - ``alpha``. Products whose
    profit on those days is not known are left out.

    Raises
    ------
    ValueError : the design has no schedule
    """
    if not tested.schedule:
        raise ValueError(f"the design has no schedule: {tested.refused}; expected one that fits")
    days = (first_day, first_day + tested.blocks * int(tested.block_days))
    names = [cell.unit for cell in tested.schedule if cell.block == 0]
    has = np.array([cell.policy == candidate for cell in tested.schedule])
    first = np.where(has.reshape(len(names), tested.blocks), 1.0, -1.0)[0::2]  # [pair, block]
    unit = _unit_of(tested, names, products)
    unit[unknown_profit(len(unit), outcomes, days)] = -1
    difference = pair_differences(profit_by_day(outcomes, unit, len(names), days))
    washout = int(tested.washout_days)
    means = block_means(difference, washout, int(tested.block_days) - washout)
    effect = 2.0 * (first * means).mean(axis=1)
    middle = means.mean(axis=1, keepdims=True)
    residual = means - middle - 0.5 * first * effect[:, None]
    variance = 4.0 / tested.blocks * (residual**2).sum(axis=1) / (tested.blocks - 2)
    total = float(variance.sum())
    square = float(variance @ variance) * (tested.blocks - 2) / tested.blocks  # of true variances
    freedom = total**2 * (tested.blocks - 2) / square if square > 0.0 else math.inf
    mean, sd = float(effect.sum()), math.sqrt(total)
    half = float(special.stdtrit(freedom, 1.0 - 0.5 * tested.alpha)) * sd
    return Estimate(
        currency=tested.currency,
        mean_minor=mean,
        sd_minor=sd,
        low_minor=mean - half,
        high_minor=mean + half,
        level=1.0 - tested.alpha,
    )


def _unit_of(tested: SwitchbackDesign, names: Sequence[str], products: Products) -> Integers:
    """Each product's unit [product], -1 for none."""
    number = {
        family: place
        for place, name in enumerate(names)
        for family in tested.groups.get(name, (name,))
    }
    mine = zip(products.families, products.currencies, strict=True)
    return np.array(
        [number.get(family, -1) if one == tested.currency else -1 for family, one in mine], np.int64
    )
