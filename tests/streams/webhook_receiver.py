"""A receiver of webhooks that checks what it gets, and webhooks that run beside a test."""

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import orjson
from standardwebhooks import Webhook, WebhookVerificationError

from streams.edge.switch import PriceSwitch
from streams.settings import Settings
from streams.webhooks.webhooks import Webhooks

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdefghijklmnopqrstuv").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"vutsrqponmlkjihgfedcba9876543210").decode()


class Answer(NamedTuple):
    """What the receiver does with a call; ``hang`` waits until the receiver is let go."""

    status: int = 204
    headers: tuple[tuple[str, str], ...] = ()
    hang: bool = False


class Call(NamedTuple):
    """A call that was verified, whatever was answered."""

    id: str
    body: dict[str, Any]
    answer: Answer


Script = Callable[[int], Answer]


class Receiver:
    """An HTTP server; ``script`` says by the number of the call what it answers.

    Attributes
    ----------
    calls : verified calls, in order
    refused : calls whose signature was wrong
    """

    def __init__(self, secret: str = SECRET, script: Script = lambda _: Answer()) -> None:
        self.calls: list[Call] = []
        self.refused = 0
        self.script = script
        self.paths: list[str] = []
        self._webhook = Webhook(secret)
        self._release = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver._answer(self, body)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook?key=in-the-address"

    def let_go(self) -> None:
        """End every call that hangs."""
        self._release.set()

    def versions(self, sku: str, delivered: bool = True) -> list[int]:
        """What it was told of a product, in order; by default where it said yes."""
        return [
            one["version"]
            for call in self.calls
            if not delivered or 200 <= call.answer.status < 300
            for one in (*call.body["data"]["prices"], *call.body["data"]["removed"])
            if one["sku"] == sku
        ]

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.paths.append(handler.path)
        try:
            self._webhook.verify(body, dict(handler.headers))
        except WebhookVerificationError:
            self.refused += 1
            self._send(handler, Answer(401))
            return
        answer = self.script(len(self.calls))
        self.calls.append(Call(handler.headers["webhook-id"], orjson.loads(body), answer))
        if answer.hang:
            self._release.wait()
            handler.close_connection = True
            return
        self._send(handler, answer)

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        handler.send_response(answer.status)
        for name, value in (*answer.headers, ("content-length", "0")):
            handler.send_header(name, value)
        handler.end_headers()

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def with_endpoints(settings: Settings, *endpoints: dict[str, Any], **fields: Any) -> Settings:
    """The settings with these endpoints, in short times; the first is named ``first``."""
    given = [{"name": "first", "secret": SECRET, "timeout_s": 5.0,
              "requests_per_second": 1000.0} | endpoint for endpoint in endpoints]  # fmt: skip
    short = {"retry_base_s": 0.02, "retry_max_s": 0.1, "endpoints": given} | fields
    return settings.model_copy(update={"webhooks": type(settings.webhooks)(**short)})


@contextmanager
def telling(settings: Settings) -> Iterator[Webhooks]:
    """Webhooks on a loop in a thread of its own; what ended them is raised at the end."""
    begun = threading.Event()
    errors: list[BaseException] = []
    found: list[Webhooks] = []
    ending: list[Callable[[], None]] = []

    async def run() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        ending.append(lambda: loop.call_soon_threadsafe(ended.set))
        switch = PriceSwitch(settings, errors.append)
        webhooks = Webhooks(settings, errors.append, lambda: switch.on)
        found.append(webhooks)
        await asyncio.to_thread(switch.start)
        webhooks.start()
        begun.set()
        await ended.wait()
        await webhooks.stop()
        await asyncio.to_thread(switch.close)

    def in_thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            errors.append(error)
        finally:
            begun.set()

    thread = threading.Thread(target=in_thread)
    thread.start()
    begun.wait()
    if errors:
        thread.join()
        raise errors[0]
    try:
        yield found[0]
    finally:
        ending[0]()
        thread.join()
    if errors:
        raise errors[0]
