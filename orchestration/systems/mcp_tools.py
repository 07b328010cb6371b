"""What an MCP server says of its tools, as far as it can be used: bounded, each name once.

May import: orchestration.{logs, ports}, orchestration.systems.base, mcp (types only), stdlib.

All of it is a stranger's data: names, descriptions and schemas are kept as they are, within bounds, and never
interpreted. What is over a bound is left out and said in the log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestration.logs import Logger
from orchestration.ports import ToolInfo
from orchestration.systems.base import bounded

if TYPE_CHECKING:
    from mcp import Client

MAX_TOOLS = 10_000
"""Most tools of one server; more are left out."""

MAX_TOOL_PAGES = 1_000
"""A server that never ends its list of tools must not hold the connection up for ever."""

MAX_NAME_CHARS = 256
"""A tool with a longer name is left out: a cut name would call another tool."""

MAX_DESCRIPTION_CHARS = 8_000

MAX_SCHEMA_CHARS = 256 * 1024
"""A larger schema is left out; the tool stays."""


async def list_tools(client: Client, log: Logger) -> dict[str, ToolInfo]:
    """Return every tool the server lists, by name; of two with one name the first."""
    found: dict[str, ToolInfo] = {}
    left_out: dict[str, int] = {}
    cursor: str | None = None
    cursors: set[str] = set()
    for _ in range(MAX_TOOL_PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="refresh")
        for tool in page.tools:
            if (why := _unfit(tool.name, found)) is None:
                found[tool.name] = _tool_info(tool.name, tool.description or "", tool.input_schema)
            else:
                left_out[why] = left_out.get(why, 0) + 1
        cursor = page.next_cursor
        if cursor is None or cursor in cursors or len(found) >= MAX_TOOLS:
            break
        cursors.add(cursor)
    if left_out:
        log.warning("Tools of an MCP server left out", operation="MCP_TOOLS_LEFT_OUT", **left_out)
    return found


def _unfit(name: str, found: Mapping[str, ToolInfo]) -> str | None:
    """Return why a tool is left out, as a count's name; None when it is not."""
    if name in found:
        return "named_twice"
    if not name or len(name) > MAX_NAME_CHARS:
        return "bad_name"
    return "too_many" if len(found) >= MAX_TOOLS else None


def _tool_info(name: str, description: str, schema: Mapping[str, Any]) -> ToolInfo:
    try:
        is_small = len(json.dumps(schema)) <= MAX_SCHEMA_CHARS
    except (ValueError, TypeError, RecursionError):
        is_small = False
    return ToolInfo(
        name=name,
        description=bounded(description, MAX_DESCRIPTION_CHARS),
        input_schema=schema if is_small else None,
    )
