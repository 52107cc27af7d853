"""The contract of every learning model, checked over all that introspection finds.

A model answers before it has learned, takes one row at a time, neither changes its input nor keeps
it, has bounded memory, and its stored state has the identical future. River's own checks run too,
on demand and return rows instead of its scikit-learn data sets.
"""

import copy
import importlib
import math
import pickle
import pkgutil
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
import river.checks
from river import base

import models
import schemas.learned
from models.demand.demand_regressor import DemandRegressor
from models.demand.epoch import add_order, open_epoch
from models.prior.prior import DEFAULT_PRIOR, adapt
from models.returns.cohorts import new_cohort, sell
from models.returns.returns import ReturnRateModel
from schemas.codec import canonical
from schemas.learned import (
    AttributeEffect,
    CategoryEffect,
    DemandPosterior,
    ReturnLevel,
    ReturnPool,
)

Row = tuple[dict[str, Any], Any]


def demand_rows(count: int) -> Iterator[Row]:
    rng = random.Random(7)
    for _ in range(count):
        price = rng.gauss(0.0, 0.15)
        row = {
            "ln_price": price,
            "ln_rival": rng.gauss(0.0, 0.1),
            "control": 0.5 * price,
            "visits": rng.randrange(100),
        }
        yield row, max(round(rng.gauss(math.exp(1.0 - 2.0 * price), 1.0)), 0)


def return_rows(count: int) -> Iterator[Row]:
    rng = random.Random(8)
    for _ in range(count):
        price = rng.gauss(0.0, 0.15)
        row = {
            "category": rng.choice(["shoes", "lamps"]),
            "segment": rng.choice(["web", "app"]),
            "ln_price": price,
            "visits": rng.randrange(100),
        }
        yield row, rng.random() < 1.0 / (1.0 + math.exp(1.5 - price))


def restore_demand(stored: bytes) -> DemandRegressor:
    model = DemandRegressor()
    model.posterior = msgspec.json.decode(stored, type=DemandPosterior)
    return model


class Subject(NamedTuple):
    """How a model is fed, stored and read back."""

    rows: Callable[[int], Iterator[Row]]
    store: Callable[[Any], bytes]
    restore: Callable[[bytes], Any]


SUBJECTS: dict[type, Subject] = {
    DemandRegressor: Subject(demand_rows, lambda model: canonical(model.posterior), restore_demand),
    ReturnRateModel: Subject(
        return_rows,
        lambda model: canonical(model.state()),
        lambda stored: ReturnRateModel.restore(msgspec.json.decode(stored, type=ReturnPool)),
    ),
}


def find_models() -> list[type]:
    found: dict[type, None] = {}
    for module in pkgutil.walk_packages(models.__path__, "models."):
        names = vars(importlib.import_module(module.name))
        for value in names.values():
            if isinstance(value, type) and value.__module__.startswith("models."):
                found |= {value: None} if hasattr(value, "learn_one") else {}
    return sorted(found, key=lambda kind: kind.__name__)


MODELS = find_models()


def predict(model: Any, row: dict[str, Any]) -> Any:
    return (
        model.predict_proba_one(row)
        if isinstance(model, base.Classifier)
        else (model.predict_one(row))
    )


def test_every_model_is_fed_here() -> None:
    assert list(SUBJECTS) == MODELS, "add a Subject for the new model"


@pytest.mark.parametrize("kind", MODELS)
def test_it_answers_before_it_has_learned(kind: type) -> None:
    row, _ = next(SUBJECTS[kind].rows(1))
    answer = predict(kind(), row)
    values = answer.values() if isinstance(answer, dict) else [answer]
    assert all(math.isfinite(value) and value >= 0.0 for value in values)


@pytest.mark.parametrize("cut", [0, 1, 57])
@pytest.mark.parametrize("kind", MODELS)
def test_a_restored_model_has_the_same_future(kind: type, cut: int) -> None:
    subject, rows = SUBJECTS[kind], list(SUBJECTS[kind].rows(120))
    model = kind()
    for row, label in rows[:cut]:
        model.learn_one(row, label)
    twin = subject.restore(subject.store(model))
    for row, label in rows[cut:]:
        assert predict(twin, row) == predict(model, row)
        model.learn_one(row, label)
        twin.learn_one(row, label)
    assert subject.store(twin) == subject.store(model)


@pytest.mark.parametrize("kind", MODELS)
def test_it_learns_something_and_only_by_learning(kind: type) -> None:
    subject, model = SUBJECTS[kind], kind()
    before = subject.store(model)
    for row, _ in subject.rows(20):
        predict(model, row)
    assert subject.store(model) == before
    for row, label in subject.rows(20):
        model.learn_one(row, label)
    assert subject.store(model) != before


@pytest.mark.parametrize("kind", MODELS)
def test_it_neither_changes_nor_keeps_a_row(kind: type) -> None:
    subject, model = SUBJECTS[kind], kind()
    for row, label in subject.rows(30):
        given = copy.deepcopy(row)
        model.learn_one(row, label)
        predict(model, row)
        assert row == given
        stored = subject.store(model)
        row.update(dict.fromkeys(row, 1000000000.0))
        assert subject.store(model) == stored


