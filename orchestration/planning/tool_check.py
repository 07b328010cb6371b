"""Holds a planner's tasks against what the systems can do: a tool nobody has is no plan.

May import: orchestration.{errors, fallbacks, models, ports, problems, planning.proposal}, stdlib.

It asks less than the router, which has the last word: a task without a tool may still be a task for somebody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from orchestration.errors import Problem
from orchestration.fallbacks import fallback_nodes
from orchestration.models import AUTO, TaskNode
from orchestration.planning.proposal import SystemTools
from orchestration.ports import ToolInfo
from orchestration.problems import nearest, shown

_SHOWN = 12


def find_unknown_tools(
    tasks: Iterable[tuple[str, TaskNode]], systems: Sequence[SystemTools] | None
) -> list[Problem]:
    """Return a problem for each system or tool that is not there and each argument a tool can't take.

    Args:
        tasks: Tasks, each with its place in the draft.
        systems: What there is; None where nobody was asked, and then nothing is wrong.
    """
    if systems is None:
        return []
    found: list[Problem] = []
    for path, task in tasks:
        for depth, each in enumerate((task, *fallback_nodes(task))):
            found += _problems(path + ".fallback" * depth, each, systems)
    return found


def _problems(path: str, task: TaskNode, systems: Sequence[SystemTools]) -> list[Problem]:
    wanted = task.system_preference
    named = [system for system in systems if wanted == system.name or wanted in system.serves]
    if wanted != AUTO and not named:
        known = [system.name for system in systems]
        return [
            Problem(
                f"{path}.system_preference",
                f"names {shown(wanted)}, which is no system.",
                _fix(wanted, known),
            )
        ]
    if task.tool is None:
        return []
    asked = systems if wanted == AUTO else named
    if any(system.error is not None or system.takes_any for system in asked):
        return []
    tool = _tool(asked, task.tool)
    if tool is None:
        return [_no_such_tool(path, task, systems, [each.name for system in asked for each in system.tools])]
    return _argument_problems(path, task, tool)


def _tool(systems: Sequence[SystemTools], name: str) -> ToolInfo | None:
    return next((tool for system in systems for tool in system.tools if tool.name == name), None)


def _no_such_tool(path: str, task: TaskNode, systems: Sequence[SystemTools], known: Sequence[str]) -> Problem:
    where = "no system has" if task.system_preference == AUTO else f"{task.system_preference} does not have"
    others = [system.name for system in systems if any(tool.name == task.tool for tool in system.tools)]
    fix = f"System {others[0]!r} has it." if others else _fix(str(task.tool), known)
    return Problem(f"{path}.tool", f"names {shown(task.tool)}, which {where}.", fix)


def _argument_problems(path: str, task: TaskNode, tool: ToolInfo) -> list[Problem]:
    schema = tool.input_schema or {}
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, Mapping):
        return []
    missing = [name for name in required if name not in task.arguments] if isinstance(required, list) else []
    unknown = [
        name
        for name in task.arguments
        if schema.get("additionalProperties") is False and name not in properties
    ]
    problems = []
    if missing:
        told = ", ".join(map(str, missing))
        problems.append(
            Problem(f"{path}.arguments", f"lack {told}, which {tool.name!r} needs.", f"Add {told}.")
        )
    if unknown:
        told = ", ".join(unknown)
        fix = f"The parameters are: {', '.join(map(str, properties))}."
        problems.append(Problem(f"{path}.arguments", f"hold {told}, which {tool.name!r} does not take.", fix))
    return problems


def _fix(word: str, known: Sequence[str]) -> str:
    near = nearest(word, known)
    if near is not None:
        return f"Did you mean {near!r}? Else leave it out."
    return (
        f"There are: {', '.join(known[:_SHOWN])}; or leave it out."
        if known
        else "There are none: leave it out."
    )
