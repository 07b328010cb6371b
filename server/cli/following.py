"""Sees orchestrations through for a command: waits, tells the progress, and says how they ended or how to go on.

May import: server.cli.*, orchestration (late), config (late), stdlib.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from server.cli.output import Output, clip, counts, percent, seconds
from server.cli.parser import FAILED, INTERRUPTED, SUCCESS
from server.cli.questions import lines_about, waiting_lines
from server.cli.session import drive, hint

if TYPE_CHECKING:
    from config.settings import Settings
    from orchestration.errors import LeaseError
    from orchestration.models import TaskNode
    from orchestration.orchestrator import AdvancedTaskOrchestrator

_FAILURES_SHOWN = 20
_OUTPUT_BYTES_SHOWN = 64 * 1024
"""Outputs over this are left out of the JSON document of a run; `output ID TASK` gives them."""

_LOOK_SECONDS = 5.0
"""Longest wait for news of an orchestration that is followed through its journal."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What is known of an orchestration once waiting for it is over."""

    result: dict[str, Any]
    status: dict[str, Any]
    output_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Lost:
    """Another process took an orchestration over while this one was silent."""

    orchestration_id: str
    cause: LeaseError


@dataclass(frozen=True, slots=True)
class Interruption:
    """Waiting ended before what was waited for."""

    cause: BaseException | None = None
    """Why; None for a signal."""


Found: TypeAlias = Ended | Lost


def see_through(
    args: argparse.Namespace,
    settings: Settings,
    work: Callable[[AdvancedTaskOrchestrator], Awaitable[list[Found]]],
    started: Sequence[str],
    output: Output,
) -> int:
    """Do the work, tell how it ended or how to go on with it, and return the exit code.

    A signal, a full disk or a database that is gone ends this process's part, not the orchestration: that is told, and
    can be resumed.

    Args:
        args: The command line.
        settings: The settings.
        work: Starts or takes over orchestrations and waits for them.
        started: The ids of those that `work` began with.
        output: Where to tell it.
    """
    from orchestration.errors import OrchestrationInterruptedError, StorageError
    from server.cli.failures import meant

    try:
        found = drive(settings, work)
    except Exception as error:
        cause = meant(error)
        if not started or not isinstance(cause, StorageError | OrchestrationInterruptedError):
            raise
        output.note(f"error: {cause}")
        return _interrupted(args, started, output, Interruption(cause))
    if found is None:
        return _interrupted(args, started, output, Interruption())
    return _tell(args, found, output)


# --- Waiting ------------------------------------------------------------------------------------------------------


async def follow_all(
    orchestrator: AdvancedTaskOrchestrator,
    args: argparse.Namespace,
    orchestration_ids: Sequence[str],
    output: Output,
) -> list[Found]:
    """Wait for several orchestrations at once, telling their progress; return how they ended, in the same order."""
    import anyio

    found: dict[str, Found] = {}

    async def follow(orchestration_id: str) -> None:
        async with anyio.create_task_group() as telling:
            if not output.is_json:
                telling.start_soon(_tell_progress, orchestrator, args, orchestration_id, output)
            found[orchestration_id] = await wait_for(orchestrator, orchestration_id)
            if isinstance(found[orchestration_id], Lost):
                telling.cancel_scope.cancel()

    async with anyio.create_task_group() as following:
        for orchestration_id in orchestration_ids:
            following.start_soon(follow, orchestration_id)
    return [found[orchestration_id] for orchestration_id in orchestration_ids]


async def wait_for(orchestrator: AdvancedTaskOrchestrator, orchestration_id: str) -> Found:
    """Wait until an orchestration has ended, or another process has taken it over."""
    from orchestration.errors import LeaseError

    try:
        result = await orchestrator.wait(orchestration_id)
    except LeaseError as error:
        return Lost(orchestration_id, error)
    status = await orchestrator.load_status(orchestration_id)
    sizes: dict[str, int] = {}
    after = -1
    while rows := await orchestrator.load_tasks(orchestration_id, after_position=after, limit=10_000):
        sizes.update((row.task_id, row.output_bytes) for row in rows if row.output_bytes is not None)
        after = rows[-1].position
    return Ended(result, status, sizes)


