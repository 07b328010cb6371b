"""Orchestrations that have started, for tests of composites and edits: lists, parents with parts, links."""

from __future__ import annotations

from typing import Any

from orchestration.models import ErrorRecord, TaskEdge, TaskId, TaskNode
from tests.engine_kit import Bench, edge_of, graph

TOO_MANY = ErrorRecord(code="too_many_items", message="the list has 1,001 items")


def listed(task_id: TaskId = "t", **more: Any) -> TaskNode:
    return TaskNode(task_id, foreach=["some list"], **more)


def part(task_id: TaskId, parent: TaskId = "p", **more: Any) -> TaskNode:
    return TaskNode(task_id, parent=parent, **more)


def started(*tasks: TaskNode | str, edges: tuple[str, ...] = (), **more: Any) -> Bench:
    nodes = [TaskNode(each) if isinstance(each, str) else each for each in tasks]
    bench = Bench(graph(nodes, *edges), **more)
    bench.start()
    return bench


def expanded(count: int, *tasks: TaskNode | str, edges: tuple[str, ...] = (), **more: Any) -> Bench:
    """Return a started orchestration whose `foreach` task `t` has that many children."""
    bench = started(*(tasks or (listed(),)), edges=edges, **more)
    bench.found("t", count)
    return bench


def family(*more: TaskNode | str, edges: tuple[str, ...] = (), **settings: Any) -> Bench:
    """Return `u → p → d`, with parts `a → b` and `c` of `p`."""
    return started(
        "u", TaskNode("p"), part("a"), part("b"), part("c"), "d", *more,
        edges=("u p", "a b", "p d", *edges), **settings,
    )  # fmt: skip


def links(*texts: str) -> tuple[TaskEdge, ...]:
    return tuple(map(edge_of, texts))


def fields(node: TaskNode) -> dict[str, Any]:
    found = {name: getattr(node, name) for name in TaskNode.__slots__}
    return found | {"status": "pending"}
