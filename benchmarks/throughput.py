"""How many no-op tasks a second run durably, next to the same graphs on bare asyncio.

    python benchmarks/throughput.py [--json] [--repeat 5] [--tasks-at-once 50]

Four graphs: 1,000 independent tasks, 10 × 100 layered (each task on three of the layer before), a chain of 300, and
100 × 100 layered. Each is run by the orchestrator with a fresh SQLite file (WAL, synchronous NORMAL: every completion
is committed before its dependents start) and by bare asyncio (one task a node, a semaphore, nothing stored),
alternately, `--repeat` times; the figures are medians. `tasks_per_second` counts from the submission of the DAG to the
result in hand, validation, storing and reading included; `running_tasks_per_second` from the first start to the last
completion. Peak memory is the resident maximum of a process that runs that graph once and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from orchestration import FunctionSystem, TaskDAG, TaskEdge, TaskNode, create_advanced_task_orchestrator
from storage import SqliteStorage

GRAPHS = ("independent", "layered", "chain", "large")


def build(name: str) -> TaskDAG:
    """Return one of the four graphs."""
    layers, width, parents = {
        "independent": (1, 1000, 0),
        "layered": (10, 100, 3),
        "chain": (300, 1, 1),
        "large": (100, 100, 3),
    }[name]
    dag = TaskDAG(name)
    rng = random.Random(1)
    for layer in range(layers):
        for place in range(width):
            dag.add_task(TaskNode(task_id=f"t{layer}-{place}", tool="noop", system_preference="python"))
            for parent in rng.sample(range(width), parents) if layer else ():
                dag.add_dependency(TaskEdge(f"t{layer - 1}-{parent}", f"t{layer}-{place}"))
    return dag


async def noop() -> None:
    """Do nothing."""


async def orchestrated(dag: TaskDAG, at_once: int) -> tuple[float, float]:
    """Run durably; return seconds for the whole call and for the running part."""
    with tempfile.TemporaryDirectory() as folder:
        orchestrator = create_advanced_task_orchestrator(
            systems={"python": FunctionSystem({"noop": noop})},
            state_manager=SqliteStorage(Path(folder) / "state.db"),
            max_concurrent_tasks=at_once,
        )
        async with orchestrator:
            start = time.perf_counter()
            result = await orchestrator.execute_dag(dag)
            seconds = time.perf_counter() - start
    if not result["success"] or result["performance_metrics"]["tasks_completed"] != len(dag.nodes):
        raise SystemExit(f"the run did not complete: {result['errors']}")
    return seconds, result["performance_metrics"]["makespan_seconds"]


async def bare(dag: TaskDAG, at_once: int) -> float:
    """Run on bare asyncio: one task a node, a semaphore, futures for the edges."""
    incoming = dag.incoming()
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    done = {task_id: loop.create_future() for task_id in dag.nodes}
    slots = asyncio.Semaphore(at_once)

    async def run(task_id: str) -> None:
        for edge in incoming[task_id]:
            await done[edge.source_task_id]
        async with slots:
            await noop()
        done[task_id].set_result(None)

    async with asyncio.TaskGroup() as group:
        for task_id in dag.topological_sort():
            group.create_task(run(task_id))
    return time.perf_counter() - start


def measure(name: str, repeat: int, at_once: int) -> dict[str, float]:
    """Return the medians of alternating runs of one graph."""
    dag = build(name)
    whole, running, plain = [], [], []
    for _ in range(repeat):
        seconds, makespan = asyncio.run(orchestrated(dag, at_once))
        whole.append(seconds)
        running.append(makespan)
        plain.append(asyncio.run(bare(dag, at_once)))
    count = len(dag.nodes)
    return {
        "tasks": count,
        "tasks_per_second": round(count / statistics.median(whole)),
        "running_tasks_per_second": round(count / statistics.median(running)),
        "bare_asyncio_tasks_per_second": round(count / statistics.median(plain)),
        "peak_memory_mb": _peak_memory_mb(name, at_once),
    }


def _peak_memory_mb(name: str, at_once: int) -> float:
    """Return the resident maximum of a process that runs the graph once."""
    answer = subprocess.run(
        [sys.executable, __file__, "--once", name, "--tasks-at-once", str(at_once)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(answer.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--repeat", type=int, default=5, help="runs per graph; the medians count")
    parser.add_argument("--tasks-at-once", type=int, default=50, help="concurrency limit")
    parser.add_argument("--once", choices=GRAPHS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        asyncio.run(orchestrated(build(options.once), options.tasks_at_once))
        sys.stdout.write(str(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)))
        return
    figures = {name: measure(name, options.repeat, options.tasks_at_once) for name in GRAPHS}
    document = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "synchronous": "NORMAL",
        "tasks_at_once": options.tasks_at_once,
        "repeat": options.repeat,
        "graphs": figures,
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return
    print(f"{'graph':<12} {'tasks':>6} {'tasks/s':>8} {'running/s':>10} {'asyncio/s':>10} {'peak MB':>8}")
    for name, row in figures.items():
        print(
            f"{name:<12} {row['tasks']:>6} {row['tasks_per_second']:>8} {row['running_tasks_per_second']:>10} "
            f"{row['bare_asyncio_tasks_per_second']:>10} {row['peak_memory_mb']:>8}"
        )


if __name__ == "__main__":
    main()
