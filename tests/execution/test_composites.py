"""Tasks whose parts do their work: the items of a list, and the parts of a decomposed task, with real data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration import (
    CachePolicy,
    FunctionSystem,
    InvalidDagError,
    TaskDAG,
    TaskEdge,
    TaskNode,
)
from orchestration.errors import AttemptFailedError, UnroutableTaskError
from orchestration.models import Fallback, TaskStatus
from orchestration.ports import Retention
from tests.execution.durable import (
    Calls,
    assert_replayable,
    drawn,
    opened,
    orchestrator_over,
    statuses,
    until_asked,
    until_task,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The database needs asyncio, and real time."""
    return "asyncio"


async def make_list(count: int = 3) -> dict[str, Any]:
    return {"items": [{"number": number, "name": f"n{number}"} for number in range(count)]}


async def double(item: Any = None, index: int = -1, text: str = "") -> dict[str, Any]:
    return {"doubled": 2 * item["number"] if isinstance(item, dict) else item, "index": index, "text": text}


async def take(values: Any = None, inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"values": values, "inputs": inputs}


async def fail(item: Any = None) -> None:
    raise AttemptFailedError("it was meant to", "meant_to", retryable=False)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "make_list": make_list,
    "double": double,
    "take": take,
    "fail": fail,
}


def listed(
    count: int = 3, *, tool: str = "double", items: str | list[Any] = "${list.items}", **fields: Any
) -> TaskDAG:
    """Return list → each (one child per item) → sum."""
    dag = TaskDAG("listed")
    if isinstance(items, str):
        dag.add_task(TaskNode("list", tool="make_list", arguments={"count": count}))
    arguments = {"item": "${item}"} | fields.pop("arguments", {})
    dag.add_task(TaskNode("each", tool=tool, foreach=items, arguments=arguments, **fields))
    dag.add_task(TaskNode("sum", tool="take", arguments={"values": "${each}"}))
    if isinstance(items, str):
        dag.add_dependency(TaskEdge("list", "each"))
    dag.add_dependency(TaskEdge("each", "sum"))
    return dag


async def run(path: Path, dag: TaskDAG, functions: Any = FUNCTIONS, **options: Any) -> dict[str, Any]:
    async with opened(path, {"python": FunctionSystem(functions)}, **options) as orchestrator:
        result = await orchestrator.execute_dag(dag)
        await assert_replayable(orchestrator, result["orchestration_id"])
        return result


# Lists


@pytest.mark.parametrize("count", [0, 1, 3, 1_000])
async def test_a_task_is_done_for_each_item_and_its_output_is_theirs(tmp_path: Path, count: int) -> None:
    """In the order of the items, whichever ends first; nothing at all is a list, too."""
    result = await run(tmp_path, listed(count))

    assert result["success"] is True
    assert [each["doubled"] for each in result["results"]["each"]] == [2 * n for n in range(count)]
    assert len(result["results"]["sum"]["values"]) == count
    assert result["total_tasks"] == count + 2


async def test_a_list_that_is_too_long_fails_the_task_before_any_child_begins(tmp_path: Path) -> None:
    """A thousand and one."""
    result = await run(tmp_path, listed(1_001))

    assert result["success"] is False
    assert result["errors"]["each"]["code"] == "too_many_items"
    assert "has 1,001 items; at most 1,000 are allowed" in result["errors"]["each"]["message"]
    assert result["performance_metrics"]["attempts"] == 1


async def test_a_literal_list_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """Before anything is stored."""
    with pytest.raises(InvalidDagError, match=r"each.*foreach"):
        await run(tmp_path, listed(items=list(range(1_001))))


async def test_a_literal_list_needs_no_task_before(tmp_path: Path) -> None:
    """Whatever its items are."""
    items: list[Any] = ["a", 2, None, [1], {"number": 4}, "$${n}"]

    result = await run(tmp_path, listed(items=items))

    assert [each["doubled"] for each in result["results"]["each"]] == ["a", 2, None, [1], 8, "${n}"]


async def test_a_literal_list_may_name_outputs(tmp_path: Path) -> None:
    """As any arguments may."""
    dag = listed(items=["${list.items[1].name}", "of ${list.items[2].name}", {"number": 5}])
    dag.add_task(TaskNode("list", tool="make_list"))
    dag.add_dependency(TaskEdge("list", "each"))

    result = await run(tmp_path, dag)

    assert [each["doubled"] for each in result["results"]["each"]] == ["n1", "of n2", 10]


