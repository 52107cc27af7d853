"""Members of the demand ensemble: different ways to forecast ln(orders per day) of an epoch.

All see the same rows, one epoch of one product each, and what was known when it began. The offset
of a row is the product's own long-run rate; members other than the posterior forecast how far the
epoch's rate lies from it. Each is seeded, and answers before it has learned.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from river import forest, linear_model, tree
from sklearn.ensemble import HistGradientBoostingRegressor

from models.demand.demand import DEFAULT_SETTINGS
from models.demand.demand_batch import learn_many
from models.demand.history import Episodes
from models.prior import prior_fit
from schemas.learned import DemandPrior

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHORT_MEMORY_DAYS = 14.0
RATE_PRIOR_DAYS = 7.0  # that a product's short-run rate is pulled to its long-run rate
LEVEL_PRIOR_DAYS = 1.0  # of exposure that the prior's level of a product is worth
YEAR_DAYS, WEEK_DAYS = 365.25, 7.0
FEATURES = (
    "constant", "recent", "ln_price", "ln_price_change", "ln_rival", "rival_known", "year_sine",
    "year_cosine", "week_sine", "week_cosine",
)  # fmt: skip
TREES = 5
TREE_DRAWS = 2  # mean of the Poisson weight with which a tree learns a row
BOOSTING_ROUNDS = 60
BOOSTING_EVERY_STEPS = 8
BOOSTING_ROWS_MIN = 100
BOOSTING_ROWS_MAX = 20_000


class Rows(NamedTuple):
    """Epochs of one step, arrays [row]. ``features`` [row, feature] are known when they begin."""

    product: Ints
    epoch: Ints
    features: Floats
    ln_rate_before: Floats  # the offset: the product's rate over all earlier epochs
    exposure_days: Floats
    orders: Floats

    def take(self, index: NDArray[Any]) -> "Rows":
        """The rows of an index or mask."""
        return Rows._make(column[index] for column in self)


class Member(Protocol):
    """A forecaster of one cluster."""

    def forecast(self, rows: Rows) -> Floats:
        """Return ln(orders per day) [row], before the rows are learned."""

    def learn(self, rows: Rows) -> None:
        """Learn the rows' orders."""


def epoch_features(
    prior: DemandPrior, episodes: Episodes, signals: Floats | None = None
) -> tuple[Floats, Floats]:
    """Features [product, epoch, feature] and ln of the rate before [product, epoch].

    Parameters
    ----------
    prior : its level of a product stands in until the product has orders
    signals : [product, epoch, signal] further features known when an epoch begins, such as ln of
        the searches of the days before; finite

    Raises
    ------
    ValueError : a signal is not finite
    """
    n, epochs = episodes.orders.shape
    if signals is None:
        signals = np.zeros((n, epochs, 0))
    if not np.isfinite(signals).all():
        raise ValueError("a signal was not finite; fill what is missing, or leave the signal out")
    found = np.zeros((n, epochs, len(FEATURES)))
    before = np.zeros((n, epochs))
    level = np.exp(prior_fit.beginnings(prior, episodes).mean[:, 0])
    orders, exposure = np.zeros(n), np.zeros(n)
    short_orders, short_exposure, short_price = np.zeros(n), np.zeros(n), np.zeros(n)
    for epoch in range(epochs):
        days, price = episodes.exposure_days[:, epoch], episodes.ln_price[:, epoch]
        rate = (orders + LEVEL_PRIOR_DAYS * level) / (exposure + LEVEL_PRIOR_DAYS)
        recent = (short_orders + RATE_PRIOR_DAYS * rate) / (short_exposure + RATE_PRIOR_DAYS)
        middle = episodes.end_days[:, epoch] - 0.5 * days
        year, week = 2.0 * np.pi * middle / YEAR_DAYS, 2.0 * np.pi * middle / WEEK_DAYS
        usual = np.where(
            short_exposure > 0.0, short_price / np.maximum(short_exposure, 1e-9), price
        )
        before[:, epoch] = np.log(rate)
        found[:, epoch] = np.stack(
            (
                np.ones(n), np.log(recent / rate), price, price - usual,
                episodes.ln_rival[:, epoch], episodes.rival_known[:, epoch], np.sin(year),
                np.cos(year), np.sin(week), np.cos(week),
            ),
            axis=-1,
        )  # fmt: skip
        orders, exposure = orders + episodes.orders[:, epoch], exposure + days
        kept = np.exp(-days / SHORT_MEMORY_DAYS)
        short_orders = kept * short_orders + episodes.orders[:, epoch]
        short_exposure = kept * short_exposure + days
        short_price = kept * short_price + days * price
    return np.concatenate((found, signals), axis=-1), before


