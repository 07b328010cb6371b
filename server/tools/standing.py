"""How an orchestration's standing is told, for the tools that start, watch and explain it.

May import: orchestration, server.{answers, desk, schemas, uris}, stdlib.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.dag import TaskDAG
from orchestration.errors import NotPossibleError
from orchestration.folding import Parts
from orchestration.models import AUTO, Json, OrchestrationStatus, TaskStatus
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.ports import TaskRow
from orchestration.systems.router import served_names
from server.answers import SENTENCE, as_text, clip, counts_line, plural, preview, seconds
from server.schemas import ApprovalView, Call, Standing, TaskView
from server.uris import output_uri

SHOWN_ERRORS = 5
SHOWN_RUNNING = 10
SHOWN_QUESTIONS = 3
SHOWN_APPROVALS = 3
SHOWN_OFFERS = 5
"""Tasks that are told of those that wait for a worker, and of those that workers have."""
OFFER = 120
"""Characters of what one of them is about."""
WORKER = "agent-1"
"""What a worker may be called, where it has not said."""
SHOWN_OUTPUTS = 3
KNOWN = 400
"""Characters of what is known of a task that waits for a decision, or would run if somebody agrees."""
DIGEST_SHOWN = 12
"""Characters of a digest: enough to tell two things apart that one task asks for."""
SHOWN_DEPENDENCIES = 20
"""Of one task; the graph has all."""
OUTPUT_PREVIEW = 600
"""Characters of one output among others."""
SMALL_DAG = 2_000
"""Up to this many tasks the DAG is read to find the final outputs; larger ones are asked for task by task."""
NEXT_WAIT_SECONDS = 30
MOVING = frozenset({"ready", "running", "retrying", "replanning"})
"""Statuses of tasks in which something happens without anybody's doing."""


def fill(answer: Standing, status: Mapping[str, Any]) -> None:
    """Put an orchestration's standing into an answer."""
    answer.orchestration_id = status["orchestration_id"]
    answer.state = status["state"]
    answer.counts = {str(name): count for name, count in status["counts"].items() if count}
    answer.progress_percentage = round(status["progress_percentage"], 1)
    answer.estimated_completion_time = _rounded(status["estimated_completion_time"])
    answer.elapsed_seconds = _rounded(status["elapsed_seconds"])
    answer.last_seq = status["last_seq"]
    answer.plan_id = status.get("plan_id") or None
    answer.running = list(status["current_running_tasks"][:SHOWN_RUNNING]) or None
    answer.waiting_for_decision = {
        task_id: clip(known, KNOWN)
        for task_id, known in list(status["waiting_for_decision"].items())[:SHOWN_QUESTIONS]
    } or None
    answer.waiting_for_answer = {
        task_id: clip(known, KNOWN)
        for task_id, known in list(status["waiting_for_answer"].items())[:SHOWN_QUESTIONS]
    } or None
    answer.your_tasks = dict.fromkeys(status["waiting_for_worker"][:SHOWN_OFFERS], "") or None
    answer.claimed = {
        task_id: clip(worker, 100) for task_id, worker in list(status["claimed"].items())[:SHOWN_OFFERS]
    } or None
    answer.reason = clip(status["reason"]) or None
    answer.missing_systems = [clip(each) for each in status["missing_systems"][:SHOWN_ERRORS]] or None
    answer.errors = {
        task_id: clip(f"{error['code']}: {error['message']}", 200)
        for task_id, error in list(status["errors"].items())[:SHOWN_ERRORS]
    } or None


def sentence(status: Mapping[str, Any]) -> str:
    """Say where an orchestration stands, in one sentence."""
    name, state, total = status["orchestration_id"], status["state"], status["total_tasks"]
    counts = {str(key): count for key, count in status["counts"].items()}
    done = f"{counts.get('completed', 0):,} of {plural(total, 'task')} completed"
    extras = [
        f"{counts[key]:,} {key}"
        for key in ("running", "unknown", "failed", "skipped", "cancelled", "retrying", "replanning")
        if counts.get(key)
    ]
    if waiting := counts.get("awaiting_approval"):
        extras.append(f"{waiting:,} waiting for approval")
    if offered := counts.get("offered"):
        extras.append(f"{offered:,} waiting for a worker")
    if claimed := counts.get("claimed"):
        extras.append(f"{claimed:,} with workers")
    driven = ""
    if status["orphaned"]:
        driven = " (no process drives it; resume it or start the server that can)"
    elif silent := status["driver_silent_seconds"]:
        driven = f" (its driver, {status['driven_by']}, has been silent for {seconds(silent)})"
    return f"{name} is {state}{driven}: {', '.join([done, *extras])}."


