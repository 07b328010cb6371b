"""Sends a plan's thoughts to a Sequential Thinking MCP server: a process per plan, or one inside this one.

May import: orchestration.{errors, logs, ports, planning.thinking_client}, anyio, stdlib.

Where the process can't be started, is slow to start, or dies on the way, the server inside this process takes
its place and is sent every thought again, so that one server always has the whole history; `replaced_because`
says why. `thinking_pool.py` keeps processes ready for the plans to come.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import anyio
from anyio.abc import TaskGroup

from orchestration.errors import SystemUnavailableError
from orchestration.logs import get_logger
from orchestration.planning.thinking_client import (
    CALL_TIMEOUT_SECONDS,
    STARTUP_TIMEOUT_SECONDS,
    ThinkingClient,
)
from orchestration.ports import ThinkingServer, Thought

OpenThinking: TypeAlias = Callable[[], AbstractAsyncContextManager[ThinkingServer]]
"""Opens a thinking server for one plan."""

DEFAULT_COMMAND = ("npx", "-y", "@modelcontextprotocol/server-sequential-thinking")

_log = get_logger()


@asynccontextmanager
async def thinking_process(
    command: Sequence[str] = DEFAULT_COMMAND,
    *,
    env: Mapping[str, str] | None = None,
    startup_timeout_seconds: float = STARTUP_TIMEOUT_SECONDS,
    call_timeout_seconds: float = CALL_TIMEOUT_SECONDS,
) -> AsyncIterator[ThinkingServer]:
    """Start a Sequential Thinking server for one plan; its process and all its children are gone afterwards.

    Args:
        command: What to start, as argv. Pin a version where plans must not change with a release.
        env: Variables for the process, beside the few it inherits.
        startup_timeout_seconds: How long the start may take before the server inside this process takes over.
        call_timeout_seconds: How long one thought may take.

    Yields:
        A server that takes thoughts whatever happens to the process.
    """
    async with owners() as group:
        client = ThinkingClient.of_process(
            command,
            env or {},
            startup_timeout_seconds=startup_timeout_seconds,
            call_timeout_seconds=call_timeout_seconds,
        )
        group.start_soon(client.own)
        async with PlanServer(group) as server:
            await server.use(client)
            yield server


@asynccontextmanager
async def in_process_thinking() -> AsyncIterator[ThinkingServer]:
    """Open a Sequential Thinking server inside this process, for one plan."""
    async with owners() as group, PlanServer(group) as server:
        await server.use_own()
        yield server


@asynccontextmanager
async def owners() -> AsyncIterator[TaskGroup]:
    """Run tasks that own clients; hand an exception of the body on as it is, not in a group."""
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        try:
            yield group
        except Exception as exc:  # noqa: BLE001  # raised again below; a task group would wrap it in a group
            failure = exc
    if failure is not None:
        raise failure


class PlanServer:
    """The `ThinkingServer` of one plan, which outlives the process behind it. Inside `async with` it may be used.

    Args:
        group: Runs the server inside this process, should it be needed.
    """

    def __init__(self, group: TaskGroup) -> None:
        self.kind = "in-process"
        self.replaced_because: str | None = None
        self._group = group
        self._client: ThinkingClient | None = None
        self._sent: list[dict[str, Any]] = []

    async def __aenter__(self) -> PlanServer:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    async def use(self, client: ThinkingClient) -> None:
        """Send the thoughts to a process, as soon as it is ready; to the server inside this one if it never is."""
        self._client = client
        client.is_lent = True
        await client.ready.wait()
        if client.failure is not None:
            await self.replace(client.failure)
        else:
            self.kind = "process"

    async def use_own(self) -> None:
        """Send the thoughts to the server inside this process."""
        self._client = ThinkingClient.in_process()
        self._group.start_soon(self._client.own)
        await self._client.ready.wait()
        self.kind = "in-process"

    async def replace(self, reason: str) -> None:
        """Let the server inside this process take the place of the one that was asked for."""
        _log.warning(
            "Sequential Thinking server replaced by the one inside this process",
            operation="THINKING_SERVER_REPLACED",
            reason=reason,
        )
        self.replaced_because = reason
        if self._client is not None:
            self._client.close()
        await self.use_own()

    async def think(self, thought: Thought, *, total: int, more: bool) -> None:
        """Send one thought; when the process is gone, send all of them to the server that takes its place."""
        if self._client is None:
            raise SystemUnavailableError("sequential_thinking", "it was never started")
        arguments = _arguments(thought, total=total, more=more)
        self._sent.append(arguments)
        try:
            await self._client.call(arguments)
        except SystemUnavailableError as exc:
            if self.kind != "process":
                raise
            await self.replace(exc.reason)
            for again in self._sent:
                await self._client.call(again)


def _arguments(thought: Thought, *, total: int, more: bool) -> dict[str, Any]:
    """Return a thought as the tool's arguments."""
    arguments: dict[str, Any] = {
        "thought": thought.text,
        "thoughtNumber": thought.number,
        "totalThoughts": max(total, thought.number),
        "nextThoughtNeeded": more,
    }
    if thought.revises is not None:
        arguments |= {"isRevision": True, "revisesThought": thought.revises}
    if thought.branch is not None:
        arguments["branchId"] = thought.branch
    if thought.branch_from is not None:
        arguments["branchFromThought"] = thought.branch_from
    return arguments
