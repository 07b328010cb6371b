"""Runs tasks as commands of this machine that the person who runs the server declared (`command_spec.py`).

May import: orchestration.{errors, models, ports, redaction}, orchestration.systems.{base, command_spec,
marked_processes, processes, small_environment}, anyio, stdlib.

The child sees a small environment: `PATH`, `HOME`, `LANG`, `LC_ALL`, `TMPDIR`, `TERM`, what the command
declares, and `GIVEN_VARIABLES`: the idempotency key and the attempt's id for the command itself, the driver and
a mark by which its processes are found again. Standard output over the declared limit ends the command and
fails the attempt: a result that was cut silently would be taken for the whole.

What a failure leaves open: an exit code is a definite answer, and so is a command that could not start. Open is
what ended without an answer (a signal nobody here sent, the time limit, too much output), and what ended well but
wrote no JSON where JSON was declared: it was done, though its result can't be used.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from orchestration.errors import AttemptFailedError, AttemptTimeoutError, InvalidArgumentError
from orchestration.models import JsonObject, TaskNode
from orchestration.ports import AttemptRequest, Health, ToolInfo
from orchestration.redaction import secret_values
from orchestration.systems.base import bounded, pick_tool, short_hash
from orchestration.systems.command_spec import CommandLimits, CommandParameter, CommandSpec
from orchestration.systems.marked_processes import DRIVER_VARIABLE, MARK_VARIABLE
from orchestration.systems.processes import Ended, OutputTooLargeError, run_process
from orchestration.systems.small_environment import INHERITED, inherited_environment

__all__ = [
    "GIVEN_VARIABLES",
    "INHERITED",
    "CommandLimits",
    "CommandParameter",
    "CommandSpec",
    "CommandSystem",
]

IDEMPOTENCY_KEY_VARIABLE = "ADVANCED_ORCHESTRATION_IDEMPOTENCY_KEY"
ATTEMPT_ID_VARIABLE = "ADVANCED_ORCHESTRATION_ATTEMPT_ID"

GIVEN_VARIABLES = (ATTEMPT_ID_VARIABLE, DRIVER_VARIABLE, IDEMPOTENCY_KEY_VARIABLE, MARK_VARIABLE)
"""Variables every command is given; it may be this program again, which must know them from its settings."""

SHELL_SIGNAL_BASE = 128
"""A shell whose program was ended by signal n exits with 128 + n."""

FATAL_SIGNALS = frozenset(
    {
        *(signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE),
        *(signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, signal.SIGTERM),
    }
)
"""Signals that end a program before it can answer. SIGHUP is none: its 129 is also an ordinary exit code, git's."""

_NOT_DONE: Any = {
    **dict.fromkeys(("description", "env", "limits", "max_output_bytes", "timeout_seconds"), True),
    "parameters": {"__all__": {"description", "max_length"}},
}
"""What of a declaration says nothing of what the command does; `env` is told apart."""

ERROR_LINES = 20
"""How many last lines of standard error the message of a failure ends with."""


