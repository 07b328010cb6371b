"""Retries and back-off. The sentences quoted are those of docs/semantics.md, "Failure, in this order"."""

from __future__ import annotations

import math

import pytest

from orchestration.engine.events import AttemptFailed, RetryDue, RetryScheduled, TaskFailed
from orchestration.engine.inputs import TaskDefaults
from orchestration.engine.policy import MAX_BACKOFF_SECONDS, backoff_seconds
from orchestration.models import OrchestrationStatus, TaskNode
from tests.engine_kit import SECOND, START, Bench, events_of, graph


def delays_of(bench: Bench) -> list[float]:
    return [entry.event.delay_seconds for entry in bench.journal if isinstance(entry.event, RetryScheduled)]


def fail_for_good(bench: Bench, task_id: str, limit: int = 20) -> int:
    """Fail every attempt of a task; return how many there were."""
    for count in range(1, limit):
        bench.fail(task_id, retryable=True)
        if bench.statuses()[task_id] != "retrying":
            return count
        bench.wait(MAX_BACKOFF_SECONDS)
    raise AssertionError(f"{task_id} never failed for good")


@pytest.mark.parametrize("retries", [0, 1, 3, 7])
def test_a_task_gets_one_attempt_and_its_retries(retries: int) -> None:
    """ "attempts = 1 + max_retries"."""
    bench = Bench(graph("a"), defaults=TaskDefaults(max_retries=retries, timeout_seconds=None))
    bench.start()

    attempts = fail_for_good(bench, "a")

    assert attempts == 1 + retries
    assert bench.starts() == [f"a#{number}" for number in range(1, retries + 2)]
    assert bench.statuses()["a"] == "failed"


def test_a_tasks_own_retries_override_the_default_and_zero_is_a_number() -> None:
    """`max_retries: 0` means none, not the default."""
    dag = graph([TaskNode("never", max_retries=0), TaskNode("once", max_retries=1), TaskNode("usual")])
    bench = Bench(dag, defaults=TaskDefaults(max_retries=2, timeout_seconds=None))
    bench.start()

    attempts = {task_id: fail_for_good(bench, task_id) for task_id in ("never", "once", "usual")}

    assert attempts == {"never": 1, "once": 2, "usual": 3}


def test_a_failure_that_repeating_cannot_help_is_not_retried() -> None:
    """It is the task's failure at once."""
    bench = Bench(graph("a"))
    bench.start()

    events = events_of(bench.fail("a", retryable=False))

    assert [type(event) for event in events[:2]] == [AttemptFailed, TaskFailed]
    assert bench.outcome is OrchestrationStatus.FAILED


def test_a_retry_that_succeeds_completes_the_task_and_keeps_the_latest_failure() -> None:
    """What went wrong on the way stays readable."""
    bench = Bench(graph("a"))
    bench.start()

    bench.fail("a", retryable=True)
    bench.wait(1)
    bench.succeed("a")

    task = bench.task("a")
    assert (task.status.value, task.attempt, task.failures) == ("completed", 2, 1)
    assert task.error is not None
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_dependents_wait_through_a_retry() -> None:
    """A retrying task is not settled."""
    bench = Bench(graph("a b", "a b?"))
    bench.start()

    bench.fail("a", retryable=True)

    assert bench.statuses() == {"a": "retrying", "b": "pending"}


def test_a_back_off_holds_no_slot() -> None:
    """ "Back-offs … hold no slot"."""
    bench = Bench(graph("a b"), slots=1)
    bench.start()

    bench.fail("a", retryable=True)

    assert bench.statuses() == {"a": "retrying", "b": "running"}


def test_the_back_off_is_awaited_to_the_microsecond() -> None:
    """The next deadline is when the retry is due; a moment earlier nothing happens."""
    bench = Bench(graph("a"))
    bench.start()
    bench.fail("a", retryable=True, jitter=0.25)

    due = bench.engine.next_deadline_us()
    bench.wait(0.249999)
    early = bench.statuses()["a"]
    bench.wait(0.000001)

    assert due == START + SECOND // 4
    assert early == "retrying"
    assert bench.statuses()["a"] == "running"
    assert bench.engine.next_deadline_us() is None


