"""Reads what KGoT writes: its trace while it runs, its solution, what it cost, and why it ended without one.

May import: orchestration.{errors, ports}, orchestration.systems.base, stdlib.

The solution is everything after the last line that begins with `Solution: `; what stands before it is the trace.

What an end means:

| end | failure | repeated |
| --- | --- | --- |
| 0 with no solution | `no_solution`: what it did is left open | no |
| 0 with an empty solution | `empty_answer` | yes |
| 1, "Failed to connect to … instance!" in red | `system_unavailable` | yes |
| 1, another red line | `refused_at_start` | no |
| 1, `RateLimitError` | `rate_limited` | yes |
| 1, a failed connection to its model, HTTP 5xx of it | `model_unreachable` | yes |
| 1, `AuthenticationError`, `KeyError`, `FileNotFoundError` | `authentication_error`, `configuration_error`, … | no |
| 1, another exception | the code of its class | unless it is a mistake in a program |
| 2 | `usage_error` | no |
| a signal, 143 | `killed`: what it did is left open | yes |
"""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from orchestration.errors import AttemptError, AttemptFailedError, SystemUnavailableError
from orchestration.ports import Progress
from orchestration.systems.base import NEVER_RETRIED, bounded, snake_case

SOLUTION = "Solution: "
FORCED = "Maximum iterations reached"
COST_FILE = "llm_cost.json"

MAX_COST_BYTES = 16 * 1024 * 1024
"""Far more than a run of hours writes; what comes after it is not counted."""

MAX_LINE_CHARS = 4_000
"""A longer line of the trace is looked at only this far."""

MAX_PROGRESS_CHARS = 200

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_RED = re.compile(r"\x1b\[(?:[0-9]+;)*(?:31|91)(?:;[0-9]+)*m")
_ITERATION = re.compile(r"\bCurrent iteration: (\d{1,6})")
_NEXT_STEP = re.compile(r"\breturned next step:? (.+)")
_CRITICAL = re.compile(r"CRITICAL: Exiting due to uncaught exception ([\w.]+)(?:: ?(.*))?$", re.DOTALL)
_UNCONNECTED = re.compile(r"Failed to connect to .{1,60} instance!")

_AN_INT_WAS_CALLED = "'int' object is not callable"
"""How it words, by a mistake of its own, that the model's endpoint could not be reached or answered with HTTP 5xx."""

_CODES = {
    "RateLimitError": "rate_limited",
    "APIConnectionError": "model_unreachable",
    "APITimeoutError": "model_unreachable",
    "InternalServerError": "model_unreachable",
    "KeyError": "configuration_error",
}
_NEVER = frozenset(
    {
        *("AuthenticationError", "PermissionDeniedError", "BadRequestError", "NotFoundError"),
        *("KeyError", "FileNotFoundError", "ModuleNotFoundError", "AttributeError"),
        *(cls.__name__ for cls in NEVER_RETRIED),
    }
)
"""Exceptions that the next run would meet again."""

_TERMINATED = 128 + signal.SIGTERM
"""Its exit code when somebody else ended it."""


