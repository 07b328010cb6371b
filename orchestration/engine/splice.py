"""Turns an alternative sub-DAG into the event that puts it in a failed task's place, or says why it can't.

May import: orchestration.{acceptances, errors, models}, orchestration.engine.{events, inputs, references, state,
task_state}, stdlib.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from orchestration.acceptances import both
from orchestration.engine.events import PlanRevised
from orchestration.engine.inputs import AlternativeFound
from orchestration.engine.references import renamed_references
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState, fingerprint
from orchestration.errors import DefinitionError
from orchestration.models import TaskEdge, TaskId, TaskNode, TaskStatus


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
    if fingerprint(dag.nodes.values()) in task.all_tried:
        return "the alternative is what was tried already"
    if task.node.approval is not None and any(node.foreach is not None for node in dag.nodes.values()):
        return "somebody has to agree to the task, and of an empty list nobody would be asked: it can't have `foreach`"
    has_downstream = {edge.source_task_id for edge in dag.edges}
    leaves = [
        task_id
        for task_id, node in dag.nodes.items()
        if task_id not in has_downstream and node.parent is None
    ]
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
    parents = {node.parent for node in dag.nodes.values()}
    tasks = tuple(
        _renamed(
            node, renamed, task.node, is_parent=node.task_id in parents, delivers=node.task_id == delivers
        )
        for node in dag.nodes.values()
    )
    edges = [
        replace(
            edge, source_task_id=renamed[edge.source_task_id], target_task_id=renamed[edge.target_task_id]
        )
        for edge in dag.edges
    ]
    has_upstream = {edge.target_task_id for edge in dag.edges}
    for task_id in dag.nodes:
        if task_id not in has_upstream and dag.nodes[task_id].parent is None:
            edges += [_inherited(edge.edge, edge.source, renamed[task_id]) for edge in task.incoming]
    return PlanRevised(
        task_id=task.node.task_id,
        revision=state.revision + 1,
        tasks=tasks,
        edges=tuple(edges),
        routes=_under(renamed, found.routes.systems),
        delivers=renamed[delivers],
        reason=found.reason,
        others=_under(renamed, found.routes.others),
        fallback_routes=_under(renamed, found.routes.fallbacks),
        reasons=_under(renamed, found.routes.reasons),
        by=found.by,
    )


_Value = TypeVar("_Value")


def _under(renamed: Mapping[TaskId, TaskId], by_task: Mapping[TaskId, _Value]) -> dict[TaskId, _Value]:
    """Return what is known by task under the tasks' final ids."""
    return {new: by_task[task_id] for task_id, new in renamed.items() if task_id in by_task}


def _renaming(state: State, task_ids: Iterable[TaskId]) -> dict[TaskId, TaskId] | str:
    """Return the final ids of an alternative's tasks, or why there are none."""
    bases = {task_id: task_id.partition("~")[0] for task_id in task_ids}
    number = len(state.replacement) + 1
    while any(f"{base}~{number}" in state.tasks for base in bases.values()):
        number += 1
    renamed = {task_id: f"{base}~{number}" for task_id, base in bases.items()}
    seen: set[TaskId] = set()
    for task_id in renamed.values():
        if task_id in seen:
            return f"two of its tasks would be called {task_id!r}; their ids must differ before the `~`"
        seen.add(task_id)
    return renamed


def _renamed(
    node: TaskNode, renamed: dict[str, str], failed: TaskNode, *, is_parent: bool, delivers: bool
) -> TaskNode:
    """Return the task under its new id, with references to its siblings following them.

    What stands for a task that must not be repeated must not be either; and where somebody had to agree to that task,
    the same one has to agree to each of these. What was to hold of its result has to hold of the one that stands for
    it. A parent runs nothing: that is for its parts to inherit.
    """
    followed = replace(
        renamed_references(node, renamed),
        task_id=renamed[node.task_id],
        parent=failed.parent if node.parent is None else renamed[node.parent],
        status=TaskStatus.PENDING,
    )
    if is_parent:
        return followed
    idempotent = node.idempotent and failed.idempotent
    approval = "person" if "person" in {node.approval, failed.approval} else node.approval or failed.approval
    return replace(
        followed,
        verify=None if idempotent else followed.verify,
        idempotent=idempotent,
        approval=approval,
        cache=node.cache if idempotent and approval is None else None,
        acceptance=both(failed.acceptance, followed.acceptance) if delivers else followed.acceptance,
    )


def _inherited(edge: TaskEdge, source: str, target: str) -> TaskEdge:
    """Return a copy of a decided incoming edge that ends at a new root."""
    return replace(edge, source_task_id=source, target_task_id=target)