def standing_lines(answer: Standing) -> list[str]:
    """Return the lines that follow the sentence."""
    pace = [f"state: {answer.state}", f"progress: {answer.progress_percentage:g} %"]
    if answer.elapsed_seconds is not None:
        pace.append(f"elapsed: {seconds(answer.elapsed_seconds)}")
    if answer.estimated_completion_time:
        pace.append(f"about {seconds(answer.estimated_completion_time)} left")
    lines = [" · ".join(pace), counts_line(answer.counts or {})]
    if answer.running:
        lines.append(f"running: {', '.join(answer.running)}")
    if answer.reason:
        lines.append(f"reason: {answer.reason}")
    if answer.state in {OrchestrationStatus.FAILED, OrchestrationStatus.CANCELLED}:
        # Not among the calls of `next`: who followed those would try for ever.
        lines.append(
            f"to run again what did not complete: {_control(answer.orchestration_id or '', 'retry')}"
        )
    if answer.waiting_for_decision:
        lines += [
            f"waits for a decision: {task_id}: {known}"
            for task_id, known in answer.waiting_for_decision.items()
        ]
        lines.append("decide: done if it happened, retry if it did not, failed to give it up")
    for view in answer.approvals or ():
        lines += approval_lines(view)
    if answer.waiting_for_answer:
        name = answer.orchestration_id or ""
        lines += [
            f"asks how to go on: {task_id}: {why}" for task_id, why in answer.waiting_for_answer.items()
        ]
        lines.append(
            "answer: edit_dag replaces or changes the task; or decide: retry runs it again as it is, done with the "
            "output if you did it yourself, failed gives it up"
        )
    lines += worker_lines(answer)
    lines += [f"can't go on here: {text}" for text in answer.missing_systems or ()]
    lines += [f"error: {task_id}: {text}" for task_id, text in (answer.errors or {}).items()]
    lines += [f"warning: {warning}" for warning in answer.warnings or ()]
    name = answer.orchestration_id or ""
    lines += [line for view in answer.outputs or () for line in output_lines(view, name)]
    return lines


def worker_lines(answer: Standing) -> list[str]:
    """Return what waits for a worker, and who has what."""
    counts, offered, claimed = answer.counts or {}, answer.your_tasks or {}, answer.claimed or {}
    lines = [f"your task: {task_id}" + (f": {told}" if told else "") for task_id, told in offered.items()]
    if (left := counts.get("offered", 0) - len(offered)) > 0 and offered:
        lines.append(f"… {plural(left, 'more task')} for you")
    lines += [f"claimed: {task_id} by {worker}" for task_id, worker in claimed.items()]
    if (left := counts.get("claimed", 0) - len(claimed)) > 0 and claimed:
        lines.append(f"… {left:,} more claimed")
    return lines


async def describe_offers(orchestrator: AdvancedTaskOrchestrator, answer: Standing) -> None:
    """Say in an answer what the tasks are about that wait for a worker, and what skills they ask for."""
    if not answer.your_tasks or answer.orchestration_id is None:
        return
    if sum((answer.counts or {}).values()) > SMALL_DAG:
        return
    dag = await orchestrator.load_dag(answer.orchestration_id)
    for task_id in answer.your_tasks:
        if task_id in dag.nodes:
            node = dag.nodes[task_id]
            needs = clip(f"(skills: {', '.join(node.skills)})", OFFER) if node.skills else ""
            answer.your_tasks[task_id] = f"{clip(node.description, OFFER)} {needs}".strip()


def approval_lines(view: ApprovalView, width: int = SENTENCE) -> list[str]:
    """Return what waits for somebody's yes, who may give it, and how.

    Args:
        view: The task.
        width: Characters of one line of what would run.
    """
    who = "you or a person may agree" if view.who == "caller" else "only a person may agree"
    shown = [line if len(line) <= width else line[: width - 1] + "…" for line in view.shown.splitlines()]
    if len(shown) <= 1:
        lines = [f"waits for a yes: {view.task_id} ({who}): {''.join(shown)}"]
    else:
        lines = [f"waits for a yes: {view.task_id} ({who}):", *(f"| {line}" for line in shown)]
    return [*lines, f"a person agrees with: {view.agree_with}"]


