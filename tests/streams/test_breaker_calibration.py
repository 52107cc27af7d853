"""Calibration: quantiles of the evidence become a policy that can be published."""

import pytest

from models.prior import DEFAULT_PRIOR
from schemas.errors import InputError
from schemas.scopes import Subject, parse_policy
from streams.breaker_calibration import Evidences, calibration, thresholds_of
from tests.models.test_breaker import SOUND

FOUND = [
    SOUND._replace(
        scaled_delta=(-1.0) ** i * i / 1000,
        vega_at_risk_share=i / 500,
        sales_ratio=None if i % 2 else i / 100,
        price_minor=float(500 + i),
    )
    for i in range(1, 1001)
]


def test_thresholds_let_the_share_pass() -> None:
    assert thresholds_of(FOUND, 0.9) == {
        "scaled_delta_max": 0.9,
        "vega_at_risk_share_max": 1.8,
        "fast_sales_ratio": 9.0,
        "band_high_ratio": 1.4,
        "band_low_ratio": 0.6,
    }


def test_a_steep_price_at_its_guard_and_what_is_no_number_set_no_threshold() -> None:
    odd = [
        SOUND._replace(scaled_delta=90.0, guard_above=True),
        SOUND._replace(finite=False, vega_at_risk_share=90.0),
        SOUND._replace(sales_ratio=90.0, epoch_orders=19),
    ]
    found = thresholds_of([*FOUND, *odd], 1.0)
    assert (found["scaled_delta_max"], found["vega_at_risk_share_max"]) == (1.0, 2.0)
    assert found["fast_sales_ratio"] == 10.0


def collected(**counts: int) -> Evidences:
    seen = Evidences()
    for category, count in counts.items():
        seen.found[category].extend(FOUND[:count])
    return seen


def test_the_answer_is_a_policy_with_scopes_where_there_are_decisions_enough() -> None:
    seen = collected(lamps=1000, shoes=10)
    found = calibration(seen, DEFAULT_PRIOR, 0.9, "f" * 64, "tape")
    assert found.decisions == 1010
    assert found.policy.splitlines()[:2] == [
        f"# calibrated on tape {'f' * 64}", "# 1010 decisions, quantile 0.9",
    ]  # fmt: skip
    document = parse_policy(found.policy)
    lamp, shoe = (document.of(Subject(name, name, name, "plain")) for name in ("lamps", "shoes"))
    assert lamp.breaker.fast_sales_ratio == found.thresholds["lamps"]["fast_sales_ratio"] == 9.0
    assert shoe.breaker.fast_sales_ratio == found.thresholds["all"]["fast_sales_ratio"]


def test_a_short_tape_is_refused() -> None:
    with pytest.raises(InputError, match="the tape has 999 decisions; expected 1000 or more"):
        calibration(collected(lamps=999), DEFAULT_PRIOR, 0.9, "f" * 64, "tape")
