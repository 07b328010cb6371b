"""Starts real server processes for the acceptance tests, and watches them end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
from anyio.streams.text import TextReceiveStream
from mcp import StdioServerParameters

ROOT = Path(__file__).parents[2]

CONFIGURATION = """\
sequential_thinking: in-process
systems:
  python:
    kind: function
    functions:
      pid: "tests.acceptance.jobs:pid"
      note: "tests.acceptance.jobs:note"
      note_and_wait: "tests.acceptance.jobs:note_and_wait"
  local:
    kind: command
    commands:
      # A child in its process group, one that leaves group and session, and one that leaves its parent as well.
      breed:
        argv:
          - sh
          - -c
          - 'sleep "$1" & setsid sleep "$1" & (setsid sleep "$1" &); touch "$2"; wait'
          - breed
          - "{seconds}"
          - "{started}"
"""


@dataclass(frozen=True)
class Place:
    """A folder with a configuration and a database, and what its tasks leave behind."""

    folder: Path
    more: str = ""
    """What the configuration says besides."""

    def __post_init__(self) -> None:
        (self.folder / "config.yaml").write_text(CONFIGURATION + self.more, encoding="utf-8")

    @property
    def command(self) -> list[str]:
        """Return the command that serves over this place's database."""
        return self.words("serve")

    def words(self, *words: str) -> list[str]:
        """Return a command line over this place's database."""
        options = ["--config", str(self.folder / "config.yaml"), "--database", str(self.folder / "o.db")]
        return [sys.executable, "-m", "server", *words, *options]

    async def ask(self, *words: str) -> Any:
        """Return what a command answers as JSON; its exit code must be 0."""
        done = await anyio.run_process(self.words(*words, "--json"), cwd=ROOT, check=False)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        return json.loads(done.stdout)

    def write(self, dag: dict[str, Any]) -> str:
        """Write a DAG into a file and return its path."""
        path = self.folder / f"{dag['dag_id']}.json"
        path.write_text(json.dumps(dag), encoding="utf-8")
        return str(path)

    @property
    def stdio(self) -> StdioServerParameters:
        """Return how a client starts the server over stdio."""
        return StdioServerParameters(command=self.command[0], args=self.command[1:], cwd=ROOT)

    def lines(self) -> list[str]:
        """Return what the tasks noted."""
        return (self.folder / "notes").read_text(encoding="utf-8").split()

    def interrupted_dag(self) -> dict[str, Any]:
        """Return a DAG whose second task waits until `let_go`."""
        notes = str(self.folder / "notes")
        return {
            "dag_id": "interrupted",
            "tasks": [
                {"task_id": "first", "tool": "note", "arguments": {"path": notes, "line": "first"}},
                {
                    "task_id": "second",
                    "tool": "note_and_wait",
                    "arguments": {"path": notes, "line": "second", "until": str(self.folder / "go")},
                    "depends_on": ["first"],
                },
                {
                    "task_id": "third",
                    "tool": "note",
                    "arguments": {"path": notes, "line": "third"},
                    "depends_on": ["second"],
                },
            ],
        }

    def let_go(self) -> None:
        """Let the second task end."""
        (self.folder / "go").touch()

    async def wait_for_line(self, line: str, times: int = 1) -> None:
        """Wait until tasks noted `line` so often."""
        while True:
            if (self.folder / "notes").exists() and self.lines().count(line) >= times:
                return
            await anyio.sleep(0.01)

    async def wait_for_file(self, name: str) -> None:
        """Wait until a file is there."""
        while True:
            if (self.folder / name).exists():
                return
            await anyio.sleep(0.01)

    async def wait_for_status(self, orchestration_id: str, holds: Callable[[Any], bool]) -> Any:
        """Return the status of an orchestration once something holds of it."""
        while True:
            found = await self.ask("status", orchestration_id)
            if holds(found):
                return found
            await anyio.sleep(0.05)


async def pid_of(client: Any) -> int:
    """Return the process id of the server a client talks to."""
    dag = {"dag_id": "pid", "tasks": [{"task_id": "pid"}]}
    result = await client.call_tool("execute_dag", {"dag": dag, "wait_seconds": 10})
    found: int = result.structured_content["outputs"][0]["output"]
    return found


async def wait_until_gone(pid: int) -> None:
    """Wait until a process has ended."""
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        await anyio.sleep(0.01)


@asynccontextmanager
async def running(place: Place, *words: str) -> AsyncIterator[anyio.abc.Process]:
    """Run a command in a process that does not outlive the test."""
    async with await anyio.open_process(place.words(*words), cwd=ROOT) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def text_on(stream: anyio.abc.ByteReceiveStream | None) -> str:
    """Return what is still to be read on a stream of a process, up to its end."""
    assert stream is not None
    return "".join([part async for part in TextReceiveStream(stream)])


@asynccontextmanager
async def http_server(place: Place) -> AsyncIterator[tuple[str, anyio.abc.Process]]:
    """Serve over HTTP in a process; gives the address it logged, and the process."""
    command = [*place.command, "--transport", "http", "--port", "0"]
    async with await anyio.open_process(command, cwd=ROOT, stdout=None) as process:
        try:
            assert process.stderr is not None
            logged = TextReceiveStream(process.stderr)
            with anyio.fail_after(20):
                url = await _logged_url(logged)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_drain, logged)
                yield url, process
                tasks.cancel_scope.cancel()
        finally:
            if process.returncode is None:
                process.kill()


async def _logged_url(logged: TextReceiveStream) -> str:
    text = ""
    while True:
        text += await logged.receive()
        for line in text.splitlines():
            if "SERVER_LISTENING" in line and line.endswith("}"):
                url: str = json.loads(line)["url"]
                return url


async def _drain(logged: TextReceiveStream) -> None:
    async for _ in logged:
        pass
