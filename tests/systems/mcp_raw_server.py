"""An MCP server of the older protocol on stdio, by hand, that misbehaves as it is told; it starts in milliseconds.

    python -I -S mcp_raw_server.py [MODE]

It writes the ids of calls it was told to cancel to CANCELLED_FILE, and its process id to STARTED_FILE.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

MODE = sys.argv[1] if len(sys.argv) > 1 else ""

OBJECT = {"type": "object"}
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}

TOOLS: list[dict[str, Any]] = [
    {"name": name, "inputSchema": OBJECT}
    for name in (
        "learn",
        "flood",
        "half",
        "wait",
        "late",
        "spread",
        "progress",
        "blocks",
        "deep",
        "no-result",
        "both",
        "secret",
        "die",
    )
] + [{"name": "say", "inputSchema": TEXT}]

DEEP: dict[str, Any] = OBJECT
for _ in range(200):
    DEEP = {**OBJECT, "properties": {"a": DEEP}}

LATE: list[int] = []


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(number: int, text: str) -> None:
    send({"id": number, "result": {"content": [{"type": "text", "text": text}]}})


def note(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        with open(path, "a") as file:  # noqa: PTH123
            file.write(f"{text}\n")


def tools() -> list[dict[str, Any]]:
    if MODE == "odd-names":
        return [
            {"name": "say", "description": "first", "inputSchema": TEXT},
            {"name": "say", "description": "second", "inputSchema": OBJECT},
            {"name": "x" * 300, "inputSchema": OBJECT},
            {"name": "bell\u0007\u001b[31m", "description": "d" * 20_000, "inputSchema": OBJECT},
        ]
    if MODE == "many":
        return [{"name": f"tool_{number}", "inputSchema": OBJECT} for number in range(12_000)]
    if MODE == "deep-schema":
        return [{"name": "say", "inputSchema": DEEP}]
    if MODE == "bad-schema":
        return [{"name": "say", "inputSchema": 5}]
    return TOOLS


def flood(number: int, size: int, shape: str) -> None:
    """Write an answer of a size, piece by piece."""
    out = sys.stdout
    if shape == "head":
        out.write(f'{{"jsonrpc": "2.0", "id": {number}, "result": {{"content": [{{"type": "text", "text": "')
    elif shape == "tail":
        out.write('{"result": {"content": [{"type": "text", "text": "')
    for _ in range(size // 65536):
        out.write("x" * 65536)
    if shape == "head":
        out.write('"}]}}\n')
    elif shape == "tail":
        out.write(f'"}}]}}, "jsonrpc": "2.0", "id": {number}}}\n')
    else:
        out.write("\n")
    out.flush()


def spread() -> str:
    """Start a child that leaves the group and ignores SIGTERM; do so, too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    note("SPREAD_FILE", f"{os.getpid()}\n{child.pid}")
    return str(child.pid)


def blocks() -> list[dict[str, Any]]:
    return [
        {"type": "image", "data": "aGVsbG8=", "mimeType": "image/png"},
        {"type": "audio", "data": "not base64!", "mimeType": "audio/wav"},
        {"type": "resource", "resource": {"uri": "file:///a.txt", "mimeType": "text/plain", "text": "hé"}},
        {"type": "resource", "resource": {"uri": "file:///a.bin", "blob": "aGVsbG8="}},
        {"type": "resource_link", "uri": "file:///b.txt", "name": "b"},
    ]


def call(number: int, name: str, arguments: dict[str, Any], meta: dict[str, Any]) -> None:  # noqa: C901  (a list of tricks)
    match name:
        case "say":
            answer(number, arguments["text"])
        case "learn":
            TOOLS.append({"name": arguments["name"], "inputSchema": OBJECT})
            send({"method": "notifications/tools/list_changed"})
            answer(number, "learnt")
        case "flood":
            flood(number, arguments["size"], arguments["shape"])
        case "half":
            sys.stdout.write('{"jsonrpc": "2.0", "id": 1, "resu')
            sys.stdout.flush()
            os._exit(3)
        case "die":
            os._exit(4)
        case "wait" | "late":
            note("STARTED_FILE", name)
            if name == "late":
                LATE.append(number)
        case "progress":
            for done in (0.5, 1):
                params = {
                    "progressToken": meta["progressToken"],
                    "progress": done,
                    "total": 2,
                    "message": "m" * 900,
                }
                send({"method": "notifications/progress", "params": params})
            answer(number, "done")
        case "blocks":
            send({"id": number, "result": {"content": [{"type": "text", "text": "see"}, *blocks()]}})
        case "both":
            content = [{"type": "text", "text": "{}"}, blocks()[0]]
            send({"id": number, "result": {"content": content, "structuredContent": {"n": 1}}})
        case "deep":
            send({"id": number, "result": {"content": [], "structuredContent": DEEP}})
        case "no-result":
            print(json.dumps({"id": number, "level": "info", "message": "a line of a log"}), flush=True)
            send({"id": number})
        case "secret":
            text = f"could not sign in with {os.environ['API_TOKEN']}"
            send({"id": number, "result": {"content": [{"type": "text", "text": text}], "isError": True}})
        case "spread":
            answer(number, spread())
        case _:
            answer(number, f"called {name}")


def handle(message: dict[str, Any]) -> None:
    number, params = message.get("id"), message.get("params") or {}
    match message["method"]:
        case "initialize":
            note("CONNECTED_FILE", str(os.getpid()))
            info = {"name": "raw", "version": "1"}
            result: dict[str, Any] = {"protocolVersion": "2025-06-18", "serverInfo": info}
            send({"id": number, "result": {**result, "capabilities": {"tools": {"listChanged": True}}}})
        case "tools/list":
            send({"id": number, "result": {"tools": tools()}})
        case "tools/call":
            assert isinstance(number, int)
            call(number, params["name"], params.get("arguments") or {}, params.get("_meta") or {})
        case "notifications/cancelled":
            note("CANCELLED_FILE", str(params["requestId"]))
            while LATE:
                answer(LATE.pop(), "too late")
        case _ if number is not None:
            send({"id": number, "error": {"code": -32601, "message": "Method not found"}})


def main() -> None:
    note("STARTED_FILE", "process")
    if MODE == "banner":
        print("Welcome to the raw server!\n\n\x80 {not json}", flush=True)
    if MODE == "garbage":
        print("I am a shell, not a server", flush=True)
    for line in sys.stdin:
        if MODE == "garbage":
            print("command not found: {", flush=True)
        else:
            handle(json.loads(line))
    while MODE == "stubborn":
        signal.pause()


if __name__ == "__main__":
    main()
