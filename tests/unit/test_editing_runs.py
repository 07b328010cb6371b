"""Editing an orchestration that goes on: what is frozen, what follows, answers, undo; with the real engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestration.dag import TaskDAG
from orchestration.edits.consequences import Consequences, consequences, what_is_left
from orchestration.edits.editing import Edited, edit_graph, subject_of, undo_to
from orchestration.engine.events import OrchestrationSubmitted
from orchestration.engine.graph import present_graph
from orchestration.engine.inputs import (
    AlternativeFound,
    ApprovalDescribed,
    Approve,
    EditPlan,
    ItemsFound,
    NoAlternative,
    Routes,
)
from orchestration.engine.state import replay
from orchestration.errors import NotPossibleError, RevisionConflictError
from orchestration.models import Fallback, Json, OrchestrationMode, OrchestrationStatus, TaskEdge, TaskNode
from tests.engine_kit import Bench, graph, submitted


def started(dag: TaskDAG, **settings: Any) -> Bench:
    bench = Bench(dag, **settings)
    bench.start()
    return bench


def edited(bench: Bench, *operations: Any, by: str = "person") -> Edited:
    return edit_graph(subject_of(bench.state), list(operations), by=by)


def refused(bench: Bench, *operations: Any, by: str = "person") -> list[str]:
    return [str(problem) for problem in edited(bench, *operations, by=by).problems]


def request_of(
    bench: Bench, found: Edited, values: dict[str, Json] | None = None
) -> EditPlan | AlternativeFound:
    """Return what the driver would be asked, every task going to `here`."""
    assert found.problems == ()
    if found.alternative is not None:
        return AlternativeFound(
            orchestration_id=bench.id,
            task_id=found.alternative.task_id,
            dag=found.alternative.dag,
            routes=Routes(systems=dict.fromkeys(found.alternative.dag.nodes, "here")),
            delivers=found.alternative.delivers,
            by="person",
            expected_revision=bench.state.revision,
        )
    return EditPlan(
        orchestration_id=bench.id,
        expected_revision=bench.state.revision,
        change=found.change,
        values=values or {},
        undoes=found.undoes,
        reason=found.reason,
    )


def carry_out(bench: Bench, found: Edited, values: dict[str, Json] | None = None) -> Consequences:
    """Make a change on the engine, after asking what follows; both must say the same."""
    item = request_of(bench, found, values)
    told = consequences(replay(bench.id, bench.dag, bench.journal), item, found.change.skipped)
    before = bench.statuses()
    bench.tell(item)
    for task_id in told.skipped:
        assert bench.statuses()[task_id] == "skipped"
    for task_id in told.unblocked:
        assert before[task_id] in {"pending", "paused"}
        assert bench.statuses()[task_id] in {"ready", "running"}
    return told


def edit(bench: Bench, *operations: Any, values: dict[str, Json] | None = None) -> Consequences:
    return carry_out(bench, edited(bench, *operations), values)


def undo(bench: Bench, revision: int, by: str = "person") -> Edited:
    """Return what going back comes to."""
    events = bench.journal
    end = next(
        (index for index, entry in enumerate(events) if getattr(entry.event, "revision", 1) > revision),
        len(events),
    )
    earlier = present_graph(replay(bench.id, bench.dag, events[:end]))
    return undo_to(subject_of(bench.state), earlier, revision, by=by, since=events[end:])


# --- What is frozen -----------------------------------------------------------------------------------------------


def test_what_has_ended_is_frozen_and_what_runs_must_end_first() -> None:
    """Each refusal says which task, its status, and what can be done; nothing is changed by any of them."""
    bench = started(graph("done running waiting", "done running", "running waiting"))
    bench.succeed("done")

    assert refused(
        bench,
        {"op": "set", "task_id": "done", "tool": "x"},
        {"op": "set", "task_id": "running", "tool": "x"},
        {"op": "remove", "task_id": "done"},
        {"op": "set", "task_id": "waiting", "tool": "x"},
    ) == [
        (
            "operations[1]: set running: task 'running' (running, attempt 1) can't be changed. "
            "Fix: Cancel the orchestration, or wait for the attempt to end."
        ),
        (
            "operations[2]: remove done: task 'done' (completed) can't be removed: what has ended is frozen. "
            "Fix: Add another task, or change what comes after it."
        ),
    ]


def test_a_failed_task_is_retried_before_it_is_changed() -> None:
    """Its outcome stands until somebody reopens it."""
    bench = started(graph("a b"))
    bench.fail("a")

    assert refused(bench, {"op": "priority", "task_id": "a", "priority": "low"}) == [
        (
            "operations[0]: priority a: task 'a' (failed) can't be changed: what has ended is frozen. "
            "Fix: Retry it first, or add another task in its place."
        )
    ]


def test_edges_change_only_where_no_attempt_was_made() -> None:
    """What a task was fed is history once it has run; what it does next may still change."""
    bench = started(graph([TaskNode("a", max_retries=3), TaskNode("b"), TaskNode("c")], "a c"))
    bench.fail("a", retryable=True)

    (told,) = refused(bench, {"op": "link", "from": "b", "to": "a"})
    assert told.startswith("operations[0]: link b → a: task 'a' (retrying) can't be linked or unlinked: ")
    edit(bench, {"op": "set", "task_id": "a", "timeout_seconds": 5})
    assert bench.task("a").node.timeout_seconds == 5


def test_items_of_a_list_are_not_edited_one_by_one() -> None:
    """The task they came from is, before it begins."""
    bench = started(graph([TaskNode("each", foreach=["x", "y"]), TaskNode("after")], "each after"))
    bench.tell(ItemsFound(orchestration_id=bench.id, task_id="each", generation=1, count=2))

    assert refused(bench, {"op": "set", "task_id": "each[0]", "tool": "x"}) == [
        (
            "operations[0].task_id: names task 'each[0]', which is the child of 'each' for one item and can't be "
            "edited "
            "itself. Fix: Edit 'each', before it begins."
        )
    ]
    (told,) = refused(bench, {"op": "set", "task_id": "each", "tool": "x"})
    assert told.startswith("operations[0]: set each: task 'each' (expanded) can't be changed")


def test_a_task_that_was_replaced_is_known_under_its_old_name() -> None:
    """The refusal names the one that stands for it."""
    bench = started(graph("a b", "a b"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.fail("a")
    bench.offer("a", graph([TaskNode("copy", tool="copy")]))

    assert refused(
        bench, {"op": "link", "from": "a", "to": "b"}, {"op": "add", "task": {"task_id": "a"}}
    ) == [
        "operations[0].source_task_id: names task 'a', which was replaced by 'copy~1'. Fix: Write 'copy~1'.",
        (
            "operations[1].task: brings task 'a', but one of that id was replaced by 'copy~1'; ids are not used twice. "
            "Fix: Give the new one another id."
        ),
    ]


def test_a_task_that_runs_can_not_become_a_part_of_another_one() -> None:
    """On a plan it can; an orchestration's tasks stay on their level."""
    bench = started(
        graph(
            [TaskNode("whole"), TaskNode("part", parent="whole"), TaskNode("first"), TaskNode("x")],
            "first x",
            "first whole",
        )
    )

    assert refused(bench, {"op": "set", "task_id": "x", "parent": "whole", "depends_on": []}) == [
        (
            "operations[0].parent: set x: a running orchestration's task can't become a part of another one. "
            "Fix: Remove it, and add it as a part."
        )
    ]


