"""Return rates as a function of price, from what came back of what was sold, as draws.

    logit R_i(P) = m + d_i + (s + s_i) ln(P / P_ref),  d_i ~ N(0, 0.5^2),  s_i ~ N(0, 0.5^2)

Level m and slope s are the catalogue's, d_i and s_i a product's own. Posterior mode by Newton and
a normal around it (Laplace); s_i keeps its prior, since one product rarely tells a slope. Days so
late that units may still come back are left out.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from models.backtest.columns import Floats, Integers, Outcomes
from models.backtest.hindsight import by_product

RETURN_DAYS = 30  # after so many days nearly all that comes back has come
LEVEL_MEAN, LEVEL_SD = -2.0, 1.5
SLOPE_SD = 1.0
PRODUCT_SD = 0.5
OWN_SLOPE_SD = 0.5
NEWTON_STEPS = 30
STEP_MAX = 1.0  # of the logit: far from the mode Newton would jump


class ReturnDraws(NamedTuple):
    """Draws [draw, product] of the log odds at the reference price, and of their slope."""

    level: Floats
    slope: Floats


def draw_returns(
    outcomes: Outcomes, reference_minor: Floats, draws: int, rng: np.random.Generator
) -> ReturnDraws:
    """Fit the model to what was sold up to 30 days before the last day, and draw from it.

    Parameters
    ----------
    reference_minor : reference price of each product [product], minor units; NaN: it has none,
        and gets the catalogue's level
    """
    products = len(reference_minor)
    last = outcomes.day.max(initial=0)
    ripe = (outcomes.day <= last - RETURN_DAYS) & (outcomes.units > 0.0)
    ripe &= (outcomes.revenue_minor > 0.0) & ~np.isnan(reference_minor[outcomes.product])
    product, sold = outcomes.product[ripe], outcomes.units[ripe]
    back = np.minimum(outcomes.returned_units[ripe], sold)
    x = np.log(outcomes.revenue_minor[ripe] / sold / reference_minor[product])
    common, own = np.array([LEVEL_MEAN, 0.0]), np.zeros(products)
    for _ in range(NEWTON_STEPS):
        gradient, gradient_own, schur, cross, own_information = _system(
            common, own, product, x, sold, back
        )
        step = np.linalg.solve(schur, gradient - cross.T @ (gradient_own / own_information))
        step_own = (gradient_own - cross @ step) / own_information
        scale = STEP_MAX / max(STEP_MAX, float(np.abs(step).max()))
        common, own = common + scale * step, own + scale * step_own
    _, _, schur, cross, own_information = _system(common, own, product, x, sold, back)
    away = np.linalg.solve(np.linalg.cholesky(schur).T, rng.standard_normal((2, draws))).T
    noise = rng.standard_normal((draws, products)) / np.sqrt(own_information)
    level = (common[0] + away[:, :1]) + own - (away @ cross.T) / own_information + noise
    slope = common[1] + away[:, 1:] + OWN_SLOPE_SD * rng.standard_normal((draws, products))
    return ReturnDraws(np.asarray(level), np.asarray(slope))


def _system(
    common: Floats, own: Floats, product: Integers, x: Floats, sold: Floats, back: Floats
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Gradient and information of the log posterior.

    Returns the gradients [2] and [product], the information of the common part with the products
    eliminated [2, 2], the cross information [product, 2] and the products' own [product].
    """
    products = len(own)
    rate = special.expit(common[0] + own[product] + common[1] * x)
    left, weight = back - sold * rate, sold * rate * (1.0 - rate)
    prior = np.array([1.0 / LEVEL_SD**2, 1.0 / SLOPE_SD**2])
    deviation = common - np.array([LEVEL_MEAN, 0.0])
    gradient = np.array([left.sum(), left @ x]) - prior * deviation
    gradient_own = by_product(product, left, products) - own / PRODUCT_SD**2
    own_information = by_product(product, weight, products) + 1.0 / PRODUCT_SD**2
    cross = np.stack([by_product(product, part, products) for part in (weight, weight * x)], axis=1)
    between = float(weight @ x)
    information = np.array([[weight.sum(), between], [between, weight @ (x * x)]]) + np.diag(prior)
    schur = information - cross.T @ (cross / own_information[:, None])
    return gradient, gradient_own, schur, cross, own_information
