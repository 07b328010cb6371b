"""A serving process closes in order, in time, and tells whoever called what went wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from orchestration.errors import StorageUnavailableError
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server import lifecycle
from server.lifecycle import first_error, kept

pytestmark = pytest.mark.anyio


async def test_what_is_kept_closes_in_order_even_when_its_user_is_cancelled(
    orchestrator: AdvancedTaskOrchestrator,
) -> None:
    """Closing may wait for things: it must not be cancelled with the rest."""
    steps: list[str] = []

    @asynccontextmanager
    async def factory() -> AsyncIterator[AdvancedTaskOrchestrator]:
        yield orchestrator
        await anyio.lowlevel.checkpoint()
        steps.append("closed")

    with anyio.CancelScope() as scope:
        async with kept(factory):
            scope.cancel()
            await anyio.lowlevel.checkpoint()

    assert steps == ["closed"]


async def test_closing_has_a_limit(
    orchestrator: AdvancedTaskOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client kills the process when it takes too long; better to end in order before."""
    monkeypatch.setattr(lifecycle, "CLOSING_SECONDS", 0.05)

    @asynccontextmanager
    async def factory() -> AsyncIterator[AdvancedTaskOrchestrator]:
        yield orchestrator
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with kept(factory):
            pass


async def test_what_cannot_be_opened_is_told_as_it_is(orchestrator: AdvancedTaskOrchestrator) -> None:
    """Not as a group of groups."""
    locked = StorageUnavailableError("o.db", "is locked")

    @asynccontextmanager
    async def factory() -> AsyncIterator[AdvancedTaskOrchestrator]:
        if locked:
            raise locked
        yield orchestrator

    with pytest.raises(BaseExceptionGroup) as caught:
        async with kept(factory):
            pass

    assert first_error(caught.value) is locked
