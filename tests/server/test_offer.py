"""A model that has to choose tools is told which there are."""

from __future__ import annotations

import pytest

from orchestration.factory import create_advanced_task_orchestrator
from orchestration.ports import ToolInfo
from orchestration.systems.function import FunctionSystem
from server.tools.offer import describe_systems

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
        many_line, gone, controller = await describe_systems(orchestrator)

    assert many_line.startswith("many: tools tool_00, tool_01, ")
    assert many_line.endswith("tool_29 and 10 more")
    assert gone == "gone: can't be asked for its tools now: no route to host"
    assert controller == "controller: any task, by its description"
