"""The engine: `handle(input, now) → Decision(events, effects)`. Every decision of an orchestration is made here.

May import: orchestration.models, orchestration.engine.*, stdlib.
Invariant: replaying the events it gave rebuilds exactly the states it holds.

An engine holds any number of orchestrations because they share its slots. It changes a state only through
`State.evolve`, with the very events it hands out; time and drawn values come in with the inputs. The decisions stand in
`outcomes.py`, `answers.py` and `control.py`, what they are made with in `core.py`.
"""

from __future__ import annotations

from typing import assert_never

from orchestration.engine.control import Control
from orchestration.engine.core import Decision, EngineOptions
from orchestration.engine.events import RetryDue
from orchestration.engine.inputs import (
    AcceptanceAnswer,
    AlternativeFound,
    ApprovalDescribed,
    Approve,
    CacheAnswer,
    Cancel,
    ClaimLooked,
    ClaimTaken,
    DeadlineReached,
    Decide,
    EditPlan,
    GatesChanged,
    Heartbeat,
    Input,
    Interrupt,
    ItemsFound,
    NoAlternative,
    OfferDescribed,
    OutputsGathered,
    Pause,
    PlanEnded,
    PlanGrown,
    ReportCancelled,
    ReportClaim,
    ReportFailure,
    ReportSuccess,
    Resume,
    Retry,
    ReuseResults,
    SlotsFreed,
    TakeOver,
    VerifyAnswer,
)
from orchestration.engine.invariants import check_state
from orchestration.models import ErrorRecord, Json, TaskStatus

__all__ = ["Decision", "Engine", "EngineOptions", "error_value"]


class Engine(Control):
    """Decides for all orchestrations of one driver."""

    def handle(self, item: Input, now_us: int) -> Decision:  # noqa: C901  one flat case per input
        """Decide what an input leads to, and apply it.

        Args:
            item: The input.
            now_us: Wall time; where it is before an orchestration's latest event, its events keep that one's time.

        Returns:
            Events in order, and effects that must wait until these are durable.

        Raises:
            OrchestrationNotFoundError: The engine does not hold the orchestration.
            TaskNotFoundError: The orchestration has no such task.
            NotPossibleError: The request does not fit its state. Nothing was changed.
            RevisionConflictError: It was made for another revision of the plan. Nothing was changed.
            NotPermittedError: Somebody else must say this. Nothing was changed.
        """
        self._now_us = now_us
        decision = self._decision = Decision()
        match item:
            case ReportSuccess():
                self._succeeded(item)
            case ReportFailure():
                self._failed(item)
            case ReportCancelled():
                self._stopped(item)
            case DeadlineReached():
                self._deadline_reached()
            case SlotsFreed():
                pass
            case Heartbeat():
                self._alive(item)
            case Pause():
                self._pause(self._state(item.orchestration_id), item.reason)
            case Resume():
                self._resume(self._state(item.orchestration_id))
            case Cancel():
                self._cancel(self._state(item.orchestration_id), item.reason)
            case Retry():
                self._retry(item)
            case Decide():
                self._decide(item)
            case TakeOver():
                self._take_over(self._state(item.orchestration_id))
            case Interrupt():
                self._interrupt_only(self._state(item.orchestration_id))
            case ReuseResults():
                self._reuse(item)
            case AlternativeFound() | NoAlternative():
                self._alternative(item)
            case VerifyAnswer():
                self._verified(item)
            case CacheAnswer():
                self._cache_answered(item)
            case ApprovalDescribed():
                self._approval_described(item)
            case Approve():
                self._approve(item)
            case ItemsFound():
                self._items_found(item)
            case OutputsGathered():
                self._outputs_gathered(item)
            case EditPlan():
                self._edit(item)
            case OfferDescribed():
                self._offer_described(item)
            case ClaimTaken():
                self._claim_taken(item)
            case ReportClaim():
                self._claim_reported(item)
            case ClaimLooked():
                self._claim_looked(item)
            case AcceptanceAnswer():
                self._acceptance_answered(item)
            case GatesChanged():
                self.scheduler.slots.gates.change(item.gates, now_us)
            case PlanGrown():
                self._plan_grown(item)
            case PlanEnded():
                self._plan_ended(item)
            case _:
                assert_never(item)
        self._dispatch()
        return decision

    def _deadline_reached(self) -> None:
        while (deadline := self._deadlines.pop_due(self._now_us)) is not None:
            state = self.states[deadline.orchestration_id]
            if deadline.kind == "orchestration":
                self._out_of_time(state)
                continue
            task = state.tasks[deadline.task_id]
            match deadline.kind:
                case "retry":
                    self._record(state, RetryDue(task_id=deadline.task_id))
                case "timeout" if task.status is TaskStatus.CLAIMED:
                    self._claim_out_of_time(state, task)
                case "timeout":
                    if task.stopping is None:
                        self._stop(state, task, "timeout")
                case "claim":
                    self._look_at_claim(state, task)
                case "silence":
                    self._silent(state, task)
                case "grace":
                    self._abandon(state, task)
                case _:
                    assert_never(deadline.kind)

    def check_invariants(self) -> None:
        """Raise AssertionError when something is not as it must always be; for tests."""
        for state in self.states.values():
            check_state(state)
        driven = (state for name, state in self.states.items() if name not in self._dormant)
        running = sum(len(state.running) for state in driven)
        assert running <= self.scheduler.slots.used, "a running attempt holds no slot"


def error_value(error: ErrorRecord) -> Json:
    """Return an error as the JSON object shown in results and status."""
    return {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
        "attempt": error.attempt,
        "system": error.system,
    }
