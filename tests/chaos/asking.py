"""A process that asks for one thing and says what became of it; it may be killed on the way.

    python -m tests.chaos.asking DATABASE pause|resume|cancel|retry ID
    python -m tests.chaos.asking DATABASE decide ID TASK retry|done|failed

The answer is one JSON object on stdout: `outcome` is `done`, `refused` or `pending`; `is_stored` says whether the
request lies in the shared inbox, where its answer is found, too.
"""

from __future__ import annotations

import argparse
import json
import os

import anyio

from orchestration.errors import ControlPendingError, OrchestrationError
from orchestration.models import OrchestrationId
from orchestration.ports import ControlAction, ControlRequest
from storage import SqliteStorage
from tests.chaos.worker import orchestrator_over


class NotingStorage(SqliteStorage):
    """Notes whether a request of this process lies in the inbox."""

    stored = 0

    async def send_control(
        self, orchestration_id: OrchestrationId, request: ControlRequest, *, sent_at_us: int
    ) -> int:
        """Store a request."""
        control_id = await super().send_control(orchestration_id, request, sent_at_us=sent_at_us)
        self.stored += 1
        return control_id

    async def withdraw_control(self, control_id: int) -> bool:
        """Take a request back."""
        is_withdrawn = await super().withdraw_control(control_id)
        self.stored -= is_withdrawn
        return is_withdrawn


async def ask(database: str, orchestration_id: str, request: ControlRequest, lease_seconds: float) -> None:
    """Ask, and say what became of it."""
    storage = NotingStorage(database)
    orchestrator = orchestrator_over(storage, lease_seconds)
    outcome = "done"
    try:
        await orchestrator.control(orchestration_id, request)
    except ControlPendingError:
        outcome = "pending"
    except OrchestrationError as exc:
        outcome = f"refused: {type(exc).__name__}: {exc}"
    # One write, so that whoever kills this process finds all of it or nothing.
    told = {"action": request.action.value, "outcome": outcome, "is_stored": storage.stored > 0}
    os.write(1, f"{json.dumps(told)}\n".encode())
    await orchestrator.aclose()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.asking")
    parser.add_argument("database")
    parser.add_argument("action", choices=[action.value for action in ControlAction])
    parser.add_argument("id")
    parser.add_argument("task", nargs="?")
    parser.add_argument("decision", nargs="?", choices=("retry", "done", "failed"))
    parser.add_argument("--lease", type=float, default=15.0)
    arguments = parser.parse_args()
    request = ControlRequest(
        action=ControlAction(arguments.action),
        task_ids=(arguments.task,) if arguments.task else (),
        decision=arguments.decision,
        output={"number": 0} if arguments.decision == "done" else None,
    )
    anyio.run(ask, arguments.database, arguments.id, request, arguments.lease)


if __name__ == "__main__":
    main()
