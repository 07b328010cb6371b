"""What is measured, against numbers worked out by hand. Definitions: docs/semantics.md, "Slots, time, priorities"."""

from __future__ import annotations

import pytest

from orchestration.engine.inputs import TaskDefaults
from orchestration.metrics import measure, totals_document
from orchestration.models import OrchestrationMode, OrchestrationStatus, TaskNode, TaskStatus
from orchestration.ports import OrchestrationTotals
from tests.engine_kit import SECOND, Bench, graph, plan


def after(bench: Bench, seconds: float, task_id: str) -> None:
    """Let a task succeed after so many seconds."""
    bench.now_us += round(seconds * SECOND)
    bench.succeed(task_id)


def test_a_diamond_is_measured() -> None:
    """a 1, b 2 beside c 5, d 1: work 9, makespan 7, critical path a c d."""
    bench = Bench(graph("a b c d", "a b", "a c", "b d", "c d"))
    bench.start()
    after(bench, 1, "a")
    after(bench, 2, "b")
    after(bench, 3, "c")
    after(bench, 1, "d")

    measured = measure(bench.state, 2)

    assert (measured.makespan_seconds, measured.work_seconds) == (7.0, 9.0)
    assert (measured.critical_path, measured.critical_path_seconds) == (("a", "c", "d"), 7.0)
    assert measured.speedup == pytest.approx(9 / 7)
    assert measured.parallel_efficiency == 1.0
    assert measured.concurrency == 2


def test_efficiency_is_how_close_the_run_came_to_the_best_there_could_be() -> None:
    """Two tasks of 2 s one after the other on two workers: max(2, 4 / 2) / 4."""
    bench = Bench(graph("a b"), slots=1)
    bench.start()
    after(bench, 2, "a")
    after(bench, 2, "b")

    measured = measure(bench.state, 2)

    assert measured.parallel_efficiency == 0.5
    assert measured.speedup == 1.0


def test_a_task_bound_by_its_workers_is_efficient() -> None:
    """The same run on one worker could not have been shorter."""
    bench = Bench(graph("a b"), slots=1)
    bench.start()
    after(bench, 2, "a")
    after(bench, 2, "b")

    assert measure(bench.state, 1).parallel_efficiency == 1.0


def test_a_back_off_is_no_work_but_takes_time() -> None:
    """ "Without back-off or waiting": 1 s, 0.5 s wait, 1 s."""
    bench = Bench(graph("a"), defaults=TaskDefaults(timeout_seconds=None))
    bench.start()
    bench.now_us += SECOND
    bench.fail("a", retryable=True, jitter=0.5)
    bench.wait(0.5)
    after(bench, 1, "a")

    measured = measure(bench.state, 1)

    assert (measured.work_seconds, measured.makespan_seconds) == (2.0, 2.5)
    assert measured.critical_path_seconds == 2.0
    assert measured.parallel_efficiency == pytest.approx(0.8)


def test_nothing_ran_is_perfectly_efficient() -> None:
    """ "Parallel efficiency is 1.0 when nothing ran"."""
    bench = Bench(graph("a b", "a b"))

    measured = measure(bench.state, 5)

    assert (measured.makespan_seconds, measured.work_seconds, measured.speedup) == (0.0, 0.0, 1.0)
    assert measured.parallel_efficiency == 1.0
    assert measured.critical_path_seconds == 0.0


def test_efficiency_is_never_zero_where_something_ran() -> None:
    """It lies in (0, 1]: a run whose attempts took no time at all had nothing to be parallel about."""
    bench = Bench(graph("a b"), slots=1)
    bench.start()
    bench.succeed("a")
    bench.now_us += SECOND
    bench.cancel()
    bench.now_us -= SECOND
    bench.stopped("b")

    assert 0 < measure(bench.state, 5).parallel_efficiency <= 1


def test_the_makespan_begins_with_the_first_start_and_ends_with_the_last_settled_task() -> None:
    """Planning and waiting before are not in it; a skip at the end settles with its upstream."""
    bench = Bench(graph("a b", "a b"))
    bench.now_us += 100 * SECOND
    bench.start()
    bench.now_us += 3 * SECOND
    bench.fail("a")

    measured = measure(bench.state, 5)

    assert measured.makespan_seconds == 3.0
    assert measured.critical_path == ("a",)


