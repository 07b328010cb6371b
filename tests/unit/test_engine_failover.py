"""Another system that can do the same goes on where one has used up a task's attempts."""

from __future__ import annotations

import pytest

from orchestration.engine.effects import DescribeApproval, StartAttempt
from orchestration.engine.events import AttemptFailed, TaskFailed, TaskRerouted
from orchestration.engine.inputs import Routes
from orchestration.models import Fallback, OrchestrationMode, OrchestrationStatus, TaskNode
from tests.engine_kit import Bench, events_of, graph

PLACES = Routes(others={"a": ("second", "third")})


def bench_of(*tasks: TaskNode, edges: tuple[str, ...] = (), routes: Routes = PLACES, **more: object) -> Bench:
    """Return a started orchestration whose task `a` three systems can do; each is tried once."""
    bench = Bench(graph(tasks or [TaskNode("a", max_retries=0)], *edges), routes=routes, **more)  # type: ignore[arg-type]
    bench.start()
    return bench


def places(bench: Bench) -> list[str]:
    """Return where the attempts of `a` ran, in order."""
    return [effect.system for effect in bench.of(StartAttempt) if effect.task_id == "a"]


def test_the_next_system_goes_on_when_one_has_used_up_the_attempts() -> None:
    """Best first, each with attempts of its own, under one idempotency key."""
    bench = bench_of(TaskNode("a", max_retries=1))
    for _ in range(3):
        bench.fail("a", retryable=True)
        bench.wait(60)
        bench.fail("a", retryable=True)

    assert places(bench) == ["here", "here", "second", "second", "third", "third"]
    assert bench.starts() == ["a#1", "a#2", "a#3", "a#4", "a#5", "a#6"]
    assert bench.task("a").generation == 1
    assert bench.outcome is OrchestrationStatus.FAILED


def test_what_is_recorded_says_where_it_goes_on() -> None:
    """The failure, then the new place; nothing is said of a failed task."""
    bench = bench_of()

    events = events_of(bench.fail("a", retryable=True))

    assert isinstance(events[0], AttemptFailed)
    assert events[1] == TaskRerouted(task_id="a", attempt=1, system="second")
    assert bench.task("a").note == "goes on at second: here used up its attempts"
    assert bench.statuses() == {"a": "running"}


def test_a_failure_that_repeating_cannot_help_goes_to_no_other_system() -> None:
    """The same would come of it there."""
    bench = bench_of()

    bench.fail("a", retryable=False)

    assert places(bench) == ["here"]
    assert bench.outcome is OrchestrationStatus.FAILED


def test_what_must_not_be_repeated_goes_to_no_other_system() -> None:
    """Only the same system knows the idempotency key."""
    bench = bench_of(TaskNode("a", max_retries=0, idempotent=False))

    bench.fail("a", retryable=True)

    assert places(bench) == ["here"]
    assert bench.outcome is OrchestrationStatus.FAILED


def test_an_attempt_that_ran_out_of_time_goes_on_elsewhere() -> None:
    """A timeout is a failure that repeating may help."""
    bench = bench_of(TaskNode("a", max_retries=0, timeout_seconds=5.0))

    bench.wait(5)
    bench.stopped("a")

    assert places(bench) == ["here", "second"]


def test_other_systems_come_before_the_fallback() -> None:
    """In the order that is promised: retries, other systems, the fallback."""
    routes = Routes(others={"a": ("second",)}, fallbacks={"a": ("spare",)})
    bench = bench_of(TaskNode("a", max_retries=0, fallback=Fallback(tool="x")), routes=routes)

    bench.fail("a", retryable=True)
    bench.fail("a", retryable=True)

    assert places(bench) == ["here", "second", "spare"]


def test_a_fallback_goes_to_its_own_system_only() -> None:
    """What could do the task's tool is not known to do the fallback's."""
    bench = bench_of(TaskNode("a", max_retries=0, fallback=Fallback(tool="x")))

    bench.fail("a", retryable=False)
    bench.fail("a", retryable=True)

    assert places(bench) == ["here", "here"]
    assert bench.outcome is OrchestrationStatus.FAILED


def test_whoever_agreed_to_one_system_is_asked_about_the_next() -> None:
    """The agreement named the system."""
    bench = bench_of(TaskNode("a", max_retries=0, approval="person"))
    bench.described("a", "at here")
    bench.approve("a")

    bench.fail("a", retryable=True)

    assert bench.statuses() == {"a": "ready"}
    assert len(bench.of(DescribeApproval)) == 2
    bench.described("a", "at second")
    assert bench.statuses() == {"a": "awaiting_approval"}
    bench.approve("a", "at second")
    assert places(bench) == ["here", "second"]


def test_nothing_goes_on_elsewhere_while_paused() -> None:
    """The place is chosen; the attempt waits for the end of the pause."""
    bench = bench_of()
    bench.pause()

    bench.fail("a", retryable=True)

    assert (bench.statuses(), places(bench)) == ({"a": "ready"}, ["here"])
    bench.resume()
    assert places(bench) == ["here", "second"]


def test_what_is_being_cancelled_goes_on_nowhere() -> None:
    """It failed, and that is that."""
    bench = bench_of()
    bench.cancel()

    events = events_of(bench.fail("a", retryable=True, effect_open=True))

    assert not any(isinstance(event, TaskRerouted) for event in events)
    assert any(isinstance(event, TaskFailed) for event in events)
    assert bench.outcome.is_terminal


def test_the_next_driver_goes_on_at_the_same_place() -> None:
    """And knows which systems are left."""
    bench = bench_of()
    bench.fail("a", retryable=True)
    bench.crash()

    bench.start()
    bench.fail("a", retryable=True)

    assert places(bench) == ["second", "third"]


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_an_explicit_retry_begins_at_the_first_system_again(tries: int) -> None:
    """It may have recovered; a new generation begins as the first one did."""
    bench = bench_of()
    for _ in range(tries - 1):
        bench.fail("a", retryable=True)
    bench.fail("a", retryable=False)
    bench.crash()

    bench.retry()
    bench.start()
    for _ in range(3):
        bench.fail("a", retryable=True)

    assert places(bench) == ["here", "second", "third"]


def test_a_task_that_goes_on_elsewhere_holds_its_place_in_simple_mode() -> None:
    """Nothing after it begins meanwhile."""
    tasks = TaskNode("a", max_retries=0), TaskNode("b")
    bench = bench_of(*tasks, mode=OrchestrationMode.SIMPLE)

    bench.fail("a", retryable=True)

    assert bench.running == ["a"]
    bench.run_out()
    assert bench.history() == ["a#1", "a#2", "b#1"]


def test_another_system_comes_before_an_alternative_plan() -> None:
    """Only what no system can do is planned anew."""
    bench = bench_of(mode=OrchestrationMode.ADAPTIVE, can_replan=True)

    bench.fail("a", retryable=True)
    bench.fail("a", retryable=True)
    assert bench.asked() == []
    bench.fail("a", retryable=True)

    assert bench.asked() == ["a"]
