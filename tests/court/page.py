"""``docs/court.md``: made from the scenario files; a test keeps it current."""

from pathlib import Path

from tests.court.scenario import Scenario, load, names

COURT_PAGE = Path(__file__).parents[2] / "docs" / "court.md"
HEAD = """# The court

Known pricing disasters, played again. Each is a file in `tests/court/scenarios/`: catalogue, policy
and an event script, which may answer our own prices. `tests/court` plays it without a broker, live
through the Faust agents (embedded broker; two of them on Kafka, too), and in replay of the live
tape in one batch, and compares tape and outputs byte by byte. A judge that shares no code with
guards, breaker and gate counts published prices below what the unit truly cost then, in fractions:
**0** in every scenario.

*Events to trip*: harmful events up to the one at which it was stopped. *Time to trip*: event time
from the first of them to that output. Where a belief is what must be right, no output stops
anything, and bounds on the belief are checked instead. Made from the scenario files by
`PRICEMAKER_WRITE_GOLDEN=1 python -m pytest tests/court`; one scenario in full: `python -m
tests.court making_of_a_fly`.

| scenario | stopped by | events to trip | time to trip | published | below floor |
|---|---|---|---|---|---|
"""
WORDS = {
    "guard": "guard",
    "held": "held",
    "alert": "alert",
    "dead_letter": "dead letter",
    "belief": "belief",
}


def page() -> str:
    """The text of the page."""
    scenarios = [load(name) for name in names()]
    rows = [_row(found) for found in scenarios]
    parts = [HEAD + "\n".join(rows)]
    parts += [_section(found) for found in scenarios]
    return "\n\n".join([*parts, _killed()]) + "\n"


def _row(found: Scenario) -> str:
    result = found.result
    assert result is not None, f"{found.title} was never played"
    stops = "; ".join(f"{WORDS[stop.by]} `{stop.text}`" for stop in found.stops)
    events, hours = str(result.events_to_trip), _time(result.hours_to_trip)
    if result.events_to_trip < 0:
        events = hours = "by belief"
    return (
        f"| {found.title} | {stops} | {events} | {hours} | {result.published} "
        f"| {result.below_floor} |"
    )


def _time(hours: float) -> str:
    if hours < 1.0:
        return f"{hours * 3600.0:.0f} s"
    return f"{hours:.0f} h" if hours < 48.0 else f"{hours / 24.0:.0f} days"


def _section(found: Scenario) -> str:
    checks = "".join(f"\n- {check.why}" for check in found.checks)
    sources = "; ".join(found.sources)
    return (
        f"## {found.title}\n\n{found.happened}\n\n{found.stopped_how}{_list(checks)}\n\n"
        f"Source: {sources}."
    )


def _list(checks: str) -> str:
    return f"\n\nChecked:{checks}" if checks else ""


def _killed() -> str:
    return (
        "## A runaway after a kill\n\nA worker is killed with `kill -9` in the middle of a wave of "
        "new prices; another goes on. No price comes twice or is lost, versions are gapless, and "
        "every byte is that of the run that was not killed. Without a broker: "
        "`tests/court/test_kill.py`; on Kafka with real kills: `tests/crash/test_crash.py`, whose "
        "verifier is code of its own."
    )
