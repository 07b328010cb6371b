"""What edges do: gate, skip, tolerate, branch, rejoin. The sentences quoted are those of docs/semantics.md, "Edges"."""

from __future__ import annotations

from itertools import pairwise

import pytest

from orchestration.engine.events import AttemptSucceeded, TaskFailed, TaskSkipped
from orchestration.models import Json, OrchestrationStatus, TaskEdge
from tests.engine_kit import Bench, events_of, graph


def test_a_task_starts_only_after_every_required_upstream_completed() -> None:
    """A task "is ready when every edge is decided and no required one is dead"."""
    bench = Bench(graph("a b c", "a c", "b c"))
    bench.start()

    bench.succeed("a")
    before = bench.starts()
    bench.succeed("b")

    assert before == ["a#1", "b#1"]
    assert bench.starts() == ["a#1", "b#1", "c#1"]


def test_a_task_without_upstreams_starts_at_once() -> None:
    """Roots have no edge to wait for."""
    bench = Bench(graph("a b", "a b"))

    bench.start()

    assert bench.statuses() == {"a": "running", "b": "pending"}


def test_a_dead_required_edge_skips_its_target_while_another_upstream_still_runs() -> None:
    """ "A task is skipped as soon as one required edge is dead"."""
    bench = Bench(graph("slow quick join", "slow join", "quick join"))
    bench.start()

    bench.fail("quick")

    assert bench.statuses() == {"slow": "running", "quick": "failed", "join": "skipped"}
    bench.succeed("slow")
    assert bench.statuses()["join"] == "skipped"


def test_a_skip_passes_down_the_whole_chain_in_one_decision() -> None:
    """A skipped upstream is settled and did not complete, so its own edges are dead too."""
    bench = Bench(graph("a b c d", "a b", "b c", "c d"))
    bench.start()

    decision = bench.fail("a")

    skipped = [
        (event.task_id, event.because) for event in events_of(decision) if isinstance(event, TaskSkipped)
    ]
    assert skipped == [("b", "a"), ("c", "b"), ("d", "c")]
    assert bench.outcome is OrchestrationStatus.FAILED


def test_skipping_a_chain_of_thousands_of_tasks_does_not_recurse() -> None:
    """Depth of a graph is no limit."""
    names = [f"t{number}" for number in range(3_000)]
    dag = graph(" ".join(names), *(TaskEdge(a, b) for a, b in pairwise(names)))
    bench = Bench(dag, checks=False)
    bench.start()

    bench.fail("t0")

    bench.check()
    assert bench.statuses()["t2999"] == "skipped"


def test_a_task_skipped_by_one_edge_is_not_made_ready_by_another_in_the_same_decision() -> None:
    """Its required edge is dead before its optional one is decided, both because of one failure."""
    bench = Bench(graph("a b c join", "a b", "a c", "b join", "c join?"))
    bench.start()

    bench.fail("a")

    assert bench.statuses() == {"a": "failed", "b": "skipped", "c": "skipped", "join": "skipped"}
    assert bench.starts() == ["a#1"]


def test_an_optional_edge_is_waited_for() -> None:
    """ "Optional edges wait but never block"."""
    bench = Bench(graph("a b", "a b?"))

    bench.start()

    assert bench.statuses() == {"a": "running", "b": "pending"}


def test_a_dead_optional_edge_does_not_keep_its_target_from_running() -> None:
    """ "A dead optional edge delivers nothing; a task whose edges are all optional and all dead still runs"."""
    bench = Bench(graph("a b c", "a c?", "b c?"))
    bench.start()

    bench.fail("a")
    bench.fail("b")

    assert bench.statuses() == {"a": "failed", "b": "failed", "c": "running"}
    assert [edge.delivers for edge in bench.task("c").incoming] == [False, False]


def test_an_optional_edge_from_a_skipped_task_lets_its_target_run() -> None:
    """Skipped is settled, so the edge is decided."""
    bench = Bench(graph("a b c", "a b", "b c?"))
    bench.start()

    bench.fail("a")

    assert bench.statuses() == {"a": "failed", "b": "skipped", "c": "running"}


def test_a_required_edge_counts_beside_a_dead_optional_one() -> None:
    """The optional edge is dead, the required one still gates."""
    bench = Bench(graph("a b c", "a c?", "b c"))
    bench.start()

    bench.fail("a")
    waiting = bench.statuses()["c"]
    bench.succeed("b")

    assert waiting == "pending"
    assert bench.statuses()["c"] == "running"


