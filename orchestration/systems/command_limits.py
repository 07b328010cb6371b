"""Limits of what a command may use, set before the command begins and read off how it ended.

May import: orchestration.errors, pydantic, stdlib.

The limits are the kernel's own (`setrlimit`). They are set by a small program that then becomes the command (`exec`):
the command never runs without them, nothing is done between fork and exec of this process, and its process id stays the
same. They hold for each process of the command alone, not for their sum; `processes` counts all processes of the user
and does not hold for root.

Whether a command that failed ran into a limit: two limits end it with a signal of their own, SIGXCPU and SIGXFSZ, and
that is certain. With the others a system call fails inside the program, and what it does about that is its own affair;
there the words it left on standard error are looked at, and the message says so.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from orchestration.errors import AttemptFailedError

_MEBIBYTE = 1024 * 1024

_LAUNCHER = """\
import os, resource, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
for name, soft, hard in (item.split(":") for item in sys.argv[1].split(",")):
    kind = getattr(resource, name)
    most = resource.getrlimit(kind)[1]
    soft, hard = int(soft), int(hard)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))
try:
    os.execv(sys.argv[2], sys.argv[3:])
except OSError as exc:
    sys.stderr.write(f"{sys.argv[2]} can't be started: {exc.strerror}\\n")
    os._exit(126)
"""

_SIGNALS = {signal.SIGXCPU: "cpu_seconds", signal.SIGXFSZ: "file_size_mb"}
"""Signals that only a limit sends."""

_WORDS = {
    "memory_mb": (
        *("cannot allocate memory", "can't allocate", "memoryerror", "out of memory", "bad_alloc"),
        *("memory exhausted", "not enough memory", "failed to map segment", "virtual memory exhausted"),
    ),
    "file_size_mb": ("file too large", "file size limit exceeded"),
    "open_files": ("too many open files",),
    "processes": ("resource temporarily unavailable", "cannot fork", "can't fork", "can't start new thread"),
    "cpu_seconds": ("cpu time limit exceeded",),
}
"""What programs say when a limit lets a call of theirs fail."""


class CommandLimits(BaseModel):
    """Most of each that one process of a command may use."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    memory_mb: Annotated[int, Field(ge=1, le=16 * 1024 * 1024)] | None = None
    """Address space, in MiB. Some programs reserve far more than they use."""
    cpu_seconds: Annotated[int, Field(ge=1)] | None = None
    """Time on a processor; waiting doesn't count."""
    file_size_mb: Annotated[int, Field(ge=1, le=1024 * 1024 * 1024)] | None = None
    """Size of any file it writes, in MiB."""
    open_files: Annotated[int, Field(ge=3)] | None = None
    """Files open at once."""
    processes: Annotated[int, Field(ge=1)] | None = None
    """Processes and threads the user may have at once, those outside the command included; not for root."""

    @property
    def declared(self) -> dict[str, int]:
        """Return the limits there are, by name."""
        found: dict[str, int] = self.model_dump(exclude_none=True)
        return found

    def launching(self, program: str, argv: Sequence[str]) -> list[str]:
        """Return the argv of what sets the limits and then becomes the program.

        Args:
            program: Path of the program.
            argv: Its arguments, its own name first.
        """
        numbers = {
            "RLIMIT_AS": _scaled(self.memory_mb),
            "RLIMIT_CPU": self.cpu_seconds,
            "RLIMIT_FSIZE": _scaled(self.file_size_mb),
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_NPROC": self.processes,
        }
        # A second after SIGXCPU, which can be ignored, comes SIGKILL.
        told = [
            f"{name}:{number}:{number + (name == 'RLIMIT_CPU')}"
            for name, number in numbers.items()
            if number is not None
        ]
        if not told:
            return list(argv)
        return [sys.executable, "-I", "-S", "-c", _LAUNCHER, ",".join(told), program, *argv]

    def failure(self, tool: str, exit_code: int, stderr: str) -> AttemptFailedError | None:
        """Return the failure of a command that ran into a limit; None where nothing says that it did.

        Args:
            tool: The command's name.
            exit_code: Negative: the number of the signal that ended it.
            stderr: The end of what it wrote to standard error.
        """
        declared = self.declared
        number = -exit_code if exit_code < 0 else exit_code - 128
        for fatal, name in _SIGNALS.items():
            if name in declared and number == fatal:
                how = f"was ended by {fatal.name}: it went over its limit"
                return _failure(tool, how, name, declared[name], was_cut_off=True)
        last = stderr[-2000:].lower()
        for name, words in _WORDS.items():
            if name in declared and any(word in last for word in words):
                how = f"ended with exit code {exit_code}; by its own words it ran into its limit"
                return _failure(tool, how, name, declared[name], was_cut_off=exit_code < 0)
        if number == signal.SIGKILL and "cpu_seconds" in declared:
            return AttemptFailedError(
                f"Command {tool!r} was ended by SIGKILL, as it is a second over its limit cpu_seconds: "
                f"{declared['cpu_seconds']}, or when the machine runs out of memory.",
                "command_failed",
                effect_open=True,
            )
        return None


def _scaled(mebibytes: int | None) -> int | None:
    return None if mebibytes is None else mebibytes * _MEBIBYTE


def _failure(tool: str, how: str, name: str, limit: int, *, was_cut_off: bool) -> AttemptFailedError:
    return AttemptFailedError(
        f"Command {tool!r} {how} {name}: {limit}. Fix: give it less to do, or raise the limit in its declaration.",
        "resource_limit",
        retryable=False,
        effect_open=was_cut_off,
    )
