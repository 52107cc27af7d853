"""``pricemaker demo``: it ends by itself, says what it did, and does the same again."""

import json
import os
import re
import subprocess
import sys
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from streams.cli import cli
from tests.streams.spine import ROOT

EVENTS = 600
WAIT_S = 240.0
TIMES = ("events_per_second", "seconds", "seconds_to_start")
SHOP = ["--products", "60", "--events", str(EVENTS), "--json"]


class Ended(NamedTuple):
    code: int
    stdout: str
    stderr: str


def start(*options: str) -> subprocess.Popen[str]:
    """A demo in a process of its own, as people run it."""
    environment = {name: value for name, value in os.environ.items() if "PRICEMAKER" not in name}
    return subprocess.Popen(
        [sys.executable, "-m", "streams", "demo", *SHOP, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )


@pytest.fixture(scope="module")
def demos() -> dict[str, Ended]:
    """The same demo twice, and one of another seed that shows its prices; side by side."""
    started = {
        "one": start("--headless", "--seed", "7"),
        "two": start("--headless", "--seed", "7"),
        "shown": start("--seed", "8", "--port", "0"),
    }
    ended = {}
    try:
        for name, process in started.items():
            stdout, stderr = process.communicate(timeout=WAIT_S)
            ended[name] = Ended(process.returncode, stdout, stderr)
    finally:
        for process in started.values():
            process.kill()
    return ended


def document(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.stderr
    return json.loads(ended.stdout)


def test_it_ends_with_a_summary_of_what_became_of_its_events(demos: dict[str, Ended]) -> None:
    found = document(demos["one"])
    assert sorted(found) == sorted(
        [
            "events", "decisions", "published", "held", "dead_letters", "duplicates",
            "breaker_trips", "ticks", "decisions_sha256", *TIMES,
        ]
    )  # fmt: skip
    assert found["events"] == EVENTS
    assert found["decisions"] == found["published"] + found["held"] > 100
    assert found["dead_letters"] > 0  # the shop makes mistakes
    assert all(found[name] > 0 for name in TIMES)
    assert len(bytes.fromhex(found["decisions_sha256"])) == 32


def test_the_same_seed_gives_the_same_decisions(demos: dict[str, Ended]) -> None:
    one, two = document(demos["one"]), document(demos["two"])
    for name in TIMES:
        del one[name], two[name]
    assert one == two


def test_what_is_shown_are_price_decisions_with_rising_versions(demos: dict[str, Ended]) -> None:
    ended = demos["shown"]
    assert ended.code == 0, ended.stderr
    moves = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(moves) > 50
    assert {tuple(sorted(move)) for move in moves} == {
        (
            "currency", "decided_at", "margin_pct", "previous_minor", "price_minor", "reasons",
            "sku", "version",
        )
    }  # fmt: skip
    versions: dict[str, list[int]] = {}
    for move in moves:
        versions.setdefault(move["sku"], []).append(move["version"])
    assert all(found == sorted(set(found)) for found in versions.values())
    prices: dict[str, int] = {}
    for move in moves:
        assert move["previous_minor"] == prices.get(move["sku"])
        prices[move["sku"]] = move["price_minor"]


def test_nothing_but_its_start_is_said_on_stderr(demos: dict[str, Ended]) -> None:
    started = "starting the broker and the worker, compiling the kernels ...\n"
    for name in ("one", "two"):
        assert demos[name].stderr == started
    desk = r"the desk: http://127\.0\.0\.1:[0-9]+/desk/\n"
    assert re.fullmatch(re.escape(started) + desk, demos["shown"].stderr)


def test_without_a_screen_and_an_end_it_does_not_start() -> None:
    result = CliRunner().invoke(cli, ["demo", "--headless", "--json"])
    error = json.loads(result.stderr)
    assert (result.exit_code, result.stdout) == (2, "")
    assert error["message"] == "--headless needs --events, or it would never end."
