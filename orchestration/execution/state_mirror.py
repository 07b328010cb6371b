"""Sends status summaries to a collaborator that only has `set_state`, best effort: its faults never matter.

May import: orchestration.{clock, models}, orchestration.execution.collaborator, stdlib.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestration.clock import Clock
from orchestration.execution.collaborator import Collaborator
from orchestration.models import OrchestrationId

_PATIENCE_SECONDS = 1.0
"""Longest wait for one summary to be taken."""


class StateMirror:
    """Hands summaries to `set_state("orchestration:ID", summary)`.

    Args:
        state_manager: Has `set_state(key, value)`, plain or async.
        clock: Where time comes from.
    """

    def __init__(self, state_manager: object, clock: Clock | None = None) -> None:
        self.collaborator = Collaborator("state_manager", state_manager, clock)

    async def send(self, orchestration_id: OrchestrationId, summary: Mapping[str, Any]) -> None:
        """Hand one summary over; never raises."""
        key = f"orchestration:{orchestration_id}"
        await self.collaborator.call("set_state", key, dict(summary), seconds=_PATIENCE_SECONDS)
