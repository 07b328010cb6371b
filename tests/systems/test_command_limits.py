"""Limits of what a command may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestration.systems.command import CommandLimits, CommandSpec, CommandSystem
from tests.systems.support import a_request, failure_of

pytestmark = pytest.mark.anyio


def python(script: str, **limits: int) -> CommandSystem:
    """Return a system of one command, `c`, that runs a script within limits."""
    return CommandSystem(
        {"c": CommandSpec(argv=[sys.executable, "-c", script], limits=CommandLimits(**limits))}
    )


def sh(script: str, *more: str, **limits: int) -> CommandSystem:
    """Return a system of one command, `c`, that runs a shell script within limits."""
    return CommandSystem(
        {"c": CommandSpec(argv=["sh", "-c", script, "sh", *more], limits=CommandLimits(**limits))}
    )


async def test_the_limits_hold_from_the_beginning() -> None:
    """For the command itself, which keeps its arguments, its standard streams and its process id."""
    script = (
        "import resource as r, sys; print([r.getrlimit(k) for k in"
        " (r.RLIMIT_AS, r.RLIMIT_CPU, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE)])"
    )
    system = python(script, memory_mb=512, cpu_seconds=7, file_size_mb=3, open_files=30)

    output: Any = await system.execute(a_request("c"))

    mib = 1024 * 1024
    assert output["text"].strip() == str([(512 * mib,) * 2, (7, 8), (3 * mib,) * 2, (30, 30)])


async def test_a_command_without_limits_is_started_as_it_is() -> None:
    """An empty declaration costs nothing."""
    assert CommandLimits().launching("/bin/ls", ["ls", "-l"]) == ["ls", "-l"]


@pytest.mark.slow
async def test_a_command_over_its_processor_time_is_ended_and_says_so() -> None:
    """By a signal that only this limit sends."""
    error = await failure_of(sh("while :; do :; done", cpu_seconds=1), a_request("c"))

    assert (error.code, error.retryable, error.effect_open) == ("resource_limit", False, True)
    assert str(error) == (
        "Command 'c' was ended by SIGXCPU: it went over its limit cpu_seconds: 1. "
        "Fix: give it less to do, or raise the limit in its declaration."
    )


async def test_a_command_that_writes_too_large_a_file_is_ended_and_says_so(tmp_path: Path) -> None:
    """The file stays within the limit."""
    path = tmp_path / "file"
    system = sh('exec dd if=/dev/zero of="$1" bs=65536 count=64', str(path), file_size_mb=1)

    error = await failure_of(system, a_request("c"))

    assert (error.code, error.effect_open) == ("resource_limit", True)
    assert "went over its limit file_size_mb: 1" in str(error)
    assert path.stat().st_size == 1024 * 1024


@pytest.mark.parametrize(
    ("script", "limits", "name"),
    [
        ("bytearray(1 << 30)", {"memory_mb": 300}, "memory_mb: 300"),
        ("files = [open('/dev/null') for _ in range(50)]", {"open_files": 20}, "open_files: 20"),
    ],
)
async def test_a_program_that_says_what_it_lacked_is_taken_at_its_word(
    script: str, limits: dict[str, int], name: str
) -> None:
    """Its exit code is an answer, so nothing is open."""
    error = await failure_of(python(script, **limits), a_request("c"))

    assert (error.code, error.retryable, error.effect_open) == ("resource_limit", False, False)
    assert f"ended with exit code 1; by its own words it ran into its limit {name}" in str(error)


async def test_an_ordinary_failure_within_limits_is_none_of_theirs() -> None:
    """And the words of another limit than the declared ones say nothing."""
    error = await failure_of(sh("echo Too many open files >&2; exit 4", memory_mb=300), a_request("c"))

    assert error.code == "command_failed"
    assert CommandLimits(processes=5).failure("c", 1, "sh: Cannot fork") is not None
    assert CommandLimits(processes=5).failure("c", 1, "no luck") is None


async def test_a_kill_that_may_be_the_limits_says_both() -> None:
    """A program can ignore SIGXCPU; then the kernel kills it, as it does when memory is short."""
    failure = CommandLimits(cpu_seconds=3).failure("c", -9, "")

    assert failure is not None
    assert (failure.code, failure.retryable, failure.effect_open) == ("command_failed", True, True)
    assert "a second over its limit cpu_seconds: 3, or when the machine runs out of memory" in str(failure)


async def test_a_missing_program_is_still_told_as_such() -> None:
    """Not as a failure of what sets the limits."""
    spec = CommandSpec(argv=["no-such-program"], limits=CommandLimits(open_files=20))

    error = await failure_of(CommandSystem({"c": spec}), a_request("c"))

    assert error.code == "program_not_found"


@pytest.mark.skipif(os.geteuid() == 0, reason="root has as many processes as it likes")
async def test_a_command_may_start_no_more_processes_than_it_may_have() -> None:
    """Counted over all of the user's."""
    error = await failure_of(sh("sleep 0 & sleep 0 & wait", processes=1), a_request("c"))

    assert "its limit processes: 1" in str(error)


async def test_raising_a_limit_keeps_the_fingerprint() -> None:
    """Who raises it, so that a command can go on, wants it to go on."""
    assert sh("true", memory_mb=1).fingerprint("c") == sh("true", memory_mb=2).fingerprint("c")


async def test_a_limit_without_sense_is_refused() -> None:
    """By name."""
    with pytest.raises(ValidationError, match="memory_mb"):
        CommandLimits(memory_mb=0)
    with pytest.raises(ValidationError, match="disk"):
        CommandLimits(disk=1)  # type: ignore[call-arg]
