"""An explicit retry: what begins anew, what stays, and what can't be retried."""

from __future__ import annotations

import pytest

from orchestration.engine.engine import EngineOptions
from orchestration.engine.events import RetryRequested
from orchestration.engine.state import replay
from orchestration.errors import NotPossibleError, TaskNotFoundError
from orchestration.models import OrchestrationMode, OrchestrationStatus, TaskNode
from tests.engine_kit import Bench, assert_same, graph, plan


def failed(*edges: str, tasks: str = "a b c") -> Bench:
    """Return an orchestration that ended because `b` failed, as the next driver finds it."""
    bench = Bench(graph(tasks, *edges))
    bench.start()
    for _ in range(10):
        for name in bench.running:
            if name == "b":
                bench.fail("b")
            else:
                bench.succeed(name)
    assert bench.outcome is OrchestrationStatus.FAILED
    bench.crash()
    return bench


def test_a_failed_task_and_what_was_skipped_because_of_it_run_again() -> None:
    """Completed tasks stay as they are."""
    bench = failed("a b", "b c")

    bench.retry()
    bench.start()
    bench.run_out()

    assert bench.history() == ["a#1", "b#1", "b#2", "c#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED
    assert_same(bench.state, replay("o", bench.dag, bench.journal))


def test_a_retry_begins_a_new_generation_and_counts_failures_anew() -> None:
    """Another idempotency key; attempt numbers count on."""
    bench = Bench(graph([TaskNode("b", max_retries=1)]))
    bench.start()
    bench.fail("b", retryable=True)
    bench.wait(1)
    bench.fail("b", retryable=True)
    bench.crash()

    bench.retry()
    bench.start()
    bench.fail("b", retryable=True)

    assert bench.task("b").generation == 2
    assert bench.statuses() == {"b": "retrying"}
    assert bench.history() == ["b#1", "b#2", "b#3"]


def test_a_task_that_never_ran_keeps_its_generation() -> None:
    """It has done nothing yet that a key could stand for."""
    bench = failed("b c", tasks="b c")

    bench.retry()

    assert (bench.task("b").generation, bench.task("c").generation) == (2, 1)


def test_an_optional_dependent_that_ran_without_the_data_stays() -> None:
    """What was decided once, and acted upon, stands."""
    bench = failed("b c?", "b d", tasks="b c d")
    assert bench.statuses() == {"b": "failed", "c": "completed", "d": "skipped"}

    bench.retry()
    bench.start()
    bench.run_out()

    assert bench.history() == ["b#1", "c#1", "b#2", "d#1"]
    assert [edge.delivers for edge in bench.task("c").incoming] == [False]


def test_a_chosen_task_alone_is_retried() -> None:
    """The other failure stays, and with it what needs both."""
    bench = Bench(graph("x y z", "x z", "y z"))
    bench.start()
    bench.fail("x")
    bench.fail("y")
    bench.crash()

    bench.retry("x")
    bench.start()
    bench.run_out()
    assert bench.statuses() == {"x": "completed", "y": "failed", "z": "skipped"}

    bench.crash()
    bench.retry("y")
    bench.start()
    bench.run_out()

    assert bench.statuses() == {"x": "completed", "y": "completed", "z": "completed"}


def test_a_retried_task_may_fail_again() -> None:
    """What depends on it is skipped again."""
    bench = failed("b c", tasks="b c")

    bench.retry()
    bench.start()
    bench.fail("b")

    assert bench.statuses() == {"b": "failed", "c": "skipped"}
    assert bench.outcome is OrchestrationStatus.FAILED


def test_a_handler_of_a_failure_stays_when_the_failure_is_retried() -> None:
    """It has done its work."""
    bench = failed("b c if status == 'failed'", "b d", tasks="b c d")
    assert bench.statuses() == {"b": "failed", "c": "completed", "d": "skipped"}

    bench.retry()
    bench.start()
    bench.run_out()

    assert bench.history() == ["b#1", "c#1", "b#2", "d#1"]


def test_a_cancelled_orchestration_goes_on_with_everything_that_was_cancelled() -> None:
    """What had completed stays."""
    bench = Bench(graph("a b c", "a b", "b c"))
    bench.start()
    bench.succeed("a")
    bench.cancel("for now")
    bench.stopped("b")
    bench.crash()

    bench.retry()
    bench.start()
    bench.run_out()

    assert bench.history() == ["a#1", "b#1", "b#2", "c#1"]
    assert bench.state.reason == ""
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_failed_task_of_an_orchestration_that_goes_on_can_be_retried() -> None:
    """Nobody has to wait for the rest."""
    bench = Bench(graph("a b c", "b c"))
    bench.start()
    bench.fail("b")

    bench.retry("b")

    assert bench.statuses() == {"a": "running", "b": "running", "c": "pending"}


def test_a_retry_while_paused_starts_nothing() -> None:
    """It is ready when the pause ends."""
    bench = Bench(graph("a b"))
    bench.start()
    bench.fail("b")
    bench.pause()

    bench.retry()

    assert bench.statuses() == {"a": "running", "b": "ready"}


def test_a_retry_before_the_announcement_is_carried_out_reopens_what_has_just_ended() -> None:
    """Both come in one batch: the orchestration goes on here."""
    bench = Bench(graph("b"), timeout_seconds=60.0)
    bench.start()
    bench.fail("b")

    bench.retry()

    assert bench.statuses() == {"b": "running"}
    assert bench.engine.next_deadline_us() == bench.now_us + 60_000_000


def test_what_failed_because_an_edge_can_not_be_decided_is_not_retried_by_itself() -> None:
    """A retry would decide nothing anew; the message says what to do."""
    bench = Bench(graph("a b c", "a b if output.nothing > 1"))
    bench.start()
    bench.succeed("a", {})
    bench.fail("c")
    bench.crash()

    with pytest.raises(
        NotPossibleError, match=r"'b' is failed, so it can't be retried. It failed before it ran"
    ):
        bench.retry("b")
    bench.retry()

    assert bench.statuses() == {"a": "completed", "b": "failed", "c": "ready"}


def test_a_task_skipped_for_a_cancelled_orchestration_is_skipped_again_when_its_failure_stays() -> None:
    """Cancelled tasks are all reopened; nothing may wait for ever."""
    bench = Bench(graph("a b", "a b"), options=EngineOptions(cancel_grace_seconds=5.0))
    bench.start()
    bench.cancel()
    bench.fail("a")
    assert bench.statuses() == {"a": "failed", "b": "cancelled"}
    bench.crash()

    bench.retry("b")

    assert bench.statuses() == {"a": "failed", "b": "skipped"}
    assert bench.outcome is OrchestrationStatus.FAILED


def test_a_retry_of_a_superseded_task_means_the_one_that_replaced_it() -> None:
    """Whatever names a superseded task means its replacement."""
    bench = Bench(graph("b"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.fail("b")
    bench.offer("b", plan("x"))
    bench.fail("x~1")
    bench.refuse("x~1")
    bench.crash()

    bench.retry("b")
    bench.start()

    assert bench.running == ["x~1"]


@pytest.mark.parametrize("status", ["completed", "cancelling"])
def test_what_is_not_to_be_reopened_is_refused(status: str) -> None:
    """Nothing changes."""
    bench = Bench(graph("a b"))
    bench.start()
    if status == "completed":
        bench.run_out()
    else:
        bench.cancel()
    before = len(bench.journal)

    with pytest.raises(NotPossibleError) as caught:
        bench.retry()

    assert str(caught.value) == (
        f"Orchestration 'o' is {status}, so it can't be retried. Failed and cancelled ones can, and failed tasks of "
        "those that go on."
    )
    assert len(bench.journal) == before


def test_a_retry_without_a_failure_is_refused() -> None:
    """There is nothing to do."""
    bench = Bench(graph("a"))
    bench.start()

    with pytest.raises(
        NotPossibleError, match=r"is running, so it can't be retried. No task of it has failed."
    ):
        bench.retry()


def test_a_retry_of_what_has_not_failed_is_refused() -> None:
    """It names those that could be."""
    bench = failed(tasks="a b")

    with pytest.raises(NotPossibleError) as caught:
        bench.retry("a")
    with pytest.raises(TaskNotFoundError):
        bench.retry("nowhere")

    assert str(caught.value) == (
        "Task 'a' is completed, so it can't be retried. Failed or cancelled tasks can: b."
    )


def test_the_journal_keeps_who_was_reopened_and_why() -> None:
    """In the order of the DAG."""
    bench = failed("b c", tasks="b c")

    (entry,) = bench.retry(reason="the server is back").events

    assert entry.event == RetryRequested(task_ids=("b", "c"), reason="the server is back")
