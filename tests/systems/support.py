"""What the tests of systems share: requests, bounded waits, processes that are looked at, the fixture MCP server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration.errors import AttemptError
from orchestration.models import Json, TaskNode
from orchestration.ports import AttemptRequest, System
from orchestration.systems.mcp_spec import McpServerSpec
from orchestration.systems.registry import SystemRegistry

FIXTURE_SERVER = Path(__file__).with_name("mcp_fixture_server.py")
IDEMPOTENCY_KEY = "night-1:t:1"


def a_request(
    tool: str | None = None,
    arguments: Mapping[str, Json] | None = None,
    *,
    inputs: Mapping[str, Json] | None = None,
    context: Mapping[str, Json] | None = None,
    task: TaskNode | None = None,
    attempt: int = 1,
    driver: str = "",
    heartbeat: Callable[[], None] = lambda: None,
) -> AttemptRequest:
    """Return a request for one attempt; the task is made of the tool unless given."""
    node = task or TaskNode("t", tool=tool)
    return AttemptRequest(
        orchestration_id="night-1",
        task=node,
        attempt=attempt,
        idempotency_key=IDEMPOTENCY_KEY,
        tool=tool,
        arguments=dict(arguments or {}),
        inputs=dict(inputs or {}),
        context=dict(context or {}),
        goal="Sleep well",
        preference=node.system_preference,
        timeout_seconds=30.0,
        driver=driver,
        heartbeat=heartbeat,
    )


async def failure_of(system: System, request: AttemptRequest) -> AttemptError:
    """Return the error an attempt fails with."""
    with pytest.raises(AttemptError) as caught:
        await system.execute(request)
    return caught.value


async def until(holds: Callable[[], Any]) -> None:
    """Wait until something holds, 5 s at the most."""
    with anyio.fail_after(5):
        while not holds():  # noqa: ASYNC110  (nothing announces what other processes do)
            await anyio.sleep(0.01)


@asynccontextmanager
async def running(system: System) -> AsyncIterator[System]:
    """Open a system in a registry of its own, and close it."""
    async with SystemRegistry({system.name: system}) as registry:
        yield await registry.ready(system.name)


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def lines_of(path: Path) -> list[str]:
    """Return a file's lines; none when there is no file."""
    return path.read_text().split() if path.exists() else []


def pids_in(path: Path) -> list[int]:
    """Return the process ids a file lists."""
    return [int(line) for line in lines_of(path)]


def stdio_server(**env: str) -> McpServerSpec:
    """Return how the fixture server is started."""
    return McpServerSpec(command=sys.executable, args=[str(FIXTURE_SERVER)], env=env)


def free_port() -> int:
    """Return a port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class HttpServer:
    """The fixture server over HTTP, in a process that can be killed and started again."""

    def __init__(self, **env: str) -> None:
        self.port = free_port()
        self._env = {**os.environ, **env}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def spec(self) -> McpServerSpec:
        """Return how it is reached."""
        return McpServerSpec(url=f"http://127.0.0.1:{self.port}/mcp")

    async def start(self) -> None:
        """Start it and wait until it accepts connections."""
        command = [sys.executable, str(FIXTURE_SERVER), str(self.port)]
        self._process = subprocess.Popen(command, env=self._env)  # noqa: ASYNC220  (it outlives this call)
        await until(self._answers)

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(5)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def http_server(**env: str) -> Iterator[HttpServer]:
    """Give a fixture server over HTTP, and end it."""
    server = HttpServer(**env)
    try:
        yield server
    finally:
        server.kill()


class Started:
    """Processes a test has started, with an environment of its choice."""

    def __init__(self) -> None:
        self._processes: dict[int, subprocess.Popen[str]] = {}

    def start(self, env: Mapping[str, str], *argv: str) -> int:
        """Start a program, one that waits unless given, and return its process id once it has written a line."""
        process = subprocess.Popen(
            argv or ("sh", "-c", "echo ready; exec sleep 300"),
            env={"PATH": os.environ["PATH"], **env},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._processes[process.pid] = process
        assert process.stdout is not None
        process.stdout.readline()
        return process.pid

    def signal_of(self, pid: int) -> int:
        """Return the number of the signal that ended a process."""
        return -self._processes[pid].wait(5)

    def end(self) -> None:
        """End what is left."""
        for process in self._processes.values():
            process.kill()
            process.communicate()


@contextmanager
def started_processes() -> Iterator[Started]:
    """Give somewhere to start processes, and end them."""
    processes = Started()
    try:
        yield processes
    finally:
        processes.end()
