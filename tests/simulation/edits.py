"""Changes of a running orchestration's graph, drawn at random: valid ones, and ones that must be refused.

It goes by what users are told may be changed, and shares no rule with the engine. Used by the schedules and by the
engine's Hypothesis machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestration.dag import TaskDAG
from orchestration.engine.graph import present_graph
from orchestration.engine.inputs import GraphChange, Routes
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.errors import DefinitionError
from orchestration.models import SETTLED, Json, TaskEdge, TaskId, TaskNode, TaskPriority, TaskStatus

_WAITING = frozenset(
    {
        TaskStatus.PENDING,
        TaskStatus.PAUSED,
        TaskStatus.READY,
        TaskStatus.AWAITING_APPROVAL,
        TaskStatus.OFFERED,
    }
)
_OPTIONAL = (False, False, True)
_CONDITIONS = (None, None, None, "output.ok", "status == 'failed'")

Draw = Callable[[random.Random, State, TaskDAG], GraphChange | None]


def random_change(rng: random.Random, state: State, system: str) -> GraphChange | None:
    """Return a change that is valid now; None where the one that was drawn is not.

    Args:
        rng: Draws it.
        state: The orchestration as it is.
        system: Where new tasks go.
    """
    shown = present_graph(state)
    draw: Draw = rng.choice([_add, _add, _add_parts, _remove, _link, _unlink, _set, _set, _skip, _rank])
    change = draw(rng, state, shown)
    if change is None or not _is_sound(shown, change):
        return None
    names = [node.task_id for node in (*change.added, *change.changed)]
    fallbacks = {node.task_id: (system,) for node in change.added if node.fallback is not None}
    return replace(change, routes=Routes(systems=dict.fromkeys(names, system), fallbacks=fallbacks))


def random_mistake(rng: random.Random, state: State) -> GraphChange | None:
    """Return a change that must be refused now; None where there is nothing to do wrong."""
    frozen = [
        task
        for task in state.tasks.values()
        if task.status
        in SETTLED | {TaskStatus.RUNNING, TaskStatus.CLAIMED, TaskStatus.SUPERSEDED, TaskStatus.UNKNOWN}
        and task.node.task_id not in state.removed
    ]
    if not frozen:
        return None
    task = rng.choice(frozen)
    task_id = task.node.task_id
    return rng.choice(
        [
            GraphChange(changed=(replace(task.node, tool="wrong"),)),
            GraphChange(removed=(task_id,)),
            GraphChange(skipped=(task_id,)),
            GraphChange(added=(TaskNode("wrong"),), linked=(TaskEdge("wrong", task_id),)),
            GraphChange(added=(task.node,)),
        ]
    )


# What may be touched


def _is_fresh(task: TaskState) -> bool:
    """Whether a task's edges may still change: nothing of it has begun."""
    return task.status in _WAITING and not task.attempt and not task.is_expanded and task.index is None


def _fresh(state: State, shown: TaskDAG) -> list[TaskId]:
    return [task_id for task_id in shown.nodes if _is_fresh(state.tasks[task_id])]


def _is_changeable(task: TaskState) -> bool:
    """Whether a task may become another one: it waits, and is no parent."""
    may = task.status in _WAITING | {TaskStatus.RETRYING} or task.is_asked
    return may and not task.is_expanded and not task.children and task.index is None


def _parts_of(state: State, task_id: TaskId) -> list[TaskId]:
    """Return a task and everything inside it."""
    found = [task_id]
    for each in found:
        found += state.tasks[each].children
    return found


def _is_sound(shown: TaskDAG, change: GraphChange) -> bool:
    """Whether the graph stays one without cycles, and edges stay within their parents."""
    dag = TaskDAG("after")
    gone = set(change.removed)
    dag.nodes = {task_id: node for task_id, node in shown.nodes.items() if task_id not in gone}
    dag.nodes |= {node.task_id: node for node in (*change.changed, *change.added)}
    lost = set(change.unlinked)
    kept = [
        edge
        for edge in shown.edges
        if (edge.source_task_id, edge.target_task_id) not in lost
        and not gone & {edge.source_task_id, edge.target_task_id}
    ]
    dag.edges = [*kept, *change.linked]
    pairs = [(edge.source_task_id, edge.target_task_id) for edge in dag.edges]
    if len(set(pairs)) < len(pairs):
        return False
    try:
        dag.validate_dependencies()
    except DefinitionError:
        return False
    return all(dag.nodes[one].parent == dag.nodes[other].parent for one, other in pairs)


# The changes


def _new_ids(state: State, count: int) -> list[TaskId]:
    number = len(state.tasks)
    return [f"n{number + offset}" for offset in range(count)]


def _edge(rng: random.Random, source: TaskId, target: TaskId) -> TaskEdge:
    return TaskEdge(source, target, is_optional=rng.choice(_OPTIONAL), condition=rng.choice(_CONDITIONS))


