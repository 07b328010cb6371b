"""What the systems configured here can run, told to a model that has to choose tools for its tasks.

May import: orchestration, server.answers, stdlib.
"""

from __future__ import annotations

from orchestration.orchestrator import AdvancedTaskOrchestrator
from server.answers import clip

SURVEY_SECONDS = 10.0
"""Longest wait for a system to list its tools; one that is being downloaded is told without them."""
TOOLS_SHOWN = 30
LINE = 400


async def describe_systems(orchestrator: AdvancedTaskOrchestrator) -> list[str]:
    """Return a line per system: its name, and its tools where it can be asked now."""
    lines = []
    for name, survey in (await orchestrator.systems.survey(timeout_seconds=SURVEY_SECONDS)).items():
        tools = [tool.name for tool in survey.tools]
        more = f" and {len(tools) - TOOLS_SHOWN} more" if len(tools) > TOOLS_SHOWN else ""
        if survey.error is not None:
            shown = f"can't be asked for its tools now: {survey.error}"
        else:
            shown = (
                f"tools {', '.join(tools[:TOOLS_SHOWN])}{more}" if tools else "any task, by its description"
            )
        lines.append(clip(f"{name}: {shown}", LINE))
    return lines
