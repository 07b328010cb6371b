"""The calling agent as a system: its tasks are offered, and whoever claims one does it.

May import: orchestration.{errors, models, ports}, stdlib.

There is one in every orchestrator, under the name `agent`. The engine offers its tasks instead of starting attempts
(`orchestration/engine/claims.py`), so nothing is ever executed here: this class says what an agent can be asked, which
is anything, and how long a claim holds.
"""

from __future__ import annotations

from typing import NoReturn

from orchestration.errors import AttemptFailedError, InvalidArgumentError
from orchestration.models import AGENT, TaskNode
from orchestration.ports import AttemptRequest, Health, ToolInfo

LEASE_SECONDS = 300.0
"""How long a claim holds without a report, unless configured: a model may think for minutes between two calls."""


class AgentSystem:
    """A system made of whoever asks for work.

    Args:
        lease_seconds: How long a claim holds without a report; a task's `heartbeat_timeout_seconds` goes first.

    Raises:
        InvalidArgumentError: The lease is not a positive number of seconds.
    """

    kind = "agent"

    def __init__(self, *, lease_seconds: float = LEASE_SECONDS) -> None:
        if not 0 < lease_seconds <= 7 * 24 * 3600:
            raise InvalidArgumentError("lease_seconds", lease_seconds, "seconds, more than 0, at most a week")
        self.name = AGENT
        self.lease_seconds = lease_seconds

    async def open(self) -> None:
        """Nothing to prepare."""

    async def aclose(self) -> None:
        """Nothing to release: offers stay until somebody takes them."""

    async def list_tools(self) -> list[ToolInfo]:
        """Return nothing: an agent is asked in words."""
        return []

    async def choose_tool(self, task: TaskNode) -> str | None:
        """Return the tool the task names, which is told to the worker; it needs none."""
        return task.tool

    def takes_inputs(self, tool: str | None) -> bool:  # noqa: ARG002  (the port's signature)
        """Whether a worker is told what came from upstream: always."""
        return True

    def fingerprint(self, tool: str | None) -> str:  # noqa: ARG002  (the port's signature)
        """Return what changes when tasks of it come to mean something else, which never happens."""
        return self.kind  # empty would say that it has no such tool

    async def check(self) -> Health:
        """Say that tasks can be offered; whether somebody takes them is known when somebody does."""
        return Health(ok=True, detail="offers its tasks to whoever calls claim_task")

    async def execute(self, request: AttemptRequest) -> NoReturn:
        """Refuse: tasks of this system are offered, not run.

        Raises:
            AttemptFailedError: Always.
        """
        message = f"Task {request.task.task_id!r} is an agent's: it is offered, and claimed with claim_task."
        raise AttemptFailedError(message, "offered_only", retryable=False)
