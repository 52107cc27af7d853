"""A decision in the words of who sets prices: one function per section, in `SECTIONS`."""

import math
from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from models.guards.moving import TOO_SMALL, WITHIN_BAND
from models.pricing.ledger import left_on_table
from schemas.events import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.money import minor_digits
from schemas.outputs import (
    Clamp,
    DecisionRecord,
    DiscountOffered,
    MarketEffect,
    PriceDecided,
    ReturnView,
)
from streams.explain.amounts import money, signed
from streams.explain.explanation_summary import in_short

KEPT_WORDS = {
    WITHIN_BAND: "present price kept: a move would gain too little",
    TOO_SMALL: "present price kept: buyers would not notice so small a move",
}
STEP_WORDS = {
    "frictionless optimum": "best price with endless stock and no risk",
    "with stock and risk": "what stock, days to sell and risk change",
    "with partners": "what its partners in the family earn with it",
    "hedged over what the category may be": "caution: what kind of product it is, is not known",
    "exploration": "a small probe, to learn how buyers react",
    "exploration kept": "the probe, kept until its period ends",
    "expert price": "the expert's mark-up, until buyers' reaction is known",
    "blend with the expert price": "part of the expert's price, until the product is known",
    "rounded": "rounded",
    "rounded to an ending": "rounded to an ending",
}


def decision_text(decision: PriceDecided) -> list[RenderableType]:
    """A decision's headline, summary and sections."""
    parts: list[RenderableType] = [Text(headline(decision), style="bold"), _standing(decision)]
    if decision.status != "published":
        wanted = money(decision.wanted_minor, decision.currency)
        what = "was held" if decision.status == "held" else "gave way to an earlier one"
        parts.append(f"The wanted price of {wanted} {what}:")
        parts.extend(f"  - {reason}" for reason in decision.reasons)
    record = decision.record
    if record is None:
        parts.append("The numbers of this decision were not finite; there is nothing to show.")
        return parts
    for title, section in SECTIONS:
        lines = section(decision, record)
        if lines:
            parts += ["", title, *lines]
    return parts


def headline(decision: PriceDecided) -> str:
    """Product, price, and what it was before."""
    text = f"{decision.sku}: {money(decision.price_minor, decision.currency)}"
    if decision.previous_minor and decision.price_minor and decision.status != "held":
        change = decision.price_minor / decision.previous_minor - 1.0
        before = money(decision.previous_minor, decision.currency)
        text += " (unchanged)" if change == 0.0 else f" (was {before}, {change:+.1%})"
    return text


def _standing(decision: PriceDecided) -> str:
    margin = "unknown" if decision.margin_pct is None else f"{decision.margin_pct:.1f} %"
    text = (
        f"{decision.status} {decision.decided_at[:16].replace('T', ' ')} UTC, version "
        f"{decision.version}; margin {margin}; confidence {decision.confidence:.2f} of 1"
    )
    interval = decision.acceptable
    if interval is not None and interval.low_minor < interval.high_minor:
        low = money(interval.low_minor, decision.currency)
        high = money(interval.high_minor, decision.currency)
        text += f"; from {low} to {high} is nearly as good"
    return text


def _summary(decision: PriceDecided, record: DecisionRecord) -> list[RenderableType]:
    return [f"  {sentence}" for sentence in in_short(decision, record)]


def _waterfall(decision: PriceDecided, record: DecisionRecord) -> list[RenderableType]:
    table = Table(box=None, pad_edge=False, show_header=False)
    for justify in ("left", "right", "right", "left"):
        table.add_column(justify=justify)
    currency, before = decision.currency, None
    clamps = {f"guard {clamp.guard}": clamp for clamp in record.clamps}
    for step in record.steps:
        clamp = clamps.get(step.name)
        moved = "" if before is None else signed(step.price_minor - before, currency)
        table.add_row(
            f"  {step_words(decision, step.name, clamp)}",
            moved,
            money(step.price_minor, currency),
            "" if clamp is None else _cost_of(clamp, record, currency),
        )
        before = step.price_minor
    final = None if decision.status == "reverted" else decision.wanted_minor
    if final is not None and before not in (None, final):
        last = signed(final - (before or 0.0), currency)
        table.add_row("  rounded", last, money(final, currency), "")
    lines: list[RenderableType] = [table]
    if record.gave_way:
        names = ", ".join(name.replace("_", " ") for name in record.gave_way)
        lines.append(f"  not kept, since a stronger rule forbids it: {names}")
    return lines