@pytest.mark.parametrize(
    ("condition", "output", "expected"),
    [
        ("output.rows > 0", {"rows": 3}, "running"),
        ("output.rows > 0", {"rows": 0}, "skipped"),
        ("output == 'go'", "go", "running"),
        ("context.env == 'prod'", None, "running"),
        ("context.env == 'test'", None, "skipped"),
        ("status == 'completed'", None, "running"),
        ("status == 'failed'", None, "skipped"),
        ("size(output) == 2", [1, 2], "running"),
    ],
)
def test_a_condition_decides_whether_a_required_edge_delivers(
    condition: str, output: Json, expected: str
) -> None:
    """A condition sees `output`, `status` and `context` of the settled upstream."""
    bench = Bench(graph("a b", f"a b if {condition}"), context={"env": "prod"})
    bench.start()

    bench.succeed("a", output)

    assert bench.statuses()["b"] == expected


def test_a_handler_runs_when_its_upstream_failed() -> None:
    """ "So `status == "failed"` makes a handler"."""
    bench = Bench(graph("work mend", "work mend if status == 'failed'"))
    bench.start()

    bench.fail("work")

    assert bench.statuses() == {"work": "failed", "mend": "running"}
    bench.succeed("mend")
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_handler_is_skipped_when_its_upstream_completed() -> None:
    """Its condition is false then, and a skip by a false condition fails nothing."""
    bench = Bench(graph("work mend", "work mend if status == 'failed'"))
    bench.start()

    bench.succeed("work")

    assert bench.statuses() == {"work": "completed", "mend": "skipped"}
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_condition_that_does_not_name_status_needs_a_completed_upstream() -> None:
    """It "means `status == "completed" && (…)`": a failed upstream makes even `true` dead."""
    bench = Bench(graph("a b", "a b if true"))
    bench.start()

    bench.fail("a")

    assert bench.statuses()["b"] == "skipped"


def test_a_condition_may_ask_for_a_skipped_upstream() -> None:
    """Skipped is an outcome a condition can name."""
    bench = Bench(graph("a b c", "a b if output.go", "b c if status == 'skipped'"))
    bench.start()

    bench.succeed("a", {"go": False})

    assert bench.statuses() == {"a": "completed", "b": "skipped", "c": "running"}


def test_a_clean_up_can_run_whatever_happened() -> None:
    """A condition that names status decides alone."""
    dag = graph("work tidy", "work tidy if status == 'completed' || status == 'failed'")
    for outcome in ("completed", "failed"):
        bench = Bench(dag)
        bench.start()

        bench.succeed("work") if outcome == "completed" else bench.fail("work")

        assert bench.statuses() == {"work": outcome, "tidy": "running"}


@pytest.mark.parametrize(("takes", "skips"), [("left", "right"), ("right", "left")])
def test_exclusive_branches_rejoin_through_optional_edges(takes: str, skips: str) -> None:
    """ "Exclusive branches rejoin through optional edges"."""
    dag = graph(
        "choose left right join",
        "choose left if output == 'left'",
        "choose right if output == 'right'",
        "left join?",
        "right join?",
    )
    bench = Bench(dag)
    bench.start()

    bench.succeed("choose", takes)
    bench.succeed(takes)

    assert bench.statuses() == {
        "choose": "completed",
        takes: "completed",
        skips: "skipped",
        "join": "running",
    }
    delivered = {edge.source: edge.delivers for edge in bench.task("join").incoming}
    assert delivered == {takes: True, skips: False}
    bench.succeed("join")
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_condition_that_raises_fails_the_target_of_a_required_edge() -> None:
    """ "A condition that raises fails the target (`condition_error`, not retried) on a required edge"."""
    bench = Bench(graph("a b", "a b if output.rows > 0"))
    bench.start()

    bench.succeed("a", {"lines": 1})

    error = bench.task("b").error
    assert error is not None
    assert (bench.statuses()["b"], error.code, error.retryable, error.attempt) == (
        "failed",
        "condition_error",
        False,
        None,
    )
    assert error.message.startswith("The condition on a → b can't be decided: ")
    assert "'rows'" in error.message
    assert bench.starts() == ["a#1"]
    assert bench.outcome is OrchestrationStatus.FAILED


def test_a_condition_that_raises_on_an_optional_edge_is_dead_with_a_warning() -> None:
    """It "is dead with a warning on an optional one"."""
    bench = Bench(graph("a b", "a b? if output.rows > 0"))
    bench.start()

    bench.succeed("a", {"lines": 1})

    assert bench.statuses()["b"] == "running"
    assert bench.task("b").incoming[0].delivers is False
    assert len(bench.state.warnings) == 1
    assert bench.state.warnings[0].startswith("The condition on a → b can't be decided: ")


def test_a_condition_that_answers_no_truth_value_is_an_error() -> None:
    """`output.rows` alone is a number, not a claim."""
    bench = Bench(graph("a b", "a b if output.rows"))
    bench.start()

    bench.succeed("a", {"rows": 3})

    error = bench.task("b").error
    assert error is not None
    assert "expected true or false" in error.message


