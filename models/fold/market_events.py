"""What orders, returns, stock, rivals, traffic and applied prices do to one product's state."""

from msgspec.structs import replace

from models.demand import demand, effects_book, epoch, searches
from models.family import family_book
from models.fold.context import Context, Refused
from models.fold.market import begin_epoch, close_epoch, count_on, in_stock, log_rival, rival_view
from models.fold.watch import Shown
from models.guards import gate, promotions, resale_trial
from models.returns import returns_book
from models.returns.cohorts import Cancelled
from models.returns.toxicity import last_move
from schemas.events import (
    DAY_MS,
    CompetitorPriceObserved,
    InventoryChanged,
    OrderCancelled,
    OrderPlaced,
    OrderReturned,
    PriceApplied,
    TrafficCounted,
    time_ms,
)
from schemas.state import CatalogueEntry, FirstTraffic, Rival, SkuState, Stock, Traffic

FAST_SALES_LOOK_EVERY = 5  # order lines between two looks at the rate of sale
TRAFFIC_AVERAGE_DAYS = 7.0
VISITS_PER_DAY_MIN = 0.1  # keeps a first count of zero from making every later one infinite


def order_placed(
    context: Context, state: SkuState, entry: CatalogueEntry, event: OrderPlaced
) -> None:
    """One order line: it counts in the open epoch and enters its return cohort."""
    require_currency(entry, event.currency)
    line = returns_book.line_of(context.partition, event)
    if returns_book.has_line(line, event.quantity):
        raise Refused("duplicate_line", "line_id", event.line_id, "an order line not seen before")
    ordered_ms = line.ordered_ms
    posterior, opened = state.posterior, state.epoch
    counted = None
    if posterior is not None and opened is not None:
        counted = epoch.add_order(
            epoch.accrue(opened, ordered_ms),
            event.quantity,
            event.unit_price_minor,
            ordered_ms,
            demand.units_cap(posterior),
        )
    if counted is None:
        state.late_orders += 1
    else:
        state.epoch = counted
        effects_book.ordered(context.partition, state, event.channel, event.segment)
        resale_trial.count(context.partition, state, event.channel)
        count_on(context.partition, state, context.now_ms)
        if counted.orders % FAST_SALES_LOOK_EVERY == 0:
            _look_at_rate_of_sale(context, state, entry)
    returns_book.sold(context.partition, state, event, line)


def _look_at_rate_of_sale(context: Context, state: SkuState, entry: CatalogueEntry) -> None:
    """Close the epoch and decide at once where sales run far ahead of the forecast."""
    limits = context.partition.policy_of(entry).breaker
    opened, posterior = state.epoch, state.posterior
    if opened is None or posterior is None or opened.orders < limits.fast_sales_orders_min:
        return
    reference = state.traffic.reference_per_day if state.traffic else None
    seen = epoch.observation(opened, reference)
    if seen is None:
        return
    seen = effects_book.beside(context.partition, state, opened, seen).seen
    seen = family_book.expected(context.partition, state, seen, context.now_ms)
    highest = demand.upper_expected_orders(posterior, seen)
    if seen.orders > limits.fast_sales_ratio * highest:
        closed = close_epoch(context.partition, state, context.now_ms)
        begin_epoch(context.partition, state, entry, context.now_ms)
        context.ask(state, "sales far faster than forecast", closed)


def order_cancelled(
    context: Context, state: SkuState, entry: CatalogueEntry, event: OrderCancelled
) -> None:
    """A line taken back: it leaves its return cohort and, if still open, its epoch."""
    line = returns_book.cancelled(context.partition, state, event)
    if line is None:
        state.unmatched_returns += 1
    else:
        _uncount(context, state, line)


