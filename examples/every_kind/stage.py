"""Everything the example needs around it: services, stand-ins, agents, whoever drives; and how each is killed.

May import: examples.every_kind.ledger, stdlib. Each part is a process of its own. `Stage.start` starts what serves,
`Stage.run` or `Stage.resume` a driver, which is the real command line, and `Stage.kill` ends one process at once while
it is in the middle of a task, as a crash would.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from examples.every_kind.ledger import noted

HERE = Path(__file__).parent
CLONE = HERE.parents[1]
ALITA = CLONE / "tests" / "standins" / "alita_standin.py"
FILESYSTEM = "mcp-server-filesystem"
PACKAGE = "@modelcontextprotocol/server-filesystem"
"""The npm package that has the program."""
ORCHESTRATION = "every-kind-1"
"""What the first orchestration of the plan is called."""
PATIENCE_SECONDS = 30.0
"""Longest wait for anything that is about to happen."""

MARK = ".every-kind"
"""The file by which the example knows a folder that it may empty."""
LEAVE_SECONDS = 5.0
"""How long agents may take to leave."""

VICTIMS = {
    "notes": "the MCP filesystem server",
    "forecast": "the HTTP service, while it is asked",
    "words": "the command",
    "pack": "the worker process of the function",
    "draft": "Alita",
    "question": "KGoT",
    "review": "the agent that claimed the task",
    "publish": "the HTTP service, after the effect and before the answer",
    "driver": "the process that drives everything, while the command runs",
}
"""What can be killed, by the task it does."""


class Stage:
    """The parts of the example, over a folder of their own.

    Args:
        home: The folder; what an earlier run left there is removed.
        filesystem: The program that is the MCP filesystem server.
    """

    def __init__(self, home: Path, filesystem: str) -> None:
        self.home = home.absolute()
        self.driver: subprocess.Popen[str] | None = None
        self._agents: list[subprocess.Popen[str]] = []
        self._servers: dict[str, subprocess.Popen[str]] = {}
        self._addresses: dict[str, str] = {}
        self._filesystem = filesystem

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for agent in self._agents:
            agent.send_signal(signal.SIGINT)  # asked, it lets go of its MCP server in order
        for agent in self._agents:
            with suppress(subprocess.TimeoutExpired):
                agent.wait(timeout=LEAVE_SECONDS)
        for process in [*self._agents, *self._servers.values(), *([self.driver] if self.driver else [])]:
            self._end(process)

    # What there is

    def start(self) -> None:
        """Make the folder and start what serves: the HTTP service and Alita.

        Raises:
            FileExistsError: The folder holds something else; nothing was touched.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        if not (self.home / MARK).exists() and {path.name for path in self.home.iterdir()} - {"node"}:
            raise FileExistsError(
                f"{self.home} is not empty, and not this example's. Fix: name another folder."
            )
        (self.home / MARK).touch()
        for name in ("hold", "published", "alita", "kgot"):
            shutil.rmtree(self.home / name, ignore_errors=True)
            (self.home / name).mkdir(parents=True)
        for name in ("ledger", "o.db", "o.db-wal", "o.db-shm"):
            (self.home / name).unlink(missing_ok=True)
        shutil.rmtree(self.home / "notes", ignore_errors=True)
        shutil.copytree(HERE / "notes", self.home / "notes")
        self.start_server("weather")
        self.start_server("alita")

    def start_server(self, name: str) -> None:
        """Start a service, at the address it had before if it was there already."""
        port = self._addresses.get(name, ":0").rpartition(":")[2]
        programs = {
            "weather": ["-m", "examples.every_kind.service"],
            "alita": [str(ALITA), "--notes", str(self.home / "alita")],
        }
        server = self._popen([*programs[name], "--port", port], stdout=subprocess.PIPE)
        assert server.stdout is not None
        self._servers[name] = server
        address = server.stdout.readline().strip()
        if self._addresses.setdefault(name, address) != address or not address:
            raise RuntimeError(f"{name} does not serve where it should: {address!r}")

    def start_agent(self, name: str) -> None:
        """Start an agent that claims tasks."""
        words = ["-m", "examples.every_kind.agent", name, *self._places()]
        self._agents.append(self._popen(words, stdin=subprocess.DEVNULL))

    def run(self) -> None:
        """Start a driver on the plan: the real command line, in a process of its own."""
        self.driver = self._popen(["-m", "server", "run", str(HERE / "plan.yaml"), *self._places()])

    def resume(self) -> None:
        """Start a driver that goes on with what is not finished."""
        self.driver = self._popen(["-m", "server", "resume", ORCHESTRATION, *self._places()])

    def ask(self, *words: str) -> Any:
        """Return what a command answers as JSON."""
        command = [sys.executable, "-m", "server", *words, "--json", *self._places()]
        done = subprocess.run(
            command, env=self._environment(), capture_output=True, text=True, timeout=60, check=True
        )
        return json.loads(done.stdout)

    # How each is killed

    def hold(self, victim: str) -> None:
        """See to it that the task which the victim does stays in its middle; before it begins."""
        if victim == "notes":
            note = self.home / "notes" / "trip.md"
            note.unlink()
            os.mkfifo(note)  # whoever reads it waits until somebody writes
        elif victim == "draft":
            body = json.dumps({"mode": "wait", "limit": 100}).encode()
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(self._addresses["alita"] + "/standin", body, headers)
            with opener.open(request, timeout=PATIENCE_SECONDS):
                pass
        else:
            (self.home / "hold" / ("words" if victim == "driver" else victim)).touch()

    def kill(self, victim: str) -> None:
        """Wait until the victim is in the middle of its task, and kill it; its task is not held a second time."""
        if victim == "notes":
            self._kill_filesystem()
        elif victim == "draft":
            self._until(lambda: (self.home / "alita" / "started").exists(), "Alita was not asked")
            self._end(self._servers["alita"])
        elif victim == "driver":
            self.wait_until_begun("words")
            self.kill_driver()
        else:
            os.kill(self.wait_until_begun(victim)[-1], signal.SIGKILL)
            self.let_go(victim)

    def revive(self, victim: str) -> None:
        """Do what somebody else would do now: an init system, a further agent, a person who types `resume`.

        What the driver starts by itself, it starts again by itself.
        """
        if victim in ("forecast", "publish"):
            self._end(self._servers["weather"])
            self.start_server("weather")
        elif victim == "draft":
            self.start_server("alita")
        elif victim == "review":
            self.start_agent("grace")
        elif victim == "driver":
            self.resume()
            # What the killed driver had started is ended before its tasks begin again: the command is still held.
            self.wait_until_begun("words", times=2)
            self.let_go("words")

    def kill_driver(self) -> None:
        """Kill whoever drives."""
        driver, self.driver = self.driver, None
        assert driver is not None
        self._end(driver)

    def wait_until_begun(self, task: str, times: int = 1) -> list[int]:
        """Wait until a task has begun that often, and return the processes that do it."""
        self._until(lambda: len(noted(self.home, task, "began")) >= times, f"{task} did not begin")
        return noted(self.home, task, "began")

    def wait_until_done(self, task: str) -> None:
        """Wait until a task has noted that it is done."""
        self._until(lambda: bool(noted(self.home, task, "done")), f"{task} was not done")

    def let_go(self, task: str) -> None:
        """Let a task that is held go on."""
        (self.home / "hold" / task).unlink()

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()

    def _kill_filesystem(self) -> None:
        """Kill the MCP server while it reads the note, and put the note there."""
        note = self.home / "notes" / "trip.md"
        writers: list[int] = []

        def is_read() -> bool:
            try:
                writers.append(os.open(note, os.O_WRONLY | os.O_NONBLOCK))
            except OSError as exc:
                if exc.errno != errno.ENXIO:  # nobody reads it yet
                    raise
            return bool(writers)

        self._until(is_read, "the note was not read")
        servers = self._filesystem_processes()
        for pid in servers:
            os.kill(pid, signal.SIGKILL)
        os.close(writers[0])
        whole = note.with_suffix(".new")
        shutil.copy(HERE / "notes" / "trip.md", whole)
        whole.replace(note)
        if not servers:
            raise RuntimeError(
                "the process of the MCP server was not found; this way of killing it needs Linux"
            )

    def _filesystem_processes(self) -> list[int]:
        """Return the MCP servers that serve this stage's notes."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except OSError:
                continue  # it has just ended
            if words[-2:-1] == [os.fsencode(self.home / "notes")]:
                found.append(int(entry.parent.name))
        return found

    def _until(self, happened: Callable[[], bool], otherwise: str) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not happened():
            if time.monotonic() > until:
                raise TimeoutError(f"{otherwise} within {PATIENCE_SECONDS:g} s")
            if self.driver is not None and self.driver.poll() is not None:
                raise RuntimeError(
                    f"{otherwise}, and the driver has ended with code {self.driver.returncode}"
                )
            time.sleep(0.01)

    # Processes

    def _places(self) -> list[str]:
        return ["--config", str(HERE / "config.yaml"), "--database", str(self.home / "o.db")]

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(CLONE),
            "EVERY_KIND_HOME": str(self.home),
            "EVERY_KIND_CLONE": str(CLONE),
            "EVERY_KIND_PYTHON": sys.executable,
            "EVERY_KIND_FILESYSTEM": self._filesystem,
            "EVERY_KIND_WEATHER": self._addresses.get("weather", ""),
            "EVERY_KIND_ALITA": self._addresses.get("alita", ""),
        }

    def _popen(self, words: list[str], **pipes: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *words], cwd=self.home, env=self._environment(), text=True, **pipes
        )


def find_filesystem(tools: Path | None = None) -> str:
    """Return the program of the MCP filesystem server, wherever it is; fetches it with npm where it is nowhere.

    Args:
        tools: The folder to fetch it into; None: don't.

    Raises:
        FileNotFoundError: It is nowhere.
    """
    places = [CLONE / ".venv" / "ci-tools", *([tools] if tools is not None else [])]
    programs = [place / "node_modules" / ".bin" / FILESYSTEM for place in places]
    found = os.environ.get("MCP_FILESYSTEM") or shutil.which(FILESYSTEM)
    found = found or next((str(program) for program in programs if program.exists()), None)
    if found is None and tools is not None and shutil.which("npm"):
        print("Fetching the MCP filesystem server with npm …", file=sys.stderr)
        options = ["--silent", "--no-audit", "--no-fund", "--no-save", "--prefix", str(tools)]
        subprocess.run(["npm", "install", *options, PACKAGE], check=False)
        found = str(programs[-1]) if programs[-1].exists() else None
    if found is None:
        fix = f"npm install -g {PACKAGE}, or name the program in the environment variable MCP_FILESYSTEM"
        raise FileNotFoundError(f"the program {FILESYSTEM} is not there. Fix: {fix}.")
    return found
