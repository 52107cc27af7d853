"""Explain a product's price: find its decision, and say why in the words of who sets prices."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from schemas import topics
from schemas.errors import InputError, ServiceError
from schemas.events import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.money import format_minor, minor_digits
from schemas.outputs import (
    Alert,
    DecisionRecord,
    DiscountOffered,
    MarketEffect,
    PassportView,
    PriceDecided,
    ReturnView,
)
from streams.kafka_settings import topic_name
from streams.reader import opened, read_to_end, require_partitions
from streams.routes import tape_partition

READ_DEADLINE_S = 600.0


class Explanation(msgspec.Struct, kw_only=True):
    """A product's decision, if it has one, and the last word on whether it can be priced."""

    sku: str
    decision: PriceDecided | None
    blocked: str | None
    breaker: str | None
    discounts: tuple[DiscountOffered, ...] = ()


class _Keyed(msgspec.Struct):
    sku: str | None
    version: int = 0


def explain_from_kafka(settings: Any, sku: str, version: int | None) -> Explanation:
    """Look a product up on the broker.

    Raises
    ------
    InputError : nothing is known of the product, or not of that version
    ServiceError : the broker cannot be reached, or topics are missing
    """
    found: PriceDecided | None = None
    alerts: list[Alert] = []
    with opened(settings, "explain") as consumer:
        for value in _keyed(consumer, settings, topics.PRICES.name, sku):
            decision = msgspec.json.decode(value, type=PriceDecided)
            if version is None or decision.version == version:
                found = decision
        for value in _keyed(consumer, settings, topics.ALERTS.name, sku):
            alerts.append(msgspec.json.decode(value, type=Alert))
        offers = {
            offer.segment: offer
            for value in _keyed(consumer, settings, topics.DISCOUNTS.name, sku)
            for offer in (msgspec.json.decode(value, type=DiscountOffered),)
        }
    explained = _explanation(sku, version, found, alerts)
    explained.discounts = tuple(offers[segment] for segment in sorted(offers))
    return explained


def explain_from_file(path: Path, sku: str, version: int | None) -> Explanation:
    """Look a product up among the decisions that ``pricemaker replay --out`` wrote.

    Raises
    ------
    InputError : nothing is known of the product, or the file has something else
    """
    found: PriceDecided | None = None
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{path}:{number}"
                if sku.encode() in line and _decode(line, _Keyed, where).sku == sku:
                    decision = _decode(line, PriceDecided, where)
                    if version is None or decision.version == version:
                        found = decision
    except OSError as error:
        raise ServiceError("file_unreachable", f"{error}.", where=str(path)) from error
    return _explanation(sku, version, found, [])


def _decode(line: bytes, kind: type[Any], where: str) -> Any:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.MsgspecError as error:
        raise InputError(
            "not_a_decision",
            f"the line is no price decision: {error}.",
            where=where,
            fix="Give a file written by: pricemaker replay SOURCE --out FILE",
        ) from None


def _keyed(consumer: Consumer, settings: Any, name: str, sku: str) -> Iterator[bytes]:
    topic = topic_name(settings, name)
    number = tape_partition(sku, require_partitions(consumer, topic))
    for message in read_to_end(consumer, topic, number, READ_DEADLINE_S):
        if message.key() == sku.encode():
            yield message.value()


def _explanation(
    sku: str, version: int | None, found: PriceDecided | None, alerts: list[Alert]
) -> Explanation:
    blocked = breaker = None
    for alert in alerts:
        if alert.kind in ("product_blocked", "product_unblocked"):
            reason = alert.message.removeprefix(f"{sku} is not priced: ")
            blocked = reason if alert.kind == "product_blocked" else None
        if alert.kind == "breaker_changed":
            breaker = f"{alert.at}: {alert.message}"
    if found is None and (blocked is None or version is not None):
        wanted = "" if version is None else f" of version {version}"
        raise InputError(
            "unknown_sku",
            f"no decision{wanted} about {sku!r} was found.",
            field="sku",
            value=sku,
            expected="a product that was listed and decided on",
            fix="See what there is: pricemaker prices --latest --no-follow",
        )
    return Explanation(sku=sku, decision=found, blocked=blocked, breaker=breaker)


# -- words -------------------------------------------------------------------------------------


def explanation_text(found: Explanation) -> RenderableType:
    """The explanation for people."""
    parts: list[RenderableType] = []
    if found.blocked is not None:
        parts.append(Text(f"NOT PRICED: {found.blocked}", style="bold"))
    if found.decision is not None:
        parts.extend(_decision_parts(found.decision))
    if found.breaker is not None:
        parts.append(f"\nLast change of its circuit breaker: {found.breaker}")
    offered = [_discount(offer) for offer in found.discounts if offer.status == "offered"]
    if offered:
        parts.append("\nDiscounts beside the list price: " + "; ".join(offered))
    return Group(*parts)


