"""A small simulated shop for the learning models' tests: seeded, in plain Python."""

import math
import random
from typing import NamedTuple

from models.demand.demand import learn
from models.demand.epoch import DAY_MS, Features, Observation
from schemas.learned import DemandPosterior

START = DemandPosterior(
    mean=(0.7, -2.6, 0.3, 0.0),
    cov=(0.64, 0.0, 0.0, 0.0, 0.36, 0.0, 0.0, 0.04, 0.0, 0.64),
    epochs=0,
    orders=0,
    updated_ms=0,
)


class Truth(NamedTuple):
    """True coefficients of one product."""

    level: float
    elasticity: float
    cross_price_elasticity: float


def draw_truth(rng: random.Random) -> Truth:
    """Draw a product from the distribution that `START` believes in."""
    return Truth(rng.gauss(0.7, 0.8), rng.gauss(-2.6, 0.6), rng.gauss(0.3, 0.2))


def draw_orders(rng: random.Random, mean: float, dispersion: float) -> int:
    """Negative binomial count: Poisson with a gamma rate."""
    rate = mean * rng.gammavariate(1.0 / dispersion, dispersion) if dispersion > 0.0 else mean
    if rate > 500.0:
        return max(round(rng.gauss(rate, math.sqrt(rate))), 0)
    count, product, limit = 0, rng.random(), math.exp(-rate)
    while product > limit:
        count += 1
        product *= rng.random()
    return count


def exogenous_epochs(
    rng: random.Random, truth: Truth, epochs: int, days: float = 1.0
) -> list[Observation]:
    """Epochs whose prices were set by chance (sd 0.2 in logs)."""
    seen = []
    for _ in range(epochs):
        price, rival = rng.gauss(0.0, 0.2), rng.gauss(0.0, 0.1)
        log_rate = truth.level + truth.elasticity * price + truth.cross_price_elasticity * rival
        orders = draw_orders(rng, math.exp(log_rate) * days, 0.2)
        seen.append(Observation(Features(price, rival, 0.0), orders, days, orders, orders))
    return seen


def endogenous_epochs(
    rng: random.Random, truth: Truth, epochs: int, logged: bool
) -> list[Observation]:
    """Epochs whose prices follow demand that the model can't see, plus an exogenous part.

    With ``logged`` the exogenous part is known, so the rest of the price move is the control.
    """
    seen, shock = [], 0.0
    for _ in range(epochs):
        shock = 0.8 * shock + 0.6 * rng.gauss(0.0, 0.2)
        exogenous = rng.gauss(0.0, 0.1)
        price = shock + exogenous
        rival = rng.gauss(0.0, 0.1)
        log_rate = (
            truth.level + truth.elasticity * price + truth.cross_price_elasticity * rival + shock
        )
        orders = draw_orders(rng, math.exp(log_rate), 0.1)
        control = price - exogenous if logged else 0.0
        seen.append(Observation(Features(price, rival, control), orders, 1.0))
    return seen


def learn_all(posterior: DemandPosterior, epochs: list[Observation]) -> DemandPosterior:
    """Learn epochs one after the other, each closing when its exposure has passed."""
    now_ms = posterior.updated_ms
    for seen in epochs:
        now_ms += round(seen.exposure_days * DAY_MS)
        posterior = learn(posterior, seen, now_ms)
    return posterior
