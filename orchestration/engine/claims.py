"""What follows when a worker takes an offered task, reports of it, or is silent for too long.

May import: orchestration.{errors, models}, orchestration.engine.*, stdlib.

Offers, claims and reports are rows that any process writes (`orchestration/claim_records.py`); the engine reads of
them in its inbox, in the order they were written. A claim is an attempt that holds no slot. Its lease is kept in its
row, which reports renew without the engine: when the lease should have ended the engine asks how the claim stands.

A report counts as long as the claim is the task's latest: one that had run out holds again with it (`ClaimResumed`),
unless somebody else has taken the task meanwhile. What comes about anything else is passed over: whoever wrote it was
answered by the row already.
"""

from __future__ import annotations

from dataclasses import replace

from orchestration.engine.answers import Answers
from orchestration.engine.edges import verdicts
from orchestration.engine.effects import LookAtClaim
from orchestration.engine.events import (
    AttemptSucceeded,
    ClaimReleased,
    ClaimReported,
    ClaimResumed,
    ClaimStarted,
    FallbackStarted,
    ReplanRequested,
    TaskOffered,
)
from orchestration.engine.inputs import (
    AcceptanceAnswer,
    AlternativeFound,
    ClaimLooked,
    ClaimTaken,
    OfferDescribed,
    OutputRef,
    ReportClaim,
)
from orchestration.engine.policy import required_descendants
from orchestration.engine.splice import plan_revision
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.models import AGENT, ErrorRecord, Json, OrchestrationStatus, TaskStatus

_LATE = frozenset({TaskStatus.OFFERED, TaskStatus.READY, TaskStatus.RETRYING, TaskStatus.UNKNOWN})
"""Statuses of a task whose latest claim has run out, and which nobody else has taken."""

_FAILED_CODES = {"failed": "claim_failed", "blocked": "claim_blocked"}


