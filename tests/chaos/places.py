"""A folder with a database and a file of effects, the processes that work on it, and people who see to the end.

Every process started here ends with its test, whatever state it is in: it is killed, and it dies with its parent.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE

import anyio
import anyio.abc

from orchestration import TaskDAG, TaskEdge, TaskNode
from orchestration.dag_file import dag_to_json
from orchestration.errors import NotPossibleError, RefusedByDriverError
from orchestration.models import OrchestrationId, OrchestrationStatus, TaskId, TaskStatus, Verification
from orchestration.orchestrator import AdvancedTaskOrchestrator
from storage import SqliteStorage
from tests.chaos.checking import Verdict, check
from tests.chaos.work import EFFECTS, traces
from tests.chaos.worker import orchestrator_over

ROOT = Path(__file__).parents[2]
ASKED = Verification(tool="did_it_happen")
_LEASH = Path(__file__).with_name("leash.py")


class Place:
    """Where one test happens.

    Args:
        folder: An empty folder.
        lease_seconds: How long leases last here.
    """

    def __init__(self, folder: Path, lease_seconds: float = 15.0) -> None:
        self.folder = folder
        self.lease_seconds = lease_seconds
        self.database = folder / "state.db"
        self.effects = folder / "effects"
        self._logs: dict[int, Path] = {}
        """What each process says, by its pid."""

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, EFFECTS: str(self.effects), "PYTHONPATH": str(ROOT)}

    def orchestrator(self) -> AdvancedTaskOrchestrator:
        """Return an orchestrator over this place's database, in this process."""
        return orchestrator_over(SqliteStorage(self.database), self.lease_seconds)

    def write(self, dag: TaskDAG) -> str:
        path = self.folder / f"{dag.dag_id}.json"
        path.write_bytes(dag_to_json(dag))
        return str(path)

    def words(self, role: str, *more: str) -> list[str]:
        """Return the command line of a worker."""
        worker = [sys.executable, "-m", "tests.chaos.worker", role, str(self.database), *more]
        return [*worker, "--lease", str(self.lease_seconds)]

    @asynccontextmanager
    async def process(self, words: list[str], *, has_input: bool = False) -> AsyncIterator[anyio.abc.Process]:
        """Start a process and see that it ends; it may be stopped by then.

        Args:
            words: Its command line.
            has_input: Whether it ends when its input does, and so must be given one.
        """
        path = self.folder / f"log-{len(self._logs)}"
        with path.open("ab") as log:
            process = await anyio.open_process(
                [sys.executable, str(_LEASH), *words],
                cwd=ROOT,
                env=self.environment,
                stdin=PIPE if has_input else DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._logs[process.pid] = path
        try:
            yield process
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                await process.wait()
                await process.aclose()

    async def die(self, role: str, *more: str, at: str) -> None:
        """Run a worker until it kills itself at a named point."""
        async with self.process(self.words(role, *more, "--die", at)) as process:
            with anyio.fail_after(30):
                await process.wait()
        assert process.returncode == -signal.SIGKILL, f"it did not die at {at}: {self.told(process)}"

    def told(self, process: anyio.abc.Process) -> str:
        """Return what a process said."""
        return self._logs[process.pid].read_text(encoding="utf-8")

    async def see_to_the_end(self, orchestrator: AdvancedTaskOrchestrator) -> Verdict:
        """Go on with everything here, as a person who looks what has happened before deciding; then compare."""
        with anyio.fail_after(30):
            async with orchestrator:
                await orchestrator.resume_all()
                for status in await orchestrator.list_orchestrations():
                    await self.decide_until_it_ends(orchestrator, status["orchestration_id"])
                return await check(orchestrator.storage, self.effects)

    async def decide_until_it_ends(
        self, orchestrator: AdvancedTaskOrchestrator, identifier: OrchestrationId
    ) -> None:
        """Resume what is paused, and decide what is unknown by what was left outside."""
        while True:
            status = await orchestrator.load_status(identifier)
            state = OrchestrationStatus(status["state"])
            if state.is_terminal:
                return
            if state is OrchestrationStatus.PAUSED:
                await orchestrator.resume(identifier)
            for row in await orchestrator.load_tasks(identifier, statuses=[TaskStatus.UNKNOWN]):
                await self.decide(orchestrator, identifier, row.task_id)
            await orchestrator.wait_for_change(identifier, after_seq=status["last_seq"], timeout_seconds=1.0)

    async def decide(
        self, orchestrator: AdvancedTaskOrchestrator, identifier: OrchestrationId, task_id: TaskId
    ) -> None:
        """Say what became of a task, by its lines."""
        has_happened = any(f"#{identifier}:{task_id}:" in line for line in traces(self.effects))
        with suppress(NotPossibleError, RefusedByDriverError):  # its `verify` has said so meanwhile
            if has_happened:
                await orchestrator.decide(identifier, task_id, "done", output={"number": 0})
            else:
                await orchestrator.decide(identifier, task_id, "retry")


def layered(name: str = "victim", layers: int = 3, *, seconds: float = 0.0, has_once: bool = True) -> TaskDAG:
    """Return a graph of layers of three, each task on all of the layer before.

    Args:
        name: Its id.
        layers: How many.
        seconds: How long each task takes before its effect, and how long after it.
        has_once: Whether the last task of a layer must not be repeated; every other one of these can be asked.
    """
    dag = TaskDAG(name)
    for layer in range(layers):
        for place in range(3):
            is_once = has_once and place == 2
            dag.add_task(
                TaskNode(
                    task_id=f"t{layer}-{place}",
                    tool="act",
                    arguments={"before": seconds, "after": seconds},
                    idempotent=not is_once,
                    verify=ASKED if is_once and layer % 2 else None,
                )
            )
            for parent in range(3) if layer else ():
                dag.add_dependency(TaskEdge(f"t{layer - 1}-{parent}", f"t{layer}-{place}"))
    return dag