async def test_an_item_is_named_in_texts_and_whole(tmp_path: Path) -> None:
    """`${item}`, parts of it, and its place."""
    arguments = {"text": "${index}: ${item.name} of ${list.items[0].name}", "index": "${index}"}

    result = await run(tmp_path, listed(2, arguments=arguments))

    assert [(each["index"], each["text"]) for each in result["results"]["each"]] == [
        (0, "0: n0 of n0"),
        (1, "1: n1 of n0"),
    ]


@pytest.mark.parametrize(
    ("value", "kind"), [(None, "null"), (3, "a number"), ("abc", "a text"), ({}, "an object")]
)
async def test_what_is_no_list_fails_the_task(tmp_path: Path, value: Any, kind: str) -> None:
    """With what it is."""
    functions = {**FUNCTIONS, "make_list": lambda count: {"items": value}}

    result = await run(tmp_path, listed(), functions)

    assert result["errors"]["each"]["code"] == "not_a_list"
    assert f"that is {kind}; expected a list" in result["errors"]["each"]["message"]


async def test_conditions_see_the_list_of_outputs(tmp_path: Path) -> None:
    """On the edges behind it, as on any task's."""
    dag = listed(3)
    for name, condition in (("many", "size(output) > 2"), ("few", "size(output) <= 2")):
        dag.add_task(TaskNode(name, tool="take"))
        dag.add_dependency(TaskEdge("each", name, condition=condition))

    result = await run(tmp_path, dag)

    assert {
        task_id: node.status.value for task_id, node in result["dag"].nodes.items() if node.parent is None
    } == {
        "list": "completed",
        "each": "completed",
        "sum": "completed",
        "many": "completed",
        "few": "skipped",
    }


async def test_one_failed_item_fails_the_task_and_is_retried_alone(tmp_path: Path) -> None:
    """The others settle first, and stay done."""
    calls = Calls()

    async def pick(item: Any) -> int:
        if item["number"] == 1 and calls["pick"] <= 3:
            raise AttemptFailedError("not this one", "picky", retryable=False)
        return int(item["number"])

    async with opened(tmp_path, {"python": calls.system({**FUNCTIONS, "pick": pick})}) as orchestrator:
        failed = await orchestrator.execute_dag(listed(tool="pick"))
        reopened = await orchestrator.retry("listed-1", ["each[1]"])
        result = await orchestrator.wait("listed-1")
        await assert_replayable(orchestrator, "listed-1")

    assert failed["errors"]["each"]["code"] == "children_failed"
    assert "1 of its 3 parts failed: each[1]" in failed["errors"]["each"]["message"]
    assert set(reopened) == {"each", "each[1]", "sum"}
    assert result["results"]["each"] == [0, 1, 2]
    assert calls == {"make_list": 1, "pick": 4, "take": 1}


async def test_a_retry_of_the_task_itself_runs_what_failed_of_it(tmp_path: Path) -> None:
    """And nothing that is done."""
    calls = Calls()

    async def pick(item: Any) -> int:
        if item["number"] and calls["pick"] <= 3:
            raise AttemptFailedError("not this one", "picky", retryable=False)
        return int(item["number"])

    async with opened(tmp_path, {"python": calls.system({**FUNCTIONS, "pick": pick})}) as orchestrator:
        await orchestrator.execute_dag(listed(tool="pick"))
        await orchestrator.retry("listed-1", ["each"])
        result = await orchestrator.wait("listed-1")

    assert result["results"]["each"] == [0, 1, 2]
    assert calls["pick"] == 5


async def test_items_are_cached_one_by_one(tmp_path: Path) -> None:
    """A longer list runs what is new."""
    calls = Calls()
    dags = [listed(count, cache=CachePolicy(60.0)) for count in (2, 3)]

    async with opened(tmp_path, {"python": calls.system(FUNCTIONS)}) as orchestrator:
        results = [await orchestrator.execute_dag(dag) for dag in dags]
        rows = await orchestrator.load_tasks("listed-2", task_ids=["each[0]", "each[2]"])

    assert [len(result["results"]["each"]) for result in results] == [2, 3]
    assert calls["double"] == 3
    assert [row.note for row in rows] == ["cached: the output of listed-1:each[0]", None]


