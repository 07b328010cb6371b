"""Virtual time: a day of back-offs and timeouts passes in milliseconds, on a clock that jumps when all wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from orchestration import AdvancedTaskOrchestrator, FunctionSystem, create_advanced_task_orchestrator


class LoopClock:
    """The event loop's own time, from a fixed start."""

    def now_us(self) -> int:
        return 1_700_000_000_000_000 + round(anyio.current_time() * 1_000_000)

    def monotonic(self) -> float:
        return anyio.current_time()

    def elapsed(self) -> float:
        return anyio.current_time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(0.0, seconds))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


Make = Callable[..., AdvancedTaskOrchestrator]


@pytest.fixture
def make() -> Make:
    """Make orchestrators on virtual time whose functions are given by name."""

    def build(functions: dict[str, Callable[..., Any]], **options: Any) -> AdvancedTaskOrchestrator:
        options.setdefault("clock", LoopClock())
        return create_advanced_task_orchestrator(systems={"python": FunctionSystem(functions)}, **options)

    return build
