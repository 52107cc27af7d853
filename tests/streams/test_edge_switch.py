"""The kill switch as those who pass prices on read it."""

import threading

import orjson
import pytest

from schemas.errors import ServiceError
from schemas.events import rfc3339
from schemas.topics import CONTROLS
from streams.edge.follower import Record
from streams.edge.switch import PriceSwitch, SwitchLog, SwitchState
from streams.settings import Settings
from tests.models.tapes import at, event
from tests.streams.edge_feed import edge_topics
from tests.streams.spine import Shop, new_prefix, settings_for, wait_until

WRITTEN_MS = at(minutes=10)  # when the broker got the records


def when(minute: int) -> str:
    return rfc3339(at(minutes=minute))


def command(name: str, minute: int, event_id: str | None = None, **fields: object) -> bytes:
    kind = f"kill_switch_{name}"
    made = event("operator_command", at(minutes=minute), event_id or f"{name}-{minute}",
                 command=kind, **fields)  # fmt: skip
    return orjson.dumps(made)


def tick(minute: int) -> bytes:
    return orjson.dumps(event("clock_ticked", at(minutes=minute), f"tick-{minute}"))


def after(*values: bytes | None) -> SwitchState:
    log = SwitchLog()
    for offset, value in enumerate(values):
        log.take(Record(0, offset, None, value, WRITTEN_MS))
    return log.state


NEVER = SwitchState()
ON = SwitchState(True, "kim", "drill", when(1), None)
UNTIL_5 = ON._replace(expires_at=when(5))
CASES = [
    ("nobody threw it", [tick(1)], NEVER),
    ("thrown", [tick(1), command("on", 1)], ON),
    ("released", [command("on", 1), command("off", 2)],
     SwitchState(False, "kim", "drill", when(2), None)),
    ("thrown again", [command("on", 0), command("off", 0), command("on", 1)], ON),
    ("a repeat after the release is none", [command("on", 0), command("off", 1, "x"),
     command("on", 0)], SwitchState(False, "kim", "drill", when(1), None)),
    ("it does not expire before a tick says so", [command("on", 1, expires_at=when(5)),
     tick(4)], UNTIL_5),
    ("it expires at a tick", [command("on", 1, expires_at=when(5)), tick(5)],
     UNTIL_5._replace(on=False, reason="it expired")),
    ("what had expired before it came throws nothing",
     [tick(5), command("on", 1, expires_at=when(5))], NEVER),
    ("a tick from the future, which intake refuses, ends nothing",
     [command("on", 1, expires_at=when(5)), tick(16)], UNTIL_5),
    ("a release from the future does not count either", [command("on", 1), command("off", 16)], ON),
    ("a switch for a part is refused by the fold",
     [command("on", 1, scope={"kind": "sku", "name": "A"})], NEVER),
    ("what is no event is a dead letter", [b'{"kill_switch_on": 1}', b"clock_ticked", None], NEVER),
]  # fmt: skip


@pytest.mark.parametrize(("values", "state"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_switch_is_a_function_of_controls(values: list[bytes], state: SwitchState) -> None:
    assert after(*values) == state


@pytest.mark.kafka
def test_it_is_known_at_the_start_and_followed_from_then_on(kafka_bootstrap: str) -> None:
    settings = edge_topics(kafka_bootstrap)
    shop = Shop(settings)

    def put(value: bytes) -> None:
        shop.raw(CONTROLS.name, None, value)
        shop.flush()

    put(command("on", 1))
    changes: list[SwitchState] = []
    switch = PriceSwitch(settings, pytest.fail, on_change=changes.append).start()
    try:
        assert (switch.on, switch.state) == (True, ON)
        ending = threading.Event()
        waited: list[bool] = []
        waiting = threading.Thread(target=lambda: waited.append(switch.wait_off(ending)))
        waiting.start()
        put(command("off", 2))
        waiting.join()
        assert (waited, switch.on) == ([True], False)
        put(command("on", 3))
        wait_until(lambda: switch.on, "the switch is thrown")
        ending.set()
        assert switch.wait_off(ending) is False
        assert [(state.on, state.at) for state in changes] == [
            (False, when(2)), (True, when(3)),
        ]  # fmt: skip
    finally:
        switch.close()


@pytest.mark.kafka
def test_without_controls_nothing_is_passed_on(kafka_bootstrap: str) -> None:
    settings: Settings = settings_for(kafka_bootstrap, new_prefix())
    errors: list[BaseException] = []
    with pytest.raises(ServiceError) as caught:
        PriceSwitch(settings, errors.append).start()
    assert (caught.value.code, errors) == ("topic_missing", [caught.value])