async def _tell_progress(
    orchestrator: AdvancedTaskOrchestrator, args: argparse.Namespace, orchestration_id: str, output: Output
) -> None:
    """Tell the progress of an orchestration that was submitted earlier, from its journal, until it ends."""
    from orchestration.engine.events import AttemptLeftOpen
    from orchestration.models import OrchestrationStatus
    from server.cli.progress import FOR_WORKERS, Progress

    verified: frozenset[str] | None = None
    status = await orchestrator.load_status(orchestration_id)
    rows = await orchestrator.load_tasks(orchestration_id, limit=1_000_000)
    progress = Progress(
        output,
        {row.task_id: row.status for row in rows},
        composites=[row.task_id for row in rows if row.is_composite],
        name=orchestration_id,
        questions=partial(lines_about, args),
    )
    seq = status["last_seq"]
    is_paused = ", paused" if status["state"] == OrchestrationStatus.PAUSED else ""
    output.note(f"{orchestration_id}: goes on with {counts(status['counts'])}{is_paused}")
    for line in waiting_lines(args, status):
        output.note(line)
    for task_id in status["waiting_for_worker"]:
        output.note(f"{task_id} {FOR_WORKERS}")
    while not OrchestrationStatus(status["state"]).is_terminal:
        await orchestrator.wait_for_change(orchestration_id, after_seq=seq, timeout_seconds=_LOOK_SECONDS)
        for recorded in await orchestrator.load_events(orchestration_id, after_seq=seq, limit=10_000):
            if isinstance(recorded.event, AttemptLeftOpen) and verified is None:
                # Read only where it matters: a large DAG takes its time.
                verified = tasks_with_verify((await orchestrator.load_dag(orchestration_id)).nodes)
                progress.verified = verified
            progress.take(recorded)
            seq = recorded.seq
        status = await orchestrator.load_status(orchestration_id)


def tasks_with_verify(tasks: Mapping[str, TaskNode]) -> frozenset[str]:
    """Return the tasks that say by themselves whether they happened, where that can be known."""
    return frozenset(task_id for task_id, node in tasks.items() if node.verify is not None)


# --- Telling ------------------------------------------------------------------------------------------------------


def _tell(args: argparse.Namespace, found: Sequence[Found], output: Output) -> int:
    """Write how orchestrations ended and return the exit code."""
    is_list = getattr(args, "all", False)
    if output.is_json and (found or is_list):
        documents = [
            _lost_as_json(args, each) if isinstance(each, Lost) else result_as_json(args, each)
            for each in found
        ]
        output.document({"orchestrations": documents} if is_list else documents[0])
    elif is_list and not found:
        output.line("Nothing was left unfinished.")
    for each in () if output.is_json else found:
        if isinstance(each, Lost):
            output.note(f"error: {each.cause}")
            output.line(f"{_gone_on(each)} Where it stands: {_look(args, each)}")
        else:
            _summarize(args, each, output)
    states = {each.status["state"] for each in found if isinstance(each, Ended)}
    if states & {"failed", "cancelled"}:
        return FAILED
    has_lost = any(isinstance(each, Lost) for each in found)
    return SUCCESS if states <= {"completed"} and not has_lost else INTERRUPTED


def _gone_on(lost: Lost) -> str:
    return f"Another process goes on with {lost.orchestration_id}; the attempts that ran here were ended."


def _look(args: argparse.Namespace, lost: Lost) -> str:
    return hint(args, "status", lost.orchestration_id)


def _lost_as_json(args: argparse.Namespace, lost: Lost) -> dict[str, Any]:
    from server.cli.failures import document

    return {
        "error": document(lost.cause),
        "orchestration_id": lost.orchestration_id,
        "message": _gone_on(lost),
        "look_with": _look(args, lost),
    }


