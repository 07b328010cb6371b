"""Replanning, and putting an alternative in a failed task's place.

The sentences quoted are those of docs/semantics.md, "Replanning and splicing".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestration.dag import TaskDAG
from orchestration.engine.effects import RequestAlternative
from orchestration.engine.engine import EngineOptions
from orchestration.engine.events import PlanRevised, ReplanRequested
from orchestration.models import OrchestrationMode, OrchestrationStatus, TaskEdge, TaskNode, TaskStatus
from tests.engine_kit import Bench, events_of, graph, plan


def adaptive(dag: TaskDAG, **settings: Any) -> Bench:
    """Return a started orchestration whose failed tasks may get alternatives."""
    bench = Bench(dag, mode=OrchestrationMode.ADAPTIVE, can_replan=True, **settings)
    bench.start()
    return bench


def refused_because(bench: Bench, task_id: str) -> str:
    error = bench.task(task_id).error
    assert error is not None
    assert bench.statuses()[task_id] == "failed"
    return error.message


# When an alternative is asked for


def test_a_task_that_used_up_its_attempts_asks_for_an_alternative() -> None:
    """It is `replanning`, and its error goes with the question."""
    bench = adaptive(graph([TaskNode("a", max_retries=1)]))
    bench.fail("a", retryable=True, jitter=0.0)
    bench.wait(0)

    decision = bench.fail("a", retryable=True)

    [effect] = decision.effects
    assert isinstance(effect, RequestAlternative)
    assert (effect.task_id, effect.error.message) == ("a", "a broke")
    assert bench.statuses() == {"a": "replanning"}


def test_a_failure_that_repeating_cannot_help_asks_at_once() -> None:
    """It "goes straight" past the retries."""
    bench = adaptive(graph("a"))

    bench.fail("a", retryable=False)

    assert bench.asked() == ["a"]


@pytest.mark.parametrize("mode", [OrchestrationMode.SIMPLE, OrchestrationMode.HIERARCHICAL])
def test_only_adaptive_asks(mode: OrchestrationMode) -> None:
    """ "Then, in ADAPTIVE, an alternative plan"."""
    bench = Bench(graph("a"), mode=mode, can_replan=True)
    bench.start()

    bench.fail("a")

    assert bench.asked() == []
    assert bench.statuses() == {"a": "failed"}


def test_nobody_to_ask_means_nobody_is_asked() -> None:
    """Without a planner the task fails at once."""
    bench = Bench(graph("a"), mode=OrchestrationMode.ADAPTIVE, can_replan=False)
    bench.start()

    bench.fail("a")

    assert bench.statuses() == {"a": "failed"}


def test_pending_required_descendants_are_paused_and_everything_else_goes_on() -> None:
    """ "Its pending required descendants are `paused`; everything else goes on"."""
    dag = graph("a need deep maybe other", "a need", "need deep", "a maybe?", "other deep")
    bench = adaptive(dag)

    decision = bench.fail("a")

    [event] = [event for event in events_of(decision) if isinstance(event, ReplanRequested)]
    assert event.paused == ("need", "deep")
    assert bench.statuses() == {
        "a": "replanning",
        "need": "paused",
        "deep": "paused",
        "maybe": "pending",
        "other": "running",
    }


def test_a_task_two_replannings_hold_waits_for_both() -> None:
    """It is pending again when the last one has ended."""
    bench = adaptive(graph("a b join", "a join", "b join"))
    bench.fail("a")
    bench.fail("b")

    bench.offer("a", plan("x"))
    between = bench.statuses()["join"]
    bench.offer("b", plan("y"))

    assert between == "paused"
    assert bench.statuses()["join"] == "pending"


def test_a_paused_task_is_skipped_as_soon_as_another_upstream_is_dead() -> None:
    """The rule of required edges holds for paused tasks too."""
    bench = adaptive(graph("a b join", "a join", "b join"), options=EngineOptions(max_replans=1))
    bench.fail("a")

    bench.fail("b")

    assert bench.statuses() == {"a": "replanning", "b": "failed", "join": "skipped"}
    bench.offer("a", plan("x"))
    bench.succeed("x~1")
    assert bench.outcome is OrchestrationStatus.FAILED


@pytest.mark.parametrize("answer", ["alternative", "none", "crash"])
def test_a_paused_task_that_needs_the_replanned_one_no_longer_starts(answer: str) -> None:
    """What stood between them failed for another reason, and the task handles that failure."""
    dag = graph(
        "a other between mend",
        "a between",
        TaskEdge("other", "between", ["path"]),
        "between mend if status == 'failed'",
    )
    bench = adaptive(dag)
    bench.fail("a")
    before = bench.statuses()["mend"]

    bench.succeed("other", {})

    assert before == "paused"
    assert bench.statuses() == {
        "a": "replanning",
        "other": "completed",
        "between": "failed",
        "mend": "running",
    }
    match answer:
        case "alternative":
            bench.offer("a", plan("x"))
        case "none":
            bench.refuse("a")
        case _:
            bench.crash()
            bench.start()
            bench.refuse("a")
    bench.run_out()
    assert bench.statuses()["mend"] == "completed"
    assert bench.state.status.is_terminal


def test_no_alternative_fails_the_task_and_skips_what_needs_it() -> None:
    """The error says why there is none."""
    bench = adaptive(graph("a b c", "a b", "a c if status == 'failed'"))
    bench.fail("a")

    bench.refuse("a", "the planner is asleep")

    assert refused_because(bench, "a") == "a broke (no alternative plan: the planner is asleep)"
    assert bench.statuses() == {"a": "failed", "b": "skipped", "c": "running"}


def test_an_answer_nobody_waits_for_is_ignored() -> None:
    """Late, repeated, or about something else."""
    bench = adaptive(graph("a b"))
    bench.fail("a")
    bench.offer("a", plan("x"))

    late = [bench.offer("a", plan("y")), bench.refuse("a"), bench.refuse("b"), bench.refuse("nobody")]

    assert all(decision.events == [] for decision in late)


# Splicing


def test_an_alternative_takes_the_tasks_place() -> None:
    """Ids "get the suffix `~1`"; the superseded task counts "in no total"."""
    bench = adaptive(graph("a b c", "a b", "b c"))
    bench.succeed("a")
    bench.fail("b")

    bench.offer("b", plan("x y", "x y"), routes={"x": "there", "y": "elsewhere"}, reason="try this")

    assert bench.statuses() == {
        "a": "completed",
        "b": "superseded",
        "c": "pending",
        "x~1": "running",
        "y~1": "pending",
    }
    assert bench.state.total_tasks == 4
    assert bench.task("x~1").system == "there"
    bench.run_out()
    assert bench.starts() == ["a#1", "b#1", "x~1#1", "y~1#1", "c#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_the_roots_inherit_the_incoming_edges_as_they_were_decided() -> None:
    """ "Its roots inherit the failed task's incoming edges": conditions are not asked again, dead stays dead."""
    dag = graph(
        "a b old",
        TaskEdge("a", "old", ["path"], condition="output.ok"),
        TaskEdge("b", "old", is_optional=True),
    )
    bench = adaptive(dag, options=EngineOptions(max_replans_per_task=1))
    bench.succeed("a", {"ok": True, "path": "/x"})
    bench.fail("b")
    bench.refuse("b")
    bench.fail("old")

    bench.offer("old", plan("x y join", "x join", "y join"))

    for root in ("x~1", "y~1"):
        edges = {edge.source: edge for edge in bench.task(root).incoming}
        assert {source: edge.delivers for source, edge in edges.items()} == {"a": True, "b": False}
        assert edges["a"].edge.data_requirements == ["path"]
    assert [edge.source for edge in bench.task("join~1").incoming] == ["x~1", "y~1"]
    assert bench.statuses()["x~1"] == "running"


def test_dependents_take_the_replacements_output_for_the_superseded_ones() -> None:
    """ "Dependents keep their edges and references: whatever names a superseded task means its replacement"."""
    bench = adaptive(graph("a b", "a b"))
    bench.fail("a")
    bench.offer("a", plan("x y", "x y"))

    [edge] = bench.task("b").incoming

    assert (edge.edge.source_task_id, edge.source) == ("a", "y~1")
    assert bench.state.current("a") == "y~1"
    assert bench.state.current("b") == "b"


def test_the_edges_of_the_superseded_task_are_decided_by_the_replacement() -> None:
    """Conditions and data requirements see the new output."""
    dag = graph("a b c", TaskEdge("a", "b", ["path"]), "a c if output.n > 1")
    bench = adaptive(dag)
    bench.fail("a")
    bench.offer("a", plan("x"))

    bench.succeed("x~1", {"path": "/x", "n": 1})

    assert bench.statuses() == {"a": "superseded", "b": "running", "c": "skipped", "x~1": "completed"}


def test_references_between_the_new_tasks_follow_their_new_ids() -> None:
    """At any depth, in text too; a literal `$${` and other tasks' names stay."""
    first = TaskNode("x", tool="x")
    second = TaskNode(
        "y",
        tool="y",
        arguments={
            "whole": "${x}",
            "text": "got ${ x.rows[0] } of ${a.total}",
            "deep": [{"k": "${x.k}"}],
            "literal": "$${x}",
            "number": 7,
            "other": "${xx}",
        },
    )
    bench = adaptive(graph("a b", "a b"))
    bench.succeed("a")
    bench.fail("b")

    bench.offer("b", graph([first, second], "x y"))

    assert bench.task("y~1").node.arguments == {
        "whole": "${x~1}",
        "text": "got ${ x~1.rows[0] } of ${a.total}",
        "deep": [{"k": "${x~1.k}"}],
        "literal": "$${x}",
        "number": 7,
        "other": "${xx}",
    }


