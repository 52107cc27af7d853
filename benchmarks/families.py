"""The joint search of a family against brute force, its time at 50 products, and the bouquets.

Brute force puts every price on an even grid (81 points each for two products, 33 for three, 17,
11 and 8 for four, five and six) and climbs from the best 30 cells that are apart (L-BFGS-B). The
families are drawn so that their profit has several peaks: rivals' thresholds, stocks, cross
elasticities up to 0.6 either way; half of those up to four products sell to budgets instead.

    python -m benchmarks.families [--families 200] [--seeds 1 2 3]
"""

import argparse
import math
import time
from typing import Any

import numpy as np
from scipy.optimize import minimize

from benchmarks.harness import machine, percentiles_ms, write_result
from models.family.family_bound import bounded
from models.family.family_demand import BudgetGroup, Budgets, gradient, profits
from models.family.family_pricing import Family, climbed, family_of, joint_optimum
from models.family.family_profit import Floats, Member

GRID_POINTS = {2: 81, 3: 33, 4: 17, 5: 11, 6: 8}
CELLS_CLIMBED = 30
CHUNK = 20_000
PARTNERS = 8  # of each product in a family of 50: as many as the engine keeps
LARGE = 50


def random_member(rng: np.random.Generator) -> Member:
    """A product whose profit has kinks: a rival's threshold, and a stock in half of the cases."""
    per_day, days = float(np.exp(rng.uniform(math.log(0.5), math.log(30.0)))), 7.0
    stocked = rng.random() < 0.5
    return Member(
        weight=float(np.rint(np.exp(rng.uniform(math.log(800.0), math.log(8000.0))))),
        demand_per_day=per_day,
        elasticity=rng.uniform(-3.5, -1.3),
        unit_cost=rng.uniform(0.3, 0.75),
        return_cost=0.08,
        kept_share=0.82,
        return_min=0.0,
        return_max=0.9,
        return_intercept=rng.uniform(-3.0, -1.0),
        return_log=rng.uniform(-1.0, 2.0),
        ln_price=rng.uniform(-0.2, 0.2),
        low=math.log(0.55),
        high=math.log(2.0),
        rival_omega=rng.uniform(0.0, 6.0) if rng.random() < 0.7 else 0.0,
        rival_threshold=rng.uniform(-0.3, 0.4),
        horizon_days=days,
        stock=math.ceil(per_day * days * rng.uniform(0.2, 3.0)) if stocked else math.inf,
        demand_volatility=0.3,
        overage=rng.uniform(0.0, 0.1),
    )


def random_family(seed: int, members_max: int = 6) -> Family:
    """A family of two to ``members_max`` products, with elasticities or with budgets."""
    rng = np.random.default_rng([seed, 5])
    n = int(rng.integers(2, members_max + 1))
    members = [random_member(rng) for _ in range(n)]
    if n <= 4 and rng.random() < 0.5:
        count = int(rng.integers(2, 5))
        budget = np.sort(np.exp(rng.uniform(math.log(800.0), math.log(8000.0), count)))
        share, sd = rng.dirichlet(np.ones(count)), rng.uniform(0.03, 0.2, count)
        groups = tuple(BudgetGroup(*one) for one in zip(budget, share, sd, strict=True))
        return family_of(members, budgets=Budgets(groups, customers_per_day=30.0))
    cross = rng.uniform(-0.6, 0.6, (n, n))
    np.fill_diagonal(cross, 0.0)
    return family_of(members, cross)


def large_family(seed: int) -> Family:
    """A family of 50, each product moved by eight partners."""
    rng = np.random.default_rng([seed, 50])
    members = [random_member(rng) for _ in range(LARGE)]
    cross = np.zeros((LARGE, LARGE))
    for row in range(LARGE):
        partners = rng.choice(np.delete(np.arange(LARGE), row), PARTNERS, replace=False)
        cross[row, partners] = rng.uniform(-0.24, 0.24, PARTNERS)
    return family_of(members, cross)


