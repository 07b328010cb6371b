"""The views of `status` beside the summary: tasks, what waits for a yes, why a task or a plan is as it is, the graph.

May import: server.cli.*, orchestration (late), stdlib. They only read what is stored.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from server.cli.output import Output, clip, plural, seconds
from server.cli.parser import SUCCESS
from server.cli.questions import approval_lines
from server.cli.session import ask, hint, load

if TYPE_CHECKING:
    from orchestration.dag import TaskDAG
    from orchestration.drawings import Replaced
    from orchestration.folding import Parts
    from orchestration.ports import TaskRow
    from orchestration.reader import OrchestrationReader

_READ_AT_ONCE = 10_000


def show_tasks(args: argparse.Namespace, output: Output) -> int:
    """List tasks: those that are part of no other, or the parts of one, or all."""
    from orchestration.folding import parts_of

    rows = ask(load(args, output), lambda reader: _all_rows(reader, args.id))
    if args.task is not None:
        _check_there(args, rows)
    parts = parts_of((row.parent, row.status) for row in rows)
    is_everything = args.unfold and args.task is None
    shown = [row for row in rows if is_everything or row.parent == args.task][: args.limit]
    if output.is_json:
        tasks = [_row_document(row, parts.get(row.task_id)) for row in shown]
        output.document({"orchestration_id": args.id, "tasks": tasks})
        return SUCCESS
    depth = _depths(rows) if args.unfold else {}
    output.table(
        ("task", "status", "attempt", "system", "time", "note"),
        [
            (
                "  " * depth.get(row.task_id, 0) + row.task_id,
                row.status.value,
                row.attempt or None,
                row.system,
                seconds(row.duration_seconds) if row.attempt else None,
                _note(row, parts.get(row.task_id)),
            )
            for row in shown
        ],
        f"{args.task} has no parts." if args.task is not None else "",
    )
    return SUCCESS


async def _all_rows(reader: OrchestrationReader, orchestration_id: str) -> list[TaskRow]:
    rows: list[TaskRow] = []
    after = -1
    while page := await reader.load_tasks(orchestration_id, after_position=after, limit=_READ_AT_ONCE):
        rows += page
        after = page[-1].position
    return rows


def _check_there(args: argparse.Namespace, rows: list[TaskRow]) -> None:
    """Refuse a task that is not there.

    Raises:
        TaskNotFoundError: It is not.
    """
    from orchestration.errors import TaskNotFoundError

    if not any(row.task_id == args.task for row in rows):
        raise TaskNotFoundError(args.id, args.task, [row.task_id for row in rows[:20]])


def _depths(rows: list[TaskRow]) -> dict[str, int]:
    """Return how deep inside other tasks each task is."""
    parents = {row.task_id: row.parent for row in rows}
    depths: dict[str, int] = {}
    for task_id, parent in parents.items():
        depth, at = 0, parent
        while at is not None and depth < len(parents):
            depth, at = depth + 1, parents.get(at)
        depths[task_id] = depth
    return depths


def _note(row: TaskRow, parts: Parts | None) -> str:
    told = str(parts) if parts is not None and parts.total else ""
    note = row.note or (row.error.message if row.error is not None else "")
    return clip("; ".join(part for part in (told, note) if part), 80)


def _row_document(row: TaskRow, parts: Parts | None) -> dict[str, Any]:
    from dataclasses import asdict

    from orchestration.clock import to_iso

    document = asdict(row)
    for name in ("started_at", "finished_at"):
        document[name] = to_iso(document.pop(f"{name}_us"))
    if parts is not None:
        document["parts"] = {status.value: count for status, count in parts.counts.items()}
    return document


def show_approvals(args: argparse.Namespace, output: Output) -> int:
    """Show what waits for a yes, and what exactly each would run."""
    found = ask(load(args, output), lambda reader: reader.load_approvals(args.id))
    if output.is_json:
        output.document({"orchestration_id": args.id, "approvals": found})
        return SUCCESS
    if not found:
        output.line(f"Nothing in {args.id} waits for a yes.")
    for each in found:
        for line in approval_lines(args, args.id, each["task_id"], each["shown"], each["who"]):
            output.line(line)
        if each["digest"]:
            output.line(f"  digest: {each['digest'][:12]}")
    return SUCCESS


def show_why(args: argparse.Namespace, output: Output) -> int:
    """Show why a task stands where it does."""
    from orchestration.errors import InvalidArgumentError

    if args.task is None:
        raise InvalidArgumentError("--task", None, "the task that --view why is about", "name it.")
    before = args.after or None
    why = ask(load(args, output), lambda reader: reader.load_why(args.id, args.task, before_seq=before))
    if output.is_json:
        output.document(why)
        return SUCCESS
    where = None
    if why["system"]:
        tool = f", tool {why['tool']}" if why["tool"] else ""
        where = f"{why['system']}{tool}" + (f": {why['because']}" if why["because"] else "")
    output.fields(
        {
            "Task": f"{args.task} of {args.id}",
            "Status": why["status"].replace("_", " "),
            "Note": clip(why["note"], 500) if why["note"] else None,
            "System": where,
            "Waits for": clip("; ".join(why["waits_for"]), 500) or None,
        }
    )
    for each in why["events"][-args.limit :]:
        output.line(f"  #{each['seq']} {each['at']} {clip(each['told'], 500)}")
    if why["before_seq"] is not None:
        earlier = hint(
            *(args, "status", args.id, "--view", "why", "--task", args.task),
            *("--after", str(why["before_seq"])),
        )
        first, last = why["looked_through"]
        output.line(f"Looked through events {first:,} to {last:,}; what lies before: {earlier}")
    return SUCCESS


def show_plan(args: argparse.Namespace, output: Output) -> int:
    """Show how the plan of an orchestration, or a stored plan, came about."""
    from orchestration.reports import thought_marks

    story = ask(load(args, output), lambda reader: reader.load_plan_story(args.id))
    if output.is_json:
        output.document(story)
        return SUCCESS
    output.fields(
        {
            "Plan": story["plan_id"] or "none: a DAG was run as it was",
            "Of": story.get("orchestration_id"),
            "Goal": clip(story["goal"], 500) or None,
            "Made by": story["planner"],
            "Thoughts": f"{len(story['thoughts'])}, sent to {story['thinking_server']}"
            if story["thoughts"]
            else None,
            "Revision": story["revision"],
        }
    )
    for thought in story["thoughts"]:
        output.line(f"  {thought['number']}.{thought_marks(thought)} {clip(thought['text'], 1_000)}")
    for note in story["notes"]:
        output.line(f"note: {clip(note, 500)}")
    for log, entries in (("of the plan", story["plan_revisions"]), ("of the run", story["revisions"])):
        if len(entries) > (log == "of the plan"):  # a plan's first revision is how it was made
            output.line(f"{plural(len(entries), 'revision')} {log}:")
            for entry in entries:
                why = f": {clip(entry['reason'], 300)}" if "reason" in entry else ""
                undoes = f", back to {entry['undoes']}" if "undoes" in entry else ""
                told = f"{clip(entry['told'], 300)}{undoes}, by {clip(entry['by'])}{why}"
                output.line(f"  {entry['revision']}. {entry['at']} {told}")
    return SUCCESS


def show_graph(args: argparse.Namespace, output: Output) -> int:
    """Draw the graph in Mermaid."""
    from orchestration.drawings import part_of
    from orchestration.exports import to_mermaid

    dag, replaced = ask(load(args, output), lambda reader: graph_of(reader, args.id))
    if args.task is not None:
        dag = part_of(dag, args.task)
    text = to_mermaid(dag, unfold=args.unfold, replaced=replaced)
    if output.is_json:
        output.document({"orchestration_id": args.id, "format": "mermaid", "text": text})
    else:
        output.raw(text)
    return SUCCESS


async def graph_of(reader: OrchestrationReader, orchestration_id: str) -> tuple[TaskDAG, list[Replaced]]:
    """Return the graph of an orchestration, and what replaced what in it."""
    return await reader.load_dag(orchestration_id), await reader.load_replaced(orchestration_id)