def test_new_tasks_begin_as_pending_whatever_the_planner_called_them() -> None:
    """A planner may send a task back with the status it was shown."""
    bench = adaptive(graph("a"))
    bench.fail("a")

    bench.offer("a", graph([replace(TaskNode("x", tool="x"), status=TaskStatus.FAILED)]))

    assert bench.task("x~1").node.status is TaskStatus.PENDING
    assert bench.statuses()["x~1"] == "running"


def test_an_alternative_of_an_alternative_counts_on() -> None:
    """ "Its ids get the suffix `~1`, `~2`": one suffix, the latest; names follow the whole way."""
    bench = adaptive(graph("a b", "a b"))
    bench.fail("a")
    bench.offer("a", plan("x"))
    bench.fail("x~1")

    bench.offer("x~1", plan("z"))

    assert bench.statuses() == {"a": "superseded", "b": "pending", "x~1": "superseded", "z~2": "running"}
    assert (bench.state.current("a"), bench.state.current("x~1")) == ("z~2", "z~2")
    assert bench.state.revision == 3
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_an_alternative_may_reuse_the_failed_tasks_own_id() -> None:
    """A planner that answers with a better `fetch` for `fetch` makes `fetch~1`, then `fetch~2`."""
    bench = adaptive(graph("fetch"))
    bench.fail("fetch")
    bench.offer("fetch", graph([TaskNode("fetch", tool="second")]))
    bench.fail("fetch~1")

    bench.offer("fetch~1", graph([TaskNode("fetch~1", tool="third")]))

    assert list(bench.statuses()) == ["fetch", "fetch~1", "fetch~2"]
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_new_ids_never_meet_ids_that_are_there() -> None:
    """A DAG exported from a replanned run has a `fetch~1` already; it is not overwritten."""
    bench = adaptive(graph("fetch fetch~1"))
    bench.fail("fetch")

    bench.offer("fetch", graph([TaskNode("fetch", tool="second")]))

    assert list(bench.statuses()) == ["fetch", "fetch~1", "fetch~2"]
    assert bench.task("fetch~1").node.tool is None
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_an_alternative_whose_ids_differ_in_their_suffix_only_is_refused() -> None:
    """`x` and `x~1` would become one task."""
    bench = adaptive(graph("a"))
    bench.fail("a")

    bench.offer("a", plan("x x~1", "x x~1"))

    assert "two of its tasks would be called 'x~1'" in refused_because(bench, "a")


