"""Where tasks go, decided before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.dag import TaskDAG
from orchestration.errors import UnroutableTaskError
from orchestration.models import TaskNode
from orchestration.ports import System
from orchestration.systems.controller import ControllerSystem
from orchestration.systems.function import FunctionSystem
from orchestration.systems.mcp import McpServerSpec, McpSystem
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.router import Routing, route

pytestmark = pytest.mark.anyio


class Controller:
    """A controller that runs anything."""

    async def execute_task(self, context: Any) -> None: ...


def functions(*names: str) -> FunctionSystem:
    """Return a system with functions of these names."""
    return FunctionSystem(dict.fromkeys(names, lambda: None))


async def routed(tasks: list[TaskNode], **systems: System) -> Routing:
    """Return where tasks go."""
    dag = TaskDAG("d")
    for task in tasks:
        dag.add_task(task)
    async with SystemRegistry(systems) as registry:
        return await route(dag, registry, timeout_seconds=5)


async def refused(tasks: list[TaskNode], **systems: System) -> str:
    """Return the words of a refusal."""
    with pytest.raises(UnroutableTaskError) as caught:
        await routed(tasks, **systems)
    return str(caught.value)


async def test_a_named_system_is_taken() -> None:
    """With the tool it chooses, even where an earlier one has the tool as well."""
    routing = await routed(
        [
            TaskNode("one", system_preference="second", tool="add"),
            TaskNode("add", system_preference="second"),
            TaskNode("any", system_preference="single"),
        ],
        first=functions("add"),
        second=functions("add", "mul"),
        single=functions("only"),
    )

    assert routing.routes == {"one": "second", "add": "second", "any": "single"}
    assert routing.tools == {"one": "add", "add": "add", "any": "only"}
    assert routing.warnings == []


async def test_auto_takes_the_first_system_that_has_the_tool() -> None:
    """In the order in which they were given; a task without a tool counts by its name."""
    routing = await routed(
        [TaskNode("x", tool="mul"), TaskNode("y", tool="add"), TaskNode("add"), TaskNode("mul~1")],
        first=functions("add"),
        second=functions("add", "mul"),
    )

    assert routing.routes == {"x": "second", "y": "first", "add": "first", "mul~1": "second"}
    assert routing.tools == {"x": "mul", "y": "add", "add": "add", "mul~1": "mul"}


async def test_what_no_tool_fits_goes_to_the_controller() -> None:
    """With the tool it names, if any; functions come first where they fit."""
    routing = await routed(
        [TaskNode("add"), TaskNode("design"), TaskNode("x", tool="draw")],
        controller=ControllerSystem(Controller()),
        python=functions("add"),
    )

    assert routing.routes == {"add": "python", "design": "controller", "x": "controller"}
    assert routing.tools == {"add": "add", "design": None, "x": "draw"}


async def test_a_single_function_does_not_swallow_tasks_that_name_nothing() -> None:
    """The only tool is taken only where the system is named."""
    assert "no system has a tool called 'design'" in await refused(
        [TaskNode("design")], python=functions("add")
    )


async def test_preferences_the_controller_serves_go_there_without_a_warning() -> None:
    """In any case, also where a function has the task's name."""
    routing = await routed(
        [TaskNode("add", system_preference="alita"), TaskNode("b", system_preference="KGoT")],
        python=functions("add"),
        controller=ControllerSystem(Controller()),
    )

    assert routing.routes == {"add": "controller", "b": "controller"}
    assert routing.warnings == []


async def test_a_preference_that_is_not_configured_falls_back_with_a_warning() -> None:
    """One sentence per preference, with the tasks, where they went, and what to do."""
    routing = await routed(
        [TaskNode("add", system_preference="alita"), TaskNode("mul", system_preference="alita")],
        python=functions("add", "mul"),
    )

    assert routing.routes == {"add": "python", "mul": "python"}
    assert routing.warnings == [
        (
            "system_preference 'alita' names no configured system; routed automatically to python: add, mul. "
            "Fix: configure it, or write one of: auto, python."
        )
    ]


async def test_every_task_that_nothing_can_run_is_told_at_once() -> None:
    """With the systems there are, the nearest tools and the ways out."""
    text = await refused(
        [
            TaskNode("ok", tool="add"),
            TaskNode("a", tool="ad"),
            TaskNode("zzz"),
            TaskNode("c", system_preference="python", tool="sub"),
        ],
        python=functions("add", "mul"),
    )

    assert text.splitlines() == [
        "The plan has 3 mistakes:",
        (
            "  tasks[1].tool: nothing can run task 'a': no system has the tool 'ad', and there is no controller. "
            "Systems: python (function). Fix: did you mean the tool 'add'? Else set `tool`, pass a system that has "
            "it in `systems=`, or a `unified_controller=` that runs any task."
        ),
        (
            "  tasks[2].tool: nothing can run task 'zzz': no system has a tool called 'zzz', and there is no "
            "controller. Systems: python (function). Fix: set `tool`, pass a system that has it in `systems=`, or a "
            "`unified_controller=` that runs any task."
        ),
        (
            "  tasks[3].tool: task 'c' can't run on system 'python': tool is 'sub'; expected a tool of system "
            "'python': add, mul. Fix: name one of these, or another system."
        ),
    ]


async def test_without_any_system_the_refusal_says_so() -> None:
    """Naming what to pass."""
    text = await refused([TaskNode("a")])

    assert "Systems: none." in text
    assert "unified_controller=" in text
    assert "systems=" in text


async def test_a_system_that_can_not_be_reached_does_not_stop_the_others() -> None:
    """A task that names it goes there anyway; it may be up by then. The answer warns."""
    routing = await routed(
        [
            TaskNode("read", system_preference="files", tool="read"),
            TaskNode("list", system_preference="files"),
            TaskNode("add"),
        ],
        files=McpSystem(McpServerSpec(command="no-such-program"), "files"),
        python=functions("add"),
    )

    assert routing.routes == {"read": "files", "list": "files", "add": "python"}
    assert routing.tools == {"read": "read", "list": None, "add": "add"}
    assert routing.warnings == [
        (
            "System 'files' could not be asked for its tools: System 'files' can't be reached: there is no program "
            "'no-such-program' on the PATH"
        )
    ]


async def test_a_refusal_says_which_systems_could_not_be_asked() -> None:
    """The tool may be there."""
    text = await refused(
        [TaskNode("read")], files=McpSystem(McpServerSpec(command="no-such-program"), "files")
    )

    assert "Could not be asked: files: System 'files' can't be reached: there is no program" in text


async def test_systems_nobody_asks_for_are_left_alone() -> None:
    """A server is not started for tasks that all name another system."""
    server = McpSystem(McpServerSpec(command="no-such-program"), "files")

    routing = await routed(
        [TaskNode("add", system_preference="python")], files=server, python=functions("add")
    )

    assert routing.routes == {"add": "python"}
    assert server.generation == 0


async def test_many_tasks_are_routed_soon() -> None:
    """Routing is a look-up per task, not a search."""
    tasks = [TaskNode(f"t{number}", tool="add") for number in range(20_000)]

    routing = await routed(tasks, python=functions("add"))

    assert len(routing.routes) == 20_000
