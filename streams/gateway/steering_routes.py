"""Steering from the desk: breakers, the kill switch, answers to what waits.

Each becomes an event on ``controls`` with the caller's name, and the fold acts on it where the tape
has it. Nothing here changes a price.
"""

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from schemas import events
from schemas.errors import ServiceError
from schemas.events import OperatorCommand
from streams.controls import controls
from streams.explain.decisions import waits
from streams.gateway.access import Caller, needs
from streams.gateway.openapi import errors
from streams.gateway.refusals import Refusal, unknown_sku

if TYPE_CHECKING:
    from streams.gateway.desk import Desk

SEND_S = 15.0
SENDING_MAX = 8
Reason = Annotated[str, Field(min_length=3, max_length=2000, examples=["cost feed is wrong"])]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class Body(BaseModel):
    """What a request may say, and nothing else."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Scope(Body):
    """One product, one family, or the whole catalogue (which has no name)."""

    kind: Literal["sku", "family", "catalogue"]
    name: Name | None = None


class Steered(Body):
    """A breaker, and why."""

    scope: Scope
    reason: Reason


class Thrown(Body):
    """The kill switch, and why."""

    on: bool
    reason: Reason


class Answered(Body):
    """The answer to a price that waits, and why."""

    sku: Name
    price_id: Annotated[str, Field(min_length=1, max_length=192)]
    answer: Literal["approve", "reject"]
    reason: Reason


class Sent(BaseModel):
    """The command is on ``controls``; the tape will have it."""

    event_id: str
    sent: Literal[True] = True


Operator = Annotated[Caller, Depends(needs("operate"))]


def steering_routes(desk: "Desk") -> APIRouter:
    """The routes; ``desk`` is the part that they belong to."""
    router = APIRouter(
        prefix="/v1/desk", tags=["steering"], responses=errors(400, 401, 403, 404, 409, 503)
    )
    sender = _Sender(desk)

    @router.post("/breakers/trip", summary="Open a breaker: prices below it stay")
    async def trip(body: Steered, caller: Operator) -> Sent:
        return await sender.send("breaker_trip", _scope(desk, body.scope), caller, body.reason)

    @router.post("/breakers/reset", summary="Close a breaker, by way of a canary")
    async def reset(body: Steered, caller: Operator) -> Sent:
        return await sender.send("breaker_reset", _scope(desk, body.scope), caller, body.reason)

    @router.post("/kill-switch", summary="Stop all prices at once, or let them go again")
    async def kill_switch(body: Thrown, caller: Operator) -> Sent:
        command = "kill_switch_on" if body.on else "kill_switch_off"
        return await sender.send(command, events.Scope("catalogue"), caller, body.reason)

    @router.post("/approvals", summary="Approve or reject a price that waits")
    async def approvals(body: Answered, caller: Operator) -> Sent:
        """Guards, breaker and gate look at an approved price once more before it goes out."""
        desk.require_ready()
        decision = desk.board.decision(body.sku)
        if decision is None:
            raise unknown_sku(body.sku)
        if decision.price_id != body.price_id or not waits(decision):
            raise Refusal(
                409, "nothing_waits", f"{body.price_id} does not wait: the last decision about "
                f"{body.sku} is {decision.price_id}, {decision.status}.", field="price_id",
                value=body.price_id, expected=decision.price_id,
                fix=f"See it: GET /v1/desk/products/{body.sku}",
            )  # fmt: skip
        scope = events.Scope("sku", body.sku)
        return await sender.send(body.answer, scope, caller, body.reason, price_id=body.price_id)

    return router


def _scope(desk: "Desk", scope: Scope) -> events.Scope:
    """The scope as an event has it.

    Raises
    ------
    Refusal : 400, it has a name too many or too few; 404, there is no such product or family
    """
    if (scope.kind == "catalogue") != (scope.name is None):
        raise Refusal(
            400, "invalid_scope", "a product or family has a name, the catalogue has none.",
            field="scope.name", value=scope.name,
            expected="no name" if scope.kind == "catalogue" else f"the name of a {scope.kind}",
        )  # fmt: skip
    if scope.kind == "catalogue":
        return events.Scope("catalogue")
    desk.require_ready()
    name = scope.name or ""
    if scope.kind == "sku" and not desk.board.knows(name):
        raise unknown_sku(name)
    if scope.kind == "family" and desk.board.family_size(name) is None:
        raise Refusal(
            404, "unknown_family", f"there is no family {name!r}.", field="scope.name", value=name,
            expected="a family of the catalogue", fix="See them: GET /v1/desk/catalogue",
        )  # fmt: skip
    return events.Scope(scope.kind, name)


class _Sender:
    """Puts commands on ``controls``, a few at a time."""

    def __init__(self, desk: "Desk") -> None:
        self._settings = desk.settings
        self._sending = 0

    async def send(
        self, command: str, scope: events.Scope, caller: Caller, reason: str, **beside: str
    ) -> Sent:
        """Send a command and wait until the broker has it.

        Raises
        ------
        Refusal : 503, it is not confirmed
        """
        if self._sending >= SENDING_MAX:
            raise Refusal(
                503, "busy", f"{self._sending} commands are being sent.",
                headers={"Retry-After": "1"}, fix="Send it again in a moment.",
            )  # fmt: skip
        event = controls.command_event(command, scope, caller.actor, reason, **beside)
        self._sending += 1
        task = asyncio.create_task(asyncio.to_thread(controls.send, self._settings, event))
        task.add_done_callback(self._sent)
        try:
            await asyncio.wait_for(asyncio.shield(task), SEND_S)
        except (TimeoutError, ServiceError) as error:
            raise _unconfirmed(event, error) from error
        return Sent(event_id=event.event_id)

    def _sent(self, task: "asyncio.Task[None]") -> None:
        self._sending -= 1
        if not task.cancelled():
            task.exception()  # told already, or to nobody who still waits


def _unconfirmed(event: OperatorCommand, error: BaseException) -> Refusal:
    why = f": {error}" if isinstance(error, ServiceError) else f" within {SEND_S:.0f} s"
    return Refusal(
        503, "not_confirmed", f"the broker did not confirm the command{why}.", where="controls",
        value=event.event_id, headers={"Retry-After": "5"},
        fix="It may still arrive: look at /v1/desk/breakers before you send it again. "
        "With Kafka away nothing is priced either.",
    )  # fmt: skip