def test_references_to_suffixed_siblings_follow_too() -> None:
    """A planner that was shown `x~1` may name it."""
    bench = adaptive(graph("a"))
    bench.fail("a")
    second = TaskNode("y", tool="y", arguments={"from": "${x~1.path}"})

    bench.offer("a", graph([TaskNode("x~1", tool="x"), second], "x~1 y"))

    assert bench.task("y~1").node.arguments == {"from": "${x~1.path}"}
    assert list(bench.statuses()) == ["a", "x~1", "y~1"]


def test_several_leaves_need_the_one_that_delivers() -> None:
    """ "One delivering task (its only leaf, or the one named `delivers`)"."""
    refused = adaptive(graph("a"))
    refused.fail("a")
    refused.offer("a", plan("x left right", "x left", "x right"))
    taken = adaptive(graph("a b", "a b"))
    taken.fail("a")

    taken.offer("a", plan("x left right", "x left", "x right"), delivers="right")

    reason = "the alternative has 2 leaves (left, right) and names none that delivers"
    assert refused_because(refused, "a") == f"a broke (no alternative plan: {reason})"
    assert taken.state.current("a") == "right~1"
    taken.run_out()
    assert taken.outcome is OrchestrationStatus.COMPLETED


def test_the_delivering_task_may_be_no_leaf() -> None:
    """What comes after it goes on beside the dependents."""
    bench = adaptive(graph("a b", "a b"))
    bench.fail("a")
    bench.offer("a", plan("x tidy", "x tidy"), delivers="x")

    bench.succeed("x~1")

    assert sorted(bench.running) == ["b", "tidy~1"]


