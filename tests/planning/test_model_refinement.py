"""A task that is too complex is decomposed further, by whoever planned it, to a depth and a size."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from orchestration.models import TaskEdge
from orchestration.planning.decomposer import AdvancedTaskDecomposer
from orchestration.planning.model_options import ModelOptions
from orchestration.planning.model_planner import ModelPlanner
from orchestration.planning.plan import Plan
from orchestration.planning.proposal import SystemTools
from orchestration.ports import ToolInfo
from tests.planning.model_server import Answer, ModelServer, model_server, plan

pytestmark = pytest.mark.anyio

FETCH = {"task_id": "fetch", "description": "Fetch the data"}
MODEL = {"task_id": "model", "description": "Model it", "depends_on": ["fetch"], "complexity_score": 8}
TELL = {"task_id": "tell", "description": "Tell", "depends_on": ["model"], "complexity_score": 5}
PARTS = [
    {"task_id": "clean", "description": "Clean", "arguments": {"x": "${fetch.path}"}},
    {"task_id": "fit", "description": "Fit", "depends_on": ["clean"]},
]


async def planned(server: ModelServer, collaborator: object = None, **more: Any) -> Plan:
    async def find_tools() -> list[SystemTools]:
        return [SystemTools(name="python", tools=[ToolInfo(name="fit")])]

    options = ModelOptions.model_validate({"name": "own", "base_url": server.url, "max_retries": 0})
    kept = {name: more.pop(name) for name in ("complexity_threshold", "max_depth") if name in more}
    decomposer = AdvancedTaskDecomposer(
        collaborator, model=ModelPlanner(options), find_tools=find_tools, **kept
    )
    with anyio.fail_after(10):
        return await decomposer.decompose("Predict the demand", **more)


def parents(plan: Plan) -> dict[str, str | None]:
    return {task_id: node.parent for task_id, node in plan.dag.nodes.items()}


async def test_a_task_above_the_threshold_is_decomposed() -> None:
    """Its parts name it as their parent; its own edges stay; a task at the threshold is left alone."""
    async with model_server(plan([FETCH, MODEL, TELL]), plan(PARTS, ["First clean it."])) as server:
        made = await planned(server)

    assert parents(made) == {"fetch": None, "model": None, "tell": None, "clean": "model", "fit": "model"}
    assert [(edge.source_task_id, edge.target_task_id) for edge in made.dag.edges] == [
        ("fetch", "model"),
        ("model", "tell"),
        ("clean", "fit"),
    ]
    texts = [thought.text for thought in made.thoughts]
    assert "Task 'model' has a complexity of 8, over 5: it is decomposed further." in texts
    assert "First clean it." in texts
    assert "Task 'model' is made of clean, fit." in texts
    assert made.notes[-1].startswith("The model took 2 requests")


async def test_the_model_is_told_which_task_and_what_it_may_use() -> None:
    """The task, its upstreams, how many parts; by a prompt of its own."""
    async with model_server(plan([FETCH, MODEL]), plan(PARTS)) as server:
        await planned(server, max_tasks=6)

    assert server.data()["task"] == {"task_id": "model", "description": "Model it"}
    assert server.data()["upstreams"] == [{"task_id": "fetch", "description": "Fetch the data"}]
    assert "the 2 to 4 parts" in server.instructions()


async def test_parts_are_decomposed_further_to_a_depth() -> None:
    """The threshold holds for them, too; at the depth it ends."""

    def halves(name: str) -> Answer:
        return plan(
            [
                {"task_id": f"{name}1", "description": f"{name} first", "complexity_score": 9},
                {"task_id": f"{name}2", "description": f"{name} second"},
            ]
        )

    async with model_server(plan([MODEL | {"depends_on": []}]), *map(halves, "abcd")) as server:
        made = await planned(server)

    assert parents(made) == {
        "model": None,
        "a1": "model",
        "a2": "model",
        "b1": "a1",
        "b2": "a1",
        "c1": "b1",
        "c2": "b1",
    }
    assert len(server.asked) == 4


async def test_no_more_tasks_come_of_it_than_were_asked_for() -> None:
    """What can't be decomposed any more stays as it is, and the notes say so."""
    async with model_server(plan([FETCH, MODEL, TELL]), plan(PARTS)) as server:
        made = await planned(server, max_tasks=4)

    assert list(made.dag.nodes) == ["fetch", "model", "tell"]
    assert len(server.asked) == 1
    assert (
        "Task 'model' has a complexity of 8 and was not decomposed further, for max_tasks is 4." in made.notes
    )


async def test_a_task_that_runs_something_is_one_piece_of_work() -> None:
    """A parent runs nothing: what has a tool, an approval or must not be repeated stays whole."""
    for more in ({"tool": "fit"}, {"approval": "person"}, {"idempotent": False}):
        async with model_server(plan([FETCH, MODEL | more]), plan(PARTS)) as server:
            made = await planned(server)

        assert list(made.dag.nodes) == ["fetch", "model"]
        assert len(server.asked) == 1


