"""Outputs that are there already: the cache's answers, and results of an earlier orchestration."""

from __future__ import annotations

from orchestration.engine.effects import LookUpResult
from orchestration.engine.inputs import Reusable, ReuseResults
from orchestration.models import CachePolicy, Json, OrchestrationMode, OrchestrationStatus, TaskNode
from tests.engine_kit import ONE_OUTPUT, Bench, graph


def cached(name: str) -> TaskNode:
    return TaskNode(name, cache=CachePolicy(60.0))


def reusing(bench: Bench, **values: Json) -> None:
    results = tuple(
        Reusable(task_id=name, output=ONE_OUTPUT, value=value, source=f"old-1:{name}")
        for name, value in values.items()
    )
    bench.tell(ReuseResults(orchestration_id=bench.id, results=results))


def test_a_hit_completes_the_task_without_an_attempt() -> None:
    """No slot, no attempt; the note says whose output it is."""
    bench = Bench(graph([cached("a"), TaskNode("b")], "a b"), slots=1)
    bench.start()

    bench.hit("a")

    assert bench.statuses() == {"a": "completed", "b": "running"}
    assert bench.history() == ["b#1"]
    assert bench.task("a").note == "cached: the output of earlier-1:there"


def test_a_hit_decides_conditions_by_its_value() -> None:
    """Dependents can't tell it from a fresh output."""
    bench = Bench(graph([cached("a"), TaskNode("b")], "a b if output.n > 1"))
    bench.start()

    bench.hit("a", {"n": 1})

    assert bench.statuses() == {"a": "completed", "b": "skipped"}
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_miss_lets_the_task_run() -> None:
    """As if there were no cache."""
    bench = Bench(graph([cached("a")]))
    bench.start()
    assert bench.running == []

    bench.miss("a")
    bench.run_out()

    assert bench.history() == ["a#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_the_cache_is_asked_once_and_before_anything_is_started() -> None:
    """Even in SIMPLE mode, whose order would start it."""
    bench = Bench(graph([cached("a"), TaskNode("b")]), mode=OrchestrationMode.SIMPLE)
    bench.start()

    assert bench.of(LookUpResult) == [LookUpResult(orchestration_id="o", task_id="a")]
    assert bench.running == []
    bench.miss("a")
    assert bench.running == ["a"]


def test_a_retry_looks_again() -> None:
    """Somebody else may have filled it meanwhile."""
    bench = Bench(graph([cached("a")]))
    bench.start()
    bench.miss("a")
    bench.fail("a", retryable=True)
    bench.wait(1)

    assert len(bench.of(LookUpResult)) == 2
    bench.hit("a")
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_the_next_driver_asks_again() -> None:
    """The question died with its process."""
    bench = Bench(graph([cached("a")]))
    bench.start()

    bench.crash()
    bench.start()

    assert len(bench.of(LookUpResult)) == 1


def test_a_hit_while_paused_is_asked_for_again_when_it_is_resumed() -> None:
    """A pause lets nothing begin, and loses nothing."""
    bench = Bench(graph([cached("a")]))
    bench.start()
    bench.pause()

    bench.hit("a")
    assert bench.statuses() == {"a": "ready"}
    bench.resume()

    assert len(bench.of(LookUpResult)) == 2


def test_an_answer_after_a_cancellation_changes_nothing() -> None:
    """The task has its outcome."""
    bench = Bench(graph([cached("a")]))
    bench.start()
    bench.cancel()

    bench.hit("a")

    assert bench.statuses() == {"a": "cancelled"}


def test_cached_outputs_teach_no_durations() -> None:
    """They took no time, and say nothing of how long the work takes."""
    bench = Bench(
        graph([cached("a"), TaskNode("b", estimated_time_seconds=10.0)]), mode=OrchestrationMode.ADAPTIVE
    )
    bench.start()
    bench.hit("a")
    bench.crash()
    bench.start()

    assert bench.engine.scheduler.expected_seconds(bench.state, bench.task("b")) == 10.0


def test_results_of_an_earlier_orchestration_complete_tasks_before_anything_starts() -> None:
    """Upstream first; what is new runs."""
    bench = Bench(graph("a b c", "a b", "b c"))

    reusing(bench, a=1, b=2)
    bench.start()

    assert bench.statuses() == {"a": "completed", "b": "completed", "c": "running"}
    assert bench.task("a").note == "reused: the output of old-1:a"


def test_a_reused_result_decides_conditions_anew() -> None:
    """What is skipped now is not completed by an old output."""
    bench = Bench(graph("a b", "a b if output.go"))

    reusing(bench, a={"go": False}, b=1)

    assert bench.statuses() == {"a": "completed", "b": "skipped"}


def test_an_orchestration_all_of_whose_results_are_reused_ends_when_it_is_driven() -> None:
    """Somebody has to announce it."""
    bench = Bench(graph("a"))
    reusing(bench, a=1)

    bench.start()

    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_result_is_not_reused_where_other_edges_deliver_now() -> None:
    """It was made without the data that its optional upstream would give it today."""
    bench = Bench(graph("a b", "a b?"))
    result = Reusable(task_id="b", output=ONE_OUTPUT, value=1, source="old-1:b", deliveries=(("a", False),))
    reusing(bench, a=1)

    bench.tell(ReuseResults(orchestration_id=bench.id, results=(result,)))

    assert bench.statuses() == {"a": "completed", "b": "ready"}
