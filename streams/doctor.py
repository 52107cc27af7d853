"""Checks of an installation: each says what it found and, where that is wrong, the fix."""

import importlib.metadata
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, OffsetSpec
from msgspec import Struct
from packaging.requirements import Requirement

from schemas.errors import ServiceError
from schemas.topics import SOURCES
from streams import engine_build
from streams.kafka.kafka_settings import QUIET, client_config, group_id, topic_name
from streams.lag.broker import CONNECT_TIMEOUT_S, describe_group, list_offsets, wall_clock_ms
from streams.settings import Settings

OK, FAILED, SKIPPED = "ok", "failed", "skipped"
PYTHON_MIN = (3, 11)
REDIS_TIMEOUT_S = 3.0
# Intake refuses events more than 5 minutes ahead of its clock; be heard well before that.
CLOCK_AHEAD_MAX_MS = 60_000
CLOCK_DIFFERENCE_MAX_MS = 1_000


class Check(Struct, frozen=True, kw_only=True):
    """One check's answer; ``fix`` is there when it failed."""

    name: str
    status: str
    detail: str
    fix: str | None = None


def examine(settings: Settings, only: Iterable[str] = ()) -> list[Check]:
    """Run the checks, or only those named, in the order of ``CHECKS``.

    What needs the broker is skipped when the broker can't be reached. ``worker`` runs only when it
    is named: an installation without a running worker is not broken.
    """
    wanted = [name for name in CHECKS if name in set(only)] if only else list(CHECKS)
    if not only:
        wanted.remove("worker")
    answers: list[Check] = []
    reachable = True
    for name in wanted:
        if name in NEEDS_BROKER and not reachable:
            answers.append(Check(name=name, status=SKIPPED, detail="needs the broker"))
            continue
        try:
            answer = CHECKS[name](settings)
        except ServiceError as error:
            answer = _failed(name, error.message, error.fix or "Check the broker.")
        except KafkaException as error:
            answer = _failed(name, f"{error.args[0].str()}.", "Check kafka.bootstrap and security.")
        reachable = reachable and not (name == "broker" and answer.status == FAILED)
        answers.append(answer)
    return answers


def _ok(name: str, detail: str) -> Check:
    return Check(name=name, status=OK, detail=detail)


def _failed(name: str, detail: str, fix: str) -> Check:
    return Check(name=name, status=FAILED, detail=detail, fix=fix)


def check_python(_: Settings) -> Check:
    """The interpreter is one the project is tested with."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < PYTHON_MIN:
        return _failed("python", version, "Install Python 3.11 or later.")
    return _ok("python", version)


def check_packages(_: Settings) -> Check:
    """Every package is there in a version that pyproject.toml allows."""
    wrong = []
    requirements = [Requirement(text) for text in importlib.metadata.requires("pricemaker") or ()]
    needed = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    for requirement in needed:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, expected {requirement.specifier}")
    if wrong:
        return _failed("packages", "; ".join(wrong), "Run: pip install --upgrade pricemaker")
    return _ok("packages", f"all {len(needed)} as required")


def check_engine(_: Settings) -> Check:
    """Whether the engine is compiled, and all of it that should be."""
    build = engine_build.require_fit()
    if build is None:
        return _ok("engine", engine_build.INTERPRETED)
    from_source = engine_build.loaded_from_source(build)
    if from_source:
        return _failed("engine", f"not compiled: {', '.join(from_source)}", engine_build.FIX)
    return _ok("engine", f"{engine_build.COMPILED}, {len(build.modules)} modules")


def check_float64(_: Settings) -> Check:
    """JAX computes in 64 bits: 32 can't hold every price above 167,772.16."""
    import jax
    import jax.numpy as jnp

    import models.kernel.tile  # noqa: F401 - whoever imports the kernels gets 64 bits

    width = jnp.asarray(0.1).dtype.name
    device = jax.devices()[0].platform
    if width != "float64" or device != "cpu":
        fix = "Unset JAX_ENABLE_X64 and JAX_PLATFORMS in the environment."
        return _failed("float64", f"{width} on {device}", fix)
    return _ok("float64", f"jax {jax.__version__}, {width} on {device}")


def _check_folder(name: str, folder: Path, detail: str) -> Check:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        fix = f"Make {folder} writable for this user, or set another folder."
        return _failed(name, f"{folder}: {os.strerror(error.errno or 0)}", fix)
    return _ok(name, f"{folder}{detail}")


def check_data_dir(settings: Settings) -> Check:
    """The worker can write its own files."""
    return _check_folder("data_dir", settings.worker.data_dir, "")


