"""One way to reach Redis: time limits, retries, login, TLS, and its errors in our words."""

import logging
import os
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from schemas.errors import ConfigError, PricemakerError, ServiceError
from streams.kafka.kafka_settings import secret

log = logging.getLogger(__name__)

# Within one call: a connection that was dropped is mended without a word.
RETRIES = 2
RETRY_BASE_S, RETRY_MAX_S = 0.02, 0.2
HEALTH_CHECK_S = 30
# Redis is away, starting, failing over or full: it is asked again. A login that is refused is not.
PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.MasterDownError,
)
FULL = "OOM command not allowed"  # so a script says before Redis 7
REFUSED = (
    redis.AuthenticationError,
    redis.exceptions.AuthorizationError,
    redis.exceptions.NoPermissionError,
)


def redis_client(settings: Any, name: str, *, retries: int = RETRIES) -> redis.Redis:
    """A client for ``redis.url``; connections are made when they are needed, by any thread.

    Parameters
    ----------
    settings : the loaded configuration
    name : shown by ``CLIENT LIST``
    retries : how often a call that meets a broken connection or a time-out is tried again

    Raises
    ------
    ConfigError : ``redis.url`` is not set
    """
    address, options = connection(settings, name)
    return redis.Redis.from_url(
        address,
        socket_timeout=settings.redis.timeout_s,
        socket_connect_timeout=settings.redis.timeout_s,
        retry=Retry(ExponentialWithJitterBackoff(RETRY_MAX_S, RETRY_BASE_S), retries),
        health_check_interval=HEALTH_CHECK_S,
        decode_responses=True,
        **options,
    )


def connection(settings: Any, name: str) -> tuple[str, dict[str, Any]]:
    """The address, and who one is: login, TLS, name. Secret.

    Raises
    ------
    ConfigError : ``redis.url`` is not set
    """
    given = settings.redis
    if given.url is None:
        raise ConfigError(
            "redis_not_set",
            "redis.url is not set.",
            field="redis.url",
            expected="redis://host:port/0, rediss://... or unix://...",
            fix="Set redis.url in pricemaker.toml, or PRICEMAKER_REDIS__URL.",
        )
    options: dict[str, Any] = {"client_name": f"pricemaker-{name}"}
    if given.username is not None:
        options["username"] = given.username
    if given.password is not None:
        options["password"] = secret(given.password)
    if given.ssl_ca_file is not None:
        options["ssl_ca_certs"] = os.fspath(given.ssl_ca_file)
    return secret(given.url), options


def warn_of_eviction(client: redis.Redis) -> None:
    """Log a warning where Redis may drop any key when it is full: single prices would be gone.

    A user who may not ask (``INFO``) is not told.
    """
    try:
        policy = client.info("memory").get("maxmemory_policy", "")
    except redis.exceptions.NoPermissionError:
        return
    if policy.startswith("allkeys"):
        log.warning(
            "Redis drops any key when it is full (maxmemory-policy %s), prices too; use noeviction "
            "or a volatile- policy", policy,
        )  # fmt: skip


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, redis.ResponseError) and FULL in str(error):
        return True
    return isinstance(error, PASSING) and not isinstance(error, REFUSED)


def redis_error(error: redis.RedisError) -> PricemakerError:
    """A client library's error as ours; its own text may hold what is secret."""
    kind = type(error).__name__
    if isinstance(error, REFUSED):
        return ConfigError(
            "redis_refused",
            f"Redis refuses the user or what it may do ({kind}).",
            where="Redis",
            field="redis.url",
            fix="Check user, password and ACL; docs/redis-feed.md lists the commands.",
        )
    if is_passing(error):
        return ServiceError(
            "redis_unreachable",
            f"Redis does not answer ({kind}).",
            where="Redis",
            fix="Check that it runs and that redis.url is right.",
        )
    return ServiceError(
        "redis_failed", f"Redis answered with an error ({kind}).", where="Redis",
        fix="Look into Redis's own log.",
    )  # fmt: skip
