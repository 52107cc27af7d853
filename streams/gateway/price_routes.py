"""``/v1/prices`` and ``/v1/feed``: one price, many, what changes as it changes, what changed."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from streams.edge.price import Price
from streams.gateway import feed
from streams.gateway.cursor import Cursor, read_cursor
from streams.gateway.large import large
from streams.gateway.openapi import documented, errors
from streams.gateway.price_stream import PriceSource
from streams.gateway.refusals import JSON, Refusal, unknown_sku
from streams.gateway.sse import frame

if TYPE_CHECKING:
    from streams.gateway.prices import Prices

SKUS_MAX = 1000
FEED_PRICES_MAX = 50_000
EXAMPLE = Price(
    sku="LAM-00000", version=5, price_id="0-21-LAM-00000", price_minor=1165, previous_minor=1075,
    currency="EUR", status="published", effective_from="2026-01-10T00:00:00.000Z",
    valid_until="2026-01-25T00:00:00.000Z", decided_at="2026-01-10T00:00:00.000Z",
)  # fmt: skip
CURSOR_EXAMPLE = "xk2kq8yrsqaz-0.120-1.77-2.9-3.41"
Sku = Annotated[str, Field(min_length=1, max_length=128)]


IF_NONE_MATCH = {
    "name": "If-None-Match", "in": "header", "schema": {"type": "string"}, "example": '"5"',
}  # fmt: skip


class Direct(APIRoute):
    """A route whose parameters are all in its path: FastAPI's own way takes twice as long."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint with the path's parameters."""
        endpoint = self.endpoint

        async def handle(request: Request) -> Response:
            answer: Response = await endpoint(request, **request.path_params)
            return answer

        return handle


class Bulk(BaseModel):
    """Which prices."""

    skus: Annotated[list[Sku], Field(max_length=SKUS_MAX, examples=[["LAM-00000", "SOF-00001"]])]


def price_routes(prices: "Prices") -> APIRouter:
    """The routes; ``prices`` is the part that they belong to."""
    router = APIRouter(prefix="/v1", tags=["prices"])
    _add_stream(router, prices)
    _add_prices(router, prices)
    _add_feed(router, prices)
    return router


def _add_prices(router: APIRouter, prices: "Prices") -> None:
    window = prices.window

    def many(skus: list[str]) -> Response:
        prices.require_ready()
        wanted = list(dict.fromkeys(skus))
        found = [(sku, window.get(sku)) for sku in wanted]
        bodies = [one.body for _, one in found if one is not None and one.body is not None]
        unknown = [sku for sku, one in found if one is None]
        body = feed.json_document(bodies, unknown=unknown, cursor=str(window.cursor))
        return Response(body, 200, prices.headers(), JSON)

    async def one(request: Request, sku: str) -> Response:
        """The ETag is the price's version: ask again with `If-None-Match`, and 304 says that it
        still holds. `X-As-Of` is when Kafka last answered."""
        prices.require_ready()
        found = window.get(sku)
        if found is None:
            raise unknown_sku(sku)
        etag = f'"{found.version}"'
        headers = {**prices.headers(), "ETag": etag}
        known = request.headers.get("if-none-match")
        if known is not None and _matches(known, etag):
            return Response(None, 304, headers)
        return Response(found.body, 200, headers, JSON)

    router.add_api_route(
        "/prices/{sku:path}", one, route_class_override=Direct, summary="The price of a product",
        responses=documented(Price, EXAMPLE) | errors(304, 404, 503),
        openapi_extra={"parameters": [IF_NONE_MATCH]},
    )  # fmt: skip

    @router.get("/prices", summary="Prices of some products",
                responses=documented(None, _many_example()) | errors(400, 503))  # fmt: skip
    async def some(sku: Annotated[list[Sku], Query(max_length=SKUS_MAX)]) -> Response:
        """`?sku=A&sku=B`; the cursor is for the stream and the feed."""
        return many(sku)

    @router.post("/prices/bulk", summary="Prices of up to 1000 products",
                 responses=documented(None, _many_example()) | errors(400, 413, 503))  # fmt: skip
    async def bulk(body: Bulk) -> Response:
        """As above, with the SKUs in the body."""
        return many(body.skus)


def _add_stream(router: APIRouter, prices: "Prices") -> None:
    @router.get("/prices/stream", summary="Prices as they change (server-sent events)",
                responses=errors(400, 503))  # fmt: skip
    async def stream(
        sku: Annotated[list[Sku] | None, Query(max_length=SKUS_MAX)] = None,
        cursor: Annotated[str | None, Query()] = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Events `price` (a price as JSON) and `withdrawn` ({"sku"}), each with a cursor as its id.
        Begins now, or behind `Last-Event-ID` or `?cursor=`: what changed meanwhile comes first, the
        last price of each product alone. Event `reset`: the cursor is of another topic; fetch
        everything anew. Event `switch`: the kill switch ({"on", "actor", "reason", "at"}); while it
        is on no price changes. `?sku=` narrows it."""
        prices.require_ready()
        window = prices.window
        place, first = window.cursor, b""
        try:
            if last_event_id or cursor:
                place = read_cursor(last_event_id or cursor or "", window.topic)
        except Refusal as refusal:
            if refusal.status != 410:
                raise
            first = frame("reset", b"{}", str(window.cursor))
        source = PriceSource(window, prices.switch, None if sku is None else frozenset(sku))
        return prices.running.streams.answer(source, source.begin(place), first)


def _add_feed(router: APIRouter, prices: "Prices") -> None:
    def page(since: str | None, limit: int) -> tuple[feed.Page, dict[str, str]]:
        prices.require_ready()
        window = prices.window
        place = Cursor(window.topic, ()) if since is None else read_cursor(since, window.topic)
        found = feed.page_of(window, place, limit)
        more = {"X-Next-Cursor": found.cursor, "X-More": "true" if found.more else "false"}
        return found, {**prices.headers(), **more}

    since = Annotated[str | None, Query(description="the cursor of the last answer")]
    limit = Annotated[int, Query(ge=1, le=FEED_PRICES_MAX)]

    @router.get("/feed.json", tags=["feed"], summary="What changed since a cursor, as JSON",
                responses=documented(None, _feed_example()) | errors(400, 410, 503))  # fmt: skip
    async def as_json(
        request: Request, since: since = None, limit: limit = FEED_PRICES_MAX
    ) -> Response:
        """Without a cursor: everything. `more`: ask again at once with the new cursor."""
        found, headers = page(since, limit)
        return await large(request, found.json, JSON, headers)

    @router.get("/feed.csv", tags=["feed"], summary="What changed since a cursor, as CSV",
                responses=errors(400, 410, 503))  # fmt: skip
    async def as_csv(
        request: Request, since: since = None, limit: limit = FEED_PRICES_MAX
    ) -> Response:
        """A line for each price, for marketplaces and shelf labels. The cursor to go on from is in
        `X-Next-Cursor`; `X-More` says whether to ask again at once."""
        found, headers = page(since, limit)
        return await large(request, found.csv, "text/csv; charset=utf-8", headers)


def _matches(header: str, etag: str) -> bool:
    """Whether ``If-None-Match`` names this version, by RFC 9110's weak comparison."""
    given = [one.strip().removeprefix("W/") for one in header.split(",")]
    return "*" in given or etag in given


def _many_example() -> dict[str, Any]:
    return {"prices": [EXAMPLE], "unknown": ["SOF-00001"], "cursor": CURSOR_EXAMPLE}


def _feed_example() -> dict[str, Any]:
    return {"prices": [EXAMPLE], "withdrawn": [], "cursor": CURSOR_EXAMPLE, "more": False}