def step_words(decision: PriceDecided, name: str, clamp: Clamp | None) -> str:
    """A step's name for people; ``clamp`` where a guard made it."""
    record = decision.record
    if name == "present price stays":
        if decision.status == "reverted":
            return "back to the price before the move that tripped"
        return next((KEPT_WORDS[one] for one in decision.reasons if one in KEPT_WORDS), name)
    if name == "approved price" and record is not None and record.approval is not None:
        return f"the price that {record.approval.actor} approved"
    words = STEP_WORDS.get(name, name.replace("_", " "))
    return words if clamp is None or clamp.place is None else f"{words} ({clamp.place})"


def _cost_of(clamp: Clamp, record: DecisionRecord, currency: str) -> str:
    unit = 10 ** minor_digits(currency)
    room = abs(clamp.shadow_price) * unit / record.stock.horizon_days
    return (
        f"costs {money(clamp.cost_per_day_minor, currency)} a day; 1 {currency} more room would "
        f"bring {money(room, currency)} a day"
    )


def _beliefs(decision: PriceDecided, record: DecisionRecord) -> list[RenderableType]:
    demand, currency = record.demand, decision.currency
    lines = [
        f"  demand: {demand.units_per_day:.2f} units a day at "
        f"{money(demand.reference_price_minor, currency)}",
        f"  price sensitivity (elasticity): {demand.elasticity:.2f}, 90 % sure that from "
        f"{demand.elasticity_low:.2f} to {demand.elasticity_high:.2f}: 1 % dearer sells about "
        f"{-demand.elasticity:.1f} % less",
        f"  learned from {demand.orders} orders in {demand.epochs} price periods, beginning from: "
        f"{demand.prior.replace('_', ' ')}",
        *_returns(record.returns, currency),
        _stock(record),
        *(_market_line(effect) for effect in record.market),
        _rivals(decision, record),
    ]
    return list(lines)


def _returns(returns: ReturnView, currency: str) -> list[str]:
    lines = [
        f"  returns: {returns.rate:.1%} (sd {returns.rate_sd:.1%}) at this price, handling "
        f"{money(returns.handling_cost_minor, currency)} each ({returns.handling_cost_source})"
    ]
    if returns.logit_slope is not None and returns.slope_positive_probability is not None:
        change = math.expm1(returns.slope_log_price * math.log(1.1))
        lines.append(
            f"  returns by price: 10 % dearer changes the odds of a return by {change:+.1%}; "
            f"{returns.slope_positive_probability:.0%} sure that dearer brings more"
        )
    if returns.expected_back_units is not None and returns.reserve_minor is not None:
        lines.append(
            f"  returns still to come: {returns.expected_back_units:.1f} of {returns.open_units} "
            f"units sold lately; reserve {money(returns.reserve_minor, currency)}"
        )
    return lines


def _stock(record: DecisionRecord) -> str:
    stock = record.stock
    if stock.sellable_units is None:
        return "  stock: never reported, so taken as endless"
    return (
        f"  stock: {stock.sellable_units:,} units; {stock.expected_sales_units:.1f} should sell in "
        f"{stock.horizon_days:.1f} days; {stock.target_leftover_units:.1f} should be left then"
    )


def _rivals(decision: PriceDecided, record: DecisionRecord) -> str:
    rivals = record.competitors
    if rivals.robust_price_minor is None:
        return f"  rivals: none usable ({rivals.rivals_seen} ever seen)"
    robust = money(rivals.robust_price_minor, decision.currency)
    return f"  rivals: {robust} (median of {rivals.rivals_used} usable, {rivals.rivals_seen} seen)"


def _market_line(effect: MarketEffect) -> str:
    name = effect.name.replace("_", " ")
    line = f"  market: {name} {effect.coefficient:.3g} (sd {effect.coefficient_sd:.2g})"
    if effect.log_demand is None:
        return line
    return f"{line}, {math.expm1(effect.log_demand):+.1%} demand"


