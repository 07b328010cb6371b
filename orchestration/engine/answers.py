"""What follows from an answer to something the engine asked: about one task, or about a plan still being made.

May import: orchestration.{errors, models}, orchestration.engine.*, stdlib.

An answer about what has changed meanwhile (the task was decided, changed, cancelled) is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from orchestration.engine.core import GOES_ON, task_of
from orchestration.engine.edges import late_verdicts, verdicts
from orchestration.engine.edit_rules import growth_refusal
from orchestration.engine.events import (
    ApprovalRequested,
    CallerAsked,
    ChildrenGathered,
    EdgeDecided,
    FallbackStarted,
    PlanExtended,
    PlanRevised,
    ResultReused,
    TaskDecided,
    TaskExpanded,
    VerificationUnclear,
)
from orchestration.engine.inputs import (
    AlternativeFound,
    ApprovalDescribed,
    CacheAnswer,
    DecisionKind,
    ItemsFound,
    NoAlternative,
    OutputRef,
    OutputsGathered,
    PlanGrown,
    VerifyAnswer,
)
from orchestration.engine.outcomes import AttemptOutcomes
from orchestration.engine.splice import plan_revision
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.errors import NotPossibleError, RevisionConflictError
from orchestration.models import Json, OrchestrationStatus, TaskEdge, TaskId, TaskStatus

PLANNER = "planner"
"""Who makes alternatives that nobody asked a person or an agent for."""


class Answers(AttemptOutcomes):
    """Decides what answers lead to."""

    # Alternatives

    def _alternative(self, item: AlternativeFound | NoAlternative) -> None:
        if isinstance(item, AlternativeFound) and item.by != PLANNER:
            self._answer_of_caller(item)
            return
        found = self._driven_task(item.orchestration_id, item.task_id)
        if found is None or found[1].status is not TaskStatus.REPLANNING or found[1].is_asked:
            return  # whoever drives it asks anew
        state, task = found
        self._answered(item.orchestration_id, item.task_id)
        revision: PlanRevised | str = (
            item.reason if isinstance(item, NoAlternative) else plan_revision(state, task, item)
        )
        if isinstance(revision, PlanRevised):
            self._revised(state, revision)
        elif state.asks_caller:
            self._record(state, CallerAsked(task_id=item.task_id, reason=revision))
        else:
            assert task.error is not None, "only a failed attempt leads to replanning"
            message = f"{task.error.message} (no alternative plan: {revision})"
            self._fail(state, task, replace(task.error, message=message, retry_after_seconds=None))
        self._finish_if_settled(state)

    def _answer_of_caller(self, item: AlternativeFound) -> None:
        """Take the alternative of whoever was asked.

        Raises:
            NotPossibleError: Nobody asked for one, or it can't take the task's place.
            RevisionConflictError: It was made for another revision of the plan.
        """
        state = self._state(item.orchestration_id)
        task = task_of(state, item.task_id)
        subject = f"Task {item.task_id!r}"
        if task.status is not TaskStatus.REPLANNING:
            raise NotPossibleError(subject, task.status, "replaced", "Only a task that failed and asks can.")
        if item.expected_revision not in {None, state.revision}:
            raise RevisionConflictError(state.orchestration_id, item.expected_revision or 0, state.revision)
        revision = plan_revision(state, task, item)
        if isinstance(revision, str):
            raise NotPossibleError(subject, task.status, "replaced by this", f"Because {revision}.")
        self._take_back_questions(state.orchestration_id, [item.task_id])
        self._revised(state, revision)

    def _revised(self, state: State, revision: PlanRevised) -> None:
        self._record(state, revision)
        self._rank_again(state)

    def _rank_again(self, state: State) -> None:
        if state.orchestration_id not in self._dormant:
            self.scheduler.revised(state)

    # Agreements

    def _approval_described(self, item: ApprovalDescribed) -> None:
        found = self._asked_first(item.orchestration_id, item.task_id, item.generation)
        if found is None:
            return
        state, task = found
        if (
            item.error is not None and task.node.fallback is not None
        ):  # as of an attempt that can't be prepared
            self._record(state, FallbackStarted(task_id=item.task_id, attempt=task.attempt))
            return
        if item.error is not None:
            self._fail(state, task, item.error)
            self._finish_if_settled(state)
            return
        self._record(state, ApprovalRequested(task_id=item.task_id, digest=item.digest, shown=item.shown))

    # Composites

    def _items_found(self, item: ItemsFound) -> None:
        found = self._asked_first(item.orchestration_id, item.task_id, item.generation)
        if found is None:
            return
        state, task = found
        if state.status is OrchestrationStatus.PAUSED:
            return  # it stays held, and is asked about again when it is resumed
        if item.error is not None:
            self._fail(state, task, item.error)
        else:
            self._record(state, TaskExpanded(task_id=item.task_id, count=item.count))
            self._rank_again(state)
        self._finish_if_settled(state)

    def _outputs_gathered(self, item: OutputsGathered) -> None:
        found = self._driven_task(item.orchestration_id, item.task_id)
        if found is None:
            return
        state, task = found
        if task.status is not TaskStatus.EXPANDED or task.generation != item.generation:
            return
        self._answered(item.orchestration_id, item.task_id)
        if task.open_children:
            return  # more was added meanwhile
        if item.output is None:
            assert item.error is not None, "what has no output says why"
            self._fail(state, task, item.error)
        else:
            decided = verdicts(task, TaskStatus.COMPLETED, item.value, state.context)
            self._record(state, ChildrenGathered(task_id=item.task_id, output=item.output, verdicts=decided))
        self._finish_if_settled(state)

    def _asked_first(
        self, orchestration_id: str, task_id: TaskId, generation: int
    ) -> tuple[State, TaskState] | None:
        """Return a ready task that waits for this very answer; None when it does not any more."""
        found = self._driven_task(orchestration_id, task_id)
        if found is None or found[1].generation != generation or not _is_held(*found):
            return None
        self._answered(orchestration_id, task_id)
        return found

    # A plan still being made

    def _plan_grown(self, item: PlanGrown) -> None:
        """Take in more of a plan.

        Raises:
            NotPossibleError: Its plan is not being made any more; or the part does not fit what is there; or an edge
                comes from a completed task whose output must be seen to decide it, and is not given.
        """
        state = self._state(item.orchestration_id)
        if state.status is not OrchestrationStatus.PLANNING:
            raise NotPossibleError(
                f"Orchestration {state.orchestration_id!r}", state.status, "planned further"
            )
        refusal = growth_refusal(state, item)
        if refusal is not None:
            raise refusal
        self._record(
            state,
            PlanExtended(
                tasks=item.tasks,
                edges=item.edges,
                routes=dict(item.routes.systems),
                others=dict(item.routes.others),
                fallback_routes=dict(item.routes.fallbacks),
                reasons=dict(item.routes.reasons),
                decided=self._decided_late(state, item.edges, item.values),
            ),
        )
        self._rank_again(state)

    def _decided_late(
        self, state: State, edges: tuple[TaskEdge, ...], values: Mapping[TaskId, Json]
    ) -> tuple[EdgeDecided, ...]:
        """Return what new edges are whose upstream has settled already."""
        return late_verdicts(state, edges, values)

    # Open questions

    def _verified(self, item: VerifyAnswer) -> None:
        found = self._driven_task(item.orchestration_id, item.task_id)
        if found is None or found[1].status is not TaskStatus.UNKNOWN or found[1].attempt != item.attempt:
            return  # somebody decided meanwhile
        state, task = found
        self._answered(item.orchestration_id, item.task_id)
        if item.answer == "unclear":
            reason = item.reason or "it answered `unclear`"
            self._record(
                state, VerificationUnclear(task_id=item.task_id, attempt=item.attempt, reason=reason)
            )
            return
        decision: DecisionKind = "done" if item.answer == "done" else "retry"
        self._decided(state, task, decision, "verify", item.reason, item.output, item.value)
        self._finish_if_settled(state)

    def _decided(
        self,
        state: State,
        task: TaskState,
        decision: DecisionKind,
        by: str,
        reason: str,
        output: OutputRef | None,
        value: Json,
    ) -> None:
        """Record what was decided about a task nobody knew the end of."""
        is_done = decision == "done"
        self._record(
            state,
            TaskDecided(
                task_id=task.node.task_id,
                decision=decision,
                by=by,
                reason=reason,
                output=output if is_done else None,
                verdicts=verdicts(task, TaskStatus.COMPLETED, value, state.context) if is_done else (),
            ),
        )

    # Results that are there already

    def _cache_answered(self, item: CacheAnswer) -> None:
        found = self._asked_first(item.orchestration_id, item.task_id, item.generation)
        if found is None:
            return
        state, task = found
        if state.status not in GOES_ON:
            return  # paused: it stays held, and is asked about again when it is resumed
        state.held.discard(item.task_id)
        if item.output is None:
            self.scheduler.ready(state, item.task_id)
            return
        self._use_again(state, task, item.output, item.value, item.source, "cache")
        self._finish_if_settled(state)

    def _use_again(
        self,
        state: State,
        task: TaskState,
        output: OutputRef,
        value: Json,
        source: str,
        because: Literal["cache", "reuse"],
    ) -> None:
        """Complete a task by an output that is there already."""
        self._record(
            state,
            ResultReused(
                task_id=task.node.task_id,
                output=output,
                source=source,
                because=because,
                verdicts=verdicts(task, TaskStatus.COMPLETED, value, state.context),
            ),
        )


def _is_held(state: State, task: TaskState) -> bool:
    return task.status is TaskStatus.READY and task.node.task_id in state.held
