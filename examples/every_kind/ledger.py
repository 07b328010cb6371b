"""What the parts of the example leave behind, for whoever counts: a line when work begins, another when it is done.

May import: stdlib. Every process of the example writes into the same file, `ledger` in the folder that the variable
`EVERY_KIND_HOME` names. Between the two lines a piece of work waits for as long as `hold/<its name>` is there: that is
how one can be killed in its middle, every time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HELD_SECONDS = 60.0
"""Longest wait: a hold that nobody takes away must not keep a process for ever."""


@contextmanager
def work(name: str) -> Iterator[None]:
    """Note that a piece of work begins, hold it where it is to be held, and note at the end that it is done.

    Args:
        name: The task it is for.
    """
    home = Path(os.environ["EVERY_KIND_HOME"])
    note(home, name, "began")
    yield
    held = home / "hold" / name
    until = time.monotonic() + HELD_SECONDS
    while held.exists() and time.monotonic() < until:
        time.sleep(0.01)
    note(home, name, "done")


def note(home: Path, name: str, what: str) -> None:
    """Append a line: what happened, to which task, in which process."""
    with (home / "ledger").open("a", encoding="utf-8") as lines:
        lines.write(f"{what} {name} {os.getpid()}\n")


def noted(home: Path, name: str, what: str) -> list[int]:
    """Return the processes that noted this, in order."""
    ledger = home / "ledger"
    if not ledger.exists():
        return []
    lines = (
        line.split()
        for line in ledger.read_text(encoding="utf-8").splitlines(keepends=True)
        if line.endswith("\n")
    )
    return [int(pid) for happened, task, pid in lines if (happened, task) == (what, name)]