def _uncount(context: Context, state: SkuState, line: Cancelled) -> None:
    """Take a cancelled line out of the epoch that counted it, if that is open or in quarantine."""
    if state.posterior is None:
        return
    cap = demand.units_cap(state.posterior)
    held = state.quarantine
    if held is not None and held.epoch.start_ms <= line.ordered_ms <= held.epoch.accrued_ms:
        waiting = epoch.remove_order(
            held.epoch, line.units, line.ordered_ms, cap, whole_line=line.whole_line
        )
        state.quarantine = replace(held, epoch=waiting)
    elif state.epoch is not None:
        state.epoch = epoch.remove_order(
            state.epoch, line.units, line.ordered_ms, cap, whole_line=line.whole_line
        )
        count_on(context.partition, state, context.now_ms)


def order_returned(
    context: Context, state: SkuState, entry: CatalogueEntry, event: OrderReturned
) -> None:
    """Units sent back: they teach the return model if their order is known."""
    require_currency(entry, event.currency)
    if not returns_book.returned(context.partition, state, event):
        state.unmatched_returns += 1


def competitor_price_observed(
    context: Context, state: SkuState, entry: CatalogueEntry, event: CompetitorPriceObserved
) -> None:
    """A rival's price: a move of the robust rival price ends the epoch and asks for a price."""
    require_currency(entry, event.currency)
    known = state.rivals.get(event.competitor)
    if known is not None and known.seen_ms > event.event_time_ms:
        return
    offered = event.listed and event.in_stock
    _doubt_rival(context, state, event)
    state.rivals[event.competitor] = Rival(
        event.price_minor if offered else None, event.event_time_ms, event.match_confidence
    )
    policy = context.partition.policy_of(entry).decision
    now = log_rival(state, rival_view(state, context.now_ms, policy))
    if state.epoch is not None and epoch.rival_moved(
        state.epoch.ln_rival, now, policy.rival_move_ratio
    ):
        closed = close_epoch(context.partition, state, context.now_ms)
        begin_epoch(context.partition, state, entry, context.now_ms)
        context.ask(state, "rival price", closed)


def _doubt_rival(context: Context, state: SkuState, event: CompetitorPriceObserved) -> None:
    """Tell of a rival's price beyond belief; it is kept, and `rival_view` leaves it out."""
    entry = context.partition.catalogue[state.sku]
    limit = context.partition.policy_of(entry).decision.rival_plausible_ratio
    reference = state.reference_price_minor
    if event.price_minor is None or reference is None:
        return
    ratio = event.price_minor / reference
    if not 1.0 / limit <= ratio <= limit:
        context.doubt(
            state,
            f"{event.competitor}'s price is {ratio:.3g} times the reference price",
            {"competitor": event.competitor, "price_minor": event.price_minor},
        )


def inventory_changed(
    context: Context, state: SkuState, entry: CatalogueEntry, event: InventoryChanged
) -> None:
    """Stock: an edge of availability ends the epoch; an edge or a large move asks for a price."""
    if state.stock is not None and state.stock.reported_ms > event.event_time_ms:
        return
    before = in_stock(state)
    eta = event.inbound_eta
    state.stock = Stock(
        event.on_hand, event.inbound, None if eta is None else time_ms(eta), event.event_time_ms
    )
    if (before is False) != (event.on_hand == 0):
        closed = close_epoch(context.partition, state, context.now_ms)
        begin_epoch(context.partition, state, entry, context.now_ms)
        context.ask(state, "stock edge", closed)
    elif _moved(state.stock_at_decision_units, event.on_hand, context):
        context.ask(state, "stock level")


def _moved(before_units: int | None, now_units: int, context: Context) -> bool:
    if before_units is None:
        return True
    ratio = context.partition.policy.decision.stock_move_ratio
    low, high = sorted((before_units, now_units))
    return high > ratio * low and high - low > 1


