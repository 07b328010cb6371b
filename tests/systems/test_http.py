"""Declared operations of an HTTP service as tools, against a real service that misbehaves."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import anyio
import pytest

from orchestration.errors import AttemptError, AttemptTimeoutError, SystemUnavailableError
from tests.systems import http_service as service_parts
from tests.systems.http_kit import ask, error_of, system_of
from tests.systems.http_service import HttpService, Raw, Received, Reply, a_json, a_text
from tests.systems.support import IDEMPOTENCY_KEY, a_request, free_port, until

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
TOKEN = "planted-secret-4711"


on_both_loops = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
"""Also in a quick run: what a loop itself does, it does in its own way."""


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.slow)])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Both event loops: the client is written for anyio; on the second one with `make test-all`."""
    return str(request.param)


@pytest.fixture(scope="module")
def shared_service() -> Iterator[HttpService]:
    with service_parts.http_service() as service:
        yield service


@pytest.fixture
async def service(shared_service: HttpService) -> HttpService:
    """A service that answers nothing yet, and has done with the tests before."""
    await until(lambda: not shared_service.waiting)
    shared_service.answers.clear()
    shared_service.received.clear()
    return shared_service


# --- What is sent -------------------------------------------------------------------------------------------------


async def test_an_operation_is_sent_as_it_is_declared(service: HttpService) -> None:
    """Method, path, query, headers and a typed body, with the arguments in their places."""
    service.answers["/v1/cities/São Paulo/orders".replace("ã", "%C3%A3").replace(" ", "%20")] = a_json(
        {"id": 7}
    )
    operation = {
        "method": "post",
        "path": "/cities/{city}/orders",
        "query": {"tag": "{tags}", "units": "metric", "page": 2, "cursor": "{cursor}"},
        "body": {
            "count": "{count}",
            "note": "{count} of {what}",
            "{{x}}": "{{x}}",
            "gone": "{cursor}",
            "l": ["{what}"],
        },
        "parameters": {"cursor": {"required": False}, "count": {"type": "integer"}},
        "headers": {"X-Kind": "order"},
    }

    output = await ask(
        f"{service.url}/v1/",
        operation,
        {"city": "São Paulo", "tags": ["a b", "c&d"], "count": "3", "what": 'tea "x"'},
        bearer_token=TOKEN,
        headers={"X-Kind": "any"},
    )

    sent = service.last
    assert output == {"id": 7}
    assert (sent.method, sent.target) == (
        "POST",
        "/v1/cities/S%C3%A3o%20Paulo/orders?tag=a%20b&tag=c%26d&units=metric&page=2",
    )
    assert sent.json == {"count": 3, "note": '3 of tea "x"', "{{x}}": "{x}", "l": ['tea "x"']}
    assert sent.headers["authorization"] == f"Bearer {TOKEN}"
    assert sent.headers["x-kind"] == "order"
    assert sent.headers["idempotency-key"] == IDEMPOTENCY_KEY
    assert sent.headers["host"] == f"127.0.0.1:{service.port}"


async def test_all_arguments_can_be_the_body(service: HttpService) -> None:
    """Except those that stand elsewhere; what is declared of one is held to, and what is not given stays out."""
    service.answers["/run/1"] = lambda received: a_json(received.json)
    operation = {
        "method": "PUT",
        "path": "/run/{n}",
        "body": "arguments",
        "parameters": {"limit": {"type": "integer", "maximum": 5, "default": 5}, "mark": {"required": False}},
    }

    assert await ask(service, operation, {"n": 1, "deep": {"x": [None]}}) == {
        "limit": 5,
        "deep": {"x": [None]},
    }
    error = await error_of(service, operation, {"n": 1, "limit": 6})
    assert (error.code, str(error)) == (
        "invalid_arguments",
        (
            "Operation 'op' can't be asked for like this: argument 'limit' is 6; expected at most 5. "
            "It takes: n, limit, mark."
        ),
    )


async def test_a_form_is_sent_as_a_form(service: HttpService) -> None:
    """Characters with a meaning there are encoded."""
    service.answers["/"] = a_json(1)

    await ask(service, {"method": "POST", "form": {"a": "{a}", "b": "x={a}"}}, {"a": "1&b=2 é"})

    assert service.last.body == b"a=1%26b%3D2%20%C3%A9&b=x%3D1%26b%3D2%20%C3%A9"
    assert service.last.headers["content-type"] == "application/x-www-form-urlencoded"


