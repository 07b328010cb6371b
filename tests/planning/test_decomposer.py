"""A goal goes from planner to planner in their order of trust, and every step is thought aloud."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration.dag import TaskDAG
from orchestration.errors import (
    ConfigurationError,
    InvalidArgumentError,
    InvalidDagError,
    NoFittingPlanError,
    SystemUnavailableError,
)
from orchestration.models import OrchestrationMode, TaskEdge
from orchestration.planning.decomposer import AdvancedTaskDecomposer
from orchestration.planning.plan import Plan
from orchestration.planning.sequential_thinking import thinking_process
from orchestration.ports import ThinkingServer, Thought

pytestmark = pytest.mark.anyio

WEB = "Build a web application with user authentication"
REPORT = "Report on the health of this Python codebase"


class RecordingServer:
    """Keeps what it is sent; optionally is gone after some thoughts."""

    kind = "in-process"
    replaced_because: str | None = None

    def __init__(self, lives_for: int = 1000) -> None:
        self.sent: list[tuple[Thought, int, bool]] = []
        self.is_open = False
        self.lives_for = lives_for

    async def think(self, thought: Thought, *, total: int, more: bool) -> None:
        assert self.is_open
        if len(self.sent) == self.lives_for:
            raise SystemUnavailableError("sequential_thinking", "it is gone")
        self.sent.append((thought, total, more))

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[ThinkingServer]:
        self.is_open = True
        try:
            yield self
        finally:
            self.is_open = False


class Collaborator:
    """Answers every request for a plan with the same, and remembers what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    async def analyze_task_decomposition(self, **asked: Any) -> Any:
        self.asked.append(asked)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class PlainCollaborator(Collaborator):
    """The same without async."""

    def analyze_task_decomposition(self, **asked: Any) -> Any:
        self.asked.append(asked)
        return self.answer


async def decompose(goal: str = WEB, collaborator: object = None, **more: Any) -> Plan:
    with anyio.fail_after(5):
        return await AdvancedTaskDecomposer(collaborator, thinking=RecordingServer().opened).decompose(
            goal, **more
        )


def ends(dag: TaskDAG) -> list[tuple[str, str]]:
    return [(edge.source_task_id, edge.target_task_id) for edge in dag.edges]


# --- The order of trust ---------------------------------------------------------------------------------------------


async def test_the_callers_tasks_come_first() -> None:
    """With tasks, neither the collaborator nor a playbook that fits is asked."""
    collaborator = Collaborator({"tasks": ["From the collaborator"]})

    plan = await decompose(WEB, collaborator, tasks=[{"title": "Mine"}], max_tasks=1)

    assert plan.planner == "caller"
    assert list(plan.dag.nodes) == ["mine"]
    assert collaborator.asked == []
    assert plan.notes == ("Planned by the caller.", "Ids made for tasks without one: mine.")


async def test_the_callers_tasks_are_never_replaced() -> None:
    """A draft with mistakes is refused, though a playbook fits the goal."""
    with pytest.raises(InvalidDagError) as refused:
        await decompose(WEB, tasks=[{"task_id": "a", "depends_on": ["b"]}])

    assert [problem.path for problem in refused.value.problems] == ["tasks[0].depends_on[0]"]


async def test_the_callers_tasks_are_not_counted_against_max_tasks() -> None:
    """Whoever sends five tasks wants five tasks."""
    assert len((await decompose("", tasks=list("abcde"), max_tasks=2)).dag.nodes) == 5


