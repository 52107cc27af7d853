"""The projector on a real Kafka and a real Redis, and what goes wrong with either."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from schemas.errors import CheckFailed, ConfigError, ServiceError
from streams.cli import cli
from streams.edge.projector import Projector, Summary
from streams.edge.redis_client import redis_client
from streams.kafka.kafka_settings import client_config, edge_group_id
from streams.lag.broker import consumer_lag
from streams.settings import Settings
from tests.streams.edge_feed import (
    DECIDED_AT,
    Pricer,
    RedisServer,
    edge_topics,
    own_redis,
    price,
    switch,
    with_redis,
)
from tests.streams.spine import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


@pytest.fixture
def settings(kafka_bootstrap: str, redis_url: str) -> Settings:
    return with_redis(edge_topics(kafka_bootstrap), redis_url)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with own_redis(tmp_path, persistent=True) as server:
        yield server


class Reader:
    """Reads the feed as a shop would."""

    def __init__(self, settings: Settings) -> None:
        patient = settings.redis.model_copy(update={"timeout_s": 10.0})
        self.client = redis_client(settings.model_copy(update={"redis": patient}), "test")
        self.prefix = settings.redis.prefix

    def price(self, sku: str) -> dict[str, str]:
        return self.client.hgetall(f"{self.prefix}price:{sku}")

    def version(self, sku: str) -> str | None:
        return self.client.hget(f"{self.prefix}price:{sku}", "version")

    def changes(self) -> list[tuple[str, int, str]]:
        entries = self.client.xrange(f"{self.prefix}price-changes")
        return [(e["sku"], int(e["version"]), e["status"]) for _, e in entries]


@contextmanager
def running(settings: Settings) -> Iterator[Projector]:
    """A projector in a thread; what ended it is raised at the end."""
    projector = Projector(settings)
    ended: list[BaseException | Summary] = []

    def run() -> None:
        try:
            ended.append(projector.run())
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield projector
    finally:
        projector.stop()
        thread.join()
        if isinstance(ended[0], BaseException):
            raise ended[0]


def test_what_a_shop_reads(settings: Settings) -> None:
    pricer, reader = Pricer(settings), Reader(settings)
    pricer.publish([("A", price("A", 1)), ("B", price("B", 1)), ("A", price("A", 2))])
    assert Projector(settings).run(once=True).accepted == 2  # of A only the last
    assert reader.price("A") == {
        "version": "2", "price_id": "A@2", "price_minor": "1002", "previous_minor": "1001",
        "currency": "EUR", "effective_from": DECIDED_AT, "decided_at": DECIDED_AT,
        "status": "published",
    }  # fmt: skip
    assert sorted(reader.changes()) == [("A", 2, "published"), ("B", 1, "published")]
    # a repeat, something older, a removal and a field that is not known any more
    pricer.publish([("A", price("A", 2)), ("A", price("A", 1)), ("C", None), ("B", None)])
    pricer.publish([("A", price("A", 3, previous_minor=None, effective_from=None))])
    done = Projector(settings).run(once=True)
    assert (done.records, done.accepted, done.rebuilds) == (5, 2, 0)
    assert reader.price("A") == {
        "version": "3", "price_id": "A@3", "price_minor": "1003", "currency": "EUR",
        "decided_at": DECIDED_AT, "status": "published",
    }  # fmt: skip
    assert reader.price("B") == {"version": "1", "status": "removed"}
    assert reader.price("C") == {}
    # a removed product does not come back by a repeat, only by a higher version
    pricer.publish([("B", price("B", 1))])
    assert Projector(settings).run(once=True).accepted == 0
    pricer.publish([("B", price("B", 2, status="reverted"))])
    assert Projector(settings).run(once=True).accepted == 1
    assert reader.changes()[2:] == [("B", 1, "removed"), ("A", 3, "published"),
                                    ("B", 2, "reverted")]  # fmt: skip


def test_its_position_shows_as_lag(settings: Settings) -> None:
    Pricer(settings).publish([("A", price("A", 1)), ("B", price("B", 1))])
    group = edge_group_id(settings, "projector")
    topic = f"{settings.topics.prefix}prices-latest"
    with running(settings):

        def lag() -> int | None:
            try:
                return consumer_lag(client_config(settings), {group: (topic,)})[0].messages_sum
            except ServiceError:  # a group that has just begun
                return None

        wait_until(lambda: lag() == 0, "the group has caught up")


def test_a_record_that_is_no_price_is_left_out(settings: Settings) -> None:
    Pricer(settings).publish([("A", b"{}"), ("A", price("A", 1)), ("A", b"\xff")])
    done = Projector(settings).run(once=True)
    assert (done.records, done.accepted, done.unreadable) == (3, 1, 2)
    assert Reader(settings).version("A") == "1"


def test_the_kill_switch_stops_it_and_it_goes_on_where_it_stopped(settings: Settings) -> None:
    pricer, reader = Pricer(settings), Reader(settings)
    pricer.publish([("A", price("A", 1))])
    with running(settings) as projector:
        wait_until(lambda: reader.version("A") == "1", "the first price")
        pricer.control(switch("on", 1))
        wait_until(lambda: projector.ready() == "the kill switch is on", "the switch is seen")
        pricer.publish([("A", price("A", 2)), ("B", price("B", 1))])
        with pytest.raises(CheckFailed, match="kill switch is on"):
            Projector(settings).run(once=True)
        assert (reader.version("A"), reader.version("B")) == ("1", None)
        pricer.control(switch("off", 2))
        wait_until(lambda: reader.version("A") == "2", "the price that waited")
        assert (reader.version("B"), projector.ready()) == ("1", None)
        assert projector.summary.rebuilds == 0


def test_a_flush_is_noticed_while_nothing_comes(settings: Settings) -> None:
    reader = Reader(settings)
    Pricer(settings).publish([("A", price("A", 1)), ("A", price("A", 2)), ("B", price("B", 1))])
    with running(settings) as projector:
        wait_until(lambda: len(reader.changes()) == 2, "both prices")
        reader.client.delete(f"{reader.prefix}feed", *reader.client.keys(f"{reader.prefix}price*"))
        wait_until(lambda: reader.version("B") == "1", "the feed is made anew")
        assert (reader.version("A"), projector.summary.rebuilds) == ("2", 1)


def test_redis_that_is_stopped_slow_or_restarted_loses_nothing(
    kafka_bootstrap: str, server: RedisServer
) -> None:
    settings = with_redis(edge_topics(kafka_bootstrap), server.url)
    pricer, reader = Pricer(settings), Reader(settings)
    with running(settings) as projector:

        def arrives(version: int) -> None:
            wait_until(lambda: reader.version("A") == str(version), f"version {version}")

        pricer.publish([("A", price("A", 1))])
        arrives(1)
        server.pause()
        pricer.publish([("A", price("A", 2))])
        wait_until(lambda: projector.ready() == "Redis takes no prices", "the time-out")
        server.resume()
        arrives(2)
        # slow: for longer than a call waits
        server.client().client_pause(1_000)
        pricer.publish([("A", price("A", 3))])
        arrives(3)
        server.kill()
        pricer.publish([("A", price("A", 4))])
        wait_until(lambda: projector.ready() == "Redis takes no prices", "the outage")
        server.start()
        arrives(4)
        reader.client.config_set("maxmemory", 1)  # full
        pricer.publish([("A", price("A", 5))])
        wait_until(lambda: projector.ready() == "Redis takes no prices", "it is full")
        assert reader.version("A") == "4"
        reader.client.config_set("maxmemory", 0)
        arrives(5)
        wait_until(lambda: projector.ready() is None, "all is well")
        assert projector.summary.rebuilds == 0  # nothing was lost: it went on
        assert reader.changes() == [("A", version, "published") for version in range(1, 6)]


def test_redis_that_was_set_back_is_brought_forward_again(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    """As after a restored snapshot, or a replica that took over before it had everything."""
    with own_redis(tmp_path) as server:
        settings = with_redis(edge_topics(kafka_bootstrap), server.url)
        pricer, reader = Pricer(settings), Reader(settings)
        pricer.publish([("A", price("A", 1)), ("B", price("B", 1))])
        with running(settings) as projector:
            wait_until(lambda: len(reader.changes()) == 2, "both prices")
            reader.client.save()
            pricer.publish([("A", price("A", 2))])
            wait_until(lambda: reader.version("A") == "2", "the second price")
            server.kill()
            server.start()  # with what was saved
            wait_until(lambda: reader.version("A") == "2", "it is brought forward")
            assert projector.summary.rebuilds == 1
        # not from the beginning: the feed's own position was the place to go on from
        changes = reader.changes()
        assert sorted(changes[:2]) == [("A", 1, "published"), ("B", 1, "published")]
        assert changes[2:] == [("A", 2, "published")]


def test_a_feed_of_another_topic_is_refused_until_it_is_rebuilt(settings: Settings) -> None:
    reader = Reader(settings)
    Pricer(settings).publish([("A", price("A", 7))])
    Projector(settings).run(once=True)
    anew = with_redis(
        edge_topics(settings.kafka.bootstrap), settings.redis.url.get_secret_value(),
        prefix=settings.redis.prefix,
    )  # fmt: skip
    Pricer(anew).publish([("A", price("A", 1))])
    with pytest.raises(ConfigError) as caught:
        Projector(anew).run(once=True)
    assert (caught.value.code, reader.version("A")) == ("feed_of_another_topic", "7")
    projector = Projector(anew)
    assert projector.rebuild() == 3
    assert (projector.run(once=True).accepted, reader.version("A")) == (1, "1")


COMMANDS = (
    "+evalsha +script|load +hget +hset +hsetnx +hgetall +del +xadd +scan +ping +info "
    "+client|setname"
)


def test_a_user_with_only_what_it_needs(kafka_bootstrap: str, server: RedisServer) -> None:
    base = edge_topics(kafka_bootstrap)
    prefix = base.topics.prefix
    server.client().execute_command(
        "ACL", "SETUSER", "feeder", "on", ">s3cret", f"~{prefix}*", *COMMANDS.split()
    )
    login = {"username": "feeder", "password": "s3cret"}
    settings = with_redis(base, server.url, **login)
    Pricer(settings).publish([("A", price("A", 1))])
    projector = Projector(settings)
    assert projector.run(once=True).accepted == 1
    assert projector.rebuild() == 3
    for wrong in (login | {"password": "no"}, login | {"prefix": "elsewhere:"}):
        with pytest.raises(ConfigError) as caught:
            Projector(with_redis(base, server.url, **wrong)).run(once=True)
        assert caught.value.code == "redis_refused"
        assert "s3cret" not in str(caught.value)


def test_tls_with_an_authority_of_ones_own(kafka_bootstrap: str, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    with own_redis(tmp_path) as plain:
        client = plain.client()
        client.config_set(
            "tls-cert-file", str(certificate), "tls-key-file", str(key),
            "tls-ca-cert-file", str(certificate), "tls-auth-clients", "no",
        )  # fmt: skip
        tls_port = RedisServer(tmp_path).port
        client.config_set("tls-port", tls_port)
        settings = edge_topics(kafka_bootstrap)
        Pricer(settings).publish([("A", price("A", 1))])
        url = f"rediss://localhost:{tls_port}/0"
        trusted = with_redis(settings, url, ssl_ca_file=certificate)
        assert Projector(trusted).run(once=True).accepted == 1


def test_the_client_of_the_documentation_follows_through_a_flush(settings: Settings) -> None:
    page = (Path(__file__).parents[2] / "docs" / "redis-feed.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    shown: list[tuple[str, ...]] = []
    place: dict[str, Any] = {"print": lambda *what: shown.append(what)}
    exec(code, place)
    reader = Reader(settings)
    place.update(client=reader.client, PREFIX=settings.redis.prefix)
    pricer = Pricer(settings)
    pricer.publish([("A", price("A", 1))])
    with running(settings) as projector:
        wait_until(lambda: reader.version("A") == "1", "the first price")
        threading.Thread(target=place["follow"], daemon=True).start()
        wait_until(lambda: shown == [("A", "1001", "published")], "what is there")
        pricer.publish([("A", price("A", 2))])
        wait_until(lambda: shown[1:] == [("A", "1002", "published")], "what is new")
        assert place["price"]("A") == 1002
        keys = reader.client.keys(f"{reader.prefix}*")
        reader.client.delete(*keys)
        wait_until(lambda: projector.summary.rebuilds == 1, "the flush is noticed")
        pricer.publish([("A", price("A", 3)), ("B", price("B", 1))])
        wait_until(lambda: {one[0] for one in shown[2:]} == {"A", "B"}, "what came after it")
    assert sorted(shown[2:]) == [("A", "1003", "published"), ("B", "1001", "published")]


def test_redis_that_is_not_there_at_the_start(
    settings: Settings, unused_port: int, monkeypatch
) -> None:
    monkeypatch.setattr("streams.edge.projector.PATIENCE_S", 0.2)
    nowhere = with_redis(settings, f"redis://user:s3cret@127.0.0.1:{unused_port}/0")
    with pytest.raises(ServiceError) as caught:
        Projector(nowhere).run()
    assert caught.value.code == "redis_unreachable"
    assert "s3cret" not in json.dumps(caught.value.as_dict())


def test_the_command(settings: Settings, monkeypatch) -> None:
    Pricer(settings).publish([("A", price("A", 1))])
    monkeypatch.setenv("PRICEMAKER_TOPICS__PREFIX", settings.topics.prefix)
    arguments = ["projector", "--once", "--json", "--bootstrap", settings.kafka.bootstrap]
    run = CliRunner()
    missing = run.invoke(cli, arguments)
    assert (missing.exit_code, json.loads(missing.stderr)["code"]) == (2, "redis_not_set")
    monkeypatch.setenv("PRICEMAKER_REDIS__URL", settings.redis.url.get_secret_value())
    monkeypatch.setenv("PRICEMAKER_REDIS__PREFIX", settings.redis.prefix)
    found = run.invoke(cli, arguments)
    document = json.loads(found.stdout)
    where = [one["offset_next"] for one in document.pop("positions")]
    assert (found.exit_code, where) == (0, [1])
    assert document == {
        "records": 1, "accepted": 1, "unreadable": 0, "rebuilds": 0, "keys_deleted": 0,
    }  # fmt: skip