@pytest.mark.parametrize("kind", MODELS)
def test_its_memory_does_not_grow_with_rows(kind: type) -> None:
    subject, model, sizes = SUBJECTS[kind], kind(), []
    for number, (row, label) in enumerate(subject.rows(3_000)):
        model.learn_one(row, label)
        if number in (300, 2_999):
            sizes.append((len(subject.store(model)), len(pickle.dumps(model))))
    assert sizes[1][0] <= sizes[0][0] + 64  # digits only
    assert sizes[1][1] <= sizes[0][1] + 64


class RiverRows:
    """Rows as River's checks want them: an iterable that can be read again."""

    def __init__(self, rows: Callable[[int], Iterator[Row]], count: int) -> None:
        self.rows, self.count = rows, count

    def __iter__(self) -> Iterator[Row]:
        return self.rows(self.count)


@pytest.mark.parametrize("kind", MODELS)
def test_it_passes_rivers_estimator_checks(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """All checks River chooses for the class, none skipped, on rows that need no scikit-learn."""
    rows, model = SUBJECTS[kind].rows, kind()

    def data_sets(model: Any, scale: int = 1) -> Iterator[RiverRows]:
        yield RiverRows(rows, 60 * scale)

    monkeypatch.setattr(river.checks, "_yield_datasets", data_sets)
    passed = []
    for check in river.checks.yield_checks(model):
        check(model.clone())
        passed.append(check.__name__)
    assert {"check_learn_one", "check_clone_is_independent", "check_repr_roundtrips_clone"} <= set(
        passed
    )
    assert len(passed) >= 24


def examples() -> dict[type, msgspec.Struct]:
    posterior, source = adapt(DEFAULT_PRIOR, "shoes", {"colour": "red"}, 1)
    epoch = add_order(
        open_epoch(1, 999, 1_000, rival_minor=1_050.5, exogenous_log=0.01, in_stock=True),
        3,
        999,
        1,
        10,
    )
    assert epoch is not None
    cohort = new_cohort("A1", "web", 86_400_123)
    sell(cohort, "6aee2c0f3b3a476a", 2, 0.1, 86_400_123)
    taught = ReturnRateModel()
    for row, label in return_rows(10):
        taught.learn_one(row, label)
    found: list[msgspec.Struct] = [
        posterior,
        source,
        epoch,
        cohort,
        taught.state(),
        taught.state().logistic,
        DEFAULT_PRIOR,
        CategoryEffect(offset=posterior.mean, cov=posterior.cov, products=3),
        AttributeEffect(center=1.5, scale=0.1, weights=posterior.mean),
        ReturnLevel(expected_returns=0.1, returned_units=1 / 3, day=3, segments={"web": 2.0}),
    ]
    return {type(record): record for record in found}


def filled(kind: msgspec.inspect.Type) -> Any:
    """A value of a type, with something in every field: for records without rules of their own."""
    match kind:
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            return cls(**{field.name: filled(field.type) for field in fields})
        case msgspec.inspect.DictType(key_type=key, value_type=value):
            return {filled(key): filled(value)}
        case msgspec.inspect.VarTupleType(item_type=item):
            return (filled(item), filled(item))
        case msgspec.inspect.TupleType(item_types=items):
            return tuple(filled(item) for item in items)
        case msgspec.inspect.ListType(item_type=item):
            return [filled(item), filled(item)]
        case msgspec.inspect.UnionType(types=types):
            return filled(next(one for one in types if one != msgspec.inspect.NoneType()))
        case msgspec.inspect.LiteralType(values=values):
            return values[0]
    plain = {
        msgspec.inspect.FloatType: -1 / 3,
        msgspec.inspect.IntType: 7,
        msgspec.inspect.StrType: "a",
        msgspec.inspect.BoolType: True,
    }
    return plain[type(kind)]


RECORDS = [
    value
    for value in vars(schemas.learned).values()
    if isinstance(value, type)
    and issubclass(value, msgspec.Struct)
    and value.__module__ == schemas.learned.__name__
]


@pytest.mark.parametrize("kind", RECORDS)
def test_every_state_record_survives_its_own_bytes(kind: type) -> None:
    record = examples().get(kind) or filled(msgspec.inspect.type_info(kind))
    stored = canonical(record)
    reread = msgspec.json.decode(stored, type=kind)
    assert reread == record
    assert canonical(reread) == stored


def test_a_products_learned_state_is_small() -> None:
    """Posterior, open epoch and return level together, after a long life: below a kilobyte."""
    model = DemandRegressor()
    for row, label in demand_rows(500):
        model.learn_one(row, label)
    level = ReturnLevel(
        expected_returns=1234.567890123456,
        returned_units=1333.3333333333333,
        day=20_000,
        segments={f"segment-{n}": 1000 / 7 * (n + 1) for n in range(3)},
    )
    epoch = examples()[schemas.learned.OpenEpoch]
    assert sum(len(canonical(record)) for record in (model.posterior, epoch, level)) < 1_024
