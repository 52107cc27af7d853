"""Webhooks against a real broker and receivers that fail in every way."""

import logging

import pytest

from schemas.errors import ConfigError, ServiceError
from streams.config import load_settings
from streams.kafka.kafka_settings import client_config
from streams.lag.broker import consumer_lag
from streams.settings import Settings
from streams.webhooks.attempts import State
from streams.webhooks.endpoint import group_of
from tests.streams.edge_feed import DECIDED_AT, Pricer, edge_topics, price, switch
from tests.streams.spine import new_prefix, settings_for, wait_until
from tests.streams.webhook_receiver import (
    OTHER_SECRET,
    SECRET,
    Answer,
    Receiver,
    telling,
    with_endpoints,
)


@pytest.fixture
def topics(kafka_bootstrap: str) -> Settings:
    return edge_topics(kafka_bootstrap)


def lag_of(settings: Settings, name: str = "first") -> int | None:
    group, topic = group_of(settings, name), f"{settings.topics.prefix}prices-latest"
    try:
        found = consumer_lag(client_config(settings), {group: (topic,)})
    except ServiceError:  # a group that has just begun
        return None
    return found[0].messages_sum


def until_told(receiver: Receiver, sku: str, version: int) -> None:
    wait_until(lambda: receiver.versions(sku)[-1:] == [version], f"{sku} version {version}")


@pytest.mark.kafka
def test_a_receiver_is_told_signed_and_once(topics: Settings) -> None:
    pricer = Pricer(topics)
    pricer.publish([("A", price("A", 1)), ("A", price("A", 2))])
    with Receiver() as receiver:
        settings = with_endpoints(topics, {"url": receiver.url})
        with telling(settings):
            until_told(receiver, "A", 2)
            wait_until(lambda: lag_of(settings) == 0, "the position is committed")
        first = receiver.calls[0]
        assert first.id.startswith("msg_")
        assert first.body["type"] == "prices.changed"
        assert first.body["data"] == {
            "prices": [{
                "sku": "A", "version": 2, "price_id": "A@2", "price_minor": 1002,
                "previous_minor": 1001, "currency": "EUR", "status": "published",
                "effective_from": DECIDED_AT, "valid_until": None, "decided_at": DECIDED_AT,
            }],
            "removed": [],
        }  # fmt: skip
        # a restart tells what is new, nothing twice, and nothing that is older
        pricer.publish([("A", price("A", 1)), ("B", price("B", 1))])
        pricer.publish([("B", None)])
        with telling(settings):
            wait_until(lambda: lag_of(settings) == 0, "it has caught up")
            wait_until(lambda: receiver.versions("B")[-1:] == [1], "B")
        assert receiver.versions("A") == [2]
        assert receiver.calls[-1].body["data"]["removed"] == [{"sku": "B", "version": 1}]
        assert receiver.refused == 0


