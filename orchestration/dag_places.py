"""Where in a DAG file a problem is: from the path of a problem to a line of the text.

May import: orchestration.{documents, errors, models, validation}, stdlib.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from orchestration import documents
from orchestration.errors import Problem
from orchestration.models import TaskEdge, TaskId
from orchestration.validation import edge_path

MAX_PLACES = 1_000
"""Problems whose line is looked up."""

_STEP = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


def with_lines(
    problems: Sequence[Problem],
    text: str,
    tasks: Mapping[TaskId, int],
    edges: Mapping[tuple[TaskId, TaskId], documents.Path],
) -> list[Problem]:
    """Return problems with the line of each in its path.

    Args:
        problems: What is wrong with a document.
        text: The document as it was written.
        tasks: Where each task stands in `tasks`.
        edges: Where each edge is written, by its ends.
    """
    by_name = {edge_path(TaskEdge(*pair)): place for pair, place in edges.items()}
    paths = [_document_path(problem.path, tasks, by_name) for problem in problems[:MAX_PLACES]]
    lines = documents.find_places(text, paths)
    placed = [
        dataclasses.replace(problem, path=f"{problem.path} (line {lines[path]})")
        if path in lines
        else problem
        for problem, path in zip(problems, paths, strict=False)
    ]
    return [*placed, *problems[len(paths) :]]


def _document_path(
    path: str, tasks: Mapping[TaskId, int], edges: Mapping[str, documents.Path]
) -> documents.Path:
    """Return where in the document a problem's path leads: `tasks[load].tool` → `("tasks", 1, "tool")`."""
    head, bracket, rest = path.partition("]")
    if head + bracket in edges:
        place = edges[head + bracket]
        return (*place, *_steps(rest)) if place[0] == "edges" else place
    task_id, rest = _named_task(path, tasks)
    return _steps(path) if task_id is None else ("tasks", tasks[task_id], *_steps(rest))


def _named_task(path: str, tasks: Mapping[TaskId, int]) -> tuple[TaskId | None, str]:
    """Return which task a problem's path names, and what follows; an id may have brackets of its own."""
    at = path.find("]") if path.startswith("tasks[") else -1
    while at >= 0:
        if path[len("tasks[") : at] in tasks:
            return path[len("tasks[") : at], path[at + 1 :]
        at = path.find("]", at + 1)
    return None, path


def _steps(path: str) -> documents.Path:
    steps: list[str | int] = []
    for in_brackets, name in _STEP.findall(path):
        steps.append(int(in_brackets) if in_brackets.isdecimal() else in_brackets or name)
    return tuple(steps)
