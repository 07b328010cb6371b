"""The adaptive limit: it finds what a simulated system can do, and backs off from trouble."""

from __future__ import annotations

import random

from orchestration.systems.limiter import AdaptiveLimit


def served(limit: AdaptiveLimit, capacity: int, rounds: int, *, seed: int = 1, tools: int = 1) -> int:
    """Ask a system that answers `capacity` calls at once in about a second to its limit; return the limit then."""
    rng = random.Random(seed)
    for _ in range(rounds):
        running = limit.limit
        slower = max(1.0, running / capacity)
        for number in range(running):
            tool = number % tools
            limit.answered(f"t{tool}", 10.0**tool * slower * rng.uniform(0.7, 1.3), running)
    return limit.limit


def test_it_grows_while_answers_take_as_long_as_usual() -> None:
    """Up to the maximum."""
    assert served(AdaptiveLimit(start=4, maximum=50), capacity=1_000, rounds=200) == 50


def test_it_shrinks_towards_what_the_system_can_do() -> None:
    """A system that slows down after its usual time is known is asked less; never to starvation."""
    limit = AdaptiveLimit(start=40, maximum=200)
    for _ in range(40):
        limit.answered("t0", 1.0, 1)  # not asked to capacity: the limit stays, the usual time is learned

    found = served(limit, capacity=10, rounds=20)

    assert 10 <= found <= 28


def test_tools_of_different_speed_do_not_confuse_it() -> None:
    """What is usual is usual for a tool."""
    assert served(AdaptiveLimit(start=6, maximum=30), capacity=1_000, rounds=200, tools=3) == 30


def test_a_system_that_is_not_asked_to_capacity_is_not_given_more() -> None:
    """Nothing is learned about a limit that nobody reaches."""
    limit = AdaptiveLimit(start=20, maximum=200)

    for _ in range(500):
        limit.answered("t", 1.0, 2)

    assert limit.limit == 20


def test_trouble_halves_it_once_per_round() -> None:
    """Twenty timeouts of one moment count once; those of attempts that began later count again. It never ends at 0."""
    limit = AdaptiveLimit(start=20, maximum=200)

    for _ in range(20):
        limit.failed(began=0.0, now=30.0)
    first = limit.limit
    for moment in range(31, 41):
        limit.failed(began=moment, now=moment + 0.5)

    assert (first, limit.limit) == (10, 1)


def test_a_system_that_gets_faster_for_good_is_noticed() -> None:
    """It may grow again."""
    limit = AdaptiveLimit(start=2, maximum=20)
    for _ in range(100):
        limit.answered("t", 10.0, 1)

    for _ in range(300):
        limit.answered("t", 1.0, limit.limit)

    assert limit.limit == 20


def test_the_maximum_caps_the_start() -> None:
    """A declared limit holds from the first attempt."""
    assert AdaptiveLimit(start=20, maximum=3).limit == 3
