"""The recipes that come with the package have the shape a practitioner of that work expects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import anyio
import pytest

from orchestration.dag import TaskDAG
from orchestration.factory import create_advanced_task_orchestrator
from orchestration.models import Json, TaskEdge
from orchestration.planning.playbook import load_playbooks
from orchestration.planning.playbook_expansion import expand
from orchestration.planning.playbook_planner import bind

LIBRARY = load_playbooks()

FAILED_OR_SKIPPED = 'status == "failed" || status == "skipped"'


def planned(name: str, goal: str = "g", **context: Json) -> TaskDAG:
    """Return the DAG of a shipped playbook."""
    playbook = LIBRARY.playbooks[name]
    values = {key: each.value for key, each in bind(playbook, goal, context).items()} | {"goal": goal}
    return expand(playbook, values, LIBRARY.playbooks).to_dag("d", goal)


def value_of(name: str, parameter: str, goal: str, **context: Json) -> Any:
    return bind(LIBRARY.playbooks[name], goal, context)[parameter].value


def edge(dag: TaskDAG, source: str, target: str) -> TaskEdge:
    return next(
        found for found in dag.edges if (found.source_task_id, found.target_task_id) == (source, target)
    )


def is_before(dag: TaskDAG, *task_ids: str) -> bool:
    """Whether each task is reached from the one before it, by edges that gate."""
    onwards: dict[str, set[str]] = {}
    for found in dag.edges:
        if not found.is_optional:
            onwards.setdefault(found.source_task_id, set()).add(found.target_task_id)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in onwards.get(waiting.pop(), set()) - seen:
                seen.add(target)
                waiting.append(target)
        return seen

    return all(later in reached(earlier) for earlier, later in pairwise(task_ids))


@pytest.mark.parametrize("name", ["data-pipeline", "release", "research-report", "web-application"])
def test_a_recipe_fits_into_a_plan_and_says_what_each_step_takes(name: str) -> None:
    """With every optional part it stays within the tasks a plan may have, and each step is described and estimated."""
    every = {
        key: "given" for key, parameter in LIBRARY.playbooks[name].parameters.items() if not parameter.default
    }
    dag = planned(name, **every)

    assert 10 <= len(dag.nodes) <= 20
    for node in dag.nodes.values():
        assert len(node.description) > 60, node.task_id
        assert "{{" not in node.description
        assert node.estimated_time_seconds, node.task_id
        assert node.complexity_score, node.task_id
        assert node.metadata["title"], node.task_id


# --- data-pipeline --------------------------------------------------------------------------------------------------


def test_a_data_pipeline_shows_nothing_before_the_counts_add_up() -> None:
    """Each source is extracted and checked by itself, what is rejected is set aside, and the gate comes first."""
    dag = planned("data-pipeline", sources=["orders", "customers"])

    assert is_before(
        dag,
        *("contract", "extract", "validate", "quarantine", "quality-gate", "transform", "test-transformed"),
        *("load", "reconcile", "publish", "record-lineage"),
    )
    for task_id in ("extract", "validate"):
        assert dag.nodes[task_id].foreach == ["orders", "customers"]
        assert dag.nodes[task_id].arguments["source"] == "${item}"
    assert "notify" not in dag.nodes


def test_one_edge_watches_everything_that_can_fail_in_a_data_pipeline() -> None:
    """Whatever fails lets `publish` be skipped; the clean-up and the alert hang on that."""
    dag = planned("data-pipeline")

    for handler in ("clean-up", "alert"):
        assert edge(dag, "publish", handler).condition == FAILED_OR_SKIPPED
        assert not edge(dag, "publish", handler).is_optional
    assert edge(dag, "clean-up", "alert").is_optional


def test_a_message_of_a_data_pipeline_is_sent_once_and_only_where_somebody_waits() -> None:
    """Telling people twice is worse than asking."""
    dag = planned("data-pipeline", notify="the analysts")

    assert not dag.nodes["notify"].idempotent
    assert not dag.nodes["alert"].idempotent
    assert is_before(dag, "publish", "notify")
    assert dag.nodes["notify"].description.startswith("Tell the analysts that the batch is there")


@pytest.mark.parametrize(
    ("goal", "sources", "destination"),
    [
        ("Create an ETL pipeline from Salesforce, Stripe and our Postgres to BigQuery", 3, "BigQuery"),
        ("Load the CSV files from S3 into the warehouse every night", 1, "warehouse"),
        ("Run the data pipeline", 1, "the destination that the goal names"),
    ],
)
def test_sources_and_destination_are_found_in_a_goal(goal: str, sources: int, destination: str) -> None:
    """A sentence that names several gives several."""
    assert len(value_of("data-pipeline", "sources", goal)) == sources
    assert value_of("data-pipeline", "destination", goal) == destination


# --- research-report ------------------------------------------------------------------------------------------------


def test_a_research_report_is_checked_against_its_sources_before_it_is_edited() -> None:
    """Every question is searched and read by itself; claims are cross-checked; the draft is checked, then edited."""
    dag = planned("research-report", questions="who; why and how")

    assert is_before(
        dag,
        *("scope", "questions", "search", "screen", "read", "cross-check", "outline", "draft", "fact-check"),
        *("edit", "last-check"),
    )
    for task_id in ("search", "read"):
        assert dag.nodes[task_id].foreach == ["who", "why", "how"]
    fallback = dag.nodes["search"].fallback
    assert fallback is not None
    assert fallback.arguments["question"] == "${item}"


def test_what_makes_a_research_report_better_does_not_hold_it_up() -> None:
    """Without counter-evidence, figures or remarks it is poorer, and still written."""
    dag = planned("research-report", reviewer="Anna")

    assert edge(dag, "counter-evidence", "outline").is_optional
    assert edge(dag, "figures", "draft").is_optional
    assert edge(dag, "review", "edit").is_optional
    assert "review" not in planned("research-report").nodes


@pytest.mark.parametrize(
    ("goal", "parameter", "value"),
    [
        ("Write a research report on owls for the board", "audience", "board"),
        ("Write a research report of at most 12 pages on owls", "length", "at most 12 pages"),
        ("Research owls and report", "reviewer", ""),
    ],
)
def test_readers_and_length_are_found_in_a_goal(goal: str, parameter: str, value: str) -> None:
    """What the goal does not say has a default or is left out."""
    assert value_of("research-report", parameter, goal) == value


# --- release --------------------------------------------------------------------------------------------------------


def test_only_a_person_agrees_to_what_a_release_can_not_take_back() -> None:
    """Publishing waits for approval, is not retried and never repeated on its own; all that is checked comes before."""
    dag = planned("release")
    publish = dag.nodes["publish"]

    assert (publish.approval, publish.idempotent, publish.max_retries) == ("person", False, 0)
    assert [node.task_id for node in dag.nodes.values() if node.approval == "person"] == ["publish"]
    assert is_before(
        dag,
        *("freeze", "changelog", "version-bump", "build", "test", "sign", "stage", "smoke-test"),
        *("release-brief", "publish", "verify", "announce"),
    )
    assert is_before(dag, "freeze", "readiness", "version-bump")
    assert is_before(dag, "build", "bill-of-materials", "sign")


def test_a_release_is_built_and_tested_on_every_platform() -> None:
    """Also as a user would install it."""
    dag = planned("release", "Release v2 for Linux and Windows")

    for task_id in ("build", "test", "smoke-test"):
        assert dag.nodes[task_id].foreach == ["Linux", "Windows"]


def test_a_release_leads_back_in_two_ways() -> None:
    """What is published and does not hold is taken back; what was never published is given up."""
    dag = planned("release", announcement=False)

    assert edge(dag, "verify", "roll-back").condition == 'status == "failed"'
    assert edge(dag, "publish", "abandon").condition == FAILED_OR_SKIPPED
    # Else a release that was taken back would count as done: nothing would have been skipped for it.
    assert is_before(dag, "verify", "reopen")
    assert "announce" not in dag.nodes


@pytest.mark.parametrize(
    ("goal", "version", "product", "destination"),
    [
        ("Release version 2.1.0 of our Python library to PyPI", "2.1.0", "Python library", "PyPI"),
        ("Ship v1.2.0-rc1", "1.2.0-rc1", "the project", "the place the project publishes to"),
        (
            "Cut a release",
            "the next version, by semantic",
            "the project",
            "the place the project publishes to",
        ),
    ],
)
def test_version_product_and_destination_are_found_in_a_goal(
    goal: str, version: str, product: str, destination: str
) -> None:
    """What is not said is left to be decided by rules."""
    assert value_of("release", "version", goal).startswith(version)
    assert value_of("release", "product", goal) == product
    assert value_of("release", "destination", goal) == destination


# --- Run ------------------------------------------------------------------------------------------------------------


class Workers:
    """Do every task but those that are to fail, and remember which."""

    def __init__(self, failing: Sequence[str]) -> None:
        self.failing = failing
        self.done: set[str] = set()

    async def execute_task(self, context: Any) -> str:
        task_id = str(context.task_id).partition("[")[0]
        if task_id in self.failing:
            raise ValueError(f"{task_id} is broken")
        self.done.add(task_id)
        return f"{task_id} is done"


async def ran(dag: TaskDAG, *failing: str) -> tuple[bool, set[str]]:
    """Run a plan at once and without asking anybody; return whether it succeeded, and what was done."""
    for task_id, node in dag.nodes.items():
        dag.nodes[task_id] = replace(node, max_retries=0, approval=None)
    workers = Workers(failing)
    async with create_advanced_task_orchestrator(unified_controller=workers) as orchestrator:
        with anyio.fail_after(20):
            result = await orchestrator.execute_dag(dag)
    return result["success"], workers.done


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "handlers"),
    [
        ("data-pipeline", {"clean-up", "alert"}),
        ("release", {"roll-back", "abandon"}),
        ("research-report", set()),
        ("web-application", set()),
    ],
)
async def test_where_nothing_fails_everything_but_the_handlers_is_done(name: str, handlers: set[str]) -> None:
    """Whoever works answers in words alone."""
    dag = planned(name)

    assert await ran(dag) == (True, set(dag.nodes) - handlers)


@pytest.mark.anyio
@pytest.mark.parametrize("failing", ["contract", "extract", "quality-gate", "load", "reconcile", "publish"])
async def test_a_data_pipeline_that_fails_anywhere_cleans_up_and_raises_the_alert(failing: str) -> None:
    """It ends failed, nothing is published, and the two handlers run."""
    success, done = await ran(planned("data-pipeline", notify="all"), failing)

    assert not success
    assert {"clean-up", "alert"} <= done
    assert not {"publish", "notify", "record-lineage"} & done


@pytest.mark.anyio
@pytest.mark.parametrize("failing", ["freeze", "readiness", "test", "smoke-test", "publish"])
async def test_a_release_that_never_comes_to_be_is_given_up(failing: str) -> None:
    """Nothing is taken back, for nothing is out; nothing is announced."""
    success, done = await ran(planned("release"), failing)

    assert not success
    assert "abandon" in done
    assert not {"publish", "roll-back", "announce", "reopen"} & done


@pytest.mark.anyio
@pytest.mark.parametrize("announcement", [True, False])
async def test_a_release_that_does_not_hold_is_taken_back(announcement: bool) -> None:
    """It counts as failed whether or not there was something to announce."""
    dag = planned("release", announcement="the blog" if announcement else False)
    success, done = await ran(dag, "verify")

    assert not success
    assert {"publish", "roll-back"} <= done
    assert not {"announce", "abandon", "reopen"} & done


@pytest.mark.anyio
async def test_a_research_report_is_written_without_what_would_be_nice_to_have() -> None:
    """Counter-evidence, figures and remarks may fail."""
    success, done = await ran(
        planned("research-report", reviewer="Anna"), "counter-evidence", "figures", "review"
    )

    assert success
    assert {"edit", "last-check"} <= done
