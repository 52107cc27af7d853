"""The gateway's answers: prices, feeds, tokens, limits, and how it says no."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import msgspec
import pytest
from fastapi.openapi.models import OpenAPI

from schemas.errors import ConfigError
from streams.gateway.access import check_binding, new_token
from streams.gateway.feed import FORMULA
from streams.gateway.limits import RateLimit
from streams.gateway.parts import Part
from streams.settings_gateway import GatewaySettings
from tests.streams.gateway_app import (
    DESK,
    NOW,
    ShownPrices,
    application,
    bearer,
    client_of,
    price,
    record,
    token_settings,
    tombstone,
)

PRICES = (record(0, price("A", 1)), record(1, price("B/1", 4)))
A, B = (msgspec.to_builtins(price(*one)) for one in (("A", 1), ("B/1", 4)))


def ask(
    question: Callable[[httpx.AsyncClient], Awaitable[None]], *parts: Part, **gateway: object
) -> None:
    """Put questions to a gateway with these parts, or with `PRICES`."""

    async def run() -> None:
        app = application(*(parts or (ShownPrices(PRICES),)), **gateway)
        async with client_of(app) as client:
            await question(client)

    asyncio.run(run())


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# -- prices


def test_a_price_and_its_etag() -> None:
    async def question(client: httpx.AsyncClient) -> None:
        found = await client.get("/v1/prices/A")
        assert (found.status_code, found.json()) == (200, A)
        assert found.headers["etag"] == '"1"'
        assert found.headers["x-as-of"] == "2026-01-10T12:00:00.000Z"
        assert (await client.get("/v1/prices/B/1")).json() == B
        for header, status in [('"1"', 304), ('W/"1", "9"', 304), ("*", 304), ('"2"', 200)]:
            again = await client.get("/v1/prices/A", headers={"If-None-Match": header})
            assert (again.status_code, bool(again.content)) == (status, status == 200), header

    ask(question)


def test_an_unknown_sku() -> None:
    async def question(client: httpx.AsyncClient) -> None:
        found = await client.get("/v1/prices/NOPE")
        assert found.status_code == 404
        assert found.json() == {
            "error": {
                "code": "unknown_sku",
                "message": "nothing is known of the product 'NOPE'.",
                "where": None,
                "field": "sku",
                "value": "NOPE",
                "expected": "a product with a published price",
                "fix": "See what there is: GET /v1/feed.json",
            }
        }

    ask(question)


def test_many_prices() -> None:
    expected = {"prices": [B, A], "unknown": ["NOPE"], "cursor": "abc123-0.2"}

    async def question(client: httpx.AsyncClient) -> None:
        found = await client.get("/v1/prices", params={"sku": ["B/1", "A", "NOPE", "A"]})
        assert found.json() == expected
        body = {"skus": ["B/1", "A", "NOPE", "A"]}
        found = await client.post("/v1/prices/bulk", json=body, headers=DESK)
        assert found.json() == expected
        found = await client.post("/v1/prices/bulk", json={"skus": ["x"] * 1001}, headers=DESK)
        assert code_of(found) == (400, "invalid_request")
        typed = {**DESK, "Content-Type": "application/json"}
        found = await client.post("/v1/prices/bulk", content=b"{", headers=typed)
        assert code_of(found) == (400, "not_json")
        assert code_of(await client.get("/v1/prices")) == (400, "invalid_request")

    ask(question)


def test_while_prices_are_being_read_nothing_is_called_unknown() -> None:
    prices = ShownPrices(PRICES)
    prices.caught_up = False

    async def question(client: httpx.AsyncClient) -> None:
        for path in ("/v1/prices/A", "/v1/prices?sku=A", "/v1/feed.json", "/v1/prices/stream"):
            found = await client.get(path)
            assert (code_of(found), found.headers["retry-after"]) == ((503, "not_ready"), "1")
        found = await client.get("/readyz")
        assert (found.status_code, found.json()) == (
            503, {"prices": "prices-latest is not read to its end yet", "degraded": {}},
        )  # fmt: skip
        found = await client.get("/healthz")
        assert (found.status_code, found.json()) == (200, {"prices": None})

    ask(question, prices)


def test_while_kafka_is_away_prices_are_served_with_their_age() -> None:
    prices = ShownPrices(PRICES)

    async def question(client: httpx.AsyncClient) -> None:
        prices.broker.away_since = prices.broker.as_of
        found = await client.get("/v1/prices/A")
        assert (found.json(), found.headers["x-as-of"]) == (A, "2026-01-10T12:00:00.000Z")
        found = await client.get("/readyz")
        told = "Kafka does not answer; prices are as of 2026-01-10T12:00:00.000Z"
        assert (found.status_code, found.json()) == (
            200, {"prices": None, "degraded": {"prices": told}},
        )  # fmt: skip

    ask(question, prices)


def test_a_record_that_is_no_price_is_passed_over_and_told() -> None:
    broken = PRICES[0]._replace(offset=2, value=b"{}")
    prices = ShownPrices([*PRICES, broken])

    async def question(client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/prices/A")).json() == A
        told = (await client.get("/readyz")).json()["degraded"]
        assert told == {"prices": "1 records of prices-latest are no prices"}

    ask(question, prices)


# -- the feed


def test_the_feed_has_what_changed() -> None:
    prices = ShownPrices(PRICES)

    async def question(client: httpx.AsyncClient) -> None:
        found = (await client.get("/v1/feed.json")).json()
        assert found == {"prices": [A, B], "withdrawn": [], "cursor": "abc123-0.2", "more": False}
        prices.take(record(2, price("A", 2)), tombstone(3, "B/1"))
        after = await client.get("/v1/feed.json", params={"since": found["cursor"]})
        newer = msgspec.to_builtins(price("A", 2))
        assert after.json() == {
            "prices": [newer], "withdrawn": ["B/1"], "cursor": "abc123-0.4", "more": False,
        }  # fmt: skip
        assert after.headers["x-next-cursor"] == "abc123-0.4"
        page = await client.get("/v1/feed.json", params={"limit": 1})
        assert (page.json()["more"], page.headers["x-more"]) == (True, "true")
        assert page.json()["cursor"] == "abc123-0.3"
        stale = await client.get("/v1/feed.json", params={"since": "other-0.1"})
        assert code_of(stale) == (410, "stale_cursor")
        assert code_of(await client.get("/v1/feed.csv?since=x_")) == (400, "not_a_cursor")

    ask(question, prices)


def test_the_feed_as_csv() -> None:
    prices = ShownPrices([*PRICES, record(2, price("C", 1)), tombstone(3, "C")])

    async def question(client: httpx.AsyncClient) -> None:
        found = await client.get("/v1/feed.csv")
        assert found.headers["content-type"] == "text/csv; charset=utf-8"
        assert found.headers["x-next-cursor"] == "abc123-0.4"
        day = "2026-01-10T00:00:00.000Z"
        assert found.text.split("\r\n") == [
            "sku,version,price_id,price_minor,previous_minor,currency,status,effective_from,"
            "valid_until,decided_at",
            f"A,1,0-1-A,1001,,EUR,published,{day},,{day}",
            f"B/1,4,0-4-B/1,1004,,EUR,published,{day},,{day}",
            "C,,,,,,withdrawn,,,",
            "",
        ]

    ask(question, prices)


def test_a_spreadsheet_takes_no_sku_for_a_formula() -> None:
    skus = [f"{start}1" for start in FORMULA]
    shown = [record(number, price(sku, 1)) for number, sku in enumerate(skus)]

    async def question(client: httpx.AsyncClient) -> None:
        text = (await client.get("/v1/feed.csv")).text
        assert text.count("'") == len(skus)

    ask(question, ShownPrices(shown))


def test_large_answers_are_compressed() -> None:
    shown = [record(number, price(f"S{number}", 1)) for number in range(100)]

    async def question(client: httpx.AsyncClient) -> None:
        request = client.build_request("GET", "/v1/feed.json")
        answer = await client.send(request, stream=True)
        raw = b"".join([part async for part in answer.aiter_raw()])
        assert answer.headers["content-encoding"] == "gzip"
        assert len(msgspec.json.decode(gzip.decompress(raw))["prices"]) == 100
        plain = await client.get("/v1/feed.json", headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == gzip.decompress(raw)

    ask(question, ShownPrices(shown))


# -- who asks


def test_tokens_and_what_they_allow() -> None:
    async def question(client: httpx.AsyncClient) -> None:
        missing = await client.get("/v1/prices/A")
        assert code_of(missing) == (401, "token_missing")
        assert missing.headers["www-authenticate"] == "Bearer"
        wrong = await client.get("/v1/prices/A", headers=bearer("nobody"))
        assert code_of(wrong) == (401, "token_unknown")
        right = await client.get("/v1/prices/A", headers=bearer("reader"))
        assert right.json() == A
        for name, role in (("reader", "read"), ("operator", "operate"), ("boss", "admin")):
            who = await client.get("/v1/session", headers=bearer(name))
            assert who.json() == {"actor": name, "role": role}
        assert code_of(await client.get("/metrics")) == (401, "token_missing")
        for path in ("/healthz", "/readyz", "/v1/openapi.json"):
            assert (await client.get(path)).status_code == 200

    ask(question, tokens=token_settings())


def test_a_token_ends() -> None:
    async def at(moment: timedelta) -> tuple[int, str]:
        tokens = token_settings(expires_at=NOW + moment)
        async with client_of(application(ShownPrices(PRICES), tokens=tokens)) as client:
            found = await client.get("/v1/prices/A", headers=bearer("reader"))
        return code_of(found) if found.status_code != 200 else (200, "")

    assert asyncio.run(at(timedelta(seconds=1))) == (200, "")
    assert asyncio.run(at(timedelta(0))) == (401, "token_expired")


def test_a_browser_logs_in_with_a_cookie_that_scripts_and_other_sites_can_not_use() -> None:
    async def question(client: httpx.AsyncClient) -> None:
        login = {"token": "operator"}
        assert code_of(await client.post("/v1/session", json=login)) == (403, "not_from_the_desk")
        wrong = await client.post("/v1/session", json={"token": "nobody"}, headers=DESK)
        assert code_of(wrong) == (401, "token_unknown")
        found = await client.post("/v1/session", json=login, headers=DESK)
        assert found.json() == {"actor": "operator", "role": "operate"}
        assert found.headers["set-cookie"] == (
            "pricemaker_session=operator; HttpOnly; Path=/; SameSite=strict"
        )
        assert (await client.get("/v1/prices/A")).status_code == 200
        bulk = {"skus": ["A"]}
        foreign = await client.post("/v1/prices/bulk", json=bulk)
        assert code_of(foreign) == (403, "not_from_the_desk")
        assert (await client.post("/v1/prices/bulk", json=bulk, headers=DESK)).status_code == 200
        gone = await client.delete("/v1/session", headers=DESK)
        assert (gone.status_code, gone.content) == (204, b"")
        assert code_of(await client.get("/v1/prices/A")) == (401, "token_missing")

    ask(question, tokens=token_settings())


def test_a_program_with_a_token_needs_no_header_of_the_desk() -> None:
    async def question(client: httpx.AsyncClient) -> None:
        found = await client.post("/v1/prices/bulk", json={"skus": ["A"]}, headers=bearer("reader"))
        assert found.json()["prices"] == [A]

    ask(question, tokens=token_settings())


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8080", 200), ("localhost", 200), ("[::1]:9", 200), ("evil.example", 403),
     ("127.0.0.1.evil.example:8080", 403), ("", 403)],
)  # fmt: skip
def test_another_sites_name_for_this_machine_is_refused_without_tokens(host, status) -> None:
    async def question(client: httpx.AsyncClient) -> None:
        found = await client.get("/v1/prices/A", headers={"Host": host})
        assert found.status_code == status

    ask(question)


@pytest.mark.parametrize(
    ("host", "tokens", "refused"),
    [("127.0.0.1", 0, False), ("::1", 0, False), ("localhost", 0, False), ("0.0.0.0", 0, True),
     ("10.0.0.1", 0, True), ("shop.example", 0, True), ("0.0.0.0", 3, False)],
)  # fmt: skip
def test_without_tokens_it_listens_on_this_machine_alone(host, tokens, refused) -> None:
    settings = GatewaySettings(host=host, tokens=token_settings()[:tokens])
    if not refused:
        check_binding(settings)
        return
    with pytest.raises(ConfigError, match="pricemaker gateway token") as error:
        check_binding(settings)
    assert (error.value.code, error.value.value) == ("tokens_needed", host)


def test_a_new_token_opens_what_its_hash_says() -> None:
    secret, sha256 = new_token()
    tokens = [{"name": "x", "role": "read", "sha256": sha256}]

    async def question(client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/session", headers=bearer(secret))).json()["actor"] == "x"

    ask(question, tokens=tokens)


# -- limits


def test_a_caller_has_a_bucket() -> None:
    now = [0.0]
    limit = RateLimit(rate=2.0, burst=3, clock=lambda: now[0])
    assert [limit.wait_s("a") for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 0.5]
    assert limit.wait_s("b") == 0.0
    now[0] = 0.75
    assert [limit.wait_s("a") for _ in range(2)] == [0.0, 0.25]
    now[0] = 100.0
    assert [limit.wait_s("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_who_asks_too_often_is_told_when_to_come_back() -> None:
    async def question(client: httpx.AsyncClient) -> None:
        answers = [await client.get("/v1/prices/A", headers=bearer("reader")) for _ in range(3)]
        assert [one.status_code for one in answers] == [200, 200, 429]
        assert code_of(answers[2]) == (429, "too_many_requests")
        assert answers[2].headers["retry-after"] == "1000"
        assert (await client.get("/v1/prices/A", headers=bearer("boss"))).status_code == 200
        assert (await client.get("/healthz")).status_code == 200

    ask(question, tokens=token_settings(), requests_per_second=0.001, requests_burst=2)


def test_guessing_tokens_is_limited_too() -> None:
    async def question(client: httpx.AsyncClient) -> None:
        answers = [await client.get("/v1/session", headers=bearer(f"x{n}")) for n in range(3)]
        assert [one.status_code for one in answers] == [401, 401, 429]

    ask(question, tokens=token_settings(), requests_per_second=0.001, requests_burst=2)


def test_a_body_that_is_too_large() -> None:
    body = b'{"skus": [' + b'"A",' * 500 + b'"A"]}'

    async def in_parts():  # without a Content-Length
        yield body

    async def question(client: httpx.AsyncClient) -> None:
        for content in (body, in_parts()):
            found = await client.post("/v1/prices/bulk", content=content, headers=DESK)
            assert code_of(found) == (413, "body_too_large")

    ask(question, body_bytes_max=1024)


# -- every answer


def test_every_answer_carries_the_security_headers() -> None:
    async def question(client: httpx.AsyncClient) -> None:
        for path in ("/healthz", "/v1/prices/A", "/v1/prices/NOPE", "/nowhere"):
            headers = (await client.get(path)).headers
            assert "default-src 'self'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert "server" not in headers

    ask(question)


def test_errors_of_the_framework_have_the_same_form() -> None:
    async def question(client: httpx.AsyncClient) -> None:
        assert code_of(await client.get("/nowhere")) == (404, "no_such_path")
        found = await client.post("/healthz")
        assert (code_of(found), found.headers["allow"]) == ((405, "method_not_allowed"), "GET")

    ask(question)


class Broken(Part):
    """A part with a bug."""

    name = "broken"

    def mount(self, app) -> None:
        @app.get("/v1/bug")
        async def bug() -> None:
            raise RuntimeError("the password is 1234")


def test_a_bug_tells_a_client_nothing() -> None:
    async def question(client: httpx.AsyncClient) -> None:
        found = await client.get("/v1/bug")
        assert code_of(found) == (500, "internal_error")
        assert "1234" not in found.text

    ask(question, Broken())


def test_the_openapi_document_is_one() -> None:
    async def question(client: httpx.AsyncClient) -> None:
        document = (await client.get("/v1/openapi.json")).json()
        OpenAPI.model_validate(document)
        assert document["components"]["securitySchemes"] == {
            "token": {"type": "http", "scheme": "bearer"}
        }
        one = document["paths"]["/v1/prices/{sku}"]["get"]["responses"]["200"]
        content = one["content"]["application/json"]
        assert set(content["schema"]["required"]) == set(content["example"])
        for path, methods in document["paths"].items():
            for operation in methods.values():
                assert operation["summary"], path

    ask(question)


def test_requests_are_counted_by_route_and_not_by_product() -> None:
    async def question(client: httpx.AsyncClient) -> None:
        for path in ("/v1/prices/A", "/v1/prices/B/1", "/v1/prices/NOPE", "/nowhere"):
            await client.get(path)
        lines = (await client.get("/metrics")).text.splitlines()
        counted = [line for line in lines if line.startswith("pricemaker_gateway_requests_total")]
        assert counted == [
            'pricemaker_gateway_requests_total{route="/v1/prices/{sku:path}",status="200"} 2.0',
            'pricemaker_gateway_requests_total{route="/v1/prices/{sku:path}",status="404"} 1.0',
            'pricemaker_gateway_requests_total{route="other",status="404"} 1.0',
        ]
        assert "pricemaker_gateway_streams 0.0" in lines

    ask(question)
