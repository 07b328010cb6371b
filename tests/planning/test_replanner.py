"""A collaborator's alternative for a failed task is taken when it is sound, else passed over with a logged reason."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from orchestration.models import ErrorRecord, TaskEdge, TaskNode
from orchestration.planning.replanner import CollaboratorReplanner, has_replanner
from orchestration.ports import AlternativeRequest

pytestmark = pytest.mark.anyio

REQUEST = AlternativeRequest(
    orchestration_id="nightly-1",
    task=TaskNode("load", description="Load it"),
    error=ErrorRecord(code="tool_error", message="The disk is full"),
    goal="Load the orders",
    context={"region": "eu"},
    inputs={"fetch": {"path": "x.csv"}},
    completed=("fetch",),
    systems=("local", "python"),
)


class Plain:
    """Answers in the caller's thread of control."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: dict[str, Any] = {}

    def generate_alternative_plan(self, **asked: Any) -> Any:
        self.asked = asked
        return self.answer


class Async(Plain):
    """The same, async."""

    async def generate_alternative_plan(self, **asked: Any) -> Any:
        return super().generate_alternative_plan(**asked)


async def alternative(answer: Any, kind: type[Plain] = Async) -> Any:
    with anyio.fail_after(5):
        return await CollaboratorReplanner(kind(answer)).alternative(REQUEST)


@pytest.mark.parametrize("kind", [Plain, Async])
async def test_a_sound_alternative_is_taken(kind: type[Plain]) -> None:
    """Plain or async; its only leaf delivers."""
    dag = await alternative(
        {"tasks": [{"task_id": "clean"}, {"task_id": "again", "depends_on": ["clean"]}]}, kind
    )

    assert list(dag.nodes) == ["clean", "again"]
    assert dag.edges == [TaskEdge("clean", "again")]
    assert dag.metadata == {"delivers": "again"}


async def test_the_collaborator_is_told_how_things_stand() -> None:
    """The failed task, the error, what is done and what there is to run things on."""
    collaborator = Plain(None)

    assert await CollaboratorReplanner(collaborator).alternative(REQUEST) is None

    assert collaborator.asked["failed_task"] is REQUEST.task
    assert collaborator.asked["available_resources"] == {"systems": ["local", "python"]}
    context = collaborator.asked["context"]
    assert context["region"] == "eu"
    assert context["goal"] == "Load the orders"
    assert context["error"]["message"] == "The disk is full"
    assert context["completed_tasks"] == ["fetch"]
    assert context["inputs"] == {"fetch": {"path": "x.csv"}}


async def test_the_first_tasks_may_name_the_upstreams_of_the_failed_one() -> None:
    """They inherit its edges; no task stands for an upstream in the alternative."""
    dag = await alternative(
        {
            "tasks": [
                {"task_id": "split", "arguments": {"path": "${fetch.path}"}},
                {"task_id": "join", "depends_on": "split", "arguments": {"parts": "${split.parts}"}},
            ]
        }
    )

    assert list(dag.nodes) == ["split", "join"]
    assert dag.edges == [TaskEdge("split", "join")]
    assert dag.nodes["split"].arguments == {"path": "${fetch.path}"}


async def test_the_delivering_task_may_be_named() -> None:
    """By id or title, where there are several ends."""
    dag = await alternative({"tasks": [{"title": "Load half"}, {"title": "Tell"}], "delivers": "Load half"})

    assert dag.metadata == {"delivers": "load-half"}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("try again", "it answered str without tasks"),
        ({"tasks": []}, "tasks: is empty; expected at least one task."),
        ({"tasks": [{"task_id": "a", "user_weight": 2}]}, "tasks[0].user_weight: is not available yet"),
        (
            {"tasks": ["a", "b"]},
            "delivers: is missing, and the plan ends in 2 tasks (a, b). Fix: Name the task",
        ),
        (
            {"tasks": [{"task_id": "a", "arguments": {"x": "${elsewhere.x}"}}]},
            "${elsewhere.x} names task 'elsewhere'",
        ),
        (
            {
                "tasks": [
                    {"task_id": "a"},
                    {"task_id": "b", "depends_on": "a", "arguments": {"x": "${fetch.path}"}},
                ]
            },
            "name 'fetch', whose output only the first tasks of the draft receive. Fix: Let the first task hand",
        ),
    ],
)
async def test_a_bad_alternative_is_passed_over_with_a_logged_reason(
    answer: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no alternative then; the log says why."""
    with caplog.at_level(logging.WARNING, logger="advanced_task_orchestration"):
        assert await alternative(answer) is None

    record: Any = caplog.records[-1]
    assert record.operation == "ALTERNATIVE_PLAN_REFUSED"
    assert (record.orchestration_id, record.task_id) == ("nightly-1", "load")
    assert reason in record.reason


async def test_a_collaborator_that_raises_has_no_alternative(caplog: pytest.LogCaptureFixture) -> None:
    """Its fault is not the task's."""

    class Raising:
        def generate_alternative_plan(self, **_: Any) -> None:
            raise RuntimeError("no tokens left")

    assert await CollaboratorReplanner(Raising()).alternative(REQUEST) is None
    assert "it raised RuntimeError: no tokens left" in caplog.records[-1].__dict__["reason"]


async def test_a_collaborator_that_hangs_has_no_alternative(caplog: pytest.LogCaptureFixture) -> None:
    """The wait is bounded."""

    class Hanging:
        async def generate_alternative_plan(self, **_: Any) -> None:
            await anyio.sleep_forever()

    with anyio.fail_after(5):
        assert await CollaboratorReplanner(Hanging(), timeout_seconds=0.01).alternative(REQUEST) is None
    assert "it did not answer within 0.01 s" in caplog.records[-1].__dict__["reason"]


async def test_a_collaborator_without_the_method_has_no_alternative() -> None:
    """It can't even be asked, and that is known beforehand."""
    assert await CollaboratorReplanner(object()).alternative(REQUEST) is None
    assert not has_replanner(object())
    assert not has_replanner(None)
    assert has_replanner(Async(None))
