"""``POST /v1/quote``: the JSON of `schemas.quotes` over HTTP."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Request, Response

from schemas.errors import FieldError, PricemakerError
from schemas.quotes import Quote, QuoteRequest
from streams.gateway.refusals import JSON, told

if TYPE_CHECKING:
    from streams.quotes.tiers import TieredQuotes

BODY_BYTES_MAX = 16_384
STATUS = {
    "invalid_quote": 400,
    "unknown_place": 400,
    "unknown_sku": 404,
    "beyond_stock": 409,
    "held": 409,
    "not_priced": 409,
    "retired": 409,
    "body_too_large": 413,
    "overloaded": 429,
    "kill_switch": 503,
    "not_ready": 503,
    "too_slow": 503,
}
RETRY_AFTER = {"overloaded": "1", "not_ready": "5", "too_slow": "5"}

_decode = msgspec.json.Decoder(QuoteRequest).decode


def quote_router(quotes: "Callable[[], TieredQuotes]") -> APIRouter:
    """The route; ``quotes`` gives the tiers at each request, since they start with the app."""
    router = APIRouter(tags=["quotes"])

    @router.post(
        "/v1/quote",
        summary="Quote a price for what has no published price at hand",
        responses={
            200: {"description": "The quote", "content": {JSON: {"schema": _schema(Quote)}}},
            **{
                status: {"description": ", ".join(sorted(_codes(status)))}
                for status in sorted(set(STATUS.values()))
            },
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {JSON: {"schema": _schema(QuoteRequest)}},
            }
        },
    )
    async def quote(request: Request) -> Response:
        try:
            found = await quotes().quote(read_request(await _body(request)))
        except PricemakerError as error:
            return refusal(error)
        return Response(msgspec.json.encode(found), media_type=JSON)

    return router


def read_request(body: bytes) -> QuoteRequest:
    """The request in a body.

    Raises
    ------
    FieldError : it is not the JSON of a quote request
    """
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        text, _, place = str(error).partition(" - at `$.")
        field = place.rstrip("`") or "request"
        raise FieldError(
            "invalid_quote", f"{field} was refused: {text}.", field=field, expected=text,
            fix="See docs/quotes.md, or GET /v1/openapi.json",
        ) from None  # fmt: skip


def refusal(error: PricemakerError) -> Response:
    """An error as HTTP, in the gateway's form."""
    headers = {"Retry-After": RETRY_AFTER[error.code]} if error.code in RETRY_AFTER else None
    return told(error, STATUS.get(error.code, 500), headers)


async def _body(request: Request) -> bytes:
    """The body, as far as it is not too large."""
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > BODY_BYTES_MAX:
            raise FieldError(
                "body_too_large", f"the request has more than {BODY_BYTES_MAX} bytes.",
                field="request", expected=f"at most {BODY_BYTES_MAX} bytes",
            )  # fmt: skip
    return bytes(found)


def _codes(status: int) -> list[str]:
    return [code for code, found in STATUS.items() if found == status]


def _schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON Schema of a type, in one piece."""
    (_,), components = msgspec.json.schema_components([kind])
    return dict(components[kind.__name__])
