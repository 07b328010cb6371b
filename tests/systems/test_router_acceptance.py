"""Where what looks at a result is found, before anything starts; and which silent systems that waits for."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from orchestration.dag import TaskDAG
from orchestration.errors import UnroutableTaskError
from orchestration.models import TaskNode
from orchestration.ports import System, ToolInfo
from orchestration.systems.agent import AgentSystem
from orchestration.systems.controller import ControllerSystem
from orchestration.systems.function import FunctionSystem
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.router import Routing, route, routed_dag

pytestmark = pytest.mark.anyio


class Silent(FunctionSystem):
    """A system that never lists its tools."""

    async def list_tools(self) -> list[ToolInfo]:
        await anyio.sleep_forever()
        raise AssertionError


class Controller:
    """A controller that runs anything."""

    async def execute_task(self, context: Any) -> None: ...


def functions(*names: str) -> FunctionSystem:
    """Return a system with functions of these names."""
    return FunctionSystem(dict.fromkeys(names, lambda: None))


def checked(task_id: str = "make", system: str | None = None, tool: str = "check", **fields: Any) -> TaskNode:
    """Return a task whose result a tool looks at."""
    return TaskNode(task_id, acceptance={"tool": tool, "system_preference": system}, **fields)  # type: ignore[arg-type]


async def routed(*tasks: TaskNode, **systems: System) -> tuple[Routing, TaskDAG]:
    """Return where tasks go, and the DAG that says so."""
    dag = TaskDAG("d")
    for task in tasks:
        dag.add_task(task)
    async with SystemRegistry(systems) as registry:
        with anyio.fail_after(5):
            routing = await route(dag, registry, allows_agent=True)
    return routing, routed_dag(dag, routing)


async def refused(*tasks: TaskNode, **systems: System) -> list[tuple[str, str]]:
    """Return where the problems are, with what to do."""
    with pytest.raises(UnroutableTaskError) as caught:
        await routed(*tasks, **systems)
    return [(problem.path, problem.fix) for problem in caught.value.problems]


def checks_of(dag: TaskDAG) -> dict[str, str | None]:
    """Return where the DAG says that results are looked at."""
    return {
        task_id: node.acceptance.system_preference
        for task_id, node in dag.nodes.items()
        if node.acceptance is not None
    }


async def test_what_looks_at_a_result_is_where_the_task_says_else_on_its_own_system() -> None:
    """And is written into the DAG that is kept: a fallback elsewhere is looked at by the same."""
    routing, dag = await routed(
        checked("make", "shell", system_preference="python"),
        checked("b", system_preference="both"),
        TaskNode("plain", tool="make"),
        python=functions("make", "check"),
        both=functions("b", "check"),
        shell=functions("check", "other"),
    )

    assert routing.checks == {"make": "shell", "b": "both"}
    assert checks_of(dag) == {"make": "shell", "b": "both"}


async def test_for_a_task_that_leaves_the_choice_or_is_an_agent_s_it_is_where_the_tool_is() -> None:
    """Also where all its tasks are the agent's, so that nothing else would be asked; `auto` may be said."""
    systems: dict[str, System] = {
        "agent": AgentSystem(),
        "python": functions("make"),
        "shell": functions("check", "test"),
    }
    routing, _ = await routed(
        checked("make"),
        checked("design"),
        checked("test"),
        checked("named", "auto", system_preference="python"),
        **systems,
    )
    alone, _ = await routed(checked("design", system_preference="agent"), **systems)

    assert routing.routes == {"make": "python", "design": "agent", "test": "shell", "named": "python"}
    assert routing.checks == {"make": "shell", "design": "shell", "test": "shell", "named": "shell"}
    assert alone.checks == {"design": "shell"}


async def test_a_controller_looks_at_what_no_tool_looks_at() -> None:
    routing, _ = await routed(
        checked("design"), controller=ControllerSystem(Controller()), python=functions("x")
    )

    assert routing.checks == {"design": "controller"}


async def test_what_could_never_look_at_a_result_is_refused_before_the_work_is_done() -> None:
    """Each at its own field, with what may be meant."""
    found = await refused(
        checked("make", tool="chek"),
        checked("make~1", "shel"),
        checked("make~2", "shell", tool="chekc"),
        checked("make~3", system_preference="python"),
        checked("make~4", "agent"),
        agent=AgentSystem(),
        python=functions("make"),
        shell=functions("check", "other"),
    )

    assert [path for path, _ in found] == [
        "tasks[0].acceptance.tool",
        "tasks[1].acceptance.system_preference",
        "tasks[2].acceptance.tool",
        "tasks[3].acceptance.tool",
        "tasks[4].acceptance.system_preference",
    ]
    fixes = [fix for _, fix in found]
    assert fixes[0].startswith("did you mean the tool 'check'?")
    assert fixes[1].startswith("did you mean 'shell'?")
    assert "check" in fixes[2]
    assert fixes[3] == "set acceptance.system_preference to where it is: shell."
    assert fixes[4] == "name a system that has the tool 'check': shell."


async def test_a_silent_system_holds_up_only_who_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tools are nobody's here, not even for a look at a result; who names it waits for it to the end."""
    monkeypatch.setattr("orchestration.systems.registry.PATIENCE_SECONDS", 0.05)
    systems = {"silent": Silent({}), "python": functions("make", "check")}

    routing, _ = await routed(checked("make"), TaskNode("x", tool="make"), **systems)
    dag = TaskDAG("d")
    dag.add_task(TaskNode("x", tool="make", fallback={"system_preference": "silent", "tool": "y"}))  # type: ignore[arg-type]
    async with SystemRegistry(systems) as registry:
        with anyio.fail_after(5):
            named = await route(dag, registry, timeout_seconds=0.3)

    assert routing.routes == {"make": "python", "x": "python"}
    assert "'silent' could not be asked for its tools: no answer within 0.05 s" in routing.warnings[0]
    assert named.fallbacks == {"x": ("silent",)}
    assert "no answer within 0.3 s" in named.warnings[0]


async def test_a_tool_that_no_other_has_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be it a task's or that of its acceptance."""
    monkeypatch.setattr("orchestration.systems.registry.PATIENCE_SECONDS", 0.0)

    class Slow(FunctionSystem):
        async def list_tools(self) -> list[ToolInfo]:
            await anyio.sleep(0.05)
            return await super().list_tools()

    slow = Slow({"check": lambda: None})
    routing, _ = await routed(checked("make"), python=functions("make"), silent=Silent({}), slow=slow)

    assert routing.checks == {"make": "slow"}
