"""The world a schedule's attempts act upon: effects are counted here, whoever asked for them and whatever is recorded.

An attempt takes effect at some moment and is reported at a later one; between the two its driver may die. It may also
hang, break off with its effect open, report twice, too late or never, or go on although it was asked to stop. What a
driver that died had begun may still take effect.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from orchestration.engine.effects import (
    AskVerification,
    FindItems,
    RequestAlternative,
    StartAttempt,
    StopAttempt,
)
from orchestration.engine.inputs import (
    AlternativeFound,
    Heartbeat,
    Input,
    ItemsFound,
    NoAlternative,
    ReportCancelled,
    ReportFailure,
    ReportSuccess,
    Routes,
    VerifyAnswer,
)
from orchestration.models import ErrorRecord, TaskId, TaskNode
from tests.simulation.graphs import ID, SYSTEM, VALUES, VERIFIED, Value, random_plan


class Driver(Protocol):
    """What the world sees of whoever gave it an attempt."""

    is_dead: bool

    def hear(self, item: Input, value: Value | None = None, attempt: Attempt | None = None) -> None:
        """Take a report or an answer."""
        ...

    def is_asleep_until(self) -> int | None:
        """Return until when it is suspended; None when it is not."""
        ...

    def has_acted(self) -> None:
        """An attempt of it has just taken effect; it may die of that."""
        ...


class Timetable(Protocol):
    """Where the world's own events are entered."""

    now_us: int

    def later(self, seconds: float, what: Callable[..., object], *arguments: object) -> None:
        """Have `what` called with `arguments` so many seconds from now."""
        ...


@dataclass(slots=True)
class Attempt:
    """One attempt as the world knows it."""

    driver: Driver
    token: int
    node: TaskNode
    number: int
    key: str
    is_external: bool
    """Whether it goes on when its driver dies."""
    is_live: bool = True
    """Whether its driver waits for it."""
    is_over: bool = False
    """Whether nothing can come of it any more."""
    has_happened: bool = False

    @property
    def task_id(self) -> TaskId:
        return self.node.task_id


