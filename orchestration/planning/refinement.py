"""Decomposes the complex tasks of a plan further, to a depth and a size; a task's parts name it as their parent.

May import: orchestration.{dag, errors, logs, models}, orchestration.planning.{caller_plan, draft_values, drafts,
proposal}, stdlib.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from orchestration.dag import TaskDAG
from orchestration.errors import InvalidDagError, SystemUnavailableError
from orchestration.models import TaskId, TaskNode
from orchestration.planning.caller_plan import CallerPlan, read_caller_plan
from orchestration.planning.draft_values import Renaming, unique
from orchestration.planning.drafts import task_drafts
from orchestration.planning.proposal import Draft, PartRequest, PlanRequest, Proposal, ThoughtTrail

COMPLEXITY_THRESHOLD = 5.0
"""A task of a higher complexity is decomposed further."""

MAX_DEPTH = 3
"""Tasks a task may be a part of, one inside the other: deeper, nobody keeps an overview."""

Split: TypeAlias = Callable[[PartRequest], Awaitable[Sequence[Draft] | None]]
"""Returns the parts of a task; None where it has none."""


async def refine(
    proposal: Proposal,
    request: PlanRequest,
    trail: ThoughtTrail,
    split: Split,
    *,
    threshold: float = COMPLEXITY_THRESHOLD,
    max_depth: int = MAX_DEPTH,
) -> Proposal:
    """Return the plan with each task above the threshold decomposed, the most complex first.

    A task that can't be decomposed stays as it is, and the notes say why. Tasks that run something themselves, or that
    somebody must agree to, are one piece of work already.
    """
    dag, notes = proposal.dag, list(proposal.notes)
    tried: set[TaskId] = {str(draft["task_id"]) for draft in request.existing}
    while (task := _most_complex(dag, tried, threshold, max_depth)) is not None:
        tried.add(task.task_id)
        room = request.max_tasks - len(dag.nodes)
        if room < 2:
            notes.append(
                f"Task {task.task_id!r} has a complexity of {task.complexity_score:g} and was not decomposed further, "
                f"for max_tasks is {request.max_tasks}."
            )
            break
        begun = await trail.think(
            f"Task {task.task_id!r} has a complexity of {task.complexity_score:g}, over {threshold:g}: it is decomposed"
            " further."
        )
        part = PartRequest(task=task, plan=dag, upstreams=upstreams_of(dag, task.task_id), max_tasks=room)
        try:
            drafts = await split(part)
            if drafts is None:
                await trail.think(f"Task {task.task_id!r} is one piece of work after all.", revises=begun)
                continue
            dag = graft(part, drafts, request).dag
        except (SystemUnavailableError, InvalidDagError) as exc:
            reason = exc.reason if isinstance(exc, SystemUnavailableError) else str(exc.problems[0])
            notes.append(f"Task {task.task_id!r} could not be decomposed further: {reason.rstrip('.')}.")
            await trail.think(f"Task {task.task_id!r} stays as it is: {reason.rstrip('.')}.", revises=begun)
            if isinstance(exc, SystemUnavailableError):
                break  # whoever failed now fails again
            continue
        parts = [node.task_id for node in dag.nodes.values() if node.parent == task.task_id]
        await trail.think(f"Task {task.task_id!r} is made of {', '.join(parts)}.")
    return replace(proposal, dag=dag, notes=tuple(notes))


def graft(part: PartRequest, drafts: Sequence[Any], request: PlanRequest) -> CallerPlan:
    """Return the plan with `drafts` as the parts of one of its tasks.

    A part whose id is taken gets that of its parent before it; dependencies and references follow.

    Raises:
        InvalidDagError: They make no valid plan; places count the plan's own tasks first.
    """
    read = read_caller_plan(
        {"tasks": [*task_drafts(part.plan), *_parts(part, drafts)]},
        goal=part.plan.goal,
        dag_id=part.plan.dag_id,
        limits=request.limits,
    )
    read.dag.metadata = {**part.plan.metadata, **read.dag.metadata}
    return read


def upstreams_of(dag: TaskDAG, task_id: TaskId) -> list[TaskId]:
    """Return every task whose output the parts of a task may name: upstream of it, or of what it is a part of."""
    incoming = dag.incoming()
    found: dict[TaskId, None] = {}
    waiting = [task_id]
    while waiting:
        here = waiting.pop()
        parent = dag.nodes[here].parent
        if parent is not None:
            waiting.append(parent)
        for edge in incoming[here]:
            if edge.source_task_id not in found:
                found[edge.source_task_id] = None
                waiting.append(edge.source_task_id)
    return [each for each in dag.nodes if each in found]


def _parts(part: PartRequest, drafts: Sequence[Any]) -> list[Any]:
    taken = set(part.plan.nodes)
    renamed: dict[str, TaskId] = {}
    for draft in drafts:
        own = draft.get("task_id") if isinstance(draft, Mapping) else None
        if isinstance(own, str) and own in taken:
            renamed[own] = unique(f"{part.task.task_id}-{own}"[:90], taken)
        elif isinstance(own, str):
            taken.add(own)
    return [_part(part.task.task_id, draft, renamed) for draft in drafts]


def _part(parent: TaskId, draft: Any, renamed: Mapping[str, TaskId]) -> Any:
    if not isinstance(draft, Mapping):
        return {"description": draft, "parent": parent} if isinstance(draft, str) else draft
    if not renamed:
        return {**draft, "parent": parent}
    fields = {**Renaming(renamed).of_task(draft), "parent": parent}
    own = draft.get("task_id")
    if isinstance(own, str):
        fields["task_id"] = renamed.get(own, own)
    depends_on = draft.get("depends_on")
    if isinstance(depends_on, list):
        fields["depends_on"] = [_renamed_dependency(each, renamed) for each in depends_on]
    return fields


def _renamed_dependency(named: Any, renamed: Mapping[str, TaskId]) -> Any:
    if isinstance(named, str):
        return renamed.get(named, named)
    if isinstance(named, Mapping) and isinstance(named.get("task_id"), str):
        return {**named, "task_id": renamed.get(named["task_id"], named["task_id"])}
    return named


def _most_complex(dag: TaskDAG, tried: set[TaskId], threshold: float, max_depth: int) -> TaskNode | None:
    parents = {node.parent for node in dag.nodes.values()}
    found = [
        node
        for node in dag.nodes.values()
        if (node.complexity_score or 0.0) > threshold
        and node.task_id not in tried
        and node.task_id not in parents
        and _is_divisible(node)
        and _depth(dag, node) < max_depth
    ]
    return max(found, key=lambda node: node.complexity_score or 0.0, default=None)


def _is_divisible(node: TaskNode) -> bool:
    """Whether a task can be a parent: it must do, need and promise nothing that only a single run can."""
    return (
        node.tool is None
        and not node.arguments
        and node.foreach is None
        and node.fallback is None
        and node.verify is None
        and node.acceptance is None
        and node.cache is None
        and node.approval is None
        and node.idempotent
    )


def _depth(dag: TaskDAG, node: TaskNode) -> int:
    depth = 0
    parent = node.parent
    while parent is not None:
        depth, parent = depth + 1, dag.nodes[parent].parent
    return depth
