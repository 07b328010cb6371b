"""A system that can't run is there and says why."""

from __future__ import annotations

import pytest

from orchestration.models import TaskNode
from orchestration.systems.base import error_record
from orchestration.systems.fingerprints import fingerprint_of
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.unusable import UnusableSystem, UnusableSystemError
from tests.systems.support import a_request, failure_of

pytestmark = pytest.mark.anyio

REASON = "environment variable TOKEN is not set. Fix: set TOKEN and start again."


async def test_an_unusable_system_gives_its_reason_in_every_answer() -> None:
    """To an attempt, which is not retried, to the router, and to whoever checks it."""
    system = UnusableSystem("files", "mcp", REASON)
    async with SystemRegistry({"files": system}) as registry:
        error = await failure_of(await registry.ready("files"), a_request("read"))
        surveys = await registry.survey()
        health = await registry.check_all()
        with pytest.raises(UnusableSystemError):
            await system.choose_tool(TaskNode("t"))

    record = error_record(error, "files", 1)
    assert (record.code, record.retryable, record.effect_open) == ("system_unavailable", False, False)
    assert record.message == surveys["files"].error == f"System 'files' can't run: {REASON}"
    assert (health["files"].ok, health["files"].detail) == (False, REASON)
    assert not system.takes_inputs("read")
    assert len(fingerprint_of(system, "read")) == 16
