"""Whether a slow, a flapping and a dead system among ten hold up the other seven.

    python benchmarks/isolation.py [--json] [--repeat 5] [--tasks 100] [--tasks-at-once 40]

Ten systems of the kind `http`, whose latency is injected, each with the same number of independent tasks that name it.
Healthy ones answer in 20 ms. *All healthy*: ten of them. *Three bad*: the first is slow (50 times as long), the second
flaps (half a second up, half a second down), the third is dead. Both are run alternately, `--repeat` times, with a
SQLite file each. What counts is the throughput of the seven that are healthy in both: their tasks by the time from the
first start to the last of their answers; the medians are compared, and `kept` must be 0.95 or more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from orchestration import TaskDAG, TaskNode, create_advanced_task_orchestrator
from orchestration.errors import SystemUnavailableError
from orchestration.ports import AttemptRequest, Health, System, ToolInfo
from storage import SqliteStorage

SECONDS = 0.02
BAD = ("slow", "flapping", "dead")
HEALTHY = tuple(f"healthy{number}" for number in range(7))
REQUIRED = 0.95


class Injected:
    """A system of somebody else's, with the latency and the faults of its choice."""

    kind = "http"

    def __init__(self, name: str, fault: str = "") -> None:
        self.name = name
        self._fault = fault
        self.answered_at: list[float] = []
        self.asked = 0

    async def open(self) -> None:
        """Nothing to connect."""

    async def aclose(self) -> None:
        """Nothing to close."""

    async def list_tools(self) -> list[ToolInfo]:
        """Return the one tool."""
        return [ToolInfo(name="work")]

    async def choose_tool(self, task: TaskNode) -> str | None:  # noqa: ARG002  (as the port has it)
        """Return the one tool."""
        return "work"

    def takes_inputs(self, tool: str | None) -> bool:  # noqa: ARG002  (as the port has it)
        """Wants none."""
        return False

    async def execute(self, request: AttemptRequest) -> object:  # noqa: ARG002  (as the port has it)
        """Answer as injected."""
        self.asked += 1
        is_down = self._fault == "flapping" and time.monotonic() % 1.0 < 0.5
        if self._fault == "dead" or is_down:
            raise SystemUnavailableError(self.name, "connection refused")
        await asyncio.sleep(SECONDS * (50 if self._fault == "slow" else 1))
        self.answered_at.append(time.perf_counter())
        return None

    async def check(self) -> Health:
        """Say how it is."""
        return Health(ok=self._fault != "dead")


def build(tasks: int) -> TaskDAG:
    """Return the graph: for each system the same number of independent tasks, in turn."""
    dag = TaskDAG("isolation")
    for number in range(tasks):
        for name in (*BAD, *HEALTHY):
            dag.add_task(TaskNode(f"{name}-{number}", system_preference=name, tool="work"))
    return dag


async def measure(tasks: int, at_once: int, *, is_healthy: bool) -> tuple[float, dict[str, Any]]:
    """Return the tasks a second of the seven, and what was seen of the bad three."""
    systems = {name: Injected(name, "" if is_healthy else name) for name in BAD}
    systems |= {name: Injected(name) for name in HEALTHY}
    as_given: dict[str, System] = dict(systems)
    with tempfile.TemporaryDirectory() as folder:
        orchestrator = create_advanced_task_orchestrator(
            systems=as_given,
            state_manager=SqliteStorage(Path(folder) / "state.db"),
            max_concurrent_tasks=at_once,
        )
        async with orchestrator:
            began = time.perf_counter()
            running = asyncio.create_task(orchestrator.execute_dag(build(tasks)))
            while any(len(systems[name].answered_at) < tasks for name in HEALTHY) and not running.done():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            missing = [name for name in HEALTHY if len(systems[name].answered_at) < tasks]
            if missing:
                raise SystemExit(f"these did not finish their tasks: {missing}")
            seconds = max(systems[name].answered_at[-1] for name in HEALTHY) - began
            stories = {name: orchestrator.systems.resilience.story(name) for name in BAD}
            seen = {
                name: {
                    "asked": systems[name].asked,
                    "state": stories[name].state.value,
                    "limit": stories[name].limit,
                    "changes": len(stories[name].last_changes),
                }
                for name in BAD
            }
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    return tasks * len(HEALTHY) / seconds, seen


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each; the medians count")
    parser.add_argument("--tasks", type=int, default=100, help="tasks per system")
    parser.add_argument("--tasks-at-once", type=int, default=40, help="concurrency limit")
    options = parser.parse_args()
    alone: list[float] = []
    beside: list[float] = []
    seen: dict[str, Any] = {}
    for _ in range(options.repeat):
        alone.append(asyncio.run(measure(options.tasks, options.tasks_at_once, is_healthy=True))[0])
        rate, seen = asyncio.run(measure(options.tasks, options.tasks_at_once, is_healthy=False))
        beside.append(rate)
    kept = statistics.median(beside) / statistics.median(alone)
    document = {
        "python": platform.python_version(),
        "tasks_per_system": options.tasks,
        "tasks_at_once": options.tasks_at_once,
        "repeat": options.repeat,
        "all_healthy_tasks_per_second": round(statistics.median(alone)),
        "three_bad_tasks_per_second": round(statistics.median(beside)),
        "kept": round(kept, 3),
        "required": REQUIRED,
        "bad": seen,
    }
    if options.json:
        print(json.dumps(document, indent=2))
    else:
        for name, value in document.items():
            print(f"{name:<30} {value}")
    if kept < REQUIRED:
        raise SystemExit(f"the seven kept {kept:.1%} of their throughput; expected {REQUIRED:.0%} or more")


if __name__ == "__main__":
    main()
