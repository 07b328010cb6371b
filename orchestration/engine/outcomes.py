"""What the end of an attempt means: completion, retry, an open question, an alternative plan, or the task's failure.

May import: orchestration.{errors, models}, orchestration.engine.*, stdlib.

Answers to questions the engine asked beside attempts are in `answers.py`.
"""

from __future__ import annotations

from dataclasses import replace

from orchestration.engine.core import EngineCore, timeout_of
from orchestration.engine.edges import verdicts
from orchestration.engine.effects import AbandonAttempt
from orchestration.engine.events import (
    ApprovalVoided,
    AttemptFailed,
    AttemptLeftOpen,
    AttemptSucceeded,
    CallerAsked,
    FallbackStarted,
    ReplanRequested,
    RetryScheduled,
    TaskFailed,
    TaskRerouted,
    TasksCancelled,
)
from orchestration.engine.inputs import Heartbeat, ReportCancelled, ReportFailure, ReportSuccess
from orchestration.engine.policy import backoff_seconds, open_error, required_descendants
from orchestration.engine.state import State
from orchestration.engine.state_base import LONGEST_WAIT_SECONDS
from orchestration.engine.task_state import TaskState
from orchestration.models import ErrorRecord, OrchestrationMode, OrchestrationStatus, TaskStatus

APPROVAL_VOID = "approval_void"
"""Code of the failure of an attempt that was not what somebody had agreed to, and did not begin."""

CIRCUIT_OPEN = "circuit_open"
"""Code of the failure of an attempt that its system's circuit breaker did not let through."""

MAY_HAVE_HAPPENED = "cancelled while it ran; its effect may have happened"
"""Of a cancelled task that is not idempotent."""