def _passport(decision: PriceDecided, record: DecisionRecord) -> list[RenderableType]:
    passport = record.passport
    if passport is None:
        return []
    distance = passport.attribute_distance
    shown = (
        "" if distance is None else f"; attributes {distance:.1f} from those trained on (1: like)"
    )
    expert = money(passport.expert_price_minor, decision.currency)
    lines = [
        f"  began from: {passport.prior.replace('_', ' ')}, prior {passport.prior_sha256}{shown}",
        f"  {passport.orders} orders of its own; the expert's price is {expert}, and counts "
        f"{passport.expert_share:.0%}",
    ]
    if passport.hedged_price_minor is not None:
        hedged = money(passport.hedged_price_minor, decision.currency)
        lines.append(f"  mean of the best prices over what its category may be: {hedged}")
    if passport.graduated_at is None:
        lines.append(f"  stands on its own (graduates) at: {passport.graduates_when}")
    else:
        lines.append(
            f"  stands on its own since {passport.graduated_at[:16].replace('T', ' ')} UTC"
        )
    return list(lines)


def _family(decision: PriceDecided, record: DecisionRecord) -> list[RenderableType]:
    family, currency = record.family, decision.currency
    if family is None:
        return []
    gain = family.joint_profit_per_day_minor - family.present_profit_per_day_minor
    lines = [
        f"  best together: {money(family.joint_price_minor, currency)}; the family's profit at the "
        f"joint prices is {money(gain, currency)} a day above that at the present ones, and at "
        f"most {family.gap_ratio:.1%} below the best there is",
    ]
    for partner in family.partners:
        effect = (
            ""
            if partner.elasticity is None
            else f": 1 % dearer here sells {partner.elasticity:+.2f} % of it"
        )
        lines.append(f"  beside {partner.sku} at {money(partner.price_minor, currency)}{effect}")
    if family.ladders:
        kept = "kept" if family.ladders_kept else "not all kept"
        lines.append(f"  ladders: {', '.join(family.ladders)} ({kept})")
    return list(lines)


def _quote(decision: PriceDecided, record: DecisionRecord) -> list[RenderableType]:
    quote, currency = record.market_maker, decision.currency
    if quote is None:
        return []
    lines = [
        f"  fair price {money(quote.fair_minor, currency)}, reservation price "
        f"{money(quote.reservation_minor, currency)} (skew {signed(quote.skew_minor, currency)}), "
        f"half spread {money(quote.half_spread_minor, currency)}"
    ]
    if quote.leftover_over_target_units is not None:
        lines.append(
            f"  expected leftover beside its target: {quote.leftover_over_target_units:+,.1f} units"
        )
    if quote.toxicity is not None:
        before = "" if quote.toxicity_before is None else f", before it {quote.toxicity_before:.1%}"
        lines.append(
            f"  toxicity: {quote.toxicity:.1%} of what was sold since the last large move comes "
            f"back{before}"
        )
    return list(lines)


def _drift(decision: PriceDecided, record: DecisionRecord) -> list[RenderableType]:
    drift = record.drift
    if drift is None:
        return []
    kinds = {
        "demand rose": drift.level_up, "demand fell": drift.level_down,
        "buyers mind the price less": drift.less_elastic,
        "buyers mind the price more": drift.more_elastic,
    }  # fmt: skip
    told = ", ".join(f"{name} {nats:.1f}" for name, nats in kinds.items())
    return [f"  evidence (alarm at {drift.alarm_nats:g} nats): {told}"]


def _expectations(decision: PriceDecided, record: DecisionRecord) -> list[RenderableType]:
    currency = decision.currency
    lines = [
        f"  profit {money(record.expected_profit_per_day_minor, currency)} a day; "
        f"{money(record.objective_per_day_minor, currency)} a day after its risk",
        f"  unit cost {money(record.unit_cost_minor, currency)}; the shop keeps "
        f"{record.kept_share:.1%} of the shown price",
    ]
    left = left_on_table(decision)
    if left is not None:
        lines.append(
            f"  the best price would earn {money(left, currency)} a day more than the one in the "
            "shop (after risk)"
        )
    return list(lines)


