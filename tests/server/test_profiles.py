"""A server may have only some of the tools; what it answers leads to no other."""

from __future__ import annotations

import pytest
from mcp import Client, MCPError

from orchestration.orchestrator import AdvancedTaskOrchestrator
from server.app import CORE_INSTRUCTIONS, WORKER_INSTRUCTIONS, build_server
from server.tools import PROFILES, Profile
from tests.server.conftest import lend, text_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("profile", ["core", "worker"])
async def test_a_profile_has_its_tools_and_no_others(
    orchestrator: AdvancedTaskOrchestrator, era: str, profile: Profile
) -> None:
    """A tool that is left out does not exist."""
    async with Client(build_server(lambda: lend(orchestrator), profile=profile), mode=era) as client:
        listed = await client.list_tools()
        with pytest.raises(MCPError, match="Unknown tool: edit_dag"):
            await client.call_tool("edit_dag", {"target": "x"})

    assert sorted(tool.name for tool in listed.tools) == sorted(PROFILES[profile] or ())


async def test_answers_lead_only_to_tools_that_are_there(
    orchestrator: AdvancedTaskOrchestrator, era: str
) -> None:
    """A worker's server can't start anything, so it does not say how to."""
    async with Client(build_server(lambda: lend(orchestrator), profile="worker"), mode=era) as client:
        status = await client.call_tool("get_orchestration_status", {})
        claimed = await client.call_tool("claim_task", {"worker": "ada"})

    assert status.structured_content is not None
    assert status.structured_content["next"] == []
    assert "next: " not in text_of(status)
    assert "\nnext: get_orchestration_status({})" in text_of(claimed)


async def test_nothing_is_offered_to_a_caller_that_could_not_claim_it(
    orchestrator: AdvancedTaskOrchestrator, era: str
) -> None:
    """It is refused, as ever, unless a task names the agent: then workers are somewhere else."""
    think = {"dag_id": "think", "tasks": [{"task_id": "think"}]}
    named = {"dag_id": "named", "tasks": [{"task_id": "think", "system_preference": "agent"}]}

    server = build_server(lambda: lend(orchestrator), profile="core")
    async with Client(server, mode=era) as client:
        refused = await client.call_tool("execute_dag", {"dag": think})
        started = await client.call_tool("execute_dag", {"dag": named, "wait_seconds": 5})

    assert "code: unroutable_task" in text_of(refused)
    assert started.structured_content is not None
    assert started.structured_content["your_tasks"] == {"think": ""}
    assert "claim_task" not in text_of(started)
    assert server.instructions == CORE_INSTRUCTIONS
    assert "edit_dag" not in CORE_INSTRUCTIONS
    assert "claim_task" not in CORE_INSTRUCTIONS


def test_a_workers_server_says_how_to_work(orchestrator: AdvancedTaskOrchestrator) -> None:
    """And nothing of what it can't do."""
    server = build_server(lambda: lend(orchestrator), profile="worker")

    assert server.instructions == WORKER_INSTRUCTIONS
    assert len(WORKER_INSTRUCTIONS) <= 1_500
    assert "execute_dag" not in WORKER_INSTRUCTIONS
