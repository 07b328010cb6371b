"""A plan is handed out while the model makes it: upstreams first, always valid, never changed afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from orchestration.errors import ConfigurationError, InvalidDagError, SystemUnavailableError
from orchestration.models import TaskEdge
from orchestration.planning.decomposer import AdvancedTaskDecomposer
from orchestration.planning.drafts import task_drafts
from orchestration.planning.model_options import ModelOptions
from orchestration.planning.model_planner import ModelPlanner
from orchestration.planning.plan import Plan
from orchestration.planning.proposal import SystemTools, TaskBatch
from orchestration.ports import ToolInfo
from tests.planning.model_server import Answer, ModelServer, model_server, plan

pytestmark = pytest.mark.anyio

GOAL = "Bake a cake"
MIX = {"task_id": "mix", "description": "Mix"}
HEAT = {"task_id": "heat", "description": "Heat the oven"}
BAKE = {"task_id": "bake", "description": "Bake", "depends_on": ["mix", "heat"]}
EAT = {
    "task_id": "eat",
    "description": "Eat",
    "depends_on": [{"task_id": "bake", "condition": "output.good"}],
}
BEGUN = ['{"thoughts": ["one"], "tasks": [', '{"task_id": "mix", "description": "Mix"}']
"""An answer up to the end of its first task."""


def decomposer(server: ModelServer, collaborator: object = None, **more: Any) -> AdvancedTaskDecomposer:
    given = {"name": "own", "base_url": server.url, "max_retries": 0, "start_early": True, **more}
    return AdvancedTaskDecomposer(collaborator, model=ModelPlanner(ModelOptions.model_validate(given)))


async def streamed(
    server: ModelServer,
    goal: str = GOAL,
    *,
    collaborator: object = None,
    model: dict[str, Any] | None = None,
    **more: Any,
) -> tuple[list[TaskBatch], Plan]:
    """Return the batches of a plan, and the plan."""
    with anyio.fail_after(10):
        async with decomposer(server, collaborator, **(model or {})).stream(goal, **more) as stream:
            batches = [batch async for batch in stream]
            return batches, stream.plan


def ids(batches: Sequence[TaskBatch]) -> list[list[str]]:
    return [[task.task_id for task in batch.tasks] for batch in batches]


async def test_each_task_is_handed_out_as_soon_as_it_is_whole() -> None:
    """While the answer is still being made: here it never ends."""
    async with model_server(Answer(pieces=BEGUN, never=True)) as server:
        with anyio.fail_after(10):
            async with decomposer(server).stream(GOAL) as stream:
                batch = await anext(stream)
                with pytest.raises(RuntimeError, match="The plan is not whole"):
                    _ = stream.plan
            await server.reader_left.wait()

    assert ids([batch]) == [["mix"]]


async def test_the_batches_are_the_plan() -> None:
    """One by one, each with the edges that lead to it; in the end the same plan as by other planning."""
    async with model_server(plan([MIX, HEAT, BAKE, EAT], ["one", "two"])) as server:
        batches, made = await streamed(server)
        whole = await decomposer(server).decompose(GOAL)

    assert ids(batches) == [["mix"], ["heat"], ["bake"], ["eat"]]
    assert [batch.edges for batch in batches] == [
        (),
        (),
        (TaskEdge("mix", "bake"), TaskEdge("heat", "bake")),
        (TaskEdge("bake", "eat", condition="output.good"),),
    ]
    assert made.dag == whole.dag
    assert (made.planner, made.thinking_server) == ("model:own", "in-process")
    assert [thought.text for thought in made.thoughts] == [thought.text for thought in whole.thoughts]
    assert made.notes == whole.notes


async def test_a_task_waits_for_the_ones_it_depends_on() -> None:
    """In whatever order the model names them."""
    async with model_server(plan([EAT, BAKE, HEAT, MIX])) as server:
        batches, made = await streamed(server)

    assert ids(batches) == [["heat"], ["mix"], ["bake"], ["eat"]]
    assert list(made.dag.nodes) == ["heat", "mix", "bake", "eat"]


async def test_a_reference_to_a_distant_task_comes_with_its_edge() -> None:
    """The edges of a batch are those of the plan: none is added later."""
    bake = {**BAKE, "depends_on": ["mix"]}
    eat = {"task_id": "eat", "description": "Eat", "depends_on": ["bake"], "arguments": {"x": "${mix.bowl}"}}

    async with model_server(plan([eat, bake, MIX])) as server:
        batches, made = await streamed(server)

    assert ids(batches) == [["mix"], ["bake"], ["eat"]]
    assert batches[2].edges == (TaskEdge("bake", "eat"), TaskEdge("mix", "eat"))
    assert made.dag.edges == [edge for batch in batches for edge in batch.edges]


async def test_what_is_wrong_is_mended_while_what_was_handed_out_stays() -> None:
    """The model is told what is fixed and what of the rest is wrong; it sends only the rest, mended."""
    wrong = {**BAKE, "depends_on": ["mix", "oven"]}

    async with model_server(plan([MIX, HEAT, wrong]), plan([BAKE])) as server:
        batches, made = await streamed(server)

    assert ids(batches) == [["mix"], ["heat"], ["bake"]]
    assert list(made.dag.nodes) == ["mix", "heat", "bake"]
    assert [draft["task_id"] for draft in server.data()["existing"]] == ["mix", "heat"]
    assert server.data()["problems"] == [
        "tasks[0].depends_on[1]: names task 'oven', which is not in the plan. Fix: The tasks are: mix, heat, bake."
    ]


async def test_an_id_that_comes_twice_in_one_answer_is_mended() -> None:
    """What was handed out stays; what the second one meant is asked for, not dropped."""
    other = {"task_id": "mix", "description": "Grease the tin"}
    grease = {"task_id": "grease", "description": "Grease the tin"}
    async with model_server(plan([MIX, other, HEAT]), plan([MIX, grease, HEAT])) as server:
        batches, _ = await streamed(server)

    assert sorted(task for batch in ids(batches) for task in batch) == ["grease", "heat", "mix"]
    assert len(server.asked) == 2


async def test_what_is_fixed_is_neither_repeated_nor_changed() -> None:
    """Though the model sends all of it again, and otherwise."""
    again = plan([{**MIX, "description": "Mix twice"}, {**HEAT, "depends_on": ["bake"]}, BAKE])

    async with model_server(plan([MIX, HEAT, {**BAKE, "depends_on": ["oven"]}]), again) as server:
        batches, made = await streamed(server)

    assert ids(batches) == [["mix"], ["heat"], ["bake"]]
    assert made.dag.nodes["mix"].description == "Mix"
    assert made.dag.edges == [TaskEdge("mix", "bake"), TaskEdge("heat", "bake")]


async def test_a_connection_that_breaks_is_taken_up_where_it_broke() -> None:
    """What was handed out stays; the rest comes with the next answer."""
    async with model_server(Answer(pieces=BEGUN, is_cut=True), plan([HEAT, BAKE])) as server:
        batches, made = await streamed(server)

    assert ids(batches) == [["mix"], ["heat"], ["bake"]]
    assert list(made.dag.nodes) == ["mix", "heat", "bake"]


async def test_a_tool_nobody_has_is_not_handed_out() -> None:
    """Neither is what depends on it."""

    async def find_tools() -> list[SystemTools]:
        return [SystemTools(name="kitchen", tools=[ToolInfo(name="mixer")])]

    answer = plan([{**MIX, "tool": "blender"}, HEAT, BAKE])
    async with model_server(answer, plan([{**MIX, "tool": "mixer"}, BAKE])) as server:
        options = ModelOptions.model_validate({"name": "own", "base_url": server.url})
        with anyio.fail_after(10):
            async with AdvancedTaskDecomposer(model=ModelPlanner(options), find_tools=find_tools).stream(
                GOAL
            ) as stream:
                batches = [batch async for batch in stream]

    assert ids(batches) == [["heat"], ["mix"], ["bake"]]


async def test_more_tasks_than_were_asked_for_are_not_handed_out() -> None:
    """The limit holds for what is handed out, too; what is over it has to be mended."""
    async with model_server(plan([MIX, HEAT, BAKE]), plan([])) as server:
        batches, made = await streamed(server, max_tasks=2)

    assert ids(batches) == [["mix"], ["heat"]]
    assert len(made.dag.nodes) == 2
    assert server.data()["problems"] == [
        "tasks: has 1 tasks; at most 0 are allowed. Fix: Plan more coarsely."
    ]


async def test_a_rest_that_can_not_be_made_ends_the_plan() -> None:
    """What was handed out was, and whoever iterates is told why there is no more; nobody else plans the rest."""
    async with model_server(plan([MIX, {**BAKE, "depends_on": ["oven"]}])) as server:
        with anyio.fail_after(10):
            async with decomposer(server).stream(GOAL) as stream:
                batch = await anext(stream)
                with pytest.raises(SystemUnavailableError) as failed:
                    await anext(stream)

    assert ids([batch]) == [["mix"]]
    assert failed.value.reason.startswith(
        "after 2 mendings its plan still has mistakes: tasks[0].depends_on[0]: names"
    )


@pytest.mark.parametrize(
    "answer", [Answer(status=500, error="on fire"), Answer(refusal="No."), Answer(text="Well …")]
)
async def test_a_model_that_hands_out_nothing_is_replaced_by_the_next_planner(answer: Answer) -> None:
    """Its plan comes as one batch, and the notes say why."""
    web = "Build a web application with user authentication"

    async with model_server(answer) as server:
        batches, made = await streamed(server, web)

    assert made.planner == "playbook:web-application"
    assert ids(batches) == [list(made.dag.nodes)]
    assert batches[0].edges == tuple(made.dag.edges)
    assert any("was passed over" in note for note in made.notes)


async def test_a_plan_by_somebody_else_is_one_batch() -> None:
    """The collaborator's; the model is not asked."""

    class Collaborator:
        async def analyze_task_decomposition(self, **asked: Any) -> Any:
            return {"tasks": [MIX, {**BAKE, "depends_on": ["mix"]}]}

    async with model_server(plan([HEAT])) as server:
        batches, made = await streamed(server, collaborator=Collaborator())

    assert ids(batches) == [["mix", "bake"]]
    assert (made.planner, made.thinking_server, server.asked) == ("sequential_thinking", "collaborator", [])


