"""The addresses of what can be read: one place that makes them and tells whether one is ours.

May import: stdlib.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

LIST_URI = "orchestration://list"
ORCHESTRATION_TEMPLATE = "orchestration://{orchestration_id}"
GRAPH_TEMPLATE = "orchestration://{orchestration_id}/graph"
PLAN_TEMPLATE = "orchestration://{orchestration_id}/plan"
OUTPUT_TEMPLATE = "orchestration://{orchestration_id}/tasks/{task_id}/output"

_OUTPUT = re.compile(r"orchestration://([^/]+)/tasks/([^/]+)/output")
_OURS = re.compile(r"orchestration://[^/]+(/graph|/plan|/tasks/[^/]+/output)?")


def orchestration_uri(orchestration_id: str) -> str:
    """Return the address of an orchestration's status."""
    return f"orchestration://{_segment(orchestration_id)}"


def graph_uri(orchestration_id: str) -> str:
    """Return the address of an orchestration's graph in Mermaid."""
    return f"{orchestration_uri(orchestration_id)}/graph"


def plan_uri(orchestration_id: str) -> str:
    """Return the address of how an orchestration's plan came about."""
    return f"{orchestration_uri(orchestration_id)}/plan"


def output_uri(orchestration_id: str, task_id: str) -> str:
    """Return the address of a task's whole output."""
    return f"{orchestration_uri(orchestration_id)}/tasks/{_segment(task_id)}/output"


def is_ours(uri: str) -> bool:
    """Whether an address has the form of one of this server's resources."""
    return _OURS.fullmatch(uri) is not None


def parse_reference(reference: str) -> tuple[str, str] | None:
    """Return the orchestration and the task a reference names: `id/task`, or the address of its output."""
    found = _OUTPUT.fullmatch(reference.strip())
    if found is not None:
        return unquote(found[1]), unquote(found[2])
    orchestration_id, slash, task_id = reference.strip().partition("/")
    if not (orchestration_id and slash and task_id) or "/" in task_id:
        return None
    return orchestration_id, task_id


def _segment(text: str) -> str:
    # `~` marks tasks of alternative plans and is unreserved: it stays as it is.
    return quote(text, safe="~")