def _discount(offer: DiscountOffered) -> str:
    amount = _money(offer.amount_minor, offer.currency)
    beside = _money(offer.list_price_minor, offer.currency)
    until = "" if offer.valid_until is None else f" until {offer.valid_until[:16]}"
    text = f"{offer.segment} {amount} off {beside}{until.replace('T', ' ')}"
    if offer.evidence is None:
        return text
    seen = offer.evidence
    return (
        f"{text} (elasticity {seen.elasticity:.2f}, "
        f"{seen.elasticity_beside_average:+.2f} beside all; returns {seen.return_rate:.0%})"
    )


def _decision_parts(decision: PriceDecided) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(_headline(decision), style="bold"), _sub_headline(decision)]
    if decision.status == "held":
        wanted = _money(decision.wanted_minor, decision.currency)
        parts.append(f"The wanted price of {wanted} was held:")
        parts.extend(f"  - {reason}" for reason in decision.reasons)
    record = decision.record
    if record is None:
        parts.append("The numbers of this decision were not finite; there is nothing to show.")
        return parts
    parts += ["", "How the price came about", _waterfall(decision, record)]
    parts += ["", "What is believed", *_beliefs(decision, record)]
    if record.passport is not None:
        parts += ["", "Passport", *_passport(decision, record.passport)]
    parts += ["", "What it expects", *_expectations(decision, record)]
    parts += ["", "Where it comes from", *_origin(decision, record)]
    return parts


def _headline(decision: PriceDecided) -> str:
    price = _money(decision.price_minor, decision.currency)
    text = f"{decision.sku}: {price}"
    if decision.previous_minor and decision.price_minor and decision.status != "held":
        change = decision.price_minor / decision.previous_minor - 1.0
        before = _money(decision.previous_minor, decision.currency)
        text += " (unchanged)" if change == 0.0 else f" (was {before}, {change:+.1%})"
    return text


def _sub_headline(decision: PriceDecided) -> str:
    margin = "unknown" if decision.margin_pct is None else f"{decision.margin_pct:.1f} %"
    text = (
        f"{decision.status} {decision.decided_at[:16].replace('T', ' ')} UTC, version "
        f"{decision.version}; margin {margin}; confidence {decision.confidence:.2f}"
    )
    if decision.acceptable is not None:
        low = _money(decision.acceptable.low_minor, decision.currency)
        high = _money(decision.acceptable.high_minor, decision.currency)
        text += f"; from {low} to {high} is nearly as good"
    return text


_STEP_WORDS = {
    "frictionless optimum": "best price with unlimited stock and no risk",
    "with stock and risk": "stock, horizon and risk",
    "with partners": "what partners in the family earn with it",
    "exploration": "exploration (a small probe to learn from)",
    "exploration kept": "exploration, kept until its period ends",
    "expert price": "expert's mark-up, until demand is known to be elastic",
    "blend with the expert price": "part of the expert's price, until the product is known",
}


def _waterfall(decision: PriceDecided, record: DecisionRecord) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for justify in ("left", "right", "right", "left"):
        table.add_column(justify=justify)
    currency = decision.currency
    notes = {
        f"guard {clamp.guard}": (
            f"costs {_money(clamp.cost_per_day_minor, currency)} a day; one more of room is worth "
            f"{abs(clamp.shadow_price):.1f} over {record.stock.horizon_days:.0f} days"
        )
        for clamp in record.clamps
    }
    before: float | None = None
    for step in record.steps:
        words = _STEP_WORDS.get(step.name, step.name.replace("_", " "))
        moved = "" if before is None else _signed(step.price_minor - before, currency)
        shown = _money(step.price_minor, currency)
        table.add_row(f"  {words}", moved, shown, notes.get(step.name, ""))
        before = step.price_minor
    final = decision.wanted_minor
    if final is not None and before is not None:
        kept = "within the no-change band" in decision.reasons
        words = "present price kept: a move would gain too little" if kept else "rounded"
        table.add_row(f"  {words}", _signed(final - before, currency), _money(final, currency), "")
    for guard in record.gave_way:
        table.add_row(f"  {guard.replace('_', ' ')} gave way to a stronger rule", "", "", "")
    return table


def _beliefs(decision: PriceDecided, record: DecisionRecord) -> list[str]:
    demand, returns, stock = record.demand, record.returns, record.stock
    reference = _money(demand.reference_price_minor, decision.currency)
    lines = [
        f"  demand: {demand.units_per_day:.2f} units a day at {reference}; elasticity "
        f"{demand.elasticity:.2f} (90 % sure: {demand.elasticity_low:.2f} to "
        f"{demand.elasticity_high:.2f}), from {demand.orders} orders in {demand.epochs} "
        f"price periods; prior: {demand.prior.replace('_', ' ')}",
        f"  returns: {returns.rate:.1%} (sd {returns.rate_sd:.1%}) at this price, handling "
        f"{_money(returns.handling_cost_minor, decision.currency)} each "
        f"({returns.handling_cost_source})",
        *_slope_of_returns(returns),
        *_returns_to_come(returns, decision.currency),
    ]
    if stock.sellable_units is None:
        lines.append("  stock: never reported, so taken as unlimited")
    else:
        lines.append(
            f"  stock: {stock.sellable_units} units for {stock.horizon_days:.1f} days, of which "
            f"{stock.expected_sales_units:.1f} should sell; target left over "
            f"{stock.target_leftover_units:.1f}"
        )
    lines += [_market_line(effect) for effect in record.market]
    rivals = record.competitors
    if rivals.robust_price_minor is None:
        lines.append(f"  rivals: none usable ({rivals.rivals_seen} ever seen)")
    else:
        robust = _money(rivals.robust_price_minor, decision.currency)
        lines.append(
            f"  rivals: {robust} (median of {rivals.rivals_used} usable, {rivals.rivals_seen} seen)"
        )
    return lines


