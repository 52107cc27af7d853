"""Joint prices on learned cross effects, against prices alone and the joint oracle.

Families of one anchor and five additions (`models.simulator.family_world`) live through a year of
the shop's habit; what the fold learned of them prices each family once. Three policies share what
was learned of level and own elasticity: each product alone, jointly with the learned cross effects,
and the oracle, jointly with the truth. Profit is the true one per day.

    python -m benchmarks.cross_effects [--families 12] [--seeds 1 2 3] [--days 364]
"""

import argparse
import statistics
import time
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from benchmarks.harness import machine, write_result
from models.demand.cross_effects import effect
from models.family.family_book import used_effects
from models.family.family_pricing import family_of, joint_optimum
from models.family.family_profit import Floats
from models.fold.partition import PartitionState
from models.prior.prior import DEFAULT_PRIOR
from models.simulator.family_world import WITHOUT, FamilySettings, FamilyWorld

SD_90 = 1.645
# What training on such a shop publishes: counts vary less than the default says, and prices that
# react to demand show in a large coefficient of the control.
TRAINED_PRIOR = replace(
    DEFAULT_PRIOR,
    dispersion=0.05,
    cov=(2.25, 0.0, 0.0, 0.0, 0.64, 0.0, 0.0, 0.09, 0.0, 4.0),
)


class Learned(NamedTuple):
    """What a year taught of one family."""

    elasticity: Floats
    demand_per_day: Floats
    mean: Floats  # [n, n], the posterior means of the cross elasticities
    sd: Floats  # [n, n]
    used: Floats  # [n, n], what pricing uses


class Outcome(NamedTuple):
    """One family: true profits per day, and how its cross elasticities were learned."""

    alone: float
    joint: float
    alone_true: float
    oracle: float
    error: Floats  # [n (n - 1)]
    covered: Floats
    used: Floats


def learned(world: FamilyWorld, days: int) -> Learned:
    """Let the fold learn a family's history."""
    partition = PartitionState(0, "benchmark")
    partition.set_prior(TRAINED_PRIOR)
    world.history(partition, days)
    n = len(world.skus)
    mean, sd, kept = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
    elasticity, level = np.zeros(n), np.zeros(n)
    for i, sku in enumerate(world.skus):
        posterior, effects = partition.skus[sku].posterior, partition.members[sku].effects
        assert posterior is not None
        assert effects is not None
        elasticity[i], level[i] = posterior.mean[1], posterior.mean[0]
        for index, partner in enumerate(effects.partners):
            j = world.skus.index(partner)
            mean[i, j], sd[i, j] = effect(effects, index)
    for (sku, partner), value in used_effects(partition, "family").items():
        kept[world.skus.index(sku), world.skus.index(partner)] = value
    return Learned(elasticity, np.exp(level), mean, sd, kept)


def outcome(world: FamilyWorld, days: int) -> Outcome:
    """Price one family by each policy."""
    found = learned(world, days)
    level = np.exp(world.level)

    def profit(ln_price: Floats) -> float:
        moved = level * np.exp(world.cross @ ln_price)
        members = world.members(moved, world.elasticity, ln_price)
        none = np.zeros_like(world.cross)
        fixed = [
            member._replace(low=x, high=x) for member, x in zip(members, ln_price, strict=True)
        ]
        return joint_optimum(family_of(fixed, none)).profit_per_day_minor

    believed = joint_optimum(
        family_of(world.members(found.demand_per_day, found.elasticity), found.used)
    )
    truth = joint_optimum(family_of(world.members(level, world.elasticity), world.cross))
    off = ~np.eye(len(level), dtype=bool)
    error = (found.mean - world.cross)[off]
    return Outcome(
        alone=profit(believed.alone),
        joint=profit(believed.ln_price),
        alone_true=profit(truth.alone),
        oracle=profit(truth.ln_price),
        error=error,
        covered=np.abs(error) <= SD_90 * found.sd[off],
        used=found.used[off],
    )


def row(seed: int, families: int, days: int, settings: FamilySettings) -> dict[str, Any]:
    """The figures of one seed."""
    found = [outcome(FamilyWorld(1000 * seed + k, settings), days) for k in range(families)]
    oracle = sum(one.oracle for one in found)
    alone, joint = sum(one.alone for one in found), sum(one.joint for one in found)
    return {
        "seed": seed,
        "alone_capture": alone / oracle,
        "joint_capture": joint / oracle,
        "alone_with_true_elasticity_capture": sum(one.alone_true for one in found) / oracle,
        "joint_over_alone": joint / alone,
        "worst_family_joint_capture": min(one.joint / one.oracle for one in found),
        "cross_rmse": float(np.sqrt(np.mean(np.concatenate([one.error for one in found]) ** 2))),
        "cross_covered_90": float(np.mean(np.concatenate([one.covered for one in found]))),
        "cross_used_mean_size": float(np.mean(np.abs(np.concatenate([o.used for o in found])))),
        "cross_used_share": float(np.mean(np.concatenate([one.used for one in found]) != 0.0)),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread (sd between seeds) of every figure."""
    found = {}
    for name in rows[0]:
        if name != "seed":
            values = [one[name] for one in rows]
            found[name] = {
                "mean": round(statistics.mean(values), 4),
                "spread": round(statistics.stdev(values), 4) if len(values) > 1 else None,
                "by_seed": [round(value, 4) for value in values],
            }
    return found


def main() -> None:
    """Print the figures with and without cross effects in the market."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", type=int, default=12, help="per seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--days", type=int, default=364)
    chosen = parser.parse_args()
    worlds = {
        "with_cross_effects": FamilySettings(),
        "half_of_the_substitutes": FamilySettings(substitute_share=0.5),
        "without_cross_effects": WITHOUT,
    }
    began, results = time.perf_counter(), {}
    for name, settings in worlds.items():
        rows = [row(seed, chosen.families, chosen.days, settings) for seed in chosen.seeds]
        results[name] = summary(rows)
    write_result(
        "cross_effects",
        {
            "seeds": chosen.seeds,
            "families": chosen.families,
            "days": chosen.days,
            "settings": FamilySettings()._asdict(),
            **results,
            "seconds": round(time.perf_counter() - began, 1),
            "machine": machine("numpy"),
        },
    )


if __name__ == "__main__":
    main()
