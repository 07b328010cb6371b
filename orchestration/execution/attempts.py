"""One attempt from its start to its report: find the data, run it on the system, make the output JSON, look at it.

May import: orchestration.{claim_records, clock, errors, models, options, ports, systems}, orchestration.engine.*,
orchestration.execution.{acceptance, approval, cache_key, company, outputs, preparation}, stdlib.

What is asked about a task beside its attempts is answered in `questions.py`, with the same data.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from orchestration.claim_records import Offer
from orchestration.clock import Clock
from orchestration.engine.effects import StartAttempt
from orchestration.engine.inputs import Input, ReportFailure, ReportSuccess
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.errors import SystemUnavailableError
from orchestration.execution.acceptance import AcceptanceCheck
from orchestration.execution.approval import refuse_other_than_approved
from orchestration.execution.cache_key import cache_key
from orchestration.execution.company import Execute, execute_alone
from orchestration.execution.outputs import encode_output
from orchestration.execution.preparation import Preparation, unheard, untold
from orchestration.models import copy_json
from orchestration.options import Limits
from orchestration.ports import AttemptResult, CacheEntry, Progress, StoredOutput
from orchestration.systems.base import error_record
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.resilience import Ticket


@dataclass(frozen=True, slots=True)
class Reported:
    """A report or answer and, where there is one, the output to be stored with it."""

    report: Input
    output: StoredOutput | None = None
    cached: CacheEntry | None = None
    """The output's place in the cache, where the task says that equal ones may use it."""
    offer: Offer | None = None
    """What is to be stored with the event that offers the task."""


class AttemptRunner:
    """Runs attempts on systems.

    Args:
        systems: Where tasks run.
        preparation: Makes what they are told.
        limits: Sizes of outputs.
        rng: Draws the jitter that a retry's back-off takes.
        clock: Says how old a cached output is.
        acceptance: Looks at what was delivered, where the task says what has to hold of it.
        execute: Runs a request on its system, in whatever company.
    """

    def __init__(
        self,
        systems: SystemRegistry,
        preparation: Preparation,
        limits: Limits,
        rng: random.Random,
        clock: Clock,
        acceptance: AcceptanceCheck,
        execute: Execute = execute_alone,
    ) -> None:
        self._systems = systems
        self._preparation = preparation
        self._limits = limits
        self._rng = rng
        self._clock = clock
        self._acceptance = acceptance
        self._execute = execute

    async def run(
        self,
        state: State,
        effect: StartAttempt,
        heartbeat: Callable[[], None] = unheard,
        progress: Callable[[Progress], None] = untold,
    ) -> Reported:
        """Run an attempt and return its report; whatever goes wrong is in it. Only cancellation is raised."""
        task = state.tasks[effect.task_id]
        was_begun = was_done = False
        key: str | None = None
        ticket: Ticket | None = None
        try:
            ticket = self._admit(effect.system, task.node.tool)
            system = await self._systems.ready(effect.system)
            request = await self._preparation.request(
                state, task, system, heartbeat=heartbeat, progress=progress
            )
            if task.node.approval is not None:
                refuse_other_than_approved(system, request, task.approved_digest)
            if task.node.cache is not None:
                key = cache_key(system, request)  # before it runs: a function may change its arguments
            was_begun = True
            ticket.limit_seconds = request.timeout_seconds
            value = await self._execute(effect.system, system, request)
            was_done = True
            ticket.ended(None)
            cost: float | None = None
            if isinstance(value, AttemptResult):
                cost, value = value.cost, value.output
            jsonable, output, stored = encode_output(
                effect.task_id, value, self._limits, self._systems.redactor
            )
            if (
                task.node.acceptance is not None
            ):  # of a copy of its own: a tool that looks may change what it sees
                await self._acceptance.check(state, task, copy_json(jsonable))
        except Exception as exc:  # noqa: BLE001  the attempt's boundary: whatever a task raises is its failure
            error = error_record(exc, effect.system, effect.attempt, self._systems.redactor)
            if ticket is not None and (was_begun or error.code == SystemUnavailableError.code):
                ticket.ended(error)
            # What was done and can't be used, or is not accepted, has had its effect all the same.
            return Reported(
                ReportFailure(
                    orchestration_id=effect.orchestration_id,
                    task_id=effect.task_id,
                    attempt=effect.attempt,
                    error=replace(error, effect_open=was_done or (was_begun and error.effect_open)),
                    jitter=self._rng.random(),
                )
            )
        finally:
            if ticket is not None:
                ticket.cancelled()  # unless its end was told: what never reached the system says nothing about it
        return Reported(
            ReportSuccess(
                orchestration_id=effect.orchestration_id,
                task_id=effect.task_id,
                attempt=effect.attempt,
                output=output,
                value=jsonable,
                cost=cost,
            ),
            stored,
            None if key is None else self._cache_entry(task, key),
        )

    def _admit(self, system: str, tool: str | None) -> Ticket:
        """Ask whether a system is asked at all now; raises `circuit_open` when it is not."""
        return self._systems.resilience.admit(system, self._systems.get(system).kind, tool)

    def _cache_entry(self, task: TaskState, key: str) -> CacheEntry:
        assert task.node.cache is not None, "asked only for tasks that may be cached"
        now_us = self._clock.now_us()
        return CacheEntry(
            key=key,
            task_id=task.node.task_id,
            stored_at_us=now_us,
            expires_at_us=now_us + round(task.node.cache.ttl_seconds * 1_000_000),
        )
