"""What the tasks of the chaos tests do: they leave a line outside of the database, and take their time.

A line is `task#attempt#idempotency key`, appended in one write, so that what happened is known whoever died when. Where
to is said by the environment: the same functions run in the library's workers and under the real command line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import anyio

from orchestration import FunctionSystem
from orchestration.errors import AttemptFailedError

EFFECTS = "CHAOS_EFFECTS"
"""The environment variable that names the file of effects."""

on_effect: Callable[[], None] = lambda: None  # noqa: E731  a place to put a call
"""Called after each effect; what dies of one puts itself here."""


def leave_trace(attempt_id: str, idempotency_key: str) -> None:
    """Append one line to the file of effects."""
    descriptor = os.open(os.environ[EFFECTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{attempt_id}#{idempotency_key}\n".encode())
    finally:
        os.close(descriptor)
    on_effect()


def traces(path: Path) -> list[str]:
    """Return the lines of the file of effects."""
    return path.read_text(encoding="utf-8").split() if path.exists() else []


async def act(
    attempt_id: str, idempotency_key: str, before: float = 0.0, after: float = 0.0, number: int = 0
) -> dict[str, int]:
    """Take effect, some time after the start and some before the end."""
    await anyio.sleep(before)
    leave_trace(attempt_id, idempotency_key)
    await anyio.sleep(after)
    return {"number": number}


def act_on_a_thread(
    attempt_id: str, idempotency_key: str, before: float = 0.0, after: float = 0.0, number: int = 0
) -> dict[str, int]:
    """The same where nothing can stop it."""
    time.sleep(before)
    leave_trace(attempt_id, idempotency_key)
    time.sleep(after)
    return {"number": number}


async def act_at_last(attempt_id: str, idempotency_key: str, failures: int = 1) -> str:
    """Fail a few times without an effect, then take it."""
    attempt = int(attempt_id.rpartition("#")[2])
    if attempt <= failures:
        raise AttemptFailedError(
            f"attempt {attempt} is one of the first {failures}", "too_early", retryable=True
        )
    leave_trace(attempt_id, idempotency_key)
    return "at last"


async def act_and_break_off(attempt_id: str, idempotency_key: str) -> None:
    """Take effect, and end as if the connection were lost."""
    leave_trace(attempt_id, idempotency_key)
    raise ConnectionResetError("the line went dead")


async def act_with_signs_of_life(
    attempt_id: str, idempotency_key: str, heartbeat: Callable[[], None], beats: int = 3
) -> str:
    """Say now and then that the work goes on."""
    for _ in range(beats):
        heartbeat()
        await anyio.sleep(0.05)
    leave_trace(attempt_id, idempotency_key)
    return "alive"


async def fail() -> None:
    """Fail for good, without an effect."""
    raise AttemptFailedError("it was meant to", "meant_to", retryable=False)


async def did_it_happen(idempotency_key: str) -> str:
    """Look into the file of effects whether a task has left a line under its present key."""
    lines = traces(Path(os.environ[EFFECTS]))
    return "done" if any(line.endswith(f"#{idempotency_key}") for line in lines) else "not_done"


FUNCTIONS = (
    act,
    act_on_a_thread,
    act_at_last,
    act_and_break_off,
    act_with_signs_of_life,
    fail,
    did_it_happen,
)


def system() -> FunctionSystem:
    """Return the system these functions make; under the command line a configuration file makes the same."""
    return FunctionSystem({function.__name__: function for function in FUNCTIONS}, "python")


def configuration(lease_seconds: float) -> str:
    """Return a configuration file that makes the same system."""
    lines = [f'      {function.__name__}: "{__name__}:{function.__name__}"' for function in FUNCTIONS]
    return "\n".join(
        [
            "sequential_thinking: in-process",
            f"storage: {{lease_seconds: {lease_seconds}}}",
            "advanced_orchestration: {max_concurrent_tasks: 3}",
            "systems:",
            "  python:",
            "    kind: function",
            "    functions:",
            *lines,
            "",
        ]
    )
