"""Waiting for an orchestration inside a tool call: bounded, with progress, and never in charge of it.

May import: orchestration, server.desk, anyio, stdlib.

Whoever waits only reads. A client that goes away, or a time that is over, ends the waiting and nothing else.
"""

from __future__ import annotations

import math
from typing import Any

import anyio

from orchestration.models import OrchestrationStatus
from server.answers import clip
from server.desk import DeskContext, desk

REST_SECONDS = 0.05
"""Between two looks: a run that settles thousands of tasks a second is not asked about each of them."""
PROGRESS_SECONDS = 0.25
"""Between two progress notifications."""
HEARTBEAT_SECONDS = 5.0
"""The longest silence while nothing happens: some clients give up on a call they hear nothing of."""


def is_at_rest(status: dict[str, Any]) -> bool:
    """Whether waiting is of no use: it ended, a person paused it, or nobody drives it."""
    state = OrchestrationStatus(status["state"])
    return state.is_terminal or state is OrchestrationStatus.PAUSED or bool(status["orphaned"])


async def wait_until_ended(
    ctx: DeskContext, orchestration_id: str, *, wait_seconds: float, since: int | None = None
) -> dict[str, Any]:
    """Return the status once the orchestration has ended, or the time is over.

    Args:
        ctx: The request; it is told the progress while it waits.
        orchestration_id: What to wait for.
        wait_seconds: The longest wait.
        since: Return as soon as anything happened after this event, too.
    """
    orchestrator = desk(ctx).orchestrator
    until = anyio.current_time() + wait_seconds
    status = await orchestrator.load_status(orchestration_id)
    if status["orphaned"]:  # this server may be about to go on with it
        with anyio.move_on_after(wait_seconds):
            await desk(ctx).took_over.wait()
        status = await orchestrator.load_status(orchestration_id)
    told_at, told = -PROGRESS_SECONDS, -1.0
    while not is_at_rest(status) and not (since is not None and status["last_seq"] > since):
        now = anyio.current_time()
        if now >= until:
            break
        if now - told_at >= PROGRESS_SECONDS:
            told = await _report(ctx, status, told)
            told_at = now
        await orchestrator.wait_for_change(
            orchestration_id,
            after_seq=status["last_seq"],
            timeout_seconds=min(until - now, HEARTBEAT_SECONDS),
        )
        await anyio.sleep(min(REST_SECONDS, max(0.0, until - anyio.current_time())))
        status = await orchestrator.load_status(orchestration_id)
    if wait_seconds:
        await _report(ctx, status, told)
    return status


async def _report(ctx: DeskContext, status: dict[str, Any], told: float) -> float:
    """Tell the client how far it is, where it asked for that; return the progress that was told.

    The protocol wants every notification to tell more than the one before. Where nothing was settled since, a part of
    the way to the next task is told.
    """
    total = status["total_tasks"]
    running = ", ".join(status["current_running_tasks"][:3])
    settled = round(status["progress_percentage"] * total / 100)
    message = f"{settled} of {total} tasks settled" + (f"; running: {running}" if running else "")
    progress = settled if settled > told else told + (math.floor(told) + 1 - told) / 10
    await ctx.report_progress(progress, total, clip(message, 200))
    return progress
