"""How much systems take: limits, rates, times in which nothing starts, and fair shares of the slots."""

from __future__ import annotations

import pytest

from orchestration.engine.gates import Gate, Gates
from orchestration.engine.inputs import GatesChanged, Routes
from orchestration.models import TaskId
from tests.engine_kit import SECOND, Bench, graph


def bench(systems: dict[TaskId, str], *, slots: int = 10, **gates: Gate) -> Bench:
    """Return a started orchestration of independent tasks on these systems, behind these gates."""
    dag = graph(" ".join(systems))
    made = Bench(dag, slots=slots, routes=Routes(systems=systems))
    made.tell(GatesChanged(gates=gates))
    made.start()
    return made


def on(system: str, count: int, letter: str = "t") -> dict[TaskId, str]:
    return {f"{letter}{index}": system for index in range(count)}


def test_no_more_attempts_run_on_a_system_than_it_takes_and_the_rest_hold_no_slot() -> None:
    made = bench({**on("small", 5, "s"), **on("large", 3, "l")}, small=Gate(limit=2))
    assert made.running == ["s0", "s1", "l0", "l1", "l2"]
    assert made.engine.scheduler.slots.used == 5
    made.succeed("s0")
    assert made.running == ["s1", "l0", "l1", "l2", "s2"]


def test_a_limit_that_shrinks_lets_what_runs_go_on_and_one_that_grows_starts_more_at_once() -> None:
    made = bench(on("small", 6), small=Gate(limit=4))
    made.tell(GatesChanged(gates={"small": Gate(limit=1)}))
    made.succeed("t0")
    assert len(made.running) == 3
    made.tell(GatesChanged(gates={"small": Gate(limit=5)}))
    assert len(made.running) == 5


def test_nothing_starts_on_a_system_before_its_time_and_the_engine_wakes_by_itself() -> None:
    made = bench({"a": "later", "b": "now"})
    made = bench({"a": "later", "b": "now"}, later=Gate(closed_until_us=made.now_us + 30 * SECOND))
    assert made.running == ["b"]
    assert made.engine.next_deadline_us() == made.now_us + 30 * SECOND
    made.wait(30)
    assert made.running == ["b", "a"]
    assert made.engine.next_deadline_us() is None


def test_a_declared_rate_is_kept_with_one_burst_at_the_beginning() -> None:
    made = bench(on("slow", 10), slots=20, slow=Gate(rate=(2, 10 * SECOND)))
    started = [len(made.running)]
    for _ in range(4):
        wakes_us = made.engine.next_deadline_us()
        assert wakes_us is not None
        made.wait((wakes_us - made.now_us) / SECOND)
        started.append(len(made.running))
    assert started == [2, 3, 4, 5, 6]
    assert made.now_us == pytest.approx(1_000 * SECOND + 4 * 5 * SECOND, abs=10)


def test_a_rate_is_never_exceeded_however_the_starts_fall() -> None:
    gates = Gates()
    gates.change({"s": Gate(rate=(3, 1_000_000))}, 0)
    starts = []
    for now_us in range(0, 10_000_000, 7_001):
        if gates.admits("s", now_us):
            gates.started("s", now_us)
            starts.append(now_us)
    for first in starts[3:]:
        assert sum(first <= at < first + 1_000_000 for at in starts) <= 4
    assert len(starts) == pytest.approx(33, abs=1)


def test_a_slow_system_gives_way_once_it_holds_its_share_and_takes_the_rest_when_nobody_wants_it() -> None:
    made = bench({**on("slow", 8, "a"), **on("quick", 8, "b")}, slots=4)
    assert sorted(made.running) == ["a0", "a1", "b0", "b1"], "nobody knows yet who is slow: equal shares"
    made.now_us += SECOND
    for name in ("b0", "b1"):
        made.succeed(name)
    assert sorted(made.running) == ["a0", "a1", "b2", "b3"]
    made.now_us += 60 * SECOND
    made.succeed("a0")
    assert sorted(name[0] for name in made.running) == ["a", "a", "b", "b"]
    for index in range(2, 8):
        made.succeed(f"b{index}")
    assert sorted(name[0] for name in made.running) == ["a", "a", "a", "a"]


def test_among_systems_that_are_equally_quick_the_ranking_alone_decides() -> None:
    made = bench({**on("one", 6, "a"), **on("two", 6, "b")}, slots=4)
    for name in ("a0", "b0", "a1", "b1"):
        made.now_us += SECOND // 100
        made.succeed(name)
    assert sorted(made.running) == ["a2", "a3", "a4", "a5"]


def test_a_single_system_may_have_every_slot() -> None:
    assert len(bench(on("only", 9), slots=4).running) == 4


def test_slots_and_gates_are_given_back_when_an_orchestration_is_let_go() -> None:
    made = bench(on("small", 3), small=Gate(limit=2))
    made.engine.drop("o")
    assert made.engine.scheduler.slots.used == 0
    assert made.engine.scheduler.slots.gates.loads["small"].running == 0
