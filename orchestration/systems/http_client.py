"""Sends HTTP requests and reads answers, within limits.

May import: orchestration.systems.{http_addresses, http_body, http_messages, http_network}, httpcore2, anyio, stdlib.

It is made of httpcore2, the layer below httpx2, because only there a connection can be made to the very address that
was judged (`http_network.py`). It also has less that could surprise: no cookies that one task would leave to the
next, no proxies, certificates or passwords out of the environment, no redirects of its own accord, and what
was rendered is what is sent.

The time limit holds from the wait for a connection to the last byte read, however slowly the bytes come. Connections
are kept and used again; they are bound to the event loop that made them, so `aclose` belongs at its end.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import anyio
import httpcore2

from orchestration.systems.http_addresses import literal_address
from orchestration.systems.http_body import BodyReader
from orchestration.systems.http_messages import (
    DEFAULT_PORTS,
    ExchangeError,
    HttpAnswer,
    HttpRequest,
    Origin,
    Trouble,
)
from orchestration.systems.http_network import CheckedNetwork, ClientOptions, tls_context, words_of_error

__all__ = ["ClientOptions", "HttpClient"]

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5
KEEPALIVE_SECONDS = 5.0
"""How long an unused connection is kept; servers close theirs after 5 s or more, and one closed while a request is on
its way would leave open what became of it."""

_SENDING = "http11.send_request_headers.started"
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,254}")


class HttpClient:
    """A pool of connections, opened when first needed.

    Args:
        options: How connections are made.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._network = CheckedNetwork(options)
        self._pool: httpcore2.AsyncConnectionPool | None = None
        self._under_way: set[anyio.CancelScope] = set()

    async def aclose(self) -> None:
        """Close all connections; requests under way fail as lost. A later request opens new ones."""
        pool, self._pool = self._pool, None
        for scope in list(self._under_way):
            scope.cancel()
        if pool is not None:
            await pool.aclose()

    async def send(
        self,
        request: HttpRequest,
        *,
        timeout_seconds: float,
        max_response_bytes: int,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> HttpAnswer:
        """Send a request and return the whole answer, whatever its status.

        Args:
            request: What is asked.
            timeout_seconds: For everything together.
            max_response_bytes: Longest answer, before and after decompression.
            heartbeat: Called whenever something arrives.

        Raises:
            ExchangeError: There is no such answer.
        """
        sent = _Sent()
        with anyio.CancelScope() as scope:
            self._under_way.add(scope)
            try:
                return await self._send(request, timeout_seconds, max_response_bytes, sent, heartbeat)
            finally:
                self._under_way.discard(scope)
        raise ExchangeError("lost" if sent.any else "unreachable", "the system was closed", sent.unsafe)

    async def connect(self, origin: Origin) -> None:
        """Make a connection, TLS included, and close it again.

        Raises:
            ExchangeError: It can't be made.
        """
        limit = self._options.connect_timeout_seconds
        try:
            with anyio.fail_after(2 * limit):
                stream = await self._network.connect_tcp(origin.host, origin.port, timeout=limit)
                try:
                    if origin.scheme == "https":
                        context = await anyio.to_thread.run_sync(tls_context, self._options)
                        stream = await stream.start_tls(context, origin.host, timeout=limit)
                finally:
                    with anyio.CancelScope(shield=True):
                        await stream.aclose()
        except (TimeoutError, httpcore2.TimeoutException):
            raise ExchangeError("unreachable", f"no connection within {limit:g} s") from None
        except (httpcore2.NetworkError, OSError) as exc:
            raise ExchangeError("unreachable", words_of_error(exc)) from None

    async def _send(
        self,
        request: HttpRequest,
        timeout_seconds: float,
        max_response_bytes: int,
        sent: _Sent,
        heartbeat: Callable[[], None],
    ) -> HttpAnswer:
        """Send a request, and those that redirects make of it, within the time limit."""
        try:
            with anyio.fail_after(timeout_seconds):
                for _ in range(MAX_REDIRECTS + 1):
                    answer = await self._exchange(request, max_response_bytes, sent, heartbeat)
                    if not (
                        self._options.allow_redirects
                        and answer.status in REDIRECTS
                        and "location" in answer.headers
                    ):
                        return replace(answer, has_acted=sent.has_acted)
                    sent.has_acted |= sent.unsafe and answer.status in (301, 302, 303)
                    request = _redirected(request, answer, sent)
        except TimeoutError:
            raise ExchangeError(
                "timeout", f"no whole answer within {timeout_seconds:g} s", sent.unsafe
            ) from None
        raise ExchangeError("redirect", f"more than {MAX_REDIRECTS} redirects", sent.unsafe)

    async def _exchange(
        self, request: HttpRequest, limit: int, sent: _Sent, heartbeat: Callable[[], None]
    ) -> HttpAnswer:
        """Send one request and read its answer; redirects are answers.

        Raises:
            ExchangeError: There is no answer.
        """
        is_unsafe = request.method not in ("GET", "HEAD")

        async def trace(name: str, info: dict[str, Any]) -> None:  # noqa: ARG001
            sent.any |= name == _SENDING
            sent.unsafe |= name == _SENDING and is_unsafe

        sent.any = False
        try:
            async with self._stream(request, trace) as response:
                heartbeat()
                headers = _joined(response.headers)
                reader = BodyReader(headers, limit)
                if request.method != "HEAD" and response.status not in (204, 205, 304):
                    reader.check_announced_length()
                    async with aclosing(response.aiter_stream()) as chunks:
                        async for chunk in chunks:
                            heartbeat()
                            reader.feed(chunk)
                return HttpAnswer(status=response.status, headers=headers, body=reader.finish())
        except ExchangeError as exc:
            raise ExchangeError(exc.trouble, exc.reason, sent.unsafe) from None
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as exc:
            raise ExchangeError(
                "unreachable", words_of_error(exc) or "no connection in time", sent.unsafe
            ) from exc
        except (httpcore2.NetworkError, httpcore2.ProtocolError, anyio.ClosedResourceError, OSError) as exc:
            trouble: Trouble = "lost" if sent.any else "unreachable"
            raise ExchangeError(
                trouble, f"the connection was lost: {words_of_error(exc).rstrip('.')}", sent.unsafe
            ) from exc

    @asynccontextmanager
    async def _stream(self, request: HttpRequest, trace: Any) -> AsyncIterator[httpcore2.Response]:
        pool = await self._ready()
        origin = request.origin
        headers = {
            "Host": origin.authority,
            **_without(request.headers, request.declared_headers),
            **request.declared_headers,
            "Accept-Encoding": "gzip, deflate",
        }
        has_body = request.body is not None or request.method in ("POST", "PUT", "PATCH")
        async with pool.stream(
            request.method,
            httpcore2.URL(
                scheme=origin.scheme.encode(),
                host=origin.host.encode(),
                port=origin.port,
                target=request.target.encode(),
            ),
            headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            content=(request.body or b"") if has_body else None,
            extensions={"trace": trace, "timeout": {"connect": self._options.connect_timeout_seconds}},
        ) as response:
            yield response

    async def _ready(self) -> httpcore2.AsyncConnectionPool:
        if self._pool is None:
            context = None
            if self._options.configured.scheme == "https" or self._options.allow_redirects:
                context = await anyio.to_thread.run_sync(tls_context, self._options)  # reads files
            if self._pool is None:
                self._pool = httpcore2.AsyncConnectionPool(
                    ssl_context=context,
                    max_connections=self._options.max_connections,
                    max_keepalive_connections=self._options.max_connections,
                    keepalive_expiry=KEEPALIVE_SECONDS,
                    network_backend=self._network,
                )
        return self._pool


@dataclass(slots=True)
class _Sent:
    """What has been sent of a request and of those that redirects made of it."""

    any: bool = False
    """Of the latest one."""
    unsafe: bool = False
    """Of any that may change something."""
    has_acted: bool = False


def _redirected(request: HttpRequest, answer: HttpAnswer, sent: _Sent) -> HttpRequest:
    """Return the request that a redirect makes of one.

    Raises:
        ExchangeError: It leads where no request may go.
    """
    base = f"{request.origin}{request.target}"
    try:
        parts = urlsplit(urljoin(base, answer.headers["location"]))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ExchangeError("redirect", "the redirect leads to no address", sent.unsafe) from None
    for is_so, why in (
        (parts.scheme not in DEFAULT_PORTS, "to something that is not HTTP"),
        (request.origin.scheme == "https" and parts.scheme == "http", "from https to http"),
        ("@" in parts.netloc, "to an address with a user or password"),
        (not _HOST.fullmatch(host) and literal_address(host) is None, "to no host"),
    ):
        if is_so:
            raise ExchangeError("redirect", f"the redirect leads {why}", sent.unsafe)
    origin = Origin(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme])
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (
        "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?") if parts.query else ""
    )
    becomes_get = answer.status == 303 or (answer.status in (301, 302) and request.method == "POST")
    if becomes_get and request.method != "HEAD":
        headers = {name: value for name, value in request.headers.items() if name != "Content-Type"}
        request = replace(request, method="GET", body=None, headers=headers)
    same = request.declared_headers if origin == request.origin else {}
    return replace(request, origin=origin, target=target, declared_headers=same)


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _without(headers: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """Return those headers that others don't replace."""
    replaced = {name.lower() for name in others}
    return {name: value for name, value in headers.items() if name.lower() not in replaced}
