"""Behaves as the Alita manager agent does over HTTP, with all its oddities, in its own process and without a model.

    python -m tests.standins.alita_standin --port 0 --mode answer

prints its address and serves until it is ended. `POST /standin {"mode": …, "left": …}` changes how it behaves (that
path alone is no part of the agent, and counts as no request), `GET /standin` tells what it was asked.

Modes: `answer` (a simple model reads the task), `empty`, `failing-tool` (and no answer), `noticed-failure` (a tool
failed, and there is an answer), `many-steps`, `wait` (until the connection is closed, or 60 s, then 500, as it does),
`error` (500), `starting` (503), `close`, `cut` (in the middle of the answer), `not-json`, `no-response`, `huge`,
`slow`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import select
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, process_time, sleep, time  # noqa: TID251  (a process of its own, with the machine's clock)
from typing import Any
from urllib.parse import urlsplit

DEFAULT_PORT = 3000
WINDOW_SECONDS = 900
REQUESTS_PER_WINDOW = 100
MAX_BODY_BYTES = 10 * 1024 * 1024
GIVES_UP_SECONDS = 60.0
HTML = "<!DOCTYPE html>\n<html>\n<head>\n<title>Error</title>\n</head>\n<body>\n<pre>{}</pre>\n</body>\n</html>\n"


class State:
    """What the server is told to do and what it has seen."""

    def __init__(self, mode: str, limit: int, notes: Path | None) -> None:
        self.mode = mode
        self.left: int | None = None
        """How many more tasks the mode holds for; for ever when None."""
        self.limit = limit
        self.notes = notes
        self.lock = threading.Lock()
        self.seen: list[dict[str, Any]] = []
        self.window_ends = time() + WINDOW_SECONDS
        self.count = 0

    def note(self, name: str) -> None:
        """Add a line to one of the files of notes."""
        if self.notes is not None:
            with self.lock, (self.notes / name).open("a") as file:
                file.write("1\n")

    def mode_now(self) -> str:
        """Return how the next task is answered."""
        with self.lock:
            mode = self.mode
            if self.left is not None:
                self.left -= 1
                if self.left <= 0:
                    self.mode, self.left = "answer", None
            return mode


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    state: State

    def do_GET(self) -> None:
        """Answer a question about the agent."""
        path = urlsplit(self.path).path
        if path == "/standin":
            self.send_json(200, {"mode": self.state.mode, "seen": self.state.seen})
        elif self.is_limited():
            return
        elif path == "/health":
            answer = {"status": "healthy", "uptime": process_time(), "memory": {}, "version": "1.0.0"}
            self.send_json(200, {**answer, "components": {"agent": "initialized"}})
        elif path == "/status":
            summary = {"healthy": 1, "total": 7, "healthPercentage": 14.3}
            self.send_json(200, {"status": "degraded", "services": {}, "summary": summary})
        elif path == "/metrics":
            self.send_text(200, "# HELP up Whether it is up.\nup 1\n", "text/plain; version=0.0.4")
        else:
            self.send_text(404, HTML.format(f"Cannot GET {path}"), "text/html")

    def do_POST(self) -> None:
        """Take a task."""
        path = urlsplit(self.path).path
        size = int(self.headers.get("Content-Length") or 0)
        if size > MAX_BODY_BYTES:
            self.close_connection = True
            self.send_text(413, HTML.format("PayloadTooLargeError: request entity too large"), "text/html")
            self.drain(size)
            return
        body = self.rfile.read(size)
        if path == "/standin":
            self.be_told(json.loads(body))
            return
        if self.is_limited():
            return
        try:
            fields = json.loads(body)
        except ValueError:
            self.send_text(400, HTML.format("SyntaxError: Unexpected token in JSON"), "text/html")
            return
        if path == "/agent/execute":
            self.execute(fields)
        elif path == "/chat":
            self.chat(fields)
        elif path == "/sequential-thinking":
            self.think(fields)
        else:
            self.send_text(404, HTML.format(f"Cannot POST {path}"), "text/html")

    # The agent

    def execute(self, fields: dict[str, Any]) -> None:
        """`POST /agent/execute`."""
        message, context = fields.get("message"), fields.get("context", [])
        about: dict[str, Any] = {
            "requestId": f"req_{len(self.state.seen)}",
            "timestamp": "2026-01-01T00:00:00Z",
        }
        with self.state.lock:
            self.state.seen.append(
                {"fields": fields, "headers": {k.lower(): v for k, v in self.headers.items()}}
            )
        self.state.note("started")
        if not message:
            self.send_json(400, {"error": "Message is required", **about})
        elif not isinstance(message, str):
            end_server()
        elif not isinstance(context, list):
            self.send_json(
                500, {"error": "Internal server error", "message": "context.map is not a function", **about}
            )
        else:
            task = what_the_model_sees(context)
            self.answer(self.state.mode_now(), task, str(fields.get("sessionId")), about)

    def answer(self, mode: str, task: str, session: str, about: dict[str, Any]) -> None:
        """Answer a task as the mode says."""
        if mode == "answer":
            response, steps = think_about(task, session)
            if response is None:
                self.wait_like_a_model(about)
            else:
                self.send_success(response, steps, about)
        elif mode in SUCCESSES:
            response, steps = SUCCESSES[mode]
            self.send_success(response, steps, about)
        elif mode == "wait":
            self.wait_like_a_model(about)
        elif mode == "error":
            self.send_json(
                500, {"error": "Internal server error", "message": "Agent execution failed", **about}
            )
        elif mode == "starting":
            self.send_json(503, {"error": "Agent not available", "details": "still starting", **about})
        elif mode == "not-json":
            self.send_text(200, "<html>a login page</html>", "text/html")
        elif mode == "no-response":
            self.send_json(200, {"response": None, "intermediateSteps": None, "metadata": None})
        else:
            self.break_off(mode)

    def break_off(self, mode: str) -> None:
        """Answer with less than an answer."""
        if mode == "slow":
            self.send_slowly()
            return
        if mode == "cut":
            self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"response": "half')
        self.hang_up()

    def chat(self, fields: dict[str, Any]) -> None:
        """`POST /chat`: any fault ends the whole server."""
        if not isinstance(fields.get("message"), str) or not isinstance(fields.get("context", []), list):
            end_server()
        if self.state.mode_now() == "error":
            end_server()
        task = what_the_model_sees(fields.get("context", []))
        self.send_success(think_about(task, "")[0] or "", [], {})

    def think(self, fields: dict[str, Any]) -> None:
        """`POST /sequential-thinking`."""
        if not fields.get("taskId") or not fields.get("description"):
            self.send_json(400, {"error": "Missing required fields", "required": ["taskId", "description"]})
        else:
            self.send_json(200, {"status": "not_required"})

    def wait_like_a_model(self, about: dict[str, Any]) -> None:
        """Wait until nobody listens any more, or it gives up."""
        ends = monotonic() + GIVES_UP_SECONDS
        while monotonic() < ends:
            readable, _, _ = select.select([self.connection], [], [], 0.02)
            if readable and not self.peek():
                self.state.note("cut-off")
                self.close_connection = True
                return
        error = {"error": "Internal server error", "message": "Request timeout", **about}
        self.send_json(500, error)

    def peek(self) -> bytes:
        """Return what comes next; nothing where the other side has gone."""
        try:
            return bytes(self.connection.recv(1, socket.MSG_PEEK))
        except OSError:
            return b""

    # The wire

    def is_limited(self) -> bool:
        """Count a request, and refuse it when there were too many."""
        with self.state.lock:
            if time() >= self.state.window_ends:
                self.state.window_ends, self.state.count = time() + WINDOW_SECONDS, 0
            self.state.count += 1
            is_over = self.state.count > self.state.limit
        if is_over:
            self.send_text(429, "Too many requests from this IP, please try again later.", "text/html")
        return is_over

    def send_success(self, response: str, steps: list[dict[str, Any]], about: dict[str, Any]) -> None:
        """Send what the agent sends when all went well."""
        metadata = {"duration": 1234, "sessionId": "s", **about}
        self.send_json(200, {"response": response, "intermediateSteps": steps, "metadata": metadata})

    def send_json(self, status: int, value: Mapping[str, Any]) -> None:
        """Send a JSON body."""
        self.send_text(status, json.dumps(value), "application/json; charset=utf-8")

    def send_text(self, status: int, text: str, content_type: str) -> None:
        """Send a body, with the headers of the rate limit."""
        data = text.encode()
        left = max(0, self.state.limit - self.state.count)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-RateLimit-Limit", str(self.state.limit))
        self.send_header("X-RateLimit-Remaining", str(left))
        self.send_header("X-RateLimit-Reset", str(int(self.state.window_ends)))
        self.end_headers()
        self.wfile.write(data)

    def send_slowly(self) -> None:
        """Send a body byte by byte, for longer than anybody waits."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(100_000):
                self.wfile.write(b" ")
                sleep(0.05)
        self.close_connection = True

    def hang_up(self) -> None:
        """Close the connection without a word."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def drain(self, size: int) -> None:
        """Read what is still sent, so that the answer is not lost with a reset connection."""
        with contextlib.suppress(OSError):
            while size > 0 and (part := self.rfile.read(min(size, 1 << 20))):
                size -= len(part)

    def be_told(self, fields: dict[str, Any]) -> None:
        """Change how it behaves."""
        state = self.state
        with state.lock:
            state.mode, state.left = fields.get("mode", state.mode), fields.get("left")
            state.limit = fields.get("limit", REQUESTS_PER_WINDOW)
            state.count = 0
            state.window_ends = time() + fields.get("window_seconds", WINDOW_SECONDS)
            state.seen.clear()
        self.send_json(200, {})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the library's name)
        """Say nothing."""


FAILED = json.dumps({"success": False, "error": "the search service is off", "suggestion": "try later"})


def step(tool: str, tool_input: Any, observation: Any) -> dict[str, Any]:
    """Return one step as the agent tells it."""
    action = {"tool": tool, "toolInput": tool_input, "log": "Invoking…", "messageLog": [{"kwargs": {}}]}
    return {"action": action, "observation": observation}


SUCCESSES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "empty": ("", []),
    "failing-tool": ("", [step("web_search", {"query": "x"}, FAILED)]),
    "noticed-failure": ("Nothing was found.", [step("web_search", {"query": "x"}, FAILED)]),
    "many-steps": ("Done.", [step("read", f"page {number}", "x" * 50_000) for number in range(60)]),
    "huge": ("x" * 3_000_000, []),
}
"""Answers with 200, by mode."""


def end_server() -> None:
    """End the whole process, as an exception that nobody handles does."""
    os._exit(1)


def what_the_model_sees(context: list[Any]) -> str:
    """Return the last thing somebody said; the message itself is not among it (the model sees "{input}")."""
    last = context[-1] if context else "{input}"
    if isinstance(last, Mapping):
        return str(last.get("content", ""))
    if isinstance(last, list):
        return str(last[-1]) if last else ""
    return str(last)


def read_task(task: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the tool a text asks for, its arguments and its inputs; a tool without a name is the first line."""
    named = re.search(r"^Use the tool: (.+)$", task, re.MULTILINE)
    arguments = re.search(r"<arguments>\n(.*?)\n</arguments>", task, re.DOTALL)
    inputs = re.findall(r'<input task="(.*?)" shortened="no">\n(.*?)\n</input>', task, re.DOTALL)
    tool = named[1] if named else task.partition("\n")[0]
    return (
        tool,
        json.loads(arguments[1]) if arguments else {},
        {name: json.loads(text) for name, text in inputs},
    )


