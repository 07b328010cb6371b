"""The tool `get_metrics`: how things went, over everything stored or in one orchestration.

May import: orchestration, server.{answers, desk, schemas}, mcp types, stdlib.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from mcp_types import CallToolResult
from pydantic import Field

from orchestration.claim_records import ClaimTotals
from orchestration.errors import InvalidArgumentError
from orchestration.models import JsonObject, OrchestrationStatus
from server.answers import clip, plural, seconds, tell
from server.desk import DeskContext, desk
from server.schemas import Call, MetricsAnswer, Name, Scope

SHOWN_PATH = 20
"""Tasks of the critical path that are named; how many there are is told."""
SHOWN_WORKERS = 20
"""Workers that are named; those with the most claims."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WINDOW = re.compile(r"(\d{1,6})([smhd])")


async def get_metrics(
    ctx: DeskContext,
    scope: Scope = "server",
    id: Annotated[Name, Field(description="orchestration_id, for scope=orchestration")] = "",  # noqa: A002
    window: Annotated[Name, Field(description="For scope=server, e.g. 30m, 24h, 7d; omit for all time")] = "",
) -> Annotated[CallToolResult, MetricsAnswer]:
    """Say how things went. scope=server: orchestrations by outcome, success_rate and average_parallel_efficiency in \
percent, average_execution_time_seconds, tasks by status, attempts, work, claims (reported done is not accepted), \
workers. scope=orchestration (with id): makespan, \
critical path, speedup, parallel_efficiency in (0, 1], attempts.

speedup = sum of task durations / makespan. parallel efficiency = the best possible makespan for that graph and \
concurrency / the measured one."""
    if scope == "orchestration":
        return await _of_one(ctx, id, window)
    if id:
        raise InvalidArgumentError("id", id, "scope=orchestration beside it", "Set scope to orchestration.")
    since_us = None
    if window:
        since_us = desk(ctx).clock.now_us() - _seconds_in(window) * 1_000_000
    orchestrator = desk(ctx).orchestrator
    metrics: JsonObject = await orchestrator.load_metrics(since_us=since_us)
    if not window:  # claims are counted over all time
        metrics = {**metrics, **_claims(await orchestrator.storage.load_claim_totals())}
    answer = MetricsAnswer(
        message=_server_sentence(metrics, window),
        scope=scope,
        window=window or None,
        metrics=metrics,
        next=[Call(tool="get_orchestration_status", arguments={})],
    )
    return tell(answer, _lines(metrics))


async def _of_one(ctx: DeskContext, orchestration_id: str, window: str) -> CallToolResult:
    if not orchestration_id:
        raise InvalidArgumentError(
            "id", orchestration_id, "an orchestration_id", "Send the id of an orchestration."
        )
    if window:
        raise InvalidArgumentError("window", window, "scope=server beside it", "Leave it out.")
    orchestrator = desk(ctx).orchestrator
    result = await orchestrator.load_result(orchestration_id)
    metrics: JsonObject = dict(result["performance_metrics"])
    path = result["performance_metrics"].get("critical_path", [])
    if len(path) > SHOWN_PATH:
        metrics |= {"critical_path": path[:SHOWN_PATH], "critical_path_tasks": len(path)}
    metrics |= _claims(await orchestrator.storage.load_claim_totals(orchestration_id))
    makespan = result["performance_metrics"].get("makespan_seconds")
    took = f" in {seconds(makespan)}" if makespan else ""
    answer = MetricsAnswer(
        message=f"{orchestration_id} is {result['state']}: {metrics['tasks_completed']:,} of "
        f"{plural(result['total_tasks'], 'task')} completed{took}.",
        scope="orchestration",
        orchestration_id=orchestration_id,
        metrics=metrics,
        next=[] if OrchestrationStatus(result["state"]).is_terminal else [_status(orchestration_id)],
    )
    return tell(answer, _lines(metrics))


def _claims(totals: ClaimTotals) -> JsonObject:
    """Return what workers have done; nothing where nobody ever claimed anything."""
    if not totals.claims:
        return {}
    busiest = sorted(totals.by_worker.items(), key=lambda item: (-item[1][0], item[0]))
    found: JsonObject = {
        "claims": {
            "made": totals.claims,
            "reported_done": totals.reported_done,
            "accepted": totals.accepted,
            "refused": totals.refused,
            "expired": totals.expired,
            "released": totals.released,
            "failed": totals.failed,
        },
        "workers": {
            clip(worker, 60): {"claims": claims, "reported_done": done, "accepted": accepted}
            for worker, (claims, done, accepted) in busiest[:SHOWN_WORKERS]
        },
    }
    if len(busiest) > SHOWN_WORKERS:
        found["more_workers"] = len(busiest) - SHOWN_WORKERS
    return found


def _status(orchestration_id: str) -> Call:
    return Call(tool="get_orchestration_status", arguments={"orchestration_id": orchestration_id})


def _seconds_in(window: str) -> int:
    """Return the seconds of a window such as `24h`.

    Raises:
        InvalidArgumentError: It is none.
    """
    found = _WINDOW.fullmatch(window.strip().lower())
    if found is None:
        raise InvalidArgumentError("window", window, "a number with s, m, h or d", "For example 24h.")
    return int(found[1]) * _UNITS[found[2]]


def _server_sentence(metrics: Mapping[str, Any], window: str) -> str:
    total = metrics["total_orchestrations"]
    when = f" in the last {window}" if window else ""
    if not total:
        return f"No orchestration was started{when}."
    return (
        f"{plural(total, 'orchestration')}{when}: {metrics['successful_orchestrations']:,} successful, "
        f"{metrics['failed_orchestrations']:,} failed, {metrics['active_orchestrations']:,} active."
    )


def _lines(metrics: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in metrics.items():
        if name == "workers" and isinstance(value, Mapping):
            lines += [
                f"worker {worker}: {plural(done['claims'], 'claim')}, {done['reported_done']:,} reported done, "
                f"{done['accepted']:,} accepted"
                for worker, done in value.items()
            ]
        elif isinstance(value, Mapping):
            inner = ", ".join(f"{key} {_number(number)}" for key, number in value.items() if number)
            lines.append(clip(f"{name}: {inner or 'none'}"))
        elif isinstance(value, list):
            lines.append(clip(f"{name}: {', '.join(map(str, value)) or 'none'}"))
        else:
            lines.append(f"{name}: {_number(value)}")
    return lines


def _number(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
