"""What a driver that died left running is ended by another process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from orchestration.systems.leftovers import end_leftovers
from orchestration.systems.marked_processes import DRIVER_VARIABLE, MARK_VARIABLE
from tests.systems.support import Started, is_alive, started_processes

pytestmark = pytest.mark.anyio

INSTANCE = f"driver-{os.getpid()}"

HEIR = "import anyio; from orchestration.systems.leftovers import end_leftovers; print(anyio.run(end_leftovers, '{}'))"
"""A program that ends the leftovers of a driver."""


@pytest.fixture
def started() -> Iterator[Started]:
    with started_processes() as processes:
        yield processes


async def test_every_process_of_the_driver_is_ended_and_no_other(started: Started) -> None:
    """Its commands, and those of a command that ran this program again; not what belongs to another driver."""
    own = [started.start({DRIVER_VARIABLE: INSTANCE, MARK_VARIABLE: mark}) for mark in ("m1", "m2", "x.m3")]
    nested = started.start({DRIVER_VARIABLE: "inner", MARK_VARIABLE: "x.m3.m4"})
    others = [
        started.start({DRIVER_VARIABLE: f"{INSTANCE}0", MARK_VARIABLE: "m9"}),
        started.start({DRIVER_VARIABLE: "inner", MARK_VARIABLE: "x.m5"}),
        started.start({}),
    ]

    ended = await end_leftovers(INSTANCE, grace_seconds=1)

    assert ended == 4
    assert not any(is_alive(pid) for pid in [*own, nested])
    assert all(is_alive(pid) for pid in others)
    assert await end_leftovers(INSTANCE) == 0


async def test_whoever_has_no_name_has_left_nothing(started: Started) -> None:
    """An empty instance is no driver, though the variable may be empty somewhere."""
    pid = started.start({DRIVER_VARIABLE: "", MARK_VARIABLE: "m"})

    assert await end_leftovers("") == 0
    assert is_alive(pid)


def test_a_command_of_the_driver_ends_neither_itself_nor_its_line(started: Started) -> None:
    """The heir may be started by the very driver it inherits from: its parent and its children live, others do not."""
    sibling = started.start({DRIVER_VARIABLE: INSTANCE, MARK_VARIABLE: "m1"})
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        DRIVER_VARIABLE: INSTANCE,
        MARK_VARIABLE: "m2",
    }
    script = 'sleep 300 & "$1" -c "$2"; code=$?; echo $!; exit $code'

    ended = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, own_child(HEIR.format(INSTANCE))],
        env=env,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    count, child, pid = ended.stdout.splitlines()
    assert (count, child) == ("2", "own child lived")
    assert not is_alive(sibling)
    assert not is_alive(int(pid))


def own_child(program: str) -> str:
    """Return a program that has a child meanwhile, and says whether it lived."""
    return (
        "import subprocess, sys; child = subprocess.Popen(['sleep', '300'])\n"
        f"{program}\n"
        "print('own child lived' if child.poll() is None else 'own child died'); child.kill(); child.wait()"
    )


async def test_without_proc_nothing_is_found(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other platforms have no such folder; nothing is guessed there."""
    pid = started.start({DRIVER_VARIABLE: INSTANCE, MARK_VARIABLE: "m1"})

    def missing(path: str) -> NoReturn:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "scandir", missing)

    assert await end_leftovers(INSTANCE) == 0
    assert is_alive(pid)
