"""The circuit breaker: when it opens, how it finds out, when it closes. Time is passed in."""

from __future__ import annotations

from orchestration.systems.breaker import BreakerOptions, BreakerState, CircuitBreaker, Pass


def leave(breaker: CircuitBreaker, now: float) -> Pass:
    """Return leave to call, which must be given."""
    given = breaker.admit(now)
    assert given is not None
    return given


def opened(breaker: CircuitBreaker, now: float) -> None:
    """Let a closed breaker open."""
    reasons = [breaker.failed(leave(breaker, now), now) for _ in range(5)]
    assert reasons == [None] * 4 + ["5 failures in a row"]


def test_five_failures_in_a_row_open_it() -> None:
    """Then nothing goes through, and it says for how long."""
    breaker = CircuitBreaker()

    opened(breaker, 10.0)

    assert breaker.state(10.0) is BreakerState.OPEN
    assert breaker.admit(10.5) is None
    assert breaker.wait_seconds(10.25) == 0.75


def test_a_success_between_them_keeps_it_closed() -> None:
    """What fails now and then is retried, not given up."""
    breaker = CircuitBreaker()

    for number in range(9):
        if number % 3 == 2:
            breaker.failed(leave(breaker, 0.0), 0.0)
        else:
            breaker.succeeded(leave(breaker, 0.0), 0.0)

    assert breaker.state(0.0) is BreakerState.CLOSED


def test_half_of_ten_results_open_it() -> None:
    """Also where no five come in a row."""
    breaker = CircuitBreaker()
    reasons = []

    for number in range(10):
        if number % 2:
            reasons.append(breaker.failed(leave(breaker, 0.0), 0.0))
        else:
            breaker.succeeded(leave(breaker, 0.0), 0.0)

    assert reasons == [None] * 4 + ["5 of the last 10 failed"]


def test_old_results_are_forgotten() -> None:
    """A share is one of the last minute."""
    breaker = CircuitBreaker()

    for number in range(8):
        ended = breaker.failed if number % 2 else breaker.succeeded
        ended(leave(breaker, 0.0), 0.0)
    breaker.succeeded(leave(breaker, 61.0), 61.0)

    assert breaker.failed(leave(breaker, 61.0), 61.0) is None


def test_one_probe_goes_through_after_the_cool_down() -> None:
    """And no second one beside it; its answer closes the breaker."""
    breaker = CircuitBreaker()
    opened(breaker, 0.0)

    assert breaker.state(1.0) is BreakerState.HALF_OPEN
    probe = leave(breaker, 1.0)

    assert probe.is_probe
    assert breaker.admit(1.1) is None
    assert breaker.succeeded(probe, 1.2)
    assert breaker.state(1.2) is BreakerState.CLOSED


def test_each_failed_probe_doubles_the_cool_down_up_to_a_minute() -> None:
    """1, 2, 4, … 60 s."""
    breaker = CircuitBreaker()
    opened(breaker, 0.0)
    waits, now = [breaker.wait_seconds(0.0)], 0.0

    for _ in range(8):
        now += breaker.wait_seconds(now)
        assert breaker.failed(leave(breaker, now), now) == "the probe failed"
        waits.append(breaker.wait_seconds(now))

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_what_flaps_is_asked_ever_less_often() -> None:
    """The cool-down grows on where it closed only just before, and begins anew where it held for a minute."""
    breaker = CircuitBreaker()
    opened(breaker, 0.0)
    breaker.succeeded(leave(breaker, 1.0), 1.0)

    opened(breaker, 2.0)
    again = breaker.wait_seconds(2.0)
    breaker.succeeded(leave(breaker, 4.0), 4.0)
    opened(breaker, 64.0)

    assert again == 2.0
    assert breaker.wait_seconds(64.0) == 1.0


def test_what_began_before_it_opened_says_nothing_any_more() -> None:
    """Neither a late success closes it nor does a late failure lengthen the cool-down."""
    breaker = CircuitBreaker()
    early = [leave(breaker, 0.0) for _ in range(50)]
    for each in early[:5]:
        breaker.failed(each, 0.0)

    assert not any(breaker.succeeded(each, 0.5) for each in early[5:25])
    assert [breaker.failed(each, 0.5) for each in early[25:]] == [None] * 25
    assert breaker.wait_seconds(0.0) == 1.0


def test_a_probe_that_says_nothing_gives_way_to_the_next() -> None:
    """Whoever cancelled it."""
    breaker = CircuitBreaker()
    opened(breaker, 0.0)

    breaker.dropped(leave(breaker, 1.0))

    assert leave(breaker, 1.0).is_probe


def test_a_probe_that_never_ends_is_given_up() -> None:
    """Another one goes after a while, and the lost one's end says nothing."""
    breaker = CircuitBreaker(BreakerOptions(probe_seconds=30.0))
    opened(breaker, 0.0)
    lost = leave(breaker, 1.0)

    assert breaker.admit(30.0) is None
    assert breaker.wait_seconds(30.0) == 1.0
    second = leave(breaker, 31.0)

    assert breaker.failed(lost, 32.0) is None
    assert breaker.succeeded(second, 32.0)
