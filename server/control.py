"""What both faces need around control requests: a cancel that refuses in words, and who drives afterwards.

May import: orchestration.{errors, models, orchestrator}, stdlib.
"""

from __future__ import annotations

from orchestration.errors import NotPossibleError, OrchestrationNotFoundError
from orchestration.models import OrchestrationId, OrchestrationStatus
from orchestration.orchestrator import AdvancedTaskOrchestrator


async def cancel(
    orchestrator: AdvancedTaskOrchestrator, orchestration_id: OrchestrationId, reason: str
) -> None:
    """Ask for an orchestration to be ended.

    Raises:
        OrchestrationNotFoundError: There is no such orchestration.
        NotPossibleError: It has ended, or is ending, already; says what can be done with it.
        ControlPendingError: Its driver has not answered yet; the request stays stored.
    """
    if await orchestrator.cancel_orchestration(orchestration_id, reason):
        return
    state = OrchestrationStatus((await orchestrator.load_status(orchestration_id))["state"])
    match state:
        case OrchestrationStatus.COMPLETED:
            possible = "It can be read."
        case OrchestrationStatus.CANCELLING:
            possible = "It ends as soon as its running attempts have stopped."
        case _:
            possible = "It can be read, or retried."
    raise NotPossibleError(f"Orchestration {orchestration_id!r}", state, "cancelled", possible)


def is_driven_here(orchestrator: AdvancedTaskOrchestrator, orchestration_id: OrchestrationId) -> bool:
    """Whether this process drives an orchestration, or drove it last."""
    try:
        orchestrator.get_orchestration_status(orchestration_id)
    except OrchestrationNotFoundError:
        return False
    return True
