"""One attempt from its start to its report: find the data, run it on the system, make the output JSON.

May import: orchestration.{errors, expressions, models, options, ports, systems}, orchestration.engine.*,
orchestration.execution.outputs, stdlib.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass

from orchestration.engine.effects import StartAttempt
from orchestration.engine.inputs import ReportFailure, ReportSuccess
from orchestration.engine.state import State, TaskState
from orchestration.errors import AttemptFailedError
from orchestration.execution.outputs import OutputCache, encode_output
from orchestration.expressions import has_references, references_in, resolve_references
from orchestration.models import Json, JsonObject, TaskId, copy_json
from orchestration.options import Limits
from orchestration.ports import AttemptRequest, StoredOutput, System
from orchestration.systems.base import error_record
from orchestration.systems.registry import SystemRegistry


@dataclass(frozen=True, slots=True)
class Reported:
    """An attempt's report and, when it succeeded, the output to be stored with it."""

    report: ReportSuccess | ReportFailure
    output: StoredOutput | None = None


class AttemptRunner:
    """Runs attempts on systems.

    Args:
        systems: Where tasks run.
        outputs: What upstreams delivered.
        limits: Sizes of arguments and outputs.
        rng: Draws the jitter that a retry's back-off takes.
    """

    def __init__(
        self, systems: SystemRegistry, outputs: OutputCache, limits: Limits, rng: random.Random
    ) -> None:
        self._systems = systems
        self._outputs = outputs
        self._limits = limits
        self._rng = rng

    async def run(self, state: State, effect: StartAttempt) -> Reported:
        """Run an attempt and return its report; whatever goes wrong is in it. Only cancellation is raised."""
        task = state.tasks[effect.task_id]
        try:
            system = await self._systems.ready(effect.system)
            request = await self._request(state, task, system)
            value = await system.execute(request)
            jsonable, output, stored = encode_output(effect.task_id, value, self._limits)
        except Exception as exc:  # noqa: BLE001  the attempt's boundary: whatever a task raises is its failure
            return Reported(
                ReportFailure(
                    orchestration_id=effect.orchestration_id,
                    task_id=effect.task_id,
                    attempt=effect.attempt,
                    error=error_record(exc, effect.system, effect.attempt),
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
        )

    async def _request(self, state: State, task: TaskState, system: System) -> AttemptRequest:
        """Return what the system is told, with references put in and inputs loaded where they are wanted."""
        node = task.node
        arguments: JsonObject = node.arguments
        if arguments:  # what a task does to its arguments must not reach its next attempt
            arguments = (
                await self._resolved(state, task)
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
            idempotency_key=f"{state.orchestration_id}:{node.task_id}:1",
            tool=node.tool,
            arguments=arguments,
            inputs=inputs,
            context=state.context,
            goal=state.dag.goal,
            preference=node.system_preference,
            timeout_seconds=state.defaults.timeout_seconds if timeout is None else timeout,
        )

    async def _resolved(self, state: State, task: TaskState) -> JsonObject:
        """Return the arguments with every `${…}` put in."""
        edges = {edge.edge.source_task_id: edge for edge in task.incoming}
        named: dict[TaskId, TaskId] = {}
        for task_id in {reference.task_id for reference in references_in(task.node.arguments)}:
            edge = edges.get(task_id)
            if edge is None:  # a task of an alternative plan names one further upstream
                named[task_id] = state.current(task_id)
            elif edge.delivers:
                named[task_id] = edge.source
        found = await self._outputs.load(state.orchestration_id, set(named.values()))
        outputs = {task_id: found[current] for task_id, current in named.items() if current in found}
        resolved = resolve_references(task.node.arguments, outputs)
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