async def approval_views(
    orchestrator: AdvancedTaskOrchestrator,
    orchestration_id: str,
    *,
    limit: int = SHOWN_APPROVALS,
    width: int = KNOWN,
) -> list[ApprovalView]:
    """Return the first tasks that wait for somebody's yes.

    Args:
        orchestrator: Knows them.
        orchestration_id: Whose tasks they are.
        limit: How many.
        width: Characters of what each would run.
    """
    found = await orchestrator.load_approvals(orchestration_id)
    return [
        ApprovalView(
            task_id=each["task_id"],
            who=each["who"],
            shown=each["shown"] if len(each["shown"]) <= width else each["shown"][: width - 1] + "…",
            digest=(each["digest"] or "")[:DIGEST_SHOWN] or None,
            asked_at=each["asked_at"],
            agree_with=command(orchestrator, "approve", orchestration_id, each["task_id"]),
        )
        for each in found[:limit]
    ]


def command(orchestrator: AdvancedTaskOrchestrator, *words: str) -> str:
    """Return a command for a person to type, about what this server serves."""
    storage = orchestrator.storage
    where = ("--database", storage.location) if storage.is_durable else ()
    return shlex.join(["advanced-orchestration", *words, *where])


def output_lines(view: TaskView, orchestration_id: str, width: int = SENTENCE) -> list[str]:
    """Return a task's output in lines, with the place of the whole where something is missing.

    Lines of an output are marked: a task must not be able to forge what else the answer says.

    Args:
        view: The task.
        orchestration_id: Whose task it is.
        width: Characters of one line.
    """
    text = as_text(view.output)
    lines = text.splitlines() or [""]
    shown = [line if len(line) <= width else line[: width - 1] + "…" for line in lines]
    if len(shown) == 1:
        told = [f"output of {view.task_id}: {shown[0]}"]
    else:
        told = [f"output of {view.task_id}:", *(f"| {line}" for line in shown)]
    if view.output_uri or shown != lines:
        uri = view.output_uri or output_uri(orchestration_id, view.task_id)
        told.append(f"… the whole ({view.output_bytes or 0:,} bytes): {uri}")
    return told


def after_line(depends_on: Sequence[str] | None, more: int | None) -> str:
    """Return what a task depends on as the end of its line."""
    if not depends_on:
        return ""
    return f"← {', '.join(depends_on)}" + (f" and {more:,} more" if more else "")


def next_calls(status: Mapping[str, Any], approvals: Sequence[ApprovalView] = ()) -> list[Call]:
    """Return what makes sense after looking at an orchestration.

    Args:
        status: Where it stands.
        approvals: What waits for somebody's yes, as far as it was looked at.
    """
    name = status["orchestration_id"]
    state = OrchestrationStatus(status["state"])
    failed = next(iter(status["errors"]), None)
    look = [_status(name, task=failed)] if failed else []
    if not state.is_terminal:
        return _unfinished_calls(name, status, approvals)
    return [*look, Call(tool="get_metrics", arguments={"scope": "orchestration", "id": name})]


def _unfinished_calls(name: str, status: Mapping[str, Any], approvals: Sequence[ApprovalView]) -> list[Call]:
    """Return what makes sense while it has not ended; where somebody has to decide, both ways of it."""
    if question := next(iter(status["waiting_for_decision"]), None):
        return decision_calls(name, question)
    if asked := next(iter(status["waiting_for_answer"]), None):
        return answer_calls(name, asked)
    mine = next((view for view in approvals if view.who == "caller"), None)
    if mine is not None:
        return approval_calls(name, mine)
    if status["waiting_for_approval"] and not MOVING & status["counts"].keys():
        return [_status(name, view="approvals")]
    if status["missing_systems"]:
        return [_status(name, view="tasks")]
    if status["orphaned"] or status["state"] == OrchestrationStatus.PAUSED:
        return [_control(name, "resume"), _status(name, view="tasks")]
    wait = _status(name, wait_seconds=NEXT_WAIT_SECONDS)
    return [claim_call(name), wait] if status["waiting_for_worker"] else [wait]


def claim_call(name: str) -> Call:
    """Return the call that takes a task of an orchestration that is offered."""
    return Call(tool="claim_task", arguments={"worker": WORKER, "orchestration_id": name})


def decision_calls(name: str, task_id: str) -> list[Call]:
    """Return the two ways to decide about a task: which is right, only the caller can find out."""
    return [_control(name, "decide", tasks=[task_id], value=value) for value in ("done", "retry")]


def answer_calls(name: str, task_id: str) -> list[Call]:
    """Return what helps to say how to go on with a task: what happened to it, and the plainest answer."""
    return [
        _status(name, task=task_id, view="why"),
        _control(name, "decide", tasks=[task_id], value="retry"),
    ]