async def test_an_item_falls_back_alone(tmp_path: Path) -> None:
    """With its own item in the fallback's arguments."""
    dag = listed(2, tool="fail", fallback=Fallback(tool="double", arguments={"item": "${item}"}))

    result = await run(tmp_path, dag)

    assert [each["doubled"] for each in result["results"]["each"]] == [0, 2]


async def test_an_item_is_replaced_by_an_alternative_of_its_own(tmp_path: Path) -> None:
    """In ADAPTIVE mode; its output takes its place in the list."""

    class Collaborator:
        async def generate_alternative_plan(self, context: dict[str, Any], **_: Any) -> Any:
            tasks = [
                {"task_id": "first", "tool": "double", "arguments": {"item": "${item}", "index": "${index}"}},
                {
                    "task_id": "second",
                    "tool": "take",
                    "arguments": {"values": "${first}"},
                    "depends_on": ["first"],
                },
            ]
            return {"tasks": tasks, "delivers": "second"}

    async def pick(item: Any) -> Any:
        if item["number"] == 1:
            raise AttemptFailedError("not this one", "picky", retryable=False)
        return item["number"]

    async with opened(
        tmp_path,
        {"python": FunctionSystem({**FUNCTIONS, "pick": pick})},
        sequential_thinking=Collaborator(),
    ) as orchestrator:
        result = await orchestrator.execute_dag(listed(tool="pick"), mode="ADAPTIVE")
        await assert_replayable(orchestrator, "listed-1")
        assert await drawn(orchestrator, "listed-1")

    assert result["success"] is True
    first, second, third = result["results"]["each"]
    assert (first, third) == (0, 2)
    assert second["values"]["doubled"] == 2
    assert second["values"]["index"] == 1


# Parents


def parents() -> TaskDAG:
    """Return list → build (a, then b and c, c being a list again inside) → after."""
    dag = TaskDAG("parents")
    dag.add_task(TaskNode("list", tool="make_list"))
    dag.add_task(TaskNode("build"))
    dag.add_task(TaskNode("a", tool="take", parent="build", arguments={"values": "${list.items}"}))
    dag.add_task(TaskNode("b", tool="take", parent="build", arguments={"values": "${a.values[0].name}"}))
    dag.add_task(TaskNode("inner", parent="build"))
    dag.add_task(
        TaskNode("c", tool="double", parent="inner", foreach="${a.values}", arguments={"item": "${item}"})
    )
    dag.add_task(TaskNode("after", tool="take", arguments={"values": "${build}"}))
    dag.add_dependency(TaskEdge("list", "build"))
    dag.add_dependency(TaskEdge("a", "b"))
    dag.add_dependency(TaskEdge("a", "inner"))
    dag.add_dependency(TaskEdge("build", "after"))
    return dag


async def test_a_parent_hands_on_the_outputs_of_its_last_parts(tmp_path: Path) -> None:
    """By id, where there are several; of one alone its own. Composites count in no total."""
    result = await run(tmp_path, parents())

    doubled = [each["doubled"] for each in result["results"]["inner"]]
    assert doubled == [0, 2, 4]
    assert result["results"]["after"]["values"] == {
        "b": result["results"]["b"],
        "inner": result["results"]["inner"],
    }
    assert result["results"]["b"]["values"] == "n0"
    assert result["total_tasks"] == 7
    assert result["performance_metrics"]["tasks_completed"] == 7


async def test_progress_counts_what_runs(tmp_path: Path) -> None:
    """A list's children as soon as they are known, its parent never."""
    gate = anyio.Event()

    async def wait(item: Any) -> int:
        if item["number"] == 2:
            await gate.wait()
        return int(item["number"])

    async with opened(tmp_path, {"python": FunctionSystem({**FUNCTIONS, "wait": wait})}) as orchestrator:
        identifier = await orchestrator.submit(listed(tool="wait"))
        for task_id in ("each[0]", "each[1]"):
            await until_task(orchestrator, identifier, task_id, TaskStatus.COMPLETED)
        await until_task(orchestrator, identifier, "each[2]", TaskStatus.RUNNING)
        status = await orchestrator.load_status(identifier)
        live = orchestrator.get_orchestration_status(identifier)
        gate.set()
        await orchestrator.wait(identifier)
        ended = await orchestrator.load_status(identifier)

    assert status["total_tasks"] == 5
    assert status["counts"] == {"completed": 3, "running": 1, "pending": 1}
    assert status["progress_percentage"] == live["progress_percentage"] == 60.0
    assert (ended["total_tasks"], ended["progress_percentage"]) == (5, 100.0)


