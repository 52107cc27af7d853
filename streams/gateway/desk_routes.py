"""``/v1/desk``: the catalogue, its stream, exceptions, breakers, portfolio."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Query, Request, Response

from streams.gateway.board import labelled
from streams.gateway.judged import COLUMNS
from streams.gateway.large import large
from streams.gateway.openapi import errors
from streams.gateway.portfolio import portfolio
from streams.gateway.refusals import JSON
from streams.gateway.sse import frame

if TYPE_CHECKING:
    from streams.gateway.desk import Desk

EXCEPTIONS_MAX = 10_000
NO_STORE = {"Cache-Control": "no-store"}


def told(document: Any) -> Response:
    """A document of the desk as it is now."""
    return Response(orjson.dumps(document), 200, NO_STORE, JSON)


def desk_routes(desk: "Desk") -> APIRouter:
    """The routes; ``desk`` is the part that they belong to."""
    router = APIRouter(prefix="/v1/desk", tags=["desk"], responses=errors(401, 503))
    board = desk.board

    @router.get("/catalogue", summary="Every product, in columns")
    async def catalogue(request: Request) -> Response:
        """`cursor` is where the stream goes on; Greeks are per horizon, at the decided price."""
        desk.require_ready()
        rows, cursor = board.rows(), board.cursor
        currency = COLUMNS.index("currency")

        def document() -> bytes:
            currencies = sorted({row[currency] for row in rows if row[currency] is not None})
            return orjson.dumps(
                {"cursor": cursor, "currencies": currencies, "columns": COLUMNS, "rows": rows}
            )

        return await large(request, document, JSON, NO_STORE)

    @router.get("/stream", summary="The desk as it changes (server-sent events)")
    async def stream(
        cursor: Annotated[str | None, Query()] = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Events `row` (a row of the catalogue), `breaker`, `exceptions`, `lag`, `switch`; `reset`:
        the cursor is of another process, fetch the catalogue anew."""
        desk.require_ready()
        subjects = board.subjects
        asked = last_event_id or cursor
        place = subjects.place if asked is None else subjects.read(asked)
        first = b""
        if place is None:
            place, first = subjects.place, frame("reset", b"{}", board.cursor)
        return desk.running.streams.answer(subjects, place, first)

    @router.get("/exceptions", summary="What needs a person, by money at stake")
    async def exceptions(
        limit: Annotated[int, Query(ge=1, le=EXCEPTIONS_MAX)] = 200,
    ) -> Response:
        """What nobody can put a figure on comes first, then by currency and money."""
        desk.require_ready()
        cases = board.cases()
        return told({"found": len(cases), "exceptions": [labelled(case) for case in cases[:limit]]})

    @router.get("/breakers", summary="Circuit breakers that are not closed, and the kill switch")
    async def breakers() -> Response:
        """`timeline`: the last 200 changes, the newest first."""
        desk.require_ready()
        return told(
            {
                "switch": desk.switch(),
                "breakers": board.breaker_entries(),
                "timeline": board.breakers.timeline(),
            }
        )

    @router.get("/portfolio", summary="Sensitivities in money, added up")
    async def by_group(
        request: Request, by: Literal["category", "family", "currency", "breaker"] = "category"
    ) -> Response:
        """Within one currency each. `unknown`: products without Greeks."""
        desk.require_ready()
        found = board.judgements()
        return await large(request, lambda: orjson.dumps(portfolio(found, by)), JSON, NO_STORE)

    return router
