"""The court: every scenario, live through the agents and in replay, with nothing below floor.

``PRICEMAKER_WRITE_GOLDEN=1`` renews the results at the end of the scenario files, to be reviewed.
"""

import os
from functools import cache

import msgspec
import pytest

from models.kernel.tile import Kernel
from streams.settings import Settings
from streams.worker.engines import warm_kernel
from tests.court import players, scenario
from tests.court.judge import failed_checks, idle_stops, judge
from tests.court.page import COURT_PAGE, page
from tests.court.scenario import Result

TOLERANCE_MINOR = 1  # another processor may round a price the other way


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """The kernels as a worker has them, so that bytes are comparable."""
    return warm_kernel(Settings().engine.compilation_cache_dir)


@cache
def played(name: str, kernel: Kernel) -> players.Played:
    return players.in_memory(scenario.load(name), kernel)


@pytest.mark.parametrize("name", scenario.names())
def test_a_scenario_comes_to_its_result(name: str, kernel: Kernel) -> None:
    case, run = scenario.load(name), played(name, kernel)
    found = judge(case, run)
    if os.environ.get("PRICEMAKER_WRITE_GOLDEN") == "1":
        scenario.write_result(name, found)
        case = scenario.load(name)
    assert failed_checks(case, run) == []
    assert idle_stops(case, run) == []
    assert found.below_floor == 0
    assert case.result is not None
    for sku, one in case.result.final.items():
        assert found.final[sku].price_minor == pytest.approx(one.price_minor, abs=TOLERANCE_MINOR)
    assert without_prices(found) == without_prices(case.result)


def without_prices(result: Result) -> Result:
    final = {
        sku: msgspec.structs.replace(one, price_minor=None) for sku, one in result.final.items()
    }
    return msgspec.structs.replace(result, final=final)


@pytest.mark.parametrize("name", scenario.names())
def test_something_stops_it(name: str) -> None:
    """In numbers, or, where a belief is what is right, by a check."""
    case = scenario.load(name)
    assert case.result is not None
    by_belief = [stop for stop in case.stops if stop.by == "belief"]
    assert (case.result.events_to_trip > 0) != bool(by_belief)
    assert case.checks or not by_belief


@pytest.mark.parametrize("name", scenario.names())
def test_live_and_replay_give_the_same_bytes(name: str, kernel: Kernel) -> None:
    """On the embedded broker; the tape, and every output, are those of the run without one."""
    case, alone = scenario.load(name), played(name, kernel)
    with players.embedded() as (settings, options):
        live = players.live(case, kernel, settings, options)
    assert live.tape == alone.tape
    assert live.outputs == alone.outputs
    assert codes(live) == codes(alone)
    assert judge(case, live) == judge(case, alone)
    again = players.replay(live.tape, kernel, live.letters)
    assert again.outputs == live.outputs
    assert codes(again) == codes(live)


def codes(run: players.Played) -> list[tuple[str, bytes]]:
    return sorted((letter.code, letter.value) for letter in run.letters)


@pytest.mark.kafka
@pytest.mark.parametrize("name", ["making_of_a_fly", "duplicated_orders"])
def test_live_on_a_real_broker(name: str, kafka_bootstrap: str, kernel: Kernel) -> None:
    case, alone = scenario.load(name), played(name, kernel)
    with players.kafka(kafka_bootstrap) as (settings, options):
        live = players.live(case, kernel, settings, options)
    assert judge(case, live) == judge(case, alone)
    assert live.outputs == alone.outputs


# -- the page


def test_the_page_has_the_results() -> None:
    if os.environ.get("PRICEMAKER_WRITE_GOLDEN") == "1":
        COURT_PAGE.write_text(page())
    assert COURT_PAGE.read_text() == page()
