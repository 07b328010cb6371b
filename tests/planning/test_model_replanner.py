"""A language model's alternative for a failed task is taken when it is sound, and says why it will do better."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest

from orchestration.dag import TaskDAG
from orchestration.factory import create_advanced_task_orchestrator
from orchestration.models import ErrorRecord, TaskEdge, TaskNode
from orchestration.planning.model_options import ModelOptions
from orchestration.planning.model_planner import ModelPlanner
from orchestration.planning.model_replanner import ModelReplanner
from orchestration.planning.proposal import SystemTools
from orchestration.planning.replanner import CollaboratorReplanner, FirstReplanner
from orchestration.ports import AlternativeRequest, ThinkingServer, Thought, ToolInfo
from tests.planning.model_server import Answer, ModelServer, model_server, plan

pytestmark = pytest.mark.anyio

REQUEST = AlternativeRequest(
    orchestration_id="nightly-1",
    task=TaskNode("load", description="Load it", system_preference="warehouse", tool="load"),
    error=ErrorRecord(code="tool_error", message="The disk is full"),
    goal="Load the orders",
    context={"region": "eu"},
    inputs={"fetch": {"path": "x.csv", "rows": ["row"] * 100_000}},
    completed=("fetch",),
    systems=("warehouse", "lake"),
)
CLEAN = {"task_id": "clean", "description": "Make room", "system_preference": "warehouse", "tool": "vacuum"}
AGAIN = {
    "task_id": "again",
    "description": "Load it then",
    "system_preference": "warehouse",
    "tool": "load",
    "depends_on": ["clean"],
}
SOUND = plan([CLEAN, AGAIN], ["Room is missing."], delivers="again", reason="There is room then.")


async def find_tools() -> list[SystemTools]:
    return [
        SystemTools(name="warehouse", tools=[ToolInfo(name="load"), ToolInfo(name="vacuum")]),
        SystemTools(name="down", tools=[ToolInfo(name="load")]),
        SystemTools(name="lake", tools=[ToolInfo(name="pour")]),
    ]


def replanner(server: ModelServer, **more: Any) -> ModelReplanner:
    options = ModelOptions.model_validate({"name": "own", "base_url": server.url, "max_retries": 0})
    return ModelReplanner(options, find_tools=find_tools, **more)


async def alternative(server: ModelServer, request: AlternativeRequest = REQUEST) -> TaskDAG | None:
    with anyio.fail_after(10):
        return await replanner(server).alternative(request)


async def test_a_sound_alternative_is_taken() -> None:
    """With the task that delivers, and why it will do better."""
    async with model_server(SOUND) as server:
        dag = await alternative(server)

    assert dag is not None
    assert list(dag.nodes) == ["clean", "again"]
    assert dag.edges == [TaskEdge("clean", "again")]
    assert dag.metadata == {"delivers": "again", "reason": "There is room then."}


async def test_the_model_is_told_how_things_stand() -> None:
    """The failure, the inputs in short, what is done, and only the systems that are up."""
    async with model_server(SOUND) as server:
        await alternative(server)

    told = server.data()
    assert told["failed_task"]["task_id"] == "load"
    assert told["error"]["message"] == "The disk is full"
    assert told["inputs"]["fetch"]["path"] == "x.csv"
    assert told["inputs"]["fetch"]["rows"][-1] == "… (100,000 items)"
    assert told["completed"] == ["fetch"]
    assert (told["goal"], told["context"]) == ("Load the orders", {"region": "eu"})
    assert [system["system"] for system in told["systems"]] == ["warehouse", "lake"]
    assert "A task of a plan has failed" in server.instructions()


async def test_the_first_tasks_may_name_the_failed_ones_inputs() -> None:
    """They inherit its edges."""
    pour = {"task_id": "pour", "description": "Pour", "tool": "pour", "arguments": {"path": "${fetch.path}"}}

    async with model_server(plan([pour], reason="A lake is never full.")) as server:
        dag = await alternative(server)

    assert dag is not None
    assert dag.metadata["delivers"] == "pour"
    assert dag.edges == []


BAD: list[tuple[Answer, str]] = [
    (plan([{"task_id": "again", "description": "x", "system_preference": "warehouse", "tool": "load"}]),
     "tasks[0]: does what 'load' did, which has failed."),
    (plan([{**CLEAN, "tool": "broom"}]), "tasks[0].tool: names 'broom', which warehouse does not have."),
    (plan([{**CLEAN, "system_preference": "down", "tool": "load"}]), "names 'down', which is no system."),
    (plan(["One", "Two"]), "delivers: is missing, and the plan ends in 2 tasks (one, two)."),
    (plan([{**CLEAN, "arguments": {"x": "${elsewhere.x}"}}]), "${elsewhere.x} names task 'elsewhere'"),
    (plan([f"Step {number}" for number in range(11)], delivers="step-1"), "has 11 tasks; at most 10 are allowed."),
    (plan([]), "tasks: is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "reason"), BAD)
async def test_a_bad_alternative_is_mended(bad: Answer, reason: str) -> None:
    """The model is told what is wrong with it."""
    async with model_server(bad, SOUND) as server:
        dag = await alternative(server)

    assert dag is not None
    assert list(dag.nodes) == ["clean", "again"]
    assert reason in " ".join(server.data()["problems"])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (BAD[0][0], "after 2 mendings its plan still has mistakes: tasks[0]: does what 'load' did, which has failed."),
        (Answer(status=500, error="on fire"), "its provider answered 500: on fire"),
        (plan([], reason="The disk is the only one."), "it sees no other way: The disk is the only one."),
    ],
)  # fmt: skip
async def test_no_alternative_is_told_with_its_reason(
    answer: Answer, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says why there is none."""
    with caplog.at_level(logging.WARNING, logger="advanced_task_orchestration"):
        async with model_server(answer) as server:
            assert await alternative(server) is None

    record: Any = caplog.records[-1]
    assert record.operation == "ALTERNATIVE_PLAN_REFUSED"
    assert (record.orchestration_id, record.task_id, record.model) == ("nightly-1", "load", "own")
    assert record.reason.startswith(reason)