async def test_a_get_carries_no_idempotency_key_and_no_body(service: HttpService) -> None:
    """It changes nothing; and where `null` is declared, nothing carries one."""
    service.answers["/"] = a_json(1)

    await ask(service)
    assert "idempotency-key" not in service.last.headers
    assert "content-length" not in service.last.headers
    await ask(service, {"method": "POST", "idempotency_header": "X-Request-Id"})
    assert service.last.headers["x-request-id"] == IDEMPOTENCY_KEY
    assert service.last.headers["content-length"] == "0"
    await ask(service, {"method": "POST", "idempotency_header": None})
    assert IDEMPOTENCY_KEY not in service.last.raw_head.decode()


async def test_connections_are_used_again_and_made_again_after_closing(service: HttpService) -> None:
    """One pool; nothing of one request is left to the next, cookies included."""
    service.answers["/"] = a_json(1, Set_Cookie="session=1")
    before = service.connections
    async with system_of(service) as system:
        for _ in range(3):
            await system.execute(a_request("op"))
        assert service.connections == before + 1
        assert "cookie" not in service.last.headers
        await system.aclose()
        await system.execute(a_request("op"))
        assert service.connections == before + 2


@on_both_loops
async def test_requests_beyond_the_limit_of_connections_wait(service: HttpService) -> None:
    """Ten at once over two connections all come to their end."""
    service.answers["/"] = a_json(1)
    before, done = service.connections, []
    async with system_of(service, max_connections=2) as system:

        async def one() -> None:
            done.append(await system.execute(a_request("op")))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as asking:
                for _ in range(10):
                    asking.start_soon(one)

    assert done == [1] * 10
    assert service.connections - before <= 2


# --- What comes back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "output"),
    [
        (a_json({"a": [1]}), {"a": [1]}),
        (Reply(b"\xef\xbb\xbf[1]", headers={"Content-Type": "application/problem+json; charset=UTF-8"}), [1]),
        (a_text("hé"), {"status": 200, "text": "hé"}),
        (
            Reply("hé".encode("latin-1"), headers={"Content-Type": "text/html; charset=ISO-8859-1"}),
            {"status": 200, "text": "hé"},
        ),
        (Reply(b"", 204), None),
        (Reply(b"plain", 201), {"status": 201, "text": "plain"}),
        (
            Reply(b"\x89PNG\x00\xff", headers={"Content-Type": "image/png"}),
            {"status": 200, "mimeType": "image/png", "size": 6},
        ),
        (Reply(b"\xff\xfe\x00", 200), {"status": 200, "mimeType": "application/octet-stream", "size": 3}),
    ],
    ids=["json", "bom", "text", "charset", "empty", "unnamed-text", "image", "unnamed-bytes"],
)
async def test_an_answer_is_what_it_calls_itself(service: HttpService, reply: Reply, output: Any) -> None:
    """JSON is its value, text comes with its status, anything else is told by type and size."""
    service.answers["/"] = reply

    assert await ask(service) == output


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(b"<html>busy</html>"), "no JSON"),
        (Reply(b""), "no JSON"),
        (Reply(b'{"a": NaN}'), "NaN is no JSON"),
        (Reply(b"[1e999]"), "too large a number"),
        (Reply(b"[" * 100_000), "nested too deeply"),
        (Reply(b"9" * 5_000), "no JSON"),
        (Reply(b'"\xff"'), "no text in utf-8"),
        (
            Reply(b"1", headers={"Content-Type": "application/json; charset=klingon"}),
            "charset 'klingon' is unknown",
        ),
        (
            Reply(b"1", headers={"Content-Type": "application/json; charset=zlib"}),
            "charset 'zlib' is unknown",
        ),
        (Reply(b"1", headers={"Content-Encoding": "br"}), "encoded as 'br'; expected gzip or deflate"),
        (Reply(b"no gzip", headers={"Content-Encoding": "gzip"}), "is no gzip"),
    ],
    ids=[
        "html",
        "nothing",
        "nan",
        "infinite",
        "deep",
        "long-number",
        "bytes",
        "charset",
        "codec",
        "br",
        "gzip",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_answer_that_is_not_what_was_declared_is_no_output(
    service: HttpService, reply: Reply, said: str, method: str
) -> None:
    """It is not asked for again; what a POST has done by then is open."""
    service.answers["/"] = reply

    error = await error_of(service, {"method": method, "output": "json"})

    assert (error.code, error.retryable, error.effect_open) == ("invalid_output", False, method == "POST")
    assert said in str(error)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw", "members"])
async def test_compressed_answers_are_read(service: HttpService, encoding: str) -> None:
    """Gzip, also in several members, and both things that are called deflate."""
    text = b'["' + b"x" * 5_000 + b'"]'
    raw = zlib.compressobj(wbits=-15)
    body = {
        "gzip": gzip.compress(text),
        "members": gzip.compress(text[:100]) + gzip.compress(text[100:]) + b"\0\0",
        "deflate": zlib.compress(text),
        "raw": raw.compress(text) + raw.flush(),
    }[encoding]
    named = "gzip" if encoding in ("gzip", "members") else "deflate"
    service.answers["/"] = Reply(body, headers={"Content-Encoding": named})

    assert await ask(service, {"output": "json"}) == ["x" * 5_000]


def endless() -> Iterator[bytes]:
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    yield from repeat(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        a_text("x" * 2_000),
        Reply(b"x" * 2_000, headers={"Content-Length": "999999999999999999"}),
        Reply(gzip.compress(b"\0" * 50_000_000), headers={"Content-Encoding": "gzip"}),
        lambda _: Raw(endless()),
    ],
    ids=["long", "announced", "bomb", "endless"],
)
async def test_an_answer_over_the_limit_is_cut_off(service: HttpService, answer: Any) -> None:
    """By its announced length, as it came or decompressed; the next request gets a connection of its own."""
    service.answers["/"] = answer
    service.answers["/ok"] = a_json(1)
    limit = 60_000 if isinstance(answer, Reply) and "Content-Encoding" in answer.headers else 1_999
    operations = {"op": {"max_response_bytes": limit}, "ok": {"path": "/ok"}}
    async with system_of(service, operations=operations) as system:
        with pytest.raises(AttemptError) as caught, anyio.fail_after(5):
            await system.execute(a_request("op"))
        assert (caught.value.code, caught.value.retryable) == ("output_too_large", False)
        assert await system.execute(a_request("ok")) == 1


