"""The tools of the MCP server; one module each, or two that belong together. This one registers them.

May import: server.tools.*, mcp, stdlib.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

from server.desk import Desk
from server.tools.control import control_orchestration
from server.tools.decompose import decompose_goal
from server.tools.edit import edit_dag
from server.tools.execute import execute_dag
from server.tools.metrics import get_metrics
from server.tools.output import read_output
from server.tools.status import get_orchestration_status
from server.tools.systems import list_systems
from server.tools.working import claim_task, report_task

__all__ = ["PROFILES", "Profile", "register_tools"]

Profile: TypeAlias = Literal["full", "core", "worker"]
"""Which tools a server has."""

PROFILES: Mapping[Profile, frozenset[str] | None] = {
    "full": None,
    "core": frozenset(
        {
            "decompose_goal",
            "execute_dag",
            "get_orchestration_status",
            "control_orchestration",
            "read_output",
        }
    ),
    "worker": frozenset({"claim_task", "report_task", "read_output", "get_orchestration_status"}),
}
"""The tools of each profile; None: all there are. A worker's can start, change and stop nothing of others."""


def _hints(*, reads: bool = False, destroys: bool, repeats: bool, opens: bool) -> ToolAnnotations:
    return ToolAnnotations(
        read_only_hint=reads, destructive_hint=destroys, idempotent_hint=repeats, open_world_hint=opens
    )


_READS = _hints(reads=True, destroys=False, repeats=True, opens=False)
_KEEPS = _hints(destroys=False, repeats=False, opens=False)
"""Only stores something of ours."""
_RUNS = _hints(destroys=True, repeats=False, opens=True)
"""Starts or ends work: what runs is up to the configured systems, and may change anything, anywhere."""

_TOOLS: tuple[tuple[Callable[..., Any], str, ToolAnnotations], ...] = (
    (decompose_goal, "Plan a goal", _KEEPS),
    (execute_dag, "Run a plan", _RUNS),
    (get_orchestration_status, "Where things stand", _READS),
    (edit_dag, "Change a plan or what runs", _RUNS),
    (control_orchestration, "Control a run", _RUNS),
    (read_output, "Read an output", _READS),
    (get_metrics, "How things went", _READS),
    (list_systems, "Where tasks can run", _READS),
    (claim_task, "Take a task", _KEEPS),
    # Subtasks, and what a report unblocks, start at once; the same report twice counts once.
    (report_task, "Report on a task", _hints(destroys=True, repeats=True, opens=True)),
)


def register_tools(server: MCPServer[Desk], profile: Profile = "full") -> None:
    """Give a server the tools of a profile; their docstrings are what a model reads about them."""
    wanted = PROFILES[profile]
    for tool, title, hints in _TOOLS:
        if wanted is None or tool.__name__ in wanted:
            server.add_tool(tool, title=title, description=inspect.getdoc(tool), annotations=hints)
