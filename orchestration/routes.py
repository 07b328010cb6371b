"""Why a task goes where it goes, in a few words.

May import: orchestration.{models, ports}, orchestration.systems.{base, router}, stdlib. Pure: the router decided, and
its reason is recorded with the orchestration; of one from before there were recorded reasons, this says by which of
the router's rules.
"""

from __future__ import annotations

from orchestration.models import AUTO, TaskNode
from orchestration.ports import System
from orchestration.systems.base import base_task_id
from orchestration.systems.router import CAPABLE_KINDS, served_names


def route_reason(node: TaskNode, name: str, system: System | None, recorded: str | None = None) -> str:
    """Return why a task goes to a system.

    Args:
        node: The task.
        name: The system's name.
        system: The system itself; None where it is not configured here.
        recorded: The router's own words, where they are known.
    """
    if recorded:
        return recorded
    preference = node.system_preference
    if preference == name:
        return "the task names it"
    if system is not None and preference.casefold() in served_names(system):
        return f"it serves {preference!r}"
    before = "" if preference == AUTO else f"no system is called {preference!r}, so as with auto: "
    if system is not None and system.kind in CAPABLE_KINDS:
        return f"{before}no other has a tool for it, and this one runs any task by its description"
    if node.tool is None or node.tool == base_task_id(node.task_id):
        return f"{before}it has a tool called like the task"
    return f"{before}it is the first with the tool {node.tool!r}"
