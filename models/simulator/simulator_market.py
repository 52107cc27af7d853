"""What moves around the simulated shop: costs, stock, rivals, and demand that nobody sees."""

import math
from typing import Any

import numpy as np

from models.simulator.simulator_truth import RIVALS_MAX, ShopSettings, Truth, world_settings
from models.simulator.world_demand import Demand
from models.simulator.world_truth import Bools, Draws, Floats

DAY_MS = 86_400_000
COST_STEP_SD = 0.06  # of ln cost, at a change
COST_BOUND = 0.25  # of ln cost, from the first cost
RIVAL_UNLISTED_SHARE = 0.02
RIVAL_OUT_OF_STOCK_SHARE = 0.04
UNITS_START_MIN = 3


class Market:
    """State of the world outside the shop's own prices; arrays over all products [n].

    No random number depends on prices, so that shops that share a seed share their customers.
    """

    def __init__(self, truth: Truth, settings: ShopSettings, draws: Draws) -> None:
        n = len(truth.skus)
        self._truth = truth
        self._settings = settings
        self._draws = draws
        self.demand = Demand(truth.products, world_settings(settings), draws)
        self.listed: Bools = np.zeros(n, np.bool_)
        self.cost_minor: Floats = truth.first_cost_minor.astype(np.float64)
        self.on_hand: list[int] = [0] * n
        self._inbound: dict[int, tuple[int, int]] = {}  # product -> units, arrival ms
        self._told_on_hand = [0] * n
        self._tells_cost: Bools = truth.cost_known_day == 0
        self._rival_ln: Floats = truth.rival_base.copy()
        self._has_rival: Bools = np.arange(RIVALS_MAX)[None, :] < truth.rivals[:, None]
        self._rival_listed: Bools = self._has_rival.copy()
        self._rival_in_stock: Bools = self._has_rival.copy()
        self._noise: Floats = self.demand.noise()

    # -- catalogue and cost

    def enter(self, i: int) -> None:
        """Product ``i`` goes on sale with its first stock."""
        truth = self._truth
        rate = float(np.exp(truth.products.level[i])) * truth.units_per_order[i]
        self.listed[i] = True
        self.on_hand[i] = max(UNITS_START_MIN, round(rate * truth.cover_days[i]))
        self._told_on_hand[i] = self.on_hand[i]

    def tells_cost(self, i: int) -> bool:
        """Whether the shop knows what product ``i`` costs."""
        return bool(self._tells_cost[i])

    def retired(self, day: int) -> list[int]:
        """Products that leave the catalogue today."""
        gone: list[int] = np.flatnonzero(self._truth.products.listed_until == day).tolist()
        self.listed[gone] = False
        return gone

    def new_day(self, day: int, x: Floats) -> list[int]:
        """Move costs and demand on, after a day at ln prices ``x`` [n] over list.

        Returns the products whose cost is told today.
        """
        if day > 0:
            self.demand.advance(x)
        self._noise = self.demand.noise()
        rng, truth, n = self._draws.rng("cost", day), self._truth, len(self.listed)
        changed = rng.random(n) < self._settings.cost_change_rate
        step = rng.normal(0, COST_STEP_SD, n)
        first = truth.first_cost_minor
        moved = np.clip(np.log(self.cost_minor / first) + step, -COST_BOUND, COST_BOUND)
        changed &= self.listed & (day > 0)
        self.cost_minor = np.where(changed, np.rint(first * np.exp(moved)), self.cost_minor)
        self.cost_minor = np.maximum(self.cost_minor, 1)
        learned = ~self._tells_cost & self.listed & (truth.cost_known_day <= day)
        self._tells_cost |= learned
        told: list[int] = np.flatnonzero((changed & self._tells_cost) | learned).tolist()
        return told

    # -- stock

    def reorder(self, at_ms: int, day: int) -> list[int]:
        """Order what runs low; returns products whose stock is told today."""
        truth = self._truth
        rate = truth.demand_rate_per_day * truth.units_per_order
        on_hand = np.array(self.on_hand)
        low = self.listed & (on_hand < rate * truth.lead_days)
        noise = np.exp(self._draws.rng("lead", day).normal(0, 0.3, len(low)))
        told: list[int] = []
        for i in np.flatnonzero(self.listed & (day > 0)).tolist():
            if low[i] and i not in self._inbound:
                units = max(UNITS_START_MIN, round(rate[i] * truth.cover_days[i]))
                eta_ms = at_ms + int(truth.lead_days[i] * noise[i] * DAY_MS)
                self._inbound[i] = (units, eta_ms)
                told.append(i)
            elif self.on_hand[i] != self._told_on_hand[i]:
                told.append(i)
            self._told_on_hand[i] = self.on_hand[i]
        return told

    def arrived(self, at_ms: int) -> list[int]:
        """Put what has arrived by now on the shelf; returns its products."""
        came = [i for i, (_, eta_ms) in self._inbound.items() if eta_ms <= at_ms]
        for i in came:
            units, _ = self._inbound.pop(i)
            self.on_hand[i] += units
            self._told_on_hand[i] = self.on_hand[i]
        return came

    def inbound(self, i: int) -> tuple[int, int | None]:
        """Units on their way, and when they should arrive (Unix milliseconds)."""
        return self._inbound.get(i, (0, None))

    # -- rivals

    def move_rivals(
        self, x: Floats, days: float, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Let some rivals change their offer in ``days``, following our ln price x [n] in part."""
        truth, shape = self._truth, self._rival_ln.shape
        chance, unlisted, sold_out = rng.random((3, *shape))
        noise = rng.normal(0, self._settings.rival_noise_sd, shape)
        moves = self._has_rival & self.listed[:, None]
        moves &= chance < self._settings.rival_move_rate * days
        target = truth.rival_base + truth.rival_follow * x[:, None] + noise
        self._rival_ln = np.where(moves, target, self._rival_ln)
        self._rival_listed = np.where(moves, unlisted >= RIVAL_UNLISTED_SHARE, self._rival_listed)
        in_stock = sold_out >= RIVAL_OUT_OF_STOCK_SHARE
        self._rival_in_stock = np.where(moves, in_stock, self._rival_in_stock)
        return [(i, rival) for i, rival in np.argwhere(moves).tolist()]

    def rival_ratio(self) -> Floats:
        """Mean ln(rival / list) [n] of the offers that can be bought; NaN without one."""
        open_offers = self._rival_listed & self._rival_in_stock
        count = open_offers.sum(axis=1)
        total = np.where(open_offers, self._rival_ln, 0.0).sum(axis=1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def rival_offer(self, i: int, rival: int) -> dict[str, Any]:
        """A rival's offer as the fields of its event."""
        listed = bool(self._rival_listed[i, rival])
        price = self._truth.list_price_minor[i] * math.exp(self._rival_ln[i, rival])
        return {
            "competitor": f"rival-{'abc'[rival]}",
            "price_minor": max(1, round(price)) if listed else None,
            "listed": listed,
            "in_stock": listed and bool(self._rival_in_stock[i, rival]),
            "match_confidence": 1.0,
        }

    # -- demand

    def visit_rate_per_day(self) -> Floats:
        """Expected visits [n] today; 0 for a product that is not on sale."""
        rate = np.exp(self.demand.ln_traffic()) / self._truth.conversion
        return np.where(self.listed, rate * self._noise, 0.0)

    def search_rate_per_day(self) -> Floats | None:
        """Expected searches [n] today; None where nobody counts them."""
        if not self.demand.settings.searches_per_order:
            return None
        return np.where(self.listed, np.exp(self.demand.ln_searches()), 0.0)

    def order_share(self, x: Floats) -> Floats:
        """Share of visits [n] that order at ln prices ``x`` [n] over list, an average channel's."""
        demand = self.demand
        unseen = (1.0 - demand.settings.visits_shock_share) * demand.shock
        effects = demand.own_effects(x, self.rival_ratio()) + demand.family_effects(x)
        return np.asarray(self._truth.conversion * np.exp(effects + unseen))
