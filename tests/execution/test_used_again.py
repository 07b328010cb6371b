"""Outputs used again: the cache, and the results of an earlier orchestration of an edited DAG."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestration import AdvancedTaskOrchestrator, CachePolicy, TaskDAG, TaskEdge, TaskNode
from orchestration.errors import InvalidDagError, OrchestrationNotFoundError
from orchestration.execution.memory_storage import MemoryStorage
from orchestration.models import Acceptance

pytestmark = pytest.mark.anyio

Make = Callable[..., AdvancedTaskOrchestrator]


class Counting:
    """Functions that count their calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def one(self, n: int = 1) -> int:
        self.calls.append(f"one({n})")
        return n

    async def add(self, a: int, b: int) -> int:
        self.calls.append(f"add({a},{b})")
        return a + b

    async def seen(self, context: dict[str, Any]) -> str:
        self.calls.append("seen")
        return str(context)

    def functions(self) -> dict[str, Callable[..., Any]]:
        return {"one": self.one, "add": self.add, "seen": self.seen}


def cached(tool: str = "one", ttl: float = 60.0, **arguments: Any) -> TaskDAG:
    dag = TaskDAG("c")
    dag.add_task(TaskNode("a", tool=tool, arguments=arguments, cache=CachePolicy(ttl)))
    return dag


def sums(first: int = 1, second: int = 10, third: int = 100) -> TaskDAG:
    dag = TaskDAG("sums")
    dag.add_task(TaskNode("x", tool="one", arguments={"n": first}))
    dag.add_task(TaskNode("y", tool="one", arguments={"n": second}))
    dag.add_task(TaskNode("xy", tool="add", arguments={"a": "${x}", "b": "${y}"}))
    dag.add_task(TaskNode("z", tool="add", arguments={"a": "${xy}", "b": third}))
    dag.add_dependency(TaskEdge("x", "xy"))
    dag.add_dependency(TaskEdge("y", "xy"))
    dag.add_dependency(TaskEdge("xy", "z"))
    return dag


async def test_an_equal_task_takes_the_cached_output(make: Make) -> None:
    """Of another orchestration; no attempt is made, and the note says whose it is."""
    counting = Counting()
    orchestrator = make(counting.functions(), state_manager=MemoryStorage())

    await orchestrator.execute_dag(cached(n=7))
    second = await orchestrator.execute_dag(cached(n=7))
    (row,) = await orchestrator.load_tasks("c-2")

    assert second["results"]["a"] == 7
    assert counting.calls == ["one(7)"]
    assert (row.attempt, row.note) == (0, "cached: the output of c-1:a")


async def test_other_arguments_or_another_context_are_not_equal(make: Make) -> None:
    """Functions see the context, so it counts."""
    counting = Counting()
    orchestrator = make(counting.functions(), state_manager=MemoryStorage())

    for n in (1, 2):
        await orchestrator.execute_dag(cached(n=n))
    for city in ("Bern", "Graz"):
        await orchestrator.execute_dag(cached("seen"), context={"city": city})

    assert counting.calls == ["one(1)", "one(2)", "seen", "seen"]


async def test_a_cached_output_expires(make: Make) -> None:
    """After its time to live, on virtual time."""
    import anyio

    counting = Counting()
    orchestrator = make(counting.functions(), state_manager=MemoryStorage())

    await orchestrator.execute_dag(cached(ttl=60.0))
    await anyio.sleep(59)
    await orchestrator.execute_dag(cached(ttl=60.0))
    await anyio.sleep(2)
    await orchestrator.execute_dag(cached(ttl=60.0))

    assert counting.calls == ["one(1)", "one(1)"]


async def test_failures_are_not_cached(make: Make) -> None:
    """Only accepted successes are stored."""
    calls = []

    async def work() -> None:
        calls.append(1)
        raise TypeError("a mistake")

    orchestrator = make({"work": work}, state_manager=MemoryStorage())

    await orchestrator.execute_dag(cached("work"))
    await orchestrator.execute_dag(cached("work"))

    assert len(calls) == 2