@pytest.mark.parametrize("kind", [Collaborator, PlainCollaborator])
async def test_the_collaborator_comes_before_a_playbook(kind: type[Collaborator]) -> None:
    """It is asked with goal, context and threshold; its plan, its thoughts and its edges are taken."""
    collaborator = kind(
        {
            "tasks": [
                {"task_id": "a", "description": "A"},
                {"task_id": "b", "description": "B", "depends_on": ["a"]},
            ],
            "edges": [{"source_task_id": "a", "target_task_id": "b", "is_optional": True}],
            "thoughts": ["One", {"thought": "Two", "revisesThought": 1}, 5],
            "confidence": 0.9,
        }
    )

    plan = await decompose(WEB, collaborator, context={"x": 1})

    assert collaborator.asked == [{"goal": WEB, "context": {"x": 1}, "complexity_threshold": 5.0}]
    assert (plan.planner, plan.thinking_server) == ("sequential_thinking", "collaborator")
    assert plan.dag.edges == [TaskEdge("a", "b", is_optional=True)]
    assert plan.notes == ("Planned by the sequential_thinking collaborator.",)
    told = [(thought.text, thought.revises) for thought in plan.thoughts]
    assert ("One", None) in told
    assert ("Two", 1 + [text for text, _ in told].index("One")) in told


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "it answered NoneType without tasks"),
        ("a string", "it answered str without tasks"),
        ({"plan": []}, "it answered dict without tasks"),
        ({"tasks": []}, "its answer is no plan (tasks: is empty; expected at least one task."),
        (
            {"tasks": [{"task_id": "a", "depends_on": ["b"]}]},
            "its answer is no plan (tasks[0].depends_on[0]: names",
        ),
        ({"tasks": [f"t{n}" for n in range(25)]}, "its plan has 25 tasks and max_tasks is 20"),
        (RuntimeError("out of tokens"), "it raised RuntimeError: out of tokens"),
    ],
)
async def test_a_collaborator_of_no_help_is_passed_over_with_a_note(answer: Any, reason: str) -> None:
    """The next planner makes the plan; the note and a revised thought say why."""
    plan = await decompose(WEB, Collaborator(answer))

    assert plan.planner == "playbook:web-application"
    assert any(
        note.startswith(f"The sequential_thinking collaborator was passed over: {reason}")
        for note in plan.notes
    )
    assert any(thought.revises and reason in thought.text for thought in plan.thoughts)


@pytest.mark.parametrize(
    "collaborator", [object(), None, type("C", (), {"analyze_task_decomposition": "text"})()]
)
async def test_a_collaborator_without_the_method_is_not_asked(collaborator: object) -> None:
    """Every method of a collaborator is optional; there is nothing to say about it."""
    plan = await decompose(WEB, collaborator)

    assert plan.planner == "playbook:web-application"
    assert not any("collaborator" in note for note in plan.notes)


async def test_a_mock_for_a_collaborator_is_passed_over() -> None:
    """An object that answers anything to anything does no harm."""
    from unittest.mock import AsyncMock, MagicMock, Mock

    for mock in (Mock(), MagicMock(), AsyncMock()):
        assert (await decompose(WEB, mock)).planner == "playbook:web-application"


async def test_a_collaborator_that_hangs_is_given_up() -> None:
    """The plan is made without it."""

    class Hanging:
        async def analyze_task_decomposition(self, **_: Any) -> None:
            await anyio.sleep_forever()

    decomposer = AdvancedTaskDecomposer(
        Hanging(), thinking=RecordingServer().opened, collaborator_timeout_seconds=0.01
    )
    with anyio.fail_after(5):
        plan = await decomposer.decompose(WEB)

    assert "it did not answer within 0.01 s" in plan.notes[-1]


@pytest.mark.parametrize(
    ("goal", "planner", "least"),
    [
        (WEB, "playbook:web-application", 8),
        ("Build and deploy a web application", "playbook:web-application", 10),
        (REPORT, "playbook:codebase-report", 10),
        ("Execute parallel tasks", "sentences", 1),
    ],
)
async def test_the_specifications_goals_are_planned(goal: str, planner: str, least: int) -> None:
    """Each gives a sound DAG of the expected size."""
    plan = await decompose(goal, context={"technology_stack": "React, Node.js"})

    assert plan.planner == planner
    assert len(plan.dag.nodes) >= least
    assert plan.dag.validate_dependencies()
    assert (plan.goal, plan.dag.goal) == (goal, goal)


