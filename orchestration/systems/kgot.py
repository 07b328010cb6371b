"""Runs tasks with KGoT, one process and one fresh folder for each attempt.

May import: orchestration.{errors, models, ports, redaction}, orchestration.systems.{base, command, kgot_folders,
kgot_output, kgot_spec, marked_processes, processes, task_text}, httpx2 (late), anyio, stdlib.

* The question is made of the task's description, its arguments and its inputs (`task_text.py`); the argument `files`
  names files below the declared folder.
* Python that a model writes runs inside KGoT and sees its environment: that is a few harmless variables, what the
  system declares, and what tells the attempt; nothing of this program's own. The keys in its configuration files it can
  read all the same; wherever they turn up in what KGoT writes, they are struck out.
* It has no time limit and keeps one graph per process: the limit is ours, each attempt is a process of its own, and
  cancelling ends the whole process group.
* What it writes besides the solution is a trace: progress, and signs of life. What it used is in a log of its own, from
  which the attempt's cost comes.

It takes every task, by its description; the one tool it lists, `ask_kgot`, is there to be found. What an end means is
in `kgot_output.py`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from orchestration.errors import (
    AttemptError,
    AttemptFailedError,
    AttemptTimeoutError,
    SystemUnavailableError,
)
from orchestration.models import JsonObject, TaskNode
from orchestration.ports import AttemptRequest, AttemptResult, Health, Progress, ToolInfo
from orchestration.redaction import Redactor
from orchestration.systems.base import bounded, invalid_arguments, short_hash, words_of
from orchestration.systems.command import ATTEMPT_ID_VARIABLE, IDEMPOTENCY_KEY_VARIABLE
from orchestration.systems.kgot_folders import (
    Configuration,
    RunFolder,
    files_of,
    make_run_folder,
    parent_folder,
    read_configuration,
    release_run_folder,
    remove_leftovers,
)
from orchestration.systems.kgot_output import (
    TraceReader,
    empty_solution,
    failure_of,
    missing_solution,
    solution_in,
    usage_in,
)
from orchestration.systems.kgot_spec import EXECUTOR_VARIABLE, KgotOptions, KgotSpec
from orchestration.systems.marked_processes import DRIVER_VARIABLE
from orchestration.systems.processes import Ended, OutputTooLargeError, run_process
from orchestration.systems.task_text import TextLimits, task_text

__all__ = ["OWN_TOOL", "KgotOptions", "KgotSpec", "KgotSystem"]

T = TypeVar("T")

OWN_TOOL = "ask_kgot"
"""The tool it lists; a task may name it, or any other, or none."""

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
"""Environment variables it inherits; none is a secret."""

LIMITS = TextLimits(arguments=16_000, input=8_000, inputs=16_000)
MAX_QUESTION_BYTES = 128 * 1024 - 2
"""One argument of a Linux program is at most 128 KiB, its end included; a space may be put before it."""

KILL_GRACE_SECONDS = 5.0
"""How long it may take to end after SIGTERM before it is killed."""

EXECUTOR_SECONDS = 3.0
"""Longest wait for its Python executor in a look at its health."""


ARGUMENTS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "question": {
            "type": "string",
            "description": "What to answer, in full sentences; the task's description when absent.",
        },
        "files": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Files to look at, all in one folder, below the folder the system declares.",
        },
    },
    "additionalProperties": True,
}
"""The arguments of `ask_kgot`; whatever else a task has goes along as data."""


class KgotSystem:
    """A system made of the program KGoT.

    Args:
        spec: How it is started.
        name: The system's name.
    """

    kind = "kgot"
    serves = frozenset({"kgot"})
    """Preferences it takes besides its own name."""

    def __init__(self, spec: KgotSpec, name: str = "kgot") -> None:
        self.name = name
        self._spec = spec
        self._slots = anyio.CapacityLimiter(spec.processes)

    async def open(self) -> None:
        """Remove what runs of a process that was killed have left behind."""
        self._slots = anyio.CapacityLimiter(self._spec.processes)
        try:
            await _on_a_thread(lambda: remove_leftovers(parent_folder(self._spec.work_folder)))
        except AttemptFailedError:
            return  # each attempt, and `check`, says so

    async def aclose(self) -> None:
        """Nothing to release: each process ends with its attempt."""

    async def list_tools(self) -> list[ToolInfo]:
        """Return the one thing it does."""
        return [ToolInfo(name=OWN_TOOL, description=self._spec.description, input_schema=ARGUMENTS_SCHEMA)]

    @property
    def secrets(self) -> list[str]:
        """Return what it is given in its environment and nobody else is to see; its own files are read by each run."""
        return self._spec.secrets

    async def choose_tool(self, task: TaskNode) -> str | None:
        """Return the tool the task names, which is told to KGoT; it needs none."""
        return task.tool

    def takes_inputs(self, tool: str | None) -> bool:  # noqa: ARG002  (the port's signature)
        """Inputs are part of the question."""
        return True

    def fingerprint(self, tool: str | None) -> str:  # noqa: ARG002  (one program, whatever the tool)
        """Return what changes when KGoT is started differently; limits don't count, secrets only as a hash."""
        env: JsonObject = {name: short_hash(value) for name, value in self._spec.env.items()}
        return short_hash([self.kind, self._spec.declaration(), env])

    async def execute(self, request: AttemptRequest) -> AttemptResult:
        """Run KGoT on the task's question, once a process is free.

        Returns:
            `solution`, `is_forced` (an answer after the last iteration), `usage` (`prompt_tokens`,
            `completion_tokens`, `calls`, `models`; None where it kept no log), and where it is kept `workdir`; with
            the cost from its log.

        Raises:
            AttemptFailedError: It ended without a solution (`kgot_output.py`), could not be started, or the task's
                arguments or its configuration can't be used.
            AttemptTimeoutError: It ran into the declared time limit.
            SystemUnavailableError: Something it needs at its start is not there.
        """
        arguments = dict(request.arguments)
        named = arguments.pop("files", None)
        question = _question(request, arguments)
        spec = self._spec
        async with self._slots:
            files = await _on_a_thread(lambda: files_of(named, spec.files_root, spec.max_files))
            configuration = await _on_a_thread(lambda: read_configuration(spec.config_dir.expanduser()))
            folder = await self._folder(configuration)
            kept: list[str] = []
            try:
                redactor = Redactor((*configuration.secrets, *spec.secrets))
                output, cost = await self._run(request, spec.argv(question, files), folder.path, redactor)
            finally:
                with anyio.CancelScope(shield=True):
                    place = await _on_a_thread(lambda: release_run_folder(folder, keeps=spec.keep_workdir))
                kept += [str(place)] if place is not None else []
        return AttemptResult(output={**output, "workdir": kept[0]} if kept else output, cost=cost)

    async def _folder(self, configuration: Configuration) -> RunFolder:
        """Return the folder of a run; a cancellation can't come between its making and its owner."""
        made: list[RunFolder] = []
        try:
            with anyio.CancelScope(shield=True):
                parent = await _on_a_thread(lambda: parent_folder(self._spec.work_folder))
                made.append(await _on_a_thread(lambda: make_run_folder(parent, configuration)))
        except OSError as exc:
            text = f"KGoT can't be given a folder: {exc.strerror or exc}. Fix: set work_folder."
            raise AttemptFailedError(text, "folder_not_usable") from exc
        return made[0]

    async def _run(
        self, request: AttemptRequest, argv: list[str], folder: Path, redactor: Redactor
    ) -> tuple[dict[str, Any], float | None]:
        """Run the program in its folder, and return its output and cost."""

        def tell(progress: Progress) -> None:
            request.progress(
                Progress(done=progress.done, total=progress.total, message=redactor.text(progress.message))
            )

        trace = TraceReader(self._spec.options.iterations, tell)
        try:
            ended = await run_process(
                argv,
                env=_environment(self._spec, request),
                cwd=folder,
                stdin=None,
                max_output_bytes=self._spec.max_output_bytes,
                timeout_seconds=self._spec.timeout_seconds,
                kill_grace_seconds=KILL_GRACE_SECONDS,
                on_output=request.heartbeat,
                on_stdout=trace.feed,
            )
        except OutputTooLargeError:
            raise AttemptFailedError(
                f"KGoT wrote more than {self._spec.max_output_bytes} bytes and was ended. Fix: raise max_output_bytes.",
                "output_too_large",
                retryable=False,
                effect_open=True,
            ) from None
        except TimeoutError:
            raise AttemptTimeoutError(
                f"KGoT was ended after its time limit of {self._spec.timeout_seconds:g} s."
            ) from None
        except OSError as exc:
            raise _not_started(argv[0], exc) from exc
        solution, is_forced = self._solution(ended, redactor)
        found = await _on_a_thread(lambda: usage_in(folder))
        cost, usage = found if found is not None else (None, None)
        return {"solution": solution, "is_forced": is_forced, "usage": usage}, cost

    def _solution(self, ended: Ended, redactor: Redactor) -> tuple[str, bool]:
        """Return the solution, and whether it was forced.

        Raises:
            AttemptError: There is none.
        """
        stdout = redactor.text(ended.stdout.decode("utf-8", "replace"))
        if ended.exit_code != 0:
            stderr = redactor.text(ended.stderr_tail.decode("utf-8", "replace"))
            raise failure_of(self.name, ended.exit_code, stdout, stderr)
        found = solution_in(stdout)
        if found is None:
            raise missing_solution(stdout)
        if not found[0].strip():
            raise empty_solution()
        return found

    async def check(self) -> Health:
        """Say whether the program, its configuration and its Python executor are there; starts nothing."""
        spec = self._spec
        program = spec.program
        if shutil.which(program, path=spec.env.get("PATH", os.environ.get("PATH"))) is None:
            return Health(ok=False, detail=f"missing: program {program!r}")
        try:
            await _on_a_thread(lambda: parent_folder(spec.work_folder))
            await _on_a_thread(lambda: read_configuration(spec.config_dir.expanduser()))
            await self._ask_executor()
        except AttemptError as exc:
            return Health(ok=False, detail=bounded(str(exc), 300))
        return Health(ok=True, detail=f"{program} with {spec.options.db_choice}")

    async def _ask_executor(self) -> None:
        """Run a line that does nothing on the Python executor, without which KGoT does not start.

        Raises:
            SystemUnavailableError: It gives no answer, or not that of an executor.
        """
        import httpx2

        uri = self._spec.executor_uri
        reason = f"its Python executor at {uri} gave no answer within {EXECUTOR_SECONDS:g} s"
        with anyio.move_on_after(EXECUTOR_SECONDS):
            try:
                async with httpx2.AsyncClient(timeout=EXECUTOR_SECONDS, trust_env=False) as client:
                    body = {"code": "pass", "required_modules": []}
                    async with client.stream("POST", uri, json=body) as answer:
                        if answer.status_code in (200, 400, 408):  # 400 and 408: it ran it, and that failed
                            return
                        reason = f"its Python executor at {uri} answered with {answer.status_code}"
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as exc:
                reason = (
                    f"its Python executor at {uri} can't be reached: {words_of(exc) or type(exc).__name__}"
                )
        raise SystemUnavailableError(self.name, reason)


