"""State records of the learned models: plain numbers, text and lists, so that what is written as
JSON and read back has the identical future.

Coefficients stand in one order everywhere: (level, elasticity, cross_price_elasticity, control),
written (b, eps, eta, delta) in equations. Covariances are upper triangles by rows:
bb, b-eps, b-eta, b-delta, eps-eps, eps-eta, eps-delta, eta-eta, eta-delta, delta-delta.
"""

import math
from typing import Literal

from msgspec import Struct, field

Coefficients = tuple[float, float, float, float]
Covariance = tuple[float, float, float, float, float, float, float, float, float, float]

COEFFICIENT_MAX = 50.0  # of size: no real shop comes near
VARIANCE_MIN, VARIANCE_MAX = 1e-12, COEFFICIENT_MAX**2

DELAY_DAYS: tuple[int, ...] = (3, 7, 14, 30, 60)
"""Ages, days, at which an order cohort teaches; at the last one it is closed."""


def is_positive_definite(cov: Covariance) -> bool:
    """Whether an upper triangle is that of a covariance: Cholesky's pivots are all above 0."""
    rows = [[0.0] * 4 for _ in range(4)]
    entries = iter(cov)
    for i in range(4):
        for j in range(i, 4):
            rows[j][i] = next(entries)
    for i in range(4):
        for j in range(i + 1):
            rest = rows[i][j] - sum(rows[i][k] * rows[j][k] for k in range(j))
            if i == j:
                if not 0.0 < rest < math.inf:
                    return False
                rows[i][i] = math.sqrt(rest)
            else:
                rows[i][j] = rest / rows[j][j]
    return True


