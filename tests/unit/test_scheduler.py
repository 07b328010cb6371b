"""Who gets a slot, over all orchestrations; what is learned from measured durations."""

from __future__ import annotations

import pytest

from orchestration.engine.engine import Engine
from orchestration.engine.inputs import ReportSuccess, SlotsFreed, TakeOver
from orchestration.engine.prioritizer import DynamicTaskPrioritizer
from orchestration.engine.scheduler import AdaptiveTaskScheduler, DurationModel, SlotPool
from orchestration.engine.state import replay
from orchestration.models import OrchestrationMode, TaskNode, TaskPriority
from orchestration.options import PrioritizationOptions
from tests.engine_kit import ONE_OUTPUT, SECOND, START, Bench, graph, plan, submitted

ADAPTIVE = OrchestrationMode.ADAPTIVE


def task(name: str, seconds: float | None = None, tool: str | None = None, priority: int = 2) -> TaskNode:
    return TaskNode(name, estimated_time_seconds=seconds, tool=tool, priority=TaskPriority(priority))


# Slots


def test_never_more_attempts_run_than_there_are_slots() -> None:
    """The rest is ready and waits."""
    bench = Bench(graph("a b c d e"), slots=2)

    bench.start()

    assert bench.running == ["a", "b"]
    assert not bench.engine.scheduler.slots.is_free


def test_every_ending_of_an_attempt_frees_its_slot() -> None:
    """Success, failure, back-off and cancellation."""
    bench = Bench(graph("a b c d e"), slots=1)
    bench.start()

    used = []
    bench.succeed("a")
    used.append(bench.running)
    bench.fail("b")
    used.append(bench.running)
    bench.fail("c", retryable=True)
    used.append(bench.running)
    bench.cancel()
    bench.stopped("d")

    assert used == [["b"], ["c"], ["d"]]
    assert bench.engine.scheduler.slots.used == 0


def test_orchestrations_share_the_slots_by_urgency() -> None:
    """`max_concurrent_tasks` is over all orchestrations; the most urgent task of any is next."""
    one = Bench(graph([task("low", priority=1), task("high", priority=3)]), slots=1, orchestration_id="one")
    two = Bench(
        graph([task("urgent", priority=5), task("medium", priority=2)]), beside=one, orchestration_id="two"
    )
    one.start()
    two.start()

    order = []
    for _ in range(4):
        bench = one if one.running else two
        order.append(bench.running[0])
        bench.succeed(bench.running[0])

    assert order == ["high", "urgent", "medium", "low"]


def test_of_equal_urgency_the_orchestration_that_came_first_is_served_first() -> None:
    """Ties are no matter of luck."""
    one = Bench(graph("a b"), slots=1, orchestration_id="one")
    two = Bench(graph("x y"), beside=one, orchestration_id="two")
    one.start()
    two.start()

    one.succeed("a")

    assert (one.running, two.running) == (["b"], [])


def test_a_simple_orchestration_is_not_starved_by_a_parallel_one() -> None:
    """Its next task competes with its own priority, not behind everybody."""
    busy = Bench(graph([task(name, priority=2) for name in "abcdef"]), slots=1, orchestration_id="busy")
    simple = Bench(
        graph([task("urgent", priority=5)]),
        beside=busy,
        orchestration_id="simple",
        mode=OrchestrationMode.SIMPLE,
    )
    busy.start()
    simple.start()

    busy.succeed("a")

    assert (busy.running, simple.running) == ([], ["urgent"])


def test_a_paused_orchestration_leaves_its_slots_to_others() -> None:
    """Until it is resumed."""
    one = Bench(graph("a b"), slots=1, orchestration_id="one")
    two = Bench(graph("x"), beside=one, orchestration_id="two")
    one.start()
    two.start()
    one.pause()

    one.succeed("a")

    assert (one.running, two.running) == ([], ["x"])


def test_engines_can_share_one_pool() -> None:
    """An orchestrator's sessions do; `SlotsFreed` tells the one that waits."""
    pool = SlotPool(1)
    first, second = (Engine(AdaptiveTaskScheduler(pool)) for _ in range(2))
    for engine, name in ((first, "one"), (second, "two")):
        dag = graph("a")
        engine.adopt(replay(name, dag, [submitted(dag, name)]))
        engine.handle(TakeOver(orchestration_id=name), START)
    hungry = second.scheduler.is_hungry

    first.handle(ReportSuccess(orchestration_id="one", task_id="a", attempt=1, output=ONE_OUTPUT), START)
    decision = second.handle(SlotsFreed(), START)

    assert hungry
    assert [effect.orchestration_id for effect in decision.effects] == ["two"]
    assert not second.scheduler.is_hungry
    assert pool.used == 1


