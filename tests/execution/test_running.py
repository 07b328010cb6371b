"""What running a DAG does, end to end through the façade, on virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from orchestration import (
    AdvancedTaskOrchestrator,
    AttemptFailedError,
    NotPossibleError,
    OrchestrationInterruptedError,
    OrchestrationMode,
    OrchestrationNotFoundError,
    TaskDAG,
    TaskEdge,
    TaskNode,
    TaskStatus,
    UnroutableTaskError,
)
from orchestration.engine.events import AttemptStarted, AttemptSucceeded, Recorded

pytestmark = pytest.mark.anyio

Make = Callable[..., AdvancedTaskOrchestrator]


def graph(*tasks: TaskNode, edges: list[tuple[str, str] | TaskEdge] | None = None) -> TaskDAG:
    dag = TaskDAG("g")
    for task in tasks:
        dag.add_task(task)
    for edge in edges or []:
        dag.add_dependency(edge if isinstance(edge, TaskEdge) else TaskEdge(*edge))
    return dag


def node(task_id: str, tool: str = "work", **fields: Any) -> TaskNode:
    return TaskNode(task_id=task_id, tool=tool, **fields)


async def test_independent_tasks_run_at_once_and_dependents_wait(make: Make) -> None:
    """Two tasks of 10 s side by side and one after both take 20 s."""

    async def work() -> str:
        await anyio.sleep(10)
        return "done"

    orchestrator = make({"work": work})
    dag = graph(node("a"), node("b"), node("c"), edges=[("a", "c"), ("b", "c")])

    result = await orchestrator.execute_dag(dag)

    assert result["success"] is True
    assert result["performance_metrics"]["makespan_seconds"] == pytest.approx(20, abs=0.01)
    assert result["performance_metrics"]["speedup"] == pytest.approx(1.5, abs=0.01)
    assert result["performance_metrics"]["parallel_efficiency"] == pytest.approx(1.0, abs=0.01)
    assert result["results"] == {"a": "done", "b": "done", "c": "done"}


async def test_never_more_attempts_run_than_there_are_slots(make: Make) -> None:
    """With three slots, twenty ready tasks run three at a time."""
    running = 0
    most = 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1

    orchestrator = make({"work": work}, max_concurrent_tasks=3)

    result = await orchestrator.execute_dag(graph(*(node(f"t{i}") for i in range(20))))

    assert most == 3
    assert result["performance_metrics"]["makespan_seconds"] == pytest.approx(7, abs=0.01)


async def test_data_flows_along_edges_and_into_references(make: Make) -> None:
    """A reference keeps its value's type, inside a text it is put in, and `inputs` holds the required keys."""

    async def source() -> dict[str, Any]:
        return {"rows": [1, 2, 3], "name": "x", "unused": True}

    async def sink(rows: list[int], title: str, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"sum": sum(rows), "title": title, "inputs": inputs}

    orchestrator = make({"source": source, "sink": sink})
    dag = graph(
        node("a", "source"),
        node("b", "sink", arguments={"rows": "${a.rows}", "title": "table ${a.name} of ${a.rows[0]}"}),
        edges=[TaskEdge("a", "b", data_requirements=["rows"])],
    )

    result = await orchestrator.execute_dag(dag)

    assert result["results"]["b"] == {"sum": 6, "title": "table x of 1", "inputs": {"a": {"rows": [1, 2, 3]}}}


async def test_a_task_can_not_change_what_another_sees(make: Make) -> None:
    """Each dependent gets a copy of its own."""

    async def source() -> list[int]:
        return [1]

    async def spoil(items: list[int]) -> int:
        items.append(99)
        return len(items)

    orchestrator = make({"source": source, "spoil": spoil}, max_concurrent_tasks=1)
    spoilers = [node(f"s{i}", "spoil", arguments={"items": "${a}"}) for i in range(3)]

    result = await orchestrator.execute_dag(
        graph(node("a", "source"), *spoilers, edges=[("a", f"s{i}") for i in range(3)])
    )

    assert [result["results"][f"s{i}"] for i in range(3)] == [2, 2, 2]
    assert result["results"]["a"] == [1]


async def test_a_reference_over_a_dead_edge_is_null_although_the_output_exists(make: Make) -> None:
    """What an edge did not deliver, nobody reads."""

    async def source() -> dict[str, int]:
        return {"rows": 0}

    async def sink(rows: int | None) -> str:
        return repr(rows)

    orchestrator = make({"source": source, "sink": sink})
    dag = graph(
        node("a", "source"),
        node("b", "sink", arguments={"rows": "${a.rows}"}),
        edges=[TaskEdge("a", "b", is_optional=True, condition="output.rows > 0")],
    )

    result = await orchestrator.execute_dag(dag)

    assert result["results"]["b"] == "None"


