"""Every error the orchestrator raises on purpose, one tree, chosen by what the caller can do about it.

May import: stdlib.

    OrchestrationError
      DefinitionError        the input is wrong: fix it; never retried
        InvalidDagError(.problems)  CycleError(.cycle)  DuplicateTaskError  UnknownDependencyError
        ExpressionError        ConditionError  ReferenceResolutionError
        InvalidArgumentError   ConfigurationError(.problems)  UnroutableTaskError(.problems)
        PlanNotFoundError  NoFittingPlanError(.example)
      StateError             the state forbids it: look first
        OrchestrationNotFoundError  TaskNotFoundError  NotPossibleError  OrchestrationInterruptedError
        RefusedByDriverError  ControlPendingError
        InvalidTransitionError(.story)
        IdempotencyConflictError  NestedOrchestrationError
      LeaseError             someone else owns it: stop
        LeaseHeldError  StaleFencingTokenError  LeaseLostError
      AttemptError           one attempt of one task went wrong: the task's retry policy decides
        AttemptFailedError  AttemptTimeoutError  AttemptCancelledError  SystemUnavailableError
      StorageError           the durable state can't be read or written
        StorageUnavailableError  SchemaVersionError  CorruptRecordError
      ReplayError            a bug: keep the journal
        HistoryMismatchError

Messages are made from fields and say: the field, the value, what was expected, a fix. `code` is stable.
Every class pickles: `args` hold the constructor's arguments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in an input: where it is, what was found, what to do about it."""

    path: str
    """Where: `tasks[3].priority`, `edges[0].condition`, `systems.files.kind`."""
    message: str
    """What is wrong, with the value found and what was expected."""
    fix: str = ""
    """What to write instead."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" + (f" Fix: {self.fix}" if self.fix else "")


class OrchestrationError(Exception):
    """Base of all errors raised on purpose."""

    code: str = "orchestration_error"
    """Stable name of the kind of error, for programs."""
    retryable: bool = False
    """Whether the same request may succeed later without a change."""


# --- The input is wrong -------------------------------------------------------------------------------------------


class DefinitionError(OrchestrationError):
    """The input is wrong; nothing was changed."""

    code = "invalid_definition"


class ProblemsError(DefinitionError):
    """Several mistakes found at once."""

    subject: ClassVar[str] = "The input"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        count = len(self.problems)
        lines = [f"{self.subject} has {count} mistake{'s' if count != 1 else ''}:"]
        lines += [f"  {problem}" for problem in self.problems[:50]]
        if count > 50:
            lines.append(f"  … and {count - 50} more")
        return "\n".join(lines)


class InvalidDagError(ProblemsError):
    """A DAG has mistakes; `problems` lists every one."""

    code = "invalid_dag"
    subject = "The DAG"


class CycleError(DefinitionError):
    """The dependencies form a cycle, so no task of it could ever start."""

    code = "cycle"

    def __init__(self, cycle: Sequence[str]) -> None:
        super().__init__(cycle)
        self.cycle = tuple(cycle)

    def __str__(self) -> str:
        shown = " → ".join((*self.cycle, self.cycle[0]))
        return f"The dependencies form a cycle: {shown}. Fix: remove one of these edges."


class DuplicateTaskError(DefinitionError):
    """A task id is used twice."""

    code = "duplicate_task"

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        return f"Task {self.task_id!r} is in the DAG already. Fix: give each task an id of its own."


class UnknownDependencyError(DefinitionError):
    """An edge names a task that is not in the DAG."""

    code = "unknown_dependency"

    def __init__(self, task_id: str, known: Sequence[str] = ()) -> None:
        super().__init__(task_id, known)
        self.task_id = task_id
        self.known = tuple(known)

    def __str__(self) -> str:
        near = f" Did you mean {self.known[0]!r}?" if self.known else ""
        return f"An edge names task {self.task_id!r}, which is not in the DAG.{near} Fix: add the task or the right id."


class ExpressionError(DefinitionError):
    """A condition or a `${…}` reference is wrong."""

    code = "expression_error"

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.source!r}: {self.reason}"


class ConditionError(ExpressionError):
    """A condition can't be compiled or raised while it was evaluated."""

    code = "condition_error"


class ReferenceResolutionError(ExpressionError):
    """A `${…}` reference is malformed or names a value that the output does not have."""

    code = "reference_error"


