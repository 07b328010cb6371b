"""Waiting for an orchestration inside a tool call: bounded, with progress, and never in charge of it.

May import: orchestration, server.{answers, desk, tools.standing}, anyio, stdlib.

Whoever waits only reads. A client that goes away, or a time that is over, ends the waiting and nothing else.
"""

from __future__ import annotations

import math
from typing import Any

import anyio

from orchestration.models import OrchestrationStatus
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server.answers import clip
from server.desk import Desk, DeskContext, desk
from server.tools.standing import MOVING, SMALL_DAG

REST_SECONDS = 0.05
"""Between two looks: a run that settles thousands of tasks a second is not asked about each of them."""
PROGRESS_SECONDS = 0.25
"""Between two progress notifications."""
UNCLEAR = "`verify` could not say"
"""Stands in what is known of a task whose `verify` was asked in vain."""
HEARTBEAT_SECONDS = 5.0
"""The longest silence while nothing happens: some clients give up on a call they hear nothing of."""


async def is_at_rest(desk: Desk, status: dict[str, Any]) -> bool:
    """Whether waiting is of no use: it ended, is paused, nobody will drive it, or somebody has to answer."""
    state = OrchestrationStatus(status["state"])
    if state.is_terminal or state is OrchestrationStatus.PAUSED:
        return True
    if status["orphaned"]:
        return not desk.keeps_house or bool(status["missing_systems"])
    if state is OrchestrationStatus.PLANNING or _is_moving(status):
        return False
    if status["waiting_for_decision"]:
        return not await _may_answer_itself(desk.orchestrator, status)
    if status["waiting_for_approval"] or status["waiting_for_answer"]:
        return True
    # What a worker has goes on by itself; what is offered may wait for this very caller.
    return bool(status["waiting_for_worker"] and not status["claimed"])


def _is_moving(status: dict[str, Any]) -> bool:
    """Whether something goes on by itself; a task about which the caller is asked does not."""
    moving = {name for name in MOVING if status["counts"].get(name)}
    if status["counts"].get("replanning", 0) <= len(status["waiting_for_answer"]):
        moving.discard("replanning")
    return bool(moving)


async def _may_answer_itself(orchestrator: AdvancedTaskOrchestrator, status: dict[str, Any]) -> bool:
    """Whether a task that waits for a decision has a `verify` that has not answered yet."""
    if status["total_tasks"] > SMALL_DAG:
        return False
    dag = await orchestrator.load_dag(status["orchestration_id"])
    return any(
        dag.nodes[task_id].verify is not None and UNCLEAR not in known
        for task_id, known in status["waiting_for_decision"].items()
        if task_id in dag.nodes
    )


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
    here = desk(ctx)
    orchestrator = here.orchestrator
    until = anyio.current_time() + wait_seconds
    status = await orchestrator.load_status(orchestration_id)
    if status["orphaned"]:  # this server may be about to go on with it
        with anyio.move_on_after(wait_seconds):
            await here.took_over.wait()
        status = await orchestrator.load_status(orchestration_id)
    told_at, told = -PROGRESS_SECONDS, -1.0
    while not await is_at_rest(here, status) and not (since is not None and status["last_seq"] > since):
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
    if claimed := status["claimed"]:
        message += f"; with workers: {', '.join(list(claimed)[:3])}"
    progress = settled if settled > told else told + (math.floor(told) + 1 - told) / 10
    await ctx.report_progress(progress, total, clip(message, 200))
    return progress