async def test_a_retryable_failure_is_retried_until_it_works(make: Make) -> None:
    """attempts = 1 + max_retries, with back-off between them."""
    calls: list[float] = []

    async def flaky() -> int:
        calls.append(anyio.current_time())
        if len(calls) < 3:
            raise AttemptFailedError("not yet")
        return len(calls)

    orchestrator = make({"flaky": flaky})

    result = await orchestrator.execute_dag(graph(node("a", "flaky", max_retries=2)))

    assert result["success"] is True
    assert result["results"]["a"] == 3
    assert calls[1] - calls[0] <= 1.0
    assert calls[2] - calls[1] <= 2.0


async def test_a_failure_lets_the_rest_finish_and_every_reason_is_listed(make: Make) -> None:
    """What requires a failed task is skipped; what does not is not."""

    async def bad() -> None:
        raise AttemptFailedError("no such table", "no_table", retryable=False)

    async def work() -> int:
        return 1

    orchestrator = make({"bad": bad, "work": work})
    dag = graph(node("a", "bad"), node("b"), node("c"), edges=[("a", "b")])

    result = await orchestrator.execute_dag(dag)

    assert result["success"] is False
    assert result["state"] == "failed"
    assert result["errors"] == {
        "a": {
            "code": "no_table",
            "message": "no such table",
            "retryable": False,
            "attempt": 1,
            "system": "python",
        }
    }
    assert {task_id: task.status for task_id, task in result["dag"].nodes.items()} == {
        "a": TaskStatus.FAILED,
        "b": TaskStatus.SKIPPED,
        "c": TaskStatus.COMPLETED,
    }


async def test_a_failed_task_with_only_optional_dependents_is_tolerated(make: Make) -> None:
    """The orchestration completes, and the error is still listed."""

    async def bad() -> None:
        raise AttemptFailedError("gone", retryable=False)

    async def work() -> int:
        return 1

    orchestrator = make({"bad": bad, "work": work})
    dag = graph(node("a", "bad"), node("b"), edges=[TaskEdge("a", "b", is_optional=True)])

    result = await orchestrator.execute_dag(dag)

    assert result["success"] is True
    assert list(result["errors"]) == ["a"]


async def test_an_attempt_over_its_time_is_stopped_and_tried_again(make: Make) -> None:
    """The time limit holds per attempt; the failure says so."""
    calls = 0
    stopped = 0

    async def slow() -> None:
        nonlocal calls, stopped
        calls += 1
        try:
            await anyio.sleep(3600)
        finally:
            stopped += 1

    orchestrator = make({"slow": slow})

    result = await orchestrator.execute_dag(graph(node("a", "slow", timeout_seconds=5, max_retries=1)))

    assert (calls, stopped) == (2, 2)
    assert result["errors"]["a"]["code"] == "timeout"
    assert result["errors"]["a"]["message"] == "Attempt 2 ran out of its 5 s."
    assert result["performance_metrics"]["work_seconds"] == pytest.approx(10, abs=0.01)


async def test_an_attempt_that_will_not_stop_is_abandoned_and_its_slot_goes_on(make: Make) -> None:
    """After the grace period the slot is free again and the error says that work may continue."""

    async def stubborn() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(1000)

    async def work() -> float:
        return anyio.current_time()

    orchestrator = make({"stubborn": stubborn, "work": work}, max_concurrent_tasks=1)
    dag = graph(
        node("a", "stubborn", timeout_seconds=5, max_retries=0),
        node("b"),
        edges=[TaskEdge("a", "b", is_optional=True)],
    )

    async with orchestrator:
        start = anyio.current_time()
        created = await orchestrator.submit(dag)
        result = await orchestrator.wait(created)

    assert result["results"]["b"] - start == pytest.approx(15, abs=0.01)
    assert "did not stop: work may continue at python" in result["errors"]["a"]["message"]


