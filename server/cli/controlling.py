"""The commands that change what an orchestration does: `pause`, `cancel`, `retry`, `decide`.

May import: server.cli.*, server.control (late), orchestration (late), stdlib.

Whoever drives the orchestration carries them out. What only stops or decides opens no system, so it works where the
configuration of a system no longer does.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from server.cli.following import Found, follow_all, see_through
from server.cli.output import Output, clip, counts, plural
from server.cli.parser import INTERRUPTED, SUCCESS, Commands, json_value, readable
from server.cli.session import drive, hint, load

if TYPE_CHECKING:
    from orchestration.orchestrator import AdvancedTaskOrchestrator

_TASKS_NAMED = 20


def register(commands: Commands) -> None:
    """Add the commands."""
    parser = commands.add(
        "pause",
        pause,
        about="let running attempts finish and start nothing more",
        example='advanced-orchestration pause nightly-report-7 --reason "the warehouse is being moved"',
        details="Any process may drive it. `resume` makes it go on.",
    )
    _add_orchestration(parser)

    parser = commands.add(
        "cancel",
        cancel,
        about="end an orchestration: what waits at once, what runs as soon as it can be stopped",
        example='advanced-orchestration cancel nightly-report-7 --reason "wrong day"',
        details="Any process may drive it. What completed stays completed; `retry` reopens it.",
    )
    _add_orchestration(parser)

    parser = commands.add(
        "retry",
        retry,
        about="run failed and cancelled tasks again, and what never ran because of them",
        example="advanced-orchestration retry nightly-report-7\n"
        'advanced-orchestration retry nightly-report-7 --task load --reason "the disk was full"',
        details="Completed tasks stay. It is driven here and followed to its end, unless another process drives it.",
    )
    _add_orchestration(parser)
    parser.add_argument(
        "--task",
        action="append",
        default=[],
        type=readable,
        metavar="TASK",
        help="only this failed task, and what depends on it; may be given more than once",
    )

    parser = commands.add(
        "decide",
        decide,
        about="say what became of a task whose end nobody knows, or how to go on with one that asks",
        example="advanced-orchestration decide invoices-3 send done --output '{\"number\": 17}'\n"
        "advanced-orchestration decide invoices-3 send retry",
        details="For tasks with `idempotent: false` that `status` shows as unknown. retry: it did not happen, run it\n"
        "again under the same idempotency key. done: it happened. failed: it did not, and is not to be tried again.\n"
        "Also for tasks that ask how to go on: retry: as it is. done: somebody did it otherwise. failed: give it up.",
    )
    parser.add_argument("id", metavar="ID", help="the orchestration")
    parser.add_argument("task", metavar="TASK", type=readable, help="the task")
    parser.add_argument("decision", choices=("retry", "done", "failed"), help="what became of it")
    parser.add_argument(
        "--output",
        type=json_value,
        metavar="JSON",
        help="with done: what the task delivered; null when absent",
    )
    _add_reason(parser)


def pause(args: argparse.Namespace, output: Output) -> int:
    """Pause an orchestration."""

    async def work(orchestrator: AdvancedTaskOrchestrator) -> dict[str, Any]:
        await orchestrator.pause(args.id, args.reason)
        return await orchestrator.load_status(args.id)

    def told(status: dict[str, Any]) -> str:
        running = status["counts"].get("running", 0)
        may = f" {plural(running, 'task')} under way may finish." if running else ""
        return f"{args.id} is {status['state']}: {counts(status['counts'])}.{may}"

    return request(args, output, work, told)


def cancel(args: argparse.Namespace, output: Output) -> int:
    """Cancel an orchestration."""

    async def work(orchestrator: AdvancedTaskOrchestrator) -> dict[str, Any]:
        from server import control

        await control.cancel(orchestrator, args.id, args.reason)
        return await orchestrator.load_status(args.id)

    def told(status: dict[str, Any]) -> str:
        running = status["counts"].get("running", 0)
        ends = f" {plural(running, 'task')} being stopped." if running else ""
        return f"{args.id} is {status['state']}: {counts(status['counts'])}.{ends}"

    return request(args, output, work, told)


def decide(args: argparse.Namespace, output: Output) -> int:
    """Decide about a task nobody knows the end of."""

    async def work(orchestrator: AdvancedTaskOrchestrator) -> dict[str, Any]:
        await orchestrator.decide(args.id, args.task, args.decision, output=args.output, reason=args.reason)
        return await orchestrator.load_status(args.id)

    def told(status: dict[str, Any]) -> str:
        return f"{args.task} is decided: {args.decision}. {args.id} is {status['state']}: {counts(status['counts'])}."

    return request(args, output, work, told)


def retry(args: argparse.Namespace, output: Output) -> int:
    """Run failed tasks again and see the orchestration through, unless another process does."""
    settings = load(args, output, has_progress=not output.is_json)
    started: list[str] = []
    elsewhere: list[dict[str, Any]] = []

    async def work(orchestrator: AdvancedTaskOrchestrator) -> list[Found]:
        from server import control

        again = await orchestrator.retry(args.id, args.task, args.reason)
        started.append(args.id)
        if not control.is_driven_here(orchestrator, args.id):
            status = await orchestrator.load_status(args.id)
            elsewhere.append({**_document(args, status), "tasks": list(again)})
            return []
        if not output.is_json:
            output.note(f"{args.id}: runs again: {_named(again)}")
        return await follow_all(orchestrator, args, started, output)

    code = see_through(args, settings, work, started, output)
    for document in elsewhere:
        if output.is_json:
            output.document(document)
        else:
            driver = document["status"]["driven_by"] or "Another process"
            output.line(f"{args.id}: {driver} drives it and runs again: {_named(document['tasks'])}.")
            output.line(f"Next: {hint(args, 'status', args.id)}")
    return code


def request(
    args: argparse.Namespace,
    output: Output,
    work: Callable[[AdvancedTaskOrchestrator], Awaitable[dict[str, Any]]],
    told: Callable[[dict[str, Any]], str],
) -> int:
    """Have a request carried out, and tell what came of it.

    Args:
        args: The command line.
        output: Where to tell it.
        work: Makes the request and returns the status after it.
        told: Makes the sentence of that status.
    """
    settings = load(args, output, has_progress=not output.is_json)
    status = drive(settings, work, has_systems=False)
    look = hint(args, "status", args.id)
    if status is None:
        message = (
            f"Interrupted before there was an answer; the request may be stored. Where it stands: {look}"
        )
        if output.is_json:
            output.document({"error": {"code": "interrupted", "message": message}})
        else:
            output.note(message)
        return INTERRUPTED
    if output.is_json:
        output.document(_document(args, status))
        return SUCCESS
    output.line(told(status))
    goes_on = status["state"] == "paused" or status["orphaned"]
    output.line(f"Next: {hint(args, 'resume', args.id) if goes_on else look}")
    return SUCCESS


def _document(args: argparse.Namespace, status: dict[str, Any]) -> dict[str, Any]:
    return {"orchestration_id": args.id, "action": args.command, "status": status}


def _named(task_ids: Sequence[str]) -> str:
    more = len(task_ids) - _TASKS_NAMED
    return clip(", ".join(task_ids[:_TASKS_NAMED]), 500) + (f" and {more:,} more" if more > 0 else "")


def _add_orchestration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the orchestration")
    _add_reason(parser)


def _add_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for whoever looks later")
