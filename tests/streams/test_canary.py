"""The private names of Faust and aiokafka that the transport relies on have not moved.

The transport overrides what stock Faust does with chunks, acks and seeks. Were a name renamed, our
override would never be called, and events would be lost without an error. So the versions are
pinned, and whoever moves a pin sees here what to read again.
"""

import inspect
from importlib.metadata import version

import aiokafka
import pytest
from aiokafka.consumer import group_coordinator
from faust.app import App as FaustApp
from faust.app.base import App as FaustAppBase
from faust.tables import recovery
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver

from streams.worker import transport

PINNED = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}

OVERRIDDEN = {
    (transport.ChunkConsumer, driver.Consumer): {
        "__init__",
        "_new_consumer_thread",
        "_drain_messages",
        "ack",
        "_filter_tps_with_pending_acks",
        "_new_offset",
        "verify_all_partitions_active",
        "wait_empty",
        "on_stop",
        "on_partitions_revoked",
        "perform_seek",
    },
    (transport.ConsumerThread, driver.AIOKafkaConsumerThread): {
        "_create_worker_consumer",
    },
    (transport.App, FaustApp): {
        "__init__",
        "_crash",
        "_new_transport",
        "_new_producer_transport",
        "_create_directories",
    },
    (transport.ChunkTransport, driver.Transport): {"Consumer"},
    (transport.ChunkSchema, transport.Schema): {"compile"},
}

MADE_FOR_CLASSES = {"logger", "_tasks", "abstract", "_abc_impl"}  # by mode and by abc

# Where a name is used that we only read, set or count on being called: (code, what it must say).
RELIED_ON = [
    (base.Fetcher, "await consumer._drain_messages(self)"),
    (base.Consumer.commit, "await self.force_commit("),
    (base.Consumer._commit_tps, "self._filter_committable_offsets(tps)"),
    (base.Consumer._filter_committable_offsets, "self._new_offset(tp)"),
    (base.Consumer.force_commit, "self._filter_tps_with_pending_acks(topics)"),
    (base.Consumer._should_commit, "self._committed_offset[tp]"),
    (base.Consumer.on_partitions_revoked, "await T(self._on_partitions_revoked"),
    (base.Consumer.on_stop, "await self.wait_empty()"),
    (base.ThreadDelegateConsumer._getmany, "self._thread.getmany(active_partitions, timeout)"),
    (recovery.Recovery._resume_streams, "consumer.perform_seek()"),
    (
        recovery.Recovery._resume_streams,
        "app.flow_control.resume()\n        consumer.resume_flow()",
    ),
    (recovery.Recovery, "except IllegalStateError as exc:"),
    (FaustAppBase._on_partitions_revoked, "T(consumer.stop_flow)()"),
    (FaustAppBase._on_partitions_revoked, "await T(self._consumer_wait_empty)(consumer"),
    (FaustAppBase._stop_consumer, "await self._consumer_wait_empty(consumer, self.log)"),
    (FaustAppBase.on_rebalance_start, "self.rebalancing_count += 1"),
    (driver.ConsumerRebalanceListener, "consumer_generation_id = generation"),
    (driver.AIOKafkaConsumerThread._create_worker_consumer, "fetch_max_wait_ms=1500"),
    (aiokafka.AIOKafkaConsumer.start, "fetch_max_wait_ms=self._fetch_max_wait_ms"),
    (aiokafka.AIOKafkaConsumer.start, "isolation_level=self._isolation_level"),
    (group_coordinator.GroupCoordinator, "LeaveGroupRequest(self.group_id, self.member_id)"),
]


@pytest.mark.parametrize("package", PINNED)
def test_the_pinned_version_is_installed(package: str) -> None:
    assert version(package) == PINNED[package]


@pytest.mark.parametrize(("ours", "stock"), OVERRIDDEN)
def test_every_override_still_overrides_something(ours: type, stock: type) -> None:
    defined = {
        name
        for name in vars(ours)
        if name == "__init__" or not (name.startswith("__") or name in MADE_FOR_CLASSES)
    }
    assert {name for name in defined if name in dir(stock)} == OVERRIDDEN[ours, stock]


@pytest.mark.parametrize(("code", "text"), RELIED_ON, ids=[text for _, text in RELIED_ON])
def test_what_we_rely_on_is_still_there(code: object, text: str) -> None:
    assert text in inspect.getsource(code)  # type: ignore[arg-type]


def test_the_fast_path_of_streams_acks_nothing_when_acks_are_manual() -> None:
    source = inspect.getsource(__import__("faust.streams", fromlist=["Stream"]).Stream._c_aiter)
    assert "do_ack = self.enable_acks" in source
    assert "it.after(event, do_ack or value is skipped_value, sensor_state)" in source