async def test_simple_mode_runs_one_at_a_time_in_topological_order(make: Make) -> None:
    """A task that waits for its back-off holds its place."""
    order: list[str] = []

    async def flaky() -> None:
        order.append("flaky")
        if len(order) < 2:
            raise AttemptFailedError("again")

    async def work() -> None:
        order.append("work")
        await anyio.sleep(1)

    orchestrator = make({"flaky": flaky, "work": work})

    result = await orchestrator.execute_dag(graph(node("a", "flaky"), node("b"), node("c")), mode="SIMPLE")

    assert order == ["flaky", "flaky", "work", "work"]
    assert result["performance_metrics"]["concurrency"] == 1


async def test_pause_lets_running_attempts_finish_and_starts_nothing(make: Make) -> None:
    """After resume the rest runs."""
    started: list[str] = []

    async def work(name: str) -> None:
        started.append(name)
        await anyio.sleep(10)

    orchestrator = make({"work": work})
    dag = graph(node("a", arguments={"name": "a"}), node("b", arguments={"name": "b"}), edges=[("a", "b")])
    async with orchestrator:
        created = await orchestrator.submit(dag)
        await anyio.sleep(1)

        await orchestrator.pause(created)
        await anyio.sleep(100)
        paused = orchestrator.get_orchestration_status(created)
        await orchestrator.resume(created)
        result = await orchestrator.wait(created)

    assert paused["state"] == "paused"
    assert paused["counts"] == {"completed": 1, "ready": 1}
    assert started == ["a", "b"]
    assert result["success"] is True


async def test_cancel_ends_what_runs_and_what_waits(make: Make) -> None:
    """The running attempt is cancelled, the waiting task never starts."""
    ended: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep(1000)
        finally:
            ended.append("stopped")

    orchestrator = make({"work": work})
    async with orchestrator:
        created = await orchestrator.submit(graph(node("a"), node("b"), edges=[("a", "b")]))
        await anyio.sleep(1)

        first = await orchestrator.cancel_orchestration(created, "enough")
        result = await orchestrator.wait(created)
        second = await orchestrator.cancel_orchestration(created)

    assert (first, second) == (True, False)
    assert ended == ["stopped"]
    assert result["state"] == "cancelled"
    assert result["success"] is False
    assert {task.status for task in result["dag"].nodes.values()} == {TaskStatus.CANCELLED}


async def test_status_tells_what_is_committed_while_it_runs(make: Make) -> None:
    """Progress, running tasks and the estimate of the remaining time are there by their promised names."""

    async def work() -> None:
        await anyio.sleep(10)

    orchestrator = make({"work": work}, max_concurrent_tasks=1)
    dag = graph(
        node("a", estimated_time_seconds=10), node("b", estimated_time_seconds=10), edges=[("a", "b")]
    )
    async with orchestrator:
        created = await orchestrator.submit(dag)
        await anyio.sleep(15)
        status = orchestrator.get_orchestration_status(created)
        await orchestrator.wait(created)
        final = orchestrator.get_orchestration_status(created)

    assert status["progress_percentage"] == 50.0
    assert status["current_running_tasks"] == ["b"]
    assert status["estimated_completion_time"] == pytest.approx(10, abs=0.01)
    assert status["counts"] == {"running": 1, "completed": 1}
    assert final["progress_percentage"] == 100.0
    assert final["state"] == "completed"
    assert final["estimated_completion_time"] == 0.0


async def test_an_unknown_orchestration_is_refused_by_name(make: Make) -> None:
    """The refusal says how to list those there are."""
    orchestrator = make({})

    with pytest.raises(OrchestrationNotFoundError) as caught:
        orchestrator.get_orchestration_status("nope-1")

    assert str(caught.value) == (
        "There is no orchestration 'nope-1'. Fix: list them (`advanced-orchestration list`, or "
        "get_orchestration_status without an id)."
    )


async def test_the_same_key_gives_the_same_orchestration(make: Make) -> None:
    """A repeated submission runs nothing twice; with other arguments it is refused."""
    calls = 0

    async def work() -> int:
        nonlocal calls
        calls += 1
        return calls

    orchestrator = make({"work": work})
    async with orchestrator:
        first = await orchestrator.submit(graph(node("a")), key="k")
        await orchestrator.wait(first)
        second = await orchestrator.submit(graph(node("a")), key="k")
        again = await orchestrator.wait(second)
        with pytest.raises(Exception, match="was used for 'g-1' with other arguments"):
            await orchestrator.submit(graph(node("b")), key="k")

    assert first == second
    assert calls == 1
    assert again["results"]["a"] == 1


