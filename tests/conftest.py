"""Fixtures every test may use."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio unless a module asks for more: aiosqlite and the MCP SDK need it."""
    return "asyncio"
