"""A task's fallback: another way to the same output, under the same task id."""

from __future__ import annotations

from orchestration.engine.effects import DescribeApproval, StartAttempt
from orchestration.engine.events import AttemptFailed, FallbackStarted
from orchestration.engine.graph import present_graph
from orchestration.engine.inputs import Routes
from orchestration.models import (
    CachePolicy,
    ErrorRecord,
    Fallback,
    OrchestrationMode,
    OrchestrationStatus,
    TaskNode,
    TaskStatus,
    Verification,
)
from tests.engine_kit import Bench, events_of, graph

THREE = Fallback(tool="two", fallback=Fallback(tool="three", fallback=Fallback(tool="four")))
SPARES = Routes(fallbacks={"a": ("spare", "other", "last")})


def bench_of(node: TaskNode, *others: TaskNode, edges: tuple[str, ...] = (), **more: object) -> Bench:
    bench = Bench(graph([node, *others], *edges), routes=SPARES, **more)  # type: ignore[arg-type]
    bench.start()
    return bench


def tools(bench: Bench) -> list[str | None]:
    """Return what the latest attempt of `a` runs, and where."""
    return [bench.task("a").node.tool, bench.of(StartAttempt)[-1].system]


def test_the_fallback_takes_over_when_the_task_has_failed() -> None:
    """Its tool, on its system; attempt numbers count on; its output is the task's."""
    bench = bench_of(TaskNode("a", tool="one", fallback=THREE), TaskNode("b"), edges=("a b",))

    bench.fail("a")

    assert tools(bench) == ["two", "spare"]
    assert bench.statuses() == {"a": "running", "b": "pending"}
    bench.run_out()
    assert bench.history() == ["a#1", "a#2", "b#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_it_is_one_event_after_the_failure() -> None:
    """Nothing else has to be written down: the task says what its fallback is."""
    bench = bench_of(TaskNode("a", fallback=THREE))

    events = events_of(bench.fail("a"))

    assert isinstance(events[0], AttemptFailed)
    assert events[1] == FallbackStarted(task_id="a", attempt=1)
    assert bench.task("a").note == "fallback 1 goes on at spare"


def test_other_work_has_another_idempotency_key() -> None:
    """What was done under the first one was something else."""
    bench = bench_of(TaskNode("a", fallback=THREE))

    bench.fail("a")
    assert bench.task("a").generation == 2
    bench.fail("a")
    assert bench.task("a").generation == 3


def test_three_nested_fallbacks_come_one_after_another_and_then_no_more() -> None:
    """The last failure is the task's."""
    bench = bench_of(TaskNode("a", tool="one", fallback=THREE))
    seen = [tools(bench)]
    for _ in range(3):
        bench.fail("a")
        seen.append(tools(bench))

    bench.fail("a")

    assert seen == [["one", "here"], ["two", "spare"], ["three", "other"], ["four", "last"]]
    assert bench.outcome is OrchestrationStatus.FAILED
    assert bench.history() == ["a#1", "a#2", "a#3", "a#4"]


def test_the_tasks_retries_come_first_and_a_fallback_has_its_own() -> None:
    """None, unless it says otherwise."""
    bench = bench_of(TaskNode("a", max_retries=1, fallback=Fallback(tool="two", max_retries=1)))
    bench.fail("a", retryable=True)
    bench.wait(60)
    bench.fail("a", retryable=True)
    assert bench.task("a").node.tool == "two"

    bench.fail("a", retryable=True)

    assert bench.statuses() == {"a": "retrying"}
    bench.wait(60)
    bench.fail("a", retryable=True)
    assert bench.statuses() == {"a": "failed"}


def test_a_failure_that_repeating_cannot_help_goes_straight_to_the_fallback() -> None:
    """However many retries are left."""
    bench = bench_of(TaskNode("a", max_retries=5, fallback=THREE))

    bench.fail("a", retryable=False)

    assert bench.history() == ["a#1", "a#2"]


def test_a_cached_output_is_never_that_of_a_fallback() -> None:
    """It is not looked for, and the fallback runs at once."""
    bench = bench_of(TaskNode("a", cache=CachePolicy(60.0), fallback=THREE))
    bench.miss("a")

    bench.fail("a")

    assert bench.statuses() == {"a": "running"}
    assert bench.task("a").node.cache is None


def test_who_agreed_to_the_task_is_asked_about_its_fallback() -> None:
    """The agreement was to something else."""
    bench = bench_of(TaskNode("a", approval="person", fallback=THREE))
    bench.described("a", "first")
    bench.approve("a")

    bench.fail("a")

    assert bench.statuses() == {"a": "ready"}
    assert [effect.generation for effect in bench.of(DescribeApproval)] == [1, 2]
    bench.described("a", "second")
    bench.approve("a", "second")
    assert bench.statuses() == {"a": "running"}


def test_the_fallback_of_what_must_not_be_repeated_must_not_be_either() -> None:
    """An end nobody knows is left open, in the fallback as before it."""
    bench = bench_of(TaskNode("a", idempotent=False, fallback=Fallback(tool="two")))
    bench.fail("a")

    bench.fail("a", effect_open=True)

    assert bench.statuses() == {"a": "unknown"}


def test_a_fallback_that_must_not_be_repeated_is_asked_about_by_its_own_verify() -> None:
    """Whatever came before it could be repeated."""
    second = Fallback(tool="two", idempotent=False, verify=Verification(tool="did-it"))
    bench = bench_of(TaskNode("a", fallback=second))
    bench.fail("a", effect_open=True)
    assert bench.statuses() == {"a": "running"}

    bench.fail("a", effect_open=True)
    bench.verified("a", "done")

    assert bench.statuses() == {"a": "completed"}


def test_no_fallback_takes_over_before_anybody_knows_what_became_of_the_task() -> None:
    """An open end is not a failure; and a decision is the last word."""
    bench = bench_of(TaskNode("a", idempotent=False, fallback=Fallback(tool="two")))
    bench.fail("a", effect_open=True)
    assert bench.statuses() == {"a": "unknown"}

    bench.decide("a", "failed")

    assert bench.statuses() == {"a": "failed"}
    assert bench.history() == ["a#1"]


def test_the_fallback_comes_before_an_alternative_plan() -> None:
    """And an alternative, when it has failed, too."""
    node = TaskNode("a", fallback=Fallback(tool="two"))
    bench = bench_of(node, mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.fail("a")
    assert bench.asked() == []

    bench.fail("a")

    assert bench.asked() == ["a"]
    assert bench.statuses() == {"a": "replanning"}


def test_an_alternative_that_is_what_the_task_was_before_its_fallback_is_refused() -> None:
    """Everything that was tried in this place counts, not only the latest."""
    node = TaskNode("a", tool="one", fallback=Fallback(tool="two", fallback=Fallback(tool="three")))
    for tool in ("one", "two", "three"):
        bench = bench_of(node, mode=OrchestrationMode.ADAPTIVE, can_replan=True)
        for _ in range(3):
            bench.fail("a")

        bench.offer("a", graph([TaskNode("again", tool=tool)]))

        assert bench.statuses() == {"a": "failed"}, tool
        assert "what was tried already" in bench.error("a").message


def test_what_was_tried_before_a_splice_stays_tried_after_it() -> None:
    """The fallback's way, in the place of the alternative, is no new one."""
    node = TaskNode("a", tool="one", fallback=Fallback(tool="two"))
    bench = bench_of(node, mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.fail("a")
    bench.fail("a")
    bench.offer("a", graph([TaskNode("b", tool="new")]))
    bench.fail("b~1")

    bench.offer("b~1", graph([TaskNode("c", tool="one")]))

    assert bench.statuses() == {"a": "superseded", "b~1": "failed"}


def test_a_retry_begins_with_the_task_itself() -> None:
    """In a new generation, with all its fallbacks before it."""
    bench = bench_of(TaskNode("a", tool="one", fallback=THREE))
    for _ in range(4):
        bench.fail("a")
    bench.crash()

    bench.retry()
    bench.start()

    assert tools(bench) == ["one", "here"]
    assert bench.task("a").generation == 5
    for _ in range(3):
        bench.fail("a")
    assert tools(bench) == ["four", "last"]


def test_a_fallback_that_was_interrupted_is_begun_again_by_the_next_driver() -> None:
    """Not the task before it."""
    bench = bench_of(TaskNode("a", tool="one", fallback=THREE))
    bench.fail("a")
    bench.crash()

    bench.start()

    assert tools(bench) == ["two", "spare"]
    assert bench.history() == ["a#1", "a#2", "a#3"]


def test_a_fallback_waits_while_paused() -> None:
    """It is chosen, and begins when the pause ends."""
    bench = bench_of(TaskNode("a", fallback=THREE))
    bench.pause()

    bench.fail("a")

    assert (bench.statuses(), bench.running) == ({"a": "ready"}, [])
    bench.resume()
    assert bench.history() == ["a#1", "a#2"]


def test_no_fallback_begins_while_cancelling() -> None:
    """The failure stands."""
    bench = bench_of(TaskNode("a", fallback=THREE))
    bench.cancel()

    bench.fail("a", effect_open=False)

    assert bench.history() == ["a#1"]
    assert bench.outcome.is_terminal


def test_a_fallback_holds_its_place_in_simple_mode() -> None:
    """What comes after the task waits for it."""
    bench = bench_of(TaskNode("a", fallback=THREE), TaskNode("b"), mode=OrchestrationMode.SIMPLE)

    bench.fail("a")
    bench.fail("a")

    assert bench.running == ["a"]
    bench.run_out()
    assert bench.history() == ["a#1", "a#2", "a#3", "b#1"]


def test_the_graph_shows_the_task_as_it_was_planned() -> None:
    """A fallback is a way of doing it, not a change of the plan."""
    node = TaskNode("a", tool="one", fallback=THREE)
    bench = bench_of(node)
    bench.fail("a")

    shown = present_graph(bench.state).nodes["a"]

    assert (shown.tool, shown.fallback, shown.status) == ("one", THREE, TaskStatus.RUNNING)
    assert bench.state.revision == 1


def test_what_can_not_be_described_for_approval_falls_back_like_any_failure() -> None:
    """And is asked about as its fallback says, before anything runs."""
    bench = Bench(graph([TaskNode("a", approval="person", fallback=Fallback(tool="other"))]))
    bench.start()
    bench.wanted(DescribeApproval)

    bench.described("a", error=ErrorRecord(code="missing_data", message="no such key"))

    assert bench.task("a").node.tool == "other"
    assert bench.statuses() == {"a": "ready"}
    assert len(bench.wanted(DescribeApproval)) == 1
    bench.described("a")
    bench.approve("a")
    assert bench.statuses() == {"a": "running"}
