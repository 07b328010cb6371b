"""A retry while the rest goes on: what still waits, waits anew; orders and ranks hold as if nothing had happened."""

from __future__ import annotations

from orchestration.models import OrchestrationMode, OrchestrationStatus, TaskNode, TaskPriority
from tests.engine_kit import Bench, graph


def test_in_simple_mode_a_retried_task_takes_its_old_place() -> None:
    """ "One at a time in strict topological order": the running one ends first, then the retried one has its turn."""
    bench = Bench(graph("a b c"), mode=OrchestrationMode.SIMPLE)
    bench.start()
    bench.fail("a")
    assert bench.running == ["b"]

    bench.retry("a")
    assert bench.running == ["b"]
    bench.succeed("b")
    assert bench.running == ["a"]
    bench.run_out()

    assert bench.history() == ["a#1", "b#1", "a#2", "c#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_task_that_still_waits_gets_the_data_of_a_retried_upstream() -> None:
    """Its edge was dead, but nothing was done about that yet."""
    bench = Bench(graph("a b c", "a c?", "b c"))
    bench.start()
    bench.fail("a")

    bench.retry("a")
    bench.succeed("b")
    assert bench.statuses()["c"] == "pending"
    bench.succeed("a")

    assert bench.running == ["c"]
    assert [edge.delivers for edge in bench.task("c").incoming] == [True, True]


def test_a_handler_that_still_waits_is_skipped_when_the_retried_task_succeeds() -> None:
    """There is no failure to handle any more."""
    bench = Bench(graph("a b c", "a c if status == 'failed'", "b c"))
    bench.start()
    bench.fail("a")

    bench.retry("a")
    bench.succeed("a")
    bench.succeed("b")

    assert bench.statuses() == {"a": "completed", "b": "completed", "c": "skipped"}
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_retried_task_keeps_its_rank() -> None:
    """Urgent is urgent, the second time, too."""
    urgent, low = TaskPriority.URGENT, TaskPriority.LOW
    bench = Bench(
        graph([TaskNode("a", priority=urgent), TaskNode("b", priority=low), TaskNode("c", priority=low)]),
        slots=1,
    )
    bench.start()
    bench.fail("a")
    assert bench.running == ["b"]

    bench.retry("a")
    bench.succeed("b")

    assert bench.running == ["a"]


def test_a_retried_task_waits_for_an_upstream_that_was_retried_before_it() -> None:
    """While it ran, what the upstream had come to stood for it; now both begin anew."""
    bench = Bench(graph("a b", "a b?"))
    bench.start()
    bench.fail("a")
    bench.retry("a")
    bench.fail("b")
    assert bench.running == ["a"]

    bench.retry("b")
    assert bench.statuses() == {"a": "running", "b": "pending"}
    bench.succeed("a")

    assert bench.running == ["b"]
    assert [edge.delivers for edge in bench.task("b").incoming] == [True]
