"""Live progress of an orchestration on stderr: a display that is redrawn on a terminal, plain lines
elsewhere.

May import: server.cli.output, orchestration.{clock, models, engine.events}, rich (late, on a terminal only),
stdlib.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestration.clock import SystemClock
from orchestration.engine.events import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    PlanRevised,
    Recorded,
    ReplanRequested,
    RetryDue,
    RetryScheduled,
    TaskFailed,
    TasksCancelled,
    TaskSkipped,
)
from orchestration.models import SETTLED, TaskId, TaskStatus
from server.cli.output import Output, clip, counts, seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

_EACH_TASK_UP_TO = 60
"""With more tasks than this plain lines tell counts once a second, and single tasks only where something
fails.
"""

_RUNNING_SHOWN = 8
_PAUSE_US = 1_000_000


class Progress:
    """Follows the events of one orchestration.

    Args:
        output: Where plain lines go.
        statuses: Where the tasks stand when following begins.
        name: Stands before every plain line, where several orchestrations are told of at once.
    """

    def __init__(self, output: Output, statuses: Mapping[TaskId, TaskStatus], name: str = "") -> None:
        self._output = output
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
        line = self._note(recorded.event)
        if self._is_live or self.is_muted:
            return
        total = self._total
        if line is not None and (
            total <= _EACH_TASK_UP_TO or isinstance(recorded.event, TaskFailed | PlanRevised)
        ):
            self._output.note(self._prefix + line)
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

    def _took(self, task_id: TaskId) -> str:
        started = self._started.get(task_id)
        return "" if started is None else f" in {seconds((self._now_us - started) / 1_000_000)}"

    def _note(self, event: Event) -> str | None:  # one line per kind of event
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
        return Group(head, *lines)
