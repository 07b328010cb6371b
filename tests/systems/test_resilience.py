"""How systems do, as their attempts show it: breakers, limits, rests, the story, and the gate around attempts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestration import FunctionSystem, TaskDAG, TaskNode, create_advanced_task_orchestrator
from orchestration.engine.inputs import Gate
from orchestration.errors import AttemptFailedError, InvalidArgumentError, SystemUnavailableError
from orchestration.models import ErrorRecord
from orchestration.systems.breaker import BreakerState
from orchestration.systems.health import Rate, SystemPolicy
from orchestration.systems.resilience import Resilience
from orchestration.systems.verdicts import Verdict, asks_for_rest, verdict_on

DOWN = ErrorRecord(code="system_unavailable", message="refused", retryable=True)
SLOW = ErrorRecord(code="timeout", message="took too long", retryable=True, effect_open=True)


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def now_us(self) -> int:
        return round(self.at * 1_000_000)

    def monotonic(self) -> float:
        return self.at

    def elapsed(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def fail(resilience: Resilience, error: ErrorRecord, times: int = 5, tool: str | None = "t") -> None:
    """Let attempts fail."""
    for _ in range(times):
        resilience.admit("s", "mcp", tool).ended(error)


def refusal(resilience: Resilience, tool: str | None = "t") -> AttemptFailedError:
    """Return the refusal of an attempt."""
    with pytest.raises(AttemptFailedError) as caught:
        resilience.admit("s", "mcp", tool)
    return caught.value


def test_an_unreachable_system_is_not_asked_by_any_tool() -> None:
    """The refusal is definite, may be retried when the probe is due, and says why."""
    resilience = Resilience(Hands())

    fail(resilience, DOWN)
    error = refusal(resilience, "another")

    assert (error.code, error.retryable, error.effect_open) == ("circuit_open", True, False)
    assert error.retry_after_seconds == 1.0
    assert str(error) == (
        "System 's' is not asked now: 5 failures in a row, the last with system_unavailable: refused. "
        "It is tried again in 1 s."
    )


def test_a_tool_that_hangs_is_not_asked_while_its_neighbours_are() -> None:
    """And the story names it."""
    resilience = Resilience(Hands())

    fail(resilience, SLOW)

    assert "Tool 't' of system 's' is not asked now" in str(refusal(resilience))
    resilience.admit("s", "mcp", "other").ended(None)
    health = resilience.story("s")
    assert health.state is BreakerState.CLOSED
    assert list(health.open_tools or {}) == ["t"]


def test_a_tool_s_breaker_survives_what_was_under_way_before_there_was_one() -> None:
    """Fifty at once that all run out of time count together, up to the change of state, and not beyond."""
    resilience = Resilience(Hands())
    under_way = [resilience.admit("s", "mcp", "t") for _ in range(8)]

    for ticket in under_way[:4]:
        ticket.ended(SLOW)
    resilience.admit("s", "mcp", "t").ended(SLOW)
    opened = refusal(resilience)
    for ticket in under_way[4:]:
        ticket.ended(SLOW)

    assert "5 failures in a row" in str(opened)
    assert str(refusal(resilience)) == str(opened)


def test_a_system_without_tools_that_hangs_is_not_asked() -> None:
    """There is nothing else it could speak of."""
    resilience = Resilience(Hands())

    fail(resilience, SLOW, tool=None)

    assert "System 's' is not asked now" in str(refusal(resilience, None))


def test_a_probe_closes_it_and_the_story_tells_all() -> None:
    """Opened, probed, closed; with instants."""
    clock = Hands()
    resilience = Resilience(clock)
    fail(resilience, DOWN)
    opened = resilience.story("s")
    clock.at += 1.0

    probe = resilience.admit("s", "mcp", "t")
    with pytest.raises(AttemptFailedError):
        resilience.admit("s", "mcp", "t")
    probe.ended(None)

    assert (opened.state, opened.next_probe_seconds) == (BreakerState.OPEN, 1.0)
    health = resilience.story("s")
    assert (health.state, health.opened_because, health.next_probe_seconds) == (
        BreakerState.CLOSED,
        None,
        None,
    )
    assert health.running == 0
    told = [str(change) for change in health.last_changes]
    assert told[0].startswith("1970-01-01T00:16:40.000Z System 's' is not asked for 1 s: 5 failures in a row")
    assert told[-1] == "1970-01-01T00:16:41.000Z System 's' answers again: it is asked as before"


def test_a_probe_of_a_system_that_hangs_is_no_answer() -> None:
    """It counts against the system that is being tried, whatever the tool."""
    clock = Hands()
    resilience = Resilience(clock)
    fail(resilience, DOWN)
    clock.at += 1.0

    resilience.admit("s", "mcp", "t").ended(SLOW)

    assert resilience.story("s").next_probe_seconds == 2.0


def test_what_a_task_does_wrong_is_not_held_against_its_system() -> None:
    """Tool errors are answers; arguments that were never sent say nothing."""
    resilience = Resilience(Hands())

    for code in ("tool_error", "invalid_arguments", "exit_code", "not_accepted"):
        fail(resilience, ErrorRecord(code=code, message="", retryable=True), times=20)

    assert resilience.story("s").state is BreakerState.CLOSED
    assert resilience.tally("s", "t").failed == 60


@pytest.mark.parametrize(
    ("error", "is_own", "verdict"),
    [
        (DOWN, False, Verdict.SYSTEM_FAULT),
        (DOWN, True, Verdict.SYSTEM_FAULT),
        (SLOW, False, Verdict.TOOL_FAULT),
        (SLOW, True, Verdict.ANSWERED),  # a slow function is the caller's own
        (ErrorRecord(code="http_503", message=""), False, Verdict.TOOL_FAULT),
        (ErrorRecord(code="http_404", message=""), False, Verdict.ANSWERED),
        (ErrorRecord(code="x", message="", retryable=True, effect_open=True), False, Verdict.TOOL_FAULT),
        (ErrorRecord(code="invalid_output", message="", effect_open=True), False, Verdict.ANSWERED),
        (ErrorRecord(code="rate_limited", message="", retryable=True), False, Verdict.ANSWERED),
        (ErrorRecord(code="invalid_arguments", message=""), False, Verdict.NEUTRAL),
    ],
)
def test_failures_are_told_apart(error: ErrorRecord, is_own: bool, verdict: Verdict) -> None:
    """Those of a system, of a tool, of a task, and those that say nothing."""
    assert verdict_on(error, is_own=is_own) is verdict


def test_a_stopped_attempt_says_nothing_unless_its_time_was_over() -> None:
    """The engine enforces time limits by stopping."""
    clock = Hands()
    resilience = Resilience(clock)

    for seconds in (1.0, 1.0, 30.0):
        with resilience.admit("s", "mcp", "t") as ticket:
            ticket.limit_seconds = 30.0
            clock.at += seconds

    assert (resilience.tally("s", "t").answered, resilience.tally("s", "t").failed) == (0, 1)
    assert resilience.story("s").running == 0


def test_too_many_requests_close_the_gate_for_as_long_as_was_asked() -> None:
    """Without being asked for, for a while that doubles; listeners are told; success opens it."""
    clock = Hands()
    resilience = Resilience(clock)
    told: list[tuple[str, Gate]] = []
    resilience.watch("s", "function")
    stop = resilience.subscribe(lambda system, gate: told.append((system, gate)))

    fail(resilience, ErrorRecord(code="rate_limited", message="", retry_after_seconds=7.0), times=1)
    first = resilience.gates()["s"].closed_until_us
    clock.at += 8.0
    fail(resilience, ErrorRecord(code="rate_limited", message=""), times=1)
    second = resilience.gates()["s"].closed_until_us
    rest = resilience.story("s").rest_seconds
    clock.at += 3.0
    resilience.admit("s", "mcp", "t").ended(None)
    stop()
    fail(resilience, ErrorRecord(code="rate_limited", message=""), times=1)

    assert (first, second, rest) == (1_007_000_000, 1_010_000_000, 2.0)
    assert [gate.closed_until_us for _, gate in told] == [1_007_000_000, 1_010_000_000, None]
    assert resilience.story("s").state is BreakerState.CLOSED


def test_only_what_began_after_a_rest_doubles_the_next_one() -> None:
    """Twenty that were under way when the first was told "too many requests" are told the same."""
    clock = Hands()
    resilience = Resilience(clock)
    under_way = [resilience.admit("s", "http", "t") for _ in range(20)]
    busy = ErrorRecord(code="http_429", message="", retryable=True)

    for ticket in under_way[:-1]:
        clock.at += 0.001
        ticket.ended(busy)
    rest = resilience.story("s").rest_seconds
    under_way[-1].ended(replace(busy, retry_after_seconds=30.0))

    assert rest is not None
    assert 0.9 < rest < 1.0
    assert resilience.story("s").rest_seconds == 30.0, "who says for how long is believed"


@pytest.mark.parametrize(
    ("error", "asks"),
    [
        (ErrorRecord(code="rate_limited", message=""), True),
        (ErrorRecord(code="http_429", message="", retryable=True), True),
        (ErrorRecord(code="http_503", message="", retryable=True, retry_after_seconds=5.0), True),
        (ErrorRecord(code="http_503", message="", retryable=True), False),
        (ErrorRecord(code="circuit_open", message="", retryable=True, retry_after_seconds=5.0), False),
    ],
)
def test_what_asks_for_a_rest_is_the_same_for_all_kinds(error: ErrorRecord, asks: bool) -> None:
    assert asks_for_rest(error) is asks


def test_timeouts_lower_the_limit_of_other_peoples_systems() -> None:
    """Answers in time raise it again; what runs here has none, unless it is declared."""
    clock = Hands()
    policy = SystemPolicy(max_concurrent=3, rate=Rate(requests=10, per_seconds=60.0))
    resilience = Resilience(clock, {"own": policy})
    resilience.watch("own", "function")
    resilience.watch("free", "function")
    resilience.watch("s", "mcp")
    before = resilience.gates()

    clock.at += 1.0
    fail(resilience, SLOW, times=1)

    assert before == {"own": Gate(limit=3, rate=(10, 60_000_000)), "s": Gate(limit=20)}
    assert resilience.gates()["s"].limit == 10
    assert resilience.story("own").limit == 3


@pytest.mark.parametrize("broken", [{"requests": 0, "per_seconds": 1.0}, {"requests": 1, "per_seconds": 0.0}])
def test_a_rate_that_lets_nothing_through_is_refused(broken: dict[str, float]) -> None:
    """Naming the field."""
    with pytest.raises(InvalidArgumentError, match=r"rate\."):
        Rate(**broken)  # type: ignore[arg-type]


def test_another_sides_words_are_told_in_one_plain_line() -> None:
    """Nothing in them reaches a terminal as a command."""
    resilience = Resilience(Hands())

    fail(resilience, ErrorRecord(code="system_unavailable", message="a\x1b[31m\nb\u202e", retryable=True))

    assert (resilience.story("s").opened_because or "").endswith("system_unavailable: a [31m b")


@pytest.mark.anyio
async def test_attempts_at_a_dead_system_are_refused_at_once() -> None:
    """In a real run: after five that found nobody, the sixth is not even tried; the registry knows between runs."""
    calls = []

    def dead() -> None:
        calls.append(1)
        raise SystemUnavailableError("py", "it is off")

    dag = TaskDAG("d")
    for number in range(7):
        dag.add_task(TaskNode(f"t{number}", tool="dead", max_retries=0))
    orchestrator = create_advanced_task_orchestrator(
        systems={"py": FunctionSystem({"dead": dead})}, max_concurrent_tasks=1
    )

    async with orchestrator:
        result = await orchestrator.execute_dag(dag)

    assert len(calls) == 5
    codes = sorted(error["code"] for error in result["errors"].values())
    assert codes == ["circuit_open"] * 2 + ["system_unavailable"] * 5
    assert orchestrator.systems.resilience.story("py").state in (BreakerState.OPEN, BreakerState.HALF_OPEN)
