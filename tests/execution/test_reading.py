"""What any process can read of an orchestration: status, tasks, events, outputs, results, metrics. On real SQLite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from orchestration import (
    AdvancedTaskOrchestrator,
    FunctionSystem,
    NotPossibleError,
    OrchestrationNotFoundError,
    OrchestratorOptions,
    TaskDAG,
    TaskEdge,
    TaskNode,
    TaskNotFoundError,
    TaskStatus,
    create_advanced_task_orchestrator,
)
from orchestration.execution.identity import is_gone, this_process
from orchestration.ports import DriverIdentity
from storage import SqliteStorage

pytestmark = pytest.mark.anyio

LARGE = "x" * 300_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def small(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"got": {key: len(value["text"]) for key, value in inputs.items()}}


async def large() -> dict[str, str]:
    return {"text": LARGE}


def crunch() -> int:
    return sum(i * i for i in range(40_000))


def orchestrator_on(path: Path, **options: Any) -> AdvancedTaskOrchestrator:
    return create_advanced_task_orchestrator(
        systems={"python": FunctionSystem({"small": small, "large": large, "crunch": crunch})},
        state_manager=SqliteStorage(path),
        **options,
    )


def dag() -> TaskDAG:
    graph = TaskDAG("reading", goal="Read it")
    graph.add_task(TaskNode(task_id="a", tool="large"))
    graph.add_task(TaskNode(task_id="b", tool="large"))
    graph.add_task(TaskNode(task_id="c", tool="small"))
    graph.add_dependency(TaskEdge("a", "c"))
    graph.add_dependency(TaskEdge("b", "c"))
    return graph


async def test_large_outputs_flow_by_reference_and_are_stored_once(tmp_path: Path) -> None:
    """Two equal outputs over 64 KiB take the room of one, and dependents and readers see them whole."""
    path = tmp_path / "state.db"
    orchestrator = orchestrator_on(path)

    result = await orchestrator.execute_dag(dag())

    assert result["results"]["c"] == {"got": {"a": 300_000, "b": 300_000}}
    assert result["results"]["a"] == {"text": LARGE}
    assert await orchestrator.load_output("reading-1", "b") == {"text": LARGE}
    await orchestrator.aclose()
    assert path.stat().st_size < 2 * len(LARGE)


async def test_results_are_a_mapping_of_every_completed_task(tmp_path: Path) -> None:
    """It can be counted, walked and asked, and an unknown task is a KeyError."""
    result = await orchestrator_on(tmp_path / "state.db").execute_dag(dag())

    results = result["results"]

    assert list(results) == ["a", "b", "c"]
    assert len(results) == 3
    assert repr(results) == "Results(a, b, c)"
    with pytest.raises(KeyError):
        results["nope"]


async def test_another_object_on_the_same_file_reads_everything(tmp_path: Path) -> None:
    """Status, tasks, events, graph, result and metrics agree with what the driver said."""
    path = tmp_path / "state.db"
    result = await orchestrator_on(path).execute_dag(dag())
    reader = create_advanced_task_orchestrator(state_manager=SqliteStorage(path))

    status = await reader.load_status("reading-1")
    rows = await reader.load_tasks("reading-1")
    events = await reader.load_events("reading-1")
    graph = await reader.load_dag("reading-1")
    again = await reader.load_result("reading-1")
    metrics = await reader.load_metrics()
    listed = await reader.list_orchestrations(states=["completed"])
    await reader.aclose()

    assert status["state"] == "completed"
    assert status["progress_percentage"] == 100.0
    assert status["goal"] == "Read it"
    assert [(row.task_id, row.status, row.attempt) for row in rows] == [
        ("a", TaskStatus.COMPLETED, 1),
        ("b", TaskStatus.COMPLETED, 1),
        ("c", TaskStatus.COMPLETED, 1),
    ]
    assert [recorded.seq for recorded in events] == list(range(1, len(events) + 1))
    assert graph == result["dag"]
    assert again["results"]["c"] == result["results"]["c"]
    assert (
        again["performance_metrics"]["makespan_seconds"] == result["performance_metrics"]["makespan_seconds"]
    )
    assert metrics["success_rate"] == 100.0
    assert metrics["tasks_by_status"]["completed"] == 3
    assert [entry["orchestration_id"] for entry in listed] == ["reading-1"]


async def test_what_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    """Each refusal says what there is."""
    orchestrator = orchestrator_on(tmp_path / "state.db", max_concurrent_tasks=1)
    graph = dag()
    graph.add_task(TaskNode(task_id="late", tool="crunch"))
    graph.add_dependency(TaskEdge("c", "late", condition="false"))
    await orchestrator.execute_dag(graph)

    with pytest.raises(OrchestrationNotFoundError, match="There is no orchestration 'nope'"):
        await orchestrator.load_status("nope")
    with pytest.raises(TaskNotFoundError, match=r"'reading-1' has no task 'z'. It has: a, b, c, late\."):
        await orchestrator.load_output("reading-1", "z")
    with pytest.raises(
        NotPossibleError, match=r"Task 'late' is skipped, so it can't be read\. Only completed"
    ):
        await orchestrator.load_output("reading-1", "late")
    await orchestrator.aclose()


async def test_metrics_sample_the_process_only_where_that_is_wanted(tmp_path: Path) -> None:
    """`enable_resource_monitoring: false` means no sampling."""
    with_it = create_advanced_task_orchestrator()
    without = create_advanced_task_orchestrator(
        settings=OrchestratorOptions(enable_resource_monitoring=False)
    )

    assert with_it.get_performance_metrics()["process"]["memory_mb"] > 1
    assert "process" not in without.get_performance_metrics()


async def test_computing_threads_and_a_busy_loop_do_not_starve_the_journal(tmp_path: Path) -> None:
    """Sync callables that compute keep the interpreter busy; commits still get through."""
    orchestrator = orchestrator_on(tmp_path / "state.db", max_concurrent_tasks=8)
    graph = TaskDAG("busy")
    for index in range(60):
        graph.add_task(TaskNode(task_id=f"t{index}", tool="crunch"))

    async def spin() -> None:
        while True:
            sum(range(20_000))
            await anyio.lowlevel.checkpoint()

    await orchestrator.storage.open()
    async with anyio.create_task_group() as group:
        group.start_soon(spin)
        with anyio.fail_after(60):
            result = await orchestrator.execute_dag(graph)
        group.cancel_scope.cancel()
    await orchestrator.aclose()

    assert result["performance_metrics"]["tasks_completed"] == 60


def test_a_process_is_gone_when_its_pid_is_free_or_belongs_to_a_later_one() -> None:
    """Of this process it is known that it lives; of another host nothing is."""
    me = this_process("x")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    def like_me(**changes: Any) -> DriverIdentity:
        fields = {"host": me.host, "boot_id": me.boot_id, "pid": me.pid, "process_start": me.process_start}
        return DriverIdentity(instance="y", **{**fields, **changes})

    assert is_gone(me) is False
    assert is_gone(like_me(pid=ended.pid)) is True
    assert is_gone(like_me(process_start=me.process_start + 1)) is True
    assert is_gone(like_me(boot_id="an earlier start")) is True
    assert is_gone(like_me(host="elsewhere", pid=ended.pid)) is False
    assert str(me) == f"process {me.pid} on {me.host}"


def test_a_zombie_is_gone_too() -> None:
    """A process that ended but was not waited for can't drive anything any more."""
    me = this_process("x")
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    zombie = DriverIdentity(host=me.host, boot_id=me.boot_id, pid=child.pid, process_start=1, instance="z")

    gone = is_gone(zombie)
    child.wait()

    assert gone is True