async def test_a_plan_is_gone_on_with_after_a_crash() -> None:
    """What was handed out before is told to the model, and only the rest comes; the plan is the whole."""
    async with model_server(plan([MIX, HEAT, BAKE])) as server:
        before, _ = await streamed(server)
        dag = (await decomposer(server).decompose(GOAL)).dag
        existing = task_drafts(dag)[:2]
        server.answers = [plan([BAKE, EAT])]
        batches, made = await streamed(server, existing=existing, max_tasks=4)

    assert ids(before) == [["mix"], ["heat"], ["bake"]]
    assert server.data()["existing"] == existing
    assert "at most 2 of them" in server.instructions()
    assert ids(batches) == [["bake"], ["eat"]]
    assert list(made.dag.nodes) == ["mix", "heat", "bake", "eat"]


async def test_nobody_but_the_model_goes_on_with_a_plan() -> None:
    """A playbook would make another plan."""
    async with model_server(Answer(status=500, error="no")) as server:
        with pytest.raises(SystemUnavailableError, match="its provider answered 500"):
            await streamed(server, "Build a web application", existing=[MIX])

    with anyio.fail_after(5), pytest.raises(SystemUnavailableError, match="no language model is configured"):
        async with AdvancedTaskDecomposer().stream(GOAL, existing=[MIX]) as stream:
            await anext(stream)


