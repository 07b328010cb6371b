"""How a very large orchestration survives a kill: 100,000 tasks, SIGKILL halfway, a fresh process goes on.

    python benchmarks/large_state.py [--json] [--graphs layered fan] [--tasks 100000] [--keep FOLDER]

Two graphs of no-op functions: `layered`, a hundred layers, each task on three of the layer before; and `fan`, one task
before all the others and one after. For each: a first process runs it and is killed with SIGKILL when half of the
tasks have run; a second one opens the same file and resumes. `first_attempt_seconds` counts from the start of that
second process (interpreter and imports included) to the first function it runs anew; `peak_memory_mb` is its resident
maximum over the whole rest. Then the journal is read from end to end, page by page, as it is and compressed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from orchestration import FunctionSystem, TaskDAG, TaskEdge, TaskNode, create_advanced_task_orchestrator
from orchestration.ports import Retention
from storage import SqliteStorage

GRAPHS = ("layered", "fan")
LAYERS = 100
PAGE = 1_000
ID = "large-1"


def build(name: str, tasks: int) -> TaskDAG:
    """Return one of the graphs."""
    dag = TaskDAG("large")
    if name == "fan":
        names = [f"t{place}" for place in range(tasks - 2)]
        for task_id in ("first", *names, "last"):
            dag.add_task(_node(task_id))
        for task_id in names:
            dag.add_dependency(TaskEdge("first", task_id))
            dag.add_dependency(TaskEdge(task_id, "last"))
        return dag
    rng = random.Random(1)
    width = max(3, tasks // LAYERS)
    for layer in range(LAYERS):
        for place in range(width):
            dag.add_task(_node(f"t{layer}-{place}"))
            for parent in rng.sample(range(width), 3) if layer else ():
                dag.add_dependency(TaskEdge(f"t{layer - 1}-{parent}", f"t{layer}-{place}"))
    return dag


def _node(task_id: str) -> TaskNode:
    return TaskNode(task_id=task_id, tool="noop", system_preference="python")


async def run_and_die(database: Path, graph: str, tasks: int) -> None:
    """Run until half of the tasks have run, and be killed."""
    ran = 0
    started = time.perf_counter()

    async def noop() -> None:
        nonlocal ran
        ran += 1
        if ran == 1:
            _tell(first_attempt_seconds=time.perf_counter() - started)
        if ran == tasks // 2:
            _tell(half_seconds=time.perf_counter() - started, peak_memory_mb=_peak_memory_mb())
            os.kill(os.getpid(), signal.SIGKILL)

    dag = build(graph, tasks)
    started = time.perf_counter()
    orchestrator = create_advanced_task_orchestrator(
        systems={"python": FunctionSystem({"noop": noop})},
        state_manager=SqliteStorage(database),
        max_concurrent_tasks=50,
    )
    await orchestrator.execute_dag(dag)


async def go_on(database: Path, born: float) -> None:
    """Resume what the killed process left behind, to its end."""
    ran = 0
    first = 0.0

    async def noop() -> None:
        nonlocal ran, first
        ran += 1
        if ran == 1:
            first = time.monotonic()  # the parent's clock, too: only it knows when this process began

    orchestrator = create_advanced_task_orchestrator(
        systems={"python": FunctionSystem({"noop": noop})},
        state_manager=SqliteStorage(database),
        max_concurrent_tasks=50,
    )
    async with orchestrator:
        await orchestrator.resume_all()
        result = await orchestrator.wait(ID)
    if not result["success"]:
        raise SystemExit("the resumed run did not complete")
    _tell(
        first_attempt_seconds=first - born,
        rest_seconds=time.monotonic() - first,
        ran_again_or_anew=ran,
        peak_memory_mb=_peak_memory_mb(),
    )


async def read_pages(database: Path) -> dict[str, Any]:
    """Read the journal page by page, before and after it was compressed."""
    storage = SqliteStorage(database)
    live = await _page_through(storage)
    ever = Retention(compact_after_seconds=0.0, remove_after_seconds=None, keep_finished=None)
    begun = time.perf_counter()
    while not (await storage.retain(ever, now_us=2**53)).is_finished:
        pass
    seconds = time.perf_counter() - begun
    compressed = await _page_through(storage)
    await storage.aclose()
    return {"journal": live, "compressing_seconds": round(seconds, 2), "compressed_journal": compressed}


async def _page_through(storage: SqliteStorage) -> dict[str, float]:
    """Return how fast all pages come, and how long the slowest takes."""
    events, after, slowest = 0, 0, 0.0
    begun = time.perf_counter()
    while True:
        page_begun = time.perf_counter()
        page = await storage.read_events(ID, after_seq=after, limit=PAGE)
        if not page:
            break
        slowest = max(slowest, time.perf_counter() - page_begun)
        events += len(page)
        after = page[-1].seq
    seconds = time.perf_counter() - begun
    return {
        "events": events,
        "events_per_second": round(events / seconds),
        "slowest_page_ms": round(slowest * 1000, 1),
    }


def measure(graph: str, tasks: int, folder: Path) -> dict[str, Any]:
    """Run, kill, resume and read one graph."""
    database = folder / f"{graph}.db"
    first = subprocess.run(
        [sys.executable, __file__, "--role", "run", str(database), graph, str(tasks)],
        check=False,
        capture_output=True,
        text=True,
    )
    if first.returncode != -signal.SIGKILL:
        raise SystemExit(f"the first process was not killed halfway: {first.stdout}{first.stderr}")
    size_mb = _size_mb(database)
    second = subprocess.run(
        [sys.executable, __file__, "--role", "resume", str(database), str(time.monotonic())],
        check=False,
        capture_output=True,
        text=True,
    )
    if second.returncode:
        raise SystemExit(f"the second process failed: {second.stdout}{second.stderr}")
    return {
        "tasks": tasks,
        "first_run": _told(first.stdout),
        "database_mb_at_the_kill": round(size_mb, 1),
        "resumed": _told(second.stdout),
        "database_mb_at_the_end": round(_size_mb(database), 1),
        **asyncio.run(read_pages(database)),
    }


def _tell(**figures: float) -> None:
    """Hand figures to the parent, one line each: the process may be killed right after."""
    for name, value in figures.items():
        os.write(1, f"{name} {round(value, 2)}\n".encode())


def _told(text: str) -> dict[str, float]:
    return {line.split()[0]: float(line.split()[1]) for line in text.splitlines()}


def _size_mb(database: Path) -> float:
    """Return what the database takes on disk, its write-ahead log included."""
    return sum(path.stat().st_size for path in database.parent.glob(f"{database.name}*")) / 1024**2


def _peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _play(role: list[str]) -> None:
    """Be one of the two processes."""
    if role[0] == "run":
        asyncio.run(run_and_die(Path(role[1]), role[2], int(role[3])))
    else:
        asyncio.run(go_on(Path(role[1]), float(role[2])))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--graphs", nargs="+", choices=GRAPHS, default=list(GRAPHS))
    parser.add_argument("--tasks", type=int, default=100_000, help="tasks of each graph")
    parser.add_argument("--keep", type=Path, help="leave the databases in this folder")
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        _play(options.role)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        figures = {graph: measure(graph, options.tasks, folder) for graph in options.graphs}
    if options.json:
        versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
        print(json.dumps({**versions, "graphs": figures}, indent=2))
        return
    for graph, found in figures.items():
        print(f"{graph}: {found['tasks']:,} tasks")
        for name, value in found.items():
            if isinstance(value, dict):
                print(f"  {name}: " + ", ".join(f"{key} {item:,}" for key, item in value.items()))
            elif name != "tasks":
                print(f"  {name}: {value:,}")


if __name__ == "__main__":
    main()
