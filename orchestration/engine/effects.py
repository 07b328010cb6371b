"""What the engine asks the world to do. An effect is carried out only after the events that led to it are durable.

May import: orchestration.models, orchestration.engine.events (for `StopReason`), orchestration.engine.inputs (for
`OutputRef`), stdlib.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from orchestration.engine.events import StopReason
from orchestration.engine.inputs import OutputRef
from orchestration.models import ErrorRecord, OrchestrationId, OrchestrationStatus, TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAttempt:
    """Run the task on the system and report back."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    attempt: int
    system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAttempt:
    """Make a running attempt end; it reports `ReportCancelled` when it has."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    attempt: int
    because: StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class AbandonAttempt:
    """The attempt did not stop in time: forget it; its work may go on at the system, its report is not wanted."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAlternative:
    """Ask for an alternative plan; answered with `AlternativeFound` or `NoAlternative`."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    error: ErrorRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class AskVerification:
    """Run the task's `verify`; answered with `VerifyAnswer`."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    attempt: int
    """The attempt it is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUpResult:
    """Look for an equal task's output; answered with `CacheAnswer`."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    generation: int = 1
    """Of the task; an answer about an earlier one is not wanted any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeApproval:
    """Say what exactly would run; answered with `ApprovalDescribed`."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FindItems:
    """Count the items of a `foreach`; answered with `ItemsFound`."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherOutputs:
    """Make a task's output of its children's; answered with `OutputsGathered`."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeOffer:
    """Write down what a worker is told; answered with `OfferDescribed`."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    generation: int
    number: int
    """The offer it will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAtClaim:
    """Let a claim run out if its lease has ended; answered with `ClaimLooked`."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    claim: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckAcceptance:
    """Find out whether what was reported done counts; answered with `AcceptanceAnswer`."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    attempt: int
    output: OutputRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuePlan:
    """Make the rest of the plan; answered with `PlanGrown`, as often as there is more, and `PlanEnded`."""

    orchestration_id: OrchestrationId
    task_id: TaskId = ""
    """No task: the question is about the whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceFinished:
    """Tell whoever waits that the orchestration has ended."""

    orchestration_id: OrchestrationId
    outcome: OrchestrationStatus


TaskQuestion: TypeAlias = (
    AskVerification
    | LookUpResult
    | DescribeApproval
    | FindItems
    | GatherOutputs
    | DescribeOffer
    | LookAtClaim
    | CheckAcceptance
)
"""What is asked about one task beside its attempts; answered with an input of its own."""

Question: TypeAlias = RequestAlternative | ContinuePlan | TaskQuestion
"""Effects that are answered with an input of their own."""

Effect: TypeAlias = StartAttempt | StopAttempt | AbandonAttempt | AnnounceFinished | Question
