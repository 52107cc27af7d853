"""What the desk shows of a decision: computed once, when the decision comes, in its thread."""

from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from models.kernel.valuation import row_of
from models.pricing.ledger import Case, cases_of, kind_of_hold, left_on_table
from schemas.codec import plan
from schemas.events import time_ms
from schemas.outputs import PriceDecided
from streams.gateway.history import Past

COLUMNS = (
    "sku", "category", "family", "status", "price_minor", "currency", "margin_pct", "elasticity",
    "elasticity_low", "elasticity_high", "return_rate", "stock_units", "stock_cover_days", "delta",
    "gamma", "vega", "scaled_delta", "profit_per_day_minor", "left_on_table_per_day_minor",
    "breaker", "held_by", "orders", "decided_at", "version",
)  # fmt: skip
FAMILY, STATUS, BREAKER, HELD_BY = (
    COLUMNS.index(name) for name in ("family", "status", "breaker", "held_by")
)


class _Rate(msgspec.Struct):
    rate: float


class _Elasticity(msgspec.Struct):
    elasticity: float


class _Robust(msgspec.Struct):
    robust_price_minor: float | None


class _Record(msgspec.Struct):
    trigger: str
    demand: _Elasticity
    returns: _Rate
    competitors: _Robust


class Brief(msgspec.Struct):
    """The parts of a decision that a history needs; decoded from the same bytes, but faster."""

    sku: str
    version: int
    status: str
    price_minor: int | None
    wanted_minor: int | None
    margin_pct: float | None
    decided_at: datetime
    record: _Record | None


plan(Brief, PriceDecided)


class Exposure(NamedTuple):
    """Sensitivities in money, over the horizon, that may be added up within a currency."""

    price_delta_minor: float  # P Delta
    price2_gamma_minor: float  # P^2 Gamma
    sigma_vega_minor: float  # sigma Vega
    theta_minor: float  # a day that passes


class Judged(NamedTuple):
    """A decision as the desk shows it, before what alerts and routes say of its product."""

    version: int
    place: tuple[int, int]  # tape partition and offset
    currency: str
    row: tuple[Any, ...]  # `COLUMNS`
    case: Case | None  # what needs a person, if nothing drifted
    exposure: Exposure | None


def past_of(brief: Brief) -> Past:
    """A decision in short."""
    record = brief.record
    return Past(
        decided_ms=time_ms(brief.decided_at),
        version=brief.version,
        status=brief.status,
        price_minor=brief.price_minor,
        wanted_minor=brief.wanted_minor,
        rival_minor=None if record is None else record.competitors.robust_price_minor,
        margin_pct=brief.margin_pct,
        elasticity=None if record is None else record.demand.elasticity,
        return_rate=None if record is None else record.returns.rate,
        trigger=None if record is None else record.trigger,
    )


def judged(decision: PriceDecided) -> Judged:
    """What the desk shows of a decision."""
    return Judged(
        version=decision.version,
        place=(decision.tape.partition, decision.tape.offset),
        currency=decision.currency,
        row=_row(decision),
        case=next(cases_of(decision, None), None),
        exposure=_exposure(decision),
    )


def decided_minor(decision: PriceDecided) -> int | None:
    """The price at which the Greeks were taken: the wanted one where it is held."""
    return decision.wanted_minor if decision.status == "held" else decision.price_minor


def _row(decision: PriceDecided) -> tuple[Any, ...]:
    record, greeks, price = decision.record, decision.greeks, decided_minor(decision)
    found: dict[str, Any] = dict.fromkeys(COLUMNS)
    found |= {
        "sku": decision.sku, "status": decision.status, "price_minor": decision.price_minor,
        "currency": decision.currency, "margin_pct": decision.margin_pct,
        "left_on_table_per_day_minor": left_on_table(decision),
        "held_by": kind_of_hold(decision) if decision.status == "held" else None,
        "decided_at": decision.decided_at, "version": decision.version,
    }  # fmt: skip
    if greeks is not None:
        found |= {"delta": greeks.delta, "gamma": greeks.gamma, "vega": greeks.vega}
    if record is not None:
        demand, stock = record.demand, record.stock
        found |= {
            "category": record.category or None, "elasticity": demand.elasticity,
            "elasticity_low": demand.elasticity_low, "elasticity_high": demand.elasticity_high,
            "orders": demand.orders, "return_rate": record.returns.rate,
            "stock_units": stock.sellable_units,
            "stock_cover_days": _cover_days(
                stock.sellable_units, stock.expected_sales_units / stock.horizon_days
            ),
            "profit_per_day_minor": record.expected_profit_per_day_minor,
            "breaker": record.breaker.state,
        }  # fmt: skip
        objective = record.objective_per_day_minor * stock.horizon_days
        if greeks is not None and price is not None and objective > 0.0:
            found["scaled_delta"] = greeks.delta * price / objective
    return tuple(found.values())


def _cover_days(units: int | None, sales_per_day: float) -> float | None:
    return None if units is None or sales_per_day <= 0.0 else units / sales_per_day


def _exposure(decision: PriceDecided) -> Exposure | None:
    record, greeks, price = decision.record, decision.greeks, decided_minor(decision)
    if record is None or greeks is None or price is None:
        return None
    sigma = row_of(record.inputs).demand_volatility
    return Exposure(
        price * greeks.delta, price * price * greeks.gamma, sigma * greeks.vega, greeks.theta
    )