def _node(rng: random.Random, task_id: TaskId, parent: TaskId | None = None) -> TaskNode:
    items: list[Json] | None = ["item"] if rng.random() < 0.25 else None
    return TaskNode(
        task_id,
        tool=rng.choice("xyz"),
        max_retries=rng.choice([None, 0]),
        idempotent=rng.random() < 0.8,
        approval=rng.choice([None, None, None, "person", "caller"]),
        foreach=items,
        priority=TaskPriority(rng.randint(1, 5)),
        parent=parent,
    )


def _some(rng: random.Random, found: Sequence[TaskId], most: int = 2) -> list[TaskId]:
    return rng.sample(list(found), rng.randint(0, min(most, len(found))))


def _add(rng: random.Random, state: State, shown: TaskDAG) -> GraphChange | None:
    """A task before and after others of its level."""
    parents: list[TaskId | None] = [None, None]
    parents += [
        task_id
        for task_id in shown.nodes
        if state.tasks[task_id].children
        and state.tasks[task_id].node.foreach is None
        and state.tasks[task_id].status in {TaskStatus.PENDING, TaskStatus.PAUSED, TaskStatus.EXPANDED}
    ]
    parent = rng.choice(parents)
    (task_id,) = _new_ids(state, 1)
    level = [name for name, node in shown.nodes.items() if node.parent == parent]
    fresh = [name for name in level if _is_fresh(state.tasks[name])]
    linked = [_edge(rng, source, task_id) for source in _some(rng, level)]
    linked += [_edge(rng, task_id, target) for target in _some(rng, fresh, 1)]
    return GraphChange(added=(_node(rng, task_id, parent),), linked=tuple(linked))


def _add_parts(rng: random.Random, state: State, shown: TaskDAG) -> GraphChange | None:
    """A parent with two parts, after something."""
    parent, first, second = _new_ids(state, 3)
    level = [name for name, node in shown.nodes.items() if node.parent is None]
    nodes = (TaskNode(parent), _node(rng, first, parent), _node(rng, second, parent))
    linked = [_edge(rng, source, parent) for source in _some(rng, level, 1)]
    linked += [_edge(rng, first, second)] * (rng.random() < 0.5)
    return GraphChange(added=nodes, linked=tuple(linked))


def _remove(rng: random.Random, state: State, shown: TaskDAG) -> GraphChange | None:
    fresh = _fresh(state, shown)
    if not fresh:
        return None
    gone = _parts_of(state, rng.choice(fresh))
    return GraphChange(removed=tuple(gone)) if set(gone) <= set(fresh) else None


def _link(rng: random.Random, state: State, shown: TaskDAG) -> GraphChange | None:
    fresh = _fresh(state, shown)
    if not fresh:
        return None
    target = rng.choice(fresh)
    level = [name for name, node in shown.nodes.items() if node.parent == shown.nodes[target].parent]
    source = rng.choice(level)
    return GraphChange(linked=(_edge(rng, source, target),)) if source != target else None


def _unlink(rng: random.Random, state: State, shown: TaskDAG) -> GraphChange | None:
    """An edge less, or another in its place."""
    fresh = set(_fresh(state, shown))
    edges = [edge for edge in shown.edges if edge.target_task_id in fresh]
    if not edges:
        return None
    edge = rng.choice(edges)
    pair = (edge.source_task_id, edge.target_task_id)
    return GraphChange(unlinked=(pair,), linked=(_edge(rng, *pair),) if rng.random() < 0.3 else ())


def _set(rng: random.Random, state: State, shown: TaskDAG) -> GraphChange | None:
    may = [task_id for task_id in shown.nodes if _is_changeable(state.tasks[task_id])]
    if not may:
        return None
    node = replace(shown.nodes[rng.choice(may)], status=TaskStatus.PENDING)
    approval = node.approval if node.cache is not None else rng.choice([None, node.approval, "person"])
    return GraphChange(changed=(replace(node, tool=rng.choice("xyzw"), approval=approval),))


def _rank(rng: random.Random, state: State, shown: TaskDAG) -> GraphChange | None:
    may = [task_id for task_id in shown.nodes if _is_changeable(state.tasks[task_id])]
    if not may:
        return None
    node = replace(shown.nodes[rng.choice(may)], status=TaskStatus.PENDING)
    return GraphChange(changed=(replace(node, priority=TaskPriority(rng.randint(1, 5))),))


def _skip(rng: random.Random, state: State, shown: TaskDAG) -> GraphChange | None:
    may = [
        task_id
        for task_id in shown.nodes
        if state.tasks[task_id].status in _WAITING | {TaskStatus.RETRYING}
        and not state.tasks[task_id].is_expanded
    ]
    return GraphChange(skipped=tuple(_some(rng, may))) if may else None