def test_a_missing_key_fails_the_target_of_a_required_edge_without_running_it() -> None:
    """ "A named key missing in an object output fails the target without running it"."""
    bench = Bench(graph("a b", TaskEdge("a", "b", ["path", "rows"])))
    bench.start()

    bench.succeed("a", {"rows": 1, "name": "x"})

    error = bench.task("b").error
    assert error is not None
    assert (error.code, error.retryable) == ("missing_data", False)
    assert error.message == "a → b requires 'path', which the output of a lacks. Its keys: rows, name."
    assert bench.starts() == ["a#1"]


def test_an_empty_object_says_that_it_has_no_keys() -> None:
    """The message is complete even where there is nothing to list."""
    bench = Bench(graph("a b", TaskEdge("a", "b", ["path"])))
    bench.start()

    bench.succeed("a", {})

    error = bench.task("b").error
    assert error is not None
    assert error.message.endswith("Its keys: none.")


def test_a_missing_key_on_an_optional_edge_delivers_nothing_and_warns() -> None:
    """ "On an optional edge: delivers nothing, with a warning"."""
    bench = Bench(graph("a b", TaskEdge("a", "b", ["path"], is_optional=True)))
    bench.start()

    bench.succeed("a", {"rows": 1})

    assert bench.statuses()["b"] == "running"
    assert bench.task("b").incoming[0].delivers is False
    assert bench.state.warnings == ["a → b requires 'path', which the output of a lacks. Its keys: rows."]


@pytest.mark.parametrize("output", ["text", 7, None, [1, 2], True])
def test_an_output_that_is_not_an_object_flows_whole(output: Json) -> None:
    """ "An output that is not an object flows whole under each required name"."""
    bench = Bench(graph("a b", TaskEdge("a", "b", ["path"])))
    bench.start()

    bench.succeed("a", output)

    assert bench.statuses()["b"] == "running"
    assert bench.task("b").incoming[0].delivers is True


def test_a_key_whose_value_is_null_is_there() -> None:
    """Required means named, not filled."""
    bench = Bench(graph("a b", TaskEdge("a", "b", ["path"])))
    bench.start()

    bench.succeed("a", {"path": None})

    assert bench.statuses()["b"] == "running"


def test_a_false_condition_is_not_asked_for_its_data() -> None:
    """What does not deliver needs no keys: the target is skipped, not failed."""
    edge = TaskEdge("a", "b", ["path"], condition="output.ok")
    bench = Bench(graph("a b", edge))
    bench.start()

    bench.succeed("a", {"ok": False})

    assert bench.statuses()["b"] == "skipped"
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_handler_needs_no_data_of_the_upstream_that_failed() -> None:
    """A failed upstream has no output, which is no object."""
    edge = TaskEdge("a", "b", ["path"], condition="status == 'failed'")
    bench = Bench(graph("a b", edge))
    bench.start()

    bench.fail("a")

    assert bench.statuses()["b"] == "running"


def test_the_verdict_of_a_condition_is_in_the_event() -> None:
    """ "The verdict is in the event; `evolve` and replay never evaluate"."""
    bench = Bench(graph("a b c", "a b if output.n > 1", "a c"))
    bench.start()

    event = events_of(bench.succeed("a", {"n": 1}))[0]

    assert isinstance(event, AttemptSucceeded)
    assert [(verdict.target_task_id, verdict.delivers) for verdict in event.verdicts] == [("b", False)]


def test_a_task_already_skipped_is_not_failed_by_a_later_broken_condition() -> None:
    """Terminal stays terminal: the first dead edge decides."""
    bench = Bench(graph("a b c", "a c", "b c if output.n > 1"))
    bench.start()

    bench.fail("a")
    decision = bench.succeed("b", {})

    assert bench.statuses()["c"] == "skipped"
    assert not [event for event in events_of(decision) if isinstance(event, TaskFailed)]


def test_a_target_that_fails_by_its_condition_kills_its_own_edges() -> None:
    """Failure passes down like any other, and reaches a handler."""
    dag = graph("a b c mend", "a b if output.n > 1", "b c", "b mend if status == 'failed'")
    bench = Bench(dag)
    bench.start()

    bench.succeed("a", {})

    assert bench.statuses() == {"a": "completed", "b": "failed", "c": "skipped", "mend": "running"}


def test_one_upstream_can_feed_every_kind_of_edge() -> None:
    """Edges of one task are decided each on its own."""
    dag = graph(
        "a plain maybe no handler",
        "a plain",
        "a maybe?",
        "a no if false",
        "a handler if status == 'failed'",
    )
    bench = Bench(dag)
    bench.start()

    bench.succeed("a", {})

    assert bench.statuses() == {
        "a": "completed",
        "plain": "running",
        "maybe": "running",
        "no": "skipped",
        "handler": "skipped",
    }
