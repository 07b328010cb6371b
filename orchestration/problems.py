"""Turning what went wrong in an input into `Problem`s: where, what was found, what was expected, a fix.

May import: orchestration.errors, pydantic, stdlib.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from itertools import islice

from pydantic import ValidationError

from orchestration.errors import Problem

_MAX_CANDIDATES = 5_000
"""Comparing a word with more than this would take longer than the hint is worth."""
_SHOWN_CHARS = 60


def shown(value: object) -> str:
    """Return a value as a short literal for a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` was most likely meant to be, if any."""
    found = difflib.get_close_matches(word, list(islice(known, _MAX_CANDIDATES)), 1)
    return found[0] if found else None


def unknown_key(path: str, key: str, known: Sequence[str]) -> Problem:
    """Say that `key` is not one of `known`, with the nearest right one."""
    near = nearest(key, known)
    fix = f"Write {near!r}." if near else f"The keys are: {', '.join(known)}."
    return Problem(f"{path}.{key}" if path else key, "is an unknown key.", fix)


def problems_in(error: ValidationError, path: str) -> list[Problem]:
    """Return pydantic's findings about the value at `path`, in the order of its fields."""
    return [
        Problem(
            joined(path, fault["loc"]),
            "is missing." if fault["type"].startswith("missing") else _message(fault["msg"], fault["input"]),
        )
        for fault in error.errors(include_url=False, include_context=False)
    ]


def joined(path: str, steps: Iterable[str | int]) -> str:
    """Return `path` followed by keys and indexes: `tasks[3]`, `("tool", 0)` → `tasks[3].tool[0]`."""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step}" if path else step
    return path


def _message(text: str, value: object) -> str:
    expected = text.removeprefix("Value error, ")
    expected = re.sub(r"^Input should be (greater|less)", r"expected a number \1", expected)
    expected = re.sub(r"^(?:Input|Value) should be", "expected", expected)
    return f"is {shown(value)}; {expected[:1].lower() + expected[1:]}."
