"""One attempt from its start to its report: find the data, run it on the system, make the output JSON.

May import: orchestration.{clock, errors, expressions, models, options, ports, systems}, orchestration.engine.*,
orchestration.execution.{cache_key, outputs, verification}, anyio, stdlib.

What is asked about a task beside its attempts is answered here, too, with the same data: whether an equal task's output
is in the cache, and whether an attempt nobody knows the end of did its work.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import anyio

from orchestration.clock import Clock
from orchestration.engine.effects import AskVerification, LookUpResult, StartAttempt
from orchestration.engine.inputs import CacheAnswer, ReportFailure, ReportSuccess, VerifyAnswer
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.errors import AttemptFailedError
from orchestration.execution.cache_key import cache_key
from orchestration.execution.outputs import OutputCache, encode_output, stored_output
from orchestration.execution.verification import read_answer
from orchestration.expressions import has_references, references_in, resolve_references
from orchestration.models import Json, JsonObject, TaskId, TaskNode, copy_json
from orchestration.options import Limits
from orchestration.ports import AttemptRequest, CacheEntry, Storage, StoredOutput, System
from orchestration.systems.base import bounded, error_record, words_of
from orchestration.systems.registry import SystemRegistry


@dataclass(frozen=True, slots=True)
class Reported:
    """A report or answer and, where there is one, the output to be stored with it."""

    report: ReportSuccess | ReportFailure | VerifyAnswer | CacheAnswer
    output: StoredOutput | None = None
    cached: CacheEntry | None = None
    """The output's place in the cache, where the task says that equal ones may use it."""


def _unheard() -> None:
    """Take a sign of life nobody waits for."""


