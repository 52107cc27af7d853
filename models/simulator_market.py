"""What moves around the simulated shop: costs, stock, rivals, and demand that nobody sees."""

import math
from typing import Any

import numpy as np

from models.simulator_truth import RIVALS_MAX, Bools, Floats, ShopSettings, Truth

DAY_MS = 86_400_000
COST_STEP_SD = 0.06  # of ln cost, at a change
COST_BOUND = 0.25  # of ln cost, from the first cost
RIVAL_NOISE_SD = 0.03
RIVAL_UNLISTED_SHARE = 0.02
RIVAL_OUT_OF_STOCK_SHARE = 0.04
SHOCK_SD = 0.2  # of ln demand that no event tells; half of its variance is in the visits
SHOCK_MEMORY = 0.9  # per day
OVERDISPERSION = 0.15  # variance of daily visits beyond Poisson, relative
UNITS_START_MIN = 3
RETIRED_AFTER_DAYS = 7


class Market:
    """State of the world outside the shop's own prices; arrays over all products [n]."""

    def __init__(self, truth: Truth, settings: ShopSettings, rng: np.random.Generator) -> None:
        n = len(truth.skus)
        self._truth = truth
        self._settings = settings
        self._rng = rng
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
        self._shock: Floats = rng.normal(0, SHOCK_SD, n)
        self._noise: Floats = np.ones(n)
        self._family_size = np.bincount(truth.family, minlength=n)[truth.family]

    # -- catalogue and cost

    def enter(self, i: int) -> None:
        """Product ``i`` goes on sale with its first stock."""
        truth = self._truth
        rate = truth.demand_rate_per_day[i] * truth.units_per_order[i]
        self.listed[i] = True
        self.on_hand[i] = max(UNITS_START_MIN, round(rate * truth.cover_days[i]))
        self._told_on_hand[i] = self.on_hand[i]

    def tells_cost(self, i: int) -> bool:
        """Whether the shop knows what product ``i`` costs."""
        return bool(self._tells_cost[i])

    def retired(self, day: int) -> list[int]:
        """Products that leave the catalogue today, a week after their heir came."""
        truth = self._truth
        heirs = (truth.predecessor >= 0) & (truth.listed_day + RETIRED_AFTER_DAYS == day)
        gone: list[int] = truth.predecessor[heirs].tolist()
        self.listed[gone] = False
        return gone

    def new_day(self, day: int) -> list[int]:
        """Move costs and hidden demand on; returns products whose cost is told today."""
        rng, truth, n = self._rng, self._truth, len(self.listed)
        drift = rng.normal(0, math.sqrt(1 - SHOCK_MEMORY**2) * SHOCK_SD, n)
        self._shock = SHOCK_MEMORY * self._shock + drift
        self._noise = rng.gamma(1 / OVERDISPERSION, OVERDISPERSION, n)
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
        noise = np.exp(self._rng.normal(0, 0.3, len(low)))
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

    def move_rivals(self, x: Floats, days: float) -> list[tuple[int, int]]:
        """Let some rivals change their offer, following our ln price move x [n] in part."""
        rng, truth = self._rng, self._truth
        rate = self._settings.rival_move_rate * days
        moves = self._has_rival & self.listed[:, None] & (rng.random(self._rival_ln.shape) < rate)
        moved = np.argwhere(moves)
        noise = rng.normal(0, RIVAL_NOISE_SD, len(moved))
        fate = rng.random((2, len(moved)))
        for k, (i, rival) in enumerate(moved.tolist()):
            target = truth.rival_base[i, rival] + truth.rival_follow[i, rival] * x[i] + noise[k]
            self._rival_ln[i, rival] = target
            self._rival_listed[i, rival] = fate[0, k] >= RIVAL_UNLISTED_SHARE
            self._rival_in_stock[i, rival] = fate[1, k] >= RIVAL_OUT_OF_STOCK_SHARE
        return [(i, rival) for i, rival in moved.tolist()]

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
        """Expected visits [n] on an average day; 0 for a product that is not on sale."""
        truth = self._truth
        rate = truth.demand_rate_per_day / truth.conversion
        return np.where(self.listed, rate * np.exp(self._shock / 2) * self._noise, 0.0)

    def unseen_demand(self) -> Floats:
        """Factor [n] on the share of visits that order, which no event tells."""
        return np.asarray(np.exp(self._shock / 2))

    def family_move(self, x: Floats) -> Floats:
        """Mean ln price over list [n] of the other members of a product's family."""
        family = self._truth.family
        on_sale = np.where(self.listed, x, 0.0)
        total = np.bincount(family, on_sale, minlength=len(x))[family] - on_sale
        return np.asarray(total / np.maximum(self._family_size - 1, 1))
