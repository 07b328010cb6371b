"""Whether what workers reported done was found to be, as events tell it.

May import: orchestration.claim_records, orchestration.engine.{events, state}, orchestration.execution.acceptance,
stdlib.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestration.claim_records import ClaimOutcome
from orchestration.engine.events import AttemptFailed, AttemptLeftOpen, AttemptSucceeded, Recorded
from orchestration.engine.state import State
from orchestration.execution.acceptance import NOT_ACCEPTED


def claim_outcomes_in(state: State, events: Iterable[Recorded]) -> list[ClaimOutcome]:
    """Return what events say of claims: that they were accepted, or why not."""
    found = []
    for recorded in events:
        event = recorded.event
        if not isinstance(event, AttemptSucceeded | AttemptFailed | AttemptLeftOpen):
            continue
        known = state.tasks[event.task_id].claimed
        if known is None or known[0] != event.attempt:
            continue  # no worker's; and what was refused may go on elsewhere in the same batch
        if isinstance(event, AttemptSucceeded):
            found.append(ClaimOutcome(claim_id=known[1], is_accepted=True))
        elif event.error.code == NOT_ACCEPTED:
            found.append(ClaimOutcome(claim_id=known[1], is_accepted=False, reason=event.error.message))
    return found
