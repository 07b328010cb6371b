"""Gives away what it was given, in every form it can think of: `python leaky_program.py MODE`.

Modes: `out`, `json`, `err` (exit code 3), `flood` (an error that is cut), and `mcp`: an MCP server on stdio, by hand,
whose tools give it away in results, errors, descriptions, progress and on standard error.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from html import escape
from typing import Any
from urllib.parse import quote, quote_plus

MODE = sys.argv[1]
GIVEN = {name: value for name, value in os.environ.items() if name.startswith("GIVEN")}


def forms(text: str) -> list[str]:
    """Return a secret as programs repeat it."""
    data = text.encode()
    return [
        text,
        quote(text, safe=""),
        quote_plus(text),
        quote(text, safe="").lower() if text.islower() else quote(text),
        json.dumps(text),
        repr(text),
        escape(text),
        *(base64.b64encode(b"user:"[:before] + data + b"@host").decode() for before in range(4)),
        base64.urlsafe_b64encode(data).decode(),
    ]


def everything() -> str:
    """Return all that was given, and the arguments, one a line."""
    told = [form for value in [*GIVEN.values(), *sys.argv[2:]] for form in forms(value)]
    return "\n".join(told) + f"\nDATABASE=postgres://u:{GIVEN.get('GIVEN_PASSWORD', '')}@h/db"


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def serve() -> None:
    """Speak MCP."""
    print(everything(), file=sys.stderr, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" in asked:
            send({"id": asked["id"], **answer(asked["method"], asked.get("params") or {})})


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            about = {"name": "leaky", "version": everything()}
            return {
                "result": {
                    "protocolVersion": params["protocolVersion"],
                    "capabilities": {"tools": {}, "logging": {}},
                    "serverInfo": about,
                    "instructions": everything(),
                }
            }
        case "tools/list":
            schema = {"type": "object", "properties": {"x": {"type": "string", "description": everything()}}}
            names = ("tell", "refuse", "break", "structured")
            tools = [{"name": name, "description": everything(), "inputSchema": schema} for name in names]
            return {"result": {"tools": tools}}
        case "tools/call":
            return call(params)
        case _:
            return {"error": {"code": -32601, "message": everything()}}


def call(params: dict[str, Any]) -> dict[str, Any]:
    if (token := params.get("_meta", {}).get("progressToken")) is not None:
        said = {"progressToken": token, "progress": 1, "message": everything()}
        send({"method": "notifications/progress", "params": said})
    send({"method": "notifications/message", "params": {"level": "warning", "data": everything()}})
    content = [{"type": "text", "text": everything()}]
    match params["name"]:
        case "tell":
            return {"result": {"content": content}}
        case "structured":
            value = {"by_key": {text: text for text in everything().split("\n")}}
            return {"result": {"content": content, "structuredContent": value}}
        case "refuse":
            return {"result": {"content": content, "isError": True}}
        case _:
            return {"error": {"code": -32000, "message": everything(), "data": {"why": everything()}}}


if MODE == "mcp":
    serve()
elif MODE == "out":
    print(everything())
elif MODE == "json":
    print(json.dumps({text: [text] for text in everything().split("\n")}))
elif MODE == "err":
    print(everything(), file=sys.stderr)
    sys.exit(3)
elif MODE == "flood":
    print("x" * 500, everything(), "y" * 100_000, everything(), file=sys.stderr)
    sys.exit(4)