def test_delivers_must_name_one_of_the_tasks() -> None:
    """A wrong name is refused with the name."""
    bench = adaptive(graph("a"))
    bench.fail("a")

    bench.offer("a", plan("x"), delivers="y")

    assert "the alternative says 'y' delivers, which is not one of its tasks" in refused_because(bench, "a")


def test_an_empty_alternative_is_refused() -> None:
    """Nothing can't stand for something."""
    bench = adaptive(graph("a"))
    bench.fail("a")

    bench.offer("a", TaskDAG("nothing"))

    assert refused_because(bench, "a") == "a broke (no alternative plan: the alternative has no task)"


def test_an_alternative_with_a_cycle_is_refused() -> None:
    """Its tasks could never start, and the orchestration would never end."""
    bench = adaptive(graph("a"))
    bench.fail("a")

    bench.offer("a", plan("x y z", "x y", "y x", "x z"))

    assert "form a cycle: x → y → x" in refused_because(bench, "a")


def test_an_alternative_with_an_edge_from_elsewhere_is_refused() -> None:
    """Its edges join its own tasks; it inherits the rest."""
    bench = adaptive(graph("a b"))
    bench.fail("a")

    bench.offer("a", plan("x", "b x"))

    assert "An edge names task 'b', which is not in the DAG" in refused_because(bench, "a")


# What was tried already


def test_what_failed_is_no_alternative_for_itself() -> None:
    """ "An identical alternative is refused", whatever it is called."""
    bench = adaptive(graph([TaskNode("a", description="Fetch it", tool="fetch", arguments={"n": 1})]))
    bench.fail("a")

    bench.offer("a", graph([TaskNode("again", description="Fetch it", tool="fetch", arguments={"n": 1})]))

    assert (
        refused_because(bench, "a")
        == "a broke (no alternative plan: the alternative is what was tried already)"
    )


def test_an_alternative_that_failed_is_refused_the_second_time() -> None:
    """Under other ids as well, and with references between its tasks."""
    second = TaskNode("y", tool="y", arguments={"from": "${x.path}"})
    offered = graph([TaskNode("x", tool="x"), second], "x y")
    bench = adaptive(graph("a"))
    bench.fail("a")
    bench.offer("a", offered)
    bench.succeed("x~1")
    bench.fail("y~1")

    bench.offer("y~1", offered)

    assert "what was tried already" in refused_because(bench, "y~1")


