"""One attempt from its start to its report: find the data, run it on the system, make the output JSON.

May import: orchestration.{clock, models, options, ports, systems}, orchestration.engine.*,
orchestration.execution.{approval, cache_key, outputs, preparation}, stdlib.

What is asked about a task beside its attempts is answered in `questions.py`, with the same data.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from orchestration.clock import Clock
from orchestration.engine.effects import StartAttempt
from orchestration.engine.inputs import Input, ReportFailure, ReportSuccess
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.execution.approval import refuse_other_than_approved
from orchestration.execution.cache_key import cache_key
from orchestration.execution.outputs import encode_output
from orchestration.execution.preparation import Preparation, unheard
from orchestration.options import Limits
from orchestration.ports import CacheEntry, StoredOutput
from orchestration.systems.base import error_record
from orchestration.systems.registry import SystemRegistry


@dataclass(frozen=True, slots=True)
class Reported:
    """A report or answer and, where there is one, the output to be stored with it."""

    report: Input
    output: StoredOutput | None = None
    cached: CacheEntry | None = None
    """The output's place in the cache, where the task says that equal ones may use it."""


class AttemptRunner:
    """Runs attempts on systems.

    Args:
        systems: Where tasks run.
        preparation: Makes what they are told.
        limits: Sizes of outputs.
        rng: Draws the jitter that a retry's back-off takes.
        clock: Says how old a cached output is.
    """

    def __init__(
        self,
        systems: SystemRegistry,
        preparation: Preparation,
        limits: Limits,
        rng: random.Random,
        clock: Clock,
    ) -> None:
        self._systems = systems
        self._preparation = preparation
        self._limits = limits
        self._rng = rng
        self._clock = clock

    async def run(
        self, state: State, effect: StartAttempt, heartbeat: Callable[[], None] = unheard
    ) -> Reported:
        """Run an attempt and return its report; whatever goes wrong is in it. Only cancellation is raised."""
        task = state.tasks[effect.task_id]
        was_begun = was_done = False
        key = None
        try:
            system = await self._systems.ready(effect.system)
            request = await self._preparation.request(state, task, system, heartbeat=heartbeat)
            if task.node.approval is not None:
                refuse_other_than_approved(system, request, task.approved_digest)
            if task.node.cache is not None:
                key = cache_key(system, request)  # before it runs: a function may change its arguments
            was_begun = True
            value = await system.execute(request)
            was_done = True
            jsonable, output, stored = encode_output(effect.task_id, value, self._limits)
        except Exception as exc:  # noqa: BLE001  the attempt's boundary: whatever a task raises is its failure
            error = error_record(exc, effect.system, effect.attempt)
            return Reported(
                ReportFailure(
                    orchestration_id=effect.orchestration_id,
                    task_id=effect.task_id,
                    attempt=effect.attempt,
                    error=replace(error, effect_open=was_done or (was_begun and error.effect_open)),
                    jitter=self._rng.random(),
                )
            )
        return Reported(
            ReportSuccess(
                orchestration_id=effect.orchestration_id,
                task_id=effect.task_id,
                attempt=effect.attempt,
                output=output,
                value=jsonable,
            ),
            stored,
            None if key is None else self._cache_entry(task, key),
        )

    def _cache_entry(self, task: TaskState, key: str) -> CacheEntry:
        assert task.node.cache is not None, "asked only for tasks that may be cached"
        now_us = self._clock.now_us()
        return CacheEntry(
            key=key,
            task_id=task.node.task_id,
            stored_at_us=now_us,
            expires_at_us=now_us + round(task.node.cache.ttl_seconds * 1_000_000),
        )