class AttemptRunner:
    """Runs attempts on systems.

    Args:
        systems: Where tasks run.
        storage: Where the cache is.
        outputs: What upstreams delivered.
        limits: Sizes of arguments and outputs.
        rng: Draws the jitter that a retry's back-off takes.
        clock: Says how old a cached output is.
        driver: Instance of the driver, which systems may leave on what they start.
    """

    def __init__(
        self,
        systems: SystemRegistry,
        storage: Storage,
        outputs: OutputCache,
        limits: Limits,
        rng: random.Random,
        clock: Clock,
        driver: str,
    ) -> None:
        self._systems = systems
        self._storage = storage
        self._outputs = outputs
        self._limits = limits
        self._rng = rng
        self._clock = clock
        self._driver = driver

    async def run(
        self, state: State, effect: StartAttempt, heartbeat: Callable[[], None] = _unheard
    ) -> Reported:
        """Run an attempt and return its report; whatever goes wrong is in it. Only cancellation is raised."""
        task = state.tasks[effect.task_id]
        was_begun = was_done = False
        key = None
        try:
            system = await self._systems.ready(effect.system)
            request = await self._request(state, task, system, heartbeat=heartbeat)
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

    async def look_up(self, state: State, effect: LookUpResult) -> Reported:
        """Answer whether an equal task's output can be used; whatever goes wrong means that it can't."""
        task = state.tasks[effect.task_id]
        nothing = Reported(CacheAnswer(orchestration_id=effect.orchestration_id, task_id=effect.task_id))
        try:
            system = await self._systems.ready(task.system)
            request = await self._request(state, task, system)
            now_us = self._clock.now_us()
            found = await self._storage.load_cached(cache_key(system, request), now_us=now_us)
        except Exception:  # noqa: BLE001  the attempt itself will meet the fault, and report it
            return nothing
        assert task.node.cache is not None, "asked only for tasks that may be cached"
        if found is None or found.stored_at_us + task.node.cache.ttl_seconds * 1_000_000 <= now_us:
            return nothing
        value, output, stored = stored_output(effect.task_id, found.text, self._limits)
        return Reported(
            CacheAnswer(
                orchestration_id=effect.orchestration_id,
                task_id=effect.task_id,
                output=output,
                value=value,
                source=found.source,
            ),
            stored,
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

    async def verify(self, state: State, effect: AskVerification) -> Reported:
        """Ask a task's `verify` what became of its latest attempt; whatever goes wrong is `unclear`."""
        task = state.tasks[effect.task_id]
        asked = task.node.verify
        assert asked is not None, "asked only where there is something to ask"
        name = asked.system_preference or task.system
        answer = VerifyAnswer(
            orchestration_id=effect.orchestration_id,
            task_id=effect.task_id,
            attempt=effect.attempt,
            answer="unclear",
        )
        question = f"Only find out, and change nothing: did this happen, and with what output? {task.node.description}"
        node = replace(task.node, tool=asked.tool, arguments=asked.arguments, description=question)
        try:
            with anyio.fail_after(asked.timeout_seconds):
                system = await self._systems.ready(name)
                request = await self._request(state, task, system, node)
                request = replace(request, timeout_seconds=asked.timeout_seconds)
                told = read_answer(await system.execute(request))
            if told.answer != "done":
                return Reported(replace(answer, answer=told.answer, reason=told.reason))
            value, output, stored = encode_output(effect.task_id, told.output, self._limits)
        except TimeoutError:
            return Reported(replace(answer, reason=f"no answer within {asked.timeout_seconds:g} s"))
        except Exception as exc:  # noqa: BLE001  whatever a check raises, it could not say
            return Reported(replace(answer, reason=bounded(words_of(exc) or type(exc).__name__, 500)))
        return Reported(
            replace(answer, answer="done", reason=told.reason, output=output, value=value), stored
        )

    async def _request(
        self,
        state: State,
        task: TaskState,
        system: System,
        node: TaskNode | None = None,
        heartbeat: Callable[[], None] = _unheard,
    ) -> AttemptRequest:
        """Return what the system is told, with references put in and inputs loaded where they are wanted.

        Args:
            state: The orchestration.
            task: The task.
            system: Where it is to run.
            node: What to run, where that is not the task itself.
            heartbeat: Takes signs of life.
        """
        node = node or task.node
        arguments: JsonObject = node.arguments
        if arguments:  # what a task does to its arguments must not reach its next attempt
            arguments = (
                await self._resolved(state, task, arguments)
                if has_references(arguments)
                else {name: copy_json(value) for name, value in arguments.items()}
            )
        inputs: Mapping[TaskId, Json] = {}
        if task.incoming and system.takes_inputs(node.tool):
            inputs = await self.inputs(state, task)
        timeout = node.timeout_seconds
        return AttemptRequest(
            orchestration_id=state.orchestration_id,
            task=node,
            attempt=task.attempt,
            idempotency_key=f"{state.orchestration_id}:{node.task_id}:{task.generation}",
            tool=node.tool,
            arguments=arguments,
            inputs=inputs,
            context=state.context,
            goal=state.dag.goal,
            preference=node.system_preference,
            timeout_seconds=state.defaults.timeout_seconds if timeout is None else timeout,
            driver=self._driver,
            heartbeat=heartbeat,
        )

    async def _resolved(self, state: State, task: TaskState, arguments: JsonObject) -> JsonObject:
        """Return arguments of a task with every `${…}` put in."""
        edges = {edge.edge.source_task_id: edge for edge in task.incoming}
        named: dict[TaskId, TaskId] = {}
        for task_id in {reference.task_id for reference in references_in(arguments)}:
            edge = edges.get(task_id)
            if edge is None:  # a task of an alternative plan names one further upstream
                named[task_id] = state.current(task_id)
            elif edge.delivers:
                named[task_id] = edge.source
        found = await self._outputs.load(state.orchestration_id, set(named.values()))
        outputs = {task_id: found[current] for task_id, current in named.items() if current in found}
        resolved = resolve_references(arguments, outputs)
        assert isinstance(resolved, dict), "arguments are an object, and stay one"
        size = len(json.dumps(resolved, ensure_ascii=False).encode("utf-8"))
        if size > self._limits.max_resolved_arguments_bytes:
            raise AttemptFailedError(
                f"The arguments have {size:,} bytes with their references put in; at most "
                f"{self._limits.max_resolved_arguments_bytes:,} are allowed. Fix: pass a path, or less of the output.",
                "arguments_too_large",
                retryable=False,
            )
        return resolved

    async def inputs(self, state: State, task: TaskState) -> dict[TaskId, Json]:
        """Return, per delivering upstream, its output or the keys its edge names; null where it has no output."""
        edges = [edge for edge in task.incoming if edge.delivers]
        found = await self._outputs.load(state.orchestration_id, [edge.source for edge in edges])
        inputs: dict[TaskId, Json] = {}
        for edge in edges:
            value = found.get(edge.source)
            keys = edge.edge.data_requirements
            if keys:
                value = {key: value.get(key) if isinstance(value, dict) else value for key in keys}
            inputs[edge.edge.source_task_id] = value
        return inputs