class CommandSystem:
    """A system made of declared commands.

    Args:
        commands: What may be run, by tool name.
        name: The system's name.
        kill_grace_seconds: How long a command may take to end after SIGTERM before it is killed.
    """

    kind = "command"

    def __init__(
        self, commands: Mapping[str, CommandSpec], name: str = "local", *, kill_grace_seconds: float = 2.0
    ) -> None:
        self.name = name
        self._commands = dict(commands)
        self._kill_grace_seconds = kill_grace_seconds

    async def open(self) -> None:
        """Nothing to prepare."""

    async def aclose(self) -> None:
        """Nothing to release: each command ends with its attempt."""

    async def list_tools(self) -> list[ToolInfo]:
        """Return the declared commands."""
        return [
            ToolInfo(name=tool, description=spec.description, input_schema=spec.json_schema())
            for tool, spec in self._commands.items()
        ]

    @property
    def secrets(self) -> list[str]:
        """Return what the commands are given in their environment under names that tell of secrets."""
        return [value for spec in self._commands.values() for value in secret_values(spec.env)]

    async def choose_tool(self, task: TaskNode) -> str:
        """Return the command the task names, else the one called like the task, else the only one.

        Raises:
            InvalidArgumentError: There is none to choose; lists the commands there are.
        """
        return pick_tool(self.name, task.tool, task.task_id, self._commands)

    def takes_inputs(self, tool: str | None) -> bool:
        """Whether the command reads the inputs on standard input; without a name, whether any does."""
        if tool is None:
            return any(spec.stdin == "inputs" for spec in self._commands.values())
        return tool in self._commands and self._commands[tool].stdin == "inputs"

    def fingerprint(self, tool: str | None) -> str:
        """Return what changes when a command comes to do something else; empty where there is no such command.

        Without a tool it stands for all commands. Limits and descriptions are left out: who raises a time limit, so
        that a command can go on, wants it to go on.
        """
        if tool is None:
            return short_hash({name: _declaration(spec) for name, spec in self._commands.items()})
        return short_hash(_declaration(self._commands[tool])) if tool in self._commands else ""

    async def check(self) -> Health:
        """Say which declared programs or folders are missing."""
        missing = []
        for tool, spec in self._commands.items():
            if spec.cwd is not None and not spec.cwd.expanduser().is_dir():
                missing.append(f"folder {str(spec.cwd)!r} (command {tool!r})")
            elif _find_program(spec) is None:
                missing.append(f"program {spec.argv[0]!r} (command {tool!r})")
            missing += [
                f"folder {str(parameter.root)!r} (command {tool!r}, root of {name!r})"
                for name, parameter in spec.parameters.items()
                if parameter.root is not None and not parameter.root.expanduser().is_dir()
            ]
        if missing:
            return Health(ok=False, detail=f"missing: {', '.join(missing)}")
        return Health(ok=True, detail=f"{len(self._commands)} commands")

    async def execute(self, request: AttemptRequest) -> object:
        """Run the command and return its output.

        Raises:
            AttemptFailedError: The arguments don't fit, the program is missing, it ended with another exit
                code than 0 (`command_failed`), wrote too much (`output_too_large`) or no JSON
                (`invalid_output`), or ran into one of its limits (`resource_limit`).
            AttemptTimeoutError: It ran into the declared time limit.
        """
        tool, spec = self._find(request)
        argv = await _rendered(tool, spec, request.arguments)
        fed = (
            json.dumps(dict(request.inputs), ensure_ascii=False).encode() if spec.stdin == "inputs" else None
        )
        cwd = spec.cwd.expanduser() if spec.cwd is not None else None
        try:
            ended = await run_process(
                _launched(spec, argv),
                env=_environment(spec, request),
                cwd=cwd,
                stdin=fed,
                max_output_bytes=spec.max_output_bytes,
                timeout_seconds=spec.timeout_seconds,
                kill_grace_seconds=self._kill_grace_seconds,
                on_output=request.heartbeat,
            )
        except OutputTooLargeError:
            raise AttemptFailedError(
                f"Command {tool!r} wrote more than {spec.max_output_bytes} bytes and was ended. "
                "Fix: write less, or raise max_output_bytes in its declaration.",
                "output_too_large",
                retryable=False,
                effect_open=True,
            ) from None
        except TimeoutError:
            raise AttemptTimeoutError(
                f"Command {tool!r} was ended after its time limit of {spec.timeout_seconds:g} s."
            ) from None
        except OSError as exc:
            raise _not_started(tool, argv, cwd, exc) from exc
        return _output(tool, spec, ended)

    def _find(self, request: AttemptRequest) -> tuple[str, CommandSpec]:
        try:
            tool = pick_tool(
                self.name, request.tool or request.task.tool, request.task.task_id, self._commands
            )
        except InvalidArgumentError as exc:
            raise AttemptFailedError(str(exc), "unknown_tool", retryable=False) from None
        return tool, self._commands[tool]


def _environment(spec: CommandSpec, request: AttemptRequest) -> dict[str, str]:
    own = {IDEMPOTENCY_KEY_VARIABLE: request.idempotency_key, ATTEMPT_ID_VARIABLE: request.attempt_id}
    if request.driver:
        own[DRIVER_VARIABLE] = request.driver
    return {**inherited_environment(), **spec.env, **own}


def _declaration(spec: CommandSpec) -> JsonObject:
    """Return what a command does; the values of its environment only as a hash, for they may be secrets."""
    declared: JsonObject = spec.model_dump(mode="json", exclude=_NOT_DONE, exclude_defaults=True)
    return declared | {"env": {name: short_hash(value) for name, value in spec.env.items()}}


