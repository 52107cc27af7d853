"""Training of the prior: what is collected, what is learned from it, and who wins."""

import math
import random
from functools import cache

import numpy as np
import pytest
from msgspec.structs import replace

from models.demand.epoch import Features, Observation, open_epoch
from models.demand.history import Episodes, EpochHistory, sku_digest
from models.kernel.tile import Kernel
from models.prior import champion, prior_fit, training
from models.prior.maml import MamlSettings, meta_train
from models.prior.prior import DEFAULT_PRIOR
from models.simulator.world import World, WorldSettings
from schemas.codec import canonical
from schemas.learned import CategoryEffect, DemandPrior
from schemas.state import CatalogueEntry
from tests.models.tapes import DAY_MS, Partition, at

TAPE = training.TapeFacts({"0": 41}, "ab" * 32)
SETTINGS = WorldSettings(products=400, categories=10, unseen_categories=0)


def entry(sku: str, category: str = "lamps", cost: int | None = 500) -> CatalogueEntry:
    return CatalogueEntry(
        sku=sku, family=sku, category=category, currency="EUR", attributes={"size": 2.0},
        unit_cost_minor=cost, return_handling_cost_minor=None, list_price_minor=None,
        minimum_resale_price_minor={}, kept_share=0.8, exit_ms=None, predecessor=None,
        retired=False, changed_ms=0,
    )  # fmt: skip


def note(history: EpochHistory, sku: str, day: int, **changes: object) -> None:
    opened = open_epoch(
        0, 1000, 1000, rival_minor=None, exogenous_log=0.0, in_stock=True, traffic_feed=False
    )
    seen = Observation(Features(0.1, None, 0.02), 3, 1.5)._replace(**changes)
    history(entry(sku), opened, seen, day * DAY_MS)


@cache
def world() -> tuple[World, Episodes]:
    """A small reference world's 120 days of habit as epochs of a day."""
    made = World(11, SETTINGS)
    days = made.history(120)
    columns = {
        name: np.stack([getattr(day, name) for day in days], axis=1).astype(float)
        for name in ("ln_price", "exogenous_log", "ln_rival", "orders")
    }
    shape = columns["orders"].shape
    products = made.products
    return made, Episodes(
        skus=[f"P{number:04d}" for number in range(shape[0])],
        categories=[f"C{number}" for number in products.category],
        attributes=[{f"a{i}": value for i, value in enumerate(row)}
                    for row in products.attributes.tolist()],
        end_days=np.tile(np.arange(1.0, shape[1] + 1.0), (shape[0], 1)),
        ln_price=columns["ln_price"],
        ln_rival=columns["ln_rival"],
        rival_known=np.ones(shape, dtype=np.bool_),
        control=columns["ln_price"] - columns["exogenous_log"],
        orders=columns["orders"],
        exposure_days=np.ones(shape),
        ln_markup=np.log(products.habit_markup),
        costed=np.ones(shape[0], dtype=np.bool_),
    )  # fmt: skip


@cache
def trained() -> training.Trained:
    return training.train(world()[1], TAPE, "a test")


# -- what is collected


def test_the_fold_tells_of_every_epoch_that_taught(kernel: Kernel) -> None:
    shop, history = Partition(kernel), EpochHistory()
    shop.engine.state.observer = history
    shop.send("product_listed", at(), attributes={"size": 3.0})
    price = shop.state.published_minor
    for number in range(3):
        shop.send("order_placed", at(hours=number + 1), order_id=f"o{number}")
    shop.send("inventory_changed", at(days=1), on_hand=0)
    found = history.episodes()
    assert (found.skus, found.categories, found.attributes) == (["A"], ["lamps"], [{"size": 3.0}])
    assert found.orders.tolist() == [[3.0]]
    assert found.exposure_days.tolist() == [[1.0]]
    assert found.end_days.tolist() == [[at(days=1) / DAY_MS]]
    assert found.ln_price.tolist() == [[math.log(price / 1000)]]
    assert found.rival_known.tolist() == [[False]]
    assert found.ln_markup.tolist() == [math.log(price / 500)]
    assert shop.state.posterior.epochs == 1


def test_what_does_not_come_in_is_not_zero() -> None:
    history = EpochHistory()
    note(history, "A", 1, features=Features(0.1, 0.3, 0.02), offset=math.log(2.0))
    note(history, "A", 2)
    opened = open_epoch(0, 1000, 1000, rival_minor=None, exogenous_log=0.0, in_stock=True)
    history(entry("B", cost=None), opened, Observation(Features(0.0, None, 0.0), 0, 1.0), DAY_MS)
    found = history.episodes()
    assert found.rival_known.tolist() == [[True, False], [False, False]]
    assert found.exposure_days.tolist() == [[3.0, 1.5], [1.0, 0.0]]  # 0: padding
    assert found.costed.tolist() == [True, False]
    assert found.epochs == 3


