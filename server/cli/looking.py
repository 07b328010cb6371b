"""The commands that only read what is stored: `list`, `status`, `output`, `export`, `metrics`.

May import: server.cli.*, orchestration (late), config (late), server.composition (late), stdlib. They open no
system, so they answer even where a system's configuration no longer works.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.output import Output, clip, counts, seconds
from server.cli.parser import SUCCESS, Commands, whole_number
from server.cli.session import ask, hint, load
from server.cli.standing import show_list, show_status

if TYPE_CHECKING:
    from orchestration.engine.events import Recorded
    from orchestration.ports import TaskRow

_STATES = ("running", "paused", "cancelling", "completed", "failed", "cancelled")
_UNFINISHED = ("running", "paused", "cancelling")
_FORMATS = ("json", "yaml", "mermaid", "dot")


def register(commands: Commands) -> None:
    """Add the commands."""
    parser = commands.add(
        "list",
        list_orchestrations,
        about="list orchestrations, latest first",
        example="advanced-orchestration list --state failed --limit 10",
    )
    parser.add_argument(
        "--state", action="append", choices=_STATES, help="only these; may be given more than once"
    )
    parser.add_argument(
        "--limit", type=whole_number(1, 10_000), default=100, metavar="N", help="100 is the default"
    )
    parser.add_argument(
        "--offset", type=whole_number(0), default=0, metavar="N", help="pass over the first N"
    )

    parser = commands.add(
        "status",
        status,
        about="show how an orchestration stands; without an id, what is unfinished",
        example="advanced-orchestration status\nadvanced-orchestration status nightly-report-7 --tasks",
    )
    parser.add_argument("id", metavar="ID", nargs="?", help="the orchestration")
    view = parser.add_mutually_exclusive_group()
    view.add_argument("--tasks", action="store_true", help="its tasks, one a line")
    view.add_argument("--events", action="store_true", help="its journal, one event a line")
    parser.add_argument(
        "--limit",
        type=whole_number(1, 100_000),
        default=1000,
        metavar="N",
        help="tasks or events at most; 1000",
    )
    parser.add_argument(
        "--after",
        type=whole_number(0),
        default=0,
        metavar="SEQ",
        help="with --events: only those after this one",
    )

    parser = commands.add(
        "output",
        output_of,
        about="print what a task delivered",
        example="advanced-orchestration output nightly-report-7 extract",
        details="A text is printed as it is, anything else as JSON; with --json always as JSON.",
    )
    parser.add_argument("id", metavar="ID", help="the orchestration")
    parser.add_argument("task", metavar="TASK", help="the task")

    parser = commands.add(
        "export",
        export,
        about="print the DAG of an orchestration, with the present statuses, or of a file",
        example="advanced-orchestration export nightly-report-7 --format mermaid\n"
        "advanced-orchestration export examples/diamond.yaml --format dot",
    )
    parser.add_argument("source", metavar="ID|DAG.yaml", help="an orchestration or a DAG file")
    parser.add_argument("--format", choices=_FORMATS, default="yaml", help="yaml is the default")

    commands.add(
        "metrics",
        metrics,
        about="show how orchestrations went, over the whole database",
        example="advanced-orchestration metrics --json",
    )


def list_orchestrations(args: argparse.Namespace, output: Output) -> int:
    """List orchestrations."""
    settings = load(args, output)
    found = ask(
        settings,
        lambda reader: reader.list_orchestrations(states=args.state, limit=args.limit, offset=args.offset),
    )
    if output.is_json:
        output.document({"orchestrations": found})
    else:
        show_list(found, output, f"There are no orchestrations in {settings.database}.")
    return SUCCESS


def status(args: argparse.Namespace, output: Output) -> int:
    """Show one orchestration, its tasks or its events; or what is unfinished."""
    if args.id is None:
        return _unfinished(args, output)
    if args.tasks:
        return _tasks(args, output)
    if args.events:
        return _events(args, output)
    found = ask(load(args, output), lambda reader: reader.load_status(args.id))
    if output.is_json:
        output.document(found)
    else:
        show_status(args, found, output)
    return SUCCESS


def output_of(args: argparse.Namespace, output: Output) -> int:
    """Print a task's output."""
    import json

    value = ask(load(args, output), lambda reader: reader.load_output(args.id, args.task))
    if output.is_json:
        output.document(value)
    elif isinstance(value, str):
        output.raw(value)
    elif isinstance(value, dict) and value.keys() == {"text", "exit_code"}:
        output.raw(str(value["text"]))
    else:
        output.line(json.dumps(value, ensure_ascii=False, indent=2))
    return SUCCESS


