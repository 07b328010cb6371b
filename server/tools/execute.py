"""The tool `execute_dag`: starts a plan, a DAG or a goal and answers with its handle, or says what it would take.

May import: orchestration, server.{answers, desk, schemas, tools.*}, anyio, mcp types, stdlib.

What was accepted is durable before the answer is given, and is driven by the server, not by the request.
"""

from __future__ import annotations

from typing import Annotated, Any

import anyio
from mcp_types import CallToolResult
from pydantic import Field

from orchestration.dag import TaskDAG
from orchestration.dag_file import parse_document
from orchestration.errors import InvalidArgumentError
from orchestration.models import OrchestrationMode
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.planning.plan import Plan
from server.answers import SHORT, tell
from server.desk import DeskContext, desk
from server.schemas import MAX_WAIT_SECONDS, Action, Dag, Goal, Mode, Name, Standing, WaitSeconds
from server.tools.preview import tell_preview
from server.tools.standing import (
    approval_views,
    describe_offers,
    fill,
    final_outputs,
    next_calls,
    sentence,
    standing_lines,
    warnings_of,
)
from server.tools.waiting import wait_until_ended
from server.uris import orchestration_uri


async def execute_dag(
    ctx: DeskContext,
    plan_id: Annotated[Name, Field(description="From decompose_goal")] = "",
    dag: Dag = None,
    goal: Annotated[Goal, Field(description="Planned as decompose_goal does, then started")] = "",
    mode: Mode = None,
    action: Action = "start",
    key: Annotated[Name, Field(description="Repeating a call with its key returns the first one's run")] = "",
    reuse: Annotated[
        Name, Field(description="An earlier orchestration_id: results of unchanged tasks are kept")
    ] = "",
    wait_seconds: WaitSeconds = 0,
) -> Annotated[CallToolResult, Standing]:
    """Start one of: a stored plan (plan_id), a DAG of your own (dag), a goal. It runs in the background, in parallel, \
durably; the answer has the orchestration_id at once, or after up to wait_seconds with what has come out by then. \
Tasks nothing here can run, if they name no tool, become your_tasks: take them with claim_task. \
action=preview runs nothing: it says how long it would take, at what cost, where each task would go and why, what is \
missing, and who must agree.

Modes: simple (one at a time), hierarchical (default), adaptive (priorities follow measured durations; a failed task \
may get an alternative plan, or you are asked for one). A tool nothing here has is refused before anything starts."""
    orchestrator = desk(ctx).orchestrator
    sent = {"plan_id": plan_id or None, "dag": dag, "goal": goal or None}
    chosen = [name for name, value in sent.items() if value is not None]
    if len(chosen) != 1:
        raise InvalidArgumentError(
            chosen[0] if chosen else "plan_id",
            sent[chosen[0]] if chosen else None,
            f"exactly one of plan_id, dag and goal, and {' and '.join(chosen) or 'none'} came",
            "Send one of the three.",
        )
    if action == "preview":
        work: Any = plan_id or _parsed(dag, orchestrator) or await _planned(orchestrator, goal, mode)
        found = await orchestrator.preview(work, mode=mode, allows_agent=desk(ctx).callers_can_claim)
        return tell_preview(found, plan_id=plan_id, goal=goal)
    began = anyio.current_time()
    # A request may be dropped at any await; once submitted, the orchestration must also be driven.
    with anyio.CancelScope(shield=True):
        orchestration_id = await _submit(ctx, orchestrator, plan_id, dag, goal, mode, key, reuse)
    left = max(0.0, MAX_WAIT_SECONDS - (anyio.current_time() - began))
    status = await wait_until_ended(ctx, orchestration_id, wait_seconds=min(wait_seconds, left))
    approvals = await approval_views(orchestrator, orchestration_id) if status["waiting_for_approval"] else []
    answer = Standing(
        message=sentence(status), next=next_calls(status, approvals), approvals=approvals or None
    )
    fill(answer, status)
    await describe_offers(orchestrator, answer)
    answer.warnings = await warnings_of(orchestrator, status) or None
    answer.outputs = await final_outputs(orchestrator, status) or None
    return tell(answer, standing_lines(answer), limit=SHORT, rest=orchestration_uri(orchestration_id))


async def _submit(
    ctx: DeskContext,
    orchestrator: AdvancedTaskOrchestrator,
    plan_id: str,
    dag: dict[str, Any] | None,
    goal: str,
    mode: str | None,
    key: str,
    reuse: str,
) -> str:
    how: dict[str, Any] = {
        "mode": OrchestrationMode(mode) if mode else None,
        "key": key or None,
        "reuse": reuse or None,
        "on_event": desk(ctx).updates.on_event,
        # The caller is there, and can answer with edit_dag; only ADAPTIVE mode ever asks.
        "ask_caller": True,
        # And can claim what nothing else here can do.
        "allows_agent": desk(ctx).callers_can_claim,
    }
    if goal and not reuse and orchestrator.starts_early:
        del how["reuse"]
        return await orchestrator.submit_goal(goal, **how)
    work: Any = plan_id or _parsed(dag, orchestrator) or await _planned(orchestrator, goal, mode)
    return await orchestrator.submit(work, **how)


def _parsed(dag: dict[str, Any] | None, orchestrator: AdvancedTaskOrchestrator) -> TaskDAG | None:
    return None if dag is None else parse_document(dag, orchestrator.options.limits)


async def _planned(orchestrator: AdvancedTaskOrchestrator, goal: str, mode: str | None) -> Plan:
    how = OrchestrationMode(mode) if mode else None
    return await orchestrator.decompose(goal, mode=how, store=False, allow_sentences=False)
