"""Time limits of attempts: stop, grace, abandon, retry."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.engine.effects import AbandonAttempt, StopAttempt
from orchestration.engine.engine import EngineOptions
from orchestration.engine.events import StopRequested
from orchestration.engine.inputs import TaskDefaults
from orchestration.engine.state_base import LONGEST_WAIT_SECONDS
from orchestration.models import OrchestrationMode, OrchestrationStatus, TaskNode
from tests.engine_kit import SECOND, START, Bench, events_of, graph

LIMIT = TaskDefaults(timeout_seconds=10.0, max_retries=1)
GRACE = EngineOptions(cancel_grace_seconds=2.0)


def timed(dag_tasks: str = "a", **settings: Any) -> Bench:
    bench = Bench(graph(dag_tasks), defaults=LIMIT, options=GRACE, **settings)
    bench.start()
    return bench


def test_an_attempt_that_runs_out_of_time_is_asked_to_stop() -> None:
    """The request is a fact first, then an effect; the attempt still runs and holds its slot."""
    bench = timed()

    decision = bench.wait(10)

    assert events_of(decision) == [StopRequested(task_id="a", attempt=1, because="timeout")]
    assert decision.effects == [StopAttempt(orchestration_id="o", task_id="a", attempt=1, because="timeout")]
    assert bench.statuses() == {"a": "running"}
    assert bench.engine.scheduler.slots.used == 1


def test_nothing_is_asked_a_moment_before_the_limit() -> None:
    """The limit is exact."""
    bench = timed()

    decision = bench.wait(9.999999)

    assert decision.events == []
    assert bench.engine.next_deadline_us() == START + 10 * SECOND


def test_an_attempt_that_stopped_for_its_timeout_is_retried() -> None:
    """A timeout may not happen again; it costs a retry."""
    bench = timed()
    bench.wait(10)

    bench.stopped("a", jitter=0.5)
    bench.wait(0.5)

    error = bench.task("a").error
    assert error is not None
    assert (error.code, error.message, error.retryable) == ("timeout", "Attempt 1 ran out of its 10 s.", True)
    assert (error.attempt, error.system) == (1, "here")
    assert bench.starts() == ["a#1", "a#2"]


def test_the_second_attempt_has_its_own_limit() -> None:
    """A deadline belongs to one attempt."""
    bench = timed()
    bench.wait(10)
    bench.stopped("a", jitter=0.5)
    bench.wait(0.5)

    bench.wait(9)
    early = bench.task("a").stopping
    bench.wait(1)

    assert early is None
    assert bench.task("a").stopping == "timeout"


def test_the_limit_of_an_attempt_that_failed_is_not_the_next_ones() -> None:
    """The first attempt's limit comes while the second one runs, and means nothing."""
    bench = timed()
    bench.now_us += 3 * SECOND
    bench.fail("a", retryable=True, jitter=0.5)
    bench.wait(0.5)

    bench.wait(6.5)
    early = bench.task("a").stopping
    bench.wait(3.5)

    assert early is None
    assert bench.task("a").stopping == "timeout"


def test_an_attempt_that_does_not_stop_is_abandoned_after_the_grace() -> None:
    """The slot is given to others, the error says where work may go on, and the task is retried."""
    bench = timed("a b", slots=1)
    bench.wait(10)

    decision = bench.wait(2)

    assert decision.effects[0] == AbandonAttempt(orchestration_id="o", task_id="a", attempt=1)
    assert bench.statuses() == {"a": "retrying", "b": "running"}
    error = bench.task("a").error
    assert error is not None
    assert error.message == "Attempt 1 ran out of its 10 s. It did not stop: work may continue at here."


def test_the_report_of_an_abandoned_attempt_is_not_wanted() -> None:
    """Whatever it says comes too late."""
    bench = timed()
    bench.wait(10)
    bench.wait(2)

    decision = bench.succeed("a", attempt=1)

    assert decision.events == []
    assert bench.statuses() == {"a": "retrying"}


def test_a_result_that_arrives_within_the_grace_counts() -> None:
    """Work that is done is done."""
    bench = timed()
    bench.wait(10)

    bench.succeed("a")

    assert bench.outcome is OrchestrationStatus.COMPLETED
    assert bench.engine.next_deadline_us() is None


def test_a_failure_that_arrives_within_the_grace_is_that_failure() -> None:
    """Its own words are better than `timeout`."""
    bench = timed()
    bench.wait(10)

    bench.fail("a", retryable=False, code="disk_full")

    error = bench.task("a").error
    assert error is not None
    assert error.code == "disk_full"
    assert bench.outcome is OrchestrationStatus.FAILED