def test_the_drawn_delay_is_recorded() -> None:
    """ "The event records the delay": replay never draws."""
    bench = Bench(graph("a"), defaults=TaskDefaults(backoff_factor=3.0, max_retries=5, timeout_seconds=None))
    bench.start()

    for jitter in (0.5, 0.1, 0.9):
        bench.fail("a", retryable=True, jitter=jitter)
        bench.wait(60)

    assert delays_of(bench) == pytest.approx([0.5, 0.3, 8.1])  # 1·0.5, 3·0.1, 9·0.9


def test_a_tasks_own_back_off_factor_overrides_the_default() -> None:
    """1 means no growth."""
    bench = Bench(graph([TaskNode("a", backoff_factor=1.0)]))
    bench.start()

    for _ in range(3):
        bench.fail("a", retryable=True, jitter=0.5)
        bench.wait(60)

    assert delays_of(bench) == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("factor", "failures", "longest"),
    [
        (2.0, 1, 1.0),  # 2 ** 0
        (2.0, 4, 8.0),  # 2 ** 3
        (2.0, 6, 32.0),  # 2 ** 5
        (2.0, 7, 60.0),  # 2 ** 6 is over the cap
        (3.0, 4, 27.0),  # 3 ** 3
        (1.0, 50, 1.0),  # never grows
        (100.0, 2, 60.0),
        (100.0, 10_000, 60.0),  # no overflow
    ],
)
def test_the_longest_back_off_grows_by_the_factor_up_to_a_minute(
    factor: float, failures: int, longest: float
) -> None:
    """ "Delay uniform in [0, min(60 s, 1 s · backoff_factor^(n−1))]": jitter spans the whole range."""
    assert backoff_seconds(factor, failures, 1.0) == longest
    assert backoff_seconds(factor, failures, 0.0) == 0.0
    assert backoff_seconds(factor, failures, 0.5) == longest / 2


def test_a_back_off_before_any_failure_is_refused() -> None:
    """There is nothing to back off from."""
    with pytest.raises(ValueError, match=r"^failures is 0; expected 1 or more$"):
        backoff_seconds(2.0, 0, 0.5)


def test_a_system_that_asks_for_a_longer_wait_gets_it() -> None:
    """ "`Retry-After` respected", over the cap as well."""
    bench = Bench(graph("a"))
    bench.start()

    bench.fail("a", retryable=True, jitter=0.5, retry_after_seconds=90.0)

    assert delays_of(bench) == [90.0]
    assert bench.engine.next_deadline_us() == START + 90 * SECOND


def test_a_shorter_retry_after_does_not_shorten_the_back_off() -> None:
    """It is the least wait the system asks for."""
    bench = Bench(graph("a"))
    bench.start()

    bench.fail("a", retryable=True, jitter=0.5, retry_after_seconds=0.1)

    assert delays_of(bench) == [0.5]


@pytest.mark.parametrize("asked", [math.inf, math.nan, -math.inf, -5.0, 1e300])
def test_an_absurd_retry_after_never_breaks_the_engine(asked: float) -> None:
    """A system's answer is no reason to fall over: the wait stays a number that can be stored and slept."""
    bench = Bench(graph("a"))
    bench.start()

    bench.fail("a", retryable=True, jitter=0.5, retry_after_seconds=asked)

    delay = delays_of(bench)[0]
    assert 0.5 <= delay <= 366 * 24 * 3600
    assert bench.statuses()["a"] == "retrying"


def test_several_back_offs_that_end_at_once_are_all_due() -> None:
    """One deadline input ends every back-off whose time has come, in the order of their ends."""
    bench = Bench(graph("a b c"))
    bench.start()
    for task_id, jitter in (("a", 0.9), ("b", 0.1), ("c", 0.5)):
        bench.fail(task_id, retryable=True, jitter=jitter)

    decision = bench.wait(1)

    due = [event.task_id for event in events_of(decision) if isinstance(event, RetryDue)]
    assert due == ["b", "c", "a"]
    assert sorted(bench.running) == ["a", "b", "c"]
