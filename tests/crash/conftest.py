"""Fixtures of the crash tests: one set of kernels, one broker of their own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.kernel.tile import Kernel
from streams.worker.engines import warm_kernel
from tests.conftest import IN_CI
from tests.crash.broker import JARS, Broker


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this session's kernels are kept: the workers load what the tests have compiled."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="session")
def kernel(kernel_cache: Path) -> Kernel:
    """The pricing kernels, with the fingerprint that the workers will have."""
    return warm_kernel(kernel_cache)


@pytest.fixture(scope="session")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Kafka broker that these tests alone use, so that they may kill it."""
    reason = _missing()
    if reason is not None and IN_CI:
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    try:
        yield broker
    finally:
        broker.stop(kill=True)


def _missing() -> str | None:
    if shutil.which("java") is None:
        return "java is not there. Install a Java 17 runtime (Debian: default-jre-headless)."
    if not JARS.exists() and not IN_CI:
        return f"the broker's jars are not there. Run: infra/kafka/broker fetch ({os.fspath(JARS)})"
    return None