# --- What follows -------------------------------------------------------------------------------------------------


def test_a_new_task_runs_as_soon_as_it_can() -> None:
    """What it depends on may be completed already."""
    bench = started(graph("a b", "a b"))
    bench.succeed("a")

    follows = edit(
        bench,
        {"op": "add", "task": {"task_id": "now", "depends_on": ["a"]}},
        {"op": "add", "task": {"task_id": "later", "depends_on": ["b", "now"]}},
    )

    assert (follows, bench.running) == (Consequences(), ["b", "now"])
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED
    assert bench.statuses()["later"] == "completed"


def test_skipping_a_task_skips_what_requires_it() -> None:
    """What only optionally depends on it runs all the same, and is told to be unblocked."""
    bench = started(graph("a b c d", "a b", "b c", "b d?"))

    follows = edit(bench, {"op": "skip", "task_id": "b", "reason": "it is loaded already"})

    assert follows == Consequences(skipped=("c",), unblocked=("d",))
    assert bench.task("b").note == "skipped: person wants it so: it is loaded already"
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_unlinking_lets_a_task_start() -> None:
    """It is told before, and it does."""
    bench = started(graph("a b", "a b"))

    assert edit(bench, {"op": "unlink", "from": "a", "to": "b"}).unblocked == ("b",)
    assert bench.running == ["a", "b"]


