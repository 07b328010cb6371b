"""Tasks, listeners and callers that do what nobody should: it ends their attempt or is refused, and nothing else."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration import (
    AdvancedTaskOrchestrator,
    InvalidArgumentError,
    InvalidDagError,
    OrchestratorOptions,
    TaskDAG,
    TaskEdge,
    TaskNode,
    create_advanced_task_orchestrator,
)
from orchestration.systems.function import FunctionSystem
from storage import SqliteStorage

pytestmark = pytest.mark.anyio

Make = Callable[..., AdvancedTaskOrchestrator]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def durable(tmp_path: Path) -> Make:
    """Make orchestrators over a real database, which takes nothing but Unicode."""

    def build(functions: dict[str, Callable[..., Any]], **options: Any) -> AdvancedTaskOrchestrator:
        storage = SqliteStorage(tmp_path / "state.db")
        systems = {"python": FunctionSystem(functions)}
        return create_advanced_task_orchestrator(state_manager=storage, systems=systems, **options)

    return build


def single(tool: str = "work", **fields: Any) -> TaskDAG:
    dag = TaskDAG("g")
    dag.add_task(TaskNode("a", tool=tool, max_retries=0, **fields))
    return dag


class MuteError(Exception):
    """An exception that can't say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def endless_trouble() -> Iterator[int]:
    yield 1
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("work", "code", "message"),
    [
        (raising(MuteError()), "mute_error", "MuteError"),
        (raising(RuntimeError("caf\udce9")), "runtime_error", "caf\\udce9"),
        (raising(BaseException("caf\udce9")), "base_exception", "work raised BaseException: caf\\udce9."),
        (endless_trouble, "keyboard_interrupt", "work raised KeyboardInterrupt."),
    ],
    ids=["no words", "no Unicode", "no Unicode in no exception", "interrupting generator"],
)
async def test_whatever_a_task_raises_ends_its_attempt_alone(
    durable: Make, work: Callable[[], Any], code: str, message: str
) -> None:
    """The reason is stored as far as it can be, and the orchestration beside it completes."""
    with anyio.fail_after(30):
        async with durable({"work": work, "fine": lambda: 1}) as orchestrator:
            beside = await orchestrator.submit(single("fine"))
            result = await orchestrator.execute_dag(single())
            assert (await orchestrator.wait(beside))["success"] is True
            status = await orchestrator.load_status(result["orchestration_id"])

    assert (result["errors"]["a"]["code"], result["errors"]["a"]["message"]) == (code, message)
    assert status["errors"] == result["errors"]


async def test_a_generator_gives_the_list_of_what_it_yields(durable: Make) -> None:
    """Its code runs on the task's thread, not on the event loop."""

    def work() -> Iterator[int]:
        threads.append(threading.current_thread())
        yield from (1, 2)

    threads: list[threading.Thread] = []

    result = await durable({"work": work}).execute_dag(single())

    assert dict(result["results"]) == {"a": [1, 2]}
    assert threads != [threading.main_thread()]


async def test_an_endless_generator_runs_into_its_time_limit(durable: Make) -> None:
    """It holds up neither the event loop nor the orchestration."""

    def work() -> Iterator[int]:
        for number in itertools.count():
            if stopped:
                return
            if number % 1000 == 0:
                yield number

    stopped: list[bool] = []
    try:
        with anyio.fail_after(30):
            result = await durable({"work": work}).execute_dag(single(timeout_seconds=0.2))
    finally:
        stopped.append(True)

    assert result["errors"]["a"]["code"] == "timeout"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), ValueError("x"), MuteError()])
async def test_whatever_a_listener_raises_ends_nothing(durable: Make, error: BaseException) -> None:
    """The orchestration completes and the listener is told the next event all the same."""
    told: list[str] = []

    def listen(recorded: Any) -> None:
        told.append(recorded.event.type)
        raise error

    with anyio.fail_after(30):
        result = await durable({"work": lambda: 1}).execute_dag(single(), on_event=listen)

    assert result["success"] is True
    assert told[-1] == "orchestration_finished"


async def test_what_a_task_does_to_its_arguments_and_context_stays_with_it(durable: Make) -> None:
    """The next attempt, other tasks and the caller's own DAG see what was submitted."""
    seen: list[tuple[Any, Any]] = []

    def work(items: list[int], context: dict[str, Any]) -> None:
        seen.append((list(items), list(context["shared"]["list"])))
        items.append(1)
        context["shared"]["list"].append(1)
        if len(seen) == 1:
            raise ValueError("again")

    dag = TaskDAG("g")
    for name in "ab":
        dag.add_task(TaskNode(name, tool="work", arguments={"items": [0]}, max_retries=1, backoff_factor=1))
    dag.add_dependency(TaskEdge("a", "b"))

    with anyio.fail_after(30):
        result = await durable({"work": work}).execute_dag(dag, context={"shared": {"list": []}})

    assert result["success"] is True
    assert seen == [([0], [])] * 3
    assert dag.nodes["a"].arguments == {"items": [0]}


