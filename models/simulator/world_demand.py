"""The demand equation of the simulated market, and what moves it from day to day.

ln of the orders that product i is asked for on a day, at ln price x over its reference price:

    level_i + eps_i x + eta_i y - omega_i g(x - y) + psi (x - memory) + sum_j G_ij x_j
        + ln sum_c share_c exp(offset_c x) + season + weekday + calendar + interest + shock_i

y is ln(rival / reference), NaN without a rival, whose terms then vanish; g the kink; ``memory`` an
average of past own x; j the family's other members; c a channel; ``interest`` what people searched
for some days ago. The shock is an AR(1) that no event tells. Both steppers use this one equation.
"""

from datetime import date, timedelta

import numpy as np
from scipy import special

from models.simulator.world_truth import Bools, Draws, Floats, Products, WorldSettings, kink


class Demand:
    """The market's demand on the present day.

    Parameters
    ----------
    products, settings : the truth
    draws : random numbers

    Attributes
    ----------
    day : the present day, from 0
    elasticity : own-price elasticity [n] as of now
    shock : what no event tells, in ln demand [n]
    memory : average of past ln prices [n]
    """

    def __init__(self, products: Products, settings: WorldSettings, draws: Draws) -> None:
        n = len(products.level)
        self.products, self.settings = products, settings
        self.day = 0
        self.elasticity: Floats = products.elasticity.copy()
        self.shock: Floats = draws.rng("shock").normal(0.0, settings.shock_sd, n)
        self.memory: Floats = np.zeros(n)
        self._draws = draws
        self._level: Floats = products.level.copy()
        self._weekday = draws.rng("weekday").normal(0.0, settings.weekday_sd, 7)
        phases = draws.rng("season").uniform(0.0, 2.0 * np.pi, settings.categories)
        self._phase: Floats = phases[products.category]
        self._start = date.fromisoformat(settings.start_date)
        self._kinds = _kind_effects(settings, draws)
        self._has_penalty = bool(np.any(products.dearer_penalty))
        # interest of today and of the days ahead of which it leads demand, oldest first
        self._interest: list[Floats] = []
        if settings.searches_per_order:
            self._interest = [draws.rng("interest").normal(0.0, 1.0, n)]
            for number in range(1, settings.search_lead_days + 1):
                self._interest.append(self._next_interest(number))

    def listed(self) -> Bools:
        """Which products [n] are on sale today."""
        products = self.products
        return np.asarray((products.listed_from <= self.day) & (self.day < products.listed_until))

    def own_effects(self, x: Floats, y: Floats, *, steady: bool = False) -> Floats:
        """What its own price and rivals do to ln demand [n] of an average channel.

        Parameters
        ----------
        x, y : ln own price and ln rival's price over the reference price [n]; NaN: no rival
        steady : at a price that stays, which memory has taken in
        """
        products, settings = self.products, self.settings
        has_rival = ~np.isnan(y)
        rival = np.where(has_rival, y, 0.0)
        effects = self.elasticity * x + products.cross_price_elasticity * rival
        if self._has_penalty:
            penalty = products.dearer_penalty * kink(x - rival)
            effects = effects - np.where(has_rival, penalty, 0.0)
        if settings.memory_effect and not steady:
            effects = effects + settings.memory_effect * (x - self.memory)
        return np.asarray(effects)

    def family_effects(self, x: Floats) -> Floats:
        """What the other members' ln prices ``x`` [n] do to ln demand [n]."""
        products = self.products
        if not products.cross.shape[1]:
            return np.zeros(len(x))
        on_sale = np.where(self.listed(), x, 0.0)  # what is not sold does not take or bring
        return np.asarray(np.sum(products.cross * on_sale[products.members], axis=1))

    def channels(self, x: Floats) -> Floats:
        """What the mix of channels adds to ln demand [n]."""
        if not self.settings.channel_shares:
            return np.zeros(len(x))
        weights = [
            share * np.exp(offset * x)
            for share, offset in zip(
                self.settings.channel_shares, self.settings.channel_elasticity, strict=True
            )
        ]
        return np.asarray(np.log(np.sum(weights, axis=0)))

    def base(self) -> Floats:
        """Ln orders per day [n] today at the reference price, before the shock."""
        effects = self._level + self.season(self.settings.season_sd)
        effects = effects + self._weekday[self.day % 7] + self._calendar()
        if self._interest:
            effects = effects + self.settings.search_effect * self._interest[0]
        return np.asarray(effects)

    def ln_rate(self, x: Floats, y: Floats) -> Floats:
        """Ln orders per day [n] at ln prices ``x`` and rivals at ``y``, all effects included."""
        effects = self.own_effects(x, y) + self.family_effects(x) + self.channels(x)
        return np.asarray(self.base() + effects + self.shock)

    def steady_ln_rate(self, x: Floats, y: Floats) -> Floats:
        """Ln orders per day [n] at prices that stay, on an average day."""
        effects = self.own_effects(x, y, steady=True) + self.family_effects(x)
        return np.asarray(self._level + effects + self.channels(x))

    def ln_traffic(self) -> Floats:
        """Ln of today's visits [n] in orders' worth at the reference price, before noise."""
        return np.asarray(self.base() + self.settings.visits_shock_share * self.shock)

    def ln_searches(self) -> Floats:
        """Ln of today's searches per day [n]; they tell the demand of ``search_lead_days`` on."""
        mean = np.log(self.settings.searches_per_order) + self._level
        return np.asarray(mean + self.settings.search_sd * self._interest[-1])

    def noise(self) -> Floats:
        """Factor [n] of mean 1 on today's visits and orders alike."""
        spread = self.settings.overdispersion
        if not spread:
            return np.ones(len(self._level))
        gamma = self._draws.rng("noise", self.day).gamma(1.0 / spread, spread, len(self._level))
        return np.asarray(gamma)

    def return_rate(self, x: Floats, *, new_customer: bool = False) -> Floats:
        """Probability [n] that a unit sold today at ln price ``x`` comes back."""
        settings, products = self.settings, self.products
        logit = products.return_logit + products.return_slope * x
        if settings.return_season_sd:
            logit = logit + self.season(settings.return_season_sd, np.pi / 2.0)
        if new_customer:
            logit = logit + settings.new_customer_logit
        return np.asarray(special.expit(logit))

    def season(self, sd: float, shift: float = 0.0) -> Floats:
        """A wave over the year [n] by category, of standard deviation ``sd``."""
        angle = 2.0 * np.pi * self.day / 365.25 + self._phase + shift
        return np.asarray(sd * np.sqrt(2.0) * np.sin(angle))

    def advance(self, x: Floats) -> None:
        """Let the day end, on which prices were at ``x`` [n]."""
        settings, day, n = self.settings, self.day, len(x)
        self.memory = self.memory + (x - self.memory) / settings.memory_days
        kept = settings.shock_memory
        fresh = self._draws.rng("shock", day + 1).normal(0.0, settings.shock_sd, n)
        self.shock = kept * self.shock + np.sqrt(1.0 - kept**2) * fresh
        limits = settings.elasticity_min, settings.elasticity_max
        if settings.drift_sd_per_day:
            drift = self._draws.rng("drift", day).normal(0.0, settings.drift_sd_per_day, n)
            self.elasticity = np.clip(self.elasticity + drift, *limits)
        if self._interest:
            newest = self._next_interest(day + settings.search_lead_days + 1)
            self._interest = [*self._interest[1:], newest]
        self.day = day + 1
        if self.day == settings.break_day:
            broken = self._draws.rng("break").random(n) < settings.break_share
            moved = np.clip(self.elasticity + settings.break_elasticity, *limits)
            self.elasticity = np.where(broken, moved, self.elasticity)
            self._level = self._level + settings.break_level * broken

    def _next_interest(self, number: int) -> Floats:
        kept = self.settings.search_memory
        fresh = self._draws.rng("interest", number).normal(0.0, 1.0, len(self._level))
        return np.asarray(kept * self._interest[-1] + np.sqrt(1.0 - kept**2) * fresh)

    def _calendar(self) -> float:
        if not self._kinds:
            return 0.0
        kinds = self.settings.calendar.get((self._start + timedelta(self.day)).isoformat(), ())
        return sum(self._kinds[kind] for kind in kinds)


def _kind_effects(settings: WorldSettings, draws: Draws) -> dict[str, float]:
    """Effect of each kind of day on ln demand, by its name: another table changes none of them."""
    kinds = sorted({kind for kinds in settings.calendar.values() for kind in kinds})
    if not settings.calendar_sd:
        return {}
    return {
        kind: float(draws.rng(f"kind {kind}").normal(0.0, settings.calendar_sd)) for kind in kinds
    }