@pytest.mark.parametrize("dag", [listed(3), parents()], ids=["list", "parents"])
async def test_another_process_goes_on_in_the_middle(tmp_path: Path, dag: TaskDAG) -> None:
    """What is done is not done again, and the parts add up to the same."""
    calls = Calls()
    gate = anyio.Event()

    async def stall(item: Any = None, **_: Any) -> Any:
        if item["number"] == 1 and not gate.is_set():
            await anyio.sleep_forever()
        return await double(item)

    functions = {**FUNCTIONS, "double": stall}
    name = f"{dag.dag_id}-1"
    waiting = "each[1]" if dag.dag_id == "listed" else "c[1]"
    async with opened(tmp_path, {"python": calls.system(functions)}) as orchestrator:
        await orchestrator.submit(dag)
        for index, status in ((0, "completed"), (1, "running"), (2, "completed")):
            await until_task(orchestrator, name, f"{waiting[:-3]}[{index}]", TaskStatus(status))
    gate.set()

    async with opened(tmp_path, {"python": calls.system(functions)}) as orchestrator:
        taken = await orchestrator.resume_all()
        result = await orchestrator.wait(name)
        await assert_replayable(orchestrator, name)

    assert taken == [name]
    assert result["success"] is True
    assert calls["double"] == 4
    assert calls["make_list"] == 1


async def test_replaced_parts_keep_their_names_in_what_a_parent_hands_on(tmp_path: Path) -> None:
    """However often; and what an alternative does beside its end is no output of the parent."""
    answers = [
        {"tasks": [{"task_id": "worse", "tool": "fail"}]},
        {
            "tasks": [
                {"task_id": "start", "tool": "make_list"},
                {
                    "task_id": "end",
                    "tool": "take",
                    "arguments": {"values": "${start}"},
                    "depends_on": ["start"],
                },
                {"task_id": "aside", "tool": "take", "depends_on": ["start"]},
            ],
            "delivers": "end",
        },
    ]

    class Collaborator:
        async def generate_alternative_plan(self, **_: Any) -> Any:
            return answers.pop(0)

    dag = TaskDAG("parents")
    dag.add_task(TaskNode("build"))
    dag.add_task(TaskNode("x", tool="make_list", parent="build"))
    dag.add_task(TaskNode("y", tool="fail", description="Fail at first", parent="build"))

    async with opened(
        tmp_path, {"python": FunctionSystem(FUNCTIONS)}, sequential_thinking=Collaborator()
    ) as orchestrator:
        result = await orchestrator.execute_dag(dag, mode="ADAPTIVE")

    assert result["success"] is True
    assert set(result["results"]["build"]) == {"x", "y"}
    assert len(result["results"]["build"]["y"]["values"]["items"]) == 3


async def test_the_only_last_part_of_a_parent_stays_the_only_one(tmp_path: Path) -> None:
    """An alternative with a task aside does not change the form of the parent's output."""

    class Collaborator:
        async def generate_alternative_plan(self, **_: Any) -> Any:
            tasks = [{"task_id": "end", "tool": "make_list"}, {"task_id": "aside", "tool": "take"}]
            return {"tasks": tasks, "delivers": "end"}

    dag = TaskDAG("parents")
    dag.add_task(TaskNode("build"))
    dag.add_task(TaskNode("y", tool="fail", parent="build"))

    async with opened(
        tmp_path, {"python": FunctionSystem(FUNCTIONS)}, sequential_thinking=Collaborator()
    ) as orchestrator:
        result = await orchestrator.execute_dag(dag, mode="ADAPTIVE")

    assert list(result["results"]["build"]) == ["items"]


# Earlier results


def changed(dag: TaskDAG, task_id: str, **fields: Any) -> TaskDAG:
    """Return a copy in which one task is another one."""
    dag = dag.copy()
    dag.nodes[task_id] = replace(dag.nodes[task_id], **fields)
    return dag


