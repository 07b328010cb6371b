"""What a system is told about a task: its references put in, its inputs loaded, the items of its list.

May import: orchestration.{errors, expressions, models, options, ports, redaction}, orchestration.engine.{state,
task_state}, orchestration.execution.{items, outputs}, stdlib.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace

from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.errors import AttemptFailedError
from orchestration.execution.items import ItemLists
from orchestration.execution.outputs import OutputCache
from orchestration.expressions import (
    ITEM_NAMES,
    RESULT_NAME,
    has_references,
    references_in,
    resolve_references,
)
from orchestration.models import Json, JsonObject, TaskId, TaskNode, copy_json
from orchestration.options import Limits
from orchestration.ports import AttemptRequest, Progress, System
from orchestration.redaction import NOTHING_SECRET, Redactor


def unheard() -> None:
    """Take a sign of life nobody waits for."""


def untold(_progress: Progress) -> None:
    """Take how far the work has come, which nobody wants to know."""


class _Nothing:
    """No output; null is one."""


NOTHING = _Nothing()


class Preparation:
    """Prepares what systems are told.

    Args:
        outputs: What upstreams delivered.
        limits: Sizes of arguments and lists.
        driver: Instance of the driver, which systems may leave on what they start.
        redactor: Takes secrets out of what systems say while they work.
    """

    def __init__(
        self, outputs: OutputCache, limits: Limits, driver: str, redactor: Redactor = NOTHING_SECRET
    ) -> None:
        self.outputs = outputs
        self._limits = limits
        self._driver = driver
        self._redactor = redactor
        self._lists = ItemLists()

    async def request(
        self,
        state: State,
        task: TaskState,
        system: System,
        node: TaskNode | None = None,
        heartbeat: Callable[[], None] = unheard,
        progress: Callable[[Progress], None] = untold,
        output: Json | _Nothing = NOTHING,
    ) -> AttemptRequest:
        """Return what the system is told, with references put in and inputs loaded where they are wanted.

        Args:
            state: The orchestration.
            task: The task.
            system: Where it is to run.
            node: What to run, where that is not the task itself.
            heartbeat: Takes signs of life.
            progress: Takes how far the work has come.
            output: What the task has delivered, where that is to be looked at: `${output}` in the arguments, and one
                input more, under the task's id.
        """
        node = node or task.node
        arguments: JsonObject = node.arguments
        if arguments:  # what a task does to its arguments must not reach its next attempt
            arguments = (
                await self._resolved(state, task, arguments, output)
                if has_references(arguments)
                else {name: copy_json(value) for name, value in arguments.items()}
            )
        inputs: Mapping[TaskId, Json] = {}
        if task.incoming and system.takes_inputs(node.tool):
            inputs = await self.inputs(state, task)
        if not isinstance(output, _Nothing) and system.takes_inputs(node.tool):
            inputs = {**inputs, node.task_id: output}
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
            progress=self._without_secrets(progress),
        )

    def _without_secrets(self, progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """Return a taker of progress that is told no secret."""
        if progress is untold or not self._redactor:
            return progress
        return lambda said: progress(replace(said, message=self._redactor.text(said.message)))

    async def _resolved(
        self, state: State, task: TaskState, arguments: JsonObject, output: Json | _Nothing = NOTHING
    ) -> JsonObject:
        """Return arguments of a task with every `${…}` put in."""
        edges = {edge.edge.source_task_id: edge for edge in task.incoming}
        named: dict[TaskId, TaskId] = {}
        mentioned = {reference.task_id for reference in references_in(arguments)}
        element = await self.element(state, task, mentioned) if task.index is not None else {}
        if not isinstance(output, _Nothing):
            element = {**element, RESULT_NAME: output}
        for task_id in mentioned - set(element):
            edge = edges.get(task_id)
            if edge is None:  # a task of an alternative plan names one further upstream
                named[task_id] = _known(state, task_id)
            elif edge.delivers:
                named[task_id] = edge.source
        found = await self.outputs.load(state.orchestration_id, set(named.values()))
        outputs = {task_id: found[current] for task_id, current in named.items() if current in found}
        resolved = resolve_references(arguments, {**outputs, **element})
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
        found = await self.outputs.load(state.orchestration_id, [edge.source for edge in edges])
        inputs: dict[TaskId, Json] = {}
        for edge in edges:
            value = found.get(edge.source)
            keys = edge.edge.data_requirements
            if keys:
                value = {key: value.get(key) if isinstance(value, dict) else value for key in keys}
            inputs[edge.edge.source_task_id] = value
        return inputs

    async def element(
        self, state: State, task: TaskState, mentioned: set[TaskId] | frozenset[TaskId] = ITEM_NAMES
    ) -> dict[TaskId, Json]:
        """Return what `${item}` and `${index}` mean for the child of a `foreach`, as far as they are mentioned.

        Raises:
            AttemptFailedError: As for `count_items`.
        """
        wanted = mentioned & ITEM_NAMES
        if not wanted or task.index is None:
            return {}
        element: dict[TaskId, Json] = {"index": task.index}
        if "item" in wanted:
            key = await self._list(state, _going_through(state, task))
            element["item"] = self._lists.item(key, task.index)
        return {name: element[name] for name in wanted}

    async def count_items(self, state: State, task: TaskState) -> int:
        """Return how many items a task's `foreach` has.

        Raises:
            AttemptFailedError: There is no list, or it is too long; repeating can't help.
        """
        count = self._lists.count(await self._list(state, task))
        assert count is not None, "just put there"
        return count

    async def _list(self, state: State, task: TaskState) -> Hashable:
        """Have a task's list at hand, and return what it is called there."""
        fed = tuple(
            None if output is None else output.sha256
            for output in (state.tasks[edge.source].output for edge in task.incoming)
        )
        key = (state.orchestration_id, task.node.task_id, task.generation, fed)
        if self._lists.count(key) is None:
            self._lists.put(key, await self._items(state, task))
        return key

    async def _items(self, state: State, task: TaskState) -> list[Json]:
        foreach: Json = task.node.foreach
        found = foreach
        if has_references(foreach):  # a literal list may have some in it
            found = (await self._resolved(state, task, {"items": foreach}))["items"]
        if not isinstance(found, list):
            message = f"foreach is {foreach!r}, and that is {_kind(found)}; expected a list."
            raise AttemptFailedError(message, "not_a_list", retryable=False)
        limit = self._limits.max_foreach_items
        if len(found) > limit:
            message = (
                f"foreach has {len(found):,} items; at most {limit:,} are allowed. Fix: work on it in parts."
            )
            raise AttemptFailedError(message, "too_many_items", retryable=False)
        return found


def _known(state: State, task_id: TaskId) -> TaskId:
    """Return what a task is called now that an alternative plan names.

    Raises:
        AttemptFailedError: There is none; nobody checks what a caller's own replanner writes.
    """
    current = state.current(task_id)
    if current not in state.tasks:
        message = f"${{{task_id}…}} names task {task_id!r}, which is not there. Fix: name an upstream task."
        raise AttemptFailedError(message, "reference_error", retryable=False)
    return current


def _going_through(state: State, task: TaskState) -> TaskState:
    """Return the task of whose `foreach` a task does one item, whatever stands in the place of that child."""
    while task.node.foreach is None and task.node.parent is not None:
        task = state.tasks[task.node.parent]
    return task


def _kind(value: Json) -> str:
    """Return what a JSON value is, in words."""
    if value is None:
        return "null"
    return {bool: "a boolean", int: "a number", float: "a number", str: "a text", dict: "an object"}.get(
        type(value), type(value).__name__
    )
