"""The demo: `make demo` runs a goal through the command line, then joins the report with how that run went.

May import: server.cli.*, config (late), orchestration (late), stdlib.

Nothing here is special: the goal is planned, run and stored as `advanced-orchestration run --goal …` does it. Only the
section "This run" is added afterwards, because no task can report on the run it is a part of.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.output import percent, seconds
from server.cli.parser import BAD_INPUT, FAILED, PROGRAM, SUCCESS

if TYPE_CHECKING:
    from orchestration.ports import TaskRow
    from orchestration.reader import OrchestrationReader

GOAL = "Report on the health of this Python codebase"
FOLDER = ".demo"
"""Where report and database go; the whole of it may be deleted."""

_HOW_TO_READ = (
    "The measurements compute in Python on threads of one process and take turns on its interpreter lock, so each "
    "takes longer beside others than alone: the speedup is that of the schedule, not of the processor."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__, allow_abbrev=False)
    parser.add_argument("--path", default=".", help="folder of the codebase to report on")
    parser.add_argument("--folder", default=FOLDER, type=Path, help="where report and database go")
    args = parser.parse_args(argv)
    repository = Path(args.path).expanduser().resolve()
    if not repository.is_dir():
        sys.stderr.write(f"error: {args.path!r} is not a folder. Fix: make demo REPO=path/to/a/codebase\n")
        return BAD_INPUT
    database = args.folder / "orchestrations.db"
    args.folder.mkdir(parents=True, exist_ok=True)

    from server.cli.main import run

    context = json.dumps({"path": str(repository)})
    code = run(["run", "--goal", GOAL, "--context", context, "--database", str(database)])
    if code not in {SUCCESS, FAILED}:
        return code
    orchestration_id, report = _save_report(database, args.folder / "report.md")
    at = f"--database {database}"
    lines = [
        "",
        f"Report:   {report}" if report else "Report:   none; the task that joins it did not complete",
    ]
    lines += [f"Database: {database}", "Try next:"]
    lines += [
        f"  .venv/bin/{PROGRAM} {words} {at}"
        for words in (
            f"status {orchestration_id}",
            f"export {orchestration_id} --format mermaid",
            "list",
            "metrics",
        )
    ]
    lines += [f"  .venv/bin/{PROGRAM} run examples/diamond.yaml --config examples/config.yaml {at}"]
    lines += ["  make demo REPO=path/to/another/codebase"]
    sys.stdout.write("\n".join(lines) + "\n")
    return code


def _save_report(database: Path, target: Path) -> tuple[str, Path | None]:
    """Write the latest run's report with the section on the run; return the run's id and where the report is."""
    from config.settings import load_settings
    from orchestration.systems.codebase.report import save_report
    from server.cli.session import ask

    async def read(reader: OrchestrationReader) -> tuple[str, str | None]:
        latest = (await reader.list_orchestrations(limit=1))[0]["orchestration_id"]
        result = await reader.load_result(latest)
        report = _report_of(result["results"])
        if report is None:
            return latest, None
        rows = await reader.load_tasks(latest)
        return latest, report.rstrip() + "\n\n" + this_run(result, rows)

    orchestration_id, markdown = ask(load_settings(overrides={"storage.database": str(database)}), read)
    if markdown is None:
        return orchestration_id, None
    save_report(target, markdown)
    return orchestration_id, target


def _report_of(results: Mapping[str, Any]) -> str | None:
    """Return the Markdown a task delivered; None when none did."""
    for task_id in reversed(list(results)):
        output = results[task_id]
        if isinstance(output, dict) and isinstance(output.get("markdown"), str):
            return str(output["markdown"])
    return None


def this_run(result: Mapping[str, Any], rows: Sequence[TaskRow]) -> str:
    """Return the section on a run: figures, a Mermaid graph, and when each task ran.

    Args:
        result: The result document.
        rows: Its tasks as stored.
    """
    from orchestration.exports import to_mermaid

    measured = result["performance_metrics"]
    plan = result.get("plan") or {}
    count = f"{measured['tasks_completed']} of {result['total_tasks']} tasks completed"
    took = seconds(measured["makespan_seconds"])
    lines = ["## This run", "", f"`{result['orchestration_id']}` ended {result['state']}: {count} in {took}."]
    lines += ["", "| Figure | Value |", "| --- | --- |"]
    lines += [
        f"| {name} | {value} |"
        for name, value in (
            ("Makespan", seconds(measured["makespan_seconds"])),
            ("Work: sum of all task durations", seconds(measured["work_seconds"])),
            ("Critical path", seconds(measured["critical_path_seconds"])),
            ("Speedup: work / makespan", f"{measured['speedup']:.2f}"),
            (
                "Parallel efficiency: best possible makespan / makespan",
                percent(measured["parallel_efficiency"]),
            ),
            ("Tasks at once, at most", measured["concurrency"]),
            (
                "Plan",
                f"{plan.get('planner', 'unknown')}; thoughts to: {plan.get('thinking_server', 'nobody')}",
            ),
        )
    ]
    lines += [
        "",
        _HOW_TO_READ,
        "",
        "```mermaid",
        to_mermaid(result["dag"]).rstrip(),
        "```",
        "",
        *_timeline(rows),
        "",
    ]
    return "\n".join(lines)


def _timeline(rows: Sequence[TaskRow]) -> list[str]:
    """Return a table of the tasks that ran, in the order in which they started."""
    ran = sorted(
        (row for row in rows if row.started_at_us is not None), key=lambda row: row.started_at_us or 0
    )
    if not ran:
        return []
    first = ran[0].started_at_us or 0
    lines = ["| Task | System | Started after | Took | Outcome |", "| --- | --- | --- | --- | --- |"]
    for row in ran:
        after = ((row.started_at_us or 0) - first) / 1_000_000
        took = seconds(row.duration_seconds)
        lines.append(
            f"| {row.task_id} | {row.system or ''} | {seconds(after)} | {took} | {row.status.value} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