@pytest.mark.kafka
def test_secrets_can_be_changed_and_a_wrong_one_is_noticed(
    topics: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    Pricer(topics).publish([("A", price("A", 1))])
    with Receiver() as old, Receiver(OTHER_SECRET) as other, caplog.at_level(logging.DEBUG):
        settings = with_endpoints(
            topics,
            {"url": old.url, "secret": OTHER_SECRET, "secret_previous": SECRET},
            {"name": "wrong", "url": other.url},
        )
        with telling(settings) as webhooks:
            until_told(old, "A", 1)
            wait_until(lambda: other.refused > 1, "the receiver refuses the signature")
            assert [one.state for one in webhooks.endpoints] == [State.OK, State.RETRYING]
        assert other.calls == []
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "webhook wrong is retrying (status 401), 1 prices wait" in said
    for secret in (SECRET, OTHER_SECRET, SECRET[6:], OTHER_SECRET[6:], "in-the-address"):
        assert secret not in said


@pytest.mark.kafka
def test_an_endpoint_that_hangs_holds_nobody_up_and_gets_the_last(topics: Settings) -> None:
    pricer = Pricer(topics)
    pricer.publish([("A", price("A", 1))])
    first_hangs = [Receiver(script=lambda n: Answer(hang=n == 0)) for _ in range(2)]
    with first_hangs[0] as slow, first_hangs[1] as late, Receiver() as quick:
        settings = with_endpoints(
            topics,
            {"url": slow.url, "timeout_s": 60.0},
            {"name": "late", "url": late.url, "timeout_s": 0.3},
            {"name": "quick", "url": quick.url},
        )
        with telling(settings) as webhooks:
            wait_until(lambda: len(slow.calls) == 1, "the call that hangs")
            for version in (2, 3, 4):
                pricer.publish([("A", price("A", version))])
                until_told(quick, "A", version)
            assert (len(slow.calls), slow.versions("A", delivered=False)) == (1, [1])
            until_told(late, "A", 4)  # it was given up in time
            slow.let_go()  # closes the connection without an answer
            until_told(slow, "A", 4)
            assert webhooks.wrong() is None
        assert slow.versions("A", delivered=False) == [1, 4]
        assert quick.versions("A")[-3:] == [2, 3, 4]


@pytest.mark.kafka
def test_the_same_message_has_the_same_id(topics: Settings) -> None:
    Pricer(topics).publish([("A", price("A", 1)), ("B", price("B", 1))])
    with Receiver(script=lambda n: Answer(500 if n < 3 else 200)) as receiver:
        with telling(with_endpoints(topics, {"url": receiver.url, "prices_max": 1})):
            until_told(receiver, "A", 1)
            until_told(receiver, "B", 1)
        ids = [call.id for call in receiver.calls]
        assert (len(set(ids[:4])), len(set(ids)), len(ids)) == (1, 2, 5)


@pytest.mark.kafka
def test_what_it_answers_is_heeded(topics: Settings, caplog: pytest.LogCaptureFixture) -> None:
    Pricer(topics).publish([("A", price("A", 1))])
    elsewhere = Receiver()
    with (
        elsewhere,
        Receiver(script=lambda _: Answer(410)) as gone,
        Receiver(script=lambda _: Answer(302, (("location", elsewhere.url),))) as moved,
        Receiver(script=lambda _: Answer(429, (("retry-after", "600"),))) as busy,
    ):
        settings = with_endpoints(
            topics,
            {"name": "gone", "url": gone.url},
            {"name": "moved", "url": moved.url},
            {"name": "busy", "url": busy.url},
            {"name": "nobody", "url": "http://127.0.0.1:9/"},
            dead_after_s=1.0,
            dead_interval_s=0.2,
        )
        with telling(settings) as webhooks:
            states = [State.DISABLED, State.DEAD, State.RETRYING, State.DEAD]
            wait_until(lambda: [one.state for one in webhooks.endpoints] == states, "each is known")
            assert (len(gone.calls), len(busy.calls), elsewhere.paths) == (1, 1, [])
            assert webhooks.wrong() == ("webhooks: gone is disabled, moved is dead, nobody is dead")
            moved.script = lambda _: Answer(200)  # a dead one is tried now and then
            until_told(moved, "A", 1)
            wait_until(lambda: webhooks.endpoints[1].state is State.OK, "it is alive again")
        wait_until(lambda: lag_of(settings, "moved") == 0, "the position of what was delivered")
        assert lag_of(settings, "busy") == 2  # the price, and the transaction's marker
    assert "webhook gone is disabled (status 410), 1 prices wait" in caplog.text
    assert "webhook nobody is dead (ConnectError), 1 prices wait" in caplog.text


@pytest.mark.kafka
def test_the_kill_switch_stops_them_and_they_go_on_with_the_last(topics: Settings) -> None:
    pricer = Pricer(topics)
    pricer.publish([("A", price("A", 1))])
    with Receiver() as receiver:
        with telling(with_endpoints(topics, {"url": receiver.url})) as webhooks:
            until_told(receiver, "A", 1)
            pricer.control(switch("on", 1))
            wait_until(lambda: webhooks.wrong() == "the kill switch is on", "it is seen")
            pricer.publish([("A", price("A", 2))])
            pricer.publish([("A", price("A", 3))])
            wait_until(lambda: webhooks.endpoints[0].waiting == 1, "a price waits")
            assert receiver.versions("A") == [1]
            pricer.control(switch("off", 2))
            until_told(receiver, "A", 3)
        assert receiver.versions("A")[0] == 1


@pytest.mark.kafka
def test_filters(topics: Settings) -> None:
    Pricer(topics).publish(
        [
            ("A", price("A", 1, record={"category": "lamps"})),
            ("B", price("B", 1, record={"category": "sofas"})),
            ("C", price("C", 1)),
            ("D", b"no price"),
        ]
    )
    with Receiver() as lamps, Receiver() as everything:
        settings = with_endpoints(
            topics,
            {"url": lamps.url, "categories": ["lamps"], "skus": ["C"]},
            {"name": "all", "url": everything.url},
        )
        with telling(settings):
            wait_until(lambda: lag_of(settings) == lag_of(settings, "all") == 0, "both are told")
        told = [[sku for sku in "ABCD" if one.versions(sku)] for one in (lamps, everything)]
        assert told == [["A", "C"], ["A", "B", "C"]]


@pytest.mark.kafka
def test_without_the_topic_they_do_not_start(kafka_bootstrap: str) -> None:
    settings = settings_for(kafka_bootstrap, new_prefix())
    with (
        pytest.raises(ServiceError, match="does not exist"),
        telling(with_endpoints(settings, {"url": "https://example.com/"})),
    ):
        pass


HEAD = '[[webhooks.endpoints]]\nname = "erp"\n'
GOOD = f'{HEAD}url = "https://example.com/"\nsecret = "{SECRET}"\n'
# why, text, field, in the error
REFUSALS = [
    ("no TLS", f'{HEAD}url = "http://example.com/"\nsecret = "{SECRET}"',
     "webhooks.endpoints[0].url", "insecure = true"),
    ("a short secret", f'{HEAD}url = "https://example.com/"\nsecret = "whsec_c2hvcnQtc2VjcmV0"',
     "webhooks.endpoints[0].secret", "24 to 64 bytes"),
    ("no secret", f'{HEAD}url = "https://u:short-secret@example.com/"',
     "webhooks.endpoints[0].secret", "**********"),
    ("no list", GOOD.replace("[[", "[").replace("]]", "]"), "webhooks.endpoints", "tuple"),
    ("twice the same name", GOOD + GOOD, "webhooks.endpoints", "different names"),
    ("an unknown key", GOOD + 'urll = "short-secret"', "webhooks.endpoints[0].urll", "mean url?"),
    ("no address", f'{HEAD}url = "ftp://short-secret/"\nsecret = "{SECRET}"',
     "webhooks.endpoints[0].url", "https://"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "field", "said"), [case[1:] for case in REFUSALS], ids=[c[0] for c in REFUSALS]
)
def test_settings_that_are_refused(tmp_path, text: str, field: str, said: str) -> None:
    file = tmp_path / "pricemaker.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    shown = f"{caught.value} {caught.value.as_dict()}"
    assert caught.value.field == field
    assert said in shown
    assert "short-secret" not in shown
    assert SECRET not in shown
    assert "c2hvcnQtc2VjcmV0" not in shown


def test_an_address_on_this_machine_needs_no_tls(tmp_path) -> None:
    file = tmp_path / "pricemaker.toml"
    file.write_text(GOOD.replace("https://example.com/", "http://[::1]:8000/"))
    (endpoint,) = load_settings(file).webhooks.endpoints
    assert SECRET not in repr(endpoint)
    assert "::1" not in repr(endpoint)
