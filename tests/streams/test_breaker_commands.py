"""``pricemaker breaker`` and ``kill-switch``: what they send, and what they show."""

from typing import Any

import orjson
import pytest

from models.kernel.tile import Kernel
from schemas.events import Scope
from streams.cli import cli
from streams.controls import controls
from streams.controls.breaker_state import BreakerLine, SwitchLine, status_of
from tests.models.tapes import Partition, at
from tests.streams.spine import fresh_topics, read_topic


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel.warm()


def test_status_tells_every_breaker_that_is_not_closed_the_widest_first(kernel: Kernel) -> None:
    shop = Partition(kernel)
    for sku, family in (("A", None), ("F1", "F"), ("gone", None)):
        shop.send("product_listed", at(), sku=sku, family=family)
    shop.send("product_retired", at(), sku="gone")
    for scope in ({"kind": "sku", "name": "A"}, {"kind": "family", "name": "F"}):
        shop.send("operator_command", at(hours=1), command="breaker_trip", scope=scope)
    shop.send(
        "operator_command", at(hours=1), command="breaker_trip", expires_at="2026-01-06T00:00:00Z"
    )
    shop.send("operator_command", at(hours=2), command="kill_switch_on")
    found = status_of([{key.decode(): value for key, value in shop.stored.items()}])
    since, manual = "2026-01-05T01:00:00.000Z", ("manual trip",)

    def line(scope: str, name: str | None, **other: Any) -> BreakerLine:
        fields = {"partition": None, "until": None} | other
        return BreakerLine(
            scope=scope, name=name, state="OPEN", since=since, reasons=manual, openings=0, **fields
        )

    assert found.breakers == (
        line("catalogue", None, partition=0, until="2026-01-06T00:00:00.000Z"),
        line("family", "F"),
        line("sku", "A"),
    )
    assert found.products == 2
    assert found.kill_switch == (SwitchLine(partition=0, on=True, by="kim: drill", expires=None),)


@pytest.mark.parametrize(
    "arguments",
    [
        ["breaker", "trip", "--reason", "x"],
        ["breaker", "trip", "--reason", "x", "--sku", "A", "--catalogue"],
        ["breaker", "reset", "--reason", "x", "--sku", "A", "--family", "F"],
        ["breaker", "trip", "--catalogue"],
        ["kill-switch", "on"],
        ["kill-switch", "on", "--reason", "x", "--expires", "tomorrow"],
    ],
)
def test_a_command_needs_one_scope_and_a_reason(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "--json"])
    assert ended.value.code == 2
    assert orjson.loads(capsys.readouterr().err)["code"] == "wrong_usage"


def test_a_command_is_an_event_of_its_own() -> None:
    event = controls.command_event("breaker_trip", Scope("family", "F"), "kim", "recall")
    assert (event.command, event.scope, event.actor, event.reason, event.expires_at) == (
        "breaker_trip", Scope("family", "F"), "kim", "recall", None,
    )  # fmt: skip
    assert event.event_id.startswith("breaker_trip-")


@pytest.mark.kafka
def test_commands_reach_controls(
    kafka_bootstrap: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = fresh_topics(kafka_bootstrap)
    monkeypatch.setenv("PRICEMAKER_TOPICS__PREFIX", settings.topics.prefix)
    for arguments in (
        ["breaker", "trip", "--sku", "A", "--expires", "2126-03-01"],
        ["breaker", "reset", "--catalogue"],
        ["kill-switch", "on"],
        ["kill-switch", "off"],
    ):
        given = ["--reason", "drill", "--actor", "kim", "--bootstrap", kafka_bootstrap, "--json"]
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments, *given])
        assert ended.value.code == 0
    sent = [orjson.loads(message.value()) for message in read_topic(settings, "controls")]
    assert [(one["command"], one["scope"], one["expires_at"]) for one in sent] == [
        ("breaker_trip", {"kind": "sku", "name": "A"}, "2126-03-01T00:00:00Z"),
        ("breaker_reset", {"kind": "catalogue", "name": None}, None),
        ("kill_switch_on", {"kind": "catalogue", "name": None}, None),
        ("kill_switch_off", {"kind": "catalogue", "name": None}, None),
    ]
    assert {(one["actor"], one["reason"]) for one in sent} == {("kim", "drill")}
    with pytest.raises(SystemExit) as ended:
        cli.main(["breaker", "status", "--bootstrap", kafka_bootstrap, "--json"])
    assert ended.value.code == 3  # no worker has written a state