class InvalidArgumentError(DefinitionError):
    """One argument of a call is wrong."""

    code = "invalid_argument"

    def __init__(self, field: str, value: object, expected: str, fix: str = "") -> None:
        super().__init__(field, value, expected, fix)
        self.field, self.value, self.expected, self.fix = field, value, expected, fix

    def __str__(self) -> str:
        shown = repr(self.value)
        shown = shown if len(shown) <= 120 else shown[:117] + "…"
        return f"{self.field} is {shown}; expected {self.expected}." + (
            f" Fix: {self.fix}" if self.fix else ""
        )


class ConfigurationError(ProblemsError):
    """The configuration has mistakes; `problems` lists every one."""

    code = "invalid_configuration"
    subject = "The configuration"


class UnroutableTaskError(ProblemsError):
    """Some tasks name nothing that is configured, so nothing could run them; nothing was started."""

    code = "unroutable_task"
    subject = "The plan"


class PlanNotFoundError(DefinitionError):
    """No stored plan has this id, or it has no such revision."""

    code = "plan_not_found"

    def __init__(self, plan_id: str, revision: int | None = None) -> None:
        super().__init__(plan_id, revision)
        self.plan_id, self.revision = plan_id, revision

    def __str__(self) -> str:
        if self.revision is not None:
            return (
                f"Plan {self.plan_id!r} has no revision {self.revision}. Fix: look at those it has "
                f"(`advanced-orchestration edit {self.plan_id} --log`, or edit_dag without operations)."
            )
        return (
            f"There is no plan {self.plan_id!r}. Fix: make one (`advanced-orchestration decompose`, or decompose_goal) "
            "and use the plan_id it answers."
        )


class NoFittingPlanError(DefinitionError):
    """No planner has a plan for the goal; the caller must send one.

    Args:
        goal: What was asked for.
        example: Tasks of the shape to send, filled in for this goal.
        reasons: What was tried and why it was passed over, in sentences.
    """

    code = "no_fitting_plan"

    def __init__(
        self, goal: str, example: Sequence[Mapping[str, object]], reasons: Sequence[str] = ()
    ) -> None:
        super().__init__(goal, example, reasons)
        self.goal = goal
        self.example = tuple(example)
        self.reasons = tuple(reasons)

    def __str__(self) -> str:
        shown = self.goal if len(self.goal) <= 120 else self.goal[:119] + "…"
        tried = "".join(f" {reason}" for reason in self.reasons)
        return (
            f"There is no plan for the goal {shown!r}: no playbook is used and no tasks were sent.{tried} "
            f"Fix: send `tasks` with the goal, for example {json.dumps(self.example, ensure_ascii=False)}"
        )


# --- The state forbids it -----------------------------------------------------------------------------------------


class StateError(OrchestrationError):
    """The present state forbids the request; nothing was changed."""

    code = "invalid_state"


class OrchestrationNotFoundError(StateError):
    """No orchestration has this id here."""

    code = "orchestration_not_found"

    def __init__(self, orchestration_id: str) -> None:
        super().__init__(orchestration_id)
        self.orchestration_id = orchestration_id

    def __str__(self) -> str:
        return (
            f"There is no orchestration {self.orchestration_id!r}. Fix: list them "
            "(`advanced-orchestration list`, or get_orchestration_status without an id)."
        )


class TaskNotFoundError(StateError):
    """The orchestration has no such task."""

    code = "task_not_found"

    def __init__(self, orchestration_id: str, task_id: str, known: Sequence[str] = ()) -> None:
        super().__init__(orchestration_id, task_id, known)
        self.orchestration_id, self.task_id, self.known = orchestration_id, task_id, tuple(known)

    def __str__(self) -> str:
        some = f" It has: {', '.join(self.known[:20])}." if self.known else ""
        return f"Orchestration {self.orchestration_id!r} has no task {self.task_id!r}.{some}"


class ClaimNotFoundError(StateError):
    """Nobody ever made this claim, or it was removed with its orchestration."""

    code = "claim_not_found"

    def __init__(self, claim_id: str) -> None:
        super().__init__(claim_id)
        self.claim_id = claim_id

    def __str__(self) -> str:
        return (
            f"There is no claim {self.claim_id!r}. Fix: pass `claim` exactly as claim_task answered it, or claim "
            "a task."
        )


class NotPossibleError(StateError):
    """The orchestration or task is in a state in which this can't be done."""

    code = "not_possible"

    def __init__(self, subject: str, state: str, action: str, possible: str = "") -> None:
        super().__init__(subject, state, action, possible)
        self.subject, self.state, self.action, self.possible = subject, state, action, possible

    def __str__(self) -> str:
        possible = f" {self.possible}" if self.possible else ""
        return f"{self.subject} is {self.state}, so it can't be {self.action}.{possible}"


