"""A model that has to choose tools is told which there are."""

from __future__ import annotations

import pytest

from orchestration.factory import create_advanced_task_orchestrator
from orchestration.ports import ToolInfo
from orchestration.systems.function import FunctionSystem
from orchestration.systems.registry import Survey
from server.tools.offer import LINE, describe_systems, fitting_systems, rank_systems

pytestmark = pytest.mark.anyio


class _Controller:
    """Runs any task."""

    async def execute_task(self, context: object) -> dict[str, object]:
        return {"success": True}


class _Unreachable(FunctionSystem):
    """Can't be asked now."""

    async def list_tools(self) -> list[ToolInfo]:
        raise OSError("no route to host")


def _nothing() -> None:
    """Do nothing."""


async def test_each_system_is_told_with_its_tools_or_why_it_has_none() -> None:
    """Tools by name, a controller as what it is, and one that can't be asked with the reason."""
    many = {f"tool_{number:02}": _nothing for number in range(40)}
    orchestrator = create_advanced_task_orchestrator(
        _Controller(), systems={"many": FunctionSystem(many), "gone": _Unreachable({"x": _nothing})}
    )

    async with orchestrator:
        many_line, gone, controller, agent = await describe_systems(orchestrator)

    assert many_line.startswith("many: tools tool_00, tool_01, ")
    assert many_line.endswith("tool_29 and 10 more")
    assert gone == "gone: can't be asked for its tools now: no route to host"
    assert controller == "controller: any task, by its description"
    assert agent == "agent: any task, by its description"


SURVEYS = {
    "files": Survey(
        tools=[
            ToolInfo(name="read_file", description="Read a file\nin parts."),
            ToolInfo(name="countLines", description="Count the lines of a file."),
            ToolInfo(name="delete", description="Remove it."),
        ]
    ),
    "warehouse": Survey(
        tools=[ToolInfo(name="run_query", description="Query yesterday's orders and reports.")]
    ),
    "mail": Survey(tools=[ToolInfo(name="send", description="Send a message.")]),
    "agent": Survey(),
    "gone": Survey(error="no route to host"),
}


def test_only_the_tools_that_fit_a_goal_are_told_best_first() -> None:
    """By shared words in any form; a system that takes any task always fits, and one that can't be asked is told."""
    assert rank_systems("Reporting: query the orders", SURVEYS) == [
        "warehouse: tools run_query (Query yesterday's orders and reports.)",
        "agent: any task, by its description",
        "gone: can't be asked for its tools now: no route to host",
    ]
    assert rank_systems("How many lines has this file?", SURVEYS)[0] == (
        "files: tools countLines (Count the lines of a file.), read_file (Read a file), delete (Remove it.)"
    )


def test_where_no_tool_fits_the_names_of_all_are_told() -> None:
    """Words are not all there is to a goal."""
    assert rank_systems("Knit a scarf", SURVEYS) == [
        "files: tools read_file, countLines, delete",
        "warehouse: tools run_query",
        "mail: tools send",
        "agent: any task, by its description",
        "gone: can't be asked for its tools now: no route to host",
    ]


def test_what_is_told_of_a_system_is_bounded() -> None:
    """However many of its tools fit, and however much they say."""
    tools = [ToolInfo(name=f"query_{number}", description="Query " * 100) for number in range(500)]

    (line,) = rank_systems("query", {"big": Survey(tools=tools)})

    assert len(line) <= LINE
    assert line.startswith("big: tools query_0 (Query Query ")


async def test_the_systems_of_an_orchestrator_are_asked() -> None:
    """As they answer now."""

    def knit() -> None:
        """Knit anything."""

    orchestrator = create_advanced_task_orchestrator(
        systems={"wool": FunctionSystem({"knit": knit, "nothing": _nothing})}
    )

    async with orchestrator:
        assert await fitting_systems(orchestrator, "Knit a scarf") == [
            "wool: tools knit (Knit anything.) (and 1 other)",
            "agent: any task, by its description",
        ]
