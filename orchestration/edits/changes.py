"""What is different between two graphs, as a change the engine can make, and in words.

May import: orchestration.{dag, models}, orchestration.engine.{events, inputs}, stdlib.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from orchestration.dag import TaskDAG
from orchestration.engine.events import PlanEdited, PlanRevised
from orchestration.engine.inputs import GraphChange
from orchestration.models import TaskEdge, TaskId, TaskNode, TaskStatus

_NAMED = 5
"""Tasks or edges of one kind that are named in a few words."""

NOTHING = "nothing"
"""What an empty change is called."""


def difference(before: TaskDAG, after: TaskDAG, skipped: Sequence[TaskId] = ()) -> GraphChange:
    """Return what makes one graph of the other; statuses are no part of a graph.

    Args:
        before: The graph as it is.
        after: As it is to be.
        skipped: Tasks that are not to run.
    """
    removed = tuple(task_id for task_id in before.nodes if task_id not in after.nodes)
    old = {(edge.source_task_id, edge.target_task_id): edge for edge in before.edges}
    new = {(edge.source_task_id, edge.target_task_id): edge for edge in after.edges}
    gone = set(removed)
    return GraphChange(
        added=tuple(
            _as_submitted(node) for task_id, node in after.nodes.items() if task_id not in before.nodes
        ),
        changed=tuple(
            _as_submitted(node)
            for task_id, node in after.nodes.items()
            if task_id in before.nodes and _as_submitted(node) != _as_submitted(before.nodes[task_id])
        ),
        removed=removed,
        linked=tuple(edge for pair, edge in new.items() if old.get(pair) != edge),
        unlinked=tuple(pair for pair, edge in old.items() if new.get(pair) != edge and gone.isdisjoint(pair)),
        skipped=tuple(skipped),
    )


def is_empty(change: GraphChange) -> bool:
    """Whether nothing is changed."""
    return not any(
        (change.added, change.changed, change.removed, change.linked, change.unlinked, change.skipped)
    )


def changed_fields(before: TaskNode, after: TaskNode) -> list[str]:
    """Return the names of the fields in which two versions of a task differ; statuses are none."""
    return [
        item.name
        for item in dataclasses.fields(TaskNode)
        if item.name != "status" and getattr(before, item.name) != getattr(after, item.name)
    ]


def told_of(change: GraphChange) -> str:
    """Return a change in a few words: `added audit, removed load → notify`."""
    added = {node.task_id for node in change.added}
    lost = set(change.unlinked)
    moved = [edge for edge in change.linked if (edge.source_task_id, edge.target_task_id) in lost]
    kept = {(edge.source_task_id, edge.target_task_id) for edge in moved}
    fresh = [edge for edge in change.linked if edge not in moved and added.isdisjoint(_ends(edge))]
    parts = [
        *_listed("added", [node.task_id for node in change.added]),
        *_listed("changed", [node.task_id for node in change.changed]),
        *_listed("removed", change.removed),
        *_listed("skipped", change.skipped),
        *_listed("linked", [f"{edge.source_task_id} → {edge.target_task_id}" for edge in fresh]),
        *_listed("changed", [f"{edge.source_task_id} → {edge.target_task_id}" for edge in moved]),
        *_listed(
            "unlinked",
            [f"{source} → {target}" for source, target in change.unlinked if (source, target) not in kept],
        ),
    ]
    inner = [edge for edge in change.linked if edge not in moved and not added.isdisjoint(_ends(edge))]
    if not parts and inner:
        parts += _listed("linked", [f"{edge.source_task_id} → {edge.target_task_id}" for edge in inner])
    return ", ".join(parts) or NOTHING


def told_of_event(event: PlanEdited | PlanRevised) -> str:
    """Return in a few words what an event changed in the graph, whoever made it."""
    if isinstance(event, PlanRevised):
        names = [node.task_id for node in event.tasks]
        return ", ".join(_listed(f"replaced {event.task_id} by", names))
    change = GraphChange(
        added=event.added,
        changed=event.changed,
        removed=event.removed,
        linked=event.linked,
        unlinked=event.unlinked,
        skipped=event.skipped,
    )
    told = told_of(change)
    return told if event.undoes is None else f"went back to revision {event.undoes}: {told}"


def _ends(edge: TaskEdge) -> tuple[TaskId, TaskId]:
    return edge.source_task_id, edge.target_task_id


def _as_submitted(node: TaskNode) -> TaskNode:
    return node if node.status is TaskStatus.PENDING else replace(node, status=TaskStatus.PENDING)


def _listed(verb: str, names: Iterable[str]) -> Iterator[str]:
    """Yield a verb with what it was done to, if there is anything."""
    found = list(names)
    if found:
        more = len(found) - _NAMED
        yield f"{verb} {', '.join(found[:_NAMED])}{f' and {more:,} more' if more > 0 else ''}"
