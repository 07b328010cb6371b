"""Turns an alternative sub-DAG into the event that puts it in a failed task's place, or says why it can't.

May import: orchestration.{errors, models}, orchestration.engine.{events, inputs, state, task_state}, stdlib.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from orchestration.engine.events import PlanRevised
from orchestration.engine.inputs import AlternativeFound
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState, fingerprint
from orchestration.errors import DefinitionError
from orchestration.models import Json, JsonObject, TaskEdge, TaskId, TaskNode, TaskStatus

_NAMED = re.compile(r"(?<!\$)(\$\{\s*)([A-Za-z0-9][A-Za-z0-9_-]*(?:~[0-9]{1,3})?)(?=[\s.\[}])")
"""The task a reference names; `$${` is no reference."""


def plan_revision(state: State, task: TaskState, found: AlternativeFound) -> PlanRevised | str:
    """Return the event that splices `found` in for `task`, or one sentence why it is refused.

    The sub-DAG's ids get the suffix `~N`, N counting the orchestration's alternatives and passing over ids that are
    there; its roots inherit the failed task's incoming edges.
    """
    dag = found.dag
    if not dag.nodes:
        return "the alternative has no task"
    try:
        dag.validate_dependencies()
    except DefinitionError as exc:  # a task that can never start would keep the orchestration from ending
        return f"the alternative is no DAG: {exc}"
    if fingerprint(dag.nodes.values()) in {*task.tried, fingerprint([task.node])}:
        return "the alternative is what was tried already"
    has_downstream = {edge.source_task_id for edge in dag.edges}
    leaves = [task_id for task_id in dag.nodes if task_id not in has_downstream]
    delivers = found.delivers
    if delivers is None:
        if len(leaves) != 1:
            return (
                f"the alternative has {len(leaves)} leaves ({', '.join(leaves)}) and names none that delivers"
            )
        delivers = leaves[0]
    elif delivers not in dag.nodes:
        return f"the alternative says {delivers!r} delivers, which is not one of its tasks"
    renamed = _renaming(state, dag.nodes)
    if isinstance(renamed, str):
        return renamed
    tasks = tuple(_renamed(node, renamed, task.node) for node in dag.nodes.values())
    edges = [
        replace(
            edge, source_task_id=renamed[edge.source_task_id], target_task_id=renamed[edge.target_task_id]
        )
        for edge in dag.edges
    ]
    has_upstream = {edge.target_task_id for edge in dag.edges}
    for task_id in dag.nodes:
        if task_id not in has_upstream:
            edges += [_inherited(edge.edge, edge.source, renamed[task_id]) for edge in task.incoming]
    return PlanRevised(
        task_id=task.node.task_id,
        revision=state.revision + 1,
        tasks=tasks,
        edges=tuple(edges),
        routes={new: found.routes[task_id] for task_id, new in renamed.items() if task_id in found.routes},
        delivers=renamed[delivers],
        reason=found.reason,
    )


def _renaming(state: State, task_ids: Iterable[TaskId]) -> dict[TaskId, TaskId] | str:
    """Return the final ids of an alternative's tasks, or why there are none."""
    bases = {task_id: task_id.partition("~")[0] for task_id in task_ids}
    number = state.revision
    while any(f"{base}~{number}" in state.tasks for base in bases.values()):
        number += 1
    renamed = {task_id: f"{base}~{number}" for task_id, base in bases.items()}
    seen: set[TaskId] = set()
    for task_id in renamed.values():
        if task_id in seen:
            return f"two of its tasks would be called {task_id!r}; their ids must differ before the `~`"
        seen.add(task_id)
    return renamed


def _renamed(node: TaskNode, renamed: dict[str, str], failed: TaskNode) -> TaskNode:
    """Return the task under its new id, with references to its siblings following them.

    What stands for a task that must not be repeated must not be either.
    """
    idempotent = node.idempotent and failed.idempotent
    verify = node.verify
    if verify is not None:
        verify = replace(verify, arguments=_followed(verify.arguments, renamed))
    return replace(
        node,
        task_id=renamed[node.task_id],
        arguments=_followed(node.arguments, renamed),
        verify=None if idempotent else verify,
        idempotent=idempotent,
        cache=node.cache if idempotent else None,
        status=TaskStatus.PENDING,
    )


def _followed(arguments: JsonObject, renamed: dict[str, str]) -> JsonObject:
    return {key: _follow(value, renamed) for key, value in arguments.items()}


def _follow(value: Json, renamed: dict[str, str]) -> Json:
    """Return `value` with every reference to a renamed task naming it anew."""
    if isinstance(value, str):
        return _NAMED.sub(lambda found: found[1] + renamed.get(found[2], found[2]), value)
    if isinstance(value, list):
        return [_follow(item, renamed) for item in value]
    if isinstance(value, dict):
        return {key: _follow(item, renamed) for key, item in value.items()}
    return value


def _inherited(edge: TaskEdge, source: str, target: str) -> TaskEdge:
    """Return a copy of a decided incoming edge that ends at a new root."""
    return replace(edge, source_task_id=source, target_task_id=target)
