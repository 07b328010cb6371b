"""How it is worded that a result does not count: whole sentences, whatever they are put together from."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from orchestration import TaskDAG
from tests.execution.offered import Office, claimed, done, for_agent

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    ("acceptance", "end"),
    [
        ({"condition": "output.n > 3"}, " or string()."),
        ({"condition": "output.n > 5"}, "`output.n > 5` does not hold."),
        ({"tool": "look", "system_preference": "python"}, ": look: two of seven tests fail."),
    ],
    ids=["condition-error", "condition", "tool"],
)
async def test_a_refusal_ends_in_one_full_stop(acceptance: dict[str, Any], end: str) -> None:
    """What a condition or a tool says is a sentence already, or not."""

    def look() -> None:
        raise ValueError("two of seven tests fail.")

    office = Office(None)
    with anyio.fail_after(10):
        async with office.orchestrator({"look": look}) as orchestrator:
            dag = TaskDAG("work")
            dag.add_task(for_agent("a", acceptance=acceptance))
            await orchestrator.submit(dag)
            output: dict[str, Any] = {"n": None if acceptance.get("condition") == "output.n > 3" else 4}
            told = await done(orchestrator, await claimed(orchestrator), output)

    assert told.verdict.claim.is_accepted is False
    assert told.verdict.claim.reason.endswith(end)
    assert ".." not in told.verdict.claim.reason