class RevisionConflictError(StateError):
    """A change was made for a revision of the plan that is not the present one."""

    code = "revision_conflict"

    def __init__(self, target: str, expected: int, present: int) -> None:
        super().__init__(target, expected, present)
        self.target, self.expected, self.present = target, expected, present

    def __str__(self) -> str:
        return (
            f"expected_revision is {self.expected}, but {self.target!r} has revision {self.present} by now; nothing "
            "was changed. Fix: look at the plan as it is, and send the change with its revision."
        )


class NotPermittedError(StateError):
    """Somebody else must say this: a model never agrees in a person's name.

    Args:
        action: What was tried.
        who: Who may do it.
        command: What that one types.
    """

    code = "not_permitted"

    def __init__(self, action: str, who: str, command: str) -> None:
        super().__init__(action, who, command)
        self.action, self.who, self.command = action, who, command

    def __str__(self) -> str:
        return f"Only {self.who} may {self.action}. Fix: show the user this command: `{self.command}`."


class OrchestrationInterruptedError(StateError):
    """The orchestration was let go before it ended; its state is stored as far as it came."""

    code = "interrupted"

    def __init__(self, orchestration_id: str) -> None:
        super().__init__(orchestration_id)
        self.orchestration_id = orchestration_id

    def __str__(self) -> str:
        return f"Orchestration {self.orchestration_id!r} was interrupted before it ended. Fix: resume it."


class RefusedByDriverError(StateError):
    """Whoever drives the orchestration refused a request; `code` and words are the driver's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message

    def __str__(self) -> str:
        return self.message


class ControlPendingError(StateError):
    """A request is stored, and the driver has not carried it out yet."""

    code = "control_pending"
    retryable = True

    def __init__(self, orchestration_id: str, driver: str, waited_seconds: float) -> None:
        super().__init__(orchestration_id, driver, waited_seconds)
        self.orchestration_id, self.driver, self.waited_seconds = orchestration_id, driver, waited_seconds

    def __str__(self) -> str:
        return (
            f"The request for {self.orchestration_id!r} is stored, but {self.driver}, which drives it, has not carried "
            f"it out within {self.waited_seconds:g} s. It will be, by that process or by the one that takes over. "
            "Fix: look at its status in a while."
        )


class InvalidTransitionError(StateError):
    """The engine was about to make a move its transition table forbids; a bug. `story` holds what led there."""

    code = "invalid_transition"

    def __init__(self, subject: str, start: str, finish: str, story: Sequence[object] = ()) -> None:
        super().__init__(subject, start, finish, story)
        self.subject, self.start, self.finish, self.story = subject, start, finish, tuple(story)

    def __str__(self) -> str:
        told = "".join(f"\n  {event!r}" for event in self.story)
        return f"{self.subject} can't go from {self.start} to {self.finish}." + (
            f" Its story:{told}" if told else ""
        )


class IdempotencyConflictError(StateError):
    """The same key was used before with other arguments."""

    code = "idempotency_conflict"

    def __init__(self, key: str, orchestration_id: str) -> None:
        super().__init__(key, orchestration_id)
        self.key, self.orchestration_id = key, orchestration_id

    def __str__(self) -> str:
        return (
            f"Key {self.key!r} was used for {self.orchestration_id!r} with other arguments. "
            "Fix: use a new key, or repeat the call exactly."
        )


class NestedOrchestrationError(StateError):
    """A task's own run asked this orchestrator for the goal it is already working on, or nests too deeply."""

    code = "nested_orchestration"

    def __init__(self, goal: str, depth: int, limit: int) -> None:
        super().__init__(goal, depth, limit)
        self.goal, self.depth, self.limit = goal, depth, limit

    def __str__(self) -> str:
        if self.depth > self.limit:
            return (
                f"Orchestrations nest {self.depth} deep; the limit is {self.limit}. Fix: run the task itself."
            )
        return (
            f"The goal {self.goal!r} is being orchestrated already by the task that asks for it. "
            "Fix: run the task itself instead of orchestrating it again."
        )


# --- Someone else owns it -----------------------------------------------------------------------------------------


class LeaseError(OrchestrationError):
    """Another process drives the orchestration."""

    code = "lease_error"


class LeaseHeldError(LeaseError):
    """The lease is held by a process that is alive."""

    code = "lease_held"

    def __init__(self, orchestration_id: str, holder: str) -> None:
        super().__init__(orchestration_id, holder)
        self.orchestration_id, self.holder = orchestration_id, holder

    def __str__(self) -> str:
        return (
            f"Orchestration {self.orchestration_id!r} is driven by {self.holder}. "
            "Fix: wait for it, or end that process."
        )