def test_an_edge_from_a_completed_task_is_decided_by_its_output() -> None:
    """A condition that does not hold skips the target at once; a dry run tells so."""
    bench = started(graph("a b c", "b c"))
    bench.succeed("a", {"rows": 0})

    follows = edit(
        bench,
        {"op": "link", "from": "a", "to": "c", "condition": "output.rows > 0"},
        values={"a": {"rows": 0}},
    )

    assert follows.skipped == ("c",)


def test_a_change_voids_an_agreement() -> None:
    """What somebody agreed to is not what would run now; they are asked anew."""
    bench = started(
        graph([TaskNode("first"), TaskNode("pay", approval="person"), TaskNode("then")], "pay then")
    )
    described = ApprovalDescribed(orchestration_id=bench.id, task_id="pay", generation=1, digest="ab" * 32)
    bench.tell(described)
    assert bench.statuses()["pay"] == "awaiting_approval"

    assert edit(bench, {"op": "set", "task_id": "pay", "arguments": {"to": "X"}}).voided == ("pay",)

    with pytest.raises(NotPossibleError, match="can't be approved"):
        bench.tell(Approve(orchestration_id=bench.id, task_id="pay", is_approved=True))


def test_a_priority_alone_voids_nothing() -> None:
    """The order of waiting tasks is nothing anybody agreed to."""
    bench = started(graph([TaskNode("pay", approval="person"), TaskNode("x")]))
    bench.tell(ApprovalDescribed(orchestration_id=bench.id, task_id="pay", generation=1, digest="ab" * 32))

    follows = edit(bench, {"op": "priority", "task_id": "pay", "priority": "urgent"})

    assert (follows.voided, bench.statuses()["pay"]) == ((), "awaiting_approval")


def test_removing_the_rest_ends_it() -> None:
    """A dry run tells that this would be the end."""
    bench = started(graph("a later", "a later"))
    bench.pause()
    bench.succeed("a")

    assert edit(bench, {"op": "remove", "task_id": "later"}).outcome is OrchestrationStatus.COMPLETED
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_what_is_left_is_what_has_not_settled() -> None:
    """The estimate after an edit is about that."""
    bench = started(graph("a b c", "a b", "b c"))
    bench.succeed("a")

    left = what_is_left(bench.state)

    assert (list(left.nodes), left.edges) == (["b", "c"], [TaskEdge("b", "c")])


# --- Revisions ----------------------------------------------------------------------------------------------------


def test_a_change_for_another_revision_is_refused() -> None:
    """The engine asks again: somebody may have been faster."""
    bench = started(graph("a b", "a b"))
    late = request_of(bench, edited(bench, {"op": "set", "task_id": "b", "tool": "late"}))
    edit(bench, {"op": "set", "task_id": "b", "tool": "first"})
    before = list(bench.journal)

    with pytest.raises(RevisionConflictError, match="expected_revision is 1, but 'o' has revision 2"):
        bench.tell(late)

    assert (bench.task("b").node.tool, bench.journal) == ("first", before)


def test_what_began_meanwhile_is_not_changed() -> None:
    """Between looking and changing, a task may have started: the same revision, and yet too late."""
    bench = started(graph("a b", "a b"))
    late = request_of(bench, edited(bench, {"op": "set", "task_id": "b", "tool": "late"}))
    bench.succeed("a")

    with pytest.raises(NotPossibleError, match="Task 'b' is running"):
        bench.tell(late)

    assert bench.task("b").node.tool is None


def test_undo_goes_back_while_nothing_of_it_has_begun() -> None:
    """The graph is as it was; the journal has both."""
    bench = started(graph("a b c", "a b", "b c"))
    before = present_graph(bench.state)
    edit(
        bench,
        {"op": "add", "task": {"task_id": "x", "depends_on": ["b"]}},
        {"op": "set", "task_id": "c", "tool": "other", "depends_on": ["x"]},
    )
    edit(bench, {"op": "remove", "task_id": "c"})

    carry_out(bench, undo(bench, 1))

    assert bench.state.revision == 4
    after = present_graph(bench.state)
    assert after.nodes == before.nodes
    assert sorted(map(str, after.edges)) == sorted(map(str, before.edges))
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_undo_names_what_has_begun() -> None:
    """One task that has begun is enough to refuse the whole."""
    bench = started(graph("a b", "a b"))
    edit(
        bench,
        {"op": "add", "task": {"task_id": "x"}},
        {"op": "add", "task": {"task_id": "y", "depends_on": ["a"]}},
    )

    assert [str(problem) for problem in undo(bench, 1).problems] == [
        (
            "undo_to: task 'x' (running, attempt 1) can't be removed. "
            "Fix: Cancel the orchestration, or wait for the attempt to end."
        )
    ]