def _market_line(effect: MarketEffect) -> str:
    name = effect.name.replace("_", " ")
    line = f"  market: {name} {effect.coefficient:.3g} (sd {effect.coefficient_sd:.2g})"
    if effect.log_demand is None:
        return line
    return f"{line}, {math.expm1(effect.log_demand):+.1%} demand"


def _slope_of_returns(returns: ReturnView) -> list[str]:
    slope, sd = returns.logit_slope, returns.logit_slope_sd
    probability = returns.slope_positive_probability
    if slope is None or sd is None or probability is None:
        return []
    return [
        f"  returns by price: log odds {slope:+.2f} (sd {sd:.2f}) per unit of ln price, "
        f"{probability:.0%} sure that dearer brings more; prices follow "
        f"{returns.slope_log_price:+.2f}"
    ]


def _returns_to_come(returns: ReturnView, currency: str) -> list[str]:
    units, reserve = returns.expected_back_units, returns.reserve_minor
    if units is None or reserve is None:
        return []
    return [
        f"  returns still to come: {units:.1f} of {returns.open_units} open units; reserve "
        f"{_money(reserve, currency)}"
    ]


def _passport(decision: PriceDecided, passport: PassportView) -> list[str]:
    distance = passport.attribute_distance
    shown = (
        "" if distance is None else f"; attributes {distance:.1f} from those trained on (1: like)"
    )
    expert = _money(passport.expert_price_minor, decision.currency)
    lines = [
        f"  began from: {passport.prior.replace('_', ' ')}, prior {passport.prior_sha256}{shown}",
        f"  {passport.orders} orders of its own; confidence {passport.confidence:.2f}; expert's "
        f"price {expert}, its share {passport.expert_share:.0%}",
    ]
    if passport.hedged_price_minor is not None:
        hedged = _money(passport.hedged_price_minor, decision.currency)
        lines.append(f"  mean of the best prices over what its category may be: {hedged}")
    if passport.graduated_at is None:
        lines.append(f"  graduates at: {passport.graduates_when}")
    else:
        lines.append(f"  graduated {passport.graduated_at[:16].replace('T', ' ')} UTC")
    return lines


def _expectations(decision: PriceDecided, record: DecisionRecord) -> list[str]:
    currency, days = decision.currency, record.stock.horizon_days
    profit = _money(record.expected_profit_per_day_minor, currency)
    after_risk = _money(record.objective_per_day_minor, currency)
    lines = [
        f"  profit {profit} a day; {after_risk} a day after its risk",
        f"  unit cost {_money(record.unit_cost_minor, currency)}; the shop keeps "
        f"{record.kept_share:.1%} of the shown price",
    ]
    greeks = decision.greeks
    if greeks is not None:
        unit = 10 ** minor_digits(currency)
        lines.append(
            f"  Greeks over {days:.0f} days: delta {greeks.delta:.2f} (profit per 1 {currency} of "
            f"price), gamma {greeks.gamma * unit:.2f} per {currency}, vega "
            f"{_money(greeks.vega, currency)} per unit of volatility, theta "
            f"{_money(greeks.theta, currency)} a day"
        )
        if greeks.rho is not None:
            lines.append(f"  one unit more in stock is worth {_money(greeks.rho, currency)} (rho)")
    return lines


def _origin(decision: PriceDecided, record: DecisionRecord) -> list[str]:
    ages = ", ".join(f"{name} {_age(ms)}" for name, ms in sorted(record.input_age_ms.items()))
    breaker = record.breaker.state
    if record.breaker.reasons:
        breaker += f" ({'; '.join(record.breaker.reasons)})"
    return [
        f"  asked for by: {record.trigger}; breaker: {breaker}",
        f"  age of inputs: {ages}",
        f"  price id {decision.price_id}; tape[{decision.tape.partition}]@{decision.tape.offset}; "
        f"engine {decision.engine}",
        f"  policy {decision.policy_sha256[:12]}, prior {decision.prior_sha256[:12]}",
    ]


def _age(ms: int) -> str:
    for unit_ms, name in ((DAY_MS, "days"), (HOUR_MS, "h"), (MINUTE_MS, "min")):
        if ms >= unit_ms:
            return f"{ms / unit_ms:.1f} {name}"
    return "new"


def _money(amount_minor: float | None, currency: str) -> str:
    return "none" if amount_minor is None else format_minor(amount_minor, currency)


def _signed(amount_minor: float, currency: str) -> str:
    digits = minor_digits(currency)
    amount = round(amount_minor / 10**digits, digits)
    return f"{amount or 0.0:+,.{digits}f}"  # no minus before a zero