def _question(request: AttemptRequest, arguments: dict[str, Any]) -> str:
    """Return the question.

    Raises:
        AttemptFailedError: `invalid_arguments`: it can't be an argument of a program.
    """
    question = task_text(request, OWN_TOOL, arguments, LIMITS)
    size = len(question.encode("utf-8", "surrogatepass"))
    if size > MAX_QUESTION_BYTES:
        raise invalid_arguments(
            f"The question has {size} bytes with its data; expected at most {MAX_QUESTION_BYTES}. "
            "Fix: shorten the description, or pass files."
        )
    if "\0" in question:
        raise invalid_arguments("The task's description holds a NUL character. Fix: remove it.")
    return question


def _environment(spec: KgotSpec, request: AttemptRequest) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    own = {IDEMPOTENCY_KEY_VARIABLE: request.idempotency_key, ATTEMPT_ID_VARIABLE: request.attempt_id}
    if request.driver:
        own[DRIVER_VARIABLE] = request.driver
    return {**inherited, **spec.env, EXECUTOR_VARIABLE: spec.executor_uri, **own}


def _not_started(program: str, exc: OSError) -> AttemptFailedError:
    if isinstance(exc, FileNotFoundError):
        text = f"There is no program {program!r} on the PATH. Fix: install KGoT, or give the full path in command."
        return AttemptFailedError(text, "program_not_found", retryable=False)
    if isinstance(exc, PermissionError):
        text = f"{program!r} may not be executed. Fix: make it executable."
        return AttemptFailedError(text, "program_not_executable", retryable=False)
    return AttemptFailedError(f"KGoT can't be started: {exc.strerror or exc}.", "command_not_started")


async def _on_a_thread(call: Callable[[], T]) -> T:
    """Return what a short blocking call returns; the common threads may be taken up by tasks for hours."""
    return await anyio.to_thread.run_sync(call, limiter=anyio.CapacityLimiter(1))
