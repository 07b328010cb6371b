"""Changes of a running orchestration's graph: what becomes of added, changed, removed, linked and skipped tasks."""

from __future__ import annotations

import pytest

from orchestration.engine.effects import FindItems, GatherOutputs
from orchestration.engine.events import PlanEdited, TaskSkipped
from orchestration.engine.graph import present_graph
from orchestration.engine.inputs import GraphChange, Routes
from orchestration.errors import NotPossibleError, RevisionConflictError
from orchestration.models import (
    Fallback,
    OrchestrationMode,
    OrchestrationStatus,
    TaskNode,
    TaskPriority,
)
from tests.engine_kit import events_of, plan
from tests.unit.engine_starts import fields, links, started

HERE = Routes(systems={"new": "there", "x": "there"})


# Revisions


def test_a_change_is_one_revision_with_who_and_why() -> None:
    """Everything stands in the event."""
    bench = started("a", "b", edges=("a b",))

    events = events_of(
        bench.edit(
            added=(TaskNode("new"),), linked=links("a new"), routes=HERE, by="caller", reason="more to do"
        )
    )

    assert events == [
        PlanEdited(
            revision=2,
            by="caller",
            reason="more to do",
            added=(TaskNode("new"),),
            linked=links("a new"),
            routes={"new": "there", "x": "there"},
        )
    ]
    assert bench.state.revision == 2
    assert bench.task("new").system == "there"


def test_a_change_for_another_revision_is_refused() -> None:
    """Nothing is changed; the refusal says which there is."""
    bench = started("a")
    bench.edit(added=(TaskNode("b"),))
    before = list(bench.journal)

    for expected in (1, 3):
        with pytest.raises(RevisionConflictError) as caught:
            bench.edit(added=(TaskNode("c"),), expected=expected)
        assert (caught.value.expected, caught.value.present) == (expected, 2)
    assert bench.journal == before


