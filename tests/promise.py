"""One promise of docs/semantics.md and what proves it; `behaviours.py` and `behaviours_of_plans.py` list them.

May import: stdlib.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """One sentence and what proves it."""

    section: str
    """Heading in docs/semantics.md."""
    sentence: str
    """As it stands there, line breaks aside."""
    tests: tuple[str, ...]
    """`file::test`, relative to tests/."""


def promise(section: str, sentence: str, file: str, *names: str) -> Promise:
    """Return a promise whose tests are in one file."""
    return Promise(section, sentence, tuple(f"{file}::test_{name}" for name in names))
