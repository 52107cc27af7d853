"""A family of products whose prices move each other's sales, day by day: the truth is known.

    ln rate_i = level_i + eps_i x_i + sum_j C_ij x_j + shock_i,    x = ln(price / reference price)

The shop's habit is that of `models.simulator.world`: an exogenous part that stays for a week, and a
reaction to an AR(1) shock of demand that no event tells. `history` puts a year of it into a
partition's state through the fold's own listing, epochs and updates.
"""

import math
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from models.family.family_profit import Member
from models.fold import catalogue_events, market
from models.fold.context import Context
from models.fold.partition import PartitionState
from schemas.events import DAY_MS, EPOCH, MILLISECOND, ProductListed
from schemas.state import SkuState

Floats = NDArray[np.float64]

LN_PRICE_MIN, LN_PRICE_MAX = math.log(0.55), math.log(2.0)


class FamilySettings(NamedTuple):
    """How a family is drawn: one anchor and its additions, each range uniform.

    The own ranges are elasticities, orders per day at the reference price (log-uniform) and
    reference price in minor units (log-uniform). Cross elasticities: of an addition by its anchor's
    price, of an addition by another's.
    """

    additions: int = 5
    elasticity: tuple[float, float] = (-3.0, -2.0)
    orders_per_day: tuple[float, float] = (5.0, 20.0)
    reference_minor: tuple[float, float] = (1500.0, 2500.0)
    anchor_effect: tuple[float, float] = (-1.0, -0.5)
    substitute_effect: tuple[float, float] = (0.2, 0.4)
    substitute_share: float = 1.0  # of the pairs of additions
    price_sd: float = 0.13
    price_reaction: float = 0.25
    price_hold_days: int = 7
    shock_sd: float = 0.2
    shock_memory: float = 0.8
    kept_share: float = 0.98 / 1.19
    markup_sd: float = 0.1  # by which a reference price misses the best one, ln
    return_logit: float = -1.99
    return_slope: float = 1.5
    return_cost: float = 0.08


WITHOUT = FamilySettings(anchor_effect=(0.0, 0.0), substitute_effect=(0.0, 0.0))


def _logs(span: tuple[float, float]) -> tuple[float, float]:
    return math.log(span[0]), math.log(span[1])


class FamilyWorld:
    """One family; product 0 is the anchor.

    Attributes
    ----------
    level, elasticity, unit_cost, reference_minor : [n]; money but the last over the reference price
    cross : [n, n], row i for the demand of i, zeros on the diagonal
    """

    def __init__(self, seed: int, settings: FamilySettings | None = None) -> None:
        self.settings = settings or FamilySettings()
        drawn, n = self.settings, self.settings.additions + 1
        self._rng = np.random.default_rng([seed, 77])
        rng = self._rng
        self.level: Floats = rng.uniform(*_logs(drawn.orders_per_day), n)
        self.elasticity: Floats = rng.uniform(*drawn.elasticity, n)
        self.cross: Floats = rng.uniform(*drawn.substitute_effect, (n, n))
        self.cross *= rng.random((n, n)) < drawn.substitute_share
        self.cross[1:, 0] = rng.uniform(*drawn.anchor_effect, n - 1)
        self.cross[0, :] = 0.0
        np.fill_diagonal(self.cross, 0.0)
        self.reference_minor = np.rint(np.exp(rng.uniform(*_logs(drawn.reference_minor), n)))
        markup = self.elasticity / (1.0 + self.elasticity)
        self.unit_cost: Floats = (
            drawn.kept_share / markup * np.exp(rng.normal(0.0, drawn.markup_sd, n))
        )

    @property
    def skus(self) -> list[str]:
        """Names of the products, the anchor first."""
        return [f"P{index}" for index in range(len(self.level))]

    def members(
        self, demand_per_day: Floats, elasticity: Floats, ln_price: Floats | None = None
    ) -> list[Member]:
        """The family as `family_profit` takes it, with beliefs [n] of level and elasticity.

        Parameters
        ----------
        ln_price : present prices that the demand is stated at; the reference prices if not given
        """
        now = np.zeros(len(self.level)) if ln_price is None else ln_price
        drawn = self.settings
        return [
            Member(
                weight=float(self.reference_minor[i]),
                demand_per_day=float(demand_per_day[i]),
                elasticity=float(elasticity[i]),
                unit_cost=float(self.unit_cost[i]),
                return_cost=drawn.return_cost,
                kept_share=drawn.kept_share,
                return_min=0.0,
                return_max=1.0,
                return_intercept=drawn.return_logit,
                return_log=drawn.return_slope,
                ln_price=float(now[i]),
                low=LN_PRICE_MIN,
                high=LN_PRICE_MAX,
            )
            for i in range(len(self.level))
        ]

    def history(self, partition: PartitionState, days: int, start_ms: int = 0) -> None:
        """List the family and let ``days`` days pass by the shop's habit."""
        states = [self._listed(partition, index, start_ms) for index in range(len(self.level))]
        drawn, n = self.settings, len(states)
        reaction_sd = drawn.price_reaction * drawn.shock_sd
        exogenous_sd = math.sqrt(drawn.price_sd**2 - reaction_sd**2)
        shock = self._rng.normal(0.0, drawn.shock_sd, n)
        exogenous: Floats = np.zeros(n)
        for day in range(days):
            if day % drawn.price_hold_days == 0:
                exogenous = self._rng.normal(0.0, exogenous_sd, n)
            ln_price = exogenous + drawn.price_reaction * shock
            now_ms = start_ms + day * DAY_MS
            for index, state in enumerate(states):
                self._reprice(partition, state, index, ln_price[index], exogenous[index], now_ms)
            rate = np.exp(self.level + self.elasticity * ln_price + self.cross @ ln_price + shock)
            orders = self._rng.poisson(rate)
            for state, count in zip(states, orders.tolist(), strict=True):
                if state.epoch is not None:
                    state.epoch = replace(
                        state.epoch,
                        orders=state.epoch.orders + count,
                        units=state.epoch.units + count,
                        capped_units=state.epoch.capped_units + count,
                    )
            fresh = self._rng.normal(0.0, drawn.shock_sd, n)
            kept = drawn.shock_memory
            shock = kept * shock + math.sqrt(1.0 - kept**2) * fresh

    def _listed(self, partition: PartitionState, index: int, now_ms: int) -> SkuState:
        anchor = index == 0
        event = ProductListed(
            event_id=f"listing-{index}",
            event_time=EPOCH + now_ms * MILLISECOND,
            sku=self.skus[index],
            currency="EUR",
            category="anchors" if anchor else "additions",
            family="family",
            anchors=() if anchor else (self.skus[0],),
            role="anchor" if anchor else "addition",
            unit_cost_minor=max(round(self.unit_cost[index] * self.reference_minor[index]), 1),
            list_price_minor=int(self.reference_minor[index]),
        )
        catalogue_events.product_listed(Context(partition, 0, now_ms), event)
        return partition.skus[event.sku]

    def _reprice(
        self,
        partition: PartitionState,
        state: SkuState,
        index: int,
        ln_price: float,
        exogenous: float,
        now_ms: int,
    ) -> None:
        price_minor = round(math.exp(ln_price) * self.reference_minor[index])
        moved = price_minor != state.applied_minor
        if moved or market.epoch_is_over(partition, state, now_ms):
            state.applied_minor, state.exogenous_log = price_minor, float(exogenous)
            market.close_epoch(partition, state, now_ms)
            market.begin_epoch(partition, state, partition.catalogue[state.sku], now_ms)