def test_the_original_is_no_alternative_for_its_own_alternative() -> None:
    """What failed first failed too."""
    bench = adaptive(graph([TaskNode("a", tool="first")]))
    bench.fail("a")
    bench.offer("a", graph([TaskNode("a", tool="second")]))
    bench.fail("a~1")

    bench.offer("a~1", graph([TaskNode("a", tool="first")]))

    assert "what was tried already" in refused_because(bench, "a~1")


def test_what_was_tried_for_another_task_may_be_tried_for_this_one() -> None:
    """A planner with one good answer gives it more than once; it failed nowhere yet."""
    bench = adaptive(graph([TaskNode("a", tool="one"), TaskNode("b", tool="two")]))
    bench.fail("a")
    bench.offer("a", plan("careful"))
    bench.fail("b")

    bench.offer("b", plan("careful"))

    assert list(bench.statuses()) == ["a", "b", "careful~1", "careful~2"]


# Limits


def test_a_task_is_replanned_twice_at_most() -> None:
    """ "Limits: 2 replans per task"; the third time it fails without a question."""
    bench = adaptive(graph("a"))
    bench.fail("a")
    bench.offer("a", plan("x"))
    bench.fail("x~1")
    bench.offer("x~1", plan("y"))

    bench.fail("y~2")

    assert bench.asked() == ["a", "x~1"]
    assert bench.statuses()["y~2"] == "failed"
    assert bench.outcome is OrchestrationStatus.FAILED


def test_an_orchestration_is_replanned_five_times_at_most() -> None:
    """ "5 per orchestration"."""
    bench = adaptive(graph("a b c d e f g"), slots=10)
    for number, task_id in enumerate("abcdefg"):
        bench.fail(task_id)
        if number < 5:
            bench.offer(task_id, plan(f"for-{task_id}"))

    assert bench.asked() == list("abcde")
    assert [bench.statuses()[task_id] for task_id in "fg"] == ["failed", "failed"]


def test_questions_under_way_count_against_the_limit() -> None:
    """Ten tasks that fail at once do not get ten alternatives."""
    bench = adaptive(graph("a b c d e f g"), slots=10)

    for task_id in "abcdefg":
        bench.fail(task_id)

    assert bench.asked() == list("abcde")
    assert [bench.statuses()[task_id] for task_id in "fg"] == ["failed", "failed"]


def test_limits_are_the_engines_options() -> None:
    """Zero turns replanning off."""
    bench = adaptive(graph("a"), options=EngineOptions(max_replans=0))

    bench.fail("a")

    assert bench.asked() == []


# Order


def test_new_tasks_are_ready_in_the_order_of_the_plan() -> None:
    """Replay and history agree on every order, whatever the process's hash seed is."""
    names = [f"n{number}" for number in range(30)]
    bench = adaptive(graph("a"), slots=1)
    bench.fail("a")
    bench.state.touched.clear()

    bench.offer("a", plan(" ".join([*names, "last"]), *(TaskEdge(name, "last") for name in names)))

    assert [name for name in bench.state.touched if name != "a"] == [f"{name}~1" for name in [*names, "last"]]
    bench.run_out()
    assert bench.starts()[1:] == [f"{name}~1#1" for name in [*names, "last"]]


def test_the_revision_is_one_complete_event() -> None:
    """Final ids, inherited edges, routes and the delivering task: replay needs nothing else."""
    bench = adaptive(graph("a b", "a b"))
    bench.succeed("a")
    bench.fail("b")

    decision = bench.offer("b", plan("x y", "x y"), routes={"x": "there"}, reason="b broke")

    [event] = [event for event in events_of(decision) if isinstance(event, PlanRevised)]
    assert (event.task_id, event.revision, event.delivers, event.reason) == ("b", 2, "y~1", "b broke")
    assert [task.task_id for task in event.tasks] == ["x~1", "y~1"]
    assert [(edge.source_task_id, edge.target_task_id) for edge in event.edges] == [
        ("x~1", "y~1"),
        ("a", "x~1"),
    ]
    assert event.routes == {"x~1": "there"}
