"""A DAG in the formats people look at: drawings, and the file formats by name.

May import: orchestration.{dag, dag_file, drawings, errors}, stdlib.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from orchestration.dag import TaskDAG
from orchestration.dag_file import dag_to_document, dump_yaml
from orchestration.drawings import Replaced, to_dot, to_mermaid
from orchestration.errors import InvalidArgumentError

__all__ = ["FORMATS", "export", "to_dot", "to_json", "to_mermaid", "without_items"]

FORMATS = ("json", "yaml", "mermaid", "dot")


def export(
    dag: TaskDAG,
    format: str,  # noqa: A002  (the word every caller uses)
    *,
    unfold: bool = False,
    replaced: Sequence[Replaced] = (),
) -> str:
    """Return a DAG as `json`, `yaml`, `mermaid` or `dot`.

    Args:
        dag: What to write.
        format: How.
        unfold: Whether a drawing shows the parts of tasks; a file always has the parts that are tasks of the DAG.
        replaced: What stands in the place of superseded tasks; for drawings.

    Raises:
        InvalidArgumentError: There is no such format.
    """
    match format:
        case "json":
            return to_json(dag)
        case "yaml":
            return dump_yaml(without_items(dag))
        case "mermaid":
            return to_mermaid(dag, unfold=unfold, replaced=replaced)
        case "dot":
            return to_dot(dag, unfold=unfold, replaced=replaced)
        case _:
            raise InvalidArgumentError("format", format, f"one of {', '.join(FORMATS)}")


def to_json(dag: TaskDAG) -> str:
    """Return a DAG as indented JSON, which `load_dag` reads back."""
    return json.dumps(dag_to_document(without_items(dag)), ensure_ascii=False, indent=2) + "\n"


def without_items(dag: TaskDAG) -> TaskDAG:
    """Return a DAG without the tasks that a `foreach` made of its items: whoever runs it again makes them anew."""
    lists = {task_id for task_id, node in dag.nodes.items() if node.foreach is not None}
    items = {task_id for task_id, node in dag.nodes.items() if node.parent in lists} if lists else set()
    if not items:
        return dag
    twin = dag.copy()
    twin.nodes = {task_id: node for task_id, node in dag.nodes.items() if task_id not in items}
    twin.edges = [
        edge for edge in dag.edges if edge.source_task_id not in items and edge.target_task_id not in items
    ]
    return twin
