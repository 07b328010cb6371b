"""Starts the stand-ins, tells them how to behave and ends them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from orchestration.systems.kgot_spec import KgotSpec

ALITA = Path(__file__).with_name("alita_standin.py")
KGOT = Path(__file__).with_name("kgot_standin.py")
KEY = "planted-key-of-the-model"
TOOL_KEY = "planted-key-of-a-tool"
LLMS: dict[str, Any] = {
    "gpt-4o-mini": {
        "model": "gpt-4o-mini",
        "temperature": 0.0,
        "organization": "",
        "api_key": KEY,
        "model_family": "OpenAI",
    }
}
TOOLS: list[Any] = [{"name": "SERPAPI", "env": {"SERPAPI_API_KEY": TOOL_KEY}}]


class AlitaServer:
    """A running stand-in of the Alita manager agent."""

    def __init__(self, notes: Path, port: int = 0) -> None:
        self._notes = notes
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(ALITA), "--port", str(port), "--notes", str(notes)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def behave(self, mode: str, **fields: Any) -> None:
        """Tell it how to answer, and let it forget what it was asked; may be given: limit, window_seconds, left."""
        body = json.dumps({"mode": mode, "limit": 10_000, **fields}).encode()
        request = urllib.request.Request(self.url + "/standin", body, {"Content-Type": "application/json"})
        with self._opener.open(request, timeout=5):
            pass

    def seen(self) -> list[dict[str, Any]]:
        """Return what it was asked, in order: `fields` and `headers`."""
        with self._opener.open(self.url + "/standin", timeout=5) as answer:
            seen: list[dict[str, Any]] = json.load(answer)["seen"]
            return seen

    def started(self) -> int:
        """Return how many tasks it was given since it started."""
        return self._count("started")

    def cut_off(self) -> int:
        """Return how many connections were closed before it answered, since it started."""
        return self._count("cut-off")

    def _count(self, name: str) -> int:
        path = self._notes / name
        return len(path.read_text().split()) if path.exists() else 0

    def end(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def alita_server(notes: Path) -> Iterator[AlitaServer]:
    """Give a running stand-in, and end it."""
    server = AlitaServer(notes)
    try:
        yield server
    finally:
        server.end()


class _Executor(BaseHTTPRequestHandler):
    """Answers as KGoT's Python executor does, and runs nothing."""

    def do_POST(self) -> None:
        """Take a program."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_good = self.path == "/run" and set(asked) == {"code", "required_modules"}
        body = json.dumps({"output": ""} if is_good else {"error": "no such place"}).encode()
        self.send_response(200 if is_good else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the library's name)
        """Say nothing."""


@contextmanager
def python_executor() -> Iterator[str]:
    """Give the address of a Python executor, without its path."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Executor) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(5)


def kgot_configuration(folder: Path) -> Path:
    """Write a configuration that works into a folder, and return the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "config_llms.json").write_text(json.dumps(LLMS))
    (folder / "config_tools.json").write_text(json.dumps(TOOLS))
    return folder


def kgot_spec(folder: Path, mode: str = "answer", **fields: Any) -> KgotSpec:
    """Return how the stand-in of KGoT is started; everything it needs and leaves is in the folder."""
    env = {"KGOT_STANDIN": mode, "KGOT_STANDIN_PIDS": str(folder / "pids"), **fields.pop("env", {})}
    given: dict[str, Any] = {
        "command": [sys.executable, "-I", "-S", str(KGOT)],
        "config_dir": kgot_configuration(folder / "configuration"),
        "work_folder": folder / "work",
        "env": env,
        **fields,
    }
    return KgotSpec(**given)
