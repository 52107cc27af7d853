"""Decisions of two policies beside each other: stretches, shares, what is at stake."""

import numpy as np
import pytest

from models.backtest.collect import Activity, Columns, Notes
from models.backtest.columns import INPUTS, Decisions, Epochs, Floats, Outcomes, Products
from models.backtest.differences import differences, stretches
from models.backtest.join import joined
from schemas.backtest import Count, Difference

DAY = 86_400_000
NAN = float("nan")
Row = tuple[int, float, float]  # product, day, price in force


def columns(rows: list[Row], skus: str = "AB", reasons: list[str] | None = None) -> Columns:
    """Products whose decisions earn a tenth of their price a day; the tape ends on day 10."""
    count, products = len(rows), len(skus)
    zeros = np.zeros(count)
    reference = np.full(count, 1000.0)
    decisions = Decisions(
        product=np.array([row[0] for row in rows], dtype=np.int64),
        at_ms=np.array([row[1] * DAY for row in rows], dtype=np.int64),
        partition=np.zeros(count, dtype=np.int64),
        offset=np.arange(count),
        price_minor=np.array([row[2] for row in rows]),
        wanted_minor=np.array([row[2] for row in rows]),
        plain_minor=np.array([row[2] for row in rows]),
        effective=np.ones(count, dtype=bool),
        probe=zeros > 0,
        up_minor=zeros,
        down_minor=zeros,
        up_probability=zeros,
        drew_up=zeros > 0,
        exogenous_log=zeros,
        reference_minor=reference,
        profit_per_day_minor=zeros,
        inputs=np.ones((count, len(INPUTS))),
    )
    texts = list(dict.fromkeys(reasons or ["trigger: epoch"]))
    reason = np.array([texts.index(one) for one in reasons or texts * count], dtype=np.int64)
    nothing, none = np.zeros(0), np.zeros(0, dtype=np.int64)
    belief = (np.zeros((0, 4)), np.zeros((0, 4, 4)))
    return Columns(
        Products(list(skus), list(skus), ["lamps"] * products, ["EUR"] * products),
        decisions,
        Notes(texts, reason),
        np.full(products, 10 * DAY),
        Epochs(*[none] * 3, *[nothing] * 9, *belief),
        Outcomes(*[none] * 2, *[nothing] * 8),
    )


def tenth(inputs: Floats, price: Floats, reference: Floats) -> Floats:
    return price / 10.0


def compared(ours: Columns, theirs: Columns):  # type: ignore[no-untyped-def]
    none = Activity.none()
    return differences(stretches(ours, theirs, tenth), ours, theirs, (none, none))


def test_the_same_decisions_are_the_same() -> None:
    rows = [(0, 0.0, 1000.0), (0, 4.0, 900.0), (1, 2.0, 500.0)]
    found = compared(columns(rows), columns(rows))
    assert (found.product_days, found.same_share, found.mean_ln_ratio) == (18.0, 1.0, 0.0)
    assert (found.products_differing, found.first_divergence, found.largest) == (0, None, ())


def test_a_stretch_runs_over_decisions_that_change_no_price() -> None:
    ours = columns(
        [(0, 0.0, 1000.0), (0, 5.0, 1000.0)], "A", ["trigger: epoch", "trigger: epoch; guard: step"]
    )
    theirs = columns([(0, 1.0, 1100.0), (0, 3.0, 1100.0), (0, 8.0, 1000.0)], "A")
    found = compared(ours, theirs)
    assert found.product_days == 9.0
    assert found.dearer_share == pytest.approx(7 / 9)
    assert found.mean_ln_ratio == pytest.approx(7 / 9 * np.log(1.1))
    assert [
        (one.from_time[:10], one.to_time[:10], one.at_stake_minor) for one in found.largest
    ] == [("1970-01-02", "1970-01-09", 70.0)]
    first = found.first_divergence
    assert first == Difference(
        sku="A", category="lamps", currency="EUR", from_time="1970-01-01T00:00:00.000Z",
        to_time="1970-01-02T00:00:00.000Z", tape="tape[0]@0", baseline_minor=1000,
        candidate_minor=None, at_stake_minor=None, reasons=("baseline: trigger: epoch",),
    )  # fmt: skip


def test_what_bound_in_one_alone_is_told() -> None:
    ours = columns([(0, 0.0, 1000.0)], "A", ["trigger: epoch; guard: step"])
    theirs = columns([(0, 0.0, 1100.0)], "A", ["trigger: epoch; exploration"])
    found = compared(ours, theirs)
    assert found.first_divergence is not None
    assert found.first_divergence.reasons == ("baseline: guard: step", "candidate: exploration")
    assert found.first_divergence.at_stake_minor == pytest.approx(100.0)


def test_a_price_that_is_only_held_is_none_before_the_first() -> None:
    found = compared(
        columns([(0, 0.0, NAN), (0, 2.0, 1000.0)], "A"), columns([(0, 2.0, 1000.0)], "A")
    )
    assert (found.product_days, found.same_share, found.products_differing) == (8.0, 1.0, 0)


def test_without_a_price_under_both_there_are_no_shares() -> None:
    found = compared(columns([(0, 0.0, 1000.0)]), columns([(1, 0.0, 1000.0)]))
    assert (found.product_days, found.same_share, found.mean_ln_ratio) == (0.0, None, None)
    assert found.products_differing == 2


def test_counts_stand_with_the_most_frequent_first() -> None:
    ours, theirs = Activity.none(), Activity.none()
    ours.guards.update({"step": 2, "ceiling": 9})
    theirs.guards.update({"step": 5})
    rows = columns([(0, 0.0, 1000.0)], "A")
    found = differences(stretches(rows, rows, tenth), rows, rows, (ours, theirs))
    assert found.guards == (
        Count(name="ceiling", baseline=9, candidate=0),
        Count(name="step", baseline=2, candidate=5),
    )


def test_partitions_are_joined_by_product() -> None:
    left = columns([(0, 0.0, 1.0), (1, 1.0, 2.0)], "AC", ["x", "y"])
    right = columns([(0, 0.0, 3.0), (0, 2.0, 4.0)], "B", ["y", "z"])
    whole = joined([right, left])
    assert whole.products.skus == ["A", "B", "C"]
    assert whole.decisions.product.tolist() == [0, 1, 1, 2]
    assert whole.decisions.price_minor.tolist() == [1.0, 3.0, 4.0, 2.0]
    assert [whole.notes.texts[at] for at in whole.notes.reason] == ["x", "y", "z", "y"]
