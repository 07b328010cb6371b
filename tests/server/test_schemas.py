"""The tool list a model reads: small, honest, and only what works."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, Field

from server.app import INSTRUCTIONS, OrchestrationServer
from server.published import outline, slim
from tests.server.conftest import Connect

pytestmark = pytest.mark.anyio

CHARS_PER_TOKEN = 3.5
"""On the safe side: JSON of this kind takes about four."""


async def tools_of(server: OrchestrationServer) -> dict[str, dict[str, Any]]:
    return {
        tool.name: tool.model_dump(mode="json", by_alias=True, exclude_none=True)
        for tool in await server.list_tools()
    }


async def test_there_are_ten_tools_with_the_parameters_that_work(connect: Connect) -> None:
    """Clients of both eras see the same list."""
    async with connect() as client:
        listed = await client.list_tools()

    found = {tool.name: list(tool.input_schema["properties"]) for tool in listed.tools}
    assert found == {
        "decompose_goal": ["goal", "tasks", "thoughts", "context", "mode", "max_tasks"],
        "execute_dag": ["plan_id", "dag", "goal", "mode", "action", "key", "reuse", "wait_seconds"],
        "get_orchestration_status": ["orchestration_id", "task", "view", "since", "cursor", "wait_seconds"],
        "edit_dag": ["target", "operations", "expected_revision", "undo_to", "dry_run", "reason"],
        "control_orchestration": ["orchestration_id", "action", "tasks", "value", "reason"],
        "read_output": ["reference", "part", "query", "offset", "max_chars"],
        "get_metrics": ["scope", "id", "window"],
        "list_systems": ["query", "cursor"],
        "claim_task": ["worker", "orchestration_id", "skills", "wait_seconds"],
        "report_task": ["claim", "status", "summary", "output", "evidence", "subtasks"],
    }


async def test_the_choices_are_those_that_work(server: OrchestrationServer) -> None:
    """A choice that is listed and then refused would cost a model a call."""
    tools = await tools_of(server)

    def choices(tool: str, parameter: str) -> Any:
        schema = tools[tool]["inputSchema"]["properties"][parameter]
        return schema.get("enum", schema.get("const"))

    assert choices("execute_dag", "mode") == ["simple", "hierarchical", "adaptive"]
    assert choices("execute_dag", "action") == ["start", "preview"]
    assert choices("get_orchestration_status", "view") == [
        *("summary", "tasks", "events", "why", "approvals", "graph", "plan")
    ]
    assert choices("control_orchestration", "action") == [
        *("pause", "resume", "cancel", "retry", "approve", "reject", "decide")
    ]
    assert choices("read_output", "part") == ["summary", "head", "tail", "search", "path", "range"]
    assert choices("get_metrics", "scope") == ["server", "orchestration"]
    assert choices("report_task", "status") == ["progress", "done", "failed", "blocked", "release"]


async def test_the_tool_list_costs_a_conversation_little(server: OrchestrationServer) -> None:
    """All tools together may take 4,500 tokens."""
    listed = json.dumps(list((await tools_of(server)).values()))

    assert len(listed) / CHARS_PER_TOKEN <= 4_500


async def test_descriptions_and_instructions_are_short(server: OrchestrationServer) -> None:
    """They are read before every conversation."""
    tools = await tools_of(server)

    assert {name: len(tool["description"]) <= 900 for name, tool in tools.items()} == dict.fromkeys(
        tools, True
    )
    assert len(INSTRUCTIONS) <= 1_500
    assert server.instructions == INSTRUCTIONS


async def test_the_hints_say_what_reads_and_what_may_change_the_world(server: OrchestrationServer) -> None:
    """Hosts let reading tools through without asking a person."""
    tools = await tools_of(server)

    assert {name: tool["annotations"] for name, tool in tools.items()} == {
        "decompose_goal": _hints(reads=False, destroys=False, repeats=False, opens=False),
        "execute_dag": _hints(reads=False, destroys=True, repeats=False, opens=True),
        "get_orchestration_status": _hints(reads=True, destroys=False, repeats=True, opens=False),
        "edit_dag": _hints(reads=False, destroys=True, repeats=False, opens=True),
        "control_orchestration": _hints(reads=False, destroys=True, repeats=False, opens=True),
        "read_output": _hints(reads=True, destroys=False, repeats=True, opens=False),
        "get_metrics": _hints(reads=True, destroys=False, repeats=True, opens=False),
        "list_systems": _hints(reads=True, destroys=False, repeats=True, opens=False),
        "claim_task": _hints(reads=False, destroys=False, repeats=False, opens=False),
        "report_task": _hints(reads=False, destroys=True, repeats=True, opens=True),
    }


def _hints(*, reads: bool, destroys: bool, repeats: bool, opens: bool) -> dict[str, bool]:
    return {
        "readOnlyHint": reads,
        "destructiveHint": destroys,
        "idempotentHint": repeats,
        "openWorldHint": opens,
    }


async def test_unknown_arguments_are_forbidden_by_the_schemas(server: OrchestrationServer) -> None:
    """A host that checks arguments finds the misspelled one itself."""
    tools = await tools_of(server)

    assert {tool["inputSchema"]["additionalProperties"] for tool in tools.values()} == {False}


class _Inner(BaseModel):
    title: str
    note: str | None = None


class _Outer(BaseModel):
    """What it is."""

    name: str
    inner: list[_Inner] | None = None
    size: int = Field(default=3, ge=0)


def test_a_slim_schema_says_the_same_in_fewer_words() -> None:
    """Titles, null choices and references go; a property called `title` stays."""
    assert slim(_Outer.model_json_schema()) == {
        "type": "object",
        "description": "What it is.",
        "properties": {
            "name": {"type": "string"},
            "inner": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"title": {"type": "string"}, "note": {"type": "string"}},
                    "required": ["title"],
                },
            },
            "size": {"type": "integer", "minimum": 0, "default": 3},
        },
        "required": ["name"],
        "additionalProperties": False,
    }


def test_an_outline_has_the_fields_and_their_types_only() -> None:
    """A model needs no more to read an answer."""
    assert outline(_Outer.model_json_schema()) == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "inner": {"type": "array"},
            "size": {"type": "integer"},
        },
        "required": ["name"],
    }