async def reused(tmp_path: Path, first: TaskDAG, second: TaskDAG) -> tuple[dict[str, Any], Calls]:
    """Run one, then the other with what the first has done; return the second result and what it called."""
    calls = Calls()
    async with opened(tmp_path, {"python": calls.system(FUNCTIONS)}) as orchestrator:
        before = await orchestrator.execute_dag(first)
        calls.clear()
        result = await orchestrator.execute_dag(second, reuse=before["orchestration_id"])
        await assert_replayable(orchestrator, result["orchestration_id"])
        assert result["success"] is True
        assert dict(result["results"]).keys() >= set(second.nodes)
    return result, calls


async def test_a_list_that_is_the_same_is_reused_whole(tmp_path: Path) -> None:
    """And what depends on it."""
    result, calls = await reused(tmp_path, listed(), changed(listed(), "each", max_retries=7))

    assert calls == {}
    assert [each["doubled"] for each in result["results"]["sum"]["values"]] == [0, 2, 4]


@pytest.mark.parametrize(
    "fields",
    [
        {"arguments": {"item": "${index}"}},
        {"fallback": Fallback(tool="take")},
    ],
)
async def test_a_list_whose_work_may_differ_is_not_reused(tmp_path: Path, fields: dict[str, Any]) -> None:
    """Its items run again, all of them, and what depends on it."""
    _, calls = await reused(tmp_path, listed(), changed(listed(), "each", **fields))

    assert calls == {"double": 3, "take": 1}


async def test_another_literal_list_is_not_the_same(tmp_path: Path) -> None:
    """The items decide."""
    _, calls = await reused(tmp_path, listed(items=[1, 2]), listed(items=[1, 3]))

    assert calls == {"double": 2, "take": 1}


async def test_parts_are_reused_one_by_one(tmp_path: Path) -> None:
    """What changed inside runs, and what depends on the parent; the rest does not."""
    result, calls = await reused(tmp_path, parents(), changed(parents(), "b", description="otherwise"))

    assert calls == {"take": 2}
    assert [each["doubled"] for each in result["results"]["after"]["values"]["inner"]] == [0, 2, 4]


@pytest.mark.parametrize("task_id", ["after", "list"])
async def test_a_parent_is_reused_where_all_its_parts_are(tmp_path: Path, task_id: str) -> None:
    """So is what depends on it; where something before it changed, nothing of it is."""
    _, calls = await reused(tmp_path, parents(), changed(parents(), task_id, description="otherwise"))

    assert calls == ({"take": 1} if task_id == "after" else {"make_list": 1, "take": 3, "double": 3})


async def test_everything_may_be_reused(tmp_path: Path) -> None:
    """It ends at once."""
    result, calls = await reused(tmp_path, parents(), parents())

    assert calls == {}
    assert set(result["results"]["after"]["values"]) == {"b", "inner"}


async def test_a_part_more_or_less_makes_another_parent(tmp_path: Path) -> None:
    """Its output is another one."""
    more = parents()
    more.add_task(TaskNode("d", tool="take", parent="build"))

    result, calls = await reused(tmp_path, parents(), more)

    assert calls == {"take": 2}
    assert set(result["results"]["after"]["values"]) == {"b", "inner", "d"}


async def test_a_part_that_was_skipped_is_passed_over_again(tmp_path: Path) -> None:
    """A parent is reused with it."""
    dag = parents()
    dag.edges = [
        replace(edge, condition="false") if edge.target_task_id == "b" else edge for edge in dag.edges
    ]
    calls = Calls()

    async with opened(tmp_path, {"python": calls.system(FUNCTIONS)}) as orchestrator:
        before = await orchestrator.execute_dag(dag)
        calls.clear()
        result = await orchestrator.execute_dag(dag, reuse=before["orchestration_id"])
        found = await statuses(orchestrator, result["orchestration_id"])

    assert calls == {}
    assert (found["b"], found["after"]) == ("skipped", "completed")


