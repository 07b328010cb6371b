"""What can be read without a tool call: the list, an orchestration's status, graph and plan, a task's output.

May import: orchestration, server.{desk, errors, updates, uris}, mcp, stdlib.
"""

from __future__ import annotations

import json
from typing import Any

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp_types import EmptyResult, Resource, SubscribeRequestParams, UnsubscribeRequestParams

from orchestration.exports import to_mermaid
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server.desk import Desk, DeskContext, desk
from server.errors import resource_errors
from server.uris import (
    GRAPH_TEMPLATE,
    LIST_URI,
    ORCHESTRATION_TEMPLATE,
    OUTPUT_TEMPLATE,
    PLAN_TEMPLATE,
    orchestration_uri,
)

MAX_CHARS = 1024 * 1024
"""Of one resource; what is longer is cut there, and its last line says so."""
LISTED = 100
"""Orchestrations in the list, the latest first."""
JSON_TYPE = "application/json"

LIST_RESOURCE = Resource(
    uri=LIST_URI,
    name="orchestrations",
    title="Orchestrations",
    description=f"The latest {LISTED} orchestrations, each with its standing.",
    mime_type=JSON_TYPE,
)


def register_resources(server: MCPServer[Desk]) -> None:
    """Give a server its resources, and subscriptions to them for clients of the older protocol."""

    @server.resource(
        ORCHESTRATION_TEMPLATE,
        name="orchestration",
        title="Orchestration",
        description="Where an orchestration stands.",
        mime_type=JSON_TYPE,
    )
    async def orchestration(orchestration_id: str, ctx: DeskContext) -> dict[str, Any]:
        orchestrator = desk(ctx).orchestrator
        with resource_errors():
            # The list has an address of the same form: a resource without variables is not told the request.
            if orchestration_uri(orchestration_id) == LIST_URI:
                return await _list(orchestrator)
            return await orchestrator.load_status(orchestration_id)

    @server.resource(
        GRAPH_TEMPLATE,
        name="graph",
        title="Graph",
        description="An orchestration's tasks and dependencies with their present statuses, in Mermaid.",
        mime_type="text/vnd.mermaid",
    )
    async def graph(orchestration_id: str, ctx: DeskContext) -> str:
        orchestrator = desk(ctx).orchestrator
        with resource_errors():
            dag = await orchestrator.load_dag(orchestration_id)
            replaced = await orchestrator.load_replaced(orchestration_id)
            return _bounded(to_mermaid(dag, replaced=replaced), orchestration_id)

    @server.resource(
        PLAN_TEMPLATE,
        name="plan",
        title="Why this plan",
        description="Who planned an orchestration or made a stored plan, the thoughts, every revision and its reason.",
        mime_type=JSON_TYPE,
    )
    async def plan(orchestration_id: str, ctx: DeskContext) -> dict[str, Any]:
        with resource_errors():
            return await desk(ctx).orchestrator.load_plan_story(orchestration_id)

    @server.resource(
        OUTPUT_TEMPLATE,
        name="output",
        title="Output of a task",
        description="A task's whole output: a text as it is, anything else as JSON; up to 1 MiB.",
        mime_type="text/plain",
    )
    async def output(orchestration_id: str, task_id: str, ctx: DeskContext) -> str:
        with resource_errors():
            value = await desk(ctx).orchestrator.load_output(orchestration_id, task_id)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
        return _bounded(text, f"{orchestration_id} {task_id}")

    # The ergonomic server has no door for these two methods of the older protocol.
    lowlevel = server._lowlevel_server  # noqa: SLF001
    lowlevel.add_request_handler("resources/subscribe", SubscribeRequestParams, _subscribe)
    lowlevel.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, _unsubscribe)


async def _list(orchestrator: AdvancedTaskOrchestrator) -> dict[str, Any]:
    return {"orchestrations": await orchestrator.list_orchestrations(limit=LISTED)}


def _bounded(text: str, arguments: str) -> str:
    if len(text) <= MAX_CHARS:
        return text
    command = "output" if " " in arguments else "export"
    return (
        f"{text[:MAX_CHARS]}\n… cut after {MAX_CHARS:,} of {len(text):,} characters; "
        f"`advanced-orchestration {command} {arguments}` prints all"
    )


async def _subscribe(ctx: ServerRequestContext[Desk, Any], params: SubscribeRequestParams) -> EmptyResult:
    ctx.lifespan_context.updates.subscribe(params.uri, _connection(ctx))
    return EmptyResult()


async def _unsubscribe(ctx: ServerRequestContext[Desk, Any], params: UnsubscribeRequestParams) -> EmptyResult:
    ctx.lifespan_context.updates.unsubscribe(params.uri, _connection(ctx))
    return EmptyResult()


def _connection(ctx: ServerRequestContext[Desk, Any]) -> Connection:
    # The session is made anew for each request; what lasts as long as the client does is the connection under it.
    return ctx.session._connection  # noqa: SLF001
