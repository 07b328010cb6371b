"""The graph of an orchestration as it stands, as a DAG: for people to edit, to be ordered, to be shown.

May import: orchestration.{dag, models}, orchestration.engine.{references, state, task_state}, stdlib.
"""

from __future__ import annotations

from dataclasses import replace

from orchestration.dag import TaskDAG
from orchestration.engine.references import renamed_references
from orchestration.engine.state import State
from orchestration.engine.task_state import EdgeState
from orchestration.models import TaskEdge, TaskId, TaskStatus


def present_graph(state: State) -> TaskDAG:
    """Return the working graph: what was superseded or removed is left out, and so are the children of a `foreach`.

    Edges start at the task that now stands for their upstream, and references name it. Each task is what it was before
    a fallback took over; statuses are the present ones.
    """
    dag = _graph(state, with_items=False)
    dag.metadata = dict(state.dag.metadata)
    renamed = {task_id: state.current(task_id) for task_id in state.replacement}
    for task_id, node in dag.nodes.items():
        task = state.tasks[task_id]
        dag.nodes[task_id] = replace(renamed_references(task.primary or node, renamed), status=task.status)
    place = {(edge.source_task_id, edge.target_task_id): index for index, edge in enumerate(state.dag.edges)}
    dag.edges.sort(key=lambda edge: place.get((edge.source_task_id, edge.target_task_id), len(place)))
    return dag


def planned_graph(state: State) -> TaskDAG:
    """Return the tasks as they were planned, whatever took their place since; alternatives and list items left out."""
    dag = TaskDAG(state.dag.dag_id, state.dag.goal, timeout_seconds=state.dag.timeout_seconds)
    for task_id, task in state.tasks.items():
        if task.index is None and "~" not in task_id and task_id not in state.removed:
            dag.nodes[task_id] = task.primary or task.node
    for task_id, node in dag.nodes.items():
        for edge in state.tasks[task_id].incoming:
            source = dag.nodes.get(edge.edge.source_task_id)
            if source is not None and source.parent == node.parent:
                dag.edges.append(edge.edge)
    return dag


def strict_order(state: State) -> list[TaskId]:
    """Return all tasks but superseded ones, each after its upstreams, a parent before its parts; ties as laid out."""
    if state.revision == 1 and not state.composites and len(state.tasks) == len(state.dag.nodes):
        return state.dag.topological_sort()
    return _graph(state, with_items=True).topological_sort()


def _graph(state: State, *, with_items: bool) -> TaskDAG:
    """Return what is not superseded, joined within each parent by edges between those who are there now."""
    dag = TaskDAG(state.dag.dag_id, state.dag.goal, timeout_seconds=state.dag.timeout_seconds)
    for task_id, task in state.tasks.items():
        if task.status is not TaskStatus.SUPERSEDED and (with_items or task.index is None):
            dag.nodes[task_id] = task.node
    for task_id, node in dag.nodes.items():
        for edge in state.tasks[task_id].incoming:
            source = dag.nodes.get(edge.source)
            if source is not None and source.parent == node.parent:
                dag.edges.append(_present(edge))
    return dag


def _present(edge: EdgeState) -> TaskEdge:
    """Return an edge with its present upstream end."""
    written = edge.edge
    return written if written.source_task_id == edge.source else replace(written, source_task_id=edge.source)
