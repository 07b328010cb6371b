"""Live progress of an orchestration on stderr: a display that is redrawn on a terminal, plain lines
elsewhere.

May import: server.cli.{output, questions}, orchestration.{clock, models, engine.events}, rich (late, on a terminal
only), stdlib.

A task that waits for a decision, a yes or an answer is told with the commands that give it, and told again on every
redrawn display until somebody has: the run goes on without it and waits for it at the end.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from orchestration.clock import SystemClock
from orchestration.engine.events import (
    ApprovalGiven,
    ApprovalRequested,
    ApprovalVoided,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLeftOpen,
    AttemptStarted,
    AttemptSucceeded,
    CallerAsked,
    CancelRequested,
    ChildrenGathered,
    ClaimReleased,
    ClaimReported,
    ClaimResumed,
    ClaimStarted,
    Event,
    FallbackStarted,
    OrchestrationPaused,
    OrchestrationResumed,
    PlanCompleted,
    PlanEdited,
    PlanExtended,
    PlanRevised,
    Recorded,
    ReplanRequested,
    ResultReused,
    RetryDue,
    RetryRequested,
    RetryScheduled,
    TaskDecided,
    TaskExpanded,
    TaskFailed,
    TaskOffered,
    TaskRerouted,
    TasksCancelled,
    TaskSkipped,
    VerificationUnclear,
)
from orchestration.models import SETTLED, OrchestrationId, TaskId, TaskNode, TaskStatus
from server.cli.output import Output, clip, counts, seconds
from server.cli.questions import Waits

if TYPE_CHECKING:
    from rich.console import RenderableType

_EACH_TASK_UP_TO = 60
"""With more tasks than this plain lines tell counts once a second, and single tasks only where something
fails.
"""

_RUNNING_SHOWN = 8
_QUESTIONS_SHOWN = 3
_PAUSE_US = 1_000_000

_ALWAYS_TOLD = (
    ApprovalGiven,
    ApprovalRequested,
    ApprovalVoided,
    AttemptLeftOpen,
    CallerAsked,
    CancelRequested,
    FallbackStarted,
    OrchestrationPaused,
    OrchestrationResumed,
    PlanCompleted,
    PlanEdited,
    PlanRevised,
    RetryRequested,
    TaskDecided,
    TaskFailed,
    TaskOffered,
    TaskRerouted,
    VerificationUnclear,
)
"""Events that get a line of their own, however many tasks there are."""

Questions: TypeAlias = Callable[[OrchestrationId, TaskId, Waits, str], Sequence[str]]
"""Makes the lines that tell of a task that waits for somebody: for what, and what is known of it."""

FOR_WORKERS = "waits for a worker: claim_task over MCP"
"""How a task is told of that is offered to agents: a server on the same database gives it out."""

_WAITING = frozenset({TaskStatus.UNKNOWN, TaskStatus.AWAITING_APPROVAL, TaskStatus.REPLANNING})
"""Statuses in which a task may wait for somebody."""


def _plain_questions(_: OrchestrationId, task_id: TaskId, what: Waits, known: str) -> list[str]:
    return [f"{task_id} waits for {'an' if what[0] == 'a' else 'a'} {what}: {clip(known)}"]


class Progress:
    """Follows the events of one orchestration.

    Args:
        output: Where plain lines go.
        statuses: Where the tasks stand when following begins.
        composites: Those of them that others do the work of: they are not counted.
        name: Stands before every plain line, where several orchestrations are told of at once.
        questions: Makes the lines of a task that waits for somebody.
    """

    def __init__(
        self,
        output: Output,
        statuses: Mapping[TaskId, TaskStatus],
        *,
        composites: Iterable[TaskId] = (),
        name: str = "",
        questions: Questions = _plain_questions,
    ) -> None:
        self._output = output
        self._question = questions
        self._known: dict[TaskId, str] = {}
        """Of the tasks nobody knows the end of."""
        self._questions: dict[TaskId, Sequence[str]] = {}
        """The lines of those that wait for somebody."""
        self.verified: Collection[TaskId] = ()
        """Tasks with a `verify`, which is asked before anybody has to decide."""
        self._prefix = f"{name}: " if name else ""
        self._composites = set(composites)
        self._statuses = {
            task_id: status for task_id, status in statuses.items() if task_id not in self._composites
        }
        self._counts = Counter(self._statuses.values())
        self._clock = SystemClock()
        self._began = self._clock.monotonic()
        self._offered = {
            task_id: f"{task_id} {FOR_WORKERS}"
            for task_id, status in self._statuses.items()
            if status is TaskStatus.OFFERED
        }
        """The lines of those that wait for a worker."""
        self._started: dict[TaskId, int] = {}
        self._now_us = 0
        self._told_us = 0
        self._is_live = False
        self.is_muted = False
        """Whether only the display, if any, is to be seen."""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show progress while the block runs."""
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.live import Live

        self._is_live = True
        console = Console(stderr=True)
        with Live(console=console, get_renderable=self._display, refresh_per_second=8, transient=True):
            yield
        self._is_live = False

    def take(self, recorded: Recorded) -> None:
        """Take note of an event; given to the orchestrator as `on_event`."""
        self._now_us = recorded.at_us
        self._note_question(recorded)
        line = self._note(recorded.event)
        if self._is_live or self.is_muted:
            return
        total = self._total
        if line is not None and (total <= _EACH_TASK_UP_TO or isinstance(recorded.event, _ALWAYS_TOLD)):
            for told in line.splitlines():
                self._output.note(self._prefix + told)
        elif total > _EACH_TASK_UP_TO and self._now_us - self._told_us >= _PAUSE_US:
            self._told_us = self._now_us
            self._output.note(f"{self._prefix}{self._settled:,} of {total:,} settled: {self._counted()}")

    @property
    def _total(self) -> int:
        return len(self._statuses) - self._counts[TaskStatus.SUPERSEDED]

    @property
    def _settled(self) -> int:
        return sum(self._counts[status] for status in SETTLED)

    def _counted(self) -> str:
        return counts({status.value: self._counts[status] for status in TaskStatus})

    def _move(self, task_ids: Iterable[TaskId], status: TaskStatus) -> None:
        for task_id in task_ids:
            if task_id in self._composites:
                continue
            if (before := self._statuses.get(task_id)) is not None:
                self._counts[before] -= 1
            self._statuses[task_id] = status
            self._counts[status] += 1
            if status not in {TaskStatus.RUNNING, TaskStatus.CLAIMED}:
                self._started.pop(task_id, None)
            self._offered.pop(task_id, None)
            if status not in _WAITING:
                self._known.pop(task_id, None)
                self._questions.pop(task_id, None)

    def _join(self, nodes: Iterable[TaskNode]) -> None:
        """Count in tasks that a revision or the rest of the plan brings."""
        nodes = list(nodes)
        self._composites.update(node.task_id for node in nodes if node.foreach is not None)
        for parent in {node.parent for node in nodes if node.parent is not None}:
            if (before := self._statuses.pop(parent, None)) is not None:  # it has parts from now on
                self._counts[before] -= 1
            self._composites.add(parent)
        self._move([node.task_id for node in nodes], TaskStatus.PENDING)

    def _note_question(self, recorded: Recorded) -> None:
        """Keep what is known of a task, and the lines that tell of it once it waits for somebody."""
        event = recorded.event
        what: Waits = "decision"
        if isinstance(event, AttemptLeftOpen):
            self._known[event.task_id] = event.error.message
            if event.task_id in self.verified:
                return
        elif isinstance(event, VerificationUnclear):
            known = self._known.get(event.task_id, "")
            self._known[event.task_id] = f"{known} `verify` could not say: {event.reason}".strip()
        elif isinstance(event, ApprovalRequested):
            what, self._known[event.task_id] = "approval", event.shown
        elif isinstance(event, CallerAsked):
            what, self._known[event.task_id] = "answer", event.reason
        else:
            return
        self._questions[event.task_id] = self._question(
            recorded.orchestration_id, event.task_id, what, self._known[event.task_id]
        )

    def _took(self, task_id: TaskId) -> str:
        started = self._started.get(task_id)
        return "" if started is None else f" in {seconds((self._now_us - started) / 1_000_000)}"

    def _note(self, event: Event) -> str | None:  # noqa: C901  one flat case per kind of event
        """Fold an event in and return what to say about it; None for nothing."""
        match event:
            case AttemptStarted():
                self._started[event.task_id] = self._now_us
                self._move([event.task_id], TaskStatus.RUNNING)
                again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
                return f"{event.task_id}: started on {event.system}{again}"
            case AttemptSucceeded():
                took = self._took(event.task_id)
                self._move([event.task_id], TaskStatus.COMPLETED)
                return f"{event.task_id}: completed{took}"
            case AttemptFailed():
                return f"{event.task_id}: attempt {event.attempt} failed: {clip(event.error.message)}"
            case AttemptInterrupted():
                self._move([event.task_id], TaskStatus.READY)
                return f"{event.task_id}: attempt {event.attempt} was interrupted; it runs again"
            case AttemptLeftOpen():
                self._move([event.task_id], TaskStatus.UNKNOWN)
                asked = [f"{event.task_id}: nobody knows whether it happened; `verify` is asked"]
                return "\n".join(self._questions.get(event.task_id, asked))
            case VerificationUnclear():
                return "\n".join(self._questions[event.task_id])
            case TaskDecided():
                if event.decision != "failed":  # its failure is an event of its own
                    is_done = event.decision == "done"
                    self._move([event.task_id], TaskStatus.COMPLETED if is_done else TaskStatus.READY)
                because = f" ({clip(event.reason)})" if event.reason else ""
                return f"{event.task_id}: decided by {clip(event.by)}: {event.decision}{because}"
            case ResultReused():
                self._move([event.task_id], TaskStatus.COMPLETED)
                how = "cached" if event.because == "cache" else "reused"
                return f"{event.task_id}: completed by the {how} output of {event.source}"
            case RetryRequested():
                self._move(event.task_ids, TaskStatus.PENDING)
                return f"run again: {clip(', '.join(event.task_ids), 300)}"
            case OrchestrationPaused():
                return "paused: what runs may finish, nothing starts until it is resumed"
            case OrchestrationResumed():
                return "resumed"
            case CancelRequested():
                return "cancelling" + (f": {clip(event.reason)}" if event.reason else "")
            case RetryScheduled():
                self._move([event.task_id], TaskStatus.RETRYING)
                return f"{event.task_id}: tried again in {seconds(event.delay_seconds)}"
            case RetryDue():
                self._move([event.task_id], TaskStatus.READY)
            case TaskFailed():
                self._move([event.task_id], TaskStatus.FAILED)
                return f"{event.task_id}: failed: {clip(event.error.message)}"
            case TaskSkipped():
                self._move([event.task_id], TaskStatus.SKIPPED)
                return f"{event.task_id}: skipped because of {event.because}"
            case TasksCancelled():
                self._move(event.task_ids, TaskStatus.CANCELLED)
            case ReplanRequested():
                self._move([event.task_id], TaskStatus.REPLANNING)
                return f"{event.task_id}: an alternative is being planned"
            case ApprovalRequested():
                self._move([event.task_id], TaskStatus.AWAITING_APPROVAL)
                return "\n".join(self._questions[event.task_id])
            case ApprovalGiven():
                self._move([event.task_id], TaskStatus.READY)
                because = f" ({clip(event.reason)})" if event.reason else ""
                return f"{event.task_id}: approved by {clip(event.by)}{because}"
            case ApprovalVoided():
                self._move([event.task_id], TaskStatus.READY)
                return f"{event.task_id}: what was agreed to has changed; it asks anew"
            case CallerAsked():
                return "\n".join(self._questions[event.task_id])
            case TaskRerouted():
                self._move([event.task_id], TaskStatus.READY)
                return f"{event.task_id}: its system used up its attempts; it goes to {event.system}"
            case FallbackStarted():
                self._move([event.task_id], TaskStatus.READY)
                return f"{event.task_id}: its fallback takes over"
            case TaskOffered() | ClaimStarted() | ClaimResumed() | ClaimReported() | ClaimReleased():
                return self._note_claim(event)
            case _:
                return self._note_graph(event)
        return None

    def _note_claim(
        self, event: TaskOffered | ClaimStarted | ClaimResumed | ClaimReported | ClaimReleased
    ) -> str:
        """Fold in what becomes of a task that agents do, and return what to say about it."""
        task_id = event.task_id
        match event:
            case TaskOffered():
                told = f"{task_id}: offered; it {FOR_WORKERS}"
                self._move([task_id], TaskStatus.OFFERED)
                self._offered[task_id] = f"{task_id} {FOR_WORKERS}"
            case ClaimStarted():
                self._move([task_id], TaskStatus.CLAIMED)
                self._started[task_id] = self._now_us
                told = f"{task_id}: claimed by {clip(event.worker, 100)}"
            case ClaimResumed():
                self._move([task_id], TaskStatus.CLAIMED)
                told = f"{task_id}: its worker reported late, and goes on"
            case ClaimReported():
                told = f"{task_id}: reported done; that is being checked"
            case ClaimReleased():
                self._move([task_id], TaskStatus.OFFERED)
                self._offered[task_id] = f"{task_id} {FOR_WORKERS}"
                because = f" ({clip(event.reason)})" if event.reason else ""
                told = f"{task_id}: given back by its worker{because}; it {FOR_WORKERS}"
        return told

    def _note_graph(self, event: Event) -> str | None:
        """Fold in what changes which tasks there are, and return what to say about it."""
        match event:
            case TaskExpanded():
                if event.count is None:
                    return None
                items = [f"{event.task_id}[{index}]" for index in range(event.count)]
                self._move([name for name in items if name not in self._statuses], TaskStatus.PENDING)
                return f"{event.task_id}: one part for each of {event.count:,} items"
            case ChildrenGathered():
                return f"{event.task_id}: completed with its parts"
            case PlanRevised():
                self._move([event.task_id], TaskStatus.SUPERSEDED)
                self._join(event.tasks)
                because = f": {clip(event.reason)}" if event.reason else ""
                return (
                    f"{event.task_id}: replaced by {', '.join(task.task_id for task in event.tasks)}{because}"
                )
            case PlanEdited():
                self._move(event.removed, TaskStatus.SUPERSEDED)
                self._join(event.added)
                because = f": {clip(event.reason)}" if event.reason else ""
                return f"the plan was edited by {clip(event.by)} (revision {event.revision}){because}"
            case PlanExtended():
                self._join(event.tasks)
                return f"planned: {clip(', '.join(task.task_id for task in event.tasks), 300)}"
            case PlanCompleted():
                return "the plan is whole"
            case _:
                return None

    def _display(self) -> RenderableType:
        """Draw the present state."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        head = Table.grid(padding=(0, 1))
        elapsed = seconds(self._clock.monotonic() - self._began)
        head.add_row(
            ProgressBar(total=max(self._total, 1), completed=self._settled, width=30),
            f"{self._settled:,}/{self._total:,}",
            self._counted(),
            elapsed,
        )
        running = list(self._started)
        lines = [Text(f"  {task_id}", style="cyan") for task_id in running[:_RUNNING_SHOWN]]
        if len(running) > _RUNNING_SHOWN:
            lines.append(Text(f"  … and {len(running) - _RUNNING_SHOWN} more"))
        lines += [
            Text(f"  {line}", style="magenta") for line in list(self._offered.values())[:_QUESTIONS_SHOWN]
        ]
        for question in list(self._questions.values())[:_QUESTIONS_SHOWN]:
            lines += [Text(f"  {line}", style="yellow") for line in question]
        return Group(head, *lines)