async def test_a_playbook_over_max_tasks_is_passed_over() -> None:
    """The notes say what it would have taken."""
    plan = await decompose(REPORT, max_tasks=10)

    assert plan.planner == "sentences"
    assert (
        "Playbook 'codebase-report' fits the goal but was not used: it has 15 tasks and max_tasks is 10."
        in plan.notes
    )


async def test_a_playbook_whose_system_is_not_configured_is_passed_over() -> None:
    """A plan nothing could run is no plan."""
    with_it = AdvancedTaskDecomposer(thinking=RecordingServer().opened, systems=lambda: {"codebase", "x"})
    without = AdvancedTaskDecomposer(thinking=RecordingServer().opened, systems=lambda: {"x"})

    assert (await with_it.decompose(REPORT)).planner == "playbook:codebase-report"
    plan = await without.decompose(REPORT)

    assert plan.planner == "sentences"
    assert plan.notes[-1] == (
        "Playbook 'codebase-report' fits the goal but was not used: "
        "it needs the system 'codebase', which is not configured."
    )


async def test_a_playbook_of_the_users_folder_is_found(tmp_path: Path) -> None:
    """With its required parameter it makes the plan; without, it says what it lacks."""
    (tmp_path / "tea.yaml").write_text(
        """
name: tea
title: Make tea
goals: [Brew a pot of tea]
parameters: {sort: {required: true}}
subtasks: [{task_id: boil}, {task_id: pour, description: "Pour {{sort}}", depends_on: [boil]}]
"""
    )
    decomposer = AdvancedTaskDecomposer(thinking=RecordingServer().opened, playbook_folders=[tmp_path])

    plan = await decomposer.decompose("Please brew a pot of tea", context={"sort": "Assam"})
    lacking = await decomposer.decompose("Please brew a pot of tea")

    assert plan.planner == "playbook:tea"
    assert plan.dag.nodes["pour"].description == "Pour Assam"
    assert "it needs 'sort'; give it as context.sort" in lacking.notes[-1]


async def test_a_value_that_makes_no_valid_plan_passes_the_playbook_over(tmp_path: Path) -> None:
    """Whatever the context holds, the goal still gets a plan."""
    (tmp_path / "tea.yaml").write_text(
        "name: tea\ntitle: T\ngoals: [Brew tea]\nparameters: {minutes: {default: 3}}\n"
        "subtasks: [{task_id: brew, estimated_time_seconds: '{{minutes}}'}]\n"
    )
    decomposer = AdvancedTaskDecomposer(thinking=RecordingServer().opened, playbook_folders=[tmp_path])

    plan = await decomposer.decompose("Brew tea", context={"minutes": "several"})

    assert plan.planner == "sentences"
    assert (
        "with these parameters it gives no valid DAG (tasks[0].estimated_time_seconds: is 'several'"
        in plan.notes[-1]
    )


async def test_a_broken_playbook_is_told_when_it_is_needed(tmp_path: Path) -> None:
    """It isn't passed over in silence, and the caller's own tasks need no playbooks."""
    (tmp_path / "bad.yaml").write_text("name: bad\n")
    decomposer = AdvancedTaskDecomposer(thinking=RecordingServer().opened, playbook_folders=[tmp_path])

    assert (await decomposer.decompose("x", tasks=["Do it"])).planner == "caller"
    with pytest.raises(ConfigurationError, match=r"bad\.yaml:1: title: is missing"):
        await decomposer.decompose("x")


