"""Whom an HTTP system reaches: redirects, private addresses, TLS."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration.errors import SystemUnavailableError
from orchestration.systems.http_network import _resolve
from tests.systems import http_service as service_parts
from tests.systems.http_kit import ask, error_of, system_of
from tests.systems.http_service import HttpService, Reply, a_json, certificate
from tests.systems.support import IDEMPOTENCY_KEY, until

pytestmark = pytest.mark.anyio

TOKEN = "planted-secret-4711"

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


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


# --- Redirects ----------------------------------------------------------------------------------------------------


async def test_redirects_are_refused_unless_allowed(service: HttpService) -> None:
    """The failure says where it leads; whether a POST was done is as open as the status leaves it."""
    for status, is_open in ((302, True), (303, True), (307, False), (308, False)):
        service.answers["/"] = Reply(b"", status, {"Location": "/new"})
        error = await error_of(service, {"method": "POST"})
        assert (error.code, error.retryable, error.effect_open) == ("redirect_refused", False, is_open)
        assert "it leads to /new" in str(error)
    assert [received.target for received in service.received] == ["/"] * 4


async def test_an_allowed_redirect_is_followed(service: HttpService) -> None:
    """307 repeats the request as it is, 303 asks for the result; the declared headers go along to the same origin."""
    service.answers["/new"] = lambda received: a_json([received.method, received.body.decode()])
    operation = {"method": "POST", "body": {"a": 1}}

    service.answers["/"] = Reply(b"", 307, {"Location": "/new?q=ü"})
    assert await ask(service, operation, allow_redirects=True, bearer_token=TOKEN) == ["POST", '{"a":1}']
    assert service.last.headers["authorization"] == f"Bearer {TOKEN}"

    service.answers["/"] = Reply(b"", 303, {"Location": "../new"})
    assert await ask(service, operation, allow_redirects=True) == ["GET", ""]
    service.answers["/new"] = Reply(b"", 404)
    error = await error_of(service, operation, allow_redirects=True)
    assert (error.code, error.effect_open) == ("http_404", True)


async def test_another_origin_gets_no_declared_header(service: HttpService) -> None:
    """A port is enough to be another origin."""
    with service_parts.http_service({"/": a_json("other")}) as other:
        service.answers["/"] = Reply(b"", 307, {"Location": other.url})
        fields: dict[str, Any] = {"bearer_token": TOKEN, "headers": {"X-Api-Key": "another-secret"}}

        assert await ask(service, {"method": "POST"}, allow_redirects=True, **fields) == "other"

        head = other.last.raw_head.decode()
        assert TOKEN not in head
        assert "another-secret" not in head
        assert IDEMPOTENCY_KEY not in head


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("ftp://127.0.0.1/", "not HTTP"),
        ("file:///etc/passwd", "not HTTP"),
        ("http://user:pw@127.0.0.1/", "user or password"),
        ("http://[::1", "no address"),
        ("http://exa mple/", "no host"),
        ("/", "more than 5 redirects"),
        ("http://localhost:{port}/", "this machine itself"),
        ("http://[::ffff:127.0.0.1]:{port}/", "this machine itself"),
        ("http://169.254.169.254/latest", "cloud credentials"),
        ("http://10.1.2.3/", "private network"),
    ],
)
async def test_a_redirect_leads_nowhere_else(service: HttpService, location: str, said: str) -> None:
    """Each hop is judged like the first: that `base_url` names an address allows that address only."""
    service.answers["/"] = Reply(b"", 302, {"Location": location.format(port=service.port)})

    error = await error_of(service, allow_redirects=True)

    assert error.code in ("redirect_refused", "address_refused")
    assert not error.retryable
    assert said in str(error)


# --- Addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.1", "0x7f.0.0.1", "2130706433", "rebind.example.com"])
async def test_a_name_of_a_private_address_is_refused_unless_allowed(
    service: HttpService, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """It is judged by what it stands for, in whatever spelling; nothing is connected to."""
    resolve_to(monkeypatch, ["127.0.0.1"])
    before = service.connections
    url = f"http://{host}:{service.port}"

    error = await error_of(url, {"method": "POST"})

    assert (error.code, error.retryable, error.effect_open) == ("address_refused", False, False)
    assert "is 127.0.0.1, this machine itself" in str(error)
    assert service.connections == before
    service.answers["/"] = a_json(1)
    assert await ask(url, allow_private_addresses=True) == 1


async def test_localhost_may_be_this_machine_and_nothing_else(
    service: HttpService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written out in the configuration it needs no permission."""
    service.answers["/"] = a_json(1)
    assert await ask(f"http://localhost:{service.port}") == 1

    resolve_to(monkeypatch, ["10.0.0.1"])
    assert (await error_of("http://localhost:9")).code == "address_refused"


async def test_only_the_permitted_addresses_of_a_name_are_connected_to(
    service: HttpService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, until one answers; the name is asked once for a connection, so it can't change its mind."""
    asked = resolve_to(monkeypatch, ["169.254.169.254", "::1", "127.0.0.1"])
    service.answers["/"] = a_json(1)

    output = await ask(f"http://svc.example.com:{service.port}", allow_private_addresses=True)

    assert output == 1
    assert asked == ["svc.example.com"]
    assert service.last.headers["host"] == f"svc.example.com:{service.port}"


def resolve_to(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> list[str]:
    """Make every name stand for some addresses, and return the names that are asked for."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    return asked


async def test_numbers_that_are_no_addresses_are_resolved_as_the_system_does() -> None:
    """`127.1` is this machine to the system's resolver, so it is to the judge."""
    assert list(map(str, await _resolve("127.1", 80))) == ["127.0.0.1"]


# --- TLS ----------------------------------------------------------------------------------------------------------


@needs_openssl
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])  # each has a TLS of its own
async def test_a_service_has_to_prove_who_it_is(tmp_path: Path) -> None:
    """By the system's authorities, or by the one that is named; or it is not asked to."""
    context, ca_file = certificate(tmp_path, "127.0.0.1")
    with service_parts.http_service({"/": a_json(1)}, tls=context) as service:
        error = await error_of(service, {"method": "POST"})
        assert isinstance(error, SystemUnavailableError)
        assert not error.effect_open
        assert "certificate verify failed" in str(error)

        assert await ask(service, ca_file=ca_file) == 1
        assert await ask(service, verify_tls=False) == 1
        async with system_of(service) as system:
            assert not (await system.check()).ok
        async with system_of(service, ca_file=ca_file) as system:
            assert (await system.check()).ok


@needs_openssl
async def test_a_certificate_of_another_name_proves_nothing(tmp_path: Path) -> None:
    """The name that was asked for counts, not the address that was connected to."""
    context, ca_file = certificate(tmp_path, "other.example.com")
    with service_parts.http_service({"/": a_json(1)}, tls=context) as service:
        error = await error_of(f"https://localhost:{service.port}", ca_file=ca_file)

    assert "certificate verify failed" in str(error)
