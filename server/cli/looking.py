"""The commands that only read what is stored: `list`, `status`, `output`, `export`, `metrics`.

May import: server.cli.*, orchestration (late), config (late), server.composition (late), stdlib. They open no
system, so they answer even where a system's configuration no longer works.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.output import Output, clip, counts, seconds
from server.cli.parser import SUCCESS, Commands, readable, whole_number
from server.cli.session import ask, hint, load
from server.cli.standing import show_list, show_status
from server.cli.stories import graph_of, show_approvals, show_graph, show_plan, show_tasks, show_why

if TYPE_CHECKING:
    from orchestration.drawings import Replaced
    from orchestration.engine.events import Recorded

_STATES = ("planning", "running", "paused", "cancelling", "completed", "failed", "cancelled")
_UNFINISHED = ("planning", "running", "paused", "cancelling")
_FORMATS = ("json", "yaml", "mermaid", "dot")
_VIEWS = ("summary", "tasks", "events", "approvals", "why", "plan", "graph")


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
        example="advanced-orchestration status\nadvanced-orchestration status nightly-report-7 --tasks\n"
        "advanced-orchestration status nightly-report-7 --view why --task load\n"
        "advanced-orchestration status nightly-report-7 --view plan",
        details="Views: tasks, one a line, parts folded into their task; events, the journal; approvals, what waits\n"
        "for a yes and what exactly it would run; why, of one task: which system and why, what it waits for, what\n"
        "happened; plan, of an orchestration or a stored plan: who planned it, the thoughts, every revision and why;\n"
        "graph, in Mermaid.",
    )
    parser.add_argument("id", metavar="ID", nargs="?", help="the orchestration; with --view plan a plan, too")
    view = parser.add_mutually_exclusive_group()
    view.add_argument("--view", choices=_VIEWS, default="summary", help="what to show; a summary when absent")
    for name, about in (("tasks", "its tasks, one a line"), ("events", "its journal, one event a line")):
        view.add_argument(
            f"--{name}", dest="view", action="store_const", const=name, default=argparse.SUPPRESS, help=about
        )
    parser.add_argument(
        "--task",
        type=readable,
        metavar="TASK",
        help="with --view why: the task; with tasks and graph: only its parts",
    )
    parser.add_argument("--unfold", action="store_true", help="show the parts of tasks, too")
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
        help="with --events: only those after this one; with --view why: what comes before it",
    )

    parser = commands.add(
        "output",
        output_of,
        about="print what a task delivered",
        example="advanced-orchestration output nightly-report-7 extract",
        details="A text is printed as it is, anything else as JSON; with --json always as JSON. --save writes the "
        "pictures and other files in it.",
    )
    parser.add_argument(
        "--save",
        metavar="FILE",
        type=Path,
        help="write the picture or file it holds, of several FILE-1, FILE-2, …; else what would be printed",
    )
    parser.add_argument("id", metavar="ID", help="the orchestration")
    parser.add_argument("task", metavar="TASK", help="the task")

    parser = commands.add(
        "export",
        export,
        about="print the DAG of an orchestration, with the present statuses, or of a file",
        example="advanced-orchestration export nightly-report-7 --format mermaid\n"
        "advanced-orchestration export examples/diamond.yaml --format dot --unfold",
        details="Drawings show a task with parts as one box, and what replaced what. YAML and JSON can be run again.",
    )
    parser.add_argument("source", metavar="ID|DAG.yaml", help="an orchestration or a DAG file")
    parser.add_argument("--format", choices=_FORMATS, default="yaml", help="yaml is the default")
    parser.add_argument(
        "--unfold", action="store_true", help="in drawings: show the parts of tasks, in a frame each"
    )

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
    match args.view:
        case "tasks":
            return show_tasks(args, output)
        case "events":
            return _events(args, output)
        case "approvals":
            return show_approvals(args, output)
        case "why":
            return show_why(args, output)
        case "plan":
            return show_plan(args, output)
        case "graph":
            return show_graph(args, output)
    found = ask(load(args, output), lambda reader: reader.load_status(args.id))
    if output.is_json:
        output.document(found)
    else:
        show_status(args, found, output)
    return SUCCESS


def output_of(args: argparse.Namespace, output: Output) -> int:
    """Print a task's output."""
    import json

    from orchestration.plain_text import printable_json

    value = ask(load(args, output), lambda reader: reader.load_output(args.id, args.task))
    if args.save is not None:
        from server.cli.saving import save_output

        saved = save_output(value, args.save)
        if output.is_json:
            output.document({"saved": [str(path) for path in saved]})
        else:
            output.line(f"Saved: {', '.join(str(path) for path in saved)}")
    elif output.is_json:
        output.document(value)
    elif isinstance(value, str):
        output.raw(value)
    elif isinstance(value, dict) and value.keys() == {"text", "exit_code"}:
        output.raw(str(value["text"]))
    else:
        output.raw(printable_json(json.dumps(value, ensure_ascii=False, indent=2)))
    return SUCCESS


def export(args: argparse.Namespace, output: Output) -> int:
    """Print a DAG in another format."""
    from orchestration.dag_file import dag_to_document, load_dag
    from orchestration.exports import export as exported
    from orchestration.exports import without_items

    settings = load(args, output)
    source = Path(args.source)
    # An orchestration's id holds no dot and no slash, so a name that does is meant as a file even when there is none.
    if source.suffix or len(source.parts) > 1 or source.is_file():
        dag = load_dag(source, settings.options.limits)
        replaced: list[Replaced] = []
    else:
        dag, replaced = ask(settings, lambda reader: graph_of(reader, args.source))
    text = exported(dag, args.format, unfold=args.unfold, replaced=replaced)
    if not output.is_json:
        output.raw(text)
    elif args.format in {"json", "yaml"}:
        output.document(dag_to_document(without_items(dag)))
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
