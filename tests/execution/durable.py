"""What tests of whole orchestrations share that need a real database: orchestrators over one, and counted functions.

May import: anyio, orchestration, storage, stdlib.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import anyio

from orchestration import AdvancedTaskOrchestrator, FunctionSystem, create_advanced_task_orchestrator
from orchestration.execution.recovery import load_state
from orchestration.exports import to_mermaid
from orchestration.models import OrchestrationId, TaskId, TaskStatus
from orchestration.ports import System
from storage import SqliteStorage

Functions = Mapping[str, Callable[..., Any]]


class Calls(Counter[str]):
    """How often each function was called, over all systems."""

    def system(self, functions: Functions, name: str = "python") -> FunctionSystem:
        """Return a system of functions whose calls are counted here."""
        return FunctionSystem({tool: self._counted(tool, call) for tool, call in functions.items()}, name)

    def _counted(self, tool: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self[tool] += 1
            return call(*args, **kwargs)

        return counted


def orchestrator_over(path: Path, systems: Mapping[str, System], **options: Any) -> AdvancedTaskOrchestrator:
    """Return an orchestrator over the database of a folder; any number of them may work on it."""
    return create_advanced_task_orchestrator(
        systems=systems, state_manager=SqliteStorage(path / "state.db"), **options
    )


@asynccontextmanager
async def opened(
    path: Path, systems: Mapping[str, System], **options: Any
) -> AsyncIterator[AdvancedTaskOrchestrator]:
    """Open an orchestrator over the database of a folder, for a bounded time."""
    with anyio.fail_after(20):
        async with orchestrator_over(path, systems, **options) as orchestrator:
            yield orchestrator


async def until_task(
    orchestrator: AdvancedTaskOrchestrator, identifier: OrchestrationId, task_id: TaskId, status: TaskStatus
) -> str:
    """Wait until a task has a status, and return its note."""
    seq = 0
    with anyio.fail_after(10):
        while True:
            rows = await orchestrator.load_tasks(identifier, task_ids=[task_id])
            if rows and rows[0].status is status:
                return rows[0].note or ""
            seq = await orchestrator.wait_for_change(identifier, after_seq=seq, timeout_seconds=0.5)


async def until_asked(
    orchestrator: AdvancedTaskOrchestrator, identifier: OrchestrationId, task_id: TaskId
) -> str:
    """Wait until the caller is asked how to go on with a task, and return why."""
    seq = 0
    with anyio.fail_after(10):
        while True:
            asked: dict[TaskId, str] = (await orchestrator.load_status(identifier))["waiting_for_answer"]
            if task_id in asked:
                return asked[task_id]
            seq = await orchestrator.wait_for_change(identifier, after_seq=seq, timeout_seconds=0.5)


async def drawn(orchestrator: AdvancedTaskOrchestrator, identifier: OrchestrationId) -> str:
    """Return an orchestration's graph as a Mermaid drawing."""
    return to_mermaid(
        await orchestrator.load_dag(identifier), replaced=await orchestrator.load_replaced(identifier)
    )


async def statuses(orchestrator: AdvancedTaskOrchestrator, identifier: OrchestrationId) -> dict[TaskId, str]:
    """Return the status of each task."""
    rows = await orchestrator.load_tasks(identifier, limit=10_000)
    return {row.task_id: row.status.value for row in rows}


async def assert_replayable(orchestrator: AdvancedTaskOrchestrator, identifier: OrchestrationId) -> None:
    """The stored rows are what the stored journal adds up to."""
    state = await load_state(orchestrator.storage, identifier)
    found = await statuses(orchestrator, identifier)
    assert found == {task_id: task.status.value for task_id, task in state.tasks.items()}