def test_undo_does_not_go_back_before_a_skip_or_a_splice() -> None:
    """What was skipped has ended, and what was replaced had begun."""
    bench = started(graph("a b c d", "a b"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.fail("c")
    bench.offer("c", graph([TaskNode("copy", tool="copy")]))
    edit(bench, {"op": "skip", "task_id": "b"})
    edit(bench, {"op": "add", "task": {"task_id": "x", "depends_on": ["a"]}})

    told = [str(problem) for problem in undo(bench, 1).problems]

    assert told[:2] == [
        (
            "undo_to: task 'c' has begun (attempt 1); revision 2 replaced it by 'copy~1' when it had failed. "
            "Fix: Go back to revision 2 at most."
        ),
        (
            "undo_to: task 'b' was skipped by revision 3, and what was skipped has ended. "
            "Fix: Go back to revision 3 at most."
        ),
    ]
    assert undo(bench, 3).problems == ()


# --- Answers ------------------------------------------------------------------------------------------------------


def asking() -> Bench:
    """Return an orchestration in which `load` has failed and asks how to go on."""
    dag = graph(
        [
            TaskNode("fetch"),
            TaskNode("load", tool="copy"),
            TaskNode("report", arguments={"r": "${load.rows}"}),
        ],
        "fetch load",
        "load report",
    )
    first = submitted(dag, mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    event = first.event
    assert isinstance(event, OrchestrationSubmitted)
    bench = Bench(dag, events=[replace(first, event=replace(event, asks_caller=True))])
    bench.start()
    bench.succeed("fetch")
    bench.fail("load")
    bench.tell(NoAlternative(orchestration_id=bench.id, task_id="load", reason="nobody knows one"))
    assert bench.statuses() == {"fetch": "completed", "load": "replanning", "report": "paused"}
    return bench


def test_replacing_a_task_that_asks_is_the_answer() -> None:
    """It is spliced in like any alternative; references follow."""
    bench = asking()

    found = edited(
        bench,
        {
            "op": "replace",
            "task_id": "load",
            "tasks": [
                {"task_id": "stage", "tool": "stage", "arguments": {"f": "${fetch.path}"}},
                {"task_id": "commit", "tool": "commit", "depends_on": ["stage"]},
            ],
        },
    )
    assert found.told == "replaced load by stage, commit"
    carry_out(bench, found)

    assert bench.running == ["stage~1"]
    assert present_graph(bench.state).nodes["report"].arguments == {"r": "${commit~1.rows}"}
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_setting_a_task_that_asks_runs_it_again_so() -> None:
    """The question is answered, and its dependents wait for it again."""
    bench = asking()

    edit(bench, {"op": "set", "task_id": "load", "tool": "copy_slowly"})

    assert (bench.running, bench.task("load").node.tool) == (["load"], "copy_slowly")
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_an_answer_stands_alone() -> None:
    """It is a revision of its own."""
    bench = asking()

    assert refused(
        bench,
        {"op": "replace", "task_id": "load", "tasks": ["Do it by hand"]},
        {"op": "add", "task": {"task_id": "x"}},
    ) == [
        (
            "operations[1]: add: stands beside operations[0], which answers what task 'load' asks. "
            "Fix: Send the answer alone, and this with the next revision."
        )
    ]


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        (
            [{"task_id": "x", "depends_on": ["report"]}],
            (
                "operations[0].tasks: depends on 'report', which 'load' does not depend on. "
                "Fix: Use what 'load' depends on: fetch."
            ),
        ),
        (
            [{"task_id": "x"}, {"task_id": "y", "depends_on": ["x"], "arguments": {"f": "${fetch.path}"}}],
            (
                "operations[0].tasks: 'y' names 'fetch', whose output only the first tasks get. "
                "Fix: Let the first task hand the value on."
            ),
        ),
        (
            [{"task_id": "x", "arguments": {"f": "${report.text}"}}],
            (
                "operations[0].tasks[x].arguments.f: ${report.text} names task 'report', which is not in the DAG. "
                "Fix: Add the task, or write the id of one that is there."
            ),
        ),
    ],
)
def test_an_answer_touches_only_what_the_failed_task_had(tasks: list[Any], told: str) -> None:
    """It is validated as a graft: it delivers what the dependents need, and names nothing else."""
    assert refused(asking(), {"op": "replace", "task_id": "load", "tasks": tasks}) == [told]


def test_a_task_that_is_still_thought_about_is_not_changed() -> None:
    """While a planner looks for an alternative, only an alternative takes its place."""
    bench = started(graph("a b", "a b"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.fail("a")

    (told,) = refused(bench, {"op": "set", "task_id": "a", "tool": "x"})
    assert told.startswith("operations[0]: set a: task 'a' (replanning) can't be changed")
    carry_out(
        bench, edited(bench, {"op": "replace", "task_id": "a", "tasks": [{"task_id": "x", "tool": "x"}]})
    )
    assert bench.running == ["x~1"]


def test_a_task_that_has_not_begun_is_replaced_by_an_edit() -> None:
    """No question needed; the graph is changed as an edit changes it."""
    bench = started(
        graph([TaskNode("a"), TaskNode("b"), TaskNode("c", arguments={"x": "${b.y}"})], "a b", "b c")
    )

    edit(
        bench,
        {
            "op": "replace",
            "task_id": "b",
            "tasks": [{"task_id": "b1"}, {"task_id": "b2", "depends_on": ["b1"]}],
        },
    )

    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED
    assert bench.history() == ["a#1", "b1#1", "b2#1", "c#1"]
    assert present_graph(bench.state).nodes["c"].arguments == {"x": "${b2.y}"}


# --- Tasks inside tasks, lists, fallbacks -------------------------------------------------------------------------


def test_a_part_is_added_to_a_task_that_has_begun() -> None:
    """It completes with all its parts, the new one included."""
    bench = started(
        graph([TaskNode("whole"), TaskNode("one", parent="whole"), TaskNode("after")], "whole after")
    )
    assert bench.statuses()["whole"] == "expanded"

    edit(bench, {"op": "add", "task": {"task_id": "two", "parent": "whole", "depends_on": ["one"]}})

    bench.succeed("one")
    assert bench.running == ["two"]
    assert bench.statuses()["after"] == "pending"


def test_parts_come_with_the_task_they_are_parts_of() -> None:
    """A draft may hold tasks inside tasks; edges stay on their level."""
    bench = started(graph("a b", "a b"))

    edit(
        bench,
        {
            "op": "add",
            "task": {"task_id": "whole", "depends_on": ["a"], "subtasks": ["Do one thing", "Do another"]},
        },
    )

    bench.succeed("a")
    assert bench.running == ["b", "do-one-thing", "do-another"]
    assert refused(bench, {"op": "link", "from": "a", "to": "do-another"})[0].startswith(
        "operations[0]: link a → do-another: joins tasks of two levels: 'do-another' is a part of 'whole'."
    )


def test_a_list_is_edited_before_it_begins() -> None:
    """Whoever is to go through it may change till then."""
    bench = started(graph([TaskNode("fetch"), TaskNode("each", foreach="${fetch.items}")], "fetch each"))

    edit(bench, {"op": "set", "task_id": "each", "foreach": ["x", "y", "z"], "tool": "copy"})

    assert bench.task("each").node.foreach == ["x", "y", "z"]
    assert bench.task("each").is_composite


def test_a_task_under_its_fallback_is_edited_as_it_was_before() -> None:
    """What a person sees and changes is the task, not the way it happens to be done now."""
    dag = graph([TaskNode("a", tool="first", fallback=Fallback(tool="second", max_retries=1))])
    bench = started(dag)
    bench.fail("a")
    bench.fail("a", retryable=True)
    assert (bench.statuses()["a"], bench.task("a").node.tool) == ("retrying", "second")

    edit(bench, {"op": "set", "task_id": "a", "timeout_seconds": 60})

    assert (bench.task("a").node.tool, bench.task("a").node.timeout_seconds) == ("first", 60)
    assert bench.running == ["a"]