def result_as_json(args: argparse.Namespace, ended: Ended) -> dict[str, Any]:
    """Return a result as one JSON document; outputs that are too large for it are named with the way to read
    them.
    """
    from orchestration.dag_file import dag_to_document

    orchestration_id = ended.result["orchestration_id"]
    results: Mapping[str, Any] = ended.result["results"]
    large = {task_id: size for task_id, size in ended.output_bytes.items() if size > _OUTPUT_BYTES_SHOWN}
    document = {
        **ended.result,
        "counts": ended.status["counts"],
        "reason": ended.status["reason"],
        "dag": dag_to_document(ended.result["dag"]),
        "results": {task_id: results[task_id] for task_id in results if task_id not in large},
    }
    if large:
        document["large_results"] = {
            task_id: {"bytes": size, "read_with": hint(args, "output", orchestration_id, task_id)}
            for task_id, size in large.items()
        }
    return document


def _summarize(args: argparse.Namespace, ended: Ended, output: Output) -> None:
    """Write what a person wants to know at the end: how it went, what failed and why, what to type next."""
    result, status = ended.result, ended.status
    orchestration_id = result["orchestration_id"]
    measured = result["performance_metrics"]
    output.line(
        f"{orchestration_id} {status['state']}: {counts(status['counts'])} "
        f"in {seconds(measured['makespan_seconds'])}, parallel efficiency {percent(measured['parallel_efficiency'])}."
    )
    if status["reason"]:
        output.line(f"  because: {clip(status['reason'], 300)}")
    errors = list(result["errors"].items())
    for task_id, error in errors[:_FAILURES_SHOWN]:
        attempt = f", attempt {error['attempt']}" if error["attempt"] else ""
        where = f" on {error['system']}" if error["system"] else ""
        output.line(f"  {task_id} failed ({error['code']}{attempt}{where}): {clip(error['message'], 300)}")
    if len(errors) > _FAILURES_SHOWN:
        output.line(f"  … and {len(errors) - _FAILURES_SHOWN:,} more")
    for warning in result["warnings"][:_FAILURES_SHOWN]:
        output.line(f"  warning: {clip(warning, 300)}")
    if status["state"] != "completed":
        output.line(f"To run again what did not complete: {hint(args, 'retry', orchestration_id)}")
    leaves = set(result["results"]) - {edge.source_task_id for edge in result["dag"].edges}
    last = next((task_id for task_id in reversed(result["dag"].nodes) if task_id in leaves), None)
    if last is not None:
        output.line(f"Next: {hint(args, 'output', orchestration_id, last)}")
    else:
        output.line(f"Next: {hint(args, 'status', orchestration_id, '--tasks')}")


def _interrupted(
    args: argparse.Namespace, started: Sequence[str], output: Output, interruption: Interruption
) -> int:
    """Say how to go on, and return the exit code."""
    if not started:
        nothing = "Interrupted before anything was started."
        if getattr(args, "id", None):
            nothing = (
                f"Interrupted before {args.id} went on. Where it stands: {hint(args, 'status', args.id)}"
            )
        if output.is_json:
            output.document({"error": {"code": "interrupted", "message": nothing}})
        else:
            output.note(nothing)
        return INTERRUPTED
    command = hint(args, "resume", *(("--all",) if len(started) > 1 else (started[0],)))
    stops = " or ".join(hint(args, verb, started[0]) for verb in ("pause", "cancel"))
    which = "it" if len(started) == 1 else "each of them"
    goes_on = f"A running server (`serve`) on the same database may go on with {which}; to stop it for good: {stops}"
    if output.is_json:
        message = f"Interrupted; what is done stays done. Fix: `{command}` goes on. {goes_on}."
        error: dict[str, Any] = {"code": "interrupted", "message": message}
        if interruption.cause is not None:
            from server.cli.failures import document

            error["cause"] = document(interruption.cause)
        output.document({"error": error, "orchestration_ids": list(started), "resume_with": command})
    else:
        output.line(f"Interrupted; what is done stays done. To go on: {command}")
        output.line(goes_on)
    return INTERRUPTED