# --- Sentences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goal", "tasks", "edges"),
    [
        ("Bake a cake", ["Bake a cake"], []),
        (
            "Fetch the orders. Then clean the data. Finally, please plot it.",
            ["Fetch the orders.", "Clean the data.", "Plot it."],
            [(0, 1), (1, 2)],
        ),
        ("Fetch the orders\nClean the data", ["Fetch the orders", "Clean the data"], [(0, 1)]),
        ("1. Fetch it\n2) Load it\n(3) Tell it", ["Fetch it", "Load it", "Tell it"], [(0, 1), (1, 2)]),
        (
            "- Paint the fence\n* [ ] Mow the lawn\n• Feed the cat",
            ["Paint the fence", "Mow the lawn", "Feed the cat"],
            [],
        ),
        (
            "Do the chores:\n- Paint\n  both sides\n  - twice\n- Mow",
            ["Paint\nboth sides\n- twice\n\nContext: Do the chores:", "Mow\n\nContext: Do the chores:"],
            [],
        ),
        # One task, because nothing says for sure that the parts are tasks
        (
            "Fetch the orders. They are in the warehouse.",
            ["Fetch the orders. They are in the warehouse."],
            [],
        ),
        ("Tell me how tea is made. Why?", ["Tell me how tea is made. Why?"], []),
        ("Send it to Dr. Smith, e.g. Monday", ["Send it to Dr. Smith, e.g. Monday"], []),
        ("Go. Run. Stop.", ["Go. Run. Stop."], []),
        ("- Only one item", ["- Only one item"], []),
        ("1. One\n- Two", ["1. One\n- Two"], []),
        ("- One thing\n- Two things\nAll by Monday", ["- One thing\n- Two things\nAll by Monday"], []),
        ("10 - 3 is 7", ["10 - 3 is 7"], []),
    ],
)
async def test_a_goal_is_split_only_where_it_is_clear(
    goal: str, tasks: list[str], edges: list[tuple[int, int]]
) -> None:
    """List items and sentences that are instructions become tasks; in order, unless bullets leave it open."""
    plan = await decompose(goal)
    ids = list(plan.dag.nodes)

    assert plan.planner == "sentences"
    assert [task.description for task in plan.dag.nodes.values()] == tasks
    assert ends(plan.dag) == [(ids[source], ids[target]) for source, target in edges]


async def test_a_plan_of_sentences_says_what_it_is() -> None:
    """Nobody is to believe that the goal was understood."""
    one = await decompose("Bake a cake")
    several = await decompose("1. Fetch it\n2. Load it")
    bullets = await decompose("- Paint it\n- Mow it")

    assert one.notes == (
        "No playbook is used and no tasks were sent: the goal is one task, as it stands; nothing was decomposed.",
    )
    assert len(several.notes) == 1
    assert several.notes[0] == (
        "No playbook is used and no tasks were sent: each of the goal's 2 numbered items is one task, "
        "one after the other, as written; their meaning was not analysed."
    )
    assert "at once, for nothing orders them" in bullets.notes[0]


async def test_more_items_than_max_tasks_stay_one_task() -> None:
    """A limit is kept without dropping anything."""
    plan = await decompose("- Paint it\n- Mow it\n- Feed it", max_tasks=2)

    assert [task.description for task in plan.dag.nodes.values()] == ["- Paint it\n- Mow it\n- Feed it"]
    assert plan.notes[-1] == "The goal has 3 list items, more than max_tasks (2): it stays one task."


async def test_items_that_say_the_same_are_still_two_tasks() -> None:
    """Ids are made unique."""
    assert list((await decompose("- Paint it\n- Paint it!")).dag.nodes) == ["paint-it", "paint-it-2"]


async def test_a_goal_nothing_fits_is_answered_with_an_example_where_sentences_are_not_allowed() -> None:
    """The example is filled in for the goal, and is itself a plan that would be taken."""
    with pytest.raises(NoFittingPlanError) as refused:
        await decompose("Bake a cake", allow_sentences=False)

    error = refused.value
    assert error.code == "no_fitting_plan"
    assert [task["task_id"] for task in error.example] == ["gather", "do", "check"]
    assert "Bake a cake" in str(error.example)
    assert str(error).startswith(
        "There is no plan for the goal 'Bake a cake': no playbook is used and no tasks were sent. "
        'Fix: send `tasks` with the goal, for example [{"task_id": "gather", '
    )
    assert (await decompose("Bake a cake", tasks=list(error.example))).dag.validate_dependencies()


