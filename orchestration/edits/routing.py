"""Which tasks of an edit need a place to run, and what becomes of the edit once they have one.

May import: orchestration.{dag, errors, models}, orchestration.edits.editing, orchestration.engine.inputs, stdlib.
"""

from __future__ import annotations

from dataclasses import replace

from orchestration.dag import TaskDAG
from orchestration.edits.editing import Edited
from orchestration.engine.inputs import Routes
from orchestration.errors import Problem
from orchestration.models import TaskNode


def work_of(edited: Edited) -> TaskDAG:
    """Return what needs a place to run: new tasks, and changed ones that are not only ranked anew."""
    work = TaskDAG(edited.dag.dag_id or "edit")
    if edited.alternative is not None:
        work.nodes = dict(edited.alternative.dag.nodes)
        return work
    parents = edited.dag.parents()
    for node in (*edited.change.added, *edited.change.changed):
        if node.task_id not in parents:
            work.nodes[node.task_id] = replace(node, parent=None)
    return work


def with_routes(edited: Edited, routed: TaskDAG, routes: Routes) -> Edited:
    """Return an edit whose tasks name the tools that were chosen for them, with where they go."""
    if edited.alternative is not None:
        dag = edited.alternative.dag.copy()
        dag.nodes = {task_id: _tooled(node, routed) for task_id, node in dag.nodes.items()}
        return replace(edited, alternative=replace(edited.alternative, dag=dag), routes=routes)
    change = edited.change
    return replace(
        edited,
        routes=routes,
        change=replace(
            change,
            added=tuple(_tooled(node, routed) for node in change.added),
            changed=tuple(_tooled(node, routed) for node in change.changed),
            routes=routes,
        ),
    )


def _tooled(node: TaskNode, routed: TaskDAG) -> TaskNode:
    found = routed.nodes.get(node.task_id)
    return (
        node
        if found is None
        else replace(node, tool=found.tool, fallback=found.fallback, acceptance=found.acceptance)
    )


def placed(problem: Problem, work: TaskDAG, edited: Edited) -> Problem:
    """Return a problem of routing under the name of the operation that brought the task."""
    for position, task_id in enumerate(work.nodes):
        head = f"tasks[{position}]"
        if problem.path == head or problem.path.startswith(f"{head}."):
            by = edited.trace.tasks.get(task_id)
            path = by.path if by is not None else f"tasks[{task_id}]"
            return replace(problem, path=path + problem.path[len(head) :])
    return problem