class TraceReader:
    """Turns the trace into progress, piece by piece as it is written.

    Args:
        iterations: How many rounds there are at most.
        tell: Called with each sign of progress.
    """

    def __init__(self, iterations: int, tell: Callable[[Progress], None]) -> None:
        self._iterations = iterations
        self._tell = tell
        self._rest = b""
        self._iteration = 0

    def feed(self, piece: bytes) -> None:
        """Take the next piece of standard output, cut anywhere."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MAX_LINE_CHARS * 4:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._read(_plain(line[: MAX_LINE_CHARS * 4].decode("utf-8", "replace"))[:MAX_LINE_CHARS])

    def _read(self, line: str) -> None:
        if (found := _ITERATION.search(line)) is not None:
            self._iteration = int(found[1])
            self._say(f"iteration {self._iteration} of {self._iterations}")
        elif (found := _NEXT_STEP.search(line)) is not None:
            self._say(f"next step: {found[1].strip()}")
        elif FORCED in line:
            self._say("maximum iterations reached, an answer is forced")

    def _say(self, words: str) -> None:
        done = float(min(self._iteration, self._iterations))
        self._tell(
            Progress(done=done, total=float(self._iterations), message=bounded(words, MAX_PROGRESS_CHARS))
        )


def solution_in(stdout: str) -> tuple[str, bool] | None:
    """Return the solution, and whether it was forced after the last iteration; None where there is no solution."""
    start = -1
    if stdout.startswith(SOLUTION):
        start = 0
    if (last := stdout.rfind("\n" + SOLUTION)) >= 0:
        start = last + 1
    if start < 0:
        return None
    return stdout[start + len(SOLUTION) :].rstrip(), FORCED in stdout[:start]


def failure_of(system: str, exit_code: int, stdout: str, stderr: str) -> AttemptError:
    """Return what an end with another exit code than 0 means.

    Args:
        system: Name of the system, for the message.
        exit_code: Negative: the signal that ended it.
        stdout: What it wrote, with its colours.
        stderr: The end of what it wrote there.
    """
    if exit_code < 0 or exit_code == _TERMINATED:
        number = -exit_code if exit_code < 0 else signal.SIGTERM
        return AttemptFailedError(
            f"KGoT was ended by {_signal_name(number)} before it had a solution.", "killed", effect_open=True
        )
    if exit_code == 2:
        said = _last(stderr) or _last(stdout)
        text = f"KGoT does not take this command line: {said}. Fix: check command and options of the system."
        return AttemptFailedError(text, "usage_error", retryable=False)
    if (found := _uncaught(stderr)) is not None:
        return _exception(*found)
    if (red := _last_red(stdout)) is not None:
        if _UNCONNECTED.search(red):
            return SystemUnavailableError(system, f"KGoT says: {red}")
        return AttemptFailedError(f"KGoT says: {red}", "refused_at_start", retryable=False)
    said = _last(stderr) or _last(stdout)
    return AttemptFailedError(
        f"KGoT ended with exit code {exit_code}" + (f": {said}" if said else "."), "kgot_failed"
    )


def missing_solution(stdout: str) -> AttemptFailedError:
    """Return the failure of a run that ended well and wrote no solution."""
    return AttemptFailedError(
        f"KGoT ended well, but wrote no line that begins with {SOLUTION!r}. Its last words: {_last(stdout)!r}",
        "no_solution",
        retryable=False,
        effect_open=True,
    )


def empty_solution() -> AttemptFailedError:
    """Return the failure of a run whose solution is empty."""
    return AttemptFailedError("KGoT's solution is empty.", "empty_answer")


def _exception(name: str, message: str) -> AttemptFailedError:
    """Return the failure for an exception that ended it."""
    name = name.rpartition(".")[2]
    if name == "TypeError" and _AN_INT_WAS_CALLED in message:
        text = f"KGoT could not reach its model, or that answered with HTTP 5xx (it says {name}: {message})."
        return AttemptFailedError(text, "model_unreachable")
    said = f"KGoT ended with {name}" + (f": {bounded(message)}" if message else ".")
    return AttemptFailedError(said, _CODES.get(name, snake_case(name)), retryable=name not in _NEVER)


def _uncaught(stderr: str) -> tuple[str, str] | None:
    """Return the class and the message of the exception it ended with; the last one it tells of."""
    plain = _plain(stderr)
    start = plain.rfind("CRITICAL: Exiting due to uncaught exception ")
    found = _CRITICAL.search(plain, start) if start >= 0 else None
    return (found[1], (found[2] or "").strip()) if found is not None else None


def _last_red(stdout: str) -> str | None:
    """Return the last line it wrote in red."""
    for line in reversed(stdout.splitlines()):
        if _RED.search(line) and (words := _plain(line).strip()):
            return bounded(words, 500)
    return None


def _last(text: str) -> str:
    lines = [line.strip() for line in _plain(text).splitlines() if line.strip()]
    return bounded(lines[-1], 500) if lines else ""


def _plain(text: str) -> str:
    return _COLOURS.sub("", text)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def usage_in(folder: Path) -> tuple[float, dict[str, Any]] | None:
    """Return what a run cost in US dollars and what it used, from its log; None where it wrote none. Blocks.

    A line that is no such JSON (the last one of a run that was ended) is not counted.
    """
    try:
        with (folder / COST_FILE).open("rb") as file:
            text = file.read(MAX_COST_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    calls = list(_calls(text.splitlines()))
    usage = {
        "prompt_tokens": int(sum(_number(call.get("PromptTokens")) for call in calls)),
        "completion_tokens": int(sum(_number(call.get("CompletionTokens")) for call in calls)),
        "calls": len(calls),
        "models": sorted(
            {bounded(model, 100) for call in calls if isinstance(model := call.get("Model"), str)}
        ),
    }
    return math.fsum(_number(call.get("Cost")) for call in calls), usage


def _calls(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            call = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(call, dict):
            yield call


def _number(value: object) -> float:
    """Return a number that can be added up; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if 0 <= value < 1e15 else 0.0  # NaN compares false
