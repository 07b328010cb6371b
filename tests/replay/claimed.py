"""Journals of work that was offered: every way in which a claim can end, and one that has not ended yet.

May import: orchestration, tests.engine_kit, stdlib.
"""

from __future__ import annotations

from typing import Any, Literal

from orchestration.dag import TaskDAG
from orchestration.engine.effects import CheckAcceptance, DescribeOffer, LookAtClaim
from orchestration.engine.inputs import (
    AcceptanceAnswer,
    AlternativeFound,
    ClaimLooked,
    ClaimTaken,
    OfferDescribed,
    ReportClaim,
    Routes,
    TaskDefaults,
)
from orchestration.models import AGENT, Acceptance, ErrorRecord, Json, TaskId, TaskNode, TaskStatus
from tests.engine_kit import ONE_OUTPUT, SECOND, Bench, graph, plan

_REFUSED = ErrorRecord(code="not_accepted", message="The result is not accepted.", retryable=True)
_LEASE_SECONDS = 300.0


def claimed() -> Bench:
    """Done at once; failed, run out and reported late; given back; refused, then accepted; split; left open."""
    dag = graph(
        [
            TaskNode("plain", skills=["go"]),
            TaskNode("late"),
            TaskNode("back"),
            TaskNode("checked", acceptance=Acceptance(condition="output.ok")),
            TaskNode("split"),
            TaskNode("once", idempotent=False),
        ],
        "plain late",
    )
    bench = _offering(dag)
    _take(bench, "plain", "c1", "ann")
    _say(bench, "plain", "c1", "done", {"ok": True})
    _offer(bench)
    _take(bench, "late", "c2", "ann")
    bench.wait(_LEASE_SECONDS)
    _run_out(bench, "c2")
    _say(bench, "late", "c2", "done")
    _take(bench, "back", "c3", "bob")
    _say(bench, "back", "c3", "release", reason="not my field")
    _take(bench, "back", "c4", "ann")
    _say(bench, "back", "c4", "failed", reason="no access")
    bench.wait(1)
    _offer(bench)
    _take(bench, "back", "c5", "bob")
    _say(bench, "back", "c5", "release", has_begun=True)
    _take(bench, "back", "c6", "eve")
    _say(bench, "back", "c6", "blocked", reason="there is no such file")
    _take(bench, "checked", "c7", "ann")
    _say(bench, "checked", "c7", "done", {"ok": False})
    _judge(bench, error=_REFUSED)
    bench.wait(1)
    _offer(bench)
    _take(bench, "checked", "c8", "bob")
    _say(bench, "checked", "c8", "done", {"ok": True})
    _judge(bench, value={"ok": True})
    _take(bench, "split", "c9", "ann")
    parts = AlternativeFound(
        orchestration_id="o",
        task_id="split",
        dag=plan("x y", "x y"),
        by="ann",
        routes=Routes(systems={"x": AGENT, "y": AGENT}),
    )
    _say(bench, "split", "c9", "progress", alternative=parts)
    _offer(bench)
    _take(bench, "once", "c10", "ann")
    bench.wait(_LEASE_SECONDS)
    _run_out(bench, "c10")
    return bench


def held() -> Bench:
    """One task is offered, one claimed, one reported and not looked at yet."""
    bench = _offering(
        graph([*map(TaskNode, "ab"), TaskNode("c", acceptance=Acceptance(condition="output.ok"))])
    )
    _take(bench, "b", "c1", "ann")
    _take(bench, "c", "c2", "bob")
    _say(bench, "c", "c2", "done", {"ok": True})
    return bench


def go_on_with_claims(bench: Bench) -> bool:
    """Let workers do what is offered or claimed; False when there is nothing."""
    _offer(bench)
    if bench.of(CheckAcceptance):
        _judge(bench, value={"ok": True})
        return True
    for task_id, task in bench.state.tasks.items():
        if task.status is TaskStatus.OFFERED:
            _take(bench, task_id, f"new-{task_id}-{task.offers}", "zoe")
            return True
        if task.status is TaskStatus.CLAIMED and task.claim is not None and task.reported is None:
            _say(bench, task_id, task.claim, "done", {"ok": True})
            return True
    return False


def _offering(dag: TaskDAG) -> Bench:
    bench = Bench(
        dag,
        routes=Routes(systems=dict.fromkeys(dag.nodes, AGENT)),
        defaults=TaskDefaults(max_retries=2, timeout_seconds=None),
    )
    bench.start()
    _offer(bench)
    return bench


def _offer(bench: Bench) -> None:
    """Write every brief that is asked for."""
    for effect in bench.wanted(DescribeOffer):
        bench.tell(
            OfferDescribed(
                orchestration_id="o",
                task_id=effect.task_id,
                generation=effect.generation,
                number=effect.number,
                lease_seconds=_LEASE_SECONDS,
            )
        )


def _take(bench: Bench, task_id: TaskId, claim: str, worker: str) -> None:
    bench.now_us += SECOND
    number = bench.task(task_id).offers
    bench.tell(ClaimTaken(orchestration_id="o", task_id=task_id, number=number, claim=claim, worker=worker))


def _say(
    bench: Bench,
    task_id: TaskId,
    claim: str,
    status: Literal["progress", "done", "failed", "blocked", "release"],
    value: Json = None,
    **more: Any,
) -> None:
    bench.now_us += SECOND
    bench.tell(
        ReportClaim(
            orchestration_id="o",
            task_id=task_id,
            claim=claim,
            status=status,
            output=ONE_OUTPUT if status == "done" else None,
            value=value,
            jitter=0.5,
            **more,
        )
    )


def _run_out(bench: Bench, claim: str) -> None:
    """Let a claim run out that is looked at, and only that one."""
    for effect in bench.wanted(LookAtClaim):
        is_expired = effect.claim == claim
        bench.tell(
            ClaimLooked(
                orchestration_id="o",
                task_id=effect.task_id,
                claim=effect.claim,
                is_expired=is_expired,
                again_at_us=bench.now_us + 60 * SECOND,
                jitter=0.5,
            )
        )


def _judge(bench: Bench, value: Json = None, error: ErrorRecord | None = None) -> None:
    (asked,) = bench.wanted(CheckAcceptance)
    bench.tell(
        AcceptanceAnswer(
            orchestration_id="o",
            task_id=asked.task_id,
            attempt=asked.attempt,
            output=asked.output,
            value=value,
            error=error,
            jitter=0.5,
        )
    )