def test_revisions_count_edits_and_alternatives_alike() -> None:
    """One log for every editor."""
    bench = started("a", mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.edit(added=(TaskNode("b"),))
    bench.fail("a")
    bench.offer("a", plan("x"))
    bench.edit(removed=(), added=(TaskNode("c"),), undoes=2)

    revisions = [event.revision for event in events_of(bench.journal) if hasattr(event, "revision")]
    assert revisions == [2, 3, 4]
    assert bench.state.revision == 4


def test_an_alternative_made_before_an_edit_still_fits() -> None:
    """A planner answers about the task, not about a revision."""
    bench = started("a", "b", edges=("a b",), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.fail("a")
    bench.edit(added=(TaskNode("new"),), linked=links("a new"))

    bench.offer("a", plan("x"))
    bench.run_out()

    assert bench.history() == ["a#1", "x~1#1", "b#1", "new#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


# Adding


def test_an_added_task_runs_when_its_upstream_has() -> None:
    """At once when it has none."""
    bench = started("a")

    bench.edit(added=(TaskNode("b"), TaskNode("c")), linked=links("a c"))

    assert bench.running == ["a", "b"]
    bench.run_out()
    assert bench.history() == ["a#1", "b#1", "c#1"]


def test_an_edge_from_what_has_settled_is_decided_at_once() -> None:
    """Delivering or dead, as its upstream ended."""
    bench = started("done", "broken", "a")
    bench.succeed("done")
    bench.fail("broken")

    bench.edit(
        added=(TaskNode("b"), TaskNode("c"), TaskNode("h"), TaskNode("o")),
        linked=links("done b", "broken c", "broken h if status == 'failed'", "broken o?"),
    )

    assert bench.statuses() == {
        "done": "completed", "broken": "failed", "a": "running",
        "b": "running", "c": "skipped", "h": "running", "o": "running",
    }  # fmt: skip


def test_a_condition_on_what_has_completed_sees_its_output() -> None:
    """Whoever asks brings it; without it the change is refused, and can be tried again."""
    bench = started("done", "a")
    bench.succeed("done", {"n": 1})
    change = GraphChange(
        added=(TaskNode("b"), TaskNode("c")), linked=links("done b if output.n > 0", "done c if output.n > 1")
    )

    with pytest.raises(NotPossibleError) as caught:
        bench.edit(change)
    assert str(caught.value) == (
        "Task 'done' is completed by now, and its output was not looked at, so it can't be linked. Try again."
    )
    assert bench.state.revision == 1
    bench.edit(change, values={"done": {"n": 1}})

    assert bench.statuses() == {"done": "completed", "a": "running", "b": "running", "c": "skipped"}


def test_a_condition_that_can_not_be_decided_fails_the_added_task() -> None:
    """As it would at the upstream's end; an optional edge is dead, with a warning."""
    bench = started("done", "a")
    bench.succeed("done", {"n": 1})

    bench.edit(
        added=(TaskNode("b"), TaskNode("c")),
        linked=links("done b if output.x > 0", "done c? if output.x > 0"),
        values={"done": {"n": 1}},
    )

    assert bench.statuses() == {"done": "completed", "a": "running", "b": "failed", "c": "running"}
    assert bench.error("b").code == "condition_error"
    assert len(bench.state.warnings) == 1


def test_an_id_that_is_there_can_not_be_added() -> None:
    """Neither what runs nor what was replaced."""
    bench = started("a", "b", mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.fail("a")
    bench.offer("a", plan("x"))

    for name in ("a", "b", "x~1"):
        with pytest.raises(NotPossibleError, match="is there already, so it can't be added"):
            bench.edit(added=(TaskNode(name),))


# Changing


def test_a_changed_task_is_what_it_is_from_then_on() -> None:
    """Its routes, too."""
    bench = started("a", "b", edges=("a b",))

    bench.edit(
        changed=(TaskNode("b", tool="new", fallback=Fallback(tool="f")),),
        routes=Routes(systems={"b": "x"}, others={"b": ("y",)}, fallbacks={"b": ("z",)}),
    )

    task = bench.task("b")
    assert (task.node.tool, task.system, task.others, task.fallback_systems) == ("new", "x", ("y",), ("z",))
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_task_that_waits_for_a_retry_is_tried_at_once_when_it_is_changed() -> None:
    """Under a new key, with all its retries."""
    bench = started(TaskNode("a", max_retries=1))
    bench.fail("a", retryable=True, jitter=0.9)

    bench.edit(changed=(TaskNode("a", max_retries=1, tool="better"),))

    assert bench.running == ["a"]
    assert (bench.task("a").generation, bench.task("a").failures) == (2, 0)
    bench.wait(120)
    assert bench.history() == ["a#1", "a#2"]


def test_a_changed_task_has_its_fallbacks_before_it_again() -> None:
    """What took over was of the task as it was."""
    bench = started(TaskNode("a", tool="one", fallback=Fallback(tool="two", max_retries=1)))
    bench.fail("a")
    bench.fail("a", retryable=True)
    assert bench.statuses() == {"a": "retrying"}

    bench.edit(changed=(TaskNode("a", tool="three", fallback=Fallback(tool="four")),))
    bench.fail("a")

    assert bench.task("a").node.tool == "four"


def test_a_priority_changes_nothing_but_the_order() -> None:
    """Not the key, not what was asked, not the back-off, and not which fallback it has come to."""
    bench = started(
        TaskNode("a", tool="one", fallback=Fallback(tool="two", max_retries=1)),
        TaskNode("b", approval="person"),
        "c",
    )
    bench.described("b")
    bench.fail("a")
    bench.fail("a", retryable=True, jitter=0.9)
    shown = present_graph(bench.state).nodes
    effects = len(bench.effects)

    bench.edit(
        changed=tuple(
            TaskNode(**{**fields(shown[name]), "priority": TaskPriority.URGENT}) for name in ("a", "b")
        )
    )

    assert bench.statuses() == {"a": "retrying", "b": "awaiting_approval", "c": "running"}
    assert bench.task("a").generation == 2
    assert (bench.task("a").node.tool, bench.task("a").node.priority) == ("two", TaskPriority.URGENT)
    assert present_graph(bench.state).nodes["a"].priority is TaskPriority.URGENT
    assert present_graph(bench.state).nodes["a"].tool == "one"
    assert len(bench.effects) == effects


def test_a_priority_of_a_task_that_names_a_replaced_one_changes_only_the_order() -> None:
    """Its references read otherwise in the present graph, and mean the same."""
    user = TaskNode("c", approval="person", arguments={"x": "${a.y}"})
    bench = started("a", user, edges=("a c",), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.fail("a")
    bench.offer("a", plan("x"))
    bench.succeed("x~1", {"y": 1})
    bench.described("c")
    shown = present_graph(bench.state).nodes["c"]
    assert shown.arguments == {"x": "${x~1.y}"}

    bench.edit(changed=(TaskNode(**{**fields(shown), "priority": TaskPriority.LOW}),))

    assert bench.statuses()["c"] == "awaiting_approval"
    assert bench.task("c").node.arguments == {"x": "${a.y}"}


def test_a_ready_task_starts_in_its_new_rank() -> None:
    """The queue is ordered anew."""
    bench = started("a", "b", "c", slots=1)

    bench.edit(changed=(TaskNode("c", priority=TaskPriority.URGENT),))
    bench.succeed("a")

    assert bench.running == ["c"]


def test_a_task_can_become_a_list_and_a_list_a_task() -> None:
    """Before it begins."""
    bench = started("u", "a", TaskNode("t", foreach=[1]), edges=("u a", "u t"))

    bench.edit(changed=(TaskNode("a", foreach=[1, 2]), TaskNode("t")))
    bench.succeed("u")

    assert [effect.task_id for effect in bench.of(FindItems)] == ["a"]
    assert bench.running == ["t"]
    bench.go_on()
    assert bench.outcome is OrchestrationStatus.COMPLETED


# Removing, linking, unlinking


def test_a_removed_task_never_starts() -> None:
    """What depended on it goes on without; it counts in no total."""
    bench = started("a", "b", "c", edges=("a b", "b c"))

    bench.edit(removed=("b",))
    assert bench.statuses() == {"a": "running", "b": "superseded", "c": "running"}
    assert bench.state.total_tasks == 2

    bench.run_out()
    assert bench.history() == ["a#1", "c#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED
    assert list(present_graph(bench.state).nodes) == ["a", "c"]


def test_a_ready_task_can_be_removed() -> None:
    """It waited for a slot."""
    bench = started("a", "b", slots=1)

    bench.edit(removed=("b",))
    bench.run_out()

    assert bench.history() == ["a#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_removing_the_last_open_task_ends_the_orchestration() -> None:
    """There is nothing left to wait for."""
    bench = started(TaskNode("a", approval="person"))
    bench.described("a")

    bench.edit(removed=("a",))

    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_removed_task_can_be_added_again() -> None:
    """As an undo does; under another key."""
    bench = started("a", "b", edges=("a b",))
    bench.edit(removed=("b",))

    bench.edit(added=(TaskNode("b", tool="x"),), linked=links("a b"), undoes=1)
    bench.run_out()

    assert bench.history() == ["a#1", "b#1"]
    assert bench.task("b").generation == 2
    assert (bench.task("b").position, list(bench.state.tasks)) == (1, ["a", "b"])
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_new_edge_makes_a_ready_task_wait() -> None:
    """Until its new upstream has settled."""
    bench = started("a", "b", "c", slots=1)
    assert bench.statuses()["c"] == "ready"

    bench.edit(linked=links("b c"))

    assert bench.statuses() == {"a": "running", "b": "ready", "c": "pending"}
    bench.run_out()
    assert bench.history() == ["a#1", "b#1", "c#1"]


def test_a_new_edge_from_what_has_failed_skips_a_ready_task() -> None:
    """As it would have at its end."""
    bench = started("broken", "a", "c", slots=2)
    bench.pause()
    bench.fail("broken")
    assert bench.statuses()["c"] == "ready"

    bench.edit(linked=links("broken c"))

    assert bench.statuses()["c"] == "skipped"


def test_the_last_edge_gone_lets_a_task_begin() -> None:
    """There is nothing left to wait for."""
    bench = started("a", "b", edges=("a b",))

    bench.edit(unlinked=(("a", "b"),))

    assert bench.running == ["a", "b"]


def test_an_edge_is_changed_by_taking_it_away_and_adding_it() -> None:
    """Here it becomes optional."""
    bench = started("a", "b", edges=("a b",))

    bench.edit(unlinked=(("a", "b"),), linked=links("a b?"))
    bench.fail("a")

    assert bench.statuses() == {"a": "failed", "b": "running"}


def test_a_paused_descendant_that_is_cut_loose_begins() -> None:
    """The replanning can't matter to it any more."""
    bench = started("a", "b", edges=("a b",), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.fail("a")
    assert bench.statuses() == {"a": "replanning", "b": "paused"}

    bench.edit(unlinked=(("a", "b"),))

    assert bench.running == ["b"]
    bench.refuse("a")
    assert bench.statuses() == {"a": "failed", "b": "running"}


# Skipping


def test_a_skipped_task_skips_what_requires_it() -> None:
    """It says who wants it so; optional dependents run."""
    bench = started("a", "b", "c", "o", edges=("a b", "b c", "b o?"))

    events = events_of(bench.edit(skipped=("b",), reason="not this time"))

    skipped = [event for event in events if isinstance(event, TaskSkipped)]
    assert [(event.task_id, event.because, event.reason) for event in skipped] == [
        ("b", "", "person wants it so: not this time"),
        ("c", "b", ""),
    ]
    assert bench.task("b").note == "skipped: person wants it so: not this time"
    assert bench.statuses() == {"a": "running", "b": "skipped", "c": "skipped", "o": "running"}
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_tasks_that_depend_on_each_other_are_skipped_together() -> None:
    """What follows anyhow is not done twice."""
    bench = started("u", "a", "b", "c", edges=("u a", "a b", "b c"))

    bench.edit(skipped=("a", "b", "c"))

    assert bench.statuses() == {"u": "running", "a": "skipped", "b": "skipped", "c": "skipped"}


def test_a_skipped_parent_skips_its_parts() -> None:
    """None of them has begun; and they may be named, too."""
    bench = started("u", "p", TaskNode("a", parent="p"), TaskNode("b", parent="p"), edges=("u p", "a b"))

    bench.edit(skipped=("p", "a"))

    assert bench.statuses() == {"u": "running", "p": "skipped", "a": "skipped", "b": "skipped"}


def test_what_is_skipped_and_cut_loose_at_once_does_not_begin() -> None:
    """Whether it runs by itself or has parts."""
    bench = started(
        "u", "a", "p", TaskNode("x", parent="p"), TaskNode("t", foreach=[1]), edges=("u a", "u p", "u t")
    )

    bench.edit(unlinked=(("u", "a"), ("u", "p"), ("u", "t")), skipped=("a", "p", "t"))

    assert bench.statuses() == {
        "u": "running",
        "a": "skipped",
        "p": "skipped",
        "x": "skipped",
        "t": "skipped",
    }
    assert bench.of(FindItems) == []


def test_what_is_to_be_skipped_does_not_begin_because_another_is() -> None:
    """An optional edge from the one lets the other go on, were it not to be skipped, too."""
    bench = started("u", "a", "p", TaskNode("x", parent="p"), "b", edges=("u a", "a p?", "p b?"))

    bench.edit(skipped=("a", "p"))

    assert bench.statuses() == {
        "u": "running",
        "a": "skipped",
        "p": "skipped",
        "x": "skipped",
        "b": "running",
    }
    assert bench.history() == ["u#1", "b#1"]


def test_a_task_that_asks_for_approval_can_be_skipped() -> None:
    """Nobody is asked any more."""
    bench = started(TaskNode("a", approval="person"))
    bench.described("a")

    bench.edit(skipped=("a",))

    assert bench.task("a").asked_digest is None
    assert bench.outcome is OrchestrationStatus.COMPLETED


# Parts


def test_a_part_added_to_a_parent_that_has_begun_is_fed_what_it_is_fed() -> None:
    """And begins at once; the parent waits for it."""
    bench = started("u", "p", TaskNode("a", parent="p"), "d", edges=("u p", "p d"))
    bench.succeed("u")

    bench.edit(added=(TaskNode("b", parent="p"), TaskNode("c", parent="p")), linked=links("a c"))

    assert bench.running == ["a", "b"]
    assert [(edge.source, edge.delivers) for edge in bench.task("b").incoming] == [("u", True)]
    assert [edge.source for edge in bench.task("c").incoming] == ["a"]
    bench.run_out()
    bench.gathered("p")
    bench.run_out()
    assert bench.history() == ["u#1", "a#1", "b#1", "c#1", "d#1"]


def test_a_part_cut_loose_in_a_parent_that_has_begun_is_fed_what_it_is_fed() -> None:
    """It has become one of the first."""
    bench = started("u", "p", TaskNode("a", parent="p"), TaskNode("b", parent="p"), edges=("u p", "a b"))
    bench.succeed("u")

    bench.edit(unlinked=(("a", "b"),))

    assert bench.running == ["a", "b"]
    assert [edge.source for edge in bench.task("b").incoming] == ["u"]


def test_parts_make_a_task_a_parent() -> None:
    """One that has not begun."""
    bench = started("u", "p", edges=("u p",))

    bench.edit(added=(TaskNode("a", parent="p"),))
    bench.succeed("u")

    assert bench.statuses() == {"u": "completed", "p": "expanded", "a": "running"}
    assert bench.state.total_tasks == 2


def test_a_task_about_to_run_by_itself_gets_no_parts() -> None:
    """It is too late."""
    bench = started("a", "p", slots=1)

    with pytest.raises(NotPossibleError, match="it is ready, about to run by itself"):
        bench.edit(added=(TaskNode("x", parent="p"),))


def test_removing_the_last_open_part_lets_the_parent_end() -> None:
    """Its outputs are gathered."""
    bench = started("p", TaskNode("a", parent="p"), TaskNode("b", parent="p"), slots=1)
    bench.pause()
    bench.succeed("a")

    bench.edit(removed=("b",))

    assert len(bench.of(GatherOutputs)) == 1
    bench.gathered("p")
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_removing_the_last_open_part_after_a_failure_fails_the_parent() -> None:
    """And what depends on it is skipped, whether somebody drives or not."""
    for is_driven in (True, False):
        bench = started(
            "p", TaskNode("a", parent="p"), TaskNode("b", parent="p"), "d", edges=("p d",), slots=1
        )
        bench.pause()
        bench.fail("a")
        if not is_driven:
            bench.crash()

        bench.edit(removed=("b",))

        assert bench.statuses() == {"p": "failed", "a": "failed", "b": "superseded", "d": "skipped"}
        assert bench.outcome is OrchestrationStatus.FAILED


def test_more_parts_wanted_while_outputs_are_gathered_are_waited_for() -> None:
    """What was gathered without them does not count."""
    bench = started("p", TaskNode("a", parent="p"))
    bench.succeed("a")

    bench.edit(added=(TaskNode("b", parent="p"),))
    bench.gathered("p", "too early", generation=1)
    assert bench.statuses() == {"p": "expanded", "a": "completed", "b": "running"}
    bench.succeed("b")
    bench.gathered("p", "still without", generation=1)
    assert bench.statuses()["p"] == "expanded"
    bench.gathered("p", generation=2)

    assert bench.statuses()["p"] == "completed"
    assert [effect.generation for effect in bench.of(GatherOutputs)] == [1, 2]
