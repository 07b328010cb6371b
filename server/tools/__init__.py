"""The tools of the MCP server; one module each. This one registers them.

May import: server.tools.*, mcp.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

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

__all__ = ["register_tools"]

_READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


def register_tools(server: MCPServer[Desk]) -> None:
    """Give a server the tools; their docstrings are what a model reads about them."""
    _add(
        server,
        decompose_goal,
        "Plan a goal",
        ToolAnnotations(
            read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
        ),
    )
    _add(
        server,
        execute_dag,
        "Run a plan",
        # What runs is up to the configured systems: they may change anything, anywhere.
        ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True
        ),
    )
    _add(server, get_orchestration_status, "Where things stand", _READS)
    _add(
        server,
        edit_dag,
        "Change a plan or what runs",
        # New tasks of an orchestration that goes on may start at once, and may do anything, anywhere.
        ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True
        ),
    )
    _add(
        server,
        control_orchestration,
        "Control a run",
        # A retry runs tasks again, and a cancel ends work: both may change anything, anywhere.
        ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True
        ),
    )
    _add(server, read_output, "Read an output", _READS)
    _add(server, get_metrics, "How things went", _READS)


def _add(server: MCPServer[Desk], tool: Callable[..., Any], title: str, hints: ToolAnnotations) -> None:
    server.add_tool(tool, title=title, description=inspect.getdoc(tool), annotations=hints)