@dataclass(slots=True)
class Outside:
    """The world.

    Args:
        rng: Draws what becomes of attempts.
        times: Where its events are entered.
    """

    rng: random.Random
    times: Timetable
    attempts: dict[tuple[TaskId, int], Attempt] = field(default_factory=dict)
    effects: Counter[TaskId] = field(default_factory=Counter)
    """How often each task took effect."""
    once: Counter[TaskId] = field(default_factory=Counter)
    """How often it took an effect that must not be repeated."""
    on_not_done: Callable[[TaskId], None] = lambda _task_id: None
    """Told when a task was found not to have happened: nothing may come of it any more."""
    _items: dict[TaskId, int] = field(default_factory=dict)
    """How long each list is."""
    _live: dict[int, dict[TaskId, Attempt]] = field(default_factory=lambda: defaultdict(dict))
    """Live attempts by the token they were started under."""

    # Attempts

    def begin(self, driver: Driver, token: int, effect: StartAttempt, node: TaskNode, key: str) -> None:
        """Start an attempt."""
        name = f"{effect.task_id}#{effect.attempt}"
        place = (effect.task_id, effect.attempt)
        live = self._live[token]
        assert place not in self.attempts, f"{name} was begun twice"
        assert effect.task_id not in live, f"two live attempts of {effect.task_id} under one token"
        attempt = Attempt(driver, token, node, effect.attempt, key, self.rng.random() < 0.5)
        self.attempts[place] = live[effect.task_id] = attempt
        self._draw(attempt)

    def _draw(self, attempt: Attempt) -> None:
        """Decide how an attempt will go."""
        draw, later = self.rng.random(), self.times.later
        acts_in = self.rng.random() * 15
        reports_in = acts_in + self.rng.random() * 5
        is_silent = attempt.node.heartbeat_timeout_seconds is not None and self.rng.random() < 0.15
        if not is_silent:
            self._beat(attempt)
        if draw < 0.70:
            later(acts_in, self._act, attempt)
            self._report_later(reports_in, attempt, self._success(attempt))
        elif draw < 0.84:  # a definite error: there is no effect, and there will be none
            attempt.is_over = True
            self._report_later(acts_in, attempt, self._failure(attempt, is_open=False))
        elif draw < 0.90:
            if self.rng.random() < 0.5:
                later(acts_in, self._act, attempt)
            self._report_later(reports_in, attempt, self._failure(attempt, is_open=True))
        elif draw < 0.92:
            self._report_later(acts_in, attempt, self._cancelled(attempt))
        elif draw < 0.96:  # hangs, after its effect or before
            if self.rng.random() < 0.5:
                later(acts_in, self._act, attempt)
        else:  # its report gets lost
            later(acts_in, self._act, attempt)

    def _success(self, attempt: Attempt) -> tuple[Input, Value | None]:
        value = self.rng.choice(VALUES)
        return (
            ReportSuccess(
                orchestration_id=ID,
                task_id=attempt.task_id,
                attempt=attempt.number,
                output=value.ref,
                value=value.json,
            ),
            value,
        )

    def _failure(self, attempt: Attempt, *, is_open: bool) -> tuple[Input, Value | None]:
        error = ErrorRecord(
            code="broken",
            message="it broke",
            retryable=self.rng.random() < 0.8,
            attempt=attempt.number,
            system=SYSTEM,
            retry_after_seconds=self.rng.choice([None, None, 5.0]),
            effect_open=is_open,
        )
        return (
            ReportFailure(
                orchestration_id=ID,
                task_id=attempt.task_id,
                attempt=attempt.number,
                error=error,
                jitter=self.rng.random(),
            ),
            None,
        )

    def _cancelled(self, attempt: Attempt) -> tuple[Input, Value | None]:
        return (
            ReportCancelled(
                orchestration_id=ID, task_id=attempt.task_id, attempt=attempt.number, jitter=self.rng.random()
            ),
            None,
        )

    def _act(self, attempt: Attempt) -> None:
        """Take effect, unless nothing can come of the attempt any more."""
        if attempt.is_over:
            return
        if not attempt.is_external:
            if attempt.driver.is_dead:  # it went with that process, which may have died in its sleep
                attempt.is_over = True
                return
            wakes_us = attempt.driver.is_asleep_until()
            if wakes_us is not None:  # it runs in that process, and stands still with it
                self.times.later((wakes_us - self.times.now_us) / 1_000_000, self._act, attempt)
                return
        attempt.has_happened = attempt.is_over = True
        self.effects[attempt.task_id] += 1
        self.once[attempt.task_id] += not attempt.node.idempotent
        if not attempt.driver.is_dead:
            attempt.driver.has_acted()

    def _report_later(self, seconds: float, attempt: Attempt, report: tuple[Input, Value | None]) -> None:
        self.times.later(seconds, self._report, attempt, report)
        if self.rng.random() < 0.05:
            self.times.later(seconds + self.rng.random() * 10, self._report, attempt, report)

    def _report(self, attempt: Attempt, report: tuple[Input, Value | None]) -> None:
        """Tell the driver; a success is only told of what happened."""
        item, value = report
        if attempt.driver.is_dead or (isinstance(item, ReportSuccess) and not attempt.has_happened):
            return
        wakes_us = attempt.driver.is_asleep_until()
        if wakes_us is not None:
            self.times.later((wakes_us - self.times.now_us) / 1_000_000, self._report, attempt, report)
            return
        self._forget(attempt)
        attempt.driver.hear(item, value, attempt)

    def _beat(self, attempt: Attempt) -> None:
        """Give a sign of life, again and again."""
        limit = attempt.node.heartbeat_timeout_seconds
        if limit is None or attempt.driver.is_dead or not attempt.is_live:
            return
        attempt.driver.hear(Heartbeat(orchestration_id=ID, task_id=attempt.task_id, attempt=attempt.number))
        self.times.later(limit * 0.6, self._beat, attempt)

    def stop(self, effect: StopAttempt) -> None:
        """Ask an attempt to stop: it does, or delivers all the same, or does neither."""
        attempt = self.attempts.get((effect.task_id, effect.attempt))
        if attempt is None or not attempt.is_live:
            return
        draw = self.rng.random()
        if draw < 0.7:
            if not attempt.has_happened and self.rng.random() < 0.7:
                attempt.is_over = True
            self.times.later(self.rng.random() * 2, self._report, attempt, self._cancelled(attempt))
        elif draw < 0.85:
            self.times.later(self.rng.random() * 2, self._act, attempt)
            self.times.later(2.0 + self.rng.random() * 2, self._report, attempt, self._success(attempt))

    def abandon(self, task_id: TaskId, number: int) -> None:
        """Nobody waits for the attempt any more; it may go on."""
        attempt = self.attempts.get((task_id, number))
        if attempt is not None:  # else it did not begin: it was not what somebody had agreed to
            self._forget(attempt)

    def lose(self, token: int, *, is_dead: bool) -> None:
        """The driver under a token died, or let go: what it ran ends with it where it can."""
        for attempt in self._live.pop(token, {}).values():
            attempt.is_live = False
            if not attempt.has_happened and not (is_dead and attempt.is_external) and self.rng.random() < 0.7:
                attempt.is_over = True

    def _forget(self, attempt: Attempt) -> None:
        attempt.is_live = False
        live = self._live[attempt.token]
        if live.get(attempt.task_id) is attempt:
            del live[attempt.task_id]

    def has_happened(self, task_id: TaskId, number: int) -> bool:
        """Whether an attempt had its effect."""
        return self.attempts[task_id, number].has_happened

    # Questions

    def verify(self, driver: Driver, effect: AskVerification) -> None:
        """Look whether a task has taken effect, after a while, and tell what was found after another."""
        self.times.later(self.rng.random() * 3, self._look, driver, effect)

    def _look(self, driver: Driver, effect: AskVerification) -> None:
        answer = VerifyAnswer(
            orchestration_id=ID,
            task_id=effect.task_id,
            attempt=effect.attempt,
            answer="unclear",
            reason="who knows",
        )
        value = None
        if self.rng.random() < 0.75:
            if self.effects[effect.task_id]:
                answer = VerifyAnswer(
                    orchestration_id=ID,
                    task_id=effect.task_id,
                    attempt=effect.attempt,
                    answer="done",
                    output=VERIFIED.ref,
                    value=VERIFIED.json,
                )
                value = VERIFIED
            else:  # what has not happened by now never will
                answer = VerifyAnswer(
                    orchestration_id=ID, task_id=effect.task_id, attempt=effect.attempt, answer="not_done"
                )
                self.on_not_done(effect.task_id)
                for number in range(1, effect.attempt + 1):
                    if (effect.task_id, number) in self.attempts:
                        self.attempts[effect.task_id, number].is_over = True
        self.times.later(self.rng.random() * 3, driver.hear, answer, value)

    def plan(self, driver: Driver, effect: RequestAlternative) -> None:
        """Make an alternative plan, or find that there is none."""
        found: Input = NoAlternative(orchestration_id=ID, task_id=effect.task_id, reason="none")
        if self.rng.random() < 0.7:
            dag = random_plan(self.rng)
            found = AlternativeFound(
                orchestration_id=ID,
                task_id=effect.task_id,
                dag=dag,
                routes=Routes(systems=dict.fromkeys(dag.nodes, SYSTEM)),
                delivers=self.rng.choice([None, "p"]),
            )
        self.times.later(self.rng.random() * 30, driver.hear, found)

    def count_items(self, driver: Driver, effect: FindItems) -> None:
        """Count the items of a list: as many each time, now and then too many."""
        count = self._items.setdefault(effect.task_id, self.rng.choice([0, 1, 2, 3]))
        too_many = ErrorRecord(code="too_many_items", message="too many")
        found = ItemsFound(
            orchestration_id=ID,
            task_id=effect.task_id,
            generation=effect.generation,
            count=count,
            error=too_many if self.rng.random() < 0.05 else None,
        )
        self.times.later(self.rng.random() * 2, driver.hear, found)