async def test_what_must_not_be_repeated_is_not_cached(make: Make) -> None:
    """A cached result would stand for an effect that never came."""
    dag = cached()
    dag.nodes["a"] = replace(dag.nodes["a"], idempotent=False)

    with pytest.raises(InvalidDagError, match=r"tasks\[a\].cache: is set together with `idempotent: false`"):
        await make(Counting().functions()).execute_dag(dag)


async def test_an_edited_dag_runs_only_what_changed_and_what_depends_on_it(make: Make) -> None:
    """The rest is completed by the earlier outputs; the result says how many."""
    counting = Counting()
    orchestrator = make(counting.functions(), state_manager=MemoryStorage())
    await orchestrator.execute_dag(sums())
    counting.calls.clear()

    result = await orchestrator.execute_dag(sums(second=20), reuse="sums-1")
    rows = {row.task_id: row for row in await orchestrator.load_tasks("sums-2")}

    assert result["results"] == {"x": 1, "y": 20, "xy": 21, "z": 121}
    assert counting.calls == ["one(20)", "add(1,20)", "add(21,100)"]
    assert (rows["x"].attempt, rows["x"].note) == (0, "reused: the output of sums-1:x")
    assert (result["performance_metrics"]["tasks_reused"], result["warnings"]) == (1, [])


async def test_what_must_hold_more_than_before_is_done_again(make: Make) -> None:
    """Nobody looked at the earlier output for what is asked of it now."""
    counting = Counting()
    orchestrator = make(counting.functions(), state_manager=MemoryStorage())
    await orchestrator.execute_dag(sums())
    counting.calls.clear()
    stricter = sums()
    stricter.nodes["x"] = replace(stricter.nodes["x"], acceptance=Acceptance(condition="output == 1"))

    result = await orchestrator.execute_dag(stricter, reuse="sums-1")

    assert result["success"]
    assert counting.calls[0] == "one(1)"
    assert "one(10)" not in counting.calls


async def test_a_failed_run_is_gone_on_with_by_reusing_it(make: Make) -> None:
    """Fix the DAG, keep what was done."""
    counting = Counting()
    orchestrator = make(counting.functions(), state_manager=MemoryStorage())
    broken = sums()
    broken.nodes["z"] = TaskNode("z", tool="add", arguments={"a": "${xy}"}, max_retries=0)
    failed = await orchestrator.execute_dag(broken)
    counting.calls.clear()

    result = await orchestrator.execute_dag(sums(), reuse="sums-1")

    assert (failed["success"], result["success"]) == (False, True)
    assert counting.calls == ["add(11,100)"]


async def test_an_unchanged_dag_runs_nothing(make: Make) -> None:
    """It completes by what there is."""
    counting = Counting()
    orchestrator = make(counting.functions(), state_manager=MemoryStorage())
    await orchestrator.execute_dag(sums())
    counting.calls.clear()

    result = await orchestrator.execute_dag(sums(), reuse="sums-1")

    assert counting.calls == []
    assert result["results"] == {"x": 1, "y": 10, "xy": 11, "z": 111}
    assert result["success"] is True


async def test_conditions_are_decided_anew_by_reused_outputs(make: Make) -> None:
    """A new condition sees the old value."""
    counting = Counting()
    orchestrator = make(counting.functions(), state_manager=MemoryStorage())
    await orchestrator.execute_dag(sums())
    counting.calls.clear()
    edited = sums()
    edited.edges[2] = TaskEdge("xy", "z", condition="output > 1000.0")

    result = await orchestrator.execute_dag(edited, reuse="sums-1")

    assert counting.calls == []
    assert result["dag"].nodes["z"].status.value == "skipped"


async def test_another_context_reuses_nothing_and_says_so(make: Make) -> None:
    """Whatever a task makes of it."""
    counting = Counting()
    orchestrator = make(counting.functions(), state_manager=MemoryStorage())
    await orchestrator.execute_dag(sums(), context={"day": "monday"})
    counting.calls.clear()

    result = await orchestrator.execute_dag(sums(), context={"day": "tuesday"}, reuse="sums-1")

    assert len(counting.calls) == 4
    assert result["warnings"] == ["Nothing of sums-1 is reused: its context was another one."]


