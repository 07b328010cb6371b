"""Asks one operation of a service, for the tests of `http` systems."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from orchestration.errors import AttemptError
from orchestration.systems.http import HttpSpec, HttpSystem
from tests.systems.http_service import HttpService
from tests.systems.support import a_request


@asynccontextmanager
async def system_of(
    service: HttpService | str, operation: Any = None, **fields: Any
) -> AsyncIterator[HttpSystem]:
    """Give a system of one operation, `op`, and close it."""
    url = service if isinstance(service, str) else service.url
    operations = fields.pop("operations", {"op": operation or {}})
    system = HttpSystem(HttpSpec(base_url=url, operations=operations, **fields), "svc")
    try:
        yield system
    finally:
        await system.aclose()


async def ask(service: HttpService | str, operation: Any = None, arguments: Any = None, **fields: Any) -> Any:
    """Return the output of one operation."""
    async with system_of(service, operation, **fields) as system:
        with anyio.fail_after(5):
            return await system.execute(a_request("op", arguments))


async def error_of(
    service: HttpService | str, operation: Any = None, arguments: Any = None, **fields: Any
) -> Any:
    """Return the error one operation fails with."""
    with pytest.raises(AttemptError) as caught:
        await ask(service, operation, arguments, **fields)
    return caught.value