def brute_best(family: Family) -> tuple[float, Floats]:
    """The best profit on the grid or climbed from it, minor units a day, and its log prices."""
    columns, demand = family.columns, family.demand
    low, high = family.ladders.low, family.ladders.high
    points = GRID_POINTS[len(low)]
    axes = [np.linspace(a, b, points) for a, b in zip(low, high, strict=True)]
    x = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(low))
    chunks = np.array_split(x, max(1, len(x) // CHUNK))
    found = np.concatenate([profits(columns, demand, chunk) for chunk in chunks])
    order = np.argsort(-found, kind="stable")
    best, at = float(found[order[0]]), x[order[0]]
    apart = 1.5 * float((high - low).max()) / (points - 1)
    starts: list[Floats] = []
    for index in order[:5000]:
        if all(float(np.abs(x[index] - other).max()) > apart for other in starts):
            starts.append(x[index])
        if len(starts) >= CELLS_CLIMBED:
            break
    for start in starts:
        end = minimize(
            lambda y: -profits(columns, demand, y),
            start,
            jac=lambda y: -gradient(columns, demand, y),
            bounds=list(zip(low, high, strict=True)),
            method="L-BFGS-B",
        )
        if -float(end.fun) > best:
            best, at = -float(end.fun), end.x
    return best, at


def brute_force(family: Family) -> float:
    """The best profit that brute force finds, minor units a day."""
    return brute_best(family)[0]


def shortfalls(seed: int, families: int) -> dict[str, Any]:
    """How far the joint search falls short of brute force, over random families."""
    found, alone, peaks = [], [], 0
    for number in range(families):
        family = random_family(1000 * seed + number)
        joint, best = joint_optimum(family), brute_force(family)
        found.append((best - joint.profit_per_day_minor) / abs(best))
        apart = climbed(family, family.ladders.fit(joint.alone))
        local = float(profits(family.columns, family.demand, apart))
        alone.append((best - local) / abs(best))
        peaks += alone[-1] > 0.001
    return {
        "seed": seed,
        "families": families,
        "worst": max(found),
        "p50": float(np.quantile(found, 0.5)),
        "p99": float(np.quantile(found, 0.99)),
        "above_half_a_percent": int((np.array(found) > 0.005).sum()),
        "newton_from_prices_alone": {"worst": max(alone), "above_a_thousandth": peaks},
    }


def large(seed: int, families: int) -> dict[str, Any]:
    """Time of families of 50, after warm-up, and how good the answers are known to be."""
    joint_optimum(large_family(seed))
    seconds, gaps = [], []
    for number in range(families):
        family = large_family(1000 * seed + number)
        began = time.perf_counter()
        joint = joint_optimum(family)
        seconds.append(time.perf_counter() - began)
        gaps.append(bounded(family, joint.ln_price, boxes_max=1).gap_ratio)
    return {"seed": seed, **percentiles_ms(seconds), "root_gap_p50": float(np.median(gaps))}


def proofs(seed: int, families: int) -> dict[str, Any]:
    """How often branch and bound closes to half a percent with 20,000 boxes."""
    closed, boxes, began = 0, [], time.perf_counter()
    for number in range(families):
        family = random_family(1000 * seed + number)
        found = bounded(family, joint_optimum(family).ln_price)
        closed += found.gap_ratio <= 0.005
        boxes.append(found.boxes)
    took = round(time.perf_counter() - began, 1)
    middle = float(np.median(boxes))
    return {"families": families, "closed": closed, "boxes_p50": middle, "seconds": took}


def bouquets() -> dict[str, Any]:
    """The florist of the docs: three bouquets, customers with 15, 25 and 40 euros to spend."""
    plain = Member(
        weight=1500.0, demand_per_day=1.0, elasticity=-2.0, unit_cost=0.4, return_cost=0.0,
        kept_share=1 / 1.07, return_min=0.0, return_max=0.0, return_intercept=0.0, return_log=0.0,
        ln_price=0.0, low=math.log(0.5), high=math.log(1.6),
    )  # fmt: skip
    members = [
        plain,
        plain._replace(weight=2200.0, unit_cost=0.45),
        plain._replace(weight=3000.0, unit_cost=0.5),
    ]
    groups = tuple(
        BudgetGroup(budget, share, 0.05)
        for budget, share in ((1500.0, 0.5), (2500.0, 0.3), (4000.0, 0.2))
    )
    family = family_of(members, budgets=Budgets(groups, customers_per_day=40.0))
    joint = joint_optimum(family)
    best, at = brute_best(family)
    proved = bounded(family, joint.ln_price)
    reference = np.array([member.weight for member in members])
    local = climbed(family, family.ladders.fit(joint.alone))

    def minor(x: Floats) -> list[int]:
        return [round(price) for price in (reference * np.exp(x)).tolist()]

    def value(x: Floats) -> float:
        return round(float(profits(family.columns, family.demand, x)), 1)

    return {
        "prices_minor": minor(joint.ln_price),
        "profit_per_day_minor": round(joint.profit_per_day_minor, 1),
        "units_per_day": np.exp(family.demand.log_demand(joint.ln_price)).round(2).tolist(),
        "brute_force_prices_minor": minor(at),
        "shortfall": (best - joint.profit_per_day_minor) / best,
        "gap_ratio": proved.gap_ratio,
        "at_list_prices": {"prices_minor": minor(np.zeros(3)), "profit": value(np.zeros(3))},
        "each_alone": {"prices_minor": minor(joint.alone), "profit": value(joint.alone)},
        "newton_from_there": {"prices_minor": minor(local), "profit": value(local)},
        "peaks": _peaks(family, reference),
    }


def _peaks(family: Family, reference: Floats) -> list[dict[str, Any]]:
    """The ends of climbs from every way to spread the products over the budgets, best first."""
    ends: dict[tuple[int, ...], float] = {}
    for start in family.demand.starts():
        x = climbed(family, family.ladders.fit(start))
        prices = tuple(round(price, -1) for price in (reference * np.exp(x)).astype(int).tolist())
        ends[prices] = max(
            ends.get(prices, -math.inf), float(profits(family.columns, family.demand, x))
        )
    ranked = sorted(ends.items(), key=lambda one: -one[1])
    return [{"prices_minor": list(at), "profit": round(value, 1)} for at, value in ranked[:6]]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", type=int, default=200, help="against brute force, per seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    chosen = parser.parse_args()
    write_result(
        "families",
        {
            "grid_points": GRID_POINTS,
            "against_brute_force": [shortfalls(seed, chosen.families) for seed in chosen.seeds],
            "families_of_50": [large(seed, 100) for seed in (1, 2, 3)],
            "branch_and_bound": proofs(1, 40),
            "bouquets": bouquets(),
            "machine": machine("numpy", "scipy"),
        },
    )


if __name__ == "__main__":
    main()