def test_memory_is_bounded_and_no_order_of_arrival_shows() -> None:
    skus = [f"S{number}" for number in range(40)]
    kept = sorted(sorted(skus, key=sku_digest)[:8])
    found = []
    for seed in (1, 2):
        history = EpochHistory(products_max=8, epochs_max=3)
        shuffled = random.Random(seed).sample(skus, len(skus))
        for day in range(5):
            for sku in shuffled:
                note(history, sku, day)
        assert len(history) == 8
        found.append(history.episodes())
    assert found[0].skus == found[1].skus == kept
    assert found[0].end_days.tolist() == found[1].end_days.tolist() == [[2.0, 3.0, 4.0]] * 8


# -- what is learned


def elasticity_error(prior: DemandPrior) -> tuple[float, float]:
    """RMSE of the elasticity that the held-out products begin with, and their floor."""
    made, episodes = world()
    aside = np.flatnonzero(champion.held_out(episodes))
    products = made.products.take(aside)
    begun = prior_fit.beginnings(prior, episodes.take(aside))
    expected = np.clip(products.elasticity_expected, -5.0, -1.1)
    return (
        float(np.sqrt(np.mean((begun.mean[:, 1] - products.elasticity) ** 2))),
        float(np.sqrt(np.mean((expected - products.elasticity) ** 2))),
    )


def test_a_fitted_prior_knows_products_that_did_not_teach_it() -> None:
    _, episodes = world()
    taught = episodes.take(np.flatnonzero(~champion.held_out(episodes)))
    prior = prior_fit.fit(taught, "a test")
    error, floor = elasticity_error(prior)
    untrained, _ = elasticity_error(DEFAULT_PRIOR)
    assert (error < 1.25 * floor, untrained > 1.4 * floor) == (True, True)
    assert abs(prior.mean[3] - 4.0) < 1.0  # the shop follows demand by a quarter


def test_the_modes_do_not_move_when_looked_for_again() -> None:
    _, episodes = world()
    begun = prior_fit.beginnings(DEFAULT_PRIOR, episodes)
    once = prior_fit.posteriors(episodes, begun, 0.2)
    # at the mode the prior's pull and the likelihood's score are in balance
    x = prior_fit.features(episodes)
    mu = np.exp(np.einsum("ntk,nk->nt", x, once.mean))
    score = np.einsum("ntk,nt->nk", x, (episodes.orders - mu) / (1.0 + 0.2 * mu))
    pull = np.einsum("nij,nj->ni", np.linalg.inv(begun.cov), once.mean - begun.mean)
    np.testing.assert_allclose(score, pull, atol=1e-6)


def test_habits_are_what_categories_sold_at() -> None:
    made, _ = world()
    prior = trained().prior
    by_category = {f"C{c}": made.products.habit_markup[made.products.category == c][0]
                   for c in range(10)}  # fmt: skip
    found = {name: effect.habit_markup for name, effect in prior.categories.items()}
    assert found == pytest.approx(by_category)
    mean = math.exp(sum(math.log(markup) for markup in by_category.values()) / 10)
    assert prior.habit_markup == pytest.approx(mean)
    assert 0.0 <= prior.expert_share <= 1.0


def test_an_expert_who_knows_better_counts_for_more() -> None:
    """Where attributes tell nothing and habits hit the best mark-up, the share rises."""
    _, episodes = world()
    prior = trained().prior
    posterior = prior_fit.posteriors(episodes, prior_fit.beginnings(prior, episodes), 0.2)
    elasticity = np.minimum(posterior.mean[:, 1], -1.25)
    knowing = episodes._replace(
        ln_markup=np.full(400, np.log(elasticity / (1 + elasticity)).mean())
    )
    misled = replace(
        prior,
        attribute_effects={
            name: replace(effect, weights=(0.0, -5.0 * effect.weights[1], 0.0, 0.0))
            for name, effect in prior.attribute_effects.items()
        },
    )
    assert prior_fit.with_habits(misled, knowing, posterior).expert_share > 0.7


@pytest.mark.parametrize("second_order", [False, True])
def test_meta_learning_stays_with_empirical_bayes_and_repeats_itself(second_order: bool) -> None:
    _, episodes = world()
    start = prior_fit.fit(episodes, "a test")
    settings = MamlSettings(steps=40)
    first, again = (
        meta_train(start, episodes, "meta", second_order=second_order, settings=settings)
        for _ in range(2)
    )
    assert canonical(first) == canonical(again)
    assert first.mean != start.mean
    assert elasticity_error(first)[0] == pytest.approx(elasticity_error(start)[0], abs=0.02)
    # only the inner step sees S, so that the first order leaves it
    assert (first.cov == pytest.approx(start.cov, abs=1e-9)) is not second_order


