"""A standing set of workers that run attempts and report how they ended; and the questions asked beside them.

May import: orchestration.{clock, logs, models, ports}, orchestration.engine.*,
orchestration.execution.{attempts, driven, questions}, anyio, stdlib.

One anyio task per worker, not per attempt: starting one costs more than most of what the loop does for a task.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable

import anyio
import anyio.abc

from orchestration.clock import Clock
from orchestration.engine.effects import AbandonAttempt, StartAttempt, StopAttempt, TaskQuestion
from orchestration.engine.inputs import Heartbeat, ReportCancelled
from orchestration.engine.state import State
from orchestration.execution.attempts import AttemptRunner, Reported
from orchestration.execution.driven import Driven, enclosing_goals
from orchestration.execution.questions import QuestionDesk
from orchestration.logs import get_logger
from orchestration.models import OrchestrationId, TaskId, TaskStatus
from orchestration.ports import Progress

log = get_logger()

AttemptKey = tuple[OrchestrationId, TaskId, int]

_QUESTION = 0
"""In place of an attempt's number: a question about its task. Numbers count from 1."""

_QUESTIONS_AT_ONCE = 20
"""Questions under way at once; they hold no slot."""

_BEATS_PER_LIMIT = 4
"""How often, within the longest silence allowed, an attempt's signs of life are passed on."""


class _Pulse:
    """Signs of life of one attempt, from whichever thread it runs on."""

    def __init__(self) -> None:
        self.is_beaten = False

    def beat(self) -> None:
        """Note one."""
        self.is_beaten = True


