"""What people, agents and drivers ask of an orchestration: pause, cancel, retry, decide, approve, edit, take over, ….

May import: orchestration.{errors, models}, orchestration.engine.*, stdlib.

A request that does not fit the state raises and changes nothing. All of them but `TakeOver` may come before the
orchestration is taken over.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestration.engine.claims import Claims
from orchestration.engine.core import GOES_ON, driven_already, needs_more, task_of
from orchestration.engine.edges import verdicts
from orchestration.engine.edit_rules import first_refusal
from orchestration.engine.effects import Question
from orchestration.engine.events import (
    ApprovalGiven,
    AttemptInterrupted,
    AttemptLeftOpen,
    CancelReason,
    CancelRequested,
    OrchestrationPaused,
    OrchestrationResumed,
    PlanCompleted,
    PlanEdited,
    RetryRequested,
    TasksCancelled,
    TaskSkipped,
)
from orchestration.engine.graph import strict_order
from orchestration.engine.inputs import Approve, Decide, EditPlan, GraphChange, PlanEnded, Retry, ReuseResults
from orchestration.engine.outcomes import MAY_HAVE_HAPPENED
from orchestration.engine.policy import cut_off_error, undecided_words
from orchestration.engine.retry_rules import reopened_by
from orchestration.engine.state import State
from orchestration.errors import (
    NotPermittedError,
    NotPossibleError,
    RevisionConflictError,
)
from orchestration.models import ErrorRecord, OrchestrationStatus, TaskId, TaskStatus

_LISTED = 20
"""Tasks an error lists."""


class Control(Claims):
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
            self._watch_claims(state, within_seconds=0)
            self._ask_again(state)

    def _cancel(self, state: State, reason: str, because: CancelReason = "request") -> None:
        if state.status not in GOES_ON and state.status is not OrchestrationStatus.PAUSED:
            raise _not_possible(state, "cancelled", "Only running and paused ones can.")
        self._record(state, CancelRequested(reason=reason, because=because))
        waiting = tuple(
            task_id
            for task_id, task in state.tasks.items()
            if not task.is_settled and task.status not in {TaskStatus.RUNNING, TaskStatus.SUPERSEDED}
        )
        if waiting:
            self._record(state, TasksCancelled(task_ids=waiting))
        self._take_back_questions(state.orchestration_id, ["", *waiting])
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
        task = task_of(state, item.task_id)
        if task.status is not TaskStatus.UNKNOWN and not task.is_asked:
            raise NotPossibleError(f"Task {item.task_id!r}", task.status, "decided", undecided_words(state))
        self._answered(state.orchestration_id, item.task_id)
        self._decided(state, task, item.decision, item.by, item.reason, item.output, item.value)
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

    def _approve(self, item: Approve) -> None:
        """Let a task run that waits for somebody's agreement, or fail it."""
        state = self._state(item.orchestration_id)
        task = task_of(state, item.task_id)
        subject = f"Task {item.task_id!r}"
        if task.status is not TaskStatus.AWAITING_APPROVAL or task.asked_digest is None:
            action = "approved" if item.is_approved else "rejected"
            raise NotPossibleError(subject, task.status, action, _waiting_words(state))
        if item.by != "person" and task.node.approval != "caller":
            word = "approve" if item.is_approved else "reject"
            command = f"advanced-orchestration {word} {state.orchestration_id} {item.task_id}"
            raise NotPermittedError(f"{word} task {item.task_id!r}", "a person", command)
        if item.digest not in {None, task.asked_digest}:
            told = "to be approved with other arguments or inputs by now"
            raise NotPossibleError(subject, told, "approved as it was", "Look at what it asks now.")
        if item.is_approved:
            self._record(
                state,
                ApprovalGiven(task_id=item.task_id, digest=task.asked_digest, by=item.by, reason=item.reason),
            )
        else:
            why = f": {item.reason}" if item.reason else "."
            # A refusal is final: no fallback, no alternative plan may get round it.
            self._fail(
                state, task, ErrorRecord(code="rejected", message=f"{item.by} did not agree to it{why}")
            )
        self._finish_if_settled(state)

    def _edit(self, item: EditPlan) -> None:
        """Change the graph; whoever asks has validated the whole for this very revision."""
        state = self._state(item.orchestration_id)
        if state.status not in {OrchestrationStatus.RUNNING, OrchestrationStatus.PAUSED}:
            raise _not_possible(state, "edited", "Running and paused ones can.")
        if item.expected_revision != state.revision:
            raise RevisionConflictError(state.orchestration_id, item.expected_revision, state.revision)
        change = item.change
        refusal = first_refusal(state, change)
        if refusal is not None:
            raise refusal
        before = {task_id: state.tasks[task_id].generation for task_id in _touched_by(state, change)}
        self._record(
            state,
            PlanEdited(
                revision=state.revision + 1,
                by=item.by,
                reason=item.reason,
                added=change.added,
                changed=change.changed,
                removed=change.removed,
                linked=change.linked,
                unlinked=change.unlinked,
                skipped=change.skipped,
                routes=dict(change.routes.systems),
                others=dict(change.routes.others),
                fallback_routes=dict(change.routes.fallbacks),
                reasons=dict(change.routes.reasons),
                decided=self._decided_late(state, change.linked, item.values),
                undoes=item.undoes,
            ),
        )
        reason = f"{item.by} wants it so" + (f": {item.reason}" if item.reason else "")
        for task_id in _last_first(state, change.skipped):
            if state.tasks[task_id].is_settled:
                continue  # what it depends on is skipped by this very change, or it is a part of such a task
            decided = verdicts(state.tasks[task_id], TaskStatus.SKIPPED, None, state.context)
            self._record(state, TaskSkipped(task_id=task_id, because="", reason=reason, verdicts=decided))
        stale = [
            task_id
            for task_id, generation in before.items()
            if state.tasks[task_id].generation != generation or task_id not in state.held
        ]
        self._take_back_stale(state, stale)
        self._rank_again(state)
        self._ask_again(state)
        self._finish_if_settled(state)

    def _take_back_stale(self, state: State, task_ids: list[TaskId]) -> None:
        """Forget questions about what tasks were before; what this decision asked about what they are now stays."""
        asked_now = {
            (effect.orchestration_id, effect.task_id)
            for effect in self._decision.effects
            if isinstance(effect, Question)
        }
        for task_id in task_ids:
            if (state.orchestration_id, task_id) not in asked_now:
                self._answered(state.orchestration_id, task_id)

    def _plan_ended(self, item: PlanEnded) -> None:
        state = self._state(item.orchestration_id)
        if state.status is not OrchestrationStatus.PLANNING:
            return
        if item.error is not None:
            self._answered(state.orchestration_id, "")
            self._cancel(state, item.error, "plan_incomplete")
            return
        self._answered(state.orchestration_id, "")
        self._record(state, PlanCompleted())
        self._rank_again(state)
        self._ask_again(state)
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
            if task.status is TaskStatus.READY and needs_more(state, task):
                state.held.add(task_id)
        self.scheduler.add(state)
        self._interrupt(state)
        for task in state.tasks.values():
            if task.status is TaskStatus.RETRYING and task.due_at_us is not None:
                self._add_deadline(task.due_at_us, "retry", state, task)
        self._watch_claims(state)
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


