"""How a command tells of a task that waits for a decision: what is known, and the commands that decide.

May import: server.cli.*, stdlib.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from server.cli.output import clip
from server.cli.session import hint

SHOWN = 5
"""Tasks that are told with their commands; how many more wait is counted."""

_KNOWN_CHARS = 500

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