def _greeks(decision: PriceDecided, record: DecisionRecord) -> list[RenderableType]:
    greeks, currency = decision.greeks, decision.currency
    if greeks is None:
        return []
    unit, days = 10 ** minor_digits(currency), record.stock.horizon_days
    lines = [
        f"  1 {currency} dearer: {signed(greeks.delta * unit, currency)} {currency} (delta), and "
        f"with each further 1 {currency} {signed(greeks.gamma * unit * unit, currency)} "
        f"{currency} to that (gamma)",
        f"  demand 10 % more volatile: {signed(greeks.vega / 10, currency)} {currency} (vega)",
        f"  one day passed: {signed(greeks.theta, currency)} {currency} (theta)",
    ]
    if greeks.rho is not None:
        lines.append(f"  one unit more in stock: {signed(greeks.rho, currency)} {currency} (rho)")
    return [f"  (over the next {days:.0f} days)", *lines]


def _origin(decision: PriceDecided, record: DecisionRecord) -> list[RenderableType]:
    ages = ", ".join(f"{name} {_age(ms)}" for name, ms in sorted(record.input_age_ms.items()))
    breaker = record.breaker.state
    if record.breaker.reasons:
        breaker += f" ({'; '.join(record.breaker.reasons)})"
    lines = [
        f"  asked for by: {record.trigger}; breaker: {breaker}",
        f"  age of inputs: {ages}",
        f"  price id {decision.price_id}; tape[{decision.tape.partition}]@{decision.tape.offset}; "
        f"engine {decision.engine}",
        f"  policy {decision.policy_sha256[:12]}, prior {decision.prior_sha256[:12]}",
    ]
    if record.approval is not None:
        found = record.approval
        proposed = f"(proposed as {found.price_id})"
        lines.insert(1, f"  approved by {found.actor}: {found.reason} {proposed}")
    return list(lines)


def _age(ms: int) -> str:
    for unit_ms, name in ((DAY_MS, "days"), (HOUR_MS, "h"), (MINUTE_MS, "min")):
        if ms >= unit_ms:
            return f"{ms / unit_ms:.1f} {name}"
    return "new"


Section = Callable[[PriceDecided, DecisionRecord], list[RenderableType]]
SECTIONS: tuple[tuple[str, Section], ...] = (
    ("In short", _summary),
    ("How the price came about", _waterfall),
    ("What is believed", _beliefs),
    ("How well the product is known", _passport),
    ("Beside its family", _family),
    ("As a market maker's quote", _quote),
    ("Whether demand broke", _drift),
    ("What it expects", _expectations),
    ("If something changes", _greeks),
    ("Where it comes from", _origin),
)


def _discount(offer: DiscountOffered) -> str:
    amount = money(offer.amount_minor, offer.currency)
    beside = money(offer.list_price_minor, offer.currency)
    until = "" if offer.valid_until is None else f" until {offer.valid_until[:16]}"
    text = f"{offer.segment} {amount} off {beside}{until.replace('T', ' ')}"
    if offer.evidence is None:
        return text
    seen = offer.evidence
    return (
        f"{text} (elasticity {seen.elasticity:.2f}, "
        f"{seen.elasticity_beside_average:+.2f} beside all; returns {seen.return_rate:.0%})"
    )


def explanation_group(
    decision: PriceDecided | None,
    blocked: str | None,
    breaker: str | None,
    discounts: tuple[DiscountOffered, ...],
) -> RenderableType:
    """The explanation for people: what was decided, or why nothing can be."""
    parts: list[RenderableType] = []
    if blocked is not None:
        parts.append(Text(f"NOT PRICED: {blocked}", style="bold"))
    if decision is not None:
        parts.extend(decision_text(decision))
    if breaker is not None:
        parts.append(f"\nLast change of its circuit breaker: {breaker}")
    offered = [_discount(offer) for offer in discounts if offer.status == "offered"]
    if offered:
        parts.append("\nDiscounts beside the list price: " + "; ".join(offered))
    return Group(*parts)