async def test_an_answer_at_the_limit_is_whole(service: HttpService) -> None:
    """Also when it was compressed."""
    text = b'"' + b"x" * 1_998 + b'"'
    for reply in (Reply(text), Reply(gzip.compress(text), headers={"Content-Encoding": "gzip"})):
        service.answers["/"] = reply
        assert await ask(service, {"output": "json", "max_response_bytes": 2_000}) == "x" * 1_998


# --- Failures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "retryable", "is_open"),
    [
        *((status, True, False) for status in (408, 425, 429, 503)),
        *((status, True, True) for status in (500, 502, 504, 522)),
        *((status, False, False) for status in (400, 401, 403, 404, 409, 410, 413, 422, 501, 505)),
    ],
)
async def test_a_status_says_whether_repeating_can_help(
    service: HttpService, status: int, retryable: bool, is_open: bool
) -> None:
    """And whether a POST may have been done all the same; after a GET nothing is open."""
    service.answers["/"] = a_json({"error": "no\x1b[31m luck"}, status)

    for method in ("GET", "POST"):
        error = await error_of(service, {"method": method})
        assert (error.code, error.retryable) == (f"http_{status}", retryable)
        assert error.effect_open == (is_open and method == "POST")
        assert "luck" in str(error)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        (
            {"Date": "Tue, 01 Oct 2030 10:00:00 GMT", "Retry-After": "Tue, 01 Oct 2030 10:01:30 GMT"},
            90.0,
        ),
        ({"Retry-After": "Tue, 01 Oct 2019 10:00:00 GMT"}, 0.0),
        ({"X-RateLimit-Reset": "12.5"}, 12.5),
        ({"X-RateLimit-Reset": "4102444800"}, 86_400.0),
        ({"X-RateLimit-Reset": "1000000001"}, 0.0),
        ({"Retry-After": "soon", "X-RateLimit-Reset": "NaN"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({}, None),
    ],
)
async def test_a_service_says_when_to_come_back(
    service: HttpService, headers: dict[str, str], seconds: float | None
) -> None:
    """In seconds, as a date by its own clock, or as the end of a rate limit; what can't be read is not said."""
    service.answers["/"] = Reply(b"slow down", 429, headers)

    assert (await error_of(service)).retry_after_seconds == seconds