async def test_what_a_fallback_made_is_reused_where_the_fallback_is_the_same(tmp_path: Path) -> None:
    """The same way to the same output."""
    dag = listed(1)
    dag.add_task(TaskNode("other", tool="fail", max_retries=0, fallback=Fallback(tool="make_list")))
    another = changed(dag, "other", fallback=Fallback(tool="make_list", arguments={"count": 2}))

    _, same = await reused(tmp_path, dag, dag)
    (tmp_path / "second").mkdir()
    _, different = await reused(tmp_path / "second", dag, another)

    assert same == {}
    assert different == {"fail": 1, "make_list": 1}


# What is needed, and what is kept


async def test_systems_of_fallbacks_are_needed_too(tmp_path: Path) -> None:
    """Whoever lacks one, or has another one under its name, does not go on with it; its status says why."""

    async def forever() -> None:
        await anyio.sleep_forever()

    async def otherwise() -> str:
        return "something else"

    dag = TaskDAG("needy")
    inner = Fallback(system_preference="far", tool="take")
    dag.add_task(
        TaskNode(
            "a", tool="forever", system_preference="near", fallback=Fallback(tool="make_list", fallback=inner)
        )
    )
    near = FunctionSystem({"forever": forever, "make_list": make_list}, "near")
    async with opened(tmp_path, {"near": near, "far": FunctionSystem(FUNCTIONS, "far")}) as orchestrator:
        await orchestrator.submit(dag)
        await until_task(orchestrator, "needy-1", "a", TaskStatus.RUNNING)
        record = await orchestrator.storage.load_orchestration("needy-1")

    assert {name: set(tools) for name, tools in record.needs.items()} == {
        "near": {"forever", "make_list"},
        "far": {"take"},
    }
    for systems, told in (
        ({"near": near}, "System 'far' is not configured here."),
        (
            {"near": near, "far": FunctionSystem({"take": otherwise}, "far")},
            "System 'far' is configured differently here: take",
        ),
    ):
        async with opened(tmp_path, systems) as other:
            looked = anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(other.take_over_orphans, None, looked.set)
                await looked.wait()
                group.cancel_scope.cancel()
            status = await other.load_status("needy-1")
        assert status["orphaned"] is True
        assert any(told in sentence for sentence in status["missing_systems"])
    without = orchestrator_over(tmp_path, {"near": near})
    with anyio.fail_after(5), pytest.raises(UnroutableTaskError, match="needs system 'far'"):
        await without.resume("needy-1")
    await without.aclose()


async def test_a_compressed_journal_is_retried_where_it_stopped(tmp_path: Path) -> None:
    """Children, alternatives and all."""
    calls = Calls()

    async def pick(item: Any) -> int:
        if item["number"] == 1 and calls["pick"] <= 3:
            raise AttemptFailedError("not this one", "picky", retryable=False)
        return int(item["number"])

    systems = {"python": calls.system({**FUNCTIONS, "pick": pick})}
    async with opened(tmp_path, systems) as orchestrator:
        await orchestrator.execute_dag(listed(tool="pick"))
        events = [recorded.event for recorded in await orchestrator.load_events("listed-1")]
        done = await orchestrator.storage.retain(
            Retention(compact_after_seconds=0.0, remove_after_seconds=None, keep_finished=None), now_us=2**61
        )
        await assert_replayable(orchestrator, "listed-1")

    async with opened(tmp_path, systems) as orchestrator:
        assert [recorded.event for recorded in await orchestrator.load_events("listed-1")] == events
        await orchestrator.retry("listed-1")
        result = await orchestrator.wait("listed-1")
        await assert_replayable(orchestrator, "listed-1")

    assert done.compacted == 1
    assert result["results"]["each"] == [0, 1, 2]
    assert calls == {"make_list": 1, "pick": 4, "take": 1}


async def test_the_caller_is_asked_about_one_item(tmp_path: Path) -> None:
    """And answers for it alone."""

    async def pick(item: Any) -> int:
        if item["number"] == 1:
            raise AttemptFailedError("not this one", "picky", retryable=False)
        return int(item["number"])

    async with opened(tmp_path, {"python": FunctionSystem({**FUNCTIONS, "pick": pick})}) as orchestrator:
        await orchestrator.submit(listed(tool="pick"), mode="ADAPTIVE", ask_caller=True)
        await until_asked(orchestrator, "listed-1", "each[1]")
        await orchestrator.decide("listed-1", "each[1]", "done", output=10, by="caller")
        result = await orchestrator.wait("listed-1")

    assert result["results"]["each"] == [0, 10, 2]