class AttemptOutcomes(EngineCore):
    """Decides what follows when an attempt has ended or a question about a task is answered."""

    # Reports

    def _succeeded(self, report: ReportSuccess) -> None:
        found = self._running(report.orchestration_id, report.task_id, report.attempt)
        if found is None:
            return
        state, task = found
        decided = verdicts(task, TaskStatus.COMPLETED, report.value, state.context)
        self._free_slot(task)
        self._record(
            state,
            AttemptSucceeded(
                task_id=report.task_id,
                attempt=report.attempt,
                output=report.output,
                verdicts=decided,
                cost=report.cost,
            ),
        )
        self.scheduler.completed(state, task)
        self._finish_if_settled(state)

    def _failed(self, report: ReportFailure) -> None:
        found = self._running(report.orchestration_id, report.task_id, report.attempt)
        if found is not None:
            error = report.error
            if found[1].stopping is not None and not error.effect_open:
                # It was being stopped: what its clean-up raised is no answer to what it was asked to do.
                error = replace(error, effect_open=True)
            self._attempt_failed(*found, error, report.jitter)

    def _stopped(self, report: ReportCancelled) -> None:
        found = self._running(report.orchestration_id, report.task_id, report.attempt)
        if found is None:
            return
        state, task = found
        match task.stopping:
            case "timeout" | "silence":
                self._attempt_failed(state, task, _timeout_error(state, task), report.jitter)
            case "cancelled":
                self._free_slot(task)
                note = "" if task.node.idempotent else MAY_HAVE_HAPPENED
                self._record(state, TasksCancelled(task_ids=(report.task_id,), note=note))
                self._finish_if_settled(state)
            case None:  # the system cancelled itself; nobody asked for it
                error = ErrorRecord(
                    code="cancelled",
                    message=f"The attempt was cancelled inside system {task.system!r}, not by the orchestrator.",
                    retryable=True,
                    attempt=task.attempt,
                    system=task.system,
                    effect_open=True,
                )
                self._attempt_failed(state, task, error, report.jitter)

    def _attempt_failed(self, state: State, task: TaskState, error: ErrorRecord, jitter: float) -> None:
        """Record a failed attempt and what follows from it: retry, alternative plan, or the task's failure."""
        if error.effect_open and not task.node.idempotent:
            self._left_open(state, task, open_error(error))
            return
        task_id = task.node.task_id
        self._free_slot(task)
        if error.code == APPROVAL_VOID and state.status is not OrchestrationStatus.CANCELLING:
            self._record(state, ApprovalVoided(task_id=task_id, attempt=task.attempt))
            return
        self._record(state, AttemptFailed(task_id=task_id, attempt=task.attempt, error=error))
        retries = state.defaults.max_retries if task.node.max_retries is None else task.node.max_retries
        is_ending = state.status is OrchestrationStatus.CANCELLING
        is_elsewhere = error.code == CIRCUIT_OPEN and task.others and task.node.idempotent
        if error.retryable and task.failures <= retries and not is_ending and not is_elsewhere:
            self._schedule_retry(state, task, error, jitter)
        elif is_ending:
            self._fail(state, task, error)
        elif error.retryable and task.others and task.node.idempotent:
            self._go_elsewhere(state, task, error)
        elif task.node.fallback is not None:
            self._record(state, FallbackStarted(task_id=task_id, attempt=task.attempt))
        elif self._may_replan(state, task):
            self._request_alternative(state, task, error)
        else:
            self._fail(state, task, error)
        self._finish_if_settled(state)

    def _go_elsewhere(self, state: State, task: TaskState, error: ErrorRecord) -> None:
        """Let a task go on at the next system that can do the same."""
        reason = f"{task.system} is not tried at present" if error.code == CIRCUIT_OPEN else ""
        self._record(
            state,
            TaskRerouted(
                task_id=task.node.task_id, attempt=task.attempt, system=task.others[0], reason=reason
            ),
        )

    def _left_open(self, state: State, task: TaskState, error: ErrorRecord) -> None:
        """Give up an attempt nobody knows the end of and that must not be repeated."""
        task_id = task.node.task_id
        self._free_slot(task)
        if state.status is OrchestrationStatus.CANCELLING:
            self._record(state, TasksCancelled(task_ids=(task_id,), note=MAY_HAVE_HAPPENED))
            self._finish_if_settled(state)
            return
        self._record(state, AttemptLeftOpen(task_id=task_id, attempt=task.attempt, error=error))
        self._ask_verification(state, task)

    def _schedule_retry(self, state: State, task: TaskState, error: ErrorRecord, jitter: float) -> None:
        factor = (
            state.defaults.backoff_factor if task.node.backoff_factor is None else task.node.backoff_factor
        )
        delay = backoff_seconds(factor, task.failures, jitter)
        asked = error.retry_after_seconds or 0.0
        # Whatever waits for a system that is not tried at present must not come back all at once.
        delay = asked + delay if error.code == CIRCUIT_OPEN else max(delay, asked)
        delay = min(delay, LONGEST_WAIT_SECONDS)
        due_at_us = self._after(delay)
        self._record(
            state,
            RetryScheduled(
                task_id=task.node.task_id, attempt=task.attempt, delay_seconds=delay, due_at_us=due_at_us
            ),
        )
        self._add_deadline(due_at_us, "retry", state, task)

    def _may_replan(self, state: State, task: TaskState) -> bool:
        """Whether an alternative may be asked for, of a planner or of whoever submitted the orchestration."""
        under_way = state.counts.get(TaskStatus.REPLANNING, 0)
        return (
            (state.can_replan or state.asks_caller)
            and state.mode is OrchestrationMode.ADAPTIVE
            and task.replans < self.options.max_replans_per_task
            and len(state.replacement) + under_way < self.options.max_replans
        )

    def _request_alternative(self, state: State, task: TaskState, error: ErrorRecord) -> None:
        paused = required_descendants(state, task)
        self._record(state, ReplanRequested(task_id=task.node.task_id, error=error, paused=paused))
        if state.can_replan:
            self._ask_alternative(state, task)
        else:
            self._record(
                state,
                CallerAsked(task_id=task.node.task_id, reason="there is no planner that could be asked"),
            )

    def _fail(self, state: State, task: TaskState, error: ErrorRecord) -> None:
        decided = verdicts(task, TaskStatus.FAILED, None, state.context)
        self._record(state, TaskFailed(task_id=task.node.task_id, error=error, verdicts=decided))

    def _abandon(self, state: State, task: TaskState) -> None:
        """Give an attempt up that did not stop; its work may go on."""
        task_id = task.node.task_id
        self._decision.effects.append(
            AbandonAttempt(orchestration_id=state.orchestration_id, task_id=task_id, attempt=task.attempt)
        )
        note = f"work may continue at {task.system}"
        if task.stopping == "cancelled":
            self._free_slot(task)
            self._record(state, TasksCancelled(task_ids=(task_id,), note=note))
            self._finish_if_settled(state)
        else:
            self._attempt_failed(state, task, _timeout_error(state, task, note), jitter=1.0)

    # Signs of life

    def _alive(self, beat: Heartbeat) -> None:
        found = self._running(beat.orchestration_id, beat.task_id, beat.attempt)
        if found is not None and found[1].node.heartbeat_timeout_seconds is not None:
            self._beats[beat.orchestration_id, beat.task_id] = self._now_us

    def _silent(self, state: State, task: TaskState) -> None:
        """Stop an attempt that has been silent for too long; wait on for one that has not."""
        limit = task.node.heartbeat_timeout_seconds
        if task.stopping is not None or limit is None:
            return
        last_us = self._beats.get((state.orchestration_id, task.node.task_id), task.started_at_us or 0)
        due_us = last_us + round(limit * 1_000_000)
        if due_us > self._now_us:
            self._add_deadline(due_us, "silence", state, task)
        else:
            self._stop(state, task, "silence")


def _timeout_error(state: State, task: TaskState, note: str = "") -> ErrorRecord:
    if task.stopping == "silence":
        code = "heartbeat_timeout"
        told = f"Attempt {task.attempt} gave no sign of life for {task.node.heartbeat_timeout_seconds:g} s."
    else:
        code = "timeout"
        told = f"Attempt {task.attempt} ran out of its {timeout_of(state, task):g} s."
    return ErrorRecord(
        code=code,
        message=told + (f" It did not stop: {note}." if note else ""),
        retryable=True,
        attempt=task.attempt,
        system=task.system,
        effect_open=True,
    )
