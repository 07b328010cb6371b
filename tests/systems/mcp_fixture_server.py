"""A small MCP server for the tests of `McpSystem`: `python mcp_fixture_server.py [PORT]`, stdio without a port.

It writes the names of calls that were cut off to the file named by the environment variable `CANCELLED_FILE`. Over HTTP
it answers every request with the status that the file named by `STATUS_FILE` holds, while there is one, and with plain
JSON instead of a stream where `PLAIN_JSON` is set.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ImageContent, TextContent, Tool
from pydantic import BaseModel


class Fixture(MCPServer):
    """A server whose tool `lie` promises what it does not keep."""

    async def list_tools(self) -> list[Tool]:
        tools = {tool.name: tool for tool in await super().list_tools()}
        tools["lie"].output_schema = tools["add"].output_schema
        return list(tools.values())


server = Fixture("fixture", version="1.0", log_level="ERROR")


class Sum(BaseModel):
    """What `add` answers with."""

    total: int
    kind: str


@server.tool()
async def add(a: int, b: int = 2) -> Sum:
    """Add two whole numbers."""
    return Sum(total=a + b, kind=type(a).__name__)


@server.tool(structured_output=False)
async def say(text: str) -> str:
    """Answer with the text as it is."""
    return text


@server.tool()
async def fail(message: str) -> str:
    """Fail with a message."""
    raise ToolError(message)


@server.tool(structured_output=False)
async def picture() -> CallToolResult:
    """Answer with text and an image of five bytes."""
    image = ImageContent(type="image", data="aGVsbG8=", mime_type="image/png")
    return CallToolResult(content=[TextContent(type="text", text="a picture"), image])


@server.tool()
async def wait() -> str:
    """Wait until the call is cancelled."""
    started("wait")
    try:
        await anyio.sleep_forever()
    finally:
        cut_off("wait")
    return ""


@server.tool()
async def die() -> str:
    """End this process at once, in the middle of the call."""
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


@server.tool(structured_output=False)
async def process_id() -> str:
    """Answer with the id of this process."""
    return str(os.getpid())


@server.tool(structured_output=False)
async def idempotency_key(ctx: Context) -> str:
    """Answer with the idempotency key the call carried."""
    return key_of(ctx)


@server.tool(structured_output=False)
async def report(times: int, ctx: Context) -> str:
    """Report progress a number of times."""
    for number in range(times):
        await ctx.report_progress(number, times)
    return f"done {key_of(ctx)}"


@server.tool(structured_output=False)
async def lie() -> CallToolResult:
    """Answer with something else than promised."""
    return CallToolResult(content=[], structured_content={"total": "many"})


@server.tool(structured_output=False)
async def environment(name: str) -> str:
    """Answer with an environment variable."""
    return os.environ.get(name, "")


@server.tool(structured_output=False)
async def learn(name: str, ctx: Context) -> str:
    """Learn a tool, and say that the tools have changed."""
    server.add_tool(process_id, name=name)
    await ctx.notify_tools_changed()
    return "learnt"


@server.tool(structured_output=False)
async def long(size: int, ctx: Context) -> str:
    """Answer with a text of a size, after progress, which makes a stream of the answer."""
    await ctx.report_progress(0, 1)
    return "x" * size


def key_of(ctx: Context) -> str:
    """Return the idempotency key a call carries."""
    meta = ctx.request_context.meta or {}
    return str(dict(meta).get("advanced-orchestration/idempotency-key"))


def started(call: str) -> None:
    """Note that a call has begun."""
    if path := os.environ.get("STARTED_FILE"):
        with Path(path).open("a") as file:
            file.write(call + "\n")


def cut_off(call: str) -> None:
    """Note that a call was cut off."""
    if path := os.environ.get("CANCELLED_FILE"):
        with Path(path).open("a") as file:
            file.write(call + "\n")


def wanted_status() -> int | None:
    """Return what the file says, if there is one."""
    path = Path(os.environ.get("STATUS_FILE", ""))
    return int(path.read_text()) if path.is_file() else None


class Status:
    """Answers with the status that a file holds, while there is one."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        status = wanted_status()
        if scope["type"] != "http" or status is None:
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        app = Status(server.streamable_http_app(json_response=bool(os.environ.get("PLAIN_JSON"))))
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
    else:
        print("fixture server on stdio", file=sys.stderr)
        server.run()
