"""What the systems configured here can run, told to a model that has to choose tools for its tasks.

May import: orchestration, server.answers, stdlib.

Which tools fit a goal is judged by shared words, as long as nobody who understands the goal is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.ports import ToolInfo
from orchestration.systems.registry import Survey
from server.answers import clip, plural

SURVEY_SECONDS = 10.0
"""Longest wait for a system to list its tools; one that is being downloaded is told without them."""
TOOLS_SHOWN = 30
FITTING_SHOWN = 6
"""Tools of one system that fit a goal, each told with what it does."""
TOOL_CHARS = 90
LINE = 400

_NAME_WEIGHT = 3
"""How much more a word of a tool's name says than one of its description."""
_MIN_STEM = 3
_COMMON = """
    all and any are can for from get has have how into its make new not one our out set some that the their them then
    this use using was what when which who will with you your
"""
_STOP_WORDS = frozenset(_COMMON.split())
_ENDINGS = ("ations", "ation", "ings", "ing", "ies", "ers", "er", "ed", "es", "e", "s", "y")


async def describe_systems(orchestrator: AdvancedTaskOrchestrator) -> list[str]:
    """Return a line per system: its name, and its tools where it can be asked now."""
    surveys = await orchestrator.systems.survey(timeout_seconds=SURVEY_SECONDS)
    return [_line(name, survey, _names(survey.tools)) for name, survey in surveys.items()]


async def fitting_systems(orchestrator: AdvancedTaskOrchestrator, goal: str) -> list[str]:
    """Return a line per system that fits a goal, best first: the tools that fit, and what they do.

    A system that runs any task by its description always fits. Where no tool does, each system is told with the names
    of its tools, for words are not all there is to a goal.
    """
    surveys = await orchestrator.systems.survey(timeout_seconds=SURVEY_SECONDS)
    return rank_systems(goal, surveys)


def rank_systems(goal: str, surveys: Mapping[str, Survey]) -> list[str]:
    """Return the lines of `fitting_systems` for what systems answered."""
    wanted = _stems(goal)
    fitting = {name: _fitting(wanted, survey.tools) for name, survey in surveys.items()}
    by_name = {name: max((score for score, _ in found), default=0) for name, found in fitting.items()}
    if not any(by_name.values()):
        return [_line(name, survey, _names(survey.tools)) for name, survey in surveys.items()]
    lines = []
    for name in sorted(surveys, key=lambda name: -by_name[name]):
        survey = surveys[name]
        if fitting[name]:
            told = ", ".join(_told(tool) for _, tool in fitting[name][:FITTING_SHOWN])
            left = len(survey.tools) - min(len(fitting[name]), FITTING_SHOWN)
            others = f" (and {plural(left, 'other')})" if left else ""
            lines.append(_line(name, survey, f"tools {told}{others}"))
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


def _fitting(wanted: frozenset[str], tools: Iterable[ToolInfo]) -> list[tuple[int, ToolInfo]]:
    """Return the tools that share words with a goal, the most first; ties in the system's order."""
    scored = [
        (_NAME_WEIGHT * len(wanted & _stems(tool.name)) + len(wanted & _stems(tool.description)), tool)
        for tool in tools
    ]
    return sorted((entry for entry in scored if entry[0]), key=lambda entry: -entry[0])


def _stems(text: str) -> frozenset[str]:
    """Return the words of a text without their endings: `fetchOrders`, `fetch_order` and `Fetching orders` agree."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text[:4000])
    return frozenset(
        _stem(word) for word in re.findall(r"[^\W_]+", spaced.lower()) if word not in _STOP_WORDS
    ) - {""}


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _MIN_STEM:
            return word[: -len(ending)]
    return word if len(word) >= _MIN_STEM else ""