async def test_a_task_may_be_one_piece_of_work_after_all() -> None:
    """The model says so by one part."""
    async with model_server(plan([FETCH, MODEL]), plan(PARTS[:1])) as server:
        made = await planned(server)

    assert list(made.dag.nodes) == ["fetch", "model"]
    assert any(thought.text == "Task 'model' is one piece of work after all." for thought in made.thoughts)


async def test_parts_whose_ids_are_taken_get_others() -> None:
    """Dependencies and references follow."""
    parts = [
        {"task_id": "fetch", "description": "Fetch the model"},
        {
            "task_id": "fit",
            "description": "Fit",
            "depends_on": ["fetch"],
            "arguments": {"x": "${fetch.path}"},
        },
    ]

    async with model_server(plan([FETCH, MODEL]), plan(parts)) as server:
        made = await planned(server)

    assert parents(made) == {"fetch": None, "model": None, "model-fetch": "model", "fit": "model"}
    assert TaskEdge("model-fetch", "fit") in made.dag.edges
    assert made.dag.nodes["fit"].arguments == {"x": "${model-fetch.path}"}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (
            plan([{"task_id": "a", "description": "A", "depends_on": ["fetch"]}, "B"]),
            "joins tasks of two levels",
        ),
        (plan([{"task_id": "a", "description": "A", "tool": "guess"}, "B"]), "tasks[0].tool: names 'guess'"),
        (plan([f"Part {number}" for number in range(11)]), "has 11 parts; at most 10 are allowed."),
        (plan([]), "tasks: is empty"),
    ],
)
async def test_bad_parts_are_mended(bad: Answer, reason: str) -> None:
    """Places are those of the parts the model sent."""
    async with model_server(plan([FETCH, MODEL]), bad, plan(PARTS)) as server:
        made = await planned(server)

    assert "clean" in made.dag.nodes
    assert reason in " ".join(server.data()["problems"]), server.data()["problems"]


async def test_a_task_whose_parts_can_not_be_had_stays_as_it_is() -> None:
    """The plan does not fail for it; the notes say why."""
    async with model_server(plan([FETCH, MODEL]), Answer(status=500, error="on fire")) as server:
        made = await planned(server)

    assert list(made.dag.nodes) == ["fetch", "model"]
    assert "Task 'model' could not be decomposed further: its provider answered 500: on fire." in made.notes


async def test_the_threshold_is_the_callers_choice() -> None:
    """Above ten, nothing is decomposed."""
    async with model_server(plan([FETCH, MODEL]), plan(PARTS)) as server:
        made = await planned(server, complexity_threshold=10.0)

    assert list(made.dag.nodes) == ["fetch", "model"]


class Collaborator:
    """Plans, and decomposes what it is asked to."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    async def analyze_task_decomposition(self, **asked: Any) -> Any:
        self.asked.append(asked)
        return self.answers.pop(0) if self.answers else None


async def test_the_collaborator_decomposes_what_it_has_planned() -> None:
    """By the same method, the task as its goal; the model is not asked."""
    whole = {"tasks": [FETCH, MODEL]}
    parts = {"tasks": PARTS, "edges": [["clean", "fit"]], "thoughts": ["Clean, then fit."]}
    collaborator = Collaborator(whole, parts)

    async with model_server(plan([])) as server:
        made = await planned(server, collaborator, context={"region": "eu"})

    assert server.asked == []
    assert parents(made) == {"fetch": None, "model": None, "clean": "model", "fit": "model"}
    assert collaborator.asked[1] == {
        "goal": "Model it",
        "context": {
            "region": "eu",
            "whole_goal": "Predict the demand",
            "task_id": "model",
            "upstreams": ["fetch"],
        },
        "complexity_threshold": 5.0,
    }
    assert any(thought.text == "Clean, then fit." for thought in made.thoughts)


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        (None, None),
        ({"tasks": [PARTS[0]]}, None),
        ({"tasks": [{"task_id": "a", "depends_on": ["b"]}]}, "could not be decomposed further: tasks[0].depends_on[0]"),
        ({"tasks": [f"Part {number}" for number in range(30)]}, "tasks: has 30 tasks; at most 18 are allowed"),
    ],
)  # fmt: skip
async def test_a_collaborator_that_does_not_decompose_leaves_the_task(answer: Any, note: str | None) -> None:
    """As it is, with a note where its answer was wrong."""
    async with model_server(plan([])) as server:
        made = await planned(server, Collaborator({"tasks": [FETCH, MODEL]}, answer))

    assert list(made.dag.nodes) == ["fetch", "model"]
    assert any("could not be decomposed" in text for text in made.notes) is (note is not None)
    assert note is None or any(note in text for text in made.notes)


async def test_the_callers_own_tasks_are_not_decomposed() -> None:
    """They are binding."""
    async with model_server(plan(PARTS)) as server:
        made = await planned(server, tasks=[FETCH, MODEL])

    assert list(made.dag.nodes) == ["fetch", "model"]
    assert server.asked == []
