"""How the gateway says no: one JSON form for every error, with the HTTP status beside it.

`PricemakerError` has the facts (code, message, where, field, value, expected, fix). A `Refusal` is
one that knows its status; of others the class tells it.
"""

import logging
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from schemas.errors import InputError, PricemakerError, ServiceError

log = logging.getLogger(__name__)

JSON = "application/json"
_CODES = {404: "no_such_path", 405: "method_not_allowed"}


class Refusal(PricemakerError):
    """A request that is answered with an error.

    Parameters
    ----------
    status : the HTTP status
    headers : beside the body
    """

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> None:  # fmt: skip
        super().__init__(code, message, **facts)
        self.status = status
        self.headers = dict(headers or {})


def unknown_sku(sku: str) -> Refusal:
    """404: no effective price, or nothing decided, is known of a product."""
    return Refusal(
        404, "unknown_sku", f"nothing is known of the product {sku!r}.", field="sku", value=sku,
        expected="a product with a published price",
        fix="See what there is: GET /v1/feed.json",
    )  # fmt: skip


def not_ready(what: str) -> Refusal:
    """503: not everything is known, so that any answer would be a guess."""
    return Refusal(
        503, "not_ready", f"{what}.", headers={"Retry-After": "1"},
        fix="Ask again in a moment; /readyz says when.",
    )  # fmt: skip


def refused(error: PricemakerError) -> Response:
    """The answer that says what was wrong."""
    if isinstance(error, Refusal):
        return told(error, error.status, error.headers)
    if isinstance(error, InputError):
        return told(error, 400)
    return told(error, 503 if isinstance(error, ServiceError) else 500)


def told(error: PricemakerError, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """An error as HTTP."""
    return Response(
        orjson.dumps({"error": error.as_dict()}), status,
        {"Cache-Control": "no-store", **(headers or {})}, JSON,
    )  # fmt: skip


def add_handlers(app: FastAPI) -> None:
    """Answer every error of the application in that form."""

    @app.exception_handler(PricemakerError)
    async def known(request: Request, error: PricemakerError) -> Response:
        return refused(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return refused(_invalid(error))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, PricemakerError):  # it came up while the body was read
            return refused(error.__cause__)
        code = _CODES.get(error.status_code, "refused")
        what = f"{request.method} {request.url.path}: {error.detail}."
        return refused(
            Refusal(error.status_code, code, what, headers=error.headers,
                    fix="See what there is: GET /v1/openapi.json")
        )  # fmt: skip

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        # The server logs it with its stack; a client learns no more than that.
        return refused(Refusal(500, "internal_error", "a bug in pricemaker; the log has it."))


def _invalid(error: RequestValidationError) -> Refusal:
    """The first thing that is wrong with a request, and the names of the others."""
    first, *others = error.errors()
    path = [str(part) for part in first["loc"]]
    names = [".".join(str(part) for part in other["loc"]) for other in others]
    context = first.get("ctx", {})
    fix = f"Wrong too: {', '.join(names)}." if names else "See GET /v1/openapi.json"
    if first["type"] == "json_invalid":
        return Refusal(
            400, "not_json", f"the body is not JSON: {context.get('error', '')}.",
            where="body", expected="a JSON object", fix=fix,
        )  # fmt: skip
    return Refusal(
        400, "invalid_request", f"{'.'.join(path[1:]) or path[0]}: {first['msg']}.",
        where=path[0], field=".".join(path[1:]) or None, value=first.get("input"),
        expected=first["msg"], fix=fix,
    )  # fmt: skip