def test_meta_learning_refuses_a_category_that_was_not_fitted() -> None:
    _, episodes = world()
    with pytest.raises(ValueError, match="no category 'C0'"):
        meta_train(DEFAULT_PRIOR, episodes, "meta", second_order=False)


# -- who wins


def test_the_document_says_what_it_was_trained_on_and_who_won() -> None:
    found = trained()
    record = found.prior.training
    assert record is not None
    names = ["default prior", "empirical Bayes", "MAML, first order", "MAML, second order"]
    assert [score.name for score in record.scores] == names == list(found.by_orders_seen)
    assert (record.products, record.epochs) == (400, 400 * 120)
    assert record.orders == int(world()[1].orders.sum())
    assert (record.tape_sha256, record.positions) == (TAPE.tape_sha256, TAPE.positions)
    by_name = {score.name: score for score in record.scores}
    assert record.champion in names[1:]
    assert by_name["empirical Bayes"].log_likelihood > by_name["default prior"].log_likelihood
    assert all(score.standard_error > 0.0 for score in record.scores)
    rows = zip(found.by_orders_seen[names[1]], found.by_orders_seen[names[0]], strict=True)
    assert [pooled > alone for pooled, alone in rows][:3] == [True, True, True]


def test_a_forecast_is_a_distribution() -> None:
    """The predictive probabilities of all counts of a first epoch add up to 1."""
    _, episodes = world()
    one = episodes.take(np.zeros(200, dtype=np.int64))
    first = one._replace(**{
        name: getattr(one, name)[:, :1] for name in Episodes._fields[3:10]
    })._replace(orders=np.arange(200.0)[:, None])  # fmt: skip
    narrow = replace(DEFAULT_PRIOR, cov=(0.25, *DEFAULT_PRIOR.cov[1:]), category_cov=(
        0.04, *DEFAULT_PRIOR.category_cov[1:]))  # fmt: skip
    found = champion.forecasts(narrow, first).log_likelihood
    assert np.exp(found).sum() == pytest.approx(1.0, abs=1e-6)


def forecasts_of(values: list[float]) -> champion.Forecasts:
    column = np.array(values)[:, None]
    return champion.Forecasts(column, np.ones_like(column, dtype=np.bool_), np.zeros_like(column))


@pytest.mark.parametrize(
    ("why", "challenger", "wins"),
    [
        ("better on every product", [-0.9, -1.9, -2.9, -3.9], True),
        ("worse on every product", [-1.1, -2.1, -3.1, -4.1], False),
        ("better by less than its error", [-0.5, -2.4, -2.5, -4.4], False),
        ("the same", [-1.0, -2.0, -3.0, -4.0], False),
    ],
)
def test_a_challenger_must_win_beyond_its_error(
    why: str, challenger: list[float], wins: bool
) -> None:
    found = {"old": forecasts_of([-1.0, -2.0, -3.0, -4.0]), "new": forecasts_of(challenger)}
    assert champion.champion(found, "old") == ("new" if wins else "old"), why


def test_refreshing_keeps_the_scores_and_follows_the_tape() -> None:
    _, episodes = world()
    before = trained().prior
    later = training.TapeFacts({"0": 99}, "cd" * 32)
    after = training.refreshed(before, episodes, later, "later")
    assert before.training is not None
    assert after.training == replace(
        before.training, tape_sha256=later.tape_sha256, positions=later.positions
    )
    assert elasticity_error(after)[0] == pytest.approx(elasticity_error(before)[0], abs=0.02)


def test_too_few_products_teach_nothing() -> None:
    few = world()[1].take(np.arange(9))
    with pytest.raises(ValueError, match="products with a closed epoch were 9; expected 10"):
        training.train(few, TAPE, "a test")


def test_categories_keep_their_habit_when_a_tape_has_no_cost() -> None:
    _, episodes = world()
    known = CategoryEffect(offset=(0.0,) * 4, cov=DEFAULT_PRIOR.category_cov, products=1,
                           habit_markup=1.7)  # fmt: skip
    prior = replace(DEFAULT_PRIOR, categories={"C0": known}, habit_markup=1.7)
    blind = episodes._replace(costed=np.zeros(400, dtype=np.bool_))
    posterior = prior_fit.beginnings(prior, blind)
    assert prior_fit.with_habits(prior, blind, posterior) == prior