class Workers:
    """Runs attempts, one per worker at a time.

    Args:
        runner: Runs one attempt.
        desk: Answers questions about tasks.
        clock: Where time comes from.
        draw: Draws a number in [0, 1): the jitter of attempts that were stopped.
        post: Takes reports: input, output, its place in the cache.
        find: Returns an orchestration that is driven here.
        confirm: Makes sure, after a gap, that what is driven here still is; called right before each attempt.
    """

    def __init__(
        self,
        runner: AttemptRunner,
        desk: QuestionDesk,
        clock: Clock,
        draw: Callable[[], float],
        post: Callable[..., None],
        find: Callable[[OrchestrationId], Driven | None],
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        self._runner = runner
        self._desk = desk
        self._clock = clock
        self._draw = draw
        self._post = post
        self._find = find
        self._confirm = confirm
        self._group: anyio.abc.TaskGroup | None = None
        self._attempts: deque[StartAttempt | None] = deque()
        """Attempts no worker has taken yet; None sends one worker home."""
        self._idle: list[anyio.Event] = []
        self._scopes: dict[AttemptKey, anyio.CancelScope] = {}
        self._abandoned: set[AttemptKey] = set()
        self.told: dict[AttemptKey, Progress] = {}
        """How far running attempts say they have come; written from any thread."""
        self._questions = anyio.Semaphore(_QUESTIONS_AT_ONCE)

    def start(self, group: anyio.abc.TaskGroup, count: int) -> None:
        """Begin to work, in a task group that ends the workers, too."""
        self._group = group
        for _ in range(count):
            self.hire()

    def hire(self) -> None:
        """Add a worker."""
        assert self._group is not None, "there is work only while the coordinator runs"
        self._group.start_soon(self._work)

    def dismiss(self) -> None:
        """Send a worker home as soon as it has nothing else to do."""
        self._queue(None)

    def give(self, effect: StartAttempt) -> None:
        """Have an attempt run."""
        self._queue(effect)

    def _queue(self, effect: StartAttempt | None) -> None:
        self._attempts.append(effect)
        if self._idle:
            self._idle.pop().set()

    def cancel_all(self, orchestration_id: OrchestrationId) -> None:
        """End the attempts of an orchestration that is let go; their reports mean nothing any more.

        One that takes its time to end keeps its worker; another one takes its place.
        """
        self._attempts = deque(
            effect
            for effect in self._attempts
            if effect is None or effect.orchestration_id != orchestration_id
        )
        for key, scope in list(self._scopes.items()):
            if key[0] == orchestration_id:
                scope.cancel()
                if key[2] != _QUESTION and key not in self._abandoned:
                    self._abandoned.add(key)
                    self.hire()

    def stop(self, effect: StopAttempt) -> None:
        """Cancel a running attempt; one that no worker has taken yet is reported as cancelled at once."""
        key = (effect.orchestration_id, effect.task_id, effect.attempt)
        scope = self._scopes.get(key)
        if scope is not None:
            scope.cancel()
            return
        for queued in self._attempts:
            if queued is not None and (queued.orchestration_id, queued.task_id, queued.attempt) == key:
                self._attempts.remove(queued)
                self._post(
                    ReportCancelled(
                        orchestration_id=effect.orchestration_id,
                        task_id=effect.task_id,
                        attempt=effect.attempt,
                    )
                )
                return

    def abandon(self, effect: AbandonAttempt) -> None:
        """Leave a worker to an attempt that will not stop, and put another in its place."""
        key = (effect.orchestration_id, effect.task_id, effect.attempt)
        if key in self._scopes:
            self._abandoned.add(key)
            log.warning(
                "Attempt did not stop; its work may go on",
                operation="ATTEMPT_ABANDONED",
                orchestration_id=effect.orchestration_id,
                task_id=effect.task_id,
                attempt=effect.attempt,
            )
            self.hire()

    def answer(self, state: State, effect: TaskQuestion) -> None:
        """Have a question of the engine about a task answered."""
        assert self._group is not None, "questions are asked only while the coordinator runs"
        self._group.start_soon(self._answer, state, effect)

    async def _work(self) -> None:
        """Run attempts, one after the other, for as long as the coordinator runs."""
        while True:
            while not self._attempts:
                called = anyio.Event()
                self._idle.append(called)
                await called.wait()
            effect = self._attempts.popleft()
            if effect is None or not await self._attempt(effect):
                return

    async def _attempt(self, effect: StartAttempt) -> bool:
        """Run one attempt and report it. False when it had been abandoned: another worker took this one's place."""
        await self._confirm()
        driven = self._find(effect.orchestration_id)
        if driven is None or not _is_current(driven, effect):
            return True
        key = (effect.orchestration_id, effect.task_id, effect.attempt)
        if log.is_enabled_for(logging.INFO):
            node = driven.state.tasks[effect.task_id].node
            log.info(
                "Task execution started",
                operation="TASK_EXECUTION_START",
                task_id=effect.task_id,
                orchestration_id=effect.orchestration_id,
                estimated_time=node.estimated_time_seconds,
                priority=node.priority.value,
            )
        reported = None
        enclosing_goals.set(driven.goals)
        with anyio.CancelScope() as scope:
            self._scopes[key] = scope
            reported = await self._run(driven.state, effect)
        del self._scopes[key]
        if key in self._abandoned:
            self._abandoned.discard(key)
            return False
        if reported is None:
            self._post(
                ReportCancelled(
                    orchestration_id=effect.orchestration_id,
                    task_id=effect.task_id,
                    attempt=effect.attempt,
                    jitter=self._draw(),
                )
            )
        else:
            self._post(reported.report, reported.output, reported.cached)
        return True

    async def _run(self, state: State, effect: StartAttempt) -> Reported:
        """Run an attempt; pass on its signs of life where somebody waits for them."""
        key = (effect.orchestration_id, effect.task_id, effect.attempt)
        limit = state.tasks[effect.task_id].node.heartbeat_timeout_seconds
        pulse = _Pulse()

        def told(progress: Progress) -> None:
            pulse.beat()
            self.told[key] = progress

        try:
            if limit is None:
                return await self._runner.run(state, effect, progress=told)
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._pass_on, effect, pulse, limit / _BEATS_PER_LIMIT)
                reported = await self._runner.run(state, effect, pulse.beat, told)
                beside.cancel_scope.cancel()
            return reported
        finally:
            self.told.pop(key, None)

    async def _pass_on(self, effect: StartAttempt, pulse: _Pulse, seconds: float) -> None:
        while True:
            await self._clock.sleep(seconds)
            if pulse.is_beaten:
                pulse.is_beaten = False
                self._post(
                    Heartbeat(
                        orchestration_id=effect.orchestration_id,
                        task_id=effect.task_id,
                        attempt=effect.attempt,
                    )
                )

    async def _answer(self, state: State, effect: TaskQuestion) -> None:
        """Answer a question of the engine, unless the orchestration is let go meanwhile."""
        key = (effect.orchestration_id, effect.task_id, _QUESTION)
        with anyio.CancelScope() as scope:
            self._scopes[key] = scope
            async with self._questions:
                reported = await self._desk.answer(state, effect)
            self._post(reported.report, reported.output, None, reported.offer)
        if self._scopes.get(key) is scope:
            del self._scopes[key]


def _is_current(driven: Driven, effect: StartAttempt) -> bool:
    """Whether an attempt is still the one that is to run: its orchestration may have been let go and taken up again."""
    task = driven.state.tasks.get(effect.task_id)
    return task is not None and task.status is TaskStatus.RUNNING and task.attempt == effect.attempt
