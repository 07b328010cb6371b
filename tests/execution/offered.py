"""What tests of offered work share: time that runs fast and can be skipped, orchestrators over either storage, waits.

May import: anyio, orchestration, storage, tests.execution.durable, stdlib.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from orchestration import AdvancedTaskOrchestrator, FunctionSystem, create_advanced_task_orchestrator
from orchestration.claim_records import Claim
from orchestration.clock import SystemClock
from orchestration.models import AGENT, Json, OrchestrationId, TaskId, TaskNode, TaskStatus
from orchestration.ports import System
from orchestration.systems.agent import AgentSystem
from orchestration.work_desk import NoWork, Reported
from storage import SqliteStorage
from tests.execution.durable import Functions

LEASE_SECONDS = 300.0
_FASTER = 20.0
"""How much faster time runs than outside."""


class FastClock:
    """Time from a fixed start, faster than real time; any amount of it can be skipped."""

    def __init__(self) -> None:
        self._outside = SystemClock()
        self._began = self._outside.monotonic()
        self._skipped = 0.0

    def elapsed(self) -> float:
        return (self._outside.monotonic() - self._began) * _FASTER + self._skipped

    def monotonic(self) -> float:
        return self.elapsed()

    def now_us(self) -> int:
        return 1_700_000_000_000_000 + round(self.elapsed() * 1_000_000)

    async def sleep(self, seconds: float) -> None:
        until = self.elapsed() + seconds
        await anyio.lowlevel.checkpoint()
        while (left := until - self.elapsed()) > 0:  # noqa: ASYNC110  what is skipped is no event
            await anyio.sleep(min(left / _FASTER, 0.01))

    def skip(self, seconds: float) -> None:
        """Let so much time have passed."""
        self._skipped += seconds


class Office:
    """An orchestrator whose work is offered, and what workers do with it.

    Args:
        folder: Where its database is; None: everything is in memory.
        clock: Shared by orchestrators over one database.
    """

    def __init__(self, folder: Path | None, clock: FastClock | None = None) -> None:
        self.folder = folder
        self.clock = clock or FastClock()

    def orchestrator(self, functions: Functions | None = None, **options: Any) -> AdvancedTaskOrchestrator:
        """Return an orchestrator with an agent, and functions beside it."""
        systems: Mapping[str, System] = {
            AGENT: AgentSystem(lease_seconds=options.pop("agent_seconds", LEASE_SECONDS)),
            "python": FunctionSystem(dict(functions or {"nothing": lambda: None})),
            **options.pop("systems", {}),
        }
        storage = None if self.folder is None else SqliteStorage(self.folder / "state.db")
        return create_advanced_task_orchestrator(
            systems=systems, state_manager=storage, clock=self.clock, **options
        )


def for_agent(task_id: TaskId, description: str = "Do it.", **fields: Any) -> TaskNode:
    """Return a task that is offered."""
    return TaskNode(task_id, description, system_preference=AGENT, **fields)


async def claimed(
    orchestrator: AdvancedTaskOrchestrator, worker: str = "ann", *, wait_seconds: float = 40.0, **more: Any
) -> Claim:
    """Have a worker wait for something to do, and return what it gets."""
    with anyio.fail_after(5):
        found = await orchestrator.claim_task(worker, wait_seconds=wait_seconds, **more)
    assert isinstance(found, Claim), f"nothing to do: {found}"
    return found


async def taken(orchestrator: AdvancedTaskOrchestrator, worker: str = "ann") -> Claim:
    """The same, and wait until whoever drives has heard of it: its lease is watched from then on."""
    claim = await claimed(orchestrator, worker)
    await until(orchestrator, claim.orchestration_id, claim.task_id, TaskStatus.CLAIMED)
    return claim


async def nothing(orchestrator: AdvancedTaskOrchestrator, worker: str = "ann", **more: Any) -> NoWork:
    """Have a worker ask for something to do, and return why it gets nothing."""
    found = await orchestrator.claim_task(worker, **more)
    assert isinstance(found, NoWork), f"{worker} got {found}"
    return found


async def done(orchestrator: AdvancedTaskOrchestrator, claim: Claim, output: Json = None) -> Reported:
    """Report a claim done."""
    return await orchestrator.report_task(claim.claim_id, "done", output=output)


async def until(
    orchestrator: AdvancedTaskOrchestrator, identifier: OrchestrationId, task_id: TaskId, *wanted: TaskStatus
) -> None:
    """Wait until a task has one of these statuses."""
    with anyio.fail_after(5):
        while True:
            rows = await orchestrator.load_tasks(identifier, task_ids=[task_id])
            if rows and rows[0].status in wanted:
                return
            await anyio.sleep(0.01)


async def finished(orchestrator: AdvancedTaskOrchestrator, identifier: OrchestrationId) -> Mapping[str, Any]:
    """Wait for an orchestration's end, and return its result."""
    with anyio.fail_after(10):
        result: Mapping[str, Any] = await orchestrator.wait(identifier)
    return result
