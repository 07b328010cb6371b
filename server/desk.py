"""What every tool and resource has at hand: the orchestrator, the announcer of changes, the time.

May import: orchestration, server.updates, mcp, stdlib.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio
from mcp.server.mcpserver import Context

from orchestration.clock import Clock, SystemClock
from orchestration.models import OrchestrationId
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server.updates import Updates


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The state of one running server, made by its lifespan."""

    orchestrator: AdvancedTaskOrchestrator
    updates: Updates
    clock: Clock = field(default_factory=SystemClock)
    keeps_house: bool = False
    """Whether the server goes on with what loses its driver."""
    callers_can_claim: bool = True
    """Whether who starts something here has the tools to do tasks itself: else what nothing can run is refused."""
    took_over: anyio.Event = field(default_factory=anyio.Event)
    """Set when the server has gone on with what it found unfinished, or has nothing of the kind to do."""
    follow: Callable[[OrchestrationId], None] = lambda _: None
    """Begins to announce the changes of an orchestration that has no listener here."""


DeskContext: TypeAlias = Context[Desk]


def desk(ctx: DeskContext) -> Desk:
    """Return the desk of the server that answers this request."""
    return ctx.request_context.lifespan_context