async def test_leaving_the_session_interrupts_what_runs_and_wait_says_so(make: Make) -> None:
    """The orchestration stays resumable, and a later `resume` finishes it under the next attempt."""
    calls = 0

    async def work() -> int:
        nonlocal calls
        calls += 1
        await anyio.sleep(100)
        return calls

    orchestrator = make({"work": work})
    caught: list[Exception] = []

    async def waiter(created: str) -> None:
        try:
            await orchestrator.wait(created)
        except OrchestrationInterruptedError as exc:
            caught.append(exc)

    async with anyio.create_task_group() as group, orchestrator:
        created = await orchestrator.submit(graph(node("a")))
        group.start_soon(waiter, created)
        await anyio.sleep(10)

    await orchestrator.resume(created)
    result = await orchestrator.load_result(created)

    assert [str(exc) for exc in caught] == [
        f"Orchestration {created!r} was interrupted before it ended. Fix: resume it."
    ]
    assert result["results"]["a"] == 2
    assert result["performance_metrics"]["attempts"] == 2


async def test_resuming_what_has_ended_is_refused(make: Make) -> None:
    """The refusal names the state."""

    async def work() -> None: ...

    orchestrator = make({"work": work})
    result = await orchestrator.execute_dag(graph(node("a")))

    with pytest.raises(NotPossibleError, match="is completed, so it can't be resumed"):
        await orchestrator.resume(result["orchestration_id"])


async def test_a_task_nothing_can_run_is_refused_before_anything_starts(make: Make) -> None:
    """The refusal names both ways to give it a system."""
    started: list[int] = []

    async def work() -> None:
        started.append(1)

    orchestrator = make({"work": work})

    with pytest.raises(UnroutableTaskError) as caught:
        await orchestrator.execute_dag(graph(node("a"), node("b", "teleport")))

    assert started == []
    assert "teleport" in str(caught.value)
    assert "unified_controller=" in str(caught.value)
    assert "systems=" in str(caught.value)


async def test_listeners_hear_every_event_once_it_is_durable_and_can_not_hold_it_up(make: Make) -> None:
    """A listener that raises or hangs changes nothing."""

    async def work() -> None: ...

    heard: list[Recorded] = []

    async def listen(recorded: Recorded) -> None:
        heard.append(recorded)
        if isinstance(recorded.event, AttemptStarted):
            raise RuntimeError("listener's own fault")
        if isinstance(recorded.event, AttemptSucceeded):
            await anyio.sleep(math.inf)

    orchestrator = make({"work": work})
    async with orchestrator:
        with anyio.fail_after(5):
            created = await orchestrator.submit(graph(node("a"), node("b")), on_event=listen)
            result = await orchestrator.wait(created)

    assert result["success"] is True
    assert isinstance(heard[0].event, AttemptStarted)


async def test_calls_side_by_side_share_the_slots(make: Make) -> None:
    """Two calls without `async with` never run more than the limit together."""
    running = 0
    most = 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1

    orchestrator = make({"work": work}, max_concurrent_tasks=2)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(orchestrator.execute_dag, graph(*(node(f"t{i}") for i in range(4))))

    assert most == 2
    assert orchestrator.get_performance_metrics()["successful_orchestrations"] == 3


async def test_an_exception_of_the_callers_body_comes_out_unwrapped(make: Make) -> None:
    """`async with orchestrator` adds no ExceptionGroup to what the caller raises."""
    orchestrator = make({})

    with pytest.raises(OrchestrationNotFoundError):
        async with orchestrator:
            orchestrator.get_orchestration_status("nope")


async def test_an_output_that_is_no_json_fails_its_task_once(make: Make) -> None:
    """NaN and objects without a JSON form are refused with what to do, and not retried."""
    calls = 0

    async def bad() -> float:
        nonlocal calls
        calls += 1
        return math.nan

    orchestrator = make({"bad": bad})

    result = await orchestrator.execute_dag(graph(node("a", "bad")))

    assert calls == 1
    assert result["errors"]["a"]["code"] == "output_not_json"


async def test_modes_are_taken_by_name_in_any_case_and_others_refused(make: Make) -> None:
    """The refusal lists the modes."""

    async def work() -> None: ...

    orchestrator = make({"work": work})

    result = await orchestrator.execute_dag(graph(node("a")), mode="Adaptive")
    with pytest.raises(Exception, match="mode is 'fast'; expected one of SIMPLE, HIERARCHICAL, ADAPTIVE"):
        await orchestrator.execute_dag(graph(node("a")), mode="fast")

    assert result["mode"] == OrchestrationMode.ADAPTIVE.value
