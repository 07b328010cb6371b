"""Live progress of an orchestration on stderr: a display that is redrawn on a terminal, plain lines
elsewhere.

May import: server.cli.output, orchestration.{clock, models, engine.events}, rich (late, on a terminal only),
stdlib.

A task that waits for a decision is told with the commands that decide, and told again on every redrawn display until
somebody has: the run goes on without it and waits for it at the end.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from orchestration.clock import SystemClock
from orchestration.engine.events import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptLeftOpen,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    Event,
    OrchestrationPaused,
    OrchestrationResumed,
    PlanRevised,
    Recorded,
    ReplanRequested,
    ResultReused,
    RetryDue,
    RetryRequested,
    RetryScheduled,
    TaskDecided,
    TaskFailed,
    TasksCancelled,
    TaskSkipped,
    VerificationUnclear,
)
from orchestration.models import SETTLED, OrchestrationId, TaskId, TaskStatus
from server.cli.output import Output, clip, counts, seconds

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
    AttemptLeftOpen,
    CancelRequested,
    OrchestrationPaused,
    OrchestrationResumed,
    PlanRevised,
    RetryRequested,
    TaskDecided,
    TaskFailed,
    VerificationUnclear,
)
"""Events that get a line of their own, however many tasks there are."""

Question: TypeAlias = Callable[[OrchestrationId, TaskId, str], Sequence[str]]
"""Makes the lines that tell of a task that waits for a decision, of what is known of it."""


def _plain_question(_: OrchestrationId, task_id: TaskId, known: str) -> list[str]:
    return [f"{task_id} waits for a decision: {clip(known)}"]


class Progress:
    """Follows the events of one orchestration.

    Args:
        output: Where plain lines go.
        statuses: Where the tasks stand when following begins.
        name: Stands before every plain line, where several orchestrations are told of at once.
        question: Makes the lines of a task that waits for a decision.
    """

    def __init__(
        self,
        output: Output,
        statuses: Mapping[TaskId, TaskStatus],
        name: str = "",
        question: Question = _plain_question,
    ) -> None:
        self._output = output
        self._question = question
        self._known: dict[TaskId, str] = {}
        """Of the tasks nobody knows the end of."""
        self._questions: dict[TaskId, Sequence[str]] = {}
        """The lines of those that somebody has to decide about."""
        self.verified: Collection[TaskId] = ()
        """Tasks with a `verify`, which is asked before anybody has to decide."""
        self._prefix = f"{name}: " if name else ""
        self._statuses = dict(statuses)
        self._counts = Counter(self._statuses.values())
        self._clock = SystemClock()
        self._began = self._clock.monotonic()
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
            if (before := self._statuses.get(task_id)) is not None:
                self._counts[before] -= 1
            self._statuses[task_id] = status
            self._counts[status] += 1
            if status is not TaskStatus.RUNNING:
                self._started.pop(task_id, None)
            if status is not TaskStatus.UNKNOWN:
                self._known.pop(task_id, None)
                self._questions.pop(task_id, None)

    def _note_question(self, recorded: Recorded) -> None:
        """Keep what is known of a task, and the lines that tell of it once somebody has to decide about it."""
        event = recorded.event
        if isinstance(event, AttemptLeftOpen):
            self._known[event.task_id] = event.error.message
            if event.task_id in self.verified:
                return
        elif isinstance(event, VerificationUnclear):
            known = self._known.get(event.task_id, "")
            self._known[event.task_id] = f"{known} `verify` could not say: {event.reason}".strip()
        else:
            return
        self._questions[event.task_id] = self._question(
            recorded.orchestration_id, event.task_id, self._known[event.task_id]
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
            case PlanRevised():
                self._move([event.task_id], TaskStatus.SUPERSEDED)
                self._move([task.task_id for task in event.tasks], TaskStatus.PENDING)
                return f"{event.task_id}: replaced by {', '.join(task.task_id for task in event.tasks)}"
            case _:
                pass
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
        for question in list(self._questions.values())[:_QUESTIONS_SHOWN]:
            lines += [Text(f"  {line}", style="yellow") for line in question]
        return Group(head, *lines)
