"""The command that changes plans and running orchestrations: `edit`.

May import: server.cli.*, orchestration (late), stdlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.output import Output, clip, plural, seconds
from server.cli.parser import BAD_INPUT, INTERRUPTED, SUCCESS, Commands, json_value, readable, whole_number
from server.cli.session import ask, drive, hint, load

if TYPE_CHECKING:
    from orchestration.edits.report import EditReport
    from orchestration.edits.targets import Looked
    from orchestration.orchestrator import AdvancedTaskOrchestrator
    from orchestration.ports import Revision

_LATEST = 5
"""Revisions that are shown with a graph."""
_TASKS_SHOWN = 200

_DETAILS = """\
operations, each a JSON object with `op`; all are carried out in order, or none:
  {"op": "add", "task": {"task_id": "audit", "tool": "audit", "depends_on": ["load"]}}
  {"op": "set", "task_id": "load", "timeout_seconds": 600}
  {"op": "remove", "task_id": "load", "reconnect": true}
  {"op": "link", "from": "load", "to": "audit", "condition": "output.rows > 0"}
  {"op": "unlink", "from": "load", "to": "audit"}
  {"op": "skip", "task_id": "load", "reason": "loaded by hand"}
  {"op": "priority", "task_id": "load", "priority": "URGENT"}
  {"op": "replace", "task_id": "load", "tasks": [{"task_id": "copy", "tool": "copy"}]}

