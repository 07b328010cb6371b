"""The inbox that the storage in memory keeps: requests to whoever drives, and what became of them.

May import: orchestration.{models, ports, execution.storage_rules}, stdlib.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.execution.storage_rules import ANSWERS_KEPT_US, check_answer
from orchestration.models import OrchestrationId
from orchestration.ports import ControlAnswer, ControlRequest, PendingControl


@dataclass(slots=True)
class _Control:
    """A request, and what became of it."""

    pending: PendingControl
    answer: ControlAnswer | None = None
    answered_at_us: int = 0


class MemoryInbox:
    """Requests by their ids, oldest first."""

    def __init__(self) -> None:
        self._controls: dict[int, _Control] = {}
        self._last = 0

    def send(self, orchestration_id: OrchestrationId, request: ControlRequest, sent_at_us: int) -> int:
        """Store a request, and return its id."""
        self._last += 1
        pending = PendingControl(
            control_id=self._last,
            orchestration_id=orchestration_id,
            request=copy.deepcopy(request),
            sent_at_us=sent_at_us,
        )
        self._controls[self._last] = _Control(pending)
        return self._last

    def pending(self) -> list[PendingControl]:
        """Return what nobody has answered, oldest first."""
        return [copy.deepcopy(each.pending) for each in self._controls.values() if each.answer is None]

    def answer_of(self, control_id: int) -> ControlAnswer | None:
        """Return what became of a request; None while nobody has answered it, or when there is none."""
        control = self._controls.get(control_id)
        return None if control is None else control.answer

    def withdraw(self, control_id: int) -> bool:
        """Take a request back, unless it was answered; say whether it was."""
        if self._unanswered(control_id) is None:
            return False
        del self._controls[control_id]
        return True

    def check(self, answers: Sequence[ControlAnswer], answering: OrchestrationId) -> None:
        """Check that requests are answered by the orchestration they were sent to; see `check_answer`."""
        for answer in answers:
            control = self._unanswered(answer.control_id)
            if control is not None:
                check_answer(answer, answering, of=control.pending.orchestration_id)

    def answer(self, answers: Sequence[ControlAnswer], at_us: int) -> None:
        """Store what became of requests; no answer is older than its request."""
        for answer in answers:
            control = self._unanswered(answer.control_id)
            if control is not None:
                control.answer = answer
                control.answered_at_us = max(at_us, control.pending.sent_at_us)

    def forget_orchestration(self, orchestration_id: OrchestrationId) -> None:
        """Remove every request to an orchestration."""
        self._controls = {
            control_id: control
            for control_id, control in self._controls.items()
            if control.pending.orchestration_id != orchestration_id
        }

    def forget_answers(self, now_us: int) -> None:
        """Remove what was answered so long ago that nobody waits for it."""
        self._controls = {
            control_id: control
            for control_id, control in self._controls.items()
            if control.answer is None or control.answered_at_us > now_us - ANSWERS_KEPT_US
        }

    def _unanswered(self, control_id: int) -> _Control | None:
        control = self._controls.get(control_id)
        return None if control is None or control.answer is not None else control