def test_a_lent_slot_lets_one_more_attempt_run_until_it_is_given_back() -> None:
    """An attempt that waits for an orchestration of its own lends its slot to it."""
    bench = Bench(graph("a b c"), slots=1)
    bench.start()
    slots = bench.engine.scheduler.slots

    slots.lent += 1
    bench.tell(SlotsFreed())
    lent = bench.running
    slots.lent -= 1
    bench.succeed("b")

    assert lent == ["a", "b"]
    assert bench.running == ["a"]
    assert not slots.is_free


def test_nothing_is_hungry_while_paused_or_empty() -> None:
    """Hungry is what could start if a slot were free."""
    bench = Bench(graph("a b c", "b c"), slots=1)
    bench.start()

    before = bench.engine.scheduler.is_hungry
    bench.pause()

    assert before
    assert not bench.engine.scheduler.is_hungry


# Order


def test_the_longest_remaining_path_starts_first() -> None:
    """The last leaf waits for the chain that was inserted after it."""
    bench = Bench(
        graph([task("leaf", 5.0), task("a", 2.0), task("b", 2.0), task("c", 2.0)], "a b", "b c"), slots=1
    )

    bench.start()

    assert bench.running == ["a"]


def test_the_weighted_policy_is_used_where_it_is_chosen() -> None:
    """A short task beats a long one there."""
    dag = graph([task("long", 100.0), task("short", 1.0)])
    running = {}
    for policy in ("upward_rank", "weighted"):
        prioritizer = DynamicTaskPrioritizer(PrioritizationOptions(policy=policy))
        engine = Engine(AdaptiveTaskScheduler(SlotPool(1), prioritizer))
        state = replay("o", dag, [submitted(dag)])
        engine.adopt(state)
        engine.handle(TakeOver(orchestration_id="o"), START)
        running[policy] = list(state.running)

    assert running == {"upward_rank": ["long"], "weighted": ["short"]}


# Learning


def test_an_estimate_counts_until_something_is_measured() -> None:
    """Then it is scaled by how its kind kept to its estimates."""
    bench = Bench(graph([task("a", 10.0, "slow"), task("b", 30.0, "slow"), task("c", 7.0, "other")]), slots=1)
    model = DurationModel.of(bench.state)
    before = model.expected(bench.task("b"))
    done = bench.task("a")
    done.duration_us = 20 * SECOND

    model.observe(done)

    assert before == 30.0
    assert model.expected(bench.task("b")) == pytest.approx(60.0)  # its kind takes twice its estimates
    assert model.expected(bench.task("c")) == 7.0  # another kind


def test_a_task_without_estimate_takes_the_mean_of_its_kind() -> None:
    """Else the mean of the DAG's estimates, else one second."""
    bench = Bench(
        graph([task("a", None, "x"), task("b", None, "x"), task("c", 4.0, "y"), task("d", 8.0, "y")])
    )
    model = DurationModel.of(bench.state)
    before = model.expected(bench.task("b"))
    bench.task("a").duration_us = 3 * SECOND

    model.observe(bench.task("a"))

    assert before == 6.0
    assert model.expected(bench.task("b")) == 3.0
    assert DurationModel().expected(bench.task("b")) == 1.0


def test_estimates_of_zero_do_not_divide_by_zero() -> None:
    """A kind whose estimates are all zero says nothing about a factor."""
    bench = Bench(graph([task("a", 0.0, "x"), task("b", 0.0, "x")]))
    model = DurationModel.of(bench.state)
    bench.task("a").duration_us = SECOND

    model.observe(bench.task("a"))

    assert model.expected(bench.task("b")) == 0.0