Without any, it shows the graph with its revision and the latest entries of the log. Tasks that have ended are frozen;
one that runs must end first. Any process may drive the orchestration."""


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "edit",
        edit,
        about="change a stored plan, or an orchestration that goes on; or show its graph and revisions",
        example="advanced-orchestration edit nightly-report-7\n"
        "advanced-orchestration edit nightly-report-7 --set load.timeout_seconds=600 --set load.arguments.day=monday\n"
        "advanced-orchestration edit nightly-report-7 --file changes.yaml --dry-run\n"
        "advanced-orchestration edit nightly-report-7 --undo 1",
        details=_DETAILS,
    )
    parser.add_argument("id", metavar="ID", help="a plan or an orchestration")
    parser.add_argument(
        "--op",
        dest="operations",
        action="append",
        type=json_value,
        metavar="JSON",
        help="an operation; may be given more than once",
    )
    parser.add_argument(
        "--set",
        dest="operations",
        action="append",
        type=_setting,
        metavar="TASK.FIELD=VALUE",
        help="set a field of a task; the value is read as JSON where it is some, else as text",
    )
    parser.add_argument(
        "--file",
        dest="operations",
        action="append",
        type=Path,
        metavar="FILE",
        help="a list of operations, as YAML or JSON",
    )
    parser.add_argument(
        "--undo",
        type=whole_number(1),
        metavar="N",
        help="go back to revision N, where its tasks have not begun",
    )
    parser.add_argument("--dry-run", action="store_true", help="only tell what would change and what follows")
    parser.add_argument(
        "--expect", type=whole_number(1), metavar="N", help="refuse the change unless this is the revision"
    )
    parser.add_argument("--log", action="store_true", help="show every revision: who, when, why, what")
    parser.add_argument("--reason", default="", type=readable, metavar="TEXT", help="why, for the log")
    parser.set_defaults(operations=None)


def edit(args: argparse.Namespace, output: Output) -> int:
    """Change a graph, or show it."""
    operations = [each for sent in args.operations or () for each in _operations(sent)]
    if not operations and args.undo is None:
        return _show(args, output)
    settings = load(args, output, has_progress=not output.is_json)

    async def work(orchestrator: AdvancedTaskOrchestrator) -> EditReport:
        from orchestration.edits.targets import find_target

        present = (await find_target(orchestrator.storage, args.id)).revision
        return await orchestrator.edit(
            args.id,
            operations,
            expected_revision=present if args.expect is None else args.expect,
            undo_to=args.undo,
            dry_run=args.dry_run,
            reason=args.reason,
        )

    report = drive(settings, work)
    if report is None:
        message = (
            "Interrupted before there was an answer; the change may be stored. How it is now: "
            f"{hint(args, 'edit', args.id)}"
        )
        if output.is_json:
            output.document({"error": {"code": "interrupted", "message": message, "retryable": True}})
        else:
            output.note(message)
        return INTERRUPTED
    if output.is_json:
        output.document(report.to_document())
    else:
        _tell(args, report, output)
    return BAD_INPUT if report.refusals else SUCCESS


def _tell(args: argparse.Namespace, report: EditReport, output: Output) -> None:
    has = f"{report.target} has revision {report.revision}"
    if report.refusals:
        output.line(f"It would be refused for {plural(len(report.refusals), 'reason')}. {has}.")
        for problem in report.refusals:
            output.line(f"  {problem}")
    elif report.is_applied:
        output.line(f"{has} now: {report.told}.")
    elif args.dry_run:
        output.line(f"Nothing was changed yet. {has}. It would:")
    else:
        output.line(f"There was nothing to change. {has}.")
    for line in report.lines():
        output.line(f"  {clip(line, 300)}")
    for note in (*report.warnings, *report.notes):
        output.line(f"note: {clip(note, 400)}")
    if report.estimate is not None and not report.refusals:
        tasks, expected = report.estimate["tasks"], report.estimate["expected_seconds"]
        output.line(f"Left then: {plural(int(tasks), 'task')}, about {seconds(expected)}.")
    if report.refusals:
        output.line(f"Next: {hint(args, 'edit', report.target)}")
    elif report.is_plan and report.is_applied:
        output.line(f"Next: {hint(args, 'run', '--plan', report.target)}")
    elif report.is_applied:
        output.line(f"Next: {hint(args, 'status', report.target)}")


def _show(args: argparse.Namespace, output: Output) -> int:
    """Show a graph with its revision and log."""
    from orchestration.edits.targets import look_at

    looked = ask(load(args, output), lambda reader: look_at(reader.storage, args.id))
    if output.is_json:
        output.document(_document(looked))
        return SUCCESS
    revision = plural(len(looked.dag.nodes), "task")
    output.line(f"{looked.target.name}: revision {looked.target.revision}, {revision}")
    if not args.log:
        _show_graph(looked, output)
    _show_log(looked.log if args.log else looked.log[-_LATEST:], output)
    return SUCCESS


def _show_graph(looked: Looked, output: Output) -> None:
    upstream = looked.dag.incoming()
    is_plan = looked.target.plan is not None
    nodes = list(looked.dag.nodes.values())
    output.table(
        ("task", "system", "priority", "after", "description")
        if is_plan
        else ("task", "status", "priority", "after", "description"),
        [
            (
                node.task_id,
                node.system_preference if is_plan else node.status.value,
                node.priority.name,
                clip(", ".join(edge.source_task_id for edge in upstream[node.task_id]), 50),
                clip(node.description, 60),
            )
            for node in nodes[:_TASKS_SHOWN]
        ],
    )
    if len(nodes) > _TASKS_SHOWN:
        output.line(f"… and {len(nodes) - _TASKS_SHOWN:,} more; --json has them all.")
    output.line()


def _show_log(log: list[Revision], output: Output) -> None:
    from orchestration.clock import to_iso

    output.table(
        ("revision", "by", "at", "what", "why"),
        [
            (
                each.revision,
                each.by,
                (to_iso(each.at_us) or "")[:16].replace("T", " ") + "Z",
                clip(each.told, 80),
                clip(each.reason, 80),
            )
            for each in log
        ],
    )


def _document(looked: Looked) -> dict[str, Any]:
    from orchestration.dag_file import dag_to_document
    from orchestration.edits.report import revision_document

    return {
        "target": looked.target.name,
        "kind": looked.target.kind.value,
        "revision": looked.target.revision,
        "revisions": [revision_document(each) for each in looked.log],
        "dag": dag_to_document(looked.dag),
    }


def _operations(sent: object) -> list[Any]:
    """Return the operations that an option stands for; a file is read now."""
    if not isinstance(sent, Path):
        return list(sent) if isinstance(sent, list) else [sent]
    from orchestration.documents import MAX_TEXT_BYTES, read_document
    from orchestration.errors import InvalidArgumentError

    try:
        if sent.exists() and not sent.is_file():  # a pipe would be waited for
            raise InvalidArgumentError("--file", str(sent), "a plain file", "save the operations in one.")
        if sent.stat().st_size > MAX_TEXT_BYTES:
            expected = f"a file of at most {MAX_TEXT_BYTES:,} bytes"
            raise InvalidArgumentError("--file", str(sent), expected, "make a new plan.")
        text = sent.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError("--file", str(sent), "a text in UTF-8", "save it as UTF-8.") from error
    except OSError as error:
        expected = f"a file that can be read ({error.strerror or error})"
        raise InvalidArgumentError("--file", str(sent), expected, "check the path.") from error
    found = read_document(text)
    if isinstance(found, dict) and set(found) == {"operations"}:
        found = found["operations"]
    return found if isinstance(found, list) else [found]


def _setting(value: str) -> dict[str, Any]:
    """Return the operation that `TASK.FIELD=VALUE` stands for; an argument type."""
    import json

    name, separator, text = value.partition("=")
    task_id, dot, field = name.strip().partition(".")
    if not (separator and dot and task_id and field):
        fix = "for example load.timeout_seconds=600"
        raise argparse.ArgumentTypeError(f"is {value!r}; expected TASK.FIELD=VALUE, {fix}")
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        plain = readable(text)
    return {"op": "set", "task_id": readable(task_id), "fields": {readable(field): plain}}