async def test_a_whole_plan_that_needs_no_more_ends_at_once() -> None:
    """The model may find that nothing is missing."""
    async with model_server(plan([])) as server:
        batches, made = await streamed(server, existing=[MIX])

    assert batches == []
    assert list(made.dag.nodes) == ["mix"]


async def test_what_exists_must_be_a_plan() -> None:
    """The model is not asked to go on with what it can't mend."""
    async with model_server(plan([EAT])) as server:
        with pytest.raises(InvalidDagError, match="names task 'mix', which is not in the plan"):
            await streamed(server, existing=[BAKE])

    assert server.asked == []


async def test_errors_come_as_they_are() -> None:
    """No group is around them: neither the reader's own, nor a mistake of the configuration."""
    async with model_server(plan([MIX])) as server:
        failed: Exception | None = None
        try:
            async with decomposer(server).stream(GOAL) as stream:
                await anext(stream)
                raise KeyError("mine")
        except KeyError as exc:
            failed = exc
        assert isinstance(failed, KeyError)

        with pytest.raises(ConfigurationError):
            await streamed(server, model={"name": "nobody:model", "base_url": None})


async def test_whoever_is_cancelled_leaves_no_request_behind() -> None:
    """The connection to the provider is closed."""
    async with model_server(Answer(pieces=BEGUN, never=True)) as server:
        with anyio.CancelScope() as scope:
            async with decomposer(server).stream(GOAL) as stream:
                await anext(stream)
                scope.cancel()
                await anext(stream)
        with anyio.fail_after(5):
            await server.reader_left.wait()


def test_whether_tasks_may_start_early_is_the_configurations_choice() -> None:
    """Without a model there is nothing to start early."""
    early = ModelPlanner(ModelOptions(name="own", start_early=True))

    assert AdvancedTaskDecomposer(model=early).starts_early
    assert not AdvancedTaskDecomposer(model=ModelPlanner(ModelOptions(name="own"))).starts_early
    assert not AdvancedTaskDecomposer().starts_early
