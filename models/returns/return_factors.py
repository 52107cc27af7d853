"""The multiplicative twin of the return rate: ``R = R_base theta phi psi ...``.

Each factor is Gamma-Poisson: ``(a + returned) / (a + expected)``, the posterior mean of a factor
whose prior is worth ``a`` returns, where ``expected`` are the returns that all other factors
expect of the same units. It has no slope to get wrong: price and rival are bins, each pooled to 1.
"""

from collections.abc import Iterable, Mapping

RETURNS_PRIOR = {
    "level": 5.0, "category": 10.0, "segment": 20.0, "month": 30.0, "price": 30.0, "rival": 30.0,
}  # fmt: skip
RETURNS_MEMORY = 5_000.0  # of expected returns: what a factor remembers
RATE_MIN, RATE_MAX = 1e-4, 0.95  # between which a rate stays
Counts = tuple[float, float]


class FactorRates:
    """Rates as products of factors; ``counts`` are (returned, expected) by factor."""

    def __init__(self, prior_rate: float, counts: Mapping[str, Counts] | None = None) -> None:
        self.prior_rate = prior_rate
        self.counts = dict(counts or {})
        self._values = {name: _factor(name, pair) for name, pair in self.counts.items()}

    def product(self, names: Iterable[str]) -> float:
        """Prior rate times factors; an unseen factor is 1."""
        product, values = self.prior_rate, self._values
        for name in names:
            product *= values.get(name, 1.0)
        return product

    def value(self, name: str) -> float:
        """One factor."""
        return self._values.get(name, 1.0)

    def learn(self, names: list[str], returned: float, exposure: float) -> None:
        """Learn ``returned`` of ``exposure`` units (units times the share of delays that passed).

        Factors learn in turn, each beside what the others just learned.
        """
        product, values, counts = self.product(names), self._values, self.counts
        for name in names:
            others = product / values.get(name, 1.0)
            came, expected = counts.get(name, (0.0, 0.0))
            came += returned
            expected += exposure * (others if others < RATE_MAX else RATE_MAX)
            if expected > RETURNS_MEMORY:
                came *= RETURNS_MEMORY / expected
                expected = RETURNS_MEMORY
            pair = (came if came > 0.0 else 0.0), (expected if expected > 0.0 else 0.0)
            counts[name] = pair
            values[name] = _factor(name, pair)
            product = others * values[name]

    def copy(self) -> "FactorRates":
        """A copy that learning does not change."""
        twin = FactorRates(self.prior_rate)
        twin.counts, twin._values = dict(self.counts), dict(self._values)
        return twin


def _factor(name: str, pair: Counts) -> float:
    prior = RETURNS_PRIOR[name.partition("=")[0]]
    return (prior + pair[0]) / (prior + pair[1])