class PosteriorMember:
    """The demand model itself: every product's own posterior, random walk included."""

    def __init__(self, prior: DemandPrior, episodes: Episodes) -> None:
        begun = prior_fit.beginnings(prior, episodes)
        self._mean, self._cov = begun.mean, prior_fit.packed_rows(begun.cov)
        self._episodes = episodes
        self._x = prior_fit.features(episodes)
        self._settings = DEFAULT_SETTINGS._replace(dispersion=prior.dispersion)
        self._learned_days = episodes.end_days[:, 0] - episodes.exposure_days[:, 0]

    def forecast(self, rows: Rows) -> Floats:
        """Ln of the mean rate, the coefficients integrated out."""
        x = self._x[rows.product, rows.epoch]
        cov = prior_fit.unpacked(self._cov[rows.product])
        walk = self._settings.level_walk_per_day * self._days(rows)
        variance = np.einsum("rj,rjk,rk->r", x, cov, x) + walk
        mean = np.einsum("rk,rk->r", x, self._mean[rows.product])
        return np.asarray(mean + 0.5 * variance)

    def learn(self, rows: Rows) -> None:
        """The fold's own update."""
        i, j, seen = rows.product, rows.epoch, self._episodes
        rival = np.where(seen.rival_known[i, j], seen.ln_rival[i, j], np.nan)
        self._mean[i], self._cov[i] = learn_many(
            self._mean[i], self._cov[i], seen.ln_price[i, j], rival, seen.control[i, j],
            rows.orders, rows.exposure_days, self._days(rows), self._settings,
        )  # fmt: skip
        self._learned_days[i] = seen.end_days[i, j]

    def _days(self, rows: Rows) -> Floats:
        return self._episodes.end_days[rows.product, rows.epoch] - self._learned_days[rows.product]


class RiverMember:
    """A River regressor of ln(rate) less the offset, one row at a time."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def forecast(self, rows: Rows) -> Floats:
        """The offset and what the model adds."""
        added = [self._model.predict_one(_named(row)) for row in rows.features]
        return rows.ln_rate_before + np.array(added, dtype=np.float64)

    def learn(self, rows: Rows) -> None:
        """Rows in their order; half an order is added, so that none has a logarithm."""
        targets = np.log((rows.orders + 0.5) / rows.exposure_days) - rows.ln_rate_before
        for row, target in zip(rows.features, targets.tolist(), strict=True):
            self._model.learn_one(_named(row), target)


class BoostingMember:
    """scikit-learn's gradient boosting, Poisson loss, refit on all rows every few steps."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._model: HistGradientBoostingRegressor | None = None
        self._rows: list[Rows] = []
        self._steps = 0

    def forecast(self, rows: Rows) -> Floats:
        """The offset alone until the first fit."""
        if self._model is None:
            return rows.ln_rate_before.copy()
        ratio: Floats = self._model.predict(rows.features)
        return rows.ln_rate_before + np.log(np.maximum(ratio, 1e-9))

    def learn(self, rows: Rows) -> None:
        """Keep the rows; fit where it is time and enough are there."""
        self._rows.append(rows)
        self._steps += 1
        count = sum(len(one.orders) for one in self._rows)
        if self._steps % BOOSTING_EVERY_STEPS or count < BOOSTING_ROWS_MIN:
            return
        seen = Rows._make(
            np.concatenate(column)[-BOOSTING_ROWS_MAX:] for column in zip(*self._rows, strict=True)
        )
        expected = np.exp(seen.ln_rate_before) * seen.exposure_days
        model = HistGradientBoostingRegressor(
            loss="poisson", max_iter=BOOSTING_ROUNDS, learning_rate=0.08, max_leaf_nodes=8,
            min_samples_leaf=30, early_stopping=False, random_state=self._seed,
        )  # fmt: skip
        # with the expectation as weight this is the Poisson likelihood of the counts themselves
        self._model = model.fit(seen.features, seen.orders / expected, sample_weight=expected)
        self._rows = [seen]


def members(prior: DemandPrior, episodes: Episodes, seed: int) -> dict[str, Member]:
    """A cluster's members by name, fresh."""
    return {
        "posterior": PosteriorMember(prior, episodes),
        # on features of the order of 1; a running standardisation blows up those that hardly vary
        "linear": RiverMember(linear_model.BayesianLinearRegression(alpha=1, beta=1)),
        "forest": RiverMember(
            forest.ARFRegressor(
                n_models=TREES,
                lambda_value=TREE_DRAWS,
                leaf_prediction="mean",
                splitter=tree.splitter.QOSplitter(),
                seed=seed,
            )
        ),
        "boosting": BoostingMember(seed),
    }


def _named(row: Floats) -> dict[int, float]:
    return dict(enumerate(row.tolist()))
