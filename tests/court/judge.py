"""The judge: reads a run's tape and outputs, and shares no code with guards, breaker and gate."""

from datetime import datetime
from fractions import Fraction
from typing import Any

import orjson

from schemas.events import rfc3339, time_ms
from schemas.outputs import Alert, PriceDecided
from tests.court.players import Played, decoded
from tests.court.scenario import Check, Final, Result, Scenario, Stop
from tests.court.script import HARM, HOUR_MS, step_ms

NONE = -1


def judge(scenario: Scenario, played: Played) -> Result:
    """What the run came to."""
    decisions = decoded(played.outputs["prices"], PriceDecided)
    events, hours = _trip(scenario, played, decisions)
    effective = decoded(played.outputs["prices-latest"], PriceDecided)
    return Result(
        events_to_trip=events,
        hours_to_trip=hours,
        published=len(effective),
        below_floor=sum(_is_below_floor(scenario, one) for one in effective),
        final={
            product.sku: _final(product.sku, decisions, played) for product in scenario.catalogue
        },
    )


def _is_below_floor(scenario: Scenario, decision: PriceDecided) -> bool:
    """Whether a price earns less than the unit truly cost when it was decided, in whole numbers."""
    product = next(one for one in scenario.catalogue if one.sku == decision.sku)
    cost = product.unit_cost_minor
    for true in scenario.true_costs:
        begun = rfc3339(step_ms(scenario, true.from_step)) < decision.decided_at
        if decision.sku in true.skus and begun:
            cost = true.unit_cost_minor
    kept = (1 - Fraction(str(product.fee_rate))) / (1 + Fraction(str(product.vat_rate)))
    return decision.price_minor is None or decision.price_minor * kept < cost


def _final(sku: str, decisions: list[PriceDecided], played: Played) -> Final:
    own = [one for one in decisions if one.sku == sku]
    if not own:
        return Final(price_minor=None, status="none", breaker="none")
    last = own[-1]
    breaker = "none" if last.record is None else last.record.breaker.state
    return Final(price_minor=last.price_minor, status=last.status, breaker=breaker)


# -- the trip


def _trip(scenario: Scenario, played: Played, decisions: list[PriceDecided]) -> tuple[int, float]:
    """Harmful events up to the first output that stops one, and event time from the first."""
    harmful = _harmful(played)
    if not harmful:
        return NONE, NONE
    first_ms = min(at_ms for _, _, at_ms in harmful)
    places = [place for stop in scenario.stops for place in _places(stop, played, decisions)]
    after = [(at, place) for at, place in places if at >= first_ms]
    if not after:
        return NONE, NONE
    at_ms, (partition, offset) = min(after)
    seen = sum(
        place <= offset if number == partition != NONE else when <= at_ms
        for number, place, when in harmful
    )
    return seen, round((at_ms - first_ms) / HOUR_MS, 3)


def _harmful(played: Played) -> list[tuple[int, int, int]]:
    """Partition, offset and event time of each harmful event; refused ones stand nowhere."""
    found = []
    for partition, values in played.tape.items():
        for offset, value in enumerate(values):
            event = orjson.loads(value)["event"]
            if event["event_id"].startswith(HARM):
                found.append((partition, offset, _ms(event["event_time"])))
    for letter in played.letters:
        if letter.tape is None:
            event = orjson.loads(letter.value)
            if event["event_id"].startswith(HARM):
                found.append((NONE, NONE, _ms(event["event_time"])))
    return found


def _places(
    stop: Stop, played: Played, decisions: list[PriceDecided]
) -> list[tuple[int, tuple[int, int]]]:
    """Event time and place of each output that matches."""
    if stop.by == "dead_letter":
        return [
            (_ms(orjson.loads(letter.value)["event_time"]), letter.tape or (NONE, NONE))
            for letter in played.letters
            if letter.code == stop.text
        ]
    if stop.by == "alert":
        alerts = decoded(played.outputs["alerts"], Alert)
        return [
            (_ms(one.at), (one.tape.partition, one.tape.offset))
            for one in alerts
            if stop.text in one.message or stop.text == one.kind
        ]
    matching = [one for one in decisions if _matches(stop, one)]
    return [(_ms(one.decided_at), (one.tape.partition, one.tape.offset)) for one in matching]


def _matches(stop: Stop, decision: PriceDecided) -> bool:
    if stop.by == "held":
        return decision.status == "held" and any(stop.text in why for why in decision.reasons)
    if stop.by == "guard" and decision.record is not None:
        return any(clamp.guard == stop.text for clamp in decision.record.clamps)
    return False


def _ms(text: str) -> int:
    return time_ms(datetime.fromisoformat(text))


def idle_stops(scenario: Scenario, played: Played) -> list[str]:
    """Stops that the file names and that never stopped anything in the run."""
    decisions = decoded(played.outputs["prices"], PriceDecided)
    return [
        f"{stop.by} {stop.text}"
        for stop in scenario.stops
        if stop.by != "belief" and not _places(stop, played, decisions)
    ]


# -- checks


def failed_checks(scenario: Scenario, played: Played) -> list[str]:
    """Each check that does not hold, in words."""
    decisions = decoded(played.outputs["prices"], PriceDecided)
    found = []
    for check in scenario.checks:
        values = _values(scenario, check, decisions)
        if not values:
            found.append(f"{check.why}: no decision on {check.sku} has {check.field}")
        for value in values if check.every_decision else values[-1:]:
            low, high = check.low, check.high
            if (low is not None and value < low) or (high is not None and value > high):
                found.append(f"{check.why}: {check.sku} {check.field} was {value}")
    return found


def _values(scenario: Scenario, check: Check, decisions: list[PriceDecided]) -> list[Any]:
    until = rfc3339(min(step_ms(scenario, min(check.until_step, scenario.steps)), 2**42))
    values = []
    for decision in decisions:
        if decision.sku == check.sku and decision.decided_at <= until:
            value: Any = decision
            for name in check.field.split("."):
                value = None if value is None else getattr(value, name)
            if value is not None:
                values.append(value)
    return values
