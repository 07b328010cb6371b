"""Runs one command through a `CommandSystem` until its own process is killed.

    python left_parent.py INSTANCE PIDS

The command is the one of `left_command.py`; the driver it runs for is called INSTANCE.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from orchestration.models import TaskNode
from orchestration.ports import AttemptRequest
from orchestration.systems.command import CommandSpec, CommandSystem

COMMAND = Path(__file__).with_name("left_command.py")


def spawning(pids: str, timeout_seconds: float | None = None) -> CommandSpec:
    """Return the spreading command as it is declared."""
    argv = [sys.executable, "-I", "-S", str(COMMAND), pids]
    return CommandSpec(argv=argv, timeout_seconds=timeout_seconds)


async def main(instance: str, pids: str) -> None:
    """Run the command; it ends with this process only."""
    request = AttemptRequest(
        orchestration_id="left-1",
        task=TaskNode("spawn"),
        attempt=1,
        idempotency_key="left-1:spawn:1",
        tool="spawn",
        arguments={},
        driver=instance,
    )
    await CommandSystem({"spawn": spawning(pids)}).execute(request)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
