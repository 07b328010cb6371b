"""A system that is declared and can't run: it is there, and says why.

May import: orchestration.{errors, models, ports}, orchestration.systems.base, stdlib.

One bad entry of a configuration (a missing secret, a transport nobody speaks) must not keep the others from starting.
It becomes one of these: tasks that name it fail with its reason, `systems --check` and `doctor` show the same words.
"""

from __future__ import annotations

from typing import NoReturn

from orchestration.errors import SystemUnavailableError
from orchestration.models import TaskNode
from orchestration.ports import AttemptRequest, Health, ToolInfo
from orchestration.systems.base import bounded, short_hash

MAX_REASON_CHARS = 500


class UnusableSystemError(SystemUnavailableError):
    """The system is declared, and can't run until its configuration is put right; repeating can't help."""

    retryable = False

    def __str__(self) -> str:
        return f"System {self.system!r} can't run: {self.reason}"


class UnusableSystem:
    """A system that fails every attempt with the reason it can't run.

    Args:
        name: The system's name.
        kind: What it would be.
        reason: Why it can't run, as a sentence with what to do; holds no secret.
    """

    def __init__(self, name: str, kind: str, reason: str) -> None:
        self.name = name
        self.kind = kind
        self.reason = bounded(reason, MAX_REASON_CHARS)

    async def open(self) -> None:
        """Nothing: there is nothing to prepare."""

    async def aclose(self) -> None:
        """Nothing: nothing was opened."""

    async def list_tools(self) -> list[ToolInfo]:
        """Say why it has none.

        Raises:
            UnusableSystemError: Always.
        """
        self._refuse()

    async def choose_tool(self, task: TaskNode) -> str | None:  # noqa: ARG002  (the port's signature)
        """Say why there is none to choose.

        Raises:
            UnusableSystemError: Always.
        """
        self._refuse()

    def takes_inputs(self, tool: str | None) -> bool:  # noqa: ARG002  (the port's signature)
        """Nothing need be loaded for what will not run."""
        return False

    def fingerprint(self, tool: str | None) -> str:  # noqa: ARG002  (it has no tools)
        """Return what changes when another reason keeps it from running: never that of a system that runs."""
        return short_hash(["unusable", self.kind, self.reason])

    async def execute(self, request: AttemptRequest) -> object:  # noqa: ARG002  (no attempt is begun)
        """Fail the attempt; it is not retried, and nothing is left open.

        Raises:
            UnusableSystemError: Always.
        """
        self._refuse()

    async def check(self) -> Health:
        """Answer with the reason."""
        return Health(ok=False, detail=self.reason)

    def _refuse(self) -> NoReturn:
        raise UnusableSystemError(self.name, self.reason)
