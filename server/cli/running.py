"""The commands that drive orchestrations: `run` and `resume`.

May import: server.cli.*, orchestration (late), config (late), stdlib.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.following import Found, follow_all, see_through, tasks_with_verify, wait_for
from server.cli.output import Output, plural
from server.cli.parser import Commands, add_context, add_mode, text
from server.cli.questions import lines_about
from server.cli.session import hint, load

if TYPE_CHECKING:
    from orchestration.dag import TaskDAG
    from orchestration.models import OrchestrationMode
    from orchestration.orchestrator import AdvancedTaskOrchestrator
    from orchestration.planning.plan import Plan
    from server.cli.progress import Progress


def register(commands: Commands) -> None:
    """Add the commands."""
    parser = commands.add(
        "run",
        run,
        about="run a DAG file, a goal or a stored plan, and wait for the end",
        example="advanced-orchestration run examples/diamond.yaml\n"
        'advanced-orchestration run --goal "Report on the health of this Python codebase" --mode adaptive\n'
        "advanced-orchestration run nightly.yaml --reuse nightly-report-7",
        details="Ctrl-C stops it; what is done stays done, and `resume` goes on from there. A running server on the\n"
        "same database may go on with it by itself; `pause` or `cancel` stops it for good.",
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
    parser.add_argument(
        "--reuse",
        type=text("the id of an orchestration"),
        metavar="ID",
        help="take over the results of this earlier one where nothing has changed, upstream tasks included",
    )

    parser.add_argument(
        "--ask",
        action="store_true",
        help="with --mode adaptive: a task that failed and has no alternative waits for an answer instead of failing",
    )

    parser = commands.add(
        "resume",
        resume,
        about="go on with orchestrations that were interrupted or paused",
        example="advanced-orchestration resume nightly-report-7\nadvanced-orchestration resume --all",
        details="No completed task runs again. What another process drives and a person paused goes on there and is\n"
        "followed from here. --all takes over what no living process drives and leaves alone what a person paused.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?", help="the orchestration")
    which.add_argument("--all", action="store_true", help="everything that was left unfinished")


def run(args: argparse.Namespace, output: Output) -> int:
    """Start an orchestration and see it through."""
    from orchestration.dag import TaskDAG
    from orchestration.models import OrchestrationMode, TaskStatus
    from server.cli.progress import Progress

    settings = load(args, output, has_progress=not output.is_json)
    mode = None if args.mode is None else OrchestrationMode(args.mode)
    dag = None
    if args.dag is not None:
        from orchestration.dag_file import load_dag

        dag = load_dag(args.dag, settings.options.limits)
    started: list[str] = []

    async def work(orchestrator: AdvancedTaskOrchestrator) -> list[Found]:
        is_early = args.goal is not None and args.reuse is None and orchestrator.starts_early
        plan = None if is_early else dag or await _plan(orchestrator, args, mode, output)
        graph = (
            TaskDAG("") if plan is None else dag_of(plan)
        )  # of a plan in the making the tasks are yet to come
        tasks = graph.nodes
        progress = Progress(
            output,
            dict.fromkeys(tasks, TaskStatus.PENDING),
            composites=graph.composites(),
            questions=partial(lines_about, args),
        )
        progress.verified = tasks_with_verify(tasks)
        how: dict[str, Any] = {
            "mode": mode,
            "context": args.context,
            "key": args.key,
            "on_event": progress.take,
            "ask_caller": args.ask,
        }
        with _shown(progress, output):
            if plan is None:
                orchestration_id = await orchestrator.submit_goal(args.goal, **how)
            else:
                orchestration_id = await orchestrator.submit(plan, reuse=args.reuse, **how)
            started.append(orchestration_id)
            if not output.is_json:
                told = "its plan is being made" if plan is None else plural(len(tasks), "task")
                output.note(f"{orchestration_id}: {told}")
            if args.reuse is not None:
                await _tell_reused(orchestrator, orchestration_id, len(tasks), progress)
            return [await wait_for(orchestrator, orchestration_id)]

    return see_through(args, settings, work, started, output)


def resume(args: argparse.Namespace, output: Output) -> int:
    """Go on with one orchestration, or with all that were left unfinished."""

    settings = load(args, output, has_progress=not output.is_json)
    started: list[str] = []

    async def work(orchestrator: AdvancedTaskOrchestrator) -> list[Found]:
        if args.all:
            started.extend(await orchestrator.resume_all())
            await _mention_left(orchestrator, args, output)
        else:
            await orchestrator.resume(args.id)
            started.append(args.id)
        return await follow_all(orchestrator, args, started, output)

    return see_through(args, settings, work, started, output)


async def _tell_reused(
    orchestrator: AdvancedTaskOrchestrator, orchestration_id: str, total: int, progress: Progress
) -> None:
    """Tell which tasks were complete from the start: that stands in the journal before anything is driven."""
    from orchestration.engine.events import ResultReused

    for recorded in await orchestrator.load_events(orchestration_id, limit=total + 1):
        if isinstance(recorded.event, ResultReused) and recorded.event.because == "reuse":
            progress.take(recorded)


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


async def _mention_left(
    orchestrator: AdvancedTaskOrchestrator, args: argparse.Namespace, output: Output
) -> None:
    """Say which orchestrations nobody drives even now, and how to find out why."""
    for status in await orchestrator.list_orchestrations(
        states=["planning", "running", "cancelling"], limit=10_000
    ):
        if status["orphaned"]:
            orchestration_id = status["orchestration_id"]
            why = hint(args, "resume", orchestration_id)
            output.note(f"{orchestration_id}: could not be taken over; `{why}` says why")