async def test_declared_statuses_are_the_only_successes(service: HttpService) -> None:
    """Even a 404, where the answer means that there is nothing."""
    service.answers["/"] = a_json({"found": False}, 404)
    assert await ask(service, {"success": [200, 404]}) == {"found": False}

    service.answers["/"] = a_json({}, 202)
    error = await error_of(service, {"method": "POST", "success": [200]})
    assert (error.code, error.retryable, error.effect_open) == ("http_202", False, True)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        Raw([HEAD, *[b"X-A: b\r\n"] * 500], pause=0.02),
        Raw([HEAD + b"Content-Length: 500\r\n\r\n", *[b" "] * 500], pause=0.02),
    ],
    ids=["silent", "slow-head", "slow-body"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_slow_answer_ends_at_the_time_limit(service: HttpService, answer: Any, method: str) -> None:
    """However often a byte arrives; what a POST has done by then is open."""
    service.answers["/"] = answer

    error = await error_of(service, {"method": method, "timeout_seconds": 0.1})

    assert isinstance(error, AttemptTimeoutError)
    assert (error.retryable, error.effect_open) == (True, method == "POST")
    assert f"no whole answer within 0.1 s, in operation 'op' ({method} {service.url}/)" in str(error)


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"\x16\x03\x01 nonsense\r\n\r\n"],
        [HEAD],
        [HEAD + b"Content-Length: 10\r\n\r\n{"],
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"],
        [HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 500)[:-9]],
        [b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000],
    ],
    ids=["nothing", "nonsense", "half-head", "half-body", "half-chunks", "half-gzip", "endless-head"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_connection_lost_in_between_leaves_open_what_a_post_did(
    service: HttpService, pieces: list[bytes], method: str
) -> None:
    """A GET has nothing to leave open; either may be repeated."""
    service.answers["/"] = Raw(pieces)

    error = await error_of(service, {"method": method})

    assert isinstance(error, SystemUnavailableError)
    assert error.effect_open == (method == "POST")


@on_both_loops
async def test_a_service_that_is_not_there_was_never_asked() -> None:
    """Nobody listens, or the name stands for nothing: nothing is open."""
    for url in (f"http://127.0.0.1:{free_port()}", "http://no-such-host.invalid"):
        error = await error_of(url, {"method": "POST"})

        assert isinstance(error, SystemUnavailableError)
        assert not error.effect_open
        assert ("127.0.0.1 port" in str(error)) or ("can't be resolved" in str(error))


@on_both_loops
async def test_cancelling_closes_the_connection(service: HttpService) -> None:
    """A service that cares notices."""
    service.answers["/"] = None
    async with system_of(service, {"method": "POST"}) as system:
        async with anyio.create_task_group() as attempts:
            attempts.start_soon(system.execute, a_request("op"))
            await until(lambda: service.waiting)
            attempts.cancel_scope.cancel()
        await until(lambda: not service.waiting)


@on_both_loops
async def test_closing_the_system_ends_requests_under_way(service: HttpService) -> None:
    """They fail as unavailable, with their effect open."""
    service.answers["/"] = None
    errors = []
    async with system_of(service, {"method": "POST"}) as system:

        async def one() -> None:
            with pytest.raises(SystemUnavailableError) as caught:
                await system.execute(a_request("op"))
            errors.append(caught.value)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as attempts:
                attempts.start_soon(one)
                await until(lambda: service.waiting)
                await system.aclose()

    assert errors[0].effect_open


async def test_what_is_arriving_is_a_sign_of_life(service: HttpService) -> None:
    """Each piece of a long answer."""
    beats: list[int] = []
    service.answers["/"] = Raw([HEAD + b"Content-Length: 3\r\n\r\n", b"1", b"2", b"3"], pause=0.01)
    async with system_of(service) as system:
        assert await system.execute(a_request("op", heartbeat=lambda: beats.append(1))) == 123

    assert len(beats) > 1


async def test_secrets_do_not_come_back(service: HttpService) -> None:
    """A service that repeats what it was sent gets it neither into an output nor into an error."""

    def echo(received: Received) -> Reply:
        return a_json({"sent": received.headers}, 200 if received.method == "GET" else 400)

    service.answers["/"] = echo
    fields: dict[str, Any] = {"bearer_token": TOKEN, "headers": {"X-Api-Key": "another-secret"}}

    output = await ask(service, None, **fields)
    error = await error_of(service, {"method": "POST"}, **fields)

    for said in (repr(output), str(error), repr(error)):
        assert TOKEN not in said
        assert "another-secret" not in said
    assert output["sent"]["authorization"] == "Bearer [secret]"


# --- Health -------------------------------------------------------------------------------------------------------


async def test_health_is_what_the_declared_operation_answers(service: HttpService) -> None:
    """Without one, that the service takes connections."""
    operations = {"ping": {"path": "/ping"}}
    async with system_of(service, operations=operations) as system:
        assert (await system.check()).ok
    async with system_of(service, operations=operations, health="ping") as system:
        health = await system.check()
        assert not health.ok
        assert "404" in health.detail
        service.answers["/ping"] = a_json({})
        assert (await system.check()).ok


async def test_a_service_that_is_not_there_is_not_healthy() -> None:
    """Neither is one that may not be connected to."""
    for url, said in (
        (f"http://127.0.0.1:{free_port()}", "127.0.0.1 port"),
        ("http://127.1:9", "this machine"),
    ):
        async with system_of(url) as system:
            health = await system.check()
        assert not health.ok
        assert said in health.detail
