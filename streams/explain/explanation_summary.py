"""The gist of a decision in a few sentences: what decided the price, most important first."""

from collections.abc import Iterator

from models.guards.moving import TOO_SMALL, WITHIN_BAND
from models.pricing.ledger import left_on_table
from schemas.outputs import Clamp, DecisionRecord, PriceDecided
from streams.explain.amounts import money

FEW_ORDERS = 20
SKEW_RATIO_MIN = 0.01  # a smaller effect of stock and risk is not worth a sentence
RIVAL_RATIO_MIN = 0.03


def in_short(decision: PriceDecided, record: DecisionRecord) -> list[str]:
    """Sentences, each about one thing that matters to this price."""
    return [
        *_held(decision, record),
        *_approved(record),
        *_limit(decision, record),
        *_kept(decision),
        *_known(record),
        *_stock(decision, record),
        *_rivals(decision, record),
        *_probe(decision, record),
    ]


def _held(decision: PriceDecided, record: DecisionRecord) -> Iterator[str]:
    if decision.status == "reverted":
        yield (
            "The breaker tripped after the last move, so the price went back to "
            f"{money(decision.price_minor, decision.currency)}."
        )
    if decision.status != "held":
        return
    currency, present = decision.currency, record.present_objective_per_day_minor
    shop = (
        "the product has no price yet"
        if decision.price_minor is None
        else f"the shop keeps {money(decision.price_minor, currency)}"
    )
    yield f"It does not go out: {decision.reasons[0]}. Until then {shop}."
    if present is not None:
        gain = record.objective_per_day_minor - present
        if gain > 0.0:
            yield (
                f"The wanted {money(decision.wanted_minor, currency)} would earn "
                f"{money(gain, currency)} a day more (expected, after risk)."
            )
    if decision.reasons[0].startswith("approval: ") and "rejected" not in decision.reasons[0]:
        yield f"Answer with: pricemaker approve {decision.sku} --reason ... (or reject)."


def _approved(record: DecisionRecord) -> Iterator[str]:
    if record.approval is not None:
        yield f"{record.approval.actor} approved it: {record.approval.reason}."


def _limit(decision: PriceDecided, record: DecisionRecord) -> Iterator[str]:
    """The dearest limit, where one decides the price."""
    if not record.clamps:
        return
    dearest: Clamp = max(record.clamps, key=lambda clamp: clamp.cost_per_day_minor)
    name, currency = dearest.guard.replace("_", " "), decision.currency
    up = dearest.price_after_minor > dearest.price_before_minor
    yield (
        f"The {name} decides: it {'lifts' if up else 'caps'} the price at "
        f"{money(dearest.price_after_minor, currency)} where "
        f"{money(dearest.price_before_minor, currency)} was wanted, which costs "
        f"{money(dearest.cost_per_day_minor, currency)} a day."
    )


def _kept(decision: PriceDecided) -> Iterator[str]:
    if WITHIN_BAND in decision.reasons:
        left = left_on_table(decision)
        yield (
            "The present price stays: a better one would earn "
            f"{_small(left or 0.0, decision.currency)} more, less than a change is worth."
        )
    elif TOO_SMALL in decision.reasons:
        yield "The present price stays: buyers would not notice so small a move."


def _known(record: DecisionRecord) -> Iterator[str]:
    orders = record.demand.orders
    if orders < FEW_ORDERS:
        yield (
            f"Little is known of it yet ({orders} orders of its own): the price rests on what "
            f"other products taught ({record.demand.prior.replace('_', ' ')})."
        )


def _stock(decision: PriceDecided, record: DecisionRecord) -> Iterator[str]:
    stock, first = record.stock, record.steps[0].price_minor
    units, sales, left = (
        stock.sellable_units, stock.expected_sales_units, stock.target_leftover_units,
    )  # fmt: skip
    if units is None or abs(stock.skew_minor) < SKEW_RATIO_MIN * first:
        return
    days = f"{stock.horizon_days:.0f} days"
    by = f"by {money(abs(stock.skew_minor), decision.currency)}"
    if stock.skew_minor < 0.0:
        what = "Stock is high" if units > sales + left else "Stock and risk count"
        moves = f"lower the best price {by}"
    else:
        what = "Stock is short" if units < sales + left else "Sales are uncertain"
        moves = f"raise the best price {by}"
    yield (
        f"{what}: of {units:,} units {sales:,.0f} should sell in {days}, and {left:,.0f} should be "
        f"left. Stock and risk {moves}."
    )


def _rivals(decision: PriceDecided, record: DecisionRecord) -> Iterator[str]:
    robust, price = record.competitors.robust_price_minor, decision.price_minor
    if robust is None or price is None:
        return
    apart = price / robust - 1.0
    if abs(apart) >= RIVAL_RATIO_MIN:
        yield (
            f"Rivals ask {money(robust, decision.currency)}: this price is {abs(apart):.0%} "
            f"{'above' if apart > 0.0 else 'below'} theirs."
        )


def _probe(decision: PriceDecided, record: DecisionRecord) -> Iterator[str]:
    if decision.exogenous_log and decision.exploration_cost_per_day_minor > 0.0:
        cost = _small(decision.exploration_cost_per_day_minor, decision.currency)
        yield (
            f"Of the price, {decision.exogenous_log:+.1%} are a probe to learn how buyers react; "
            f"it costs {cost}."
        )


def _small(amount_minor: float, currency: str) -> str:
    """An amount a day; one that rounds to nothing is said so."""
    return "next to nothing" if amount_minor < 0.5 else f"{money(amount_minor, currency)} a day"