def test_a_task_that_always_times_out_fails() -> None:
    """Timeouts use up retries like any failure."""
    bench = timed()
    for _ in range(2):
        bench.wait(10)
        bench.stopped("a", jitter=0.0)
        bench.wait(0)

    assert bench.outcome is OrchestrationStatus.FAILED
    assert bench.starts() == ["a#1", "a#2"]


def test_a_tasks_own_limit_overrides_the_default() -> None:
    """In either direction."""
    dag = graph(
        [TaskNode("short", timeout_seconds=1.0), TaskNode("long", timeout_seconds=100.0), TaskNode("usual")]
    )
    bench = Bench(dag, defaults=LIMIT)
    bench.start()

    stopped = []
    for seconds in (1, 9, 90):
        stopped.append(
            [effect.task_id for effect in bench.wait(seconds).effects if isinstance(effect, StopAttempt)]
        )
        bench.stopped(stopped[-1][0], jitter=1.0) if stopped[-1] else None

    assert stopped[0] == ["short"]
    assert "usual" in stopped[1]
    assert "long" in stopped[2]


def test_no_default_limit_means_none() -> None:
    """`timeout_seconds: null` in the defaults arms no timer."""
    bench = Bench(graph("a"), defaults=TaskDefaults(timeout_seconds=None))

    bench.start()

    assert bench.engine.next_deadline_us() is None


def test_a_finished_attempts_limit_means_nothing() -> None:
    """Deadlines of what has ended are never reached."""
    bench = Bench(graph("a b", "a b"), defaults=LIMIT)
    bench.start()
    bench.now_us += 3 * SECOND
    bench.succeed("a")

    due = bench.engine.next_deadline_us()
    bench.wait(7)

    assert due == START + 13 * SECOND
    assert bench.task("b").stopping is None


def test_a_late_timer_abandons_only_after_the_grace_from_the_stop() -> None:
    """A driver that slept through limit and grace still asks first: the grace begins with the question."""
    bench = timed()

    bench.wait(3600)
    asked = bench.statuses()["a"]
    bench.wait(1.9)
    still = bench.statuses()["a"]
    bench.wait(0.1)

    assert (asked, still, bench.statuses()["a"]) == ("running", "running", "retrying")


def test_an_attempt_the_system_cancelled_by_itself_is_retried() -> None:
    """Nobody here asked for it, so it is a failure like others."""
    bench = timed()

    bench.stopped("a", jitter=0.5)

    error = bench.task("a").error
    assert error is not None
    assert bench.statuses() == {"a": "retrying"}
    assert (error.code, error.retryable) == ("cancelled", True)
    assert error.message == "The attempt was cancelled inside system 'here', not by the orchestrator."


@pytest.mark.parametrize("limit", [1e9, 1e300])
def test_an_absurd_limit_never_breaks_the_engine(limit: float) -> None:
    """It is cut to a wait that can be stored and slept."""
    bench = Bench(
        graph([TaskNode("a", timeout_seconds=limit)]), options=EngineOptions(cancel_grace_seconds=limit)
    )

    bench.start()
    bench.cancel()

    assert bench.engine.next_deadline_us() == START + LONGEST_WAIT_SECONDS * SECOND


def test_deadlines_of_attempts_that_ended_do_not_pile_up() -> None:
    """A server that runs a million short tasks an hour does not keep a million limits of an hour each."""
    names = [f"t{number}" for number in range(5_000)]
    bench = Bench(
        graph(" ".join(names)), slots=3, defaults=TaskDefaults(timeout_seconds=3600.0), checks=False
    )
    bench.start()
    due = bench.engine.next_deadline_us()

    most = 0
    while bench.running:
        bench.now_us += 1
        bench.succeed(bench.running[0])
        most = max(most, len(bench.engine._deadlines))

    assert due == START + 3600 * SECOND
    assert most < 1_100
    assert bench.engine.next_deadline_us() is None


def test_many_deadlines_that_still_count_are_all_kept() -> None:
    """Letting go of dead ones loses none of the others."""
    names = [f"t{number}" for number in range(3_000)]
    bench = Bench(graph(" ".join(names)), slots=3_000, defaults=LIMIT, checks=False)
    bench.start()

    decision = bench.wait(10)

    assert len(decision.effects) == 3_000


def test_limits_are_enforced_while_paused() -> None:
    """A pause lets attempts finish; it does not give them more time. The retry waits for the resume."""
    bench = timed()
    bench.pause()

    bench.wait(10)
    bench.stopped("a", jitter=0.0)
    bench.wait(0)

    assert bench.statuses() == {"a": "ready"}
    bench.resume()
    assert bench.starts() == ["a#1", "a#2"]


def test_a_timeout_in_simple_mode_frees_nobody_else() -> None:
    """The task that is retried holds its place."""
    bench = timed("a b", mode=OrchestrationMode.SIMPLE)
    bench.wait(10)
    bench.stopped("a", jitter=0.5)

    assert bench.statuses() == {"a": "retrying", "b": "ready"}
    bench.wait(0.5)
    assert bench.starts() == ["a#1", "a#2"]