def think_about(task: str, key: str) -> tuple[str | None, list[dict[str, Any]]]:
    """Return what a simple model makes of a task, and how; None: it thinks for ever."""
    tool, arguments, inputs = read_task(task)
    if tool == "add":
        total = arguments["a"] + arguments.get("b", 2)
        return str(total), [step("calculator", arguments, json.dumps({"success": True, "result": total}))]
    if tool == "fail":
        failed = json.dumps({"success": False, "error": arguments["message"]})
        return "", [step("fail", arguments, failed)]
    if tool == "show":
        return json.dumps(inputs), []
    if tool == "key":
        return key, []
    if tool == "wait":
        return None, []
    return f"I was asked: {task}", []


class Server(ThreadingHTTPServer):
    """The server; it may be asked by many at once."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone."""


def serve(port: int, mode: str, limit: int, notes: Path | None) -> None:
    """Serve for ever; where the port is taken one of the next nine is used, and nothing said about it."""
    handler = type("BoundHandler", (Handler,), {"state": State(mode, limit, notes)})
    for candidate in range(port, port + 10) if port else (0,):
        with contextlib.suppress(OSError):
            server = Server(("127.0.0.1", candidate), handler)
            break
    else:
        raise SystemExit("no port is free")
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.05)


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--mode", default="answer")
    parser.add_argument("--limit", type=int, default=REQUESTS_PER_WINDOW)
    parser.add_argument("--notes", type=Path)
    options = parser.parse_args()
    serve(options.port, options.mode, options.limit, options.notes)


if __name__ == "__main__":
    main()
