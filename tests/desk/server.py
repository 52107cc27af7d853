"""The shop in memory over HTTP: `python -m tests.desk.server [--port N] [--products N]`."""

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from streams.desk import ASSETS
from tests.desk.shop import NOW, Shop, breaker

POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
MARK = "pricemaker-desk"


class Headers:
    """The gateway's security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"content-security-policy", POLICY.encode()))
                message["headers"].append((b"cache-control", b"no-cache"))
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def failed(status: int, code: str, message: str, fix: str | None = None) -> JSONResponse:
    error = {"code": code, "message": message, "where": None, "field": None, "value": None}
    return JSONResponse({"error": {**error, "expected": None, "fix": fix}}, status)


def build_app(shop: Shop) -> Starlette:
    """The agreed API over a shop in memory."""

    def refused(request: Request, steering: bool = False) -> JSONResponse | None:
        if not shop.ready:
            return failed(503, "not_ready", "prices are still being read.", "Wait, then try again.")
        if shop.session is None:
            return failed(401, "unauthorized", "no valid token was sent.", "Log in.")
        if steering and request.headers.get("x-requested-with") != MARK:
            return failed(403, "forbidden", "the request did not come from the desk.")
        if steering and shop.session["role"] == "read":
            return failed(403, "forbidden", "the role read may not do this.", "Ask an operator.")
        return None

    async def session(request: Request) -> Response:
        if request.method == "POST":
            if (await request.json())["token"] != "right":
                return failed(401, "unauthorized", "the token is not known.", "Ask for a new one.")
            shop.session = {"actor": shop.token[0], "role": shop.token[1]}
        if request.method == "DELETE":
            shop.session = None
            return Response(status_code=204)
        if shop.session is None:
            return failed(401, "unauthorized", "no valid token was sent.", "Log in.")
        return JSONResponse(shop.session)

    def view(read: Any) -> Any:
        async def answer(request: Request) -> Response:
            sku = request.path_params.get("sku")
            no = refused(request)
            if no is None and sku is not None and sku not in shop.history:
                no = failed(404, "unknown_sku", f"there is no product {sku}.", "Look for another.")
            return no or JSONResponse(await read(request))

        return answer

    async def catalogue(_: Request) -> Any:
        return shop.catalogue()

    async def cases(request: Request) -> Any:
        return shop.cases(int(request.query_params.get("limit", "100")))

    async def product(request: Request) -> Any:
        return shop.product(request.path_params["sku"])

    async def curve(request: Request) -> Any:
        return shop.curve(request.path_params["sku"])

    async def whatif(request: Request) -> Any:
        return shop.whatif(request.path_params["sku"], await request.json())

    async def breakers(_: Request) -> Any:
        return {"switch": shop.switch, "breakers": shop.breakers, "timeline": shop.timeline}

    async def portfolio(request: Request) -> Any:
        return shop.portfolio(request.query_params.get("by", "category"))

    async def lag(_: Request) -> Any:
        return shop.lag

    async def steer(request: Request) -> Response:
        asked = await request.json()
        no = refused(request, steering=True)
        if no is None and len(asked.get("reason", "").strip()) < 3:
            no = failed(400, "bad_request", "a reason of at least 3 characters is needed.")
        if no is not None:
            return no
        steered(shop, request.path_params["what"], asked)
        return JSONResponse({"event_id": f"desk-{len(shop.sent)}", "sent": True})

    async def stream(_: Request) -> Response:
        if shop.session is None or not shop.ready:
            return failed(401, "unauthorized", "no valid token was sent.")
        return EventSourceResponse(shop.listen())

    async def home(_: Request) -> Response:
        return RedirectResponse("/desk/")

    routes = [
        Route("/", home),
        Route("/v1/session", session, methods=["GET", "POST", "DELETE"]),
        Route("/v1/desk/catalogue", view(catalogue)),
        Route("/v1/desk/exceptions", view(cases)),
        Route("/v1/desk/stream", stream),
        Route("/v1/desk/products/{sku}", view(product)),
        Route("/v1/desk/products/{sku}/curve", view(curve)),
        Route("/v1/desk/products/{sku}/whatif", view(whatif), methods=["POST"]),
        Route("/v1/desk/breakers", view(breakers)),
        Route("/v1/desk/portfolio", view(portfolio)),
        Route("/v1/desk/lag", view(lag)),
        Route("/v1/desk/{what:path}", steer, methods=["POST"]),
        Mount("/desk", StaticFiles(directory=ASSETS, html=True)),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Headers), Middleware(GZipMiddleware)])


def steered(shop: Shop, what: str, asked: dict[str, Any]) -> None:
    """Do what the worker would do, and tell all pages."""
    shop.sent.append((what, asked))
    assert shop.session is not None
    actor = shop.session["actor"]
    if what == "kill-switch":
        shop.switch = {"on": asked["on"], "actor": actor, "reason": asked["reason"], "at": NOW}
        shop.push("switch", shop.switch)
    elif what.startswith("breakers/"):
        scope = asked["scope"]
        state = "OPEN" if what == "breakers/trip" else "HALF_OPEN"
        word = "tripped" if what == "breakers/trip" else "reset"
        line = breaker(
            scope["kind"], scope["name"], state, (f"{word} by {actor}: {asked['reason']}",), 1
        )
        kept = [one for one in shop.breakers if one["scope"] != scope]
        before = next((o["state"] for o in shop.breakers if o["scope"] == scope), "CLOSED")
        shop.breakers = [*kept, line]
        shop.timeline.insert(0, {**line, "at": NOW, "from": before, "to": state})
        shop.push("breaker", line)
    elif what == "approvals":
        row = shop.rows[asked["sku"]]
        decision = shop.last.pop(asked["sku"])
        if asked["answer"] == "approve":
            row[3], row[4], row[20] = "published", decision.wanted_minor, None
        row[23] += 1
        shop.push("row", row)
        shop.push("exceptions", shop.cases(1)["found"])


@contextmanager
def serving(shop: Shop, port: int = 0) -> Iterator[str]:
    """Serve in a thread; the address of the desk."""
    config = uvicorn.Config(
        build_app(shop), port=port, log_level="warning", loop="asyncio", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    number = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{number}/desk/"
    finally:
        shop.drop()  # else the server waits for its streams
        server.should_exit = True
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--products", type=int, default=0)
    asked = parser.parse_args()
    with serving(Shop(asked.products), asked.port) as address:
        print(address, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
