"""What goes over the wire when agents are given work and report of it: the answers of `claim_task` and `report_task`.

May import: server.schemas, orchestration.models, stdlib.
"""

from __future__ import annotations

from typing import Literal

from orchestration.models import JsonObject
from server.schemas import UNLISTED, Answer


class ClaimAnswer(Answer):
    """Answer of `claim_task`; without a claim there was nothing to give out, and the message says why."""

    claim: str | None = None
    brief: str | None = None
    lease_seconds: float | None = None
    """How long it holds without a report."""
    task: str | None = UNLISTED
    orchestration_id: str | None = UNLISTED
    attempt: int | None = UNLISTED
    offers: JsonObject | None = UNLISTED
    """Without a claim: how many are open and claimed, what this worker lacks."""
    yours: dict[str, str] | None = UNLISTED
    """Without a claim: those it holds already, with their tasks."""


class ReportAnswer(Answer):
    """Answer of `report_task`."""

    outcome: Literal["accepted", "stale"]
    """`stale`: it is another's by now, or not wanted any more; what was sent is kept as a note."""
    unblocked: list[str] | None = None
    """Tasks that may begin now."""
    lease_seconds: float | None = UNLISTED
    """Where the task is still its worker's: for how long, without a report."""
    verified: bool | None = UNLISTED
    """Of what was reported done: whether it was found to be; absent while nobody has looked."""
    late: bool | None = UNLISTED
    """True when the lease had run out, and nobody else had taken the task."""
    repeated: bool | None = UNLISTED
    """True when the claim had ended before: nothing was done now."""
    reason: str | None = UNLISTED
    """Why it is stale, or was not found to be done."""
    holder: str | None = UNLISTED
    """Who has the task now."""
    task: str | None = UNLISTED
    orchestration_id: str | None = UNLISTED
    state: str | None = UNLISTED
    """Of the orchestration, once the task is not its worker's any more."""
    counts: dict[str, int] | None = UNLISTED