async def test_the_example_follows_the_goals_own_parts() -> None:
    """Where the goal lists steps, they are the example; and it says what was passed over."""
    with pytest.raises(NoFittingPlanError) as refused:
        await decompose("1. Fetch the orders\n2. Load them", Collaborator(None), allow_sentences=False)

    assert refused.value.example == (
        {"task_id": "fetch-the-orders", "description": "Fetch the orders"},
        {"task_id": "load-them", "description": "Load them", "depends_on": ["fetch-the-orders"]},
    )
    assert "The sequential_thinking collaborator was passed over: it answered NoneType without tasks." in str(
        refused.value
    )


def test_the_error_survives_pickling() -> None:
    """It may cross a process boundary."""
    error = NoFittingPlanError("g", [{"task_id": "a"}], ["r."])

    twin = pickle.loads(pickle.dumps(error))

    assert (twin.goal, twin.example, twin.reasons, str(twin)) == (
        error.goal,
        error.example,
        error.reasons,
        str(error),
    )


# --- Thoughts -------------------------------------------------------------------------------------------------------


async def test_every_step_is_sent_as_a_thought_while_the_server_is_open() -> None:
    """Numbers count up from 1, the total is never too low, and only the last thought is the last."""
    server = RecordingServer()

    plan = await AdvancedTaskDecomposer(thinking=server.opened).decompose(WEB)

    sent = [thought for thought, _, _ in server.sent]
    assert not server.is_open
    assert tuple(sent) == plan.thoughts
    assert [thought.number for thought in sent] == list(range(1, len(sent) + 1))
    assert [more for _, _, more in server.sent] == [True] * (len(sent) - 1) + [False]
    assert all(total >= thought.number for thought, total, _ in server.sent)
    assert plan.thinking_server == "in-process"


async def test_the_thoughts_say_what_was_done() -> None:
    """What was understood, which playbook fits and how well, its parameters, the order, the bound, the validation."""
    plan = await decompose(WEB, context={"technology_stack": "React"}, mode="ADAPTIVE")
    texts = [thought.text for thought in plan.thoughts]

    assert texts[0] == (
        f"The goal is: {WEB}. The context gives technology_stack; to be run adaptive; at most 20 tasks."
    )
    assert texts[1].startswith(f"Playbook 'web-application' (1.00) fits, by its example “{WEB}”; next is '")
    assert "technology_stack = React (from context.technology_stack)" in texts[2]
    assert "deployment_target = none (default)" in texts[2]
    assert texts[3].startswith(
        "The plan has 17 tasks on 9 levels: requirements; then threat-model, architecture,"
    )
    assert texts[3].endswith("Up to 4 tasks can run at once, for none of a level needs another's output.")
    assert "By the tasks' estimates the critical path is requirements → architecture" in texts[4]
    assert "on average at most 1.9 tasks run at once." in texts[4]
    assert (
        texts[5]
        == "Validated: 28 edges between known tasks, no cycle, and references name upstream tasks only."
    )