class Claims(Answers):
    """Decides about offers and claims."""

    def _offer_described(self, item: OfferDescribed) -> None:
        """Offer a task whose brief is written."""
        known = self._driven_task(item.orchestration_id, item.task_id)
        if known is None or item.number != known[1].offers + 1 or known[1].system != AGENT:
            return  # it was written for an offer that was made since, or is not to be made any more
        found = self._asked_first(item.orchestration_id, item.task_id, item.generation)
        if found is None:
            return
        state, task = found
        if state.status is OrchestrationStatus.PAUSED:
            return  # it stays held, and is asked about again when it is resumed
        if item.error is None:
            self._record(
                state,
                TaskOffered(task_id=item.task_id, number=item.number, lease_seconds=item.lease_seconds),
            )
        elif task.node.fallback is not None:  # as of an attempt that can't be prepared
            self._record(state, FallbackStarted(task_id=item.task_id, attempt=task.attempt))
        else:
            self._fail(state, task, item.error)
        self._finish_if_settled(state)

    def _claim_taken(self, item: ClaimTaken) -> None:
        """Note that a worker has a task; an offer that was changed since is passed over, and the claim with it."""
        state = self._state(item.orchestration_id)
        task = state.tasks.get(item.task_id)
        if task is None or task.status is not TaskStatus.OFFERED or task.offers != item.number:
            return
        self._record(
            state,
            ClaimStarted(
                task_id=item.task_id, attempt=task.attempt + 1, claim=item.claim, worker=item.worker
            ),
        )
        self._watch_claim(state, task, task.lease_seconds)

    def _watch_claims(self, state: State, within_seconds: float | None = None) -> None:
        """Look at every claim so long from now; None: when its lease has passed, counted from now.

        The second is for a driver that has just begun: no claim runs out sooner than that.
        """
        for task in state.tasks.values():
            if task.status is TaskStatus.CLAIMED and task.reported is None:
                seconds = task.lease_seconds if within_seconds is None else within_seconds
                self._watch_claim(state, task, seconds)

    def _watch_claim(self, state: State, task: TaskState, seconds: float) -> None:
        """Set the instants at which a claim is looked at, and has no more time whatever it reports."""
        if state.orchestration_id in self._dormant:
            return
        self._add_deadline(self._after(seconds), "claim", state, task)
        limit = task.node.timeout_seconds
        if limit is not None and task.started_at_us is not None:
            self._add_deadline(task.started_at_us + round(limit * 1_000_000), "timeout", state, task)

    def _claim_out_of_time(self, state: State, task: TaskState) -> None:
        """Give up a claim that keeps reporting, but has used up the task's own time limit."""
        if task.reported is None:
            self._take_back_questions(state.orchestration_id, [task.node.task_id])
            message = f"{task.worker} did not finish within the task's {task.node.timeout_seconds:g} s."
            self._attempt_failed(state, task, _error(task, "timeout", message, is_open=True), jitter=1.0)

    def _look_at_claim(self, state: State, task: TaskState) -> None:
        """Ask how a claim stands whose lease should have ended."""
        if task.claim is not None and task.reported is None:
            self._ask(
                state,
                LookAtClaim(
                    orchestration_id=state.orchestration_id, task_id=task.node.task_id, claim=task.claim
                ),
            )

    def _claim_looked(self, item: ClaimLooked) -> None:
        found = self._driven_task(item.orchestration_id, item.task_id)
        if found is None:
            return
        state, task = found
        if task.status is not TaskStatus.CLAIMED or task.claim != item.claim or task.reported is not None:
            return  # its end was reported meanwhile: what is asked about the task now is something else
        self._answered(item.orchestration_id, item.task_id)
        if not item.is_expired:
            self._watch_claim(state, task, max(0.0, (item.again_at_us - self._now_us) / 1_000_000))
            return
        message = f"The claim of {task.worker} ran out: no report for {task.lease_seconds:g} s."
        self._attempt_failed(state, task, _error(task, "claim_expired", message, is_open=True), item.jitter)

    # Reports

    def _claim_reported(self, item: ReportClaim) -> None:
        state = self._state(item.orchestration_id)
        task = state.tasks.get(item.task_id)
        if task is None or task.claim != item.claim:
            return
        if task.status in _LATE:
            self._take_back_questions(state.orchestration_id, [item.task_id])
            self._record(state, ClaimResumed(task_id=item.task_id, attempt=task.attempt, claim=item.claim))
            self._watch_claim(state, task, task.lease_seconds)
        if task.status is not TaskStatus.CLAIMED or task.reported is not None:
            return
        if item.alternative is not None or item.status != "progress":  # nobody need look at it any more
            self._take_back_questions(state.orchestration_id, [item.task_id])
        if item.alternative is not None:
            self._replaced_by_worker(state, task, item, item.alternative)
            return
        match item.status:
            case "progress":
                pass
            case "release":
                self._released(state, task, item)
            case "done" if item.output is not None:
                self._done(state, task, item, item.output)
            case "done":
                error = item.error or _error(task, "output_missing", "Reported done without an output.")
                error = replace(_of_attempt(task, error), effect_open=True)  # it says that it was done
                self._attempt_failed(state, task, error, item.jitter)
            case "failed" | "blocked":
                said = item.reason or "no reason given"
                error = _error(task, _FAILED_CODES[item.status], f"{task.worker} reported: {said}")
                error = replace(error, retryable=item.status == "failed")
                self._attempt_failed(state, task, error, item.jitter)
        self._finish_if_settled(state)

    def _done(self, state: State, task: TaskState, item: ReportClaim, output: OutputRef) -> None:
        """Complete a task, or have what was reported looked at first."""
        if task.node.acceptance is None:
            self._accepted(state, task, output, item.value)
            return
        self._record(
            state,
            ClaimReported(task_id=item.task_id, attempt=task.attempt, claim=item.claim, output=output),
        )
        self._ask_acceptance(state, task)

    def _accepted(self, state: State, task: TaskState, output: OutputRef, value: Json) -> None:
        decided = verdicts(task, TaskStatus.COMPLETED, value, state.context)
        self._record(
            state,
            AttemptSucceeded(
                task_id=task.node.task_id, attempt=task.attempt, output=output, verdicts=decided
            ),
        )
        if state.orchestration_id not in self._dormant:
            self.scheduler.completed(state, task)

    def _acceptance_answered(self, item: AcceptanceAnswer) -> None:
        found = self._driven_task(item.orchestration_id, item.task_id)
        if found is None or found[1].attempt != item.attempt or found[1].reported != item.output:
            return
        state, task = found
        self._answered(item.orchestration_id, item.task_id)
        if item.error is None:
            self._accepted(state, task, item.output, item.value)
            self._finish_if_settled(state)
        else:
            self._attempt_failed(state, task, _of_attempt(task, item.error), item.jitter)

    def _released(self, state: State, task: TaskState, item: ReportClaim) -> None:
        """Offer a task again; one that was begun and given back too often has failed."""
        retries = state.defaults.max_retries if task.node.max_retries is None else task.node.max_retries
        if item.has_begun and task.failures >= retries:
            said = f": {item.reason}" if item.reason else "."
            error = _error(task, "released", f"{task.worker} gave it back{said}")
            self._attempt_failed(state, task, error, item.jitter)
            return
        self._record(
            state,
            ClaimReleased(
                task_id=item.task_id,
                attempt=task.attempt,
                claim=item.claim,
                has_begun=item.has_begun,
                reason=item.reason,
            ),
        )

    def _replaced_by_worker(
        self, state: State, task: TaskState, item: ReportClaim, found: AlternativeFound
    ) -> None:
        """Put the tasks of a worker in its task's place; where they don't fit any more, it is given back."""
        fits = found.expected_revision in {None, state.revision}
        revision = plan_revision(state, task, found) if fits else "the plan has changed since"
        if isinstance(revision, str):
            message = f"{task.worker} wanted to replace it by other tasks, but {revision}."
            self._attempt_failed(state, task, _error(task, "not_replaced", message), item.jitter)
            return
        reason = item.reason or "replaced by tasks of its worker"
        self._record(
            state,
            ClaimReleased(
                task_id=item.task_id, attempt=task.attempt, claim=item.claim, has_begun=True, reason=reason
            ),
        )
        error = _error(task, "split", reason)
        paused = required_descendants(state, task)
        self._record(state, ReplanRequested(task_id=item.task_id, error=error, paused=paused))
        self._revised(state, revision)
        self._finish_if_settled(state)


def _error(task: TaskState, code: str, message: str, *, is_open: bool = False) -> ErrorRecord:
    return ErrorRecord(
        code=code,
        message=message,
        retryable=True,
        attempt=task.attempt,
        system=task.system,
        effect_open=is_open,
    )


def _of_attempt(task: TaskState, error: ErrorRecord) -> ErrorRecord:
    return replace(error, attempt=task.attempt, system=task.system)
