"""Where the tool that looks at a task's result is: found before the work is done, not after.

May import: orchestration.{errors, models}, orchestration.systems.{base, registry}, stdlib.

It is the system that `acceptance.system_preference` names; else the task's own. A task that leaves its own system to
the router, and one of an agent, who runs no tools for others, is looked at by a system that has the tool: the task's
own if that does, else the first that answers, else a controller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestration.errors import AttemptError, InvalidArgumentError, Problem
from orchestration.models import AUTO, Acceptance, TaskId, TaskNode
from orchestration.systems.base import listed, nearest
from orchestration.systems.registry import Survey, SystemRegistry


@dataclass(frozen=True, slots=True)
class Known:
    """What a routing knows of the systems."""

    registry: SystemRegistry
    surveys: Mapping[str, Survey]
    by_tool: Mapping[str, Sequence[str]]
    """Systems by tool, in order."""
    served: Mapping[str, str]
    """Systems by the other names under which they take tasks."""
    running_all: Sequence[str]
    """Systems that run whatever they are told."""
    agent_kind: str


def leaves_choice(task: TaskNode, registry: SystemRegistry, agent_kind: str) -> bool:
    """Whether the tool that looks at a task's result may be on any system."""
    asked = task.acceptance
    if asked is None or asked.tool is None:
        return False
    if asked.system_preference is not None:
        return asked.system_preference == AUTO and AUTO not in registry
    name = task.system_preference
    return name not in registry or registry.get(name).kind == agent_kind


async def checking_system(
    asked: Acceptance, tool: str, task: TaskNode, own: str, path: str, known: Known
) -> str | Problem:
    """Return the system that looks at a task's result, or why there is none.

    Args:
        asked: The task's acceptance.
        tool: Its tool.
        task: The task.
        own: The task's system.
        path: Of the acceptance, for the problem.
        known: What there is.
    """
    if leaves_choice(task, known.registry, known.agent_kind):
        return _any(tool, task.task_id, own, path, known)
    named = asked.system_preference
    name = own if named is None else _configured(named, known)
    if name is None:
        return _unknown_system(str(named), task.task_id, path, known)
    return await _named(name, tool, task, path, known)


def _configured(named: str, known: Known) -> str | None:
    return named if named in known.registry else known.served.get(named.casefold())


def _any(tool: str, task_id: TaskId, own: str, path: str, known: Known) -> str | Problem:
    """Return a system that has the tool."""
    having = [name for name in known.by_tool.get(tool, ()) if not _is_agent(name, known)]
    if having:
        resilience = known.registry.resilience
        answering = [name for name in having if not resilience.is_open(name, tool)] or having
        return own if own in answering else answering[0]
    if known.running_all:
        return own if own in known.running_all else known.running_all[0]
    text = f"nothing can look at the result of task {task_id!r}: no system has the tool {tool!r}."
    silent = [f"{name}: {survey.error}" for name, survey in known.surveys.items() if survey.error is not None]
    if silent:
        text += f" Could not be asked: {'; '.join(silent)}."
    return Problem(f"{path}.tool", text, _meant(tool, known))


async def _named(name: str, tool: str, task: TaskNode, path: str, known: Known) -> str | Problem:
    if _is_agent(name, known):
        text = f"the result of task {task.task_id!r} can't be looked at by {name!r}: agents run no tools for others."
        having = [each for each in known.by_tool.get(tool, ()) if not _is_agent(each, known)]
        fix = (
            f"name a system that has the tool {tool!r}: {listed(having) if having else 'there is none here'}."
        )
        return Problem(f"{path}.system_preference", text, fix)
    if known.surveys[name].error is not None:
        return name  # it may be up by the time the task is done
    try:
        await known.registry.get(name).choose_tool(replace(task, tool=tool))
    except AttemptError:
        return name  # lost since it was surveyed
    except InvalidArgumentError as exc:
        text = (
            f"the result of task {task.task_id!r} can't be looked at by system {name!r}: {exc.field} is "
            f"{exc.value!r}; expected {exc.expected}."
        )
        elsewhere = [each for each in known.by_tool.get(tool, ()) if not _is_agent(each, known)]
        fix = (
            f"set acceptance.system_preference to where it is: {listed(elsewhere)}." if elsewhere else exc.fix
        )
        return Problem(f"{path}.tool", text, fix)
    return name


def _is_agent(name: str, known: Known) -> bool:
    return known.registry.get(name).kind == known.agent_kind


def _unknown_system(named: str, task_id: TaskId, path: str, known: Known) -> Problem:
    near = nearest(named, known.registry)
    text = f"the result of task {task_id!r} is to be looked at by system {named!r}, which is not configured."
    fix = f"write one of: {listed(known.registry.names)}." if len(known.registry) else "configure it."
    return Problem(
        f"{path}.system_preference", text, f"did you mean {near[0]!r}? Else {fix}" if near else fix
    )


def _meant(tool: str, known: Known) -> str:
    near = nearest(tool, known.by_tool)
    fix = "name a tool that there is, or pass a system that has it in `systems=`."
    return f"did you mean the tool {' or '.join(map(repr, near))}? Else {fix}" if near else fix
