"""What the commands that steer share: who, why, until when, and sending it."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from schemas.events import Scope, rfc3339, time_ms
from streams.config import load_settings
from streams.output import Output

TIME = click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d"])


def who_and_why(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``--reason`` and ``--actor``."""
    function = click.option("--actor", help="Who does it.  [default: your user name]")(function)
    return click.option(
        "--reason", required=True, help="Why, for the tape and whoever reads the decisions."
    )(function)


def steer(
    output: Output,
    command: str,
    scope: Scope,
    expires: datetime | None,
    *,
    config_file: Path | None,
    bootstrap: str | None,
    reason: str,
    actor: str | None,
) -> None:
    """Put an operator's command on ``controls``; every tape partition reads it there."""
    from streams.controls import controls

    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    actor = actor or controls.default_actor()
    expires_at = None if expires is None else expires.replace(tzinfo=UTC)
    event = controls.command_event(command, scope, actor, reason, expires_at=expires_at)
    controls.send(settings, event)
    shown = None if expires_at is None else rfc3339(time_ms(expires_at))
    document = {
        "command": command, "scope": {"kind": scope.kind, "name": scope.name}, "actor": actor,
        "reason": reason, "expires": shown, "event_id": event.event_id,
    }  # fmt: skip
    until = "" if shown is None else f", until {shown}"
    name = scope.kind if scope.name is None else f"{scope.kind} {scope.name}"
    output.document(document, f"{command.replace('_', ' ')}: {name}, by {actor}{until}")
