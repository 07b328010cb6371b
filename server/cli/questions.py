"""How a command tells of a task that waits for somebody: what is known or asked, and the commands that answer.

May import: server.cli.*, stdlib.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from server.cli.output import clip
from server.cli.session import hint

Waits: TypeAlias = Literal["decision", "approval", "answer"]
"""What a task waits for: somebody who knows how its attempt ended, a yes, somebody who knows how to go on."""

SHOWN = 5
"""Tasks that are told with their commands; how many more wait is counted."""

_KNOWN_CHARS = 500

_SHOWN_LINES = 20
"""Lines of what one task would run."""

_ANSWERS = {
    "retry": "run it again as it is:",
    "done": "it was done otherwise:",
    "failed": "give it up:",
}

_DECISIONS = {
    "done": "it happened:",
    "retry": "it did not, run it again:",
    "failed": "it did not, give it up:",
}


def question_lines(args: argparse.Namespace, orchestration_id: str, task_id: str, known: str) -> list[str]:
    """Return what is known of a task nobody knows the end of, and the command for each of the three decisions."""
    width = max(map(len, _DECISIONS.values()))
    return [
        f"{task_id} waits for a decision: {clip(known, _KNOWN_CHARS)}",
        *(
            f"  {meaning:<{width}} {hint(args, 'decide', orchestration_id, task_id, decision)}"
            for decision, meaning in _DECISIONS.items()
        ),
    ]


def asked_lines(args: argparse.Namespace, orchestration_id: str, task_id: str, why: str) -> list[str]:
    """Return why nobody knows how to go on with a task, and the commands that say how."""
    replace = f'{{"op": "replace", "task_id": "{task_id}", "tasks": [...]}}'
    told = [
        ("do something else instead:", hint(args, "edit", orchestration_id, "--op", replace)),
        *(
            (meaning, hint(args, "decide", orchestration_id, task_id, decision))
            for decision, meaning in _ANSWERS.items()
        ),
    ]
    width = max(len(meaning) for meaning, _ in told)
    return [
        f"{task_id} asks how to go on: {clip(why, _KNOWN_CHARS)}",
        *(f"  {meaning:<{width}} {command}" for meaning, command in told),
    ]


def approval_lines(
    args: argparse.Namespace, orchestration_id: str, task_id: str, shown: str, who: str = "person"
) -> list[str]:
    """Return what a task would run that waits for somebody's yes, and the commands that answer.

    Args:
        args: The command line.
        orchestration_id: Whose task it is.
        task_id: The task.
        shown: What exactly would run.
        who: Who may agree: `person`, or `caller` as well.
    """
    whose = "a yes from the calling agent or you" if who == "caller" else "your yes"
    lines = [line for line in shown.splitlines() if line.strip()]
    told = [f"{task_id} waits for {whose}; it would run exactly this:"]
    told += [f"  | {clip(line, _KNOWN_CHARS)}" for line in lines[:_SHOWN_LINES]]
    if len(lines) > _SHOWN_LINES:
        told.append(f"  | … {len(lines) - _SHOWN_LINES:,} more lines")
    return [
        *told,
        f"  agree:  {hint(args, 'approve', orchestration_id, task_id)}",
        f"  refuse: {hint(args, 'reject', orchestration_id, task_id)}",
    ]


def lines_about(
    args: argparse.Namespace, orchestration_id: str, task_id: str, what: Waits, known: str
) -> list[str]:
    """Return the lines of one task that waits for somebody.

    Args:
        args: The command line.
        orchestration_id: Whose task it is.
        task_id: The task.
        what: What it waits for.
        known: What is known of it, or would run.
    """
    match what:
        case "decision":
            return question_lines(args, orchestration_id, task_id, known)
        case "approval":
            return approval_lines(args, orchestration_id, task_id, known)
        case "answer":
            return asked_lines(args, orchestration_id, task_id, known)


def waiting_lines(args: argparse.Namespace, status: Mapping[str, Any]) -> list[str]:
    """Return the lines of everything in an orchestration that waits for somebody.

    Args:
        args: The command line.
        status: Where it stands.
    """
    name, counted = status["orchestration_id"], status["counts"]
    lines = questions_lines(args, name, status["waiting_for_decision"], counted.get("unknown", 0))
    approvals, asked = status["waiting_for_approval"], status["waiting_for_answer"]
    for task_id, shown in list(approvals.items())[:SHOWN]:
        lines += approval_lines(args, name, task_id, shown)
    if (left := counted.get("awaiting_approval", 0) - SHOWN) > 0:
        lines.append(f"{left:,} more wait for a yes: {hint(args, 'status', name, '--view', 'approvals')}")
    for task_id, why in list(asked.items())[:SHOWN]:
        lines += asked_lines(args, name, task_id, why)
    if (left := len(asked) - SHOWN) > 0:
        lines.append(f"{left:,} more ask how to go on: {hint(args, 'status', name, '--tasks')}")
    return lines


def questions_lines(
    args: argparse.Namespace, orchestration_id: str, questions: Mapping[str, str], total: int
) -> list[str]:
    """Return the lines of the first tasks that wait, and how many more do.

    Args:
        args: The command line.
        orchestration_id: Whose tasks they are.
        questions: What is known, by task.
        total: How many wait; the questions may be fewer.
    """
    shown = list(questions.items())[:SHOWN]
    lines = [
        line for task_id, known in shown for line in question_lines(args, orchestration_id, task_id, known)
    ]
    if total > len(shown):
        left = f"{total - len(shown):,} more wait"
        lines.append(f"{left} for a decision: {hint(args, 'status', orchestration_id, '--tasks')}")
    return lines
