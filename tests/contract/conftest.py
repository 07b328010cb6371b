"""Every storage the contract is held to, each on the event loops it runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestration.execution.memory_storage import MemoryStorage
from orchestration.ports import Storage
from storage import SqliteStorage

BACKENDS = ["memory-asyncio", "memory-trio", "sqlite-asyncio"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """A storage and the event loop it is used on."""
    return str(request.param)


@pytest.fixture
async def storage(backend: str, tmp_path: Path) -> AsyncIterator[Storage]:
    """An empty storage."""
    made: Storage = SqliteStorage(tmp_path / "state.db") if backend.startswith("sqlite") else MemoryStorage()
    yield made
    await made.aclose()
