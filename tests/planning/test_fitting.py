"""A planner is told about the few of very many tools that fit."""

from __future__ import annotations

from orchestration.planning.fitting import fitting_tools
from orchestration.planning.model_prompts import MAX_TOOLS, told_systems
from orchestration.planning.proposal import SystemTools
from orchestration.ports import ToolInfo

MANY = tuple(ToolInfo(name=f"tool_{number}", description="Do something else.") for number in range(200))
SYSTEMS = [
    SystemTools(name="many", tools=MANY),
    SystemTools(
        name="files", tools=(ToolInfo(name="readFile", description="Read a file."), ToolInfo(name="paint"))
    ),
]


def test_few_tools_are_all_told() -> None:
    """Nothing is searched where nothing has to be left out."""
    assert fitting_tools(SYSTEMS[1:], "anything", 5) == {("files", "readFile"), ("files", "paint")}


def test_of_many_tools_those_that_fit_are_told() -> None:
    """Whatever their order; where too few fit, the first others fill the room."""
    assert fitting_tools(SYSTEMS, "Reading of files", 3) == {
        ("files", "readFile"),
        ("files", "paint"),  # its server is called like that
        ("many", "tool_0"),
    }
    assert fitting_tools(SYSTEMS, "", 2) == {("many", "tool_0"), ("many", "tool_1")}


def test_a_prompt_says_how_many_are_left_out() -> None:
    """So that a model knows that there are more."""
    told = {each["system"]: each for each in told_systems(SYSTEMS, "read the files")}

    assert sum(len(each["tools"]) for each in told.values()) == MAX_TOOLS
    assert [each["tool"] for each in told["files"]["tools"]] == ["readFile", "paint"]
    assert told["many"]["left_out"] == 200 - (MAX_TOOLS - 2)
