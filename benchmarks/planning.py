"""Measures how soon the first task starts when a language model plans: handed out while it is made, against whole.

    python benchmarks/planning.py [--tasks 12] [--interval-ms 300]

A provider on this machine speaks OpenAI's chat completions and emits a task every `--interval-ms`. Two plans of the
same tasks are measured: one that is waited for, and one whose tasks are handed out as soon as each is whole. Where the
orchestrator can start early, the time until the first task of an orchestration has started is measured, too.
"""

from __future__ import annotations

import argparse
import inspect
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from orchestration import create_advanced_task_orchestrator
from orchestration.planning.decomposer import AdvancedTaskDecomposer
from orchestration.planning.model_options import ModelOptions
from orchestration.planning.model_planner import ModelPlanner
from orchestration.systems.function import FunctionSystem
from tests.planning.model_server import Answer, model_server

GOAL = "Measure how soon work begins"


def answer(tasks: int, interval_seconds: float) -> Answer:
    """Return an answer of two thoughts and `tasks` tasks in pairs, a piece of it for each task."""
    pieces = ['{"thoughts": ["What can run at once?", "Pairs can."], "tasks": [']
    for number in range(tasks):
        task: dict[str, Any] = {
            "task_id": f"t{number}",
            "description": f"Step {number}",
            "tool": "work",
            "depends_on": [f"t{number - 2}"] if number > 1 else [],
        }
        pieces.append(json.dumps(task) + ("," if number < tasks - 1 else "]}"))
    return Answer(pieces=pieces, seconds_between=interval_seconds)


async def seconds(work: Callable[[], Awaitable[object]]) -> float:
    """Return how long something takes."""
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def measure_planner(planner: ModelPlanner) -> tuple[float, float, float]:
    """Return when the first task is there, when the last one is, and when a whole plan is."""
    decomposer = AdvancedTaskDecomposer(model=planner)
    began = time.perf_counter()
    first = 0.0
    async with decomposer.stream(GOAL) as stream:
        async for _ in stream:
            first = first or time.perf_counter() - began
    last = time.perf_counter() - began
    return first, last, await seconds(lambda: decomposer.decompose(GOAL))


async def measure_orchestration(planner: ModelPlanner, *, is_early: bool) -> tuple[float, float]:
    """Return when the first task of an orchestration has started, and when the orchestration has ended."""
    started: list[float] = []

    async def work() -> str:
        started.append(time.perf_counter())
        return "done"

    orchestrator = create_advanced_task_orchestrator(
        systems={"python": FunctionSystem({"work": work})}, model=planner
    )
    orchestrate: Any = orchestrator.orchestrate_task
    more = {"start_early": is_early} if can_start_early() else {}
    began = time.perf_counter()
    result = await orchestrate(GOAL, **more)
    assert result["success"], result
    return started[0] - began, time.perf_counter() - began


def can_start_early() -> bool:
    """Whether this orchestrator runs tasks of a plan that is still being made."""
    from orchestration import AdvancedTaskOrchestrator

    return "start_early" in inspect.signature(AdvancedTaskOrchestrator.orchestrate_task).parameters


async def main(tasks: int, interval_ms: float) -> None:
    """Measure and print."""
    async with model_server(answer(tasks, interval_ms / 1000)) as server:
        planner = ModelPlanner(ModelOptions(name="scripted", base_url=server.url, start_early=True))
        await measure_planner(planner)  # imports and connects for the first time
        first, last, whole = await measure_planner(planner)
        print(f"{tasks} tasks, one every {interval_ms:g} ms")
        print(f"planner        first task handed out  {first:6.2f} s   plan whole  {last:6.2f} s")
        print(f"               waited for             {whole:6.2f} s")
        for is_early in (True, False) if can_start_early() else (False,):
            began, ended = await measure_orchestration(planner, is_early=is_early)
            name = "streamed" if is_early else "whole   "
            print(f"orchestration  {name}: first task    {began:6.2f} s   ended       {ended:6.2f} s")
        if not can_start_early():
            print("orchestration  streamed: this orchestrator can't start early")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Time to the first task, streamed against whole.")
    parser.add_argument("--tasks", type=int, default=12)
    parser.add_argument("--interval-ms", type=float, default=300)
    chosen = parser.parse_args()
    anyio.run(main, chosen.tasks, chosen.interval_ms)