async def test_a_dag_that_its_caller_changes_after_submission_runs_as_submitted(durable: Make) -> None:
    """Submitting copies the DAG, with the arguments in it."""
    dag = single("echo", arguments={"value": [1]})
    with anyio.fail_after(30):
        async with durable({"echo": lambda value: value}) as orchestrator:
            submitted = await orchestrator.submit(dag)
            dag.nodes["a"].arguments["value"] = "changed"
            result = await orchestrator.wait(submitted)

    assert dict(result["results"]) == {"a": [1]}


BROKEN = "caf\udce9"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"context": {"a": BROKEN}}, "context is {'a': 'caf\\udce9'}; expected an object that JSON can hold"),
        ({"context": [1]}, "context is [1]; expected an object."),
        ({"goal": BROKEN}, "goal is 'caf\\udce9'; expected a text of Unicode characters."),
        ({"goal": 5}, "goal is 5; expected a text of Unicode characters."),
        ({"key": BROKEN}, "key is 'caf\\udce9'; expected 1 to 200 Unicode characters."),
        ({"key": 5}, "key is 5; expected 1 to 200 Unicode characters."),
        ({"orchestration_id": 5}, "orchestration_id is 5; expected a letter or digit"),
    ],
)
async def test_arguments_no_database_can_hold_are_refused(
    durable: Make, arguments: dict[str, Any], told: str
) -> None:
    """Each names the argument and what was expected; nothing is stored."""
    orchestrator = durable({"work": lambda: 1})

    with pytest.raises(InvalidArgumentError) as caught:
        await orchestrator.submit(single(), **arguments)

    assert told in str(caught.value)
    assert await orchestrator.list_orchestrations() == []


async def test_a_description_that_is_no_unicode_is_refused(durable: Make) -> None:
    """The mistake names the task and the field."""
    with pytest.raises(InvalidDagError, match=r"tasks\[a\]\.description: .*no Unicode"):
        await durable({"work": lambda: 1}).submit(single(description=BROKEN))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"goal": BROKEN}, "goal is 'caf\\udce9'; expected a text of Unicode characters."),
        ({"goal": "x", "context": {"a": BROKEN}}, "expected an object that JSON can hold"),
        (
            {"goal": "x", "thoughts": [BROKEN]},
            "thoughts is 'caf\\udce9'; expected texts of Unicode characters.",
        ),
    ],
)
async def test_a_goal_no_database_can_hold_is_refused(
    durable: Make, arguments: dict[str, Any], told: str
) -> None:
    """Planning refuses what could not be stored, before it begins."""
    with pytest.raises(InvalidArgumentError) as caught:
        await durable({"work": lambda: 1}).decompose(**arguments)

    assert told in str(caught.value)


async def test_a_reason_for_cancelling_is_stored_as_far_as_it_can_be(durable: Make) -> None:
    """What is no Unicode becomes an escape, what is endless is cut, and what is no text is refused."""
    with anyio.fail_after(30):
        async with durable({"work": anyio.sleep_forever}) as orchestrator:
            reasons = []
            for reason in (BROKEN, "x" * 100_000):
                submitted = await orchestrator.submit(single())
                await orchestrator.cancel_orchestration(submitted, reason)
                events = [recorded.event for recorded in await orchestrator.load_events(submitted)]
                reasons += [event.reason for event in events if event.type == "cancel_requested"]
            submitted = await orchestrator.submit(single())
            with pytest.raises(InvalidArgumentError, match="reason is 5; expected a text"):
                await orchestrator.cancel_orchestration(submitted, 5)  # type: ignore[arg-type]

    assert reasons[0] == "caf\\udce9"
    assert len(reasons[1]) == 2000


async def test_dags_nest_as_deep_as_the_limit_says(durable: Make) -> None:
    """A task that runs the DAG it is part of is refused at the limit instead of filling the machine."""
    depth = 0

    async def work() -> None:
        nonlocal depth
        depth += 1
        result = await orchestrator.execute_dag(single())
        if not result["success"]:
            raise ValueError(result["errors"]["a"]["message"])

    orchestrator = durable({"work": work}, settings=OrchestratorOptions(max_retries=0))

    with anyio.fail_after(30):
        result = await orchestrator.execute_dag(single())

    limit = orchestrator.options.limits.max_nesting
    assert depth == limit + 1
    assert result["errors"]["a"]["message"] == (
        f"Orchestrations nest {limit + 1} deep; the limit is {limit}. Fix: run the task itself."
    )


async def test_what_is_nested_too_deeply_to_be_read_back_is_refused(durable: Make) -> None:
    """A context and arguments of 150 levels would be stored and never read again."""

    async def work(value: Any = None) -> None: ...

    deep: Any = 1
    for _ in range(150):
        deep = [deep]
    orchestrator = durable({"work": work})
    dag = TaskDAG("deep")
    dag.add_task(TaskNode(task_id="a", tool="work"))
    nested = TaskDAG("nested")
    nested.add_task(TaskNode(task_id="a", tool="work", arguments={"value": deep}))

    with pytest.raises(
        InvalidArgumentError, match="expected at most 100 lists and objects inside each other"
    ):
        await orchestrator.execute_dag(dag, context={"deep": deep})
    with pytest.raises(
        InvalidArgumentError, match="expected at most 100 lists and objects inside each other"
    ):
        await orchestrator.decompose("Do the work", context={"deep": deep})
    with pytest.raises(InvalidDagError, match="has more than 100 lists and objects inside each other"):
        await orchestrator.execute_dag(nested)
