"""What people, agents and drivers ask of an orchestration: pause, resume, cancel, retry, decide, take over, reuse.

May import: orchestration.{errors, models}, orchestration.engine.*, stdlib.

A request that does not fit the state raises and changes nothing. All of them but `TakeOver` may come before the
orchestration is taken over.
"""

from __future__ import annotations

from typing import Literal

from orchestration.engine.core import driven_already
from orchestration.engine.events import (
    AttemptInterrupted,
    AttemptLeftOpen,
    CancelRequested,
    OrchestrationPaused,
    OrchestrationResumed,
    RetryRequested,
    TasksCancelled,
)
from orchestration.engine.inputs import Decide, Retry, ReuseResults
from orchestration.engine.outcomes import MAY_HAVE_HAPPENED, AttemptOutcomes
from orchestration.engine.policy import cut_off_error, reopened_by, undecided_words
from orchestration.engine.state import State
from orchestration.errors import NotPossibleError, TaskNotFoundError
from orchestration.models import ErrorRecord, OrchestrationStatus, TaskId, TaskStatus

_LISTED = 20
"""Tasks an error lists."""


class Control(AttemptOutcomes):
    """Decides about requests."""

    def _pause(self, state: State, reason: str) -> None:
        if state.status is not OrchestrationStatus.RUNNING:
            raise _not_possible(state, "paused", "Only running ones can.")
        self._record(state, OrchestrationPaused(reason=reason))

    def _resume(self, state: State) -> None:
        if state.status is not OrchestrationStatus.PAUSED:
            raise _not_possible(state, "resumed", "Only paused ones can.")
        self._record(state, OrchestrationResumed())
        if state.orchestration_id not in self._dormant:
            self._ask_again(state)

    def _cancel(self, state: State, reason: str, because: Literal["request", "timeout"] = "request") -> None:
        if state.status not in {OrchestrationStatus.RUNNING, OrchestrationStatus.PAUSED}:
            raise _not_possible(state, "cancelled", "Only running and paused ones can.")
        self._record(state, CancelRequested(reason=reason, because=because))
        waiting = tuple(
            task_id
            for task_id, task in state.tasks.items()
            if not task.is_settled and task.status not in {TaskStatus.RUNNING, TaskStatus.SUPERSEDED}
        )
        if waiting:
            self._record(state, TasksCancelled(task_ids=waiting))
            self._take_back_questions(state.orchestration_id, waiting)
        if (
            state.orchestration_id in self._dormant
        ):  # nobody is left who could stop what the driver before ran
            self._interrupt(state)
        else:
            for task_id in list(state.running):
                self._stop(state, state.tasks[task_id], "cancelled")
        self._finish_if_settled(state)

    def _out_of_time(self, state: State) -> None:
        self._cancel(state, f"It ran out of its {state.timeout_seconds:g} s.", "timeout")

    def _retry(self, item: Retry) -> None:
        state = self._state(item.orchestration_id)
        if state.status in {OrchestrationStatus.COMPLETED, OrchestrationStatus.CANCELLING}:
            raise _not_possible(
                state, "retried", "Failed and cancelled ones can, and failed tasks of those that go on."
            )
        again = reopened_by(state, [state.current(task_id) for task_id in item.task_ids])
        self._record(state, RetryRequested(task_ids=again, reason=item.reason))
        if state.orchestration_id not in self._dormant:
            self.scheduler.revised(state)  # what had settled had no rank any more
        self._set_time_limit(state)
        self._ask_again(state)
        self._finish_if_settled(state)

    def _decide(self, item: Decide) -> None:
        state = self._state(item.orchestration_id)
        task = state.tasks.get(item.task_id)
        if task is None:
            raise TaskNotFoundError(state.orchestration_id, item.task_id, list(state.tasks)[:_LISTED])
        if task.status is not TaskStatus.UNKNOWN:
            raise NotPossibleError(f"Task {item.task_id!r}", task.status, "decided", undecided_words(state))
        self._decided(state, task, item.decision, item.by, item.reason, item.output, item.value)
        self._answered(state.orchestration_id, item.task_id)
        if item.decision == "failed":
            known = task.error.message if task.error is not None else ""
            because = f": {item.reason}" if item.reason else "."
            message = f"{item.by} decided that it failed{because} {known}".rstrip()
            self._fail(
                state,
                task,
                ErrorRecord(code="decided_failed", message=message, attempt=task.attempt, system=task.system),
            )
        self._finish_if_settled(state)

    def _reuse(self, item: ReuseResults) -> None:
        """Complete tasks by results that are there; one whose turn does not come (an edge is dead) is passed over."""
        state = self._state(item.orchestration_id)
        for result in item.results:
            task = state.tasks[result.task_id]
            fed = {edge.edge.source_task_id: edge.delivers for edge in task.incoming}
            is_fed_alike = result.deliveries is None or fed == dict(result.deliveries)
            if task.status is TaskStatus.READY and is_fed_alike:
                self._use_again(state, task, result.output, result.value, result.source, "reuse")

    def _take_over(self, state: State) -> None:
        """Go on where the driver before stopped.

        One decision's events are committed together, so a journal never ends in the middle of one: there is nothing
        half done to mend.
        """
        if state.orchestration_id not in self._dormant:
            if state.status.is_terminal:
                raise _not_possible(state, "taken over")
            raise driven_already(state.orchestration_id)
        self._dormant.discard(state.orchestration_id)
        for task_id, task in state.tasks.items():
            if task.status is TaskStatus.READY and task.node.cache is not None:
                state.held.add(task_id)
        self.scheduler.add(state)
        self._interrupt(state)
        for task in state.tasks.values():
            if task.status is TaskStatus.RETRYING and task.due_at_us is not None:
                self._add_deadline(task.due_at_us, "retry", state, task)
        self._set_time_limit(state)
        self._ask_again(state)
        self._finish_if_settled(state)

    def _set_time_limit(self, state: State) -> None:
        if state.deadline_us is not None and state.orchestration_id not in self._dormant:
            self._deadlines.add(state.deadline_us, "orchestration", state.orchestration_id, "", 0)

    def _interrupt_only(self, state: State) -> None:
        """End the attempts of a driver that is gone, of an orchestration nobody drives."""
        if state.orchestration_id not in self._dormant:
            raise driven_already(state.orchestration_id)
        self._interrupt(state)
        self._finish_if_settled(state)

    def _interrupt(self, state: State) -> None:
        """End the attempts of the driver before: nobody will ever report them."""
        cancelled: dict[bool, list[TaskId]] = {True: [], False: []}
        for task_id in list(state.running):
            task = state.tasks[task_id]
            if state.status is OrchestrationStatus.CANCELLING:
                cancelled[task.node.idempotent].append(task_id)
            elif task.node.idempotent:
                self._record(state, AttemptInterrupted(task_id=task_id, attempt=task.attempt))
            else:
                self._record(
                    state, AttemptLeftOpen(task_id=task_id, attempt=task.attempt, error=cut_off_error(task))
                )
        for is_idempotent, task_ids in cancelled.items():
            if task_ids:
                note = "" if is_idempotent else MAY_HAVE_HAPPENED
                self._record(state, TasksCancelled(task_ids=tuple(task_ids), note=note))


def _not_possible(state: State, action: str, possible: str = "") -> NotPossibleError:
    return NotPossibleError(f"Orchestration {state.orchestration_id!r}", state.status, action, possible)