def approval_calls(name: str, view: ApprovalView) -> list[Call]:
    """Return the two answers to a task that the caller may agree to, bound to what was shown."""
    agreed = {"value": view.digest} if view.digest else {}
    return [
        _control(name, "approve", tasks=[view.task_id], **agreed),
        _control(name, "reject", tasks=[view.task_id]),
    ]


def _control(name: str, action: str, **arguments: Json) -> Call:
    return Call(
        tool="control_orchestration", arguments={"orchestration_id": name, "action": action, **arguments}
    )


def _status(name: str, **arguments: Json) -> Call:
    return Call(tool="get_orchestration_status", arguments={"orchestration_id": name, **arguments})


async def final_outputs(orchestrator: AdvancedTaskOrchestrator, status: Mapping[str, Any]) -> list[TaskView]:
    """Return the outputs of the tasks nothing depends on, of an orchestration that ended."""
    if not OrchestrationStatus(status["state"]).is_terminal or status["total_tasks"] > SMALL_DAG:
        return []
    name = status["orchestration_id"]
    dag = await orchestrator.load_dag(name)
    leaves = leaves_of(dag)
    rows = await orchestrator.load_tasks(name, task_ids=leaves, statuses=[TaskStatus.COMPLETED])
    return [await task_view(orchestrator, name, row, limit=OUTPUT_PREVIEW) for row in rows[:SHOWN_OUTPUTS]]


async def warnings_of(orchestrator: AdvancedTaskOrchestrator, status: Mapping[str, Any]) -> list[str]:
    """Return a sentence per system that tasks prefer and that is not configured: they were routed as `auto`."""
    if status["total_tasks"] > SMALL_DAG:
        return []
    systems = orchestrator.systems
    known = {AUTO, *systems.names}.union(*(served_names(systems.get(name)) for name in systems.names))
    lost: dict[str, list[str]] = {}
    dag = await orchestrator.load_dag(status["orchestration_id"])
    for node in dag.nodes.values():
        if node.system_preference not in known and node.system_preference.casefold() not in known:
            lost.setdefault(node.system_preference, []).append(node.task_id)
    return [
        clip(
            f"No system is called {name!r}, so {plural(len(task_ids), 'task')} went where auto would: "
            f"{', '.join(task_ids)}. There are: {', '.join(systems.names)}."
        )
        for name, task_ids in list(lost.items())[:SHOWN_ERRORS]
    ]


def leaves_of(dag: TaskDAG) -> list[str]:
    """Return the ids of the tasks nothing depends on, superseded ones left out."""
    inner = {edge.source_task_id for edge in dag.edges}
    return [
        task_id
        for task_id, node in dag.nodes.items()
        if task_id not in inner and node.status is not TaskStatus.SUPERSEDED
    ]


async def task_view(
    orchestrator: AdvancedTaskOrchestrator,
    orchestration_id: str,
    row: TaskRow,
    *,
    limit: int = 0,
    depends_on: Sequence[str] = (),
    parts: Parts | None = None,
) -> TaskView:
    """Return where a task stands, with up to `limit` characters of its output.

    Args:
        orchestrator: Knows the output.
        orchestration_id: Whose task it is.
        row: The task.
        limit: Characters of its output.
        depends_on: What it waits for.
        parts: Its parts.
    """
    is_told = row.error is not None and row.note == row.error.message
    view = TaskView(
        task_id=row.task_id,
        status=row.status.value,
        attempt=row.attempt or None,
        system=row.system if row.system != AUTO else None,
        duration_seconds=_rounded(row.duration_seconds) if row.attempt else None,
        error=clip(f"{row.error.code}: {row.error.message}") if row.error else None,
        note=clip(row.note) if row.note and not is_told else None,
        depends_on=list(depends_on[:SHOWN_DEPENDENCIES]) or None,
        more_depends_on=max(0, len(depends_on) - SHOWN_DEPENDENCIES) or None,
        parent=row.parent,
        parts=str(parts) if parts is not None and parts.total else None,
        output_bytes=row.output_bytes,
    )
    if limit and row.output_bytes is not None:
        try:
            output = await orchestrator.load_output(orchestration_id, row.task_id)
        except NotPossibleError:  # it was there a moment ago and is being run again
            return view
        view.output, is_whole = preview(output, limit)
        view.output_uri = None if is_whole else output_uri(orchestration_id, row.task_id)
    return view


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