def test_superseded_work_was_work() -> None:
    """The path goes through the alternative; the failed attempt's time is in the sum."""
    bench = Bench(graph("a b", "a b"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.now_us += 4 * SECOND
    bench.fail("a")
    bench.offer("a", plan("x"))
    after(bench, 3, "x~1")
    after(bench, 2, "b")

    measured = measure(bench.state, 5)

    assert (measured.work_seconds, measured.makespan_seconds) == (9.0, 9.0)
    assert (measured.critical_path, measured.critical_path_seconds) == (("x~1", "b"), 5.0)


def test_a_path_goes_through_the_parts_of_a_task() -> None:
    """Which takes no time itself: a 1, then of P the parts x 2 → y 3 beside z 4, then b 1."""
    parts = [TaskNode(name, parent="P") for name in ("x", "y", "z")]
    nodes = [TaskNode("a"), TaskNode("P"), *parts, TaskNode("b")]
    bench = Bench(graph(nodes, "a P", "x y", "P b"))
    bench.start()
    after(bench, 1, "a")
    after(bench, 2, "x")
    after(bench, 2, "z")
    after(bench, 1, "y")
    bench.gathered("P")
    after(bench, 1, "b")

    measured = measure(bench.state, 2)

    assert (measured.makespan_seconds, measured.work_seconds) == (7.0, 11.0)
    assert measured.critical_path == ("a", "x", "y", "b")
    assert measured.critical_path_seconds == 7.0
    assert measured.parallel_efficiency == 1.0


def test_a_path_goes_through_the_longest_item_of_a_list() -> None:
    """Items of 1, 4 and 2 s, and 1 s behind them."""
    bench = Bench(graph([TaskNode("each", foreach=[1, 2, 3]), TaskNode("b")], "each b"))
    bench.start()
    bench.found("each", 3)
    after(bench, 1, "each[0]")
    after(bench, 1, "each[2]")
    after(bench, 2, "each[1]")
    bench.gathered("each")
    after(bench, 1, "b")

    measured = measure(bench.state, 3)

    assert measured.critical_path == ("each[1]", "b")
    assert (measured.critical_path_seconds, measured.work_seconds) == (5.0, 8.0)


def test_a_list_without_items_is_no_obstacle() -> None:
    """What depends on it is all there is."""
    bench = Bench(graph([TaskNode("each", foreach=[]), TaskNode("b")], "each b"))
    bench.start()
    bench.found("each", 0)
    bench.gathered("each")
    after(bench, 2, "b")

    measured = measure(bench.state, 3)

    assert (measured.critical_path, measured.critical_path_seconds) == (("b",), 2.0)


def test_a_path_goes_through_what_stands_in_the_place_of_an_item() -> None:
    """The alternative of one item lies between the list's beginning and its end, as the item did."""
    bench = Bench(
        graph([TaskNode("each", foreach=[1, 2]), TaskNode("b")], "each b"),
        mode=OrchestrationMode.ADAPTIVE,
        can_replan=True,
    )
    bench.start()
    bench.found("each", 2)
    after(bench, 1, "each[0]")
    bench.fail("each[1]")
    bench.offer("each[1]", plan("x y", "x y"))
    after(bench, 2, "x~1")
    after(bench, 3, "y~1")
    bench.gathered("each")
    after(bench, 1, "b")

    measured = measure(bench.state, 2)

    assert measured.critical_path == ("x~1", "y~1", "b")
    assert measured.critical_path_seconds == 6.0


def test_an_interrupted_attempt_is_booked_up_to_the_take_over() -> None:
    """As far as anybody knows it ran until then."""
    bench = Bench(graph("a"))
    bench.start()
    bench.crash()
    bench.now_us += 5 * SECOND
    bench.start()
    after(bench, 1, "a")

    assert measure(bench.state, 1).work_seconds == 6.0


def test_totals_are_in_percent_and_complete() -> None:
    """The keys of the metrics document; a success rate counts what has ended."""
    totals = OrchestrationTotals(
        by_state={
            OrchestrationStatus.COMPLETED: 6,
            OrchestrationStatus.FAILED: 1,
            OrchestrationStatus.CANCELLED: 1,
            OrchestrationStatus.RUNNING: 2,
            OrchestrationStatus.PAUSED: 1,
        },
        tasks_by_status={TaskStatus.COMPLETED: 40, TaskStatus.FAILED: 2},
        attempts=50,
        average_makespan_seconds=12.5,
        average_parallel_efficiency=0.9,
        work_seconds=100.0,
        cost=3.0,
    )

    document = totals_document(totals)

    tasks = document.pop("tasks_by_status")
    assert document == {
        "total_orchestrations": 11,
        "successful_orchestrations": 6,
        "failed_orchestrations": 1,
        "cancelled_orchestrations": 1,
        "active_orchestrations": 3,
        "success_rate": 75.0,
        "average_execution_time_seconds": 12.5,
        "average_parallel_efficiency": 90.0,
        "total_attempts": 50,
        "work_seconds": 100.0,
        "cost": 3.0,
    }
    assert isinstance(tasks, dict)
    assert set(tasks) == {status.value for status in TaskStatus}
    assert (tasks["completed"], tasks["failed"], tasks["running"]) == (40, 2, 0)


def test_totals_of_nothing_are_zero() -> None:
    """Nobody divides by it."""
    totals = OrchestrationTotals(
        by_state={},
        tasks_by_status={},
        attempts=0,
        average_makespan_seconds=None,
        average_parallel_efficiency=None,
        work_seconds=0.0,
        cost=0.0,
    )

    document = totals_document(totals)

    assert (document["success_rate"], document["average_parallel_efficiency"]) == (0.0, 0.0)
    assert document["average_execution_time_seconds"] == 0.0
    assert document["active_orchestrations"] == 0
