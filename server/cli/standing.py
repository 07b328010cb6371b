"""How the commands tell people where an orchestration stands: who drives it, what waits for somebody, what to type.

May import: server.cli.*, stdlib.
"""

from __future__ import annotations

import argparse
from typing import Any

from server.cli.output import Output, clip, counts, percent, seconds
from server.cli.questions import waiting_lines
from server.cli.session import hint


def state_of(found: dict[str, Any]) -> str:
    """Return the state in a few words, with what a person should see at once."""
    marks = []
    if found["orphaned"]:
        marks.append("orphaned")
    if waiting := found["counts"].get("unknown", 0):
        marks.append(f"{waiting:,} to decide")
    if waiting := found["counts"].get("awaiting_approval", 0):
        marks.append(f"{waiting:,} to approve")
    if offered := found["counts"].get("offered", 0):
        marks.append(f"{offered:,} for workers")
    if asked := len(found["waiting_for_answer"]):
        marks.append(f"{asked:,} to answer")
    return f"{found['state']} ({', '.join(marks)})" if marks else str(found["state"])


def show_list(found: list[dict[str, Any]], output: Output, empty: str) -> None:
    """Write a table of orchestrations."""
    output.table(
        ("id", "state", "progress", "tasks", "created", "goal"),
        [
            (
                each["orchestration_id"],
                state_of(each),
                f"{each['progress_percentage']:.0f} %",
                f"{each['total_tasks']:,}",
                each["created_at"][:16].replace("T", " ") + "Z",
                clip(each["goal"], 60),
            )
            for each in found
        ],
        empty,
    )


def show_status(args: argparse.Namespace, found: dict[str, Any], output: Output) -> None:
    """Write where one orchestration stands."""
    remaining = found["estimated_completion_time"]
    running = found["current_running_tasks"]
    output.fields(
        {
            "Orchestration": found["orchestration_id"],
            "Goal": clip(found["goal"]) or None,
            "State": state_of(found) + _driver(found),
            "Reason": clip(found["reason"], 500) or None,
            "Progress": f"{found['progress_percentage']:.0f} % of {found['total_tasks']:,} tasks: "
            + counts(found["counts"]),
            "Running": None if found["orphaned"] else clip(", ".join(running), 300) or None,
            "Cut off": (clip(", ".join(running), 300) or None) if found["orphaned"] else None,
            "Offered": _offered(found) or None,
            "Claimed": clip(", ".join(f"{task} by {who}" for task, who in found["claimed"].items()), 300)
            or None,
            "Time": seconds(found["elapsed_seconds"])
            + (f", about {seconds(remaining)} to go" if remaining else ""),
            "Efficiency": percent(found["parallel_efficiency"]) or None,
            "Mode": found["mode"],
            "Plan": f"revision {found['revision']}" if found["revision"] > 1 else None,
        }
    )
    for task_id, error in found["errors"].items():
        output.line(f"  {task_id} failed ({error['code']}): {clip(error['message'], 300)}")
    for line in waiting_lines(args, found):
        output.line(line)
    for line in _orphan_lines(args, found):
        output.line(line)
    output.line(f"Next: {_next(args, found)}")


def _offered(found: dict[str, Any]) -> str:
    """Return the first tasks that wait for a worker, and how they come to one."""
    waiting = found["waiting_for_worker"]
    if not waiting:
        return ""
    left = found["counts"].get("offered", 0) - len(waiting)
    more = f" and {left:,} more" if left > 0 else ""
    verb = "wait" if len(waiting) > 1 else "waits"
    return f"{clip(', '.join(waiting), 300)}{more} {verb} for a worker (claim_task over MCP)"


def _driver(found: dict[str, Any]) -> str:
    if not found["driven_by"]:
        return ""
    silent = found["driver_silent_seconds"]
    return f", driven by {found['driven_by']}" + (
        "" if silent is None else f", which has been silent for {seconds(silent)}"
    )


def _orphan_lines(args: argparse.Namespace, found: dict[str, Any]) -> list[str]:
    """Say what it means that nobody drives it, and what keeps it from going on here."""
    if not found["orphaned"]:
        return []
    lines = []
    if running := found["current_running_tasks"]:
        decides = hint(args, "decide", found["orchestration_id"], running[0], "retry")
        lines.append(
            "The process that drove it is gone, and nobody will hear how the attempts it was running end; a command it "
            "left behind is ended by whoever goes on. They run again then, but for tasks with `idempotent: false`: "
            "those wait for a decision, or take it now "
            f"(`{decides}`, or done, or failed)."
        )
    elif found["state"] != "paused":
        lines.append("No process drives it.")
    lines += [f"It can't go on here: {reason}" for reason in found["missing_systems"]]
    return lines


def _next(args: argparse.Namespace, found: dict[str, Any]) -> str:
    orchestration_id = found["orchestration_id"]
    if found["orphaned"] or found["state"] == "paused":
        return hint(args, "resume", orchestration_id)
    if found["state"] in {"failed", "cancelled"}:
        return hint(args, "retry", orchestration_id)
    return hint(args, "status", orchestration_id, "--tasks")
