"""Runs a small DAG durably and kills its own process with SIGKILL around one named commit.

    python victim.py DATABASE EFFECTS before|after N

Every task appends a line `task#attempt` to EFFECTS. The process dies right before or right after its N-th append.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio

from orchestration import FunctionSystem, TaskDAG, TaskEdge, TaskNode, create_advanced_task_orchestrator
from orchestration.ports import Commit
from storage import SqliteStorage

LAYERS, WIDTH = 3, 3


class Mortal(SqliteStorage):
    """Dies at a commit."""

    when = "before"
    at = 0
    appends = 0

    async def append(self, commits: Sequence[Commit]) -> None:
        """Store, and die before or after the chosen commit."""
        self.appends += 1
        if self.appends == self.at and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        await super().append(commits)
        if self.appends == self.at and self.when == "after":
            os.kill(os.getpid(), signal.SIGKILL)


def build() -> TaskDAG:
    """Return a layered graph, each task on all of the layer before."""
    dag = TaskDAG("victim")
    for layer in range(LAYERS):
        for place in range(WIDTH):
            dag.add_task(
                TaskNode(task_id=f"t{layer}-{place}", tool="mark", arguments={"name": f"t{layer}-{place}"})
            )
            for parent in range(WIDTH) if layer else ():
                dag.add_dependency(TaskEdge(f"t{layer - 1}-{parent}", f"t{layer}-{place}"))
    return dag


def marker(effects: Path) -> FunctionSystem:
    """Return a system whose tool leaves a trace outside the database."""

    async def mark(name: str) -> str:
        descriptor = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, f"{name}\n".encode())
        finally:
            os.close(descriptor)
        return name

    return FunctionSystem({"mark": mark})


async def main(database: str, effects: str, when: str, at: str) -> None:
    """Run until the chosen commit."""
    storage = Mortal(database)
    storage.when, storage.at = when, int(at)
    orchestrator = create_advanced_task_orchestrator(
        systems={"python": marker(Path(effects))}, state_manager=storage, max_concurrent_tasks=2
    )
    await orchestrator.execute_dag(build())


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4])