async def test_thoughts_about_small_plans_are_true_too() -> None:
    """One task, tasks without edges, without estimates, with optional and conditional edges, without a goal."""
    one = [thought.text for thought in (await decompose("Bake a cake")).thoughts]
    loose = [thought.text for thought in (await decompose("", tasks=["a", "b"])).thoughts]
    edges = [
        {"source": "a", "target": "b", "optional": True},
        {"source": "b", "target": "c", "condition": "status == 'failed'"},
    ]
    tasks = [{"task_id": "a", "estimate": 2}, {"task_id": "b"}, {"task_id": "c"}]
    chain = [
        thought.text for thought in (await decompose("x", tasks={"tasks": tasks, "edges": edges})).thoughts
    ]

    assert "The plan is one task: bake-a-cake." in one
    assert one[-1] == "Validated: the task is well formed; there are no edges, so nothing waits for anything."
    assert loose[0] == "No goal is stated. There is no context; the mode is left open; at most 20 tasks."
    assert "No task has an estimate. The longest chain has 1 of 2 tasks." in loose
    assert (
        loose[-1]
        == "Validated: all 2 tasks are well formed; there are no edges, so nothing waits for anything."
    )
    assert "Each task needs the one before it, so nothing can run at once." in chain[-3]
    assert chain[-2].startswith(
        "By estimates of 1 of 3 tasks the critical path is a → b → c: 6 s of 6 s of work"
    )
    assert chain[-1].startswith("Validated: 2 edges (1 with a condition, 1 optional) between known tasks,")


async def test_what_was_corrected_revises_the_thought_before() -> None:
    """A draft that was completed and a playbook that can't be used after all are revisions."""
    completed = await decompose("x", tasks=[{"title": "A"}])
    passed_over = await decompose(REPORT, max_tasks=3)

    revision = next(thought for thought in completed.thoughts if thought.revises)
    assert "The caller sends the tasks" in completed.thoughts[revision.revises - 1].text  # type: ignore[operator]
    assert revision.text == "What could mean only one thing was completed. Ids made for tasks without one: a."
    revision = next(thought for thought in passed_over.thoughts if thought.revises)
    assert "fits, by its example" in passed_over.thoughts[revision.revises - 1].text  # type: ignore[operator]


async def test_the_callers_thoughts_are_sent_first() -> None:
    """As texts or in the tool's own form, with what they revise and branch from."""
    server = RecordingServer()
    thoughts = [
        "First this",
        {"thought": "No, that", "thoughtNumber": 7, "isRevision": True, "revisesThought": 1},
        {"thought": "Or", "branchFromThought": 7, "branchId": "b", "nextThoughtNeeded": True},
        Thought(number=9, text="Last", revises=99),
    ]

    plan = await AdvancedTaskDecomposer(thinking=server.opened).decompose("Bake a cake", thoughts=thoughts)

    assert [thought for thought, _, _ in server.sent][:4] == [
        Thought(number=1, text="First this"),
        Thought(number=2, text="No, that", revises=1),
        Thought(number=3, text="Or", branch="b", branch_from=2),
        Thought(number=4, text="Last"),
    ]
    assert len(plan.thoughts) == len(server.sent) > 4


async def test_thoughts_may_be_json_text_or_one_text() -> None:
    """As everywhere, JSON inside a string is read."""
    assert (await decompose("Bake it", thoughts='["a", {"thought": "b"}]')).thoughts[1].text == "b"
    assert (await decompose("Bake it", thoughts="just one")).thoughts[0].text == "just one"


async def test_a_server_that_is_lost_costs_no_plan() -> None:
    """The thoughts stay with the plan, and a note says from where on they reached no server."""
    server = RecordingServer(lives_for=2)

    plan = await AdvancedTaskDecomposer(thinking=server.opened).decompose(WEB)

    assert len(plan.dag.nodes) > 8
    assert len(plan.thoughts) > 4
    assert "The thoughts from number 3 on reached no server: it is gone." in plan.notes


async def test_a_server_that_cannot_be_opened_costs_no_plan() -> None:
    """The answer says that the thoughts went nowhere."""

    @asynccontextmanager
    async def unavailable(*, is_there: bool = False) -> AsyncIterator[ThinkingServer]:
        if not is_there:
            raise SystemUnavailableError("sequential_thinking", "it is not there")
        yield RecordingServer()

    plan = await AdvancedTaskDecomposer(thinking=unavailable).decompose("Bake a cake")

    assert plan.thinking_server == "none"
    assert plan.notes[-1] == "The thoughts reached no server: it is not there."