def _touched_by(state: State, change: GraphChange) -> list[TaskId]:
    """Return the tasks that a change is about, or that are fed otherwise after it; those there are already."""
    targets = [edge.target_task_id for edge in change.linked] + [target for _, target in change.unlinked]
    after = [edge.target for task_id in change.removed for edge in state.tasks[task_id].outgoing]
    changed = [node.task_id for node in change.changed]
    found = [*changed, *change.removed, *change.skipped, *targets, *after]
    return [task_id for task_id in found if task_id in state.tasks]


def _last_first(state: State, task_ids: Sequence[TaskId]) -> list[TaskId]:
    """Return tasks so that each comes before its upstreams: what is to be skipped must not begin by another's skip."""
    if len(task_ids) < 2:
        return list(task_ids)
    wanted = set(task_ids)
    return [task_id for task_id in reversed(strict_order(state)) if task_id in wanted]


def _waiting_words(state: State) -> str:
    waiting = [
        task_id for task_id, task in state.tasks.items() if task.status is TaskStatus.AWAITING_APPROVAL
    ]
    told = ", ".join(waiting[:_LISTED])
    return f"These wait for approval: {told}." if waiting else "No task of it waits for approval."


def _not_possible(state: State, action: str, possible: str = "") -> NotPossibleError:
    return NotPossibleError(f"Orchestration {state.orchestration_id!r}", state.status, action, possible)
