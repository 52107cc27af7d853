"""Fixtures and Hypothesis profiles for all tests.

Real servers come from the environment; without them their tests are skipped with the reason, and in
CI (``CI=true``) they fail instead, so that nothing is left out there.
"""

import os
import socket

import hypothesis
import pytest

KAFKA_VARIABLE = "PRICEMAKER_TEST_KAFKA"
REDIS_VARIABLE = "PRICEMAKER_TEST_REDIS"

IN_CI = os.environ.get("CI") == "true"

# CI repeats the same examples; a failure prints what repeats it anywhere.
hypothesis.settings.register_profile(
    "ci", derandomize=True, print_blob=True, deadline=None, max_examples=100
)
hypothesis.settings.register_profile("local", print_blob=True, deadline=None, max_examples=100)
hypothesis.settings.load_profile("ci" if IN_CI else "local")


def server_from(variable: str, how: str) -> str:
    """The address in an environment variable; without it skip, or fail in CI."""
    address = os.environ.get(variable)
    if address:
        return address
    reason = f"{variable} is not set. {how}"
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka_bootstrap() -> str:
    """host:port of a real Kafka broker. Use topics with a prefix of your own on it."""
    return server_from(
        KAFKA_VARIABLE, f"Run: export {KAFKA_VARIABLE}=$(infra/kafka/broker start --port 0)"
    )


@pytest.fixture(scope="session")
def redis_url() -> str:
    """Address of a real Redis. Use keys with a prefix of your own in it.

    Each parallel run of tests has a database of its own, so one may be flushed.
    """
    address = server_from(
        REDIS_VARIABLE, f"Start redis-server and export {REDIS_VARIABLE}=redis://127.0.0.1:6379"
    )
    server, _, database = address.removeprefix("redis://").partition("/")
    number = int(database or 0) + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    return f"redis://{server}/{number}"


@pytest.fixture
def unused_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
