"""Which of very many tools a planner is told about: those that fit what it plans for.

May import: orchestration.planning.proposal, orchestration.systems.tool_index, stdlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from orchestration.planning.proposal import SystemTools
from orchestration.systems.tool_index import ToolIndex


def fitting_tools(systems: Sequence[SystemTools], text: str, limit: int) -> frozenset[tuple[str, str]]:
    """Return system and name of the tools that fit a text best; where too few do, the first others as well.

    Args:
        systems: What there is.
        text: What is planned for.
        limit: Most tools; with no more than these, all are returned and nothing is searched.
    """
    every = [(system.name, tool.name) for system in systems for tool in system.tools]
    if len(every) <= limit:
        return frozenset(every)
    told = (
        {
            "server": system.name,
            "name": tool.name,
            "description": tool.description,
            "input_schema": tool.input_schema,
        }
        for system in systems
        for tool in system.tools
    )
    found = [(hit.server, hit.name) for hit in _index().build(told).search(text, limit)]
    return frozenset(list(dict.fromkeys([*found, *every]))[:limit])


@cache
def _index() -> ToolIndex:
    """Return the index of this process's planners: what has not changed since the last plan is not indexed again."""
    return ToolIndex()
