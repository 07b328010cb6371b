"""What is found in a draft on the way: what was completed or changed, and what is refused.

May import: orchestration.errors, stdlib.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from orchestration.errors import Problem

_ANY_FIX = "Correct the value, or leave the field out."
_SHOWN_EXAMPLES = 5


@dataclass(slots=True)
class Findings:
    """Problems and changes of one reading."""

    problems: list[Problem] = field(default_factory=list)
    changes: dict[str, list[str]] = field(default_factory=dict)

    def note(self, what: str, example: str) -> None:
        """Keep that something was completed or changed."""
        self.changes.setdefault(what, []).append(example)

    def refuse(self, path: str, message: str, fix: str) -> None:
        """Keep what can't be taken."""
        self.problems.append(Problem(path, message, fix))

    def said(self) -> Iterator[str]:
        """Yield one sentence per kind of change, however many tasks it touched."""
        for what, examples in self.changes.items():
            told = ", ".join(examples[:_SHOWN_EXAMPLES])
            more = len(examples) - _SHOWN_EXAMPLES
            yield f"{what}: {told}{f' and {more} more' if more > 0 else ''}."


def one_each(problems: Sequence[Problem]) -> list[Problem]:
    """Return the first problem of each place, each with a fix: what follows from the first is no news."""
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.path, problem)
    return [
        problem if problem.fix else dataclasses.replace(problem, fix=_ANY_FIX) for problem in first.values()
    ]
