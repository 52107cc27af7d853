"""Who am I, and logging a browser in: its scripts never see the token again."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from streams.gateway.access import (
    COOKIE,
    LOCAL,
    TOKEN_CHARACTERS_MAX,
    Caller,
    Doorkeeper,
    caller_of,
    secret_cookie,
)


class Login(BaseModel):
    """The token that an operator was given."""

    token: Annotated[str, Field(min_length=1, max_length=TOKEN_CHARACTERS_MAX)]


class Session(BaseModel):
    """Who asks, and what they may do."""

    actor: str
    role: str


def session_router(doorkeeper: Doorkeeper, clock: Callable[[], datetime]) -> APIRouter:
    """``/v1/session``."""
    router = APIRouter(prefix="/v1/session", tags=["session"])

    @router.get("", summary="Who asks, and what they may do")
    async def who(request: Request) -> Session:
        return _session(caller_of(request))

    @router.post("", summary="Log a browser in")
    async def login(request: Request, response: Response, body: Login) -> Session:
        """Sets a cookie that other sites can't use and scripts can't read. Needs the header
        `X-Requested-With: pricemaker-desk`."""
        if doorkeeper.open:
            return _session(LOCAL)
        caller = doorkeeper.of(body.token, "cookie")
        secure = request.url.scheme == "https"
        response.set_cookie(**secret_cookie(body.token, caller, secure=secure, now=clock()))
        return _session(caller)

    @router.delete("", summary="Log it out", status_code=204)
    async def logout() -> Response:
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    return router


def _session(caller: Caller) -> Session:
    return Session(actor=caller.actor, role=caller.role)