def check_compilation_cache(settings: Settings) -> Check:
    """Compiled kernels can be kept, so that a restart takes seconds less."""
    folder = settings.engine.compilation_cache_dir
    if folder is None:
        return Check(name="compilation_cache", status=SKIPPED, detail="not configured")
    kept = sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
    return _check_folder("compilation_cache", folder, f", {kept} files")


def check_broker(settings: Settings) -> Check:
    """Kafka answers."""
    admin = AdminClient({**client_config(settings), **QUIET})
    start = time.monotonic()
    brokers = admin.list_topics(timeout=CONNECT_TIMEOUT_S).brokers
    took_ms = (time.monotonic() - start) * 1000
    return _ok("broker", f"{settings.kafka.bootstrap}: {len(brokers)} broker(s), {took_ms:.0f} ms")


def check_topics(settings: Settings) -> Check:
    """Topics exist, with equal partition counts and the clean-up that the worker relies on."""
    from streams.kafka.admin import check_topics as find

    findings = find(settings)
    wrong = [finding for finding in findings if finding.problem]
    if wrong:
        detail = "; ".join(f"{finding.topic} {finding.problem}" for finding in wrong)
        return _failed("topics", detail, wrong[0].fix or "Run: pricemaker topics check")
    return _ok("topics", f"{len(findings)} topics as they should be")


def check_worker(settings: Settings) -> Check:
    """The worker of this id is a member of its consumer group."""
    admin = AdminClient({**client_config(settings), **QUIET})
    group = group_id(settings)
    found = describe_group(admin, group).members
    members = {member.group_instance_id or member.client_id for member in found}
    if settings.worker.id in members:
        return _ok("worker", f"{settings.worker.id} is one of {len(members)} in group {group}")
    others = ", ".join(sorted(members)) or "nobody"
    detail = f"{settings.worker.id} is not in group {group}; there is {others}"
    return _failed("worker", detail, "Start it (pricemaker worker), or read its log.")


def check_clock(settings: Settings) -> Check:
    """This clock agrees with Redis's, and no event comes from its future."""
    compared = []
    if settings.redis.url is not None:
        try:
            seconds, microseconds = _redis(settings).time()
        except redis.RedisError:
            pass  # the redis check says so
        else:
            apart_ms = wall_clock_ms() - (seconds * 1000 + microseconds // 1000)
            if abs(apart_ms) > CLOCK_DIFFERENCE_MAX_MS:
                return _failed("clock", f"{apart_ms} ms from Redis's clock", "Synchronise (NTP).")
            compared.append(f"{apart_ms} ms from Redis's clock")
    newest_ms = _newest_event_ms(settings)
    if newest_ms is not None:
        ahead_ms = newest_ms - wall_clock_ms()
        if ahead_ms > CLOCK_AHEAD_MAX_MS:
            detail = f"a source record was written {ahead_ms} ms in this clock's future"
            return _failed("clock", detail, "Synchronise this clock and the producer's (NTP).")
        compared.append("no source record from the future")
    if not compared:
        return Check(name="clock", status=SKIPPED, detail="nothing to compare it with")
    return _ok("clock", ", ".join(compared))


def _newest_event_ms(settings: Settings) -> int | None:
    admin = AdminClient({**client_config(settings), **QUIET})
    topics = admin.list_topics(timeout=CONNECT_TIMEOUT_S).topics
    names = [topic_name(settings, topic.name) for topic in SOURCES]
    places = [(name, part) for name in names if name in topics for part in topics[name].partitions]
    newest = list_offsets(admin, dict.fromkeys(places, OffsetSpec.max_timestamp())).values()
    return max((found.timestamp for found in newest if found.timestamp >= 0), default=None)


def check_redis(settings: Settings) -> Check:
    """Redis answers, where one is configured."""
    if settings.redis.url is None:
        return Check(name="redis", status=SKIPPED, detail="not configured")
    try:
        version = _redis(settings).info("server")["redis_version"]
    except redis.RedisError as error:
        # The error's text may hold the address, and the address a password.
        fix = "Start Redis, or correct or unset redis.url; prices do not need it."
        return _failed("redis", f"no answer ({type(error).__name__})", fix)
    return _ok("redis", f"version {version}")


def _redis(settings: Settings) -> redis.Redis:
    assert settings.redis.url is not None
    return redis.Redis.from_url(
        settings.redis.url.get_secret_value(),
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
    )


CHECKS: dict[str, Callable[[Settings], Check]] = {
    "python": check_python,
    "packages": check_packages,
    "engine": check_engine,
    "float64": check_float64,
    "data_dir": check_data_dir,
    "compilation_cache": check_compilation_cache,
    "redis": check_redis,
    "broker": check_broker,
    "topics": check_topics,
    "clock": check_clock,
    "worker": check_worker,
}
NEEDS_BROKER = ("topics", "clock", "worker")