async def test_a_server_that_was_replaced_is_said_in_the_notes() -> None:
    """Where npx is missing, the answer says which server took the thoughts, and why."""
    decomposer = AdvancedTaskDecomposer(thinking=lambda: thinking_process(("no-such-program-anywhere",)))

    plan = await decomposer.decompose("Bake a cake")

    assert plan.thinking_server == "in-process"
    assert plan.notes[-1] == (
        "The thoughts went to the thinking server inside this process: `no-such-program-anywhere` is not installed."
    )


async def test_by_default_the_server_inside_this_process_takes_the_thoughts() -> None:
    """A library user needs no process and no setting."""
    plan = await AdvancedTaskDecomposer().decompose("Bake a cake")

    assert plan.thinking_server == "in-process"
    assert not any("server" in note for note in plan.notes)


async def test_a_refusal_leaves_the_server_closed_and_unwrapped() -> None:
    """Errors of the plan come out as they are, from the real server too."""
    server = RecordingServer()

    with pytest.raises(NoFittingPlanError):
        await AdvancedTaskDecomposer(thinking=server.opened).decompose("Bake a cake", allow_sentences=False)
    with pytest.raises(InvalidDagError):
        await AdvancedTaskDecomposer().decompose("x", tasks=[])

    assert not server.is_open
    assert server.sent[-1][2] is False


# --- Arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"goal": ""}, "goal is ''; expected a text that says what is to be achieved. Fix: state the goal"),
        ({"goal": " \n"}, "goal is ' \\n'; expected a text"),
        ({"goal": 5}, "goal is 5; expected a text"),
        (
            {"goal": "x" * 20_001},
            "expected at most 20,000 characters, not 20,001. Fix: put the details into the context",
        ),
        ({"max_tasks": 0}, "max_tasks is 0; expected a whole number of at least 1."),
        ({"max_tasks": True}, "max_tasks is True; expected a whole number"),
        ({"mode": "fast"}, "mode is 'fast'; expected one of SIMPLE, HIERARCHICAL, ADAPTIVE."),
        ({"context": [1]}, "context is [1]; expected an object."),
        ({"context": {"x": object()}}, "expected an object of JSON values"),
        ({"context": {"x": float("nan")}}, "expected an object of JSON values"),
        (
            {"thoughts": [{"said": "x"}]},
            "thoughts[0] is {'said': 'x'}; expected a text, or an object with `thought`.",
        ),
        ({"thoughts": [""]}, "thoughts[0] is ''; expected a text"),
        ({"thoughts": ["x"] * 201}, "thoughts[200]"),
        (
            {"thoughts": ["x" * 8001]},
            "expected at most 200 thoughts of at most 8,000 characters. Fix: shorten them",
        ),
    ],
)
async def test_a_wrong_argument_is_refused_by_name(arguments: dict[str, Any], told: str) -> None:
    """The message says the value, what was expected and a fix."""
    with pytest.raises(InvalidArgumentError) as refused:
        await decompose(**{"goal": "Bake a cake", **arguments})

    assert told in str(refused.value)


async def test_mode_and_context_may_be_texts() -> None:
    """A mode by name in any case, a context as JSON."""
    plan = await decompose("Bake a cake", mode="adaptive", context='{"a": {"b": [1]}}')

    assert plan.mode is OrchestrationMode.ADAPTIVE
    assert plan.context == {"a": {"b": [1]}}


async def test_the_same_request_gives_the_same_plan() -> None:
    """Planning draws nothing and reads no clock."""
    first = await decompose(WEB, context={"deployment_target": "AWS"})
    second = await decompose(WEB, context={"deployment_target": "AWS"})

    assert first == second


# --- The plan -------------------------------------------------------------------------------------------------------


async def test_a_stored_plan_has_an_id() -> None:
    """Until then it has none."""
    plan = await decompose("Bake a cake")

    assert (plan.plan_id, plan.revision) == (None, 1)
    assert plan.stored("bake-a-cake-1").plan_id == "bake-a-cake-1"
