"""The commands that drive orchestrations: `run` and `resume`.

May import: server.cli.*, orchestration (late), config (late), stdlib.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.output import Output, clip, counts, percent, plural, seconds
from server.cli.parser import FAILED, INTERRUPTED, SUCCESS, Commands, add_context, add_mode, text
from server.cli.session import drive, hint, load

if TYPE_CHECKING:
    from config.settings import Settings
    from orchestration.dag import TaskDAG
    from orchestration.models import OrchestrationMode
    from orchestration.orchestrator import AdvancedTaskOrchestrator
    from orchestration.planning.plan import Plan
    from server.cli.progress import Progress

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
class Interruption:
    """Waiting ended before what was waited for."""

    cause: BaseException | None = None
    """Why; None for a signal."""


def register(commands: Commands) -> None:
    """Add the commands."""
    parser = commands.add(
        "run",
        run,
        about="run a DAG file, a goal or a stored plan, and wait for the end",
        example="advanced-orchestration run examples/diamond.yaml\n"
        'advanced-orchestration run --goal "Report on the health of this Python codebase" --mode adaptive',
        details="Ctrl-C stops it; what is done stays done, and `resume` goes on from there.",
    )
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("dag", metavar="DAG.yaml", type=Path, nargs="?", help="the DAG, as YAML or JSON")
    work.add_argument(
        "--goal", type=text("what is to be achieved"), metavar="TEXT", help="plan this and run it"
    )
    work.add_argument(
        "--plan", type=text("the id of a plan"), metavar="ID", help="run a plan that `decompose` stored"
    )
    add_mode(parser)
    add_context(parser)
    parser.add_argument(
        "--key",
        type=text("a key of your own"),
        metavar="KEY",
        help="the same key starts the same work only once",
    )

    parser = commands.add(
        "resume",
        resume,
        about="go on with orchestrations that were interrupted or paused",
        example="advanced-orchestration resume nightly-report-7\nadvanced-orchestration resume --all",
        details="No completed task runs again. --all takes over what no living process drives and leaves alone what a\n"
        "person paused.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?", help="the orchestration")
    which.add_argument("--all", action="store_true", help="everything that was left unfinished")


def run(args: argparse.Namespace, output: Output) -> int:
    """Start an orchestration and see it through."""
    from orchestration.models import OrchestrationMode, TaskStatus
    from server.cli.progress import Progress

    settings = load(args, output, has_progress=not output.is_json)
    mode = None if args.mode is None else OrchestrationMode(args.mode)
    dag = None
    if args.dag is not None:
        from orchestration.dag_file import load_dag

        dag = load_dag(args.dag, settings.options.limits)
    started: list[str] = []

    async def work(orchestrator: AdvancedTaskOrchestrator) -> list[Ended]:
        plan = dag or await _plan(orchestrator, args, mode, output)
        tasks = dag_of(plan).nodes
        progress = Progress(output, dict.fromkeys(tasks, TaskStatus.PENDING))
        with _shown(progress, output):
            orchestration_id = await orchestrator.submit(
                plan, mode=mode, context=args.context, key=args.key, on_event=progress.take
            )
            started.append(orchestration_id)
            if not output.is_json:
                output.note(f"{orchestration_id}: {plural(len(tasks), 'task')}")
            return [await _wait(orchestrator, orchestration_id)]

    ended = _drive(settings, work, started, output)
    if isinstance(ended, Interruption):
        return _interrupted(args, started, output, ended)
    return _tell(args, ended, output)


def resume(args: argparse.Namespace, output: Output) -> int:
    """Go on with one orchestration, or with all that were left unfinished."""

    settings = load(args, output, has_progress=not output.is_json)
    started: list[str] = []

    async def work(orchestrator: AdvancedTaskOrchestrator) -> list[Ended]:
        if args.all:
            started.extend(await orchestrator.resume_all())
            await _mention_left(orchestrator, args, output)
        else:
            await orchestrator.resume(args.id)
            started.append(args.id)
        return await _follow_all(orchestrator, started, output)

    ended = _drive(settings, work, started, output)
    if isinstance(ended, Interruption):
        return _interrupted(args, started, output, ended)
    if not ended and not output.is_json:
        output.line("Nothing was left unfinished.")
        return SUCCESS
    return _tell(args, ended, output)


def _drive(
    settings: Settings,
    work: Callable[[AdvancedTaskOrchestrator], Awaitable[list[Ended]]],
    started: Sequence[str],
    output: Output,
) -> list[Ended] | Interruption:
    """Do the work, unless it is interrupted by a signal or because its state could no longer be stored.

    A full disk or a lost lease ends this process's part, not the orchestration: it is told, and can be resumed.
    """
    from orchestration.errors import LeaseError, OrchestrationInterruptedError, StorageError
    from server.cli.failures import meant

    try:
        ended = drive(settings, work)
    except Exception as error:
        cause = meant(error)
        if not started or not isinstance(cause, StorageError | LeaseError | OrchestrationInterruptedError):
            raise
        output.note(f"error: {cause}")
        return Interruption(cause)
    return Interruption() if ended is None else ended


def dag_of(work: TaskDAG | Plan) -> TaskDAG:
    """Return the DAG of a plan; a DAG is its own."""
    from orchestration.dag import TaskDAG

    return work if isinstance(work, TaskDAG) else work.dag


async def _plan(
    orchestrator: AdvancedTaskOrchestrator,
    args: argparse.Namespace,
    mode: OrchestrationMode | None,
    output: Output,
) -> Plan:
    """Return the stored plan that was named, or one made for the goal."""
    if args.plan is not None:
        from orchestration.plan_store import load_plan

        return await load_plan(orchestrator.storage, args.plan)
    if not output.is_json:
        output.note("planning …")
    plan = await orchestrator.decompose(args.goal, context=args.context, mode=mode)
    if not output.is_json:
        output.note(f"plan {plan.plan_id} by {plan.planner}")
        for note in plan.notes:
            output.note(f"note: {note}")
    return plan


@contextmanager
def _shown(progress: Progress, output: Output) -> Iterator[None]:
    """Show progress to people; a program that wants JSON is told the result alone."""
    if output.is_json:
        progress.is_muted = True
        yield
        return
    with progress.shown():
        yield


async def _follow_all(
    orchestrator: AdvancedTaskOrchestrator, orchestration_ids: Sequence[str], output: Output
) -> list[Ended]:
    """Wait for several orchestrations at once and return how they ended, in the same order."""
    import anyio

    ended: dict[str, Ended] = {}

    async def wait(orchestration_id: str) -> None:
        ended[orchestration_id] = await _wait(orchestrator, orchestration_id)

    async with anyio.create_task_group() as waiting, anyio.create_task_group() as telling:
        for orchestration_id in orchestration_ids:
            if not output.is_json:
                telling.start_soon(_follow, orchestrator, orchestration_id, output)
            waiting.start_soon(wait, orchestration_id)
    return [ended[orchestration_id] for orchestration_id in orchestration_ids]


async def _follow(orchestrator: AdvancedTaskOrchestrator, orchestration_id: str, output: Output) -> None:
    """Tell the progress of an orchestration that was submitted earlier, from its journal, until it ends."""
    from orchestration.models import OrchestrationStatus
    from server.cli.progress import Progress

    status = await orchestrator.load_status(orchestration_id)
    rows = await orchestrator.load_tasks(orchestration_id, limit=1_000_000)
    progress = Progress(output, {row.task_id: row.status for row in rows}, name=orchestration_id)
    seq = status["last_seq"]
    output.note(f"{orchestration_id}: goes on with {counts(status['counts'])}")
    while not OrchestrationStatus(status["state"]).is_terminal:
        await orchestrator.wait_for_change(orchestration_id, after_seq=seq, timeout_seconds=_LOOK_SECONDS)
        for recorded in await orchestrator.load_events(orchestration_id, after_seq=seq, limit=10_000):
            progress.take(recorded)
            seq = recorded.seq
        status = await orchestrator.load_status(orchestration_id)


async def _wait(orchestrator: AdvancedTaskOrchestrator, orchestration_id: str) -> Ended:
    result = await orchestrator.wait(orchestration_id)
    status = await orchestrator.load_status(orchestration_id)
    sizes: dict[str, int] = {}
    after = -1
    while rows := await orchestrator.load_tasks(orchestration_id, after_position=after, limit=10_000):
        sizes.update((row.task_id, row.output_bytes) for row in rows if row.output_bytes is not None)
        after = rows[-1].position
    return Ended(result, status, sizes)


async def _mention_left(
    orchestrator: AdvancedTaskOrchestrator, args: argparse.Namespace, output: Output
) -> None:
    """Say which orchestrations nobody drives even now, and how to find out why."""
    for status in await orchestrator.list_orchestrations(states=["running", "cancelling"], limit=10_000):
        if status["orphaned"]:
            orchestration_id = status["orchestration_id"]
            why = hint(args, "resume", orchestration_id)
            output.note(f"{orchestration_id}: could not be taken over; `{why}` says why")


def _tell(args: argparse.Namespace, ended: Sequence[Ended], output: Output) -> int:
    """Write how orchestrations ended and return the exit code."""
    if output.is_json:
        documents = [result_as_json(args, each) for each in ended]
        output.document({"orchestrations": documents} if getattr(args, "all", False) else documents[0])
    else:
        for each in ended:
            _summarize(args, each, output)
    states = {each.status["state"] for each in ended}
    if states & {"failed", "cancelled"}:
        return FAILED
    return SUCCESS if states <= {"completed"} else INTERRUPTED


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
    errors = list(result["errors"].items())
    for task_id, error in errors[:_FAILURES_SHOWN]:
        attempt = f", attempt {error['attempt']}" if error["attempt"] else ""
        where = f" on {error['system']}" if error["system"] else ""
        output.line(f"  {task_id} failed ({error['code']}{attempt}{where}): {clip(error['message'], 300)}")
    if len(errors) > _FAILURES_SHOWN:
        output.line(f"  … and {len(errors) - _FAILURES_SHOWN:,} more")
    for warning in result["warnings"][:_FAILURES_SHOWN]:
        output.line(f"  warning: {clip(warning, 300)}")
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
        if output.is_json:
            output.document({"error": {"code": "interrupted", "message": nothing}})
        else:
            output.note(nothing)
        return INTERRUPTED
    which = ("--all",) if len(started) > 1 else (started[0],)
    command = hint(args, "resume", *which)
    if output.is_json:
        message = f"Interrupted; what is done stays done. Fix: `{command}` goes on."
        error: dict[str, Any] = {"code": "interrupted", "message": message}
        if interruption.cause is not None:
            from server.cli.failures import document

            error["cause"] = document(interruption.cause)
        output.document({"error": error, "orchestration_ids": list(started), "resume_with": command})
    else:
        output.line(f"Interrupted; what is done stays done. To go on: {command}")
    return INTERRUPTED