class StaleFencingTokenError(LeaseError):
    """A write carried a token older than the one on record; the writer has lost its lease and must stop."""

    code = "stale_fencing_token"

    def __init__(self, orchestration_id: str, presented: int, current: int) -> None:
        super().__init__(orchestration_id, presented, current)
        self.orchestration_id, self.presented, self.current = orchestration_id, presented, current

    def __str__(self) -> str:
        return (
            f"A write to {self.orchestration_id!r} carried fencing token {self.presented}, but {self.current} is "
            "current: another process took over."
        )


class LeaseLostError(LeaseError):
    """This process was silent for so long that another one took over; it has ended its attempts."""

    code = "lease_lost"

    def __init__(self, orchestration_id: str) -> None:
        super().__init__(orchestration_id)
        self.orchestration_id = orchestration_id

    def __str__(self) -> str:
        return (
            f"Another process took over {self.orchestration_id!r} while this one was silent (suspended, or stuck). The "
            "attempts that ran here were ended and what they would have reported is discarded; work that they began "
            "outside may overlap with theirs. Fix: nothing; its status says who drives it now."
        )


# --- One attempt went wrong ---------------------------------------------------------------------------------------


class AttemptError(OrchestrationError):
    """One attempt of a task went wrong; the task's retry policy decides what follows."""

    code = "attempt_error"
    effect_open: bool = False
    """Whether the effect may have happened all the same: a system's definite answer says False."""


class AttemptFailedError(AttemptError):
    """The system answered with a failure.

    Args:
        message: What went wrong, for readers.
        code: Stable, for programs.
        retryable: Whether repeating can help.
        retry_after_seconds: The least wait the system asked for.
        effect_open: Whether the effect may have happened all the same.
    """

    code = "task_failed"

    def __init__(
        self,
        message: str,
        code: str = "task_failed",
        retryable: bool = True,
        retry_after_seconds: float | None = None,
        effect_open: bool = False,
    ) -> None:
        super().__init__(message, code, retryable, retry_after_seconds, effect_open)
        self.message = message
        self.code = code
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        self.effect_open = effect_open

    def __str__(self) -> str:
        return self.message


class AttemptTimeoutError(AttemptError):
    """The attempt ran out of its time."""

    code = "timeout"
    retryable = True
    effect_open = True


class AttemptCancelledError(AttemptError):
    """The attempt was cancelled before it ended."""

    code = "cancelled"
    effect_open = True


class SystemUnavailableError(AttemptError):
    """The system can't be reached now; repeating may help.

    Args:
        system: Its name.
        reason: Why not.
        effect_open: Whether it was reached and lost again before it answered.
    """

    code = "system_unavailable"
    retryable = True

    def __init__(self, system: str, reason: str, effect_open: bool = False) -> None:
        super().__init__(system, reason, effect_open)
        self.system, self.reason, self.effect_open = system, reason, effect_open

    def __str__(self) -> str:
        return f"System {self.system!r} can't be reached: {self.reason}"


# --- The durable state --------------------------------------------------------------------------------------------


class StorageError(OrchestrationError):
    """The durable state can't be read or written."""

    code = "storage_error"

    def __init__(self, database: str, reason: str, fix: str = "") -> None:
        super().__init__(database, reason, fix)
        self.database, self.reason, self.fix = database, reason, fix

    def __str__(self) -> str:
        return f"Database {self.database}: {self.reason}" + (f" Fix: {self.fix}" if self.fix else "")


class StorageUnavailableError(StorageError):
    """The database is locked, read-only, full or gone."""

    code = "storage_unavailable"
    retryable = True


class SchemaVersionError(StorageError):
    """The database was made by a newer version; it is left untouched."""

    code = "schema_version"


class CorruptRecordError(StorageError):
    """A stored record can't be understood, or the file is not a database of this program."""

    code = "corrupt_record"


class ReplayError(OrchestrationError):
    """Replaying the journal went wrong; a bug: keep the journal."""

    code = "replay_error"


class HistoryMismatchError(ReplayError):
    """Replay gave another state than the stored one."""

    code = "history_mismatch"

    def __init__(self, expected: object, actual: object) -> None:
        super().__init__(expected, actual)
        self.expected, self.actual = expected, actual

    def __str__(self) -> str:
        return f"Replay gave {self.actual!r}, but the journal says {self.expected!r}."
