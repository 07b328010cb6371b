"""What a process of a schedule is in, what comes into its inbox, and the points where something may happen to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from orchestration.engine.inputs import Decide, Input
from orchestration.ports import DriverIdentity
from tests.simulation.graphs import DECIDED, Story, Value
from tests.simulation.outside import Attempt, Outside
from tests.simulation.promises import Promises
from tests.simulation.store import Control, Store
from tests.simulation.workers import Workforce

if TYPE_CHECKING:
    from tests.simulation.driver import Process


class Point(StrEnum):
    """Where a process may die, be suspended, or be slow."""

    AFTER_LEASE = "after_lease_before_replay"
    TAKEOVER_BEFORE = "at_takeover_before_commit"
    TAKEOVER_AFTER = "at_takeover_after_commit"
    CONTROL_BEFORE = "at_control_before_commit"
    CONTROL_AFTER = "at_control_after_commit"
    REPORT_BEFORE = "after_report_before_commit"
    BEFORE = "before_commit"
    AFTER = "after_commit_before_effects"
    BETWEEN = "between_effects"
    EFFECT = "after_effect_before_report"
    RELEASE = "before_release"
    WAITING = "waiting"
    """For something to come in; not a point to die at, as nothing is under way."""


@dataclass(slots=True)
class Letter:
    """Something in a process's inbox."""

    item: Input
    value: Value | None = None
    attempt: Attempt | None = None
    control: Control | None = None


def letter_of(control: Control) -> Letter:
    """Return a request as it comes into an inbox, with the output that its decision, or a report, brings."""
    is_done = isinstance(control.item, Decide) and control.item.decision == "done"
    return Letter(control.item, DECIDED if is_done else control.value, control=control)


class Surroundings(Protocol):
    """What a process is in."""

    now_us: int
    rng: random.Random
    story: Story
    store: Store
    outside: Outside
    promises: Promises
    workforce: Workforce
    lease_seconds: float
    stale_starts: int
    declaration: int
    """Of the system; what somebody agreed to under another one is something else."""

    def say(self, text: str) -> None: ...
    def is_dead_here(self, holder: DriverIdentity) -> bool: ...
    def wake(self, process: Process) -> None: ...
    def meet(self, process: Process, point: Point) -> bool: ...
    def fault(self) -> str: ...
    def later(self, seconds: float, what: Callable[..., object], *arguments: object) -> None: ...
    def answer_later(self, process: Process, answer: Input, value: Value | None) -> None: ...
    def grow_plan(self, process: Process) -> None: ...
