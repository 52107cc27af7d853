"""What people put on the ``controls`` topic: policies and commands."""

import getpass
import time
from datetime import datetime
from typing import Any

from msgspec import UNSET, UnsetType

from schemas.codec import canonical
from schemas.events import EPOCH, MILLISECOND, Event, OperatorCommand, PolicyPublished, Scope
from schemas.policy import policy_sha256
from schemas.topics import CONTROLS


def send(settings: Any, event: Event) -> None:
    """Put an event on ``controls`` and wait until it is confirmed.

    Raises
    ------
    ServiceError : it was not
    """
    from streams.kafka.feeder import Feeder

    Feeder(settings).feed([(CONTROLS.name, canonical(event))])


def policy_event(text: str, version: int) -> PolicyPublished:
    """The event that puts a policy in force, now."""
    sha256 = policy_sha256(text)
    now_ms = _now_ms()
    return PolicyPublished(
        event_id=f"policy-{version}-{sha256[:12]}-{now_ms}",
        event_time=EPOCH + now_ms * MILLISECOND,
        policy=text,
        policy_sha256=sha256,
    )


def command_event(
    command: Any,
    scope: Scope,
    actor: str,
    reason: str,
    *,
    expires_at: datetime | None = None,
    price_id: str | UnsetType = UNSET,
) -> OperatorCommand:
    """The event that steers breakers or the kill switch, or answers what waits, now."""
    now_ms = _now_ms()
    return OperatorCommand(
        event_id=f"{command}-{now_ms}-{price_id or scope.name or scope.kind}"[:128],
        event_time=EPOCH + now_ms * MILLISECOND,
        command=command,
        actor=actor,
        reason=reason,
        scope=scope,
        expires_at=expires_at,
        price_id=price_id,
    )


def default_actor() -> str:
    """Who is at the keyboard, as the system knows them."""
    return getpass.getuser()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