def traffic_counted(
    context: Context, state: SkuState, entry: CatalogueEntry, event: TrafficCounted
) -> None:
    """Visits: the epoch's exposure. The first whole day of counts fixes what a typical day is."""
    from_ms, to_ms = time_ms(event.from_time), time_ms(event.to_time)
    days = (to_ms - from_ms) / DAY_MS
    per_day = max(event.visits / days, VISITS_PER_DAY_MIN)
    if state.traffic is None:
        state.first_traffic = first = _gathered(state.first_traffic, event.visits, days, to_ms)
        if first.days >= 1.0:
            reference = max(first.visits / first.days, VISITS_PER_DAY_MIN)
            state.traffic, state.first_traffic = Traffic(reference, reference, to_ms), None
            context.tell(state.sku, close_epoch(context.partition, state, context.now_ms))
            begin_epoch(context.partition, state, entry, context.now_ms)
        return
    if to_ms <= state.traffic.counted_to_ms:
        return
    weight = min(days / TRAFFIC_AVERAGE_DAYS, 1.0)
    average = state.traffic.average_per_day + weight * (per_day - state.traffic.average_per_day)
    searches.teach(context.partition.today, state.traffic, event.visits, days)
    context.partition.touch("today")
    counted = replace(state.traffic, average_per_day=average, counted_to_ms=to_ms)
    state.traffic = effects_book.searched(state.traffic, counted, event.searches, days)
    if state.epoch is not None:
        state.epoch = epoch.add_visits(state.epoch, event.visits, from_ms, to_ms)
        count_on(context.partition, state, context.now_ms)


def _gathered(first: FirstTraffic | None, visits: int, days: float, to_ms: int) -> FirstTraffic:
    """The counts of a product's first day, with one more; an older or equal report adds nothing."""
    if first is None:
        return FirstTraffic(visits, days, to_ms)
    if to_ms <= first.counted_to_ms:
        return first
    return FirstTraffic(first.visits + visits, first.days + days, to_ms)


def price_applied(
    context: Context, state: SkuState, entry: CatalogueEntry, event: PriceApplied
) -> None:
    """What the shop shows from now on: epochs follow it rather than what we published.

    A shop that follows our price asks for no decision; one that sets its own does.
    """
    require_currency(entry, event.currency)
    if state.applied_minor == event.price_minor and state.epoch is not None:
        return
    state.applied_minor = event.price_minor
    state.price_move = last_move(state.price_move, event.price_minor, context.now_ms)
    _tell_of_a_sale_below_cost(context, entry, event)
    _shown(context, state, entry, event.price_minor)
    told = context.shown.get(state.sku)
    follows = event.price_minor == state.published_minor if told is None else told.follows
    if context.partition.watch is not None:
        context.partition.watch.shown(
            Shown(context.offset, context.now_ms, state.sku, event.price_minor, True, follows)
        )
    state.exogenous_log = (
        None if follows else promotions.exogenous_log(context.partition, state.sku, context.now_ms)
    )
    closed = close_epoch(context.partition, state, context.now_ms)
    begin_epoch(context.partition, state, entry, context.now_ms)
    if follows:
        context.tell(state.sku, closed)
    else:
        context.ask(state, "price applied", closed)


def _tell_of_a_sale_below_cost(
    context: Context, entry: CatalogueEntry, event: PriceApplied
) -> None:
    """A shop that shows less than a unit costs sells at a loss, whatever we publish."""
    cost_minor = entry.unit_cost_minor
    if cost_minor is None or event.price_minor * entry.kept_share >= cost_minor:
        return
    evidence = {"price_minor": event.price_minor, "unit_cost_minor": cost_minor}
    message = f"the shop shows {event.price_minor}, below cost"
    context.alert("data_quality", event.sku, message, evidence)


def _shown(context: Context, state: SkuState, entry: CatalogueEntry, price_minor: int) -> None:
    """Note what buyers see; tell where it breaks what is announced."""
    partition, now_ms = context.partition, context.now_ms
    promotions.shown(partition, state, entry, price_minor, now_ms)
    gate.applied(partition.gates[state.sku], price_minor, now_ms)
    partition.touch(f"gate/{state.sku}")
    asked = promotions.present(partition, state, entry, now_ms)
    found = promotions.broken_promise(partition, state, asked, price_minor, now_ms)
    if found is not None:
        context.alert(promotions.ANNOUNCED, state.sku, *found)


def require_currency(entry: CatalogueEntry, currency: str) -> None:
    """Refuse money of another currency than the listing's."""
    if currency != entry.currency:
        raise Refused("currency_mismatch", "currency", currency, f"the listing's {entry.currency}")
