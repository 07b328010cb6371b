"""Runs the command line in a folder and a home of its own: as a process, or, much faster, inside this one.

What concerns the process (signals, streams, exit, imports) is tested with `cli(…)`; the rest with `cli.inside(…)`.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from orchestration.logs import LOGGER_NAME
from server.cli import main

ROOT = Path(__file__).resolve().parents[2]
JOBS = Path(__file__).with_name("cli_jobs.py")


@dataclass(frozen=True)
class Answer:
    """What a command wrote and returned."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; anything beside it fails the test."""
        return json.loads(self.out)


@dataclass(frozen=True)
class CommandLine:
    """The command line, in one folder with one database."""

    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        """An environment in which nothing of the developer's own machine shows."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {
            **kept,
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder / ".config"),
            "XDG_DATA_HOME": str(self.folder / ".local"),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(JOBS.parent))),
            "ADVANCED_ORCHESTRATION_CONFIG": str(self.folder / "config.yaml"),
            "ADVANCED_ORCHESTRATION_DATABASE": str(self.folder / "state.db"),
        }

    def argv(self, *words: str) -> list[str]:
        """Return the command as argv."""
        return [sys.executable, "-m", "server", *words]

    def __call__(self, *words: str, environ: Mapping[str, str] | None = None) -> Answer:
        """Run a command to its end."""
        ended = subprocess.run(
            self.argv(*words),
            cwd=self.folder,
            env={**self.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Answer(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def inside(self, *words: str) -> Answer:
        """Run a command to its end in this process: the same code from the parsing of `words` on."""
        out, err = io.StringIO(), io.StringIO()
        root, own = logging.getLogger(), logging.getLogger(LOGGER_NAME)
        handlers, levels = list(root.handlers), (root.level, own.level)
        with (
            mock.patch.dict(os.environ, self.environ, clear=True),
            mock.patch.object(sys, "path", [str(JOBS.parent), *sys.path]),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                code = main.run(list(words))
            finally:
                root.handlers[:] = handlers
                root.setLevel(levels[0])
                own.setLevel(levels[1])
        return Answer(code, out.getvalue(), err.getvalue())

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        return subprocess.Popen(
            self.argv(*words),
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(self, name: str, text: str) -> Path:
        """Write a file into the folder."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path


INTERRUPTIBLE = """
dag_id: halting
tasks:
  - task_id: before
    system_preference: jobs
    tool: note
    arguments: {{path: "{folder}/log", text: before}}
  - task_id: wait
    depends_on: [before]
    system_preference: jobs
    tool: wait_for
    arguments: {{path: "{folder}/go"}}
  - task_id: after
    depends_on: [wait]
    system_preference: jobs
    tool: note
    arguments: {{path: "{folder}/log", text: after}}
"""


@contextmanager
def running(cli: CommandLine, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run of a DAG that waits in its middle, and hand it over once it does."""
    cli.write("halting.yaml", INTERRUPTIBLE.format(folder=cli.folder))
    with started(cli, "run", "halting.yaml", *words) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "wait" in line and ("started on jobs" in line or "TASK_EXECUTION_START" in line):
                break
        yield process


@contextmanager
def started(cli: CommandLine, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command; it does not outlive the test."""
    process = cli.start(*words)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)