def export(args: argparse.Namespace, output: Output) -> int:
    """Print a DAG in another format."""
    from orchestration.dag_file import dag_to_document, load_dag
    from orchestration.exports import export as exported

    settings = load(args, output)
    source = Path(args.source)
    # An orchestration's id holds no dot and no slash, so a name that does is meant as a file even when there is none.
    if source.suffix or len(source.parts) > 1 or source.is_file():
        dag = load_dag(source, settings.options.limits)
    else:
        dag = ask(settings, lambda reader: reader.load_dag(args.source))
    text = exported(dag, args.format)
    if not output.is_json:
        output.raw(text)
    elif args.format in {"json", "yaml"}:
        output.document(dag_to_document(dag))
    else:
        output.document({"format": args.format, "text": text})
    return SUCCESS


def metrics(args: argparse.Namespace, output: Output) -> int:
    """Show the metrics of the database."""
    found = ask(load(args, output), lambda reader: reader.load_metrics())
    if output.is_json:
        output.document(found)
        return SUCCESS
    output.fields(
        {
            "Orchestrations": f"{found['total_orchestrations']:,}, {found['active_orchestrations']:,} unfinished",
            "Completed": f"{found['successful_orchestrations']:,} ({found['success_rate']:.0f} % of the ended ones)",
            "Failed": f"{found['failed_orchestrations']:,}",
            "Cancelled": f"{found['cancelled_orchestrations']:,}",
            "Execution time": f"{seconds(found['average_execution_time_seconds'])} on average",
            "Parallel efficiency": f"{found['average_parallel_efficiency']:.0f} % on average",
            "Tasks": counts(found["tasks_by_status"]),
            "Attempts": f"{found['total_attempts']:,}",
            "Work": seconds(found["work_seconds"]),
            "Cost": f"{found['cost']:g}" if found["cost"] else None,
        }
    )
    return SUCCESS


def _unfinished(args: argparse.Namespace, output: Output) -> int:
    settings = load(args, output)
    found = ask(settings, lambda reader: reader.list_orchestrations(states=_UNFINISHED, limit=args.limit))
    if output.is_json:
        output.document({"orchestrations": found})
        return SUCCESS
    show_list(found, output, f"Nothing is unfinished. All there is: {hint(args, 'list')}")
    if any(each["orphaned"] for each in found):
        output.line(f"What no process drives goes on with: {hint(args, 'resume', '--all')}")
    return SUCCESS


def _tasks(args: argparse.Namespace, output: Output) -> int:
    rows = ask(load(args, output), lambda reader: reader.load_tasks(args.id, limit=args.limit))
    if output.is_json:
        output.document({"orchestration_id": args.id, "tasks": [_row_document(row) for row in rows]})
        return SUCCESS
    output.table(
        ("task", "status", "attempt", "system", "time", "note"),
        [
            (
                row.task_id,
                row.status.value,
                row.attempt or None,
                row.system,
                seconds(row.duration_seconds) if row.attempt else None,
                clip(row.note or (row.error.message if row.error is not None else ""), 80),
            )
            for row in rows
        ],
    )
    return SUCCESS


def _row_document(row: TaskRow) -> dict[str, Any]:
    from dataclasses import asdict

    from orchestration.clock import to_iso

    document = asdict(row)
    for name in ("started_at", "finished_at"):
        document[name] = to_iso(document.pop(f"{name}_us"))
    return document


def _events(args: argparse.Namespace, output: Output) -> int:
    recorded = ask(
        load(args, output), lambda reader: reader.load_events(args.id, after_seq=args.after, limit=args.limit)
    )
    documents = [_event_document(each) for each in recorded]
    if output.is_json:
        output.document({"orchestration_id": args.id, "events": documents})
        return SUCCESS
    shown = ("seq", "at", "type", "task_id")
    output.table(
        ("seq", "at", "event", "task", "details"),
        [(*(each.get(name) for name in shown), _details(each, shown)) for each in documents],
        f"There is nothing after event {args.after}.",
    )
    return SUCCESS


def _event_document(recorded: Recorded) -> dict[str, Any]:
    from pydantic_core import to_jsonable_python

    from orchestration.clock import to_iso

    return {"seq": recorded.seq, "at": to_iso(recorded.at_us), **to_jsonable_python(recorded.event)}


def _details(document: dict[str, Any], shown: tuple[str, ...]) -> str:
    found = {
        name: value
        for name, value in document.items()
        if name not in shown and value not in (None, "", [], {})
    }
    error = found.pop("error", None)
    told = []
    for name, value in found.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            told.append(f"{name}={','.join(value)}")
        elif not isinstance(value, dict | list):
            told.append(f"{name}={value}")
    if error is not None:
        told.append(f"{error['code']}: {error['message']}")
    return clip(" ".join(told), 100)