async def test_a_task_without_a_tool_is_the_same_only_with_the_same_description() -> None:
    """What is to be done is all there is to go by."""
    request = replace(REQUEST, task=TaskNode("load", description="Load it"))

    async with model_server(plan([{"task_id": "x", "description": "Load half of it"}])) as server:
        assert await alternative(server, request) is not None


async def test_the_thoughts_of_an_alternative_reach_a_thinking_server() -> None:
    """As those of a plan do."""
    sent: list[str] = []

    class Server:
        kind = "in-process"
        replaced_because: str | None = None

        async def think(self, thought: Thought, *, total: int, more: bool) -> None:
            sent.append(thought.text)

    @asynccontextmanager
    async def opened() -> AsyncIterator[ThinkingServer]:
        yield Server()

    async with model_server(SOUND) as server:
        with anyio.fail_after(10):
            await replanner(server, thinking=opened).alternative(REQUEST)

    assert sent == [
        "Task 'load' has failed (The disk is full); another way is looked for.",
        "Room is missing.",
    ]


class Collaborator:
    """Has an alternative, or none."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def generate_alternative_plan(self, **_: Any) -> Any:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "tasks", "asked"), [({"tasks": ["Mine"]}, ["mine"], 0), (None, ["clean", "again"], 1)]
)
async def test_the_collaborator_is_asked_before_the_model(answer: Any, tasks: list[str], asked: int) -> None:
    """Whoever is trusted more has precedence."""
    async with model_server(SOUND) as server:
        both = FirstReplanner([CollaboratorReplanner(Collaborator(answer)), replanner(server)])
        with anyio.fail_after(10):
            dag = await both.alternative(REQUEST)

    assert dag is not None
    assert list(dag.nodes) == tasks
    assert len(server.asked) == asked


async def test_an_orchestrator_with_a_model_finds_an_alternative() -> None:
    """A task that fails in ADAPTIVE mode is replaced by what the model says, and the orchestration completes."""
    from orchestration.systems.function import FunctionSystem

    async def fails() -> None:
        raise ValueError("The disk is full")

    async def pours() -> str:
        return "poured"

    answer = plan(
        [{"task_id": "pour", "description": "Pour", "tool": "pours"}], reason="A lake is never full."
    )
    async with model_server(answer) as server:
        options = ModelOptions.model_validate({"name": "own", "base_url": server.url})
        orchestrator = create_advanced_task_orchestrator(
            systems={"python": FunctionSystem({"fails": fails, "pours": pours})}, model=ModelPlanner(options)
        )
        dag = TaskDAG("load", "Load the orders")
        dag.add_task(TaskNode("load", description="Load it", tool="fails", max_retries=0))
        with anyio.fail_after(20):
            result = await orchestrator.execute_dag(dag, mode="ADAPTIVE")

    assert result["success"] is True
    assert [each["system"] for each in server.data()["systems"]] == ["python"]
