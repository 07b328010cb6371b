"""Serving over Streamable HTTP, on this machine only.

May import: orchestration.{errors, logs}, server.desk, mcp, uvicorn, anyio, stdlib.

Without authentication anyone who can reach the port can run the configured systems. So the server binds loopback
addresses only; the SDK's check of Host and Origin then keeps web pages out.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from orchestration.errors import InvalidArgumentError
from orchestration.logs import get_logger
from server.desk import Desk

PATH = "/mcp"
log = get_logger()

GRACE_SECONDS = 0.5
"""How long open streams may go on after the stop was asked for; listening clients would keep them open for ever."""


def check_host(host: str) -> None:
    """Refuse to serve where others could connect.

    Raises:
        InvalidArgumentError: The host is not a loopback address.
    """
    if host == "localhost":
        return
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    raise InvalidArgumentError(
        "host",
        host,
        "a loopback address, because there is no authentication yet",
        "Use 127.0.0.1, ::1 or localhost; from elsewhere, come through an SSH tunnel.",
    )


class _Server(uvicorn.Server):
    """uvicorn, stopped by the caller instead of by its own signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(server: MCPServer[Desk], host: str, port: int, stop: anyio.Event) -> None:
    """Serve until `stop` is set.

    Raises:
        InvalidArgumentError: The host is not a loopback address, or the port can't be had.
    """
    check_host(host)
    with _listening(host, port) as listening:
        bound_host, bound_port = listening.getsockname()[:2]
        config = uvicorn.Config(
            server.streamable_http_app(
                streamable_http_path=PATH, host=bound_host, transport_security=_only_from_here(bound_host)
            ),
            log_config=None,
            access_log=False,
            # Declared as whole seconds, used as any number of them.
            timeout_graceful_shutdown=GRACE_SECONDS,  # type: ignore[arg-type]
        )
        listener = _Server(config)

        async def watch() -> None:
            await stop.wait()
            listener.should_exit = True

        shown = f"[{bound_host}]" if ":" in bound_host else bound_host
        log.info("Serves MCP", operation="SERVER_LISTENING", url=f"http://{shown}:{bound_port}{PATH}")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await listener.serve(sockets=[listening])
            tasks.cancel_scope.cancel()


def _only_from_here(bound_host: str) -> TransportSecuritySettings:
    """Return which Host and Origin are ours. The SDK has them for three addresses, and checks nothing on others."""
    shown = f"[{bound_host}]" if ":" in bound_host else bound_host
    hosts = [f"{host}:*" for host in dict.fromkeys((shown, "127.0.0.1", "[::1]", "localhost"))]
    return TransportSecuritySettings(
        allowed_hosts=hosts, allowed_origins=[f"http://{host}" for host in hosts]
    )


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens, so that a port in use is an error of ours and not the end of the process."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        expected = f"a port that is free on {host} ({reason})"
        raise InvalidArgumentError("port", port, expected, "Use another --port.") from error
