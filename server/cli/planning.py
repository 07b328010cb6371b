"""The commands before anything runs: `decompose`, `validate`, `simulate`.

May import: server.cli.*, orchestration (late), config (late), server.composition (late), stdlib. `validate` opens no
database and imports neither the MCP SDK nor, for a DAG without conditions, the CEL library; `simulate` only reads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.output import Output, clip, percent, plural, seconds
from server.cli.parser import SUCCESS, Commands, add_context, add_mode, text, whole_number
from server.cli.session import ask, drive, hint, load

if TYPE_CHECKING:
    from config.settings import Settings
    from orchestration.dag import TaskDAG
    from orchestration.errors import Problem
    from orchestration.orchestrator import AdvancedTaskOrchestrator
    from orchestration.planning.plan import Plan
    from orchestration.reader import OrchestrationReader

_SCHEDULE_SHOWN = 30
"""Lines of a schedule that are shown to people; JSON has it all."""


def register(commands: Commands) -> None:
    """Add the commands."""
    parser = commands.add(
        "decompose",
        decompose,
        about="make a plan for a goal, without running it",
        example='advanced-orchestration decompose "Report on the health of this Python codebase" -o plan.yaml',
        details="A playbook that fits the goal makes the plan; without one it has a task per sentence or list item.",
    )
    parser.add_argument(
        "goal", metavar="GOAL", type=text("what is to be achieved"), help="what is to be achieved"
    )
    add_context(parser)
    add_mode(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the DAG there (.yaml, .yml or .json)"
    )

    parser = commands.add(
        "validate",
        validate,
        about="check a DAG file and list every mistake",
        example="advanced-orchestration validate examples/diamond.yaml",
    )
    _add_dag(parser)

    parser = commands.add(
        "simulate",
        simulate,
        about="say what running a DAG would take, where each task would go, and who must agree",
        example="advanced-orchestration simulate examples/diamond.yaml --workers 8",
        details="The real engine decides under virtual time; every task succeeds at once and takes its estimated\n"
        "time. Nothing runs and nothing is stored; the configured systems are asked what they can run.",
    )
    _add_dag(parser)
    parser.add_argument(
        "--workers",
        type=whole_number(1, 100_000),
        metavar="N",
        help="attempts at once; the configured limit when absent",
    )
    add_mode(parser)
    parser.add_argument(
        "--durations",
        type=Path,
        metavar="FILE",
        help="JSON object: true seconds per task id; estimates only guide then",
    )
    parser.add_argument(
        "--items",
        type=whole_number(1, 100_000),
        default=1,
        metavar="N",
        help="items of each `foreach` whose list is known only during the run; 1 is the default",
    )
    parser.add_argument("--no-systems", action="store_true", help="don't ask the systems what they can run")


def decompose(args: argparse.Namespace, output: Output) -> int:
    """Make a plan, store it and show it with what nothing here could run of it."""
    settings = load(args, output, has_progress=not output.is_json)
    mode = _mode(args)
    if args.output is not None:
        _suffix(args.output)

    async def work(orchestrator: AdvancedTaskOrchestrator) -> tuple[Plan, Sequence[Problem]]:
        plan = await orchestrator.decompose(args.goal, context=args.context, mode=mode)
        return plan, await orchestrator.find_unroutable(plan.dag)

    made = drive(settings, work)
    if made is None:
        raise KeyboardInterrupt
    plan, problems = made
    if args.output is not None:
        write_dag(args.output, plan.dag)
    if output.is_json:
        output.document(_plan_document(plan, problems, settings))
    else:
        _show_plan(plan, problems, settings, args, output)
    return SUCCESS


def validate(args: argparse.Namespace, output: Output) -> int:
    """Check a DAG file."""
    from orchestration.dag_file import load_dag

    settings = load(args, output)
    dag = load_dag(args.dag, settings.options.limits)
    path = dag.critical_path()
    warnings = list(unknown_systems(dag, settings))
    if output.is_json:
        output.document(
            {
                "valid": True,
                "dag_id": dag.dag_id,
                "total_tasks": len(dag.nodes),
                "total_edges": len(dag.edges),
                "width": dag.width(),
                "critical_path": list(path.task_ids),
                "critical_path_seconds": path.seconds,
                "warnings": warnings,
            }
        )
        return SUCCESS
    shape = (
        f"{plural(len(dag.nodes), 'task')}, {plural(len(dag.edges), 'edge')}, at most {dag.width()} at once"
    )
    output.line(f"{args.dag}: DAG {dag.dag_id!r} is valid: {shape}.")
    for warning in warnings:
        output.line(f"warning: {warning}")
    output.line(f"Next: {hint(args, 'run', str(args.dag))}")
    return SUCCESS


def simulate(args: argparse.Namespace, output: Output) -> int:
    """Run a DAG under virtual time, and say where its tasks would go."""
    from orchestration.dag_file import load_dag

    settings = load(args, output)
    dag = load_dag(args.dag, settings.options.limits)
    durations = None if args.durations is None else _read_durations(args.durations)
    found = ask(settings, lambda reader: _preview(reader, args, settings, dag, durations))
    if output.is_json:
        output.document(found)
    else:
        _show_simulation(found, output)
    return SUCCESS


async def _preview(
    reader: OrchestrationReader,
    args: argparse.Namespace,
    settings: Settings,
    dag: TaskDAG,
    durations: Mapping[str, float] | None,
) -> dict[str, Any]:
    from orchestration.preview import preview_dag
    from orchestration.systems.registry import SystemRegistry
    from server.composition import make_systems

    systems = None
    if settings.systems and not args.no_systems:
        with redirect_stdout(sys.stderr):  # what an import prints is no part of the answer
            systems = SystemRegistry(make_systems(settings), secrets=settings.secrets)
    return await preview_dag(
        dag,
        options=settings.options,
        systems=systems,
        storage=reader.storage,
        mode=_mode(args),
        workers=args.workers,
        durations=durations,
        assumed_items=args.items,
    )


def write_dag(path: Path, dag: TaskDAG) -> None:
    """Write a DAG as YAML, or as JSON where the name ends so.

    Raises:
        InvalidArgumentError: The file can't be written, or its name has another ending.
    """
    import json

    from orchestration.dag_file import dag_to_document, dump_yaml
    from orchestration.errors import InvalidArgumentError

    if _suffix(path) == ".json":
        content = json.dumps(dag_to_document(dag), ensure_ascii=False, indent=2) + "\n"
    else:
        content = dump_yaml(dag)
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        expected = f"a file that can be written ({error.strerror or error})"
        raise InvalidArgumentError("--output", str(path), expected, "choose another path.") from error


def unknown_systems(dag: TaskDAG, settings: Settings) -> list[str]:
    """Return a line for each system that tasks prefer and the configuration does not have."""
    import difflib

    from orchestration.models import AGENT, AUTO

    wanted: dict[str, list[str]] = {}
    known = {AUTO, AGENT, *settings.systems}  # the calling agent needs no configuration
    for task in dag.nodes.values():
        if task.system_preference not in known:
            wanted.setdefault(task.system_preference, []).append(task.task_id)
    lines = []
    for name, task_ids in wanted.items():
        near = difflib.get_close_matches(name, settings.systems, 1)
        meant = (
            f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(settings.systems) or 'none'}."
        )
        whose = task_ids[0] if len(task_ids) == 1 else f"{task_ids[0]} and {len(task_ids) - 1} more"
        lines.append(
            f"no system {name!r} is configured, which {whose} would prefer; any that fits is taken.{meant}"
        )
    return lines


def _mode(args: argparse.Namespace) -> Any:
    from orchestration.models import OrchestrationMode

    return None if args.mode is None else OrchestrationMode(args.mode)


def _add_dag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dag", metavar="DAG.yaml", type=Path, help="the DAG, as YAML or JSON")


def _suffix(path: Path) -> str:
    from orchestration.errors import InvalidArgumentError

    suffix = path.suffix.lower()
    if suffix not in {".yaml", ".yml", ".json"}:
        raise InvalidArgumentError("--output", str(path), "a name that ends with .yaml, .yml or .json")
    return suffix


def _read_durations(path: Path) -> dict[str, float]:
    import json

    from orchestration.errors import InvalidArgumentError

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        expected = f"a file that can be read ({error.strerror or error})"
        raise InvalidArgumentError("--durations", str(path), expected, "check the path.") from error
    except ValueError as error:
        raise InvalidArgumentError("--durations", str(path), f"JSON ({error})") from error
    if not isinstance(found, dict):
        raise InvalidArgumentError("--durations", str(path), 'a JSON object like {"extract": 12.5}')
    return found


def _plan_document(plan: Plan, problems: Sequence[Problem], settings: Settings) -> dict[str, Any]:
    from dataclasses import asdict

    from orchestration.dag_file import dag_to_document
    from orchestration.execution.simulator import estimate
    from orchestration.reports import thought_document

    return {
        "plan_id": plan.plan_id,
        "revision": plan.revision,
        "goal": plan.goal,
        "planner": plan.planner,
        "thinking_server": plan.thinking_server,
        "thoughts": [thought_document(thought) for thought in plan.thoughts],
        "notes": list(plan.notes),
        "estimate": dict(estimate(plan.dag, settings.options.concurrency)),
        "problems": [asdict(problem) for problem in problems],
        "dag": dag_to_document(plan.dag),
    }


def _show_plan(
    plan: Plan, problems: Sequence[Problem], settings: Settings, args: argparse.Namespace, output: Output
) -> None:
    from orchestration.execution.simulator import estimate

    upstream = plan.dag.incoming()
    output.line(f"Plan {plan.plan_id} by {plan.planner}: {plural(len(plan.dag.nodes), 'task')}")
    output.table(
        ("task", "system", "after", "description"),
        [
            (
                task.task_id,
                task.system_preference,
                clip(", ".join(edge.source_task_id for edge in upstream[task.task_id]), 50),
                clip(task.description, 70),
            )
            for task in plan.dag.nodes.values()
        ],
    )
    for note in plan.notes:
        output.line(f"note: {note}")
    for problem in problems:
        output.line(f"problem: {problem}")
    expected = estimate(plan.dag, settings.options.concurrency)
    output.line(
        f"Expected: {seconds(expected['expected_seconds'])}, at most {expected['width']} tasks at once."
    )
    if problems:
        output.line("Next: configure a system that can run these tasks; docs/configuration.md says how.")
    elif args.output is not None:
        output.line(f"Next: {hint(args, 'run', str(args.output))}")
    elif plan.plan_id is not None:
        output.line(f"Next: {hint(args, 'run', '--plan', plan.plan_id)}")


def _show_simulation(found: dict[str, Any], output: Output) -> None:
    schedule = found["schedule"]
    cost = f"{found['expected_cost']:g}" if found["expected_cost"] else None
    if cost is not None and found["cost"] != found["expected_cost"]:
        cost += f" expected; the tasks themselves say {found['cost']:g}"
    output.fields(
        {
            "DAG": found["dag_id"],
            "Tasks": f"{found['total_tasks']:,}, at most {found['width']:,} at once",
            "Workers": f"{found['workers']:,} ({found['mode']})",
            "Makespan": seconds(found["makespan_seconds"]),
            "Lower bound": f"{seconds(found['lower_bound_seconds'])} (no schedule can be shorter)",
            "Utilization": percent(found["utilization"]),
            "Cost": cost,
            "Critical path": clip(" → ".join(found["critical_path"]), 300),
            "Estimates": found["told"],
        }
    )
    for task_id, count in found["assumed_items"].items():
        output.line(
            f"assumed: {plural(count, 'item')} for {task_id}, whose list is known only during the run"
        )
    for task_id, who in found["approvals"].items():
        output.line(
            f"needs a yes: {task_id}, from {'a person' if who == 'person' else 'the caller or a person'}"
        )
    for problem in found["problems"]:
        output.line(f"missing: {problem['path']}: {problem['message']} Fix: {problem['fix']}")
    for warning in found["warnings"]:
        output.line(f"warning: {warning}")
    if found["can_run"] is not None:
        _show_places(found, output)
    output.line()
    output.table(
        ("start", "finish", "worker", "task"),
        [
            (
                f"{entry['start_seconds']:.2f}",
                f"{entry['finish_seconds']:.2f}",
                entry["worker"],
                entry["task_id"],
            )
            for entry in schedule[:_SCHEDULE_SHOWN]
        ],
    )
    if len(schedule) > _SCHEDULE_SHOWN:
        output.line(f"… and {len(schedule) - _SCHEDULE_SHOWN:,} more; --json has them all.")


def _show_places(found: dict[str, Any], output: Output) -> None:
    """Show where each task would go, and why."""
    output.line()
    output.table(
        ("task", "goes to", "time", "from", "because"),
        [
            (
                task["task_id"],
                f"{task['system']}.{task['tool']}" if task["tool"] and task["system"] else task["system"],
                seconds(task["estimated_seconds"]),
                task["seconds_from"],
                _because(task),
            )
            for task in found["tasks"][:_SCHEDULE_SHOWN]
        ],
    )
    if len(found["tasks"]) > _SCHEDULE_SHOWN:
        output.line(f"… and {len(found['tasks']) - _SCHEDULE_SHOWN:,} more; --json has them all.")


def _because(task: dict[str, Any]) -> str:
    if task["is_parent"]:
        return "runs its parts"
    told = [task["because"] or "nothing here can run it"]
    if task["others"]:
        told.append(f"else {', '.join(task['others'])}")
    if task["fallbacks"]:
        told.append(f"fallback on {', '.join(task['fallbacks'])}")
    return clip("; ".join(told), 100)