def test_the_time_of_every_attempt_is_booked() -> None:
    """ "A duration runs from attempt start to committed outcome, summed over attempts, without back-off"."""
    bench = timed()
    bench.wait(10)
    bench.now_us += SECOND
    bench.stopped("a", jitter=0.5)
    bench.wait(0.5)
    bench.now_us += 3 * SECOND

    bench.succeed("a")

    assert bench.task("a").duration_us == 14 * SECOND
    assert bench.state.work_us == 14 * SECOND


def silent(seconds: float = 10.0, **more: Any) -> Bench:
    """Return a running attempt that must give a sign of life every so often."""
    node = TaskNode("a", heartbeat_timeout_seconds=seconds, max_retries=0, **more)
    bench = Bench(graph([node]), options=EngineOptions(cancel_grace_seconds=1.0))
    bench.start()
    return bench


def test_an_attempt_that_gives_no_sign_of_life_is_stopped() -> None:
    """Long before its time limit; the error says why."""
    bench = silent()

    bench.wait(10)
    bench.stopped("a")

    error = bench.task("a").error
    assert error is not None
    assert (error.code, error.message) == ("heartbeat_timeout", "Attempt 1 gave no sign of life for 10 s.")


def test_a_sign_of_life_gives_the_attempt_its_whole_silence_again() -> None:
    """However often."""
    bench = silent()

    for _ in range(5):
        bench.wait(9)
        bench.beat("a")
    bench.wait(9)

    assert bench.task("a").stopping is None
    bench.wait(1)
    assert bench.task("a").stopping == "silence"


def test_a_silent_attempt_that_does_not_stop_is_abandoned() -> None:
    """After the grace, as with every stop."""
    bench = silent()

    bench.wait(10)
    bench.wait(1)

    error = bench.task("a").error
    assert error is not None
    assert "It did not stop: work may continue at here." in error.message


def test_the_signs_of_life_of_an_earlier_attempt_do_not_count() -> None:
    """Each attempt starts with its own silence."""
    bench = Bench(graph([TaskNode("a", heartbeat_timeout_seconds=10.0, max_retries=1)]))
    bench.start()
    bench.wait(9)
    bench.beat("a")
    bench.fail("a", retryable=True, jitter=0.0)
    bench.wait(0)

    bench.wait(9)
    assert bench.task("a").stopping is None
    bench.wait(1)

    assert bench.task("a").stopping == "silence"


def test_an_orchestration_that_runs_out_of_its_time_is_cancelled_and_ends_failed() -> None:
    """What runs is stopped, what waits never starts, and the reason is told."""
    bench = Bench(graph("a b c", "a b"), timeout_seconds=60.0)
    bench.start()
    bench.succeed("c")

    bench.wait(60)
    meanwhile = bench.outcome
    bench.stopped("a")

    assert bench.statuses() == {"a": "cancelled", "b": "cancelled", "c": "completed"}
    assert (meanwhile, bench.outcome) == (OrchestrationStatus.CANCELLING, OrchestrationStatus.FAILED)
    assert bench.state.reason == "It ran out of its 60 s."


def test_an_orchestrations_time_goes_on_while_nobody_drives_it() -> None:
    """Its limit is an instant, kept by the journal."""
    bench = Bench(graph("a"), timeout_seconds=60.0)
    bench.start()
    bench.now_us += 100 * SECOND
    bench.crash()

    bench.start()
    bench.wait(0)
    bench.stopped("a")

    assert bench.outcome is OrchestrationStatus.FAILED


def test_a_paused_orchestration_runs_out_of_its_time_too() -> None:
    """A pause is no way round a limit."""
    bench = Bench(graph("a b", "a b"), timeout_seconds=60.0)
    bench.start()
    bench.succeed("a")
    bench.stopped("b")
    bench.pause()

    bench.wait(60)

    assert bench.outcome is OrchestrationStatus.FAILED


def test_a_retry_gives_the_orchestration_its_whole_time_again() -> None:
    """Counted from the retry."""
    bench = Bench(graph("a"), timeout_seconds=60.0)
    bench.start()
    bench.wait(60)
    bench.stopped("a")
    bench.crash()
    bench.now_us += 1000 * SECOND

    bench.retry()
    bench.start()

    assert bench.engine.next_deadline_us() == bench.now_us + 60 * SECOND
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_an_orchestration_in_time_is_left_alone() -> None:
    """A deadline of what has ended is dropped."""
    bench = Bench(graph("a"), timeout_seconds=60.0)
    bench.start()
    bench.run_out()

    assert bench.engine.next_deadline_us() is None
