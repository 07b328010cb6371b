"""Alternatives are thought through in branches before one of them is taken."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import anyio
import pytest

from orchestration.planning.decomposer import AdvancedTaskDecomposer
from orchestration.planning.plan import Plan
from orchestration.planning.sequential_thinking import thinking_process
from orchestration.ports import Thought
from tests.planning.recording_thinking_server import command, environment, recorded, thoughts

pytestmark = pytest.mark.anyio

LOOSE = """\
    name: loose-tea
    title: Make tea from leaves
    description: Makes tea from leaves.
    goals: [Brew a pot of tea]
    words: {pot: [cup], green: [black]}
    parameters:
      kind: {default: black, from_goal: ['\\b(?P<value>green|white)\\b']}
    subtasks:
      - {task_id: boil, description: Boil water, estimated_time_seconds: 120}
      - {task_id: steep, description: "Steep the {{kind}} leaves", depends_on: [boil], estimated_time_seconds: 180}
    """
BAGS = """\
    name: bag-tea
    title: Make tea from bags
    goals: [Brew a pot of tea]
    words: {pot: [cup], green: [black]}
    subtasks:
      - {task_id: steep, description: Pour water on a bag, estimated_time_seconds: 60}
    """
NEEDY = """\
    name: needy-tea
    title: Make tea in a machine
    goals: [Brew a pot of tea]
    words: {pot: [cup], green: [black]}
    systems: [machine]
    subtasks:
      - {task_id: press, description: Press the button}
    """


async def decompose(folder: Path, goal: str, *playbooks: str, thinking: object = None) -> Plan:
    for index, text in enumerate(playbooks):
        (folder / f"{index}.yaml").write_text(dedent(text))
    decomposer = AdvancedTaskDecomposer(
        playbook_folders=[folder],
        systems=lambda: {"kettle"},
        thinking=thinking,  # type: ignore[arg-type]
    )
    with anyio.fail_after(20):
        return await decomposer.decompose(goal)


def branches(plan: Plan) -> dict[str, Thought]:
    return {thought.branch: thought for thought in plan.thoughts if thought.branch}


async def test_two_playbooks_that_fit_are_compared_in_branches(tmp_path: Path) -> None:
    """Each is tried from the same thought on, and the decision says why."""
    plan = await decompose(tmp_path, "Brew a pot of green tea", BAGS, LOOSE)
    texts = [thought.text for thought in plan.thoughts]
    tried = branches(plan)

    assert plan.planner == "playbook:loose-tea"
    assert texts[1].startswith("2 of 7 playbooks fit the goal: 'bag-tea' (1.00), 'loose-tea' (1.00).")
    assert list(tried) == ["playbook-bag-tea", "playbook-loose-tea"]
    assert {thought.branch_from for thought in tried.values()} == {2}
    assert tried["playbook-loose-tea"].text == (
        "Playbook 'loose-tea' (1.00), by its example “Brew a pot of tea”: 1 of 1 parameter known; 2 tasks, "
        "300 s on the critical path."
    )
    assert tried["playbook-bag-tea"].text.endswith("it has no parameters; 1 task, 60 s on the critical path.")
    assert texts[4] == (
        "Playbook 'loose-tea' is taken: it fits as well as 'bag-tea' and more of its parameters are known. "
        "Makes tea from leaves."
    )
    assert plan.thoughts[4].branch is None
    assert "Playbook 'bag-tea' fits the goal, too." in plan.notes


async def test_of_two_equal_playbooks_the_first_is_taken(tmp_path: Path) -> None:
    """The same goal always gives the same plan."""
    plan = await decompose(tmp_path, "Brew a pot of tea", BAGS, LOOSE)

    assert plan.planner == "playbook:bag-tea"
    assert any("it fits as well as 'loose-tea' and stands before it" in each.text for each in plan.thoughts)


async def test_a_playbook_that_fits_less_but_can_be_used_is_taken(tmp_path: Path) -> None:
    """One that lacks something does not take the plan with it; the notes say what it lacks."""
    plan = await decompose(tmp_path, "Brew a pot of tea", NEEDY, BAGS)

    assert plan.planner == "playbook:bag-tea"
    assert branches(plan)["playbook-needy-tea"].text.endswith(
        "it can't be used, for it needs the system 'machine', which is not configured."
    )
    assert any(
        "Playbook 'bag-tea' is taken: 'needy-tea' can't be used." in each.text for each in plan.thoughts
    )
    assert (
        "Playbook 'needy-tea' fits the goal but was not used: "
        "it needs the system 'machine', which is not configured." in plan.notes
    )


async def test_where_none_of_several_can_be_used_the_thought_is_revised(tmp_path: Path) -> None:
    """The next planner takes over."""
    plan = await decompose(
        tmp_path,
        "Brew a pot of tea",
        NEEDY,
        NEEDY.replace("needy-tea", "poor-tea").replace("machine]", "samovar]"),
    )
    revision = next(thought for thought in plan.thoughts if thought.revises)

    assert plan.planner == "sentences"
    assert revision.revises == 2
    assert revision.text == (
        "None of them can be used after all: 'needy-tea': it needs the system 'machine', which is not configured; "
        "'poor-tea': it needs the system 'samovar', which is not configured."
    )
    assert sum("but was not used" in note for note in plan.notes) == 2


async def test_the_goals_own_sentences_are_an_alternative_to_a_playbook(tmp_path: Path) -> None:
    """Where a goal takes itself apart, that is thought of before the playbook is kept."""
    listed = await decompose(tmp_path, "Brew a pot of tea:\n- find the cups\n- get the water", BAGS)
    alone = await decompose(tmp_path, "Brew a pot of tea", BAGS)

    assert listed.planner == "playbook:bag-tea"
    branch = branches(listed)["sentences"]
    assert branch.branch_from == 2
    assert branch.text.startswith(
        "Taken by its own words, the goal would be 2 tasks, at once: find-the-cups, get-the-water."
    )
    after = listed.thoughts[branch.number]
    assert (after.branch, after.text) == (
        None,
        "The playbook is kept: it has 1 task with no edges, and estimates for 1 of them.",
    )
    assert branches(alone) == {}


async def test_a_recording_server_shows_the_thoughts_of_a_plan_with_its_branches(tmp_path: Path) -> None:
    """Over stdio, in order, with what branches from where and which is the last; exactly those of the plan."""
    (tmp_path / "record").mkdir()
    plan = await decompose(
        tmp_path,
        "Brew a pot of green tea",
        BAGS,
        LOOSE,
        thinking=lambda: thinking_process(command(tmp_path / "record"), env=environment()),
    )
    (sent,) = thoughts(tmp_path / "record")
    (lines,) = recorded(tmp_path / "record").values()

    assert plan.thinking_server == "process"
    assert [line["thoughtNumber"] for line in sent] == list(range(1, len(plan.thoughts) + 1))
    assert [line["thought"] for line in sent] == [thought.text for thought in plan.thoughts]
    assert [(line.get("branchId"), line.get("branchFromThought")) for line in sent][1:5] == [
        (None, None),
        ("playbook-bag-tea", 2),
        ("playbook-loose-tea", 2),
        (None, None),
    ]
    assert lines[-1] == {"branches": ["playbook-bag-tea", "playbook-loose-tea"]}
    assert [line["nextThoughtNeeded"] for line in sent] == [True] * (len(sent) - 1) + [False]
