"""`get_metrics` says how things went, with numbers anyone can check."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from orchestration.clock import SystemClock
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server.app import OrchestrationServer, build_server
from tests.server.conftest import DIAMOND, Connect, lend, text_of

pytestmark = pytest.mark.anyio

HOUR_US = 3_600 * 1_000_000


async def _run(client: Any) -> None:
    with anyio.fail_after(10):
        await client.call_tool("execute_dag", {"dag": DIAMOND, "wait_seconds": 10})


async def test_the_servers_metrics_sum_up_all_orchestrations(connect: Connect) -> None:
    """Rates are in percent, as the specification has them."""
    async with connect() as client:
        await _run(client)
        await _run(client)
        result = await client.call_tool("get_metrics", {})

    answer = result.structured_content
    assert answer is not None
    assert answer["message"] == "2 orchestrations: 2 successful, 0 failed, 0 active."
    assert answer["scope"] == "server"
    metrics = answer["metrics"]
    assert (metrics["total_orchestrations"], metrics["success_rate"], metrics["total_attempts"]) == (
        2,
        100.0,
        8,
    )
    assert 0 < metrics["average_parallel_efficiency"] <= 100
    assert "success_rate: 100" in text_of(result).splitlines()


async def test_one_orchestrations_metrics_are_those_of_its_result(connect: Connect) -> None:
    """Makespan, critical path and efficiency, from measured durations."""
    async with connect() as client:
        await _run(client)
        result = await client.call_tool("get_metrics", {"scope": "orchestration", "id": "diamond-1"})

    answer = result.structured_content
    assert answer is not None
    assert answer["message"].startswith("diamond-1 is completed: 4 of 4 tasks completed in ")
    assert answer["orchestration_id"] == "diamond-1"
    metrics = answer["metrics"]
    assert 0 < metrics["parallel_efficiency"] <= 1
    assert metrics["makespan_seconds"] >= metrics["critical_path_seconds"] > 0
    assert metrics["tasks_completed"] == 4


class _LaterClock:
    """Tells the time of the machine and `hours` more."""

    def __init__(self, hours: int) -> None:
        self._clock = SystemClock()
        self._hours = hours

    def now_us(self) -> int:
        return self._clock.now_us() + self._hours * HOUR_US

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def elapsed(self) -> float:
        return self._clock.elapsed()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


@pytest.fixture
def server(orchestrator: AdvancedTaskOrchestrator) -> OrchestrationServer:
    """A server that believes it is two hours later than it is."""
    return build_server(lambda: lend(orchestrator), clock=_LaterClock(2))


async def test_a_window_leaves_out_what_was_started_before_it(connect: Connect) -> None:
    """By a clock that is two hours ahead, the run was started two hours ago."""
    async with connect() as client:
        await _run(client)
        last_hour = await client.call_tool("get_metrics", {"window": "1h"})
        last_day = await client.call_tool("get_metrics", {"window": "1d"})

    assert text_of(last_hour).startswith("No orchestration was started in the last 1h.")
    assert text_of(last_day).startswith("1 orchestration in the last 1d: 1 successful, 0 failed, 0 active.")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"window": "soon"}, "window is 'soon'; expected a number with s, m, h or d. Fix: For example 24h."),
        ({"scope": "orchestration"}, "id is ''; expected an orchestration_id."),
        ({"id": "diamond-1"}, "id is 'diamond-1'; expected scope=orchestration beside it."),
        (
            {"scope": "orchestration", "id": "d-1", "window": "1h"},
            "window is '1h'; expected scope=server beside it.",
        ),
        ({"scope": "orchestration", "id": "d-1"}, "There is no orchestration 'd-1'."),
        ({"scope": "system"}, "scope: is 'system'; expected 'server' or 'orchestration'."),
    ],
)
async def test_bad_arguments_are_refused(connect: Connect, arguments: dict[str, Any], told: str) -> None:
    """The field, the value, what was expected."""
    async with connect() as client:
        result = await client.call_tool("get_metrics", arguments)

    assert result.is_error is True
    assert text_of(result).startswith(told)