async def _rendered(tool: str, spec: CommandSpec, arguments: JsonObject) -> list[str]:
    """Return argv with the arguments put in; on a thread where that may take long."""
    if not spec.may_take_long_to_render:
        return spec.render(tool, arguments)
    own_turn = anyio.CapacityLimiter(1)
    render = functools.partial(spec.render, tool, arguments)
    return await anyio.to_thread.run_sync(render, abandon_on_cancel=True, limiter=own_turn)


def _launched(spec: CommandSpec, argv: list[str]) -> list[str]:
    """Return what is started so that the command runs within its limits.

    Raises:
        FileNotFoundError: There is no such program.
    """
    if spec.limits is None or not spec.limits.declared:
        return argv
    program = _find_program(spec)
    if program is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
    return spec.limits.launching(program, argv)


def _find_program(spec: CommandSpec) -> str | None:
    program = spec.argv[0]
    if spec.cwd is not None and os.sep in program:
        program = str(
            spec.cwd.expanduser() / program
        )  # a relative program is looked for in its working folder
    return shutil.which(program, path=spec.env.get("PATH", os.environ.get("PATH")))


def _not_started(tool: str, argv: list[str], cwd: Path | None, exc: OSError) -> AttemptFailedError:
    """Return the failure for a command that could not be started."""
    if cwd is not None and not cwd.is_dir():
        text = (
            f"Command {tool!r} can't start: there is no folder {str(cwd)!r}. Fix: make it, or change `cwd`."
        )
        return AttemptFailedError(text, "folder_not_found", retryable=False)
    if isinstance(exc, FileNotFoundError):
        text = (
            f"Command {tool!r} can't start: there is no program {argv[0]!r} on the PATH. "
            "Fix: install it, or give its full path."
        )
        return AttemptFailedError(text, "program_not_found", retryable=False)
    if isinstance(exc, PermissionError):
        text = f"Command {tool!r} can't start: {argv[0]!r} may not be executed. Fix: make it executable."
        return AttemptFailedError(text, "program_not_executable", retryable=False)
    if exc.errno == errno.E2BIG:
        text = f"Command {tool!r} can't start: its arguments are too long together. Fix: give it less."
        return AttemptFailedError(text, "invalid_arguments", retryable=False)
    return AttemptFailedError(f"Command {tool!r} can't start: {exc.strerror or exc}.", "command_not_started")


def _output(tool: str, spec: CommandSpec, ended: Ended) -> object:
    """Return the output of a command that has ended.

    Raises:
        AttemptFailedError: Its exit code is not 0, or its output is no JSON where JSON was declared.
    """
    text = ended.stdout.decode("utf-8", "replace")
    if ended.exit_code != 0:
        stderr = ended.stderr_tail.decode("utf-8", "replace")
        at_limit = spec.limits.failure(tool, ended.exit_code, stderr) if spec.limits is not None else None
        if at_limit is not None:
            raise at_limit
        how = f"signal {ended.signal_name}" if ended.signal_name else f"exit code {ended.exit_code}"
        said = _last_lines(stderr) or _last_lines(text)
        raise AttemptFailedError(
            f"Command {tool!r} ended with {how}" + (f":\n{said}" if said else "."),
            "command_failed",
            effect_open=_was_cut_off(ended.exit_code),
        )
    if spec.output == "text":
        return {"text": text, "exit_code": 0}
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError as exc:
        shown = bounded(text.strip(), 200)
        raise AttemptFailedError(
            f"Command {tool!r} declares `output: json`, but wrote no JSON ({exc}): {shown!r}",
            "invalid_output",
            retryable=False,
            effect_open=True,
        ) from None


def _was_cut_off(exit_code: int) -> bool:
    """Whether a program was ended by a signal, itself or as the last one of a shell."""
    return exit_code < 0 or exit_code - SHELL_SIGNAL_BASE in FATAL_SIGNALS


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _last_lines(text: str) -> str:
    """Return the last lines of a text, in at most 1,500 characters."""
    return "\n".join(text.rstrip().splitlines()[-ERROR_LINES:])[-1500:]
