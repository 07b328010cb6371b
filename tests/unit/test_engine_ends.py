"""How orchestrations end. The sentences quoted are those of docs/semantics.md, "Ends"."""

from __future__ import annotations

import pytest

from orchestration.engine.effects import AnnounceFinished
from orchestration.engine.events import OrchestrationFinished
from orchestration.engine.inputs import Cancel, Input, Pause, Resume, TakeOver
from orchestration.errors import NotPossibleError, OrchestrationNotFoundError
from orchestration.models import OrchestrationStatus, TaskNode
from tests.engine_kit import START, Bench, events_of, graph, new_engine


def test_an_orchestration_completes_when_every_task_completed() -> None:
    """The last report carries the end, and the end is announced once."""
    bench = Bench(graph("a b", "a b"))
    bench.start()
    bench.succeed("a")

    decision = bench.succeed("b")

    assert isinstance(events_of(decision)[-1], OrchestrationFinished)
    assert bench.of(AnnounceFinished) == [
        AnnounceFinished(orchestration_id="o", outcome=OrchestrationStatus.COMPLETED)
    ]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_failed_task_nobody_depends_on_fails_the_orchestration() -> None:
    """Tolerated needs "at least one task" that depends on it."""
    bench = Bench(graph("a b"))
    bench.start()

    bench.fail("a")
    bench.succeed("b")

    assert bench.outcome is OrchestrationStatus.FAILED


def test_a_failure_that_every_dependent_lives_with_is_tolerated() -> None:
    """ "A failed task is *tolerated* when at least one task depends on it and none was skipped because of it"."""
    bench = Bench(graph("a b c", "a b?", "a c if status == 'failed'"))
    bench.start()

    bench.fail("a")
    bench.run_out()

    assert bench.outcome is OrchestrationStatus.COMPLETED
    assert bench.state.is_tolerated(bench.task("a"))


def test_a_failure_that_skipped_one_dependent_is_not_tolerated() -> None:
    """One dependent with a handler does not make up for one that was skipped."""
    bench = Bench(graph("a mend next", "a mend if status == 'failed'", "a next"))
    bench.start()

    bench.fail("a")
    bench.run_out()

    assert bench.statuses() == {"a": "failed", "mend": "completed", "next": "skipped"}
    assert bench.outcome is OrchestrationStatus.FAILED


def test_a_tolerated_failure_keeps_its_error() -> None:
    """It is "still listed in `errors`"."""
    bench = Bench(graph("a b", "a b?"))
    bench.start()

    bench.fail("a", code="no_luck")
    bench.run_out()

    error = bench.task("a").error
    assert error is not None
    assert (bench.outcome, error.code) == (OrchestrationStatus.COMPLETED, "no_luck")


def test_skips_by_a_false_condition_never_fail_it() -> None:
    """ "Skips by a false condition never fail it", however long the chain behind is."""
    bench = Bench(graph("a b c", "a b if false", "b c"))
    bench.start()

    bench.succeed("a")

    assert bench.statuses() == {"a": "completed", "b": "skipped", "c": "skipped"}
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_failure_lets_the_rest_finish() -> None:
    """A failed task stops what needs it and nothing else."""
    bench = Bench(graph("a b x y", "a b", "x y"))
    bench.start()

    bench.fail("a")
    bench.succeed("x")
    bench.succeed("y")

    assert bench.statuses() == {"a": "failed", "b": "skipped", "x": "completed", "y": "completed"}
    assert bench.outcome is OrchestrationStatus.FAILED


def test_a_tolerated_failure_does_not_hide_one_that_is_not() -> None:
    """It ends `completed` when *every* failure is tolerated."""
    bench = Bench(graph("a after b", "a after?"))
    bench.start()

    bench.fail("a")
    bench.fail("b")
    bench.run_out()

    assert bench.outcome is OrchestrationStatus.FAILED


def test_costs_add_up_over_attempts() -> None:
    """A reported cost beats the estimate; a failed attempt costs its estimate too."""
    bench = Bench(graph([TaskNode("a", cost=2.0), TaskNode("b", cost=5.0)]))
    bench.start()

    bench.fail("a", retryable=True, jitter=0.0)
    bench.wait(0)
    bench.succeed("a", cost=0.5)
    bench.succeed("b")

    assert bench.state.cost == pytest.approx(2.0 + 0.5 + 5.0)


@pytest.mark.parametrize("finished", ["completed", "failed", "cancelled"])
@pytest.mark.parametrize(
    ("request_kind", "action"),
    [(Pause, "paused"), (Resume, "resumed"), (Cancel, "cancelled"), (TakeOver, "taken over")],
)
def test_what_has_ended_can_not_be_controlled(
    finished: str, request_kind: type[Pause | Resume | Cancel | TakeOver], action: str
) -> None:
    """A request that does not fit the state is refused, and nothing is changed."""
    bench = Bench(graph("a b"))
    bench.start()
    match finished:
        case "completed":
            bench.run_out()
        case "failed":
            bench.fail("a")
            bench.succeed("b")
        case _:
            bench.cancel()
            bench.stopped("a")
            bench.stopped("b")
    before = len(bench.journal)

    with pytest.raises(NotPossibleError) as caught:
        bench.tell(request_kind(orchestration_id="o"))

    assert str(caught.value).startswith(f"Orchestration 'o' is {finished}, so it can't be {action}.")
    assert len(bench.journal) == before
    bench.check()


@pytest.mark.parametrize(
    "item",
    [
        Pause(orchestration_id="x"),
        Resume(orchestration_id="x"),
        Cancel(orchestration_id="x"),
        TakeOver(orchestration_id="x"),
    ],
)
def test_a_request_about_an_orchestration_it_does_not_hold_is_refused(item: Input) -> None:
    """The engine says so rather than guess."""
    engine = new_engine()

    with pytest.raises(OrchestrationNotFoundError) as caught:
        engine.handle(item, START)

    assert str(caught.value) == (
        "There is no orchestration 'x'. Fix: list them "
        "(`advanced-orchestration list`, or get_orchestration_status without an id)."
    )
