"""Processes told by their environment."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.systems.marked_processes import (
    MARK_VARIABLE,
    carries_any_part,
    carries_mark,
    end_processes,
    find_processes,
    new_mark,
    variable,
)
from tests.systems.support import Started, is_alive, pids_in, started_processes, until

pytestmark = pytest.mark.anyio

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(300)
"""
"""Lives on after SIGTERM."""


@pytest.fixture
def started() -> Iterator[Started]:
    with started_processes() as processes:
        yield processes


def test_a_variable_is_found_by_its_whole_name() -> None:
    """Not as the end of another one, nor in a value; one that is not there is empty."""
    environment = b"XA=1\0TEXT=A=2\0A=three\0LAST=4\0"

    assert variable(environment, "A") == "three"
    assert variable(environment, "LAST") == "4"
    assert variable(environment, "XA") == "1"
    assert variable(environment, "B") == ""
    assert variable(b"A=first\0", "A") == "first"
    assert variable(b"", "A") == ""


def test_a_mark_is_new_each_time_and_stands_behind_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs this program again is known by its own mark, and as part of the outer one."""
    plain = new_mark()
    monkeypatch.setenv(MARK_VARIABLE, "outer")
    nested = new_mark()

    environment = f"{MARK_VARIABLE}={nested}\0".encode()
    assert "." not in plain
    assert len({plain, nested, new_mark()}) == 3
    assert carries_mark(nested)(environment)
    assert not carries_mark("outer")(environment)
    assert carries_any_part(["outer"])(environment)
    assert carries_any_part([nested])(environment)
    assert not carries_any_part([plain])(environment)
    assert not carries_any_part([])(environment)
    assert not carries_any_part([plain])(b"")


async def test_processes_are_found_by_their_mark_alone(started: Started) -> None:
    """Those of another mark, and those without one, are not."""
    mark, other = new_mark(), new_mark()
    pids = {started.start({MARK_VARIABLE: mark}), started.start({MARK_VARIABLE: mark})}
    started.start({MARK_VARIABLE: other})

    found = await find_processes(carries_mark(mark))

    assert set(found) == pids
    assert set(await find_processes(carries_mark(mark), list(pids)[:1])) == set(list(pids)[:1])


async def test_sigterm_comes_first_and_what_ignores_it_is_killed(started: Started) -> None:
    """Each is ended and counted once; the spared one lives."""
    mark = new_mark()
    kind = started.start({MARK_VARIABLE: mark})
    stubborn = started.start({MARK_VARIABLE: mark}, sys.executable, "-c", STUBBORN)
    spared = started.start({MARK_VARIABLE: mark})

    ended = await end_processes(carries_mark(mark), grace_seconds=0.3, spares=lambda pid: pid == spared)

    assert ended == {kind, stubborn}
    assert not is_alive(kind)
    assert not is_alive(stubborn)
    assert is_alive(spared)
    assert (started.signal_of(kind), started.signal_of(stubborn)) == (signal.SIGTERM, signal.SIGKILL)


async def test_what_is_born_while_others_end_is_ended_too(tmp_path: Path, started: Started) -> None:
    """A program that starts another one when it is told to end does not save it."""
    pids = tmp_path / "pids"
    script = (
        'trap \'setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $! > "$1.new"; mv "$1.new" "$1"; exit\' TERM;'
        " echo ready; while :; do sleep 0.02; done"
    )
    mark = new_mark()
    parent = started.start({MARK_VARIABLE: mark}, "sh", "-c", script, "sh", str(pids))

    ended = await end_processes(carries_mark(mark), grace_seconds=2)
    await until(lambda: not is_alive(parent))

    assert {parent, *pids_in(pids)} <= ended
    assert not any(is_alive(pid) for pid in pids_in(pids))


async def test_where_nothing_is_found_nothing_is_waited_for() -> None:
    """Neither for the grace nor for anything else."""
    assert await end_processes(carries_mark(new_mark()), grace_seconds=60) == set()