async def test_a_changed_declaration_is_not_reused(make: Make) -> None:
    """The same name does something else now."""
    storage = MemoryStorage()
    await make(Counting().functions(), state_manager=storage).execute_dag(sums())
    calls: list[int] = []

    async def another(n: int = 1) -> int:
        calls.append(n)
        return -n

    functions = Counting().functions() | {"one": another}
    result = await make(functions, state_manager=storage).execute_dag(sums(), reuse="sums-1")

    assert sorted(calls) == [1, 10]
    assert result["results"]["z"] == 89


async def test_what_shapes_only_how_a_task_runs_may_differ(make: Make) -> None:
    """Priorities, estimates and limits change no output."""
    counting = Counting()
    orchestrator = make(counting.functions(), state_manager=MemoryStorage())
    await orchestrator.execute_dag(sums())
    counting.calls.clear()
    edited = sums()
    for name, node in edited.nodes.items():
        edited.nodes[name] = replace(node, estimated_time_seconds=5.0, timeout_seconds=9.0, max_retries=1)

    await orchestrator.execute_dag(edited, reuse="sums-1")

    assert counting.calls == []


async def test_a_dag_of_which_nothing_is_the_same_says_that_nothing_was_reused(make: Make) -> None:
    """The wish could not be met, so it is a warning."""
    counting = Counting()
    orchestrator = make(counting.functions(), state_manager=MemoryStorage())
    await orchestrator.execute_dag(sums())

    result = await orchestrator.execute_dag(sums(5, 6), reuse="sums-1")

    assert result["warnings"] == ["Nothing of sums-1 could be reused: every task has changed."]


async def test_reusing_what_is_not_there_is_refused(make: Make) -> None:
    """Nothing is started."""
    orchestrator = make(Counting().functions(), state_manager=MemoryStorage())

    with pytest.raises(OrchestrationNotFoundError, match="There is no orchestration 'nowhere-1'"):
        await orchestrator.execute_dag(sums(), reuse="nowhere-1")

    assert await orchestrator.list_orchestrations() == []


async def test_a_function_that_changes_its_arguments_is_cached_under_what_it_was_given(make: Make) -> None:
    """The key is made before the call."""

    async def total(numbers: list[int]) -> int:
        result = sum(numbers)
        numbers.clear()
        return result

    orchestrator = make({"total": total}, state_manager=MemoryStorage())

    await orchestrator.execute_dag(cached("total", numbers=[1, 2]))
    other = await orchestrator.execute_dag(cached("total", numbers=[]))

    assert other["results"]["a"] == 0


async def test_a_task_that_wants_a_younger_output_does_not_take_an_old_one(make: Make) -> None:
    """Its own time to live counts, not that of whoever stored it."""
    import anyio

    counting = Counting()
    orchestrator = make(counting.functions(), state_manager=MemoryStorage())

    await orchestrator.execute_dag(cached(ttl=3600.0))
    await anyio.sleep(10)
    await orchestrator.execute_dag(cached(ttl=5.0))

    assert counting.calls == ["one(1)", "one(1)"]


async def test_a_controller_is_told_more_than_the_arguments_so_more_must_be_equal(make: Make) -> None:
    """Its answer depends on the task's words."""

    class Controller:
        async def process_task(self, description: str, context: Any = None) -> dict[str, Any]:
            return {"success": True, "result": {"response": description}}

    orchestrator = make({}, unified_controller=Controller(), state_manager=MemoryStorage())

    async def asked(words: str) -> Any:
        dag = TaskDAG("w")
        dag.add_task(TaskNode("a", words, tool="t", cache=CachePolicy(60.0), system_preference="controller"))
        return (await orchestrator.execute_dag(dag))["results"]["a"]

    assert await asked("Sum up A") != await asked("Sum up B")
