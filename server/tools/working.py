"""The tools `claim_task` and `report_task`: work for agents, one task at a time, and what they report of it.

May import: orchestration, server.{answers, desk, schemas, work_answers}, server.tools.working_words, anyio, mcp types,
pydantic, stdlib.

A claim is one transaction in the shared state, whichever server is asked and whichever process drives; so is a report.
What a worker sends is data: it is bounded, stored, and told to nobody as anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import anyio
from mcp_types import CallToolResult
from pydantic import Field

from orchestration.claim_records import Claim
from orchestration.errors import NotPossibleError
from orchestration.work_desk import NoWork
from server.answers import clip
from server.desk import DeskContext, desk
from server.schemas import (
    Delivered,
    Evidence,
    Name,
    Report,
    Skills,
    Subtasks,
    WaitSeconds,
)
from server.tools.working_words import tell_claim, tell_ended, tell_no_work, tell_report
from server.work_answers import ClaimAnswer, ReportAnswer

HEARTBEAT_SECONDS = 5.0
"""Between two progress notifications while a worker waits: some clients give up on a call they hear nothing of."""


async def claim_task(
    worker: Name,
    ctx: DeskContext,
    orchestration_id: Name = "",
    skills: Skills = None,
    wait_seconds: WaitSeconds = 0,
) -> Annotated[CallToolResult, ClaimAnswer]:
    """Take a task that is offered to you (keep one worker name): do as its brief says, report at least once per \
lease. Each call gives another task."""
    try:
        found = await _wait_for_work(ctx, worker, orchestration_id or None, skills or (), wait_seconds)
    except NotPossibleError as ended:  # of a worker's loop that is the end, and no mistake
        return tell_ended(worker, orchestration_id, ended.state)
    if isinstance(found, NoWork):
        own = await _own_claims(ctx, worker, orchestration_id or None) if found.claimed else ()
        return tell_no_work(found, worker, orchestration_id, skills or (), own)
    return tell_claim(found)


async def _wait_for_work(
    ctx: DeskContext,
    worker: str,
    orchestration_id: str | None,
    skills: Sequence[str],
    wait_seconds: float,
) -> Claim | NoWork:
    """Return a claim, or why there is none once the time is over; the client is told how much of it has passed."""
    began = anyio.current_time()
    while True:
        waited = anyio.current_time() - began
        left = max(0.0, wait_seconds - waited)
        if wait_seconds:
            told = f"{clip(worker, 100)} waits for a task"
            await ctx.report_progress(min(waited, wait_seconds), wait_seconds, told)
        found = await desk(ctx).orchestrator.claim_task(
            worker,
            orchestration_id=orchestration_id,
            skills=skills,
            wait_seconds=min(left, HEARTBEAT_SECONDS),
        )
        if isinstance(found, Claim) or left <= HEARTBEAT_SECONDS:
            return found


async def _own_claims(ctx: DeskContext, worker: str, orchestration_id: str | None) -> list[Claim]:
    """Return what a worker has already: one that lost its memory finds its way back."""
    views = await desk(ctx).orchestrator.load_offers(orchestration_id)
    return [
        view.claim
        for view in views
        if view.claim is not None and view.claim.state == "active" and view.claim.worker == worker
    ]


async def report_task(
    claim: Name,
    status: Report,
    ctx: DeskContext,
    summary: str = "",
    output: Delivered = None,
    evidence: Evidence = None,
    subtasks: Annotated[Subtasks, Field(description="With progress: they replace it")] = None,
) -> Annotated[CallToolResult, ReportAnswer]:
    """Report on a claimed task. progress renews the lease; done delivers output; failed: may be tried again; \
blocked: can't be done; release: gives it back."""
    orchestrator = desk(ctx).orchestrator
    # A request may be dropped at any await; what is durable by then must be told to whoever drives as well.
    with anyio.CancelScope(shield=True):
        reported = await orchestrator.report_task(
            claim,
            status,
            summary=summary,
            output=output,
            evidence=evidence or (),
            subtasks=subtasks or (),
        )
    claim_now = reported.verdict.claim
    standing = None
    if claim_now.state != "active":
        standing = await orchestrator.load_status(claim_now.orchestration_id)
    return tell_report(reported, status, standing, replaced_by=len(subtasks or ()))
