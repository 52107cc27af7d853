"""Calibration: quantiles of the evidence become a policy that can be published."""

import msgspec
import numpy as np
import pytest

from models.prior.prior import DEFAULT_PRIOR
from schemas.errors import InputError
from schemas.scopes import Subject, parse_policy
from schemas.state import CatalogueEntry
from streams.training.breaker_calibration import Evidences, calibration, rank_of, thresholds_of
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
ENTRY = CatalogueEntry(
    sku="A", family="A", category="lamps", currency="EUR", attributes={}, unit_cost_minor=500,
    return_handling_cost_minor=None, list_price_minor=1000, minimum_resale_price_minor={},
    kept_share=0.8, exit_ms=None, predecessor=None, retired=False, changed_ms=0,
)  # fmt: skip
RATIOS = [(0.5 + i / 1000, 0.6 + i / 1000) for i in range(1, 1001)]  # of 1,000 products


def test_thresholds_let_the_share_pass_with_confidence() -> None:
    """Of 1,000 values the 916th bounds the 0.9 quantile, of 500 the 462nd."""
    assert thresholds_of(FOUND, RATIOS, 0.9) == {
        "scaled_delta_max": 0.916,
        "vega_at_risk_share_max": 1.832,
        "fast_sales_ratio": 9.24,
        "band_high_ratio": 1.516,
        "band_low_ratio": 0.585,
    }


def test_a_threshold_with_too_few_values_is_not_set() -> None:
    """1,000 decisions can tell the 0.997 quantile, 500 ratios of sales and 900 products cannot."""
    assert sorted(thresholds_of(FOUND, RATIOS[:900], 0.997)) == [
        "scaled_delta_max", "vega_at_risk_share_max",
    ]  # fmt: skip


def test_the_rank_covers_the_quantile_in_95_of_100_samples() -> None:
    samples = np.sort(np.random.default_rng(5).random((2000, 1000)), axis=1)
    rank = rank_of(1000, 0.99)
    assert rank == 996
    assert 0.95 <= float(np.mean(samples[:, rank - 1] >= 0.99)) < 0.99


def test_a_steep_price_at_its_guard_and_what_is_no_number_set_no_threshold() -> None:
    odd = [
        SOUND._replace(scaled_delta=90.0, guard_above=True),
        SOUND._replace(finite=False, vega_at_risk_share=90.0),
        SOUND._replace(sales_ratio=90.0, epoch_orders=19),
    ]
    found = thresholds_of([*FOUND, *odd], RATIOS, 0.99)
    assert (found["scaled_delta_max"], found["vega_at_risk_share_max"]) == (0.996, 1.992)
    assert found["fast_sales_ratio"] == 9.98


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
    assert lamp.breaker.fast_sales_ratio == found.thresholds["lamps"]["fast_sales_ratio"] == 9.24
    assert shoe.breaker.fast_sales_ratio == found.thresholds["all"]["fast_sales_ratio"]


def test_a_short_tape_is_refused() -> None:
    with pytest.raises(InputError, match="the tape has 999 decisions; expected 1000 or more"):
        calibration(collected(lamps=999), DEFAULT_PRIOR, 0.9, "f" * 64, "tape")


def test_a_quantile_that_so_few_cannot_tell_is_refused() -> None:
    seen = collected(lamps=1000, shoes=1000)
    with pytest.raises(InputError, match="the tape has 2000 decisions; expected 2995 or more"):
        calibration(seen, DEFAULT_PRIOR, 0.999, "f" * 64, "tape")


def test_a_product_counts_once_by_its_outermost_prices() -> None:
    seen = Evidences()
    for price in (900.0, 1300.0, 1100.0):
        seen(ENTRY, SOUND._replace(price_minor=price))
    seen(msgspec.structs.replace(ENTRY, sku="B"), SOUND._replace(price_minor=950.0))
    assert seen.ratios == {"lamps": {"A": (0.9, 1.3), "B": (0.95, 0.95)}}
