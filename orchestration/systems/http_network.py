"""Makes connections: to addresses that were judged, and over TLS.

May import: orchestration.systems.{http_addresses, http_messages}, httpcore2, anyio, stdlib.

The pool of `http_client.py` hands a host's name down to here; what it stands for is looked up once for a connection,
judged, and connected to by number (`http_addresses.py`).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpcore2

from orchestration.systems.http_addresses import (
    Address,
    is_loopback_name,
    literal_address,
    may_connect,
    why_refused,
)
from orchestration.systems.http_messages import ExchangeError, Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """How connections are made."""

    configured: Origin
    """Whom the configuration names: an address written out there, or `localhost`, may be connected to."""
    allow_redirects: bool = False
    """Whether redirects are followed; when not, they are answers."""
    allow_private_addresses: bool = False
    verify_tls: bool = True
    ca_file: Path | None = None
    max_connections: int = 20
    connect_timeout_seconds: float = 10.0


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that it has judged itself, and to nothing else."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address of a host that may be connected to and can be.

        Raises:
            ExchangeError: It has none that may be.
        """
        limit = self._options.connect_timeout_seconds if timeout is None else timeout
        until = anyio.current_time() + limit
        try:
            with anyio.fail_after(limit):
                addresses = self._permitted(host, await _resolve(host, port))
        except TimeoutError:
            raise httpcore2.ConnectTimeout(f"the name {host!r} was not resolved within {limit:g} s") from None
        for left in range(len(addresses), 1, -1):
            share = (until - anyio.current_time()) / left
            try:
                return await self._to(addresses[-left], port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._to(
            addresses[-1], port, until - anyio.current_time(), local_address, socket_options
        )

    async def _to(
        self, address: Address, port: int, timeout: float, local_address: str | None, options: Any
    ) -> httpcore2.AsyncNetworkStream:
        try:
            return await self._inner.connect_tcp(
                str(address), port, max(timeout, 0.0), local_address, options
            )
        except httpcore2.ConnectTimeout:
            raise httpcore2.ConnectTimeout(f"{address} port {port} did not answer in time") from None
        except httpcore2.ConnectError as exc:
            raise httpcore2.ConnectError(f"{address} port {port}: {words_of_error(exc)}") from None

    def _permitted(self, host: str, addresses: list[Address]) -> list[Address]:
        """Return those addresses of a host that may be connected to.

        Raises:
            ExchangeError: There are none.
        """
        options = self._options
        is_configured = host == options.configured.host
        named = literal_address(host) if is_configured else None
        is_localhost = is_configured and is_loopback_name(host)
        permitted = [
            address
            for address in addresses
            if may_connect(address, allow_private=options.allow_private_addresses, named=named)
            or (is_localhost and address.is_loopback)
        ]
        if not permitted:
            address = addresses[0]
            raise ExchangeError("address", f"{host!r} is {address}, {why_refused(address)}")
        return permitted


def tls_context(options: ClientOptions) -> ssl.SSLContext:
    """Return how services prove who they are; reads files.

    Raises:
        ExchangeError: The authorities can't be read.
    """
    if options.ca_file is not None:
        try:
            return ssl.create_default_context(cafile=options.ca_file.expanduser())
        except (OSError, ssl.SSLError) as exc:
            raise ExchangeError(
                "unusable", f"ca_file {str(options.ca_file)!r} can't be read: {words_of_error(exc)}"
            ) from None
    context = httpcore2.default_ssl_context()
    if not options.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def words_of_error(exc: BaseException) -> str:
    """Return what an error says; where it says nothing, what its cause does."""
    cause = exc
    while not str(cause) and (cause.__cause__ or cause.__context__) is not None:
        cause = cause.__cause__ or cause.__context__ or cause
    return str(cause) or type(exc).__name__


async def _resolve(host: str, port: int) -> list[Address]:
    literal = literal_address(host)
    if literal is not None:
        return [literal]
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise httpcore2.ConnectError(f"the name {host!r} can't be resolved: {words_of_error(exc)}") from None
    texts = dict.fromkeys(str(entry[4][0]) for entry in found)
    addresses = [
        address for text in texts if (address := literal_address(text.partition("%")[0])) is not None
    ]
    if not addresses:
        raise httpcore2.ConnectError(f"the name {host!r} stands for no address")
    return addresses
