"""``whatif``: closed forms, Greeks in minor units, currency scaling, steps, flags, wrong input."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kernel.tile import Kernel
from models.pricing.whatif import STEPS, whatif, whatifs
from schemas.errors import FieldError
from tests.models import numpy_objective
from tests.models.numpy_objective import Problem

RNG = np.random.default_rng(24)
BASE: dict[str, Any] = {
    "currency": "EUR",
    "cost_minor": 5_000,
    "return_cost_minor": 1_500,
    "reference_price_minor": 10_000,
    "horizon_days": 7,
    "demand_per_day": 10,
    "elasticity": -2.0,
    "demand_volatility": 0.3,
    "stock": None,
    "return_rate": {"shape": "constant", "rate": 0.2},
}
LOGISTIC = {
    "shape": "logistic_price", "min": 0.05, "max": 0.5, "steepness": 0.03,
    "midpoint_minor": 10_000,
}  # fmt: skip


@given(
    elasticity=st.floats(-12.0, -1.02),
    cost=st.floats(0.0, 9.0).map(lambda power: 10.0**power),
    reference=st.floats(0.0, 9.0).map(lambda power: 10.0**power),
    rate=st.floats(0.0, 0.7),
    vat=st.sampled_from([0.0, 0.07, 0.2, 0.25]),
    fee=st.floats(0.0, 0.3),
)
def test_the_closed_form_is_the_mark_up(
    kernel: Kernel, elasticity: float, cost: float, reference: float, rate: float, vat: float,
    fee: float,
):  # fmt: skip
    returned = 0.3 * cost
    answer = whatif(
        BASE
        | {
            "elasticity": elasticity, "cost_minor": cost, "reference_price_minor": reference,
            "return_cost_minor": returned, "vat_rate": vat, "fee_rate": fee,
            "return_rate": {"shape": "constant", "rate": rate},
        },
        kernel,
    )  # fmt: skip
    kept = (1.0 - fee) / (1.0 + vat)
    size = abs(elasticity)
    expected = size / (size - 1.0) * (cost + rate * returned / (1.0 - rate)) / kept
    assert answer["price_minor"] == pytest.approx(expected, rel=1e-9)
    assert (answer["at_bound"], answer["method"]) == (None, "newton")
    assert answer["flags"] == ["unlimited_stock"]


@pytest.mark.parametrize(("steepness", "expected"), [(0.03, 8_879.0), (0.01, 10_107.0)])
def test_a_logistic_return_rate_meets_the_corrected_condition(
    kernel: Kernel, steepness: float, expected: float
):
    answer = whatif(BASE | {"return_rate": LOGISTIC | {"steepness": steepness}}, kernel)
    price = answer["price_minor"]
    assert price == pytest.approx(expected, abs=0.5)
    rate = answer["return_rate"]
    assert rate == pytest.approx(0.05 + 0.45 / (1 + math.exp(-steepness * (price / 100 - 100))))
    slope = steepness / 100 * (rate - 0.05) * (0.5 - rate) / 0.45
    earned = price - 5_000
    pull = 2.0 / price * (earned - rate * 1_500 / (1.0 - rate))
    assert pull + slope / (1.0 - rate) * (earned + 1_500) == pytest.approx(1.0, abs=1e-9)


def test_a_yen_has_no_minor_unit(kernel: Kernel):
    yen = BASE | {"currency": "JPY", "return_rate": LOGISTIC | {"steepness": 0.0003}}
    euro = BASE | {"return_rate": LOGISTIC}
    price = whatif(yen, kernel)["price_minor"]
    assert price == pytest.approx(whatif(euro, kernel)["price_minor"], rel=1e-9)


def random_document(rng: np.random.Generator) -> dict[str, Any]:
    """A document from all over the domain."""
    reference = float(10.0 ** rng.uniform(2.0, 6.0))
    cost = reference * float(rng.uniform(0.3, 0.8))
    low, high = sorted(rng.uniform(0.0, 0.5, 2).tolist())
    mean = float(10.0 ** rng.uniform(0.0, 3.0))
    shape = int(rng.integers(3))
    return {
        "currency": "EUR",
        "cost_minor": cost,
        "return_cost_minor": cost * float(rng.uniform(0.0, 0.3)),
        "reference_price_minor": reference,
        "horizon_days": 7.0,
        "demand_per_day": mean / 7.0,
        "elasticity": -float(rng.uniform(1.3, 5.0)),
        "demand_volatility": float(rng.uniform(0.05, 0.8)),
        "stock": None if rng.random() < 0.5 else mean * float(10.0 ** rng.uniform(-1.0, 1.0)),
        "holding_cost_minor_per_day": cost * float(rng.uniform(0.0, 0.005)),
        "continuation_value_minor": cost * float(rng.uniform(0.5, 1.0)),
        "risk_aversion": float(rng.uniform(0.0, 0.5)),
        "vat_rate": 0.2,
        "fee_rate": 0.1,
        "elasticity_sd": float(rng.uniform(0.01, 0.5)),
        "level_sd": float(rng.uniform(0.01, 0.5)),
        "return_rate_sd": float(rng.uniform(0.001, 0.1)),
        "target_leftover": float(rng.uniform(1.0, 2.0)) * mean,
        "value_volatility_per_sqrt_day": float(rng.uniform(0.0, 0.04)),
        "return_rate": [
            {"shape": "constant", "rate": low},
            {
                "shape": "logistic_price", "min": low, "max": high,
                "steepness": float(rng.normal()) * 300.0 / reference, "midpoint_minor": reference,
            },
            {
                "shape": "logistic_log_price", "min": low, "max": high,
                "intercept": float(rng.normal()), "slope": float(rng.normal()) * 2.0,
            },
        ][shape],
    }  # fmt: skip


def as_problem(document: dict[str, Any]) -> Problem:
    """The numpy problem of a document."""
    rate = document["return_rate"]
    linear = rate.get("steepness", 0.0) / 100.0
    return Problem(
        cost=document["cost_minor"],
        return_cost=document["return_cost_minor"],
        reference_price=document["reference_price_minor"],
        horizon_days=document["horizon_days"],
        demand_per_day=document["demand_per_day"],
        elasticity=document["elasticity"],
        demand_volatility=document["demand_volatility"],
        stock=document["stock"],
        holding_cost_per_day=document["holding_cost_minor_per_day"],
        continuation_value=document["continuation_value_minor"],
        risk_aversion=document["risk_aversion"],
        kept_share=(1.0 - document["fee_rate"]) / (1.0 + document["vat_rate"]),
        elasticity_sd=document["elasticity_sd"],
        level_sd=document["level_sd"],
        return_rate_sd=document["return_rate_sd"],
        target_leftover=document["target_leftover"],
        value_volatility=document["value_volatility_per_sqrt_day"],
        return_min=rate.get("min", rate.get("rate")),
        return_max=rate.get("max", rate.get("rate")),
        return_intercept=rate.get("intercept", -linear * rate.get("midpoint_minor", 0.0)),
        return_per_minor=linear,
        return_per_log=rate.get("slope", 0.0),
    )


GREEKS = {  # Greek -> what is bumped, sign
    "delta": (("price",), 1.0),
    "gamma": (("price", "price"), 1.0),
    "vega": (("demand_volatility",), 1.0),
    "rho": (("stock",), 1.0),
    "vanna": (("price", "demand_volatility"), 1.0),
    "theta": (("horizon_days",), -1.0),
}


def test_answers_are_those_of_numpy(kernel: Kernel):
    documents = [random_document(RNG) for _ in range(300)]
    for index in range(0, 300, 2):
        reference = documents[index]["reference_price_minor"]
        documents[index]["price_minor"] = reference * math.exp(RNG.uniform(-0.3, 0.5))
    compared = 0
    for document, answer in zip(documents, whatifs(documents, kernel), strict=True):
        problem, price = as_problem(document), answer["price_minor"]
        size = abs(numpy_objective.objective(problem, price))
        goods = problem.cost * (problem.stock or 0.0)
        close = {"rel": 1e-9, "abs": 1e-12 * goods}
        objective = numpy_objective.objective(problem, price)
        assert answer["objective_minor"] == pytest.approx(objective, **close)
        profit = numpy_objective.expected_profit(problem, price)
        assert answer["expected_profit_minor"] == pytest.approx(profit, **close)
        if abs(answer["margin_minor"]) < 0.03 * price:
            continue  # the risk term bends within a bump
        compared += 1
        for name, (bumped, sign) in GREEKS.items():
            if name == "rho" and document["stock"] is None:
                assert answer["greeks"][name] is None
                continue
            expected = sign * numpy_objective.greek(problem, price, bumped)
            units = [price if part == "price" else getattr(problem, part) for part in bumped]
            allowed = 1e-4 * max(abs(expected), size / math.prod(units))
            assert answer["greeks"][name] == pytest.approx(expected, abs=allowed, rel=0.0), name
    assert compared > 250


@given(st.integers(0, 2**32 - 1), st.floats(-3.0, 3.0).map(lambda power: 10.0**power))
def test_another_currency_unit_scales_money_alone(kernel: Kernel, seed: int, factor: float):
    document = random_document(np.random.default_rng(seed))
    scaled = {
        name: value * factor if "_minor" in name and value is not None else value
        for name, value in document.items()
    }
    if document["return_rate"]["shape"] == "logistic_price":
        rate = document["return_rate"]
        scaled["return_rate"] = rate | {
            "steepness": rate["steepness"] / factor,
            "midpoint_minor": rate["midpoint_minor"] * factor,
        }
    one, two = whatifs([document, scaled], kernel)
    assert two["price_minor"] == pytest.approx(factor * one["price_minor"], rel=1e-8)
    goods = document["cost_minor"] * (document["stock"] or 0.0)
    for name in ("expected_profit_minor", "objective_minor"):
        close = {"rel": 1e-9, "abs": 1e-9 * factor * goods}
        assert two[name] == pytest.approx(factor * one[name], **close)
    at = one["price_minor"]
    first, second = whatifs(
        [document | {"price_minor": 1.1 * at}, scaled | {"price_minor": 1.1 * at * factor}], kernel
    )
    powers = {"delta": 0, "gamma": -1, "vega": 1, "rho": 1, "vanna": 0, "theta": 1}
    for name, power in powers.items():
        if first["greeks"][name] is None:
            assert second["greeks"][name] is None
            continue
        expected = first["greeks"][name] * factor**power
        assert second["greeks"][name] == pytest.approx(expected, rel=1e-6, abs=1e-9 * abs(expected))


def test_steps_go_from_no_friction_to_risk(kernel: Kernel):
    document = BASE | {"stock": 400, "continuation_value_minor": 3_000, "risk_aversion": 0.3}
    answer = whatif(document, kernel)
    steps = {step["step"]: step for step in answer["steps"]}
    assert tuple(steps) == STEPS
    assert steps["frictionless"]["price_minor"] == pytest.approx(2.0 * 5_375.0, rel=1e-9)
    without_risk = whatif(document | {"risk_aversion": 0}, kernel)
    assert steps["with_stock"]["price_minor"] == without_risk["price_minor"]
    assert steps["with_risk"]["price_minor"] == answer["price_minor"]
    assert steps["with_stock"]["price_minor"] < steps["frictionless"]["price_minor"]
    assert steps["with_stock"]["objective_minor"] < steps["frictionless"]["objective_minor"]


def test_a_given_price_is_evaluated_and_compared(kernel: Kernel):
    best = whatif(BASE, kernel)
    answer = whatif(BASE | {"price_minor": 12_000}, kernel)
    assert (answer["price_minor"], answer["method"], answer["at_bound"]) == (12_000, "given", None)
    assert answer["left_on_table_minor"] == pytest.approx(
        best["objective_minor"] - answer["objective_minor"], rel=1e-12
    )
    assert answer["greeks"]["delta"] < 0.0
    assert best["left_on_table_minor"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "price_minor", "at_bound", "flags"),
    [
        ({"elasticity": -0.8}, 1e7, "upper", ["inelastic", "at_upper_bound"]),
        ({"elasticity": -1.0, "upper_minor": 9_000}, 9_000, "upper",
         ["inelastic", "at_upper_bound"]),
        ({"lower_minor": 15_000}, 15_000, "lower", ["at_lower_bound"]),
        ({"upper_minor": 40}, 40, "upper", ["at_upper_bound", "loses_money"]),
        ({"price_minor": 3_000}, 3_000, None, ["loses_money"]),
        ({"price_minor": 3_000, "lower_minor": 4_000}, 3_000, "lower",
         ["at_lower_bound", "outside_bounds", "loses_money"]),
    ],
)  # fmt: skip
def test_bounds_and_flags(
    kernel: Kernel, changes: dict[str, Any], price_minor: float, at_bound: str | None,
    flags: list[str],
):  # fmt: skip
    answer = whatif(BASE | changes, kernel)
    assert answer["price_minor"] == pytest.approx(price_minor, rel=1e-12)
    assert answer["at_bound"] == at_bound
    expected = {*flags, "unlimited_stock"}
    assert set(answer["flags"]) - {"not_concave"} == expected


def test_the_answer_says_what_took_a_default(kernel: Kernel):
    answer = whatif({name: BASE[name] for name in BASE if name != "return_cost_minor"}, kernel)
    assert "return_cost_minor" in answer["defaulted"]
    assert "continuation_value_minor" in answer["defaulted"]
    assert "cost_minor" not in answer["defaulted"]


def test_small_stock_can_be_summed_exactly(kernel: Kernel):
    document = BASE | {"stock": 2, "demand_per_day": 0.3, "price_minor": 10_000}
    exact = whatif(document | {"sales_model": "exact_small_stock"}, kernel)
    expected = numpy_objective.exact_sales(2.1, 0.09, 2.0)
    assert exact["expected_sales_units"] == pytest.approx(expected, rel=1e-12)
    assert whatif(document, kernel)["expected_sales_units"] != pytest.approx(expected, rel=1e-3)


def test_a_thousand_cases_are_one_case_a_thousand_times(kernel: Kernel):
    documents = [random_document(RNG) for _ in range(40)]
    together = whatifs(documents, kernel)
    assert together == [whatif(document, kernel) for document in documents]


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"cost_minor": -1}, "cost_minor", "a number > 0.0"),
        ({"cost_minor": 10**400}, "cost_minor", "a number below 1e308"),
        ({"stock": "3"}, "stock", "a number | null, got str"),
        ({"risk_aversion": 0.6}, "risk_aversion", "a number <= 0.5"),
        ({"elasticity": 0.0}, "elasticity", "a number < 0.0"),
        ({"horizon_days": math.nan}, "horizon_days", "a number > 0.0"),
        ({"demand_per_day": math.inf}, "demand_per_day", "a finite number"),
        ({"currency": "EURO"}, "currency", "an ISO 4217 code such as EUR"),
        ({"sales_model": "poisson"}, "sales_model", "one of lognormal, exact_small_stock"),
        ({"return_rate": {"shape": "linear"}}, "return_rate.shape",
         "one of constant, logistic_price, logistic_log_price"),
        ({"return_rate": {"shape": "constant", "rate": 1}}, "return_rate.rate", "a number < 1.0"),
        ({"return_rate": LOGISTIC | {"max": 0.01}}, "return_rate.max", "at least min, 0.05"),
        ({"return_rate": {"shape": "constant"}}, "return_rate.rate",
         "a value: the field has no default"),
        ({"lower_minor": 5, "upper_minor": 4}, "upper_minor", "above lower_minor, 5.0"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(kernel: Kernel, changes: dict[str, Any], field: str, expected: str):
    with pytest.raises(FieldError) as caught:
        whatif(BASE | changes, kernel)
    assert (caught.value.field, caught.value.expected) == (field, expected)
    assert field in caught.value.message


def test_an_unknown_field_is_refused(kernel: Kernel):
    with pytest.raises(FieldError) as caught:
        whatif(BASE | {"cost": 1}, kernel)
    assert caught.value.field == "cost"
    assert caught.value.expected is not None
    assert "cost_minor" in caught.value.expected


def test_the_wrong_case_of_many_is_named(kernel: Kernel):
    with pytest.raises(FieldError) as caught:
        whatifs([BASE, BASE | {"stock": -1}, BASE], kernel)
    assert str(caught.value) == "case 2 of 3: stock was -1; expected a number >= 0.0."


def test_overflow_is_an_error_with_a_reason(kernel: Kernel):
    with pytest.raises(FieldError) as caught:
        whatif(BASE | {"demand_per_day": 1e300, "risk_aversion": 0.1}, kernel)
    assert caught.value.code == "not_finite"
    assert caught.value.fix is not None
