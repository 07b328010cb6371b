"""Sends status summaries to a collaborator that only has `set_state`, best effort: its faults never matter.

May import: orchestration.logs, anyio, stdlib.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import anyio

from orchestration.logs import get_logger
from orchestration.models import OrchestrationId

log = get_logger()

_PATIENCE_SECONDS = 1.0
"""Longest wait for one summary to be taken."""


class StateMirror:
    """Hands summaries to `set_state("orchestration:ID", summary)`.

    Args:
        state_manager: Has `set_state(key, value)`, plain or async.
    """

    def __init__(self, state_manager: Any) -> None:
        self._state_manager = state_manager
        self.failures = 0
        """Summaries that could not be handed over."""

    async def send(self, orchestration_id: OrchestrationId, summary: Mapping[str, Any]) -> None:
        """Hand one summary over; never raises."""
        with anyio.move_on_after(_PATIENCE_SECONDS) as scope:
            try:
                answer = self._state_manager.set_state(f"orchestration:{orchestration_id}", dict(summary))
                if inspect.isawaitable(answer):
                    await answer
            except Exception as exc:  # noqa: BLE001  a collaborator's fault never fails an orchestration
                self._count(orchestration_id, repr(exc))
        if scope.cancelled_caught:
            self._count(orchestration_id, f"took longer than {_PATIENCE_SECONDS:g} s")

    def _count(self, orchestration_id: OrchestrationId, reason: str) -> None:
        self.failures += 1
        log.warning(
            "The state manager did not take a summary",
            operation="STATE_MANAGER_FAILED",
            orchestration_id=orchestration_id,
            reason=reason,
        )