class DemandPosterior(Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """Belief about one product's demand: normal in the coefficients.

    ``mean[0]`` is ln(orders per day) at the reference price. ``size_lines`` and ``size_units`` are
    the order lines and (capped) units that taught the units per order line. ``begun_ms`` is when
    the belief began: at the listing, from a prior or a predecessor.
    """

    mean: Coefficients
    cov: Covariance
    epochs: int
    orders: int
    updated_ms: int
    size_lines: float = 0.0
    size_units: float = 0.0
    begun_ms: int = 0


class OpenEpoch(Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A stretch of constant own price, near-constant rival price and stock state.

    ``ln_price`` is ln(P / P_ref), ``ln_rival`` ln(P_c / P_ref) or None while no rival is known,
    ``control`` the part of ``ln_price`` that was not exogenous. ``exposure_days`` is in-stock time
    up to ``accrued_ms``. With a traffic feed ``visits`` is a number and replaces it;
    ``covered_orders`` are then the orders up to the last report. ``rate_micro`` is what the epoch
    adds to its partition's expected order lines a day, in millionths.
    """

    start_ms: int
    accrued_ms: int
    price_minor: int
    ln_price: float
    ln_rival: float | None
    control: float
    in_stock: bool | None
    orders: int = 0
    units: int = 0
    capped_units: int = 0
    exposure_days: float = 0.0
    visits: float | None = None
    covered_orders: int = 0
    rate_micro: int = 0


class PriorSource(Struct, frozen=True, kw_only=True, gc=False):
    """Where a product's prior came from: the passport's first entry."""

    kind: Literal["category", "unseen_category", "predecessor"]
    prior_sha256: str
    category: str
    predecessor: str | None = None
    attributes_used: tuple[str, ...] = ()
    attributes_ignored: tuple[str, ...] = ()
    attributes_missing: tuple[str, ...] = ()


class AttributeEffect(Struct, frozen=True, kw_only=True, gc=False):
    """What one numeric attribute adds: ``weights * (value - center) / scale``."""

    center: float
    scale: float
    weights: Coefficients


class CategoryEffect(Struct, frozen=True, kw_only=True, gc=False):
    """How a category differs from the average: offset, its covariance, products it rests on.

    ``habit_markup`` is what its products were sold at, as a multiple of unit cost over kept share.
    """

    offset: Coefficients
    cov: Covariance
    products: int
    habit_markup: float | None = None


class CandidateScore(Struct, frozen=True, kw_only=True, gc=False):
    """How well a prior forecast products that it was not trained on, one step ahead.

    ``log_likelihood`` is the mean over ``products`` of the mean over their epochs, in nats;
    ``standard_error`` that of the mean. ``first_epoch`` is the same of the first epoch alone,
    when nothing was known but the prior.
    """

    name: str
    products: int
    log_likelihood: float
    standard_error: float
    first_epoch: float


class TrainingRecord(Struct, frozen=True, kw_only=True):
    """What a prior was trained on, and why this one was published.

    ``products`` taught it in the end; the scores are of fits without the held-out ones.
    ``positions`` are the last tape offsets by partition, ``tape_sha256`` the hash of the records.
    """

    champion: str
    products: int
    epochs: int
    orders: int
    tape_sha256: str
    positions: dict[str, int]
    scores: tuple[CandidateScore, ...]


class Cluster(Struct, frozen=True, kw_only=True, gc=False):
    """Products with like characteristics and like elasticity.

    ``centroid`` is in the document's standardised features; ``elasticity_mean`` and
    ``elasticity_sd`` pool the products' elasticities, their own uncertainty included. The quantiles
    belong to the document's probabilities: ``residual_quantiles`` of |n - mu| over its predictive
    sd, by epoch; ``delta_quantiles`` of |d ln profit / d ln price| at the price charged, empty
    where no cost is known.
    """

    centroid: tuple[float, ...]
    products: int
    elasticity_mean: float
    elasticity_sd: float
    residual_quantiles: tuple[float, ...]
    delta_quantiles: tuple[float, ...]


class Clusters(Struct, frozen=True, kw_only=True):
    """A catalogue's clusters, largest first; ``center`` and ``scale`` standardise a feature."""

    features: tuple[str, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    silhouette: float
    probabilities: tuple[float, ...]
    clusters: tuple[Cluster, ...]


class MemberScore(Struct, frozen=True, kw_only=True, gc=False):
    """A member of a cluster's ensemble: mean ln P of a held-out epoch, one step ahead, in nats.

    ``weight`` is its part of the pool at the end, 0 while ``suspended``.
    """

    name: str
    log_score: float
    weight: float
    suspended: bool


class ClusterEnsemble(Struct, frozen=True, kw_only=True):
    """One cluster's members, and how the pools of them forecast the same ``epochs``."""

    cluster: int
    epochs: int
    members: tuple[MemberScore, ...]
    average_log_score: float
    weighted_log_score: float


class MemberAlert(Struct, frozen=True, kw_only=True, gc=False):
    """A member left a cluster's pool (``suspended``) or came back (``readmitted``).

    ``day`` is the event day, days since 1970.
    """

    day: int
    cluster: int
    member: str
    event: str
    reason: str


class LevelOutlier(Struct, frozen=True, kw_only=True, gc=False):
    """A product whose posterior forecast lies far from the ensemble's; orders per day."""

    sku: str
    posterior_per_day: float
    ensemble_per_day: float


class Ensemble(Struct, frozen=True, kw_only=True):
    """What the challengers made of products that the prior was not trained on."""

    clusters: tuple[ClusterEnsemble, ...]
    alerts: tuple[MemberAlert, ...] = ()
    outliers: tuple[LevelOutlier, ...] = ()


class DemandPrior(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published prior: what is believed of a product before its first order.

    ``cov`` is the spread between products of one category, ``category_cov`` between categories: an
    unseen category is as uncertain as both. ``known_level_sd`` is the sd of the log level where the
    shop states an expected demand; ``dispersion`` the phi of the order counts. ``attribute_cov`` is
    the covariance of the standardised numeric attributes in the order of their names, an upper
    triangle by rows; empty: uncorrelated. ``habit_markup`` is the geometric mean over categories of
    what their products were sold at, a multiple of unit cost over kept share: the expert's price
    where a category is unknown. ``expert_share`` is the expert's part in the price of a product of
    an unknown category (`models.prior.coldstart`).
    """

    version: int = 1
    source: str
    mean: Coefficients
    cov: Covariance
    category_cov: Covariance
    categories: dict[str, CategoryEffect] = {}
    attribute_effects: dict[str, AttributeEffect] = {}
    known_level_sd: float = 0.5
    dispersion: float = 0.2
    attribute_cov: tuple[float, ...] = ()
    habit_markup: float | None = None
    expert_share: float = 0.5
    training: TrainingRecord | None = None
    clusters: Clusters | None = None
    ensemble: Ensemble | None = None

    def __post_init__(self) -> None:
        for name, cov in (("cov", self.cov), ("category_cov", self.category_cov)):
            if not is_positive_definite(cov):
                raise ValueError(f"Expected a positive definite matrix - at `$.{name}`")
        means = [self.mean, *(one.offset for one in self.categories.values())]
        means += [one.weights for one in self.attribute_effects.values()]
        if max(abs(value) for values in means for value in values) > COEFFICIENT_MAX:
            raise ValueError("Expected coefficients from -50 to 50 - at `$.mean` and effects")
        covs = [self.cov, self.category_cov, *(one.cov for one in self.categories.values())]
        if (
            min(self.cov[0], self.cov[4], self.cov[7], self.cov[9]) < VARIANCE_MIN
            or max(map(max, covs)) > VARIANCE_MAX
        ):
            raise ValueError("Expected variances from 1e-12 to 2500 - at `$.cov` and categories")
        for name, category in self.categories.items():
            if not is_positive_definite(category.cov):
                raise ValueError(f"Expected a positive definite matrix - at `$.categories.{name}`")
        for name, attribute in self.attribute_effects.items():
            if not attribute.scale > 0.0:
                raise ValueError(f"Expected a scale above 0 - at `$.attribute_effects.{name}`")
        if not self.known_level_sd > 0.0:
            raise ValueError("Expected a number above 0 - at `$.known_level_sd`")
        if not 0.0 < self.dispersion < 10.0:
            raise ValueError("Expected a number above 0 and below 10 - at `$.dispersion`")
        if not 0.0 <= self.expert_share <= 1.0:
            raise ValueError("Expected a number from 0 to 1 - at `$.expert_share`")
        markups = [self.habit_markup, *(found.habit_markup for found in self.categories.values())]
        if any(markup is not None and not 0.0 < markup < math.inf for markup in markups):
            raise ValueError("Expected mark-ups above 0 - at `$.habit_markup`")
        count = len(self.attribute_effects)
        if self.attribute_cov and len(self.attribute_cov) != count * (count + 1) // 2:
            raise ValueError(f"Expected the triangle of {count} attributes - at `$.attribute_cov`")


class ReturnLevel(Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One product's returns against the pooled model's, in units, with forgetting.

    ``segments`` are the units sold by segment (most of them kept, see ``models.returns.returns``).
    """

    expected_returns: float
    returned_units: float
    day: int
    segments: dict[str, float] = {}


class ReturnCohort(Struct, kw_only=True):
    """Units of one product, event day and segment whose returns are still to come.

    ``lines``: units sold, units left, and time of the order (ms of the event day), by order line;
    ``units_left`` is their sum. ``sold`` and ``returned`` (by delay bin) are statistical weights in
    units: an order line counts at most ``models.returns.cohorts.LINE_UNITS_MAX``. ``ln_price_sum``
    is the weighted sum of ln(P / P_ref), ``ln_rival_sum`` of ln(P_c / P) where a rival was known,
    of the weight ``rival_sold``. ``exposed_share`` is the share of each unit that has taught.
    """

    sku: str
    segment: str
    day: int
    milestones_done: int = 0
    sold: float = 0.0
    ln_price_sum: float = 0.0
    returned: list[float] = field(default_factory=lambda: [0.0] * len(DELAY_DAYS))
    lines: dict[str, tuple[int, int, int]] = {}
    exposed_share: float = 0.0
    units_left: int = 0
    rival_sold: float = 0.0
    ln_rival_sum: float = 0.0


class LogisticWeights(Struct, frozen=True, kw_only=True):
    """Weights of a logistic regression: (name, mean, variance), sorted by name; the covariances of
    those that have any stand in ``cross``, as the model orders them."""

    weights: tuple[tuple[str, float, float], ...]
    cross: tuple[float, ...]


class ReturnPool(Struct, frozen=True, kw_only=True):
    """The pooled return models of one tape partition.

    ``factors`` are (name, returned, expected), sorted by name. ``delays`` has a pair for each delay
    bin but the first: returns that came in it, and earlier, of cohorts that have passed it.
    """

    prior_rate: float
    logistic: LogisticWeights
    factors: tuple[tuple[str, float, float], ...]
    calibration: LogisticWeights
    delays: tuple[tuple[float, float], ...]


class DriftSums(Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """Evidence of a break by kind, nats, each 0 at rest: see `models.demand.drift`."""

    level_up: float = 0.0
    level_down: float = 0.0
    less_elastic: float = 0.0
    more_elastic: float = 0.0


class Quarantine(Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A closed epoch with implausibly many orders, learned at the first close from release on."""

    epoch: OpenEpoch
    release_ms: int
    offset: float = 0.0
    offset_variance: float = 0.0


class PriceSums(Struct, frozen=True, array_like=True, gc=False):
    """Integrals over event time of ln(P / P_ref) and of the control, times days."""

    ln_price_days: float = 0.0
    control_days: float = 0.0


class PriceClock(Struct, frozen=True, array_like=True, gc=False):
    """The price that a product has shown since ``since_ms``, and its integrals up to then."""

    ln_price: float
    control: float
    since_ms: int
    sums: PriceSums


class CrossEffects(Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """Belief about how partners' prices move a product's demand: normal, joint with its own.

    ``mean`` and ``cov`` (upper triangle by rows) are of the cross elasticities d ln units / d ln
    P_j in the order of ``partners``, and last of the coefficient of the partners' mean control.
    ``own_cov`` is the covariance with (b, eps, eta, delta), four numbers a term. It holds while the
    product's own variances are ``own_variances``. ``tried``: candidates that have been looked at.
    """

    partners: tuple[str, ...]
    mean: tuple[float, ...]
    cov: tuple[float, ...]
    own_cov: tuple[float, ...]
    own_variances: Coefficients
    tried: int
