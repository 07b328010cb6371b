"""What the systems configured here can run, told to a model that has to choose tools for its tasks.

May import: orchestration, server.answers, stdlib.

Which tools fit a goal is found by the index of tools, as long as nobody who understands the goal is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.ports import ToolInfo
from orchestration.systems.catalog import ToolCatalog
from orchestration.systems.registry import Survey
from orchestration.systems.tool_index import ToolIndex
from server.answers import clip, plural

SURVEY_SECONDS = 10.0
"""Longest wait for a system to list its tools; one that is being downloaded is told without them."""
TOOLS_SHOWN = 30
FITTING_SEARCHED = 40
"""Tools of all systems that are looked for."""
FITTING_SHOWN = 6
"""Tools of one system that fit a goal, each told with what it does."""
TOOL_CHARS = 90
LINE = 400


def catalog_of(orchestrator: AdvancedTaskOrchestrator) -> ToolCatalog:
    """Return the catalog of an orchestrator's tools, which keeps what the systems told."""
    found = orchestrator.systems.aids.find_tools
    if not isinstance(found, ToolCatalog):
        found = orchestrator.systems.aids.find_tools = ToolCatalog(orchestrator.systems)
    return found


async def describe_systems(orchestrator: AdvancedTaskOrchestrator) -> list[str]:
    """Return a line per system: its name, and its tools where it can be asked now."""
    surveys = await orchestrator.systems.survey(timeout_seconds=SURVEY_SECONDS)
    return [_line(name, survey, _names(survey.tools)) for name, survey in surveys.items()]


async def fitting_systems(orchestrator: AdvancedTaskOrchestrator, goal: str) -> list[str]:
    """Return a line per system that fits a goal, best first: the tools that fit, and what they do.

    A system that runs any task by its description always fits. Where no tool does, each system is told with the names
    of its tools, for words are not all there is to a goal.
    """
    catalog = catalog_of(orchestrator)
    found = await catalog.search(goal, FITTING_SEARCHED)
    return _ranked([(hit.system, hit.tool) for hit in found if hit.coverage], await catalog.surveys())


def rank_systems(goal: str, surveys: Mapping[str, Survey]) -> list[str]:
    """Return the lines of `fitting_systems` for what systems answered."""
    told = (
        {
            "server": name,
            "name": tool.name,
            "description": tool.description,
            "input_schema": tool.input_schema,
        }
        for name, survey in surveys.items()
        for tool in survey.tools
    )
    found = ToolIndex().build(told).search(goal, FITTING_SEARCHED)
    return _ranked([(hit.server, hit.name) for hit in found if hit.coverage], surveys)


def _ranked(found: Sequence[tuple[str, str]], surveys: Mapping[str, Survey]) -> list[str]:
    if not found:
        return [_line(name, survey, _names(survey.tools)) for name, survey in surveys.items()]
    lines = []
    fitting = dict.fromkeys(name for name, _ in found)
    for name in dict.fromkeys([*fitting, *surveys]):
        survey = surveys[name]
        if name in fitting:
            by_name = {tool.name: tool for tool in survey.tools}
            best = (by_name[tool] for system, tool in found if system == name and tool in by_name)
            shown = [_told(tool) for tool in islice(best, FITTING_SHOWN)]
            left = len(survey.tools) - len(shown)
            others = f" (and {plural(left, 'other')})" if left else ""
            lines.append(_line(name, survey, f"tools {', '.join(shown)}{others}"))
        elif not survey.tools:
            lines.append(_line(name, survey, _names(())))
    return lines


def _line(name: str, survey: Survey, told: str) -> str:
    if survey.error is not None:
        told = f"can't be asked for its tools now: {survey.error}"
    return clip(f"{name}: {told}", LINE)


def _names(tools: Sequence[ToolInfo]) -> str:
    if not tools:
        return "any task, by its description"
    more = f" and {len(tools) - TOOLS_SHOWN} more" if len(tools) > TOOLS_SHOWN else ""
    return f"tools {', '.join(tool.name for tool in tools[:TOOLS_SHOWN])}{more}"


def _told(tool: ToolInfo) -> str:
    does = clip(tool.description.strip().partition("\n")[0], TOOL_CHARS)
    return f"{tool.name} ({does})" if does else tool.name