def learned(mode: OrchestrationMode, *, is_adaptive: bool = True) -> list[str]:
    """Return what starts after a first task of tool `quick` took a thousandth of its estimate.

    By their estimates `quick2` comes next; by what was measured, `steady`.
    """
    dag = graph(
        [task("quick1", 100.0, "quick"), task("quick2", 90.0, "quick"), task("steady", 50.0, "steady")]
    )
    engine = Engine(AdaptiveTaskScheduler(SlotPool(1), is_adaptive=is_adaptive))
    state = replay("o", dag, [submitted(dag, mode=mode)])
    engine.adopt(state)
    engine.handle(TakeOver(orchestration_id="o"), START)
    first = list(state.running)
    report = ReportSuccess(orchestration_id="o", task_id="quick1", attempt=1, output=ONE_OUTPUT)
    engine.handle(report, START + SECOND // 10)
    assert first == ["quick1"]
    return list(state.running)


def test_adaptive_ranks_anew_as_results_come_in() -> None:
    """Measured durations change the order of what is left."""
    assert learned(ADAPTIVE) == ["steady"]


def test_hierarchical_keeps_the_order_of_the_estimates() -> None:
    """One ranking, made at the take-over."""
    assert learned(OrchestrationMode.HIERARCHICAL) == ["quick2"]


def test_adaptive_scheduling_can_be_turned_off() -> None:
    """`enable_adaptive_scheduling: false` makes ADAPTIVE keep its first ranking."""
    assert learned(ADAPTIVE, is_adaptive=False) == ["quick2"]


def test_what_was_learned_is_learned_again_after_a_crash() -> None:
    """The journal holds the durations."""
    dag = graph(
        [task("quick1", 100.0, "quick"), task("quick2", 90.0, "quick"), task("steady", 50.0, "steady")]
    )
    bench = Bench(dag, slots=1, mode=ADAPTIVE)
    bench.start()
    bench.pause()
    bench.now_us += SECOND // 10
    bench.succeed("quick1")
    bench.crash()

    bench.start()
    bench.resume()

    assert bench.running == ["steady"]


def test_the_tasks_of_an_alternative_are_ranked_with_the_rest() -> None:
    """The head of the path that is left comes first."""
    dag = graph([task("a", 1.0), task("after", 50.0), task("leaf", 10.0)], "a after")
    bench = Bench(dag, slots=1, mode=ADAPTIVE, can_replan=True)
    bench.start()
    bench.fail("a")
    bench.pause()
    bench.offer("a", plan("x"))
    bench.succeed("leaf") if bench.running == ["leaf"] else None

    bench.resume()

    assert bench.running == ["x~1"]


# What is left


def test_nothing_to_go_by_means_no_estimate() -> None:
    """Without an estimate or a measurement the rest is anybody's guess."""
    bench = Bench(graph("a b"))
    bench.start()

    assert bench.engine.scheduler.remaining_seconds(bench.state, START) is None
    assert bench.engine.scheduler.expected_seconds(bench.state, bench.task("a")) is None


def test_the_rest_is_at_least_the_longest_path() -> None:
    """Time a running task has spent is taken off."""
    dag = graph([task("a", 10.0), task("b", 20.0)], "a b")
    bench = Bench(dag)
    bench.start()

    remaining = bench.engine.scheduler.remaining_seconds(bench.state, START + 4 * SECOND)

    assert remaining == pytest.approx(26.0)


def test_the_rest_is_at_least_the_work_over_the_slots() -> None:
    """Ten tasks of 6 s on two slots take 30 s; in SIMPLE 60."""
    dag = graph([task(f"t{number}", 6.0) for number in range(10)])
    remaining = {}
    for mode in (OrchestrationMode.HIERARCHICAL, OrchestrationMode.SIMPLE):
        bench = Bench(dag, slots=2, mode=mode)
        bench.start()
        remaining[mode] = bench.engine.scheduler.remaining_seconds(bench.state, START)

    assert remaining == {OrchestrationMode.HIERARCHICAL: 30.0, OrchestrationMode.SIMPLE: 60.0}


def test_nothing_left_takes_no_time() -> None:
    """Zero, known for sure."""
    bench = Bench(graph("a"))
    bench.start()
    bench.succeed("a")

    assert bench.engine.scheduler.remaining_seconds(bench.state, START) == 0.0


def test_ready_work_is_never_scanned() -> None:
    """A completion touches its own dependents only: ten times the tasks, about the same work each."""
    counts = {}
    for size in (100, 1_000):
        dag = graph([task(f"t{number}") for number in range(size)])
        bench = Bench(dag, slots=1, checks=False)
        bench.start()
        seen = 0
        tasks = bench.state.tasks

        class Counting(dict):  # type: ignore[type-arg]
            def __getitem__(self, key: str) -> object:
                nonlocal seen
                seen += 1
                return super().__getitem__(key)

        bench.state.tasks = Counting(tasks)
        bench.run_out()
        counts[size] = seen / size

    assert counts[1_000] < 2 * counts[100]
