"""Reads what a task's `verify` answered: did the effect of an attempt nobody knows the end of happen?

May import: orchestration.{models, systems.base}, stdlib.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from orchestration.models import Json, as_unicode
from orchestration.systems.base import bounded

Answer: TypeAlias = Literal["done", "not_done", "unclear"]
_MAX_REASON_CHARS = 500
_ANSWERS: tuple[Answer, ...] = get_args(Answer)


@dataclass(frozen=True, slots=True)
class Told:
    """What `verify` said."""

    answer: Answer
    output: Json = None
    """With `done`: the task's output."""
    reason: str = ""


def read_answer(value: object) -> Told:
    """Return the answer in an output.

    It is one of the words `done`, `not_done` and `unclear`; or an object with that word as `status` and, if it likes,
    `output` and `reason`; or a command's `{"text": …, "exit_code": 0}` whose text is the word. Anything else is
    `unclear`, with the reason.
    """
    if isinstance(value, str):
        return _by_word(value, None, "")
    if isinstance(value, dict):
        if isinstance(value.get("status"), str):
            reason = value.get("reason")
            told = bounded(as_unicode(reason), _MAX_REASON_CHARS) if isinstance(reason, str) else ""
            return _by_word(value["status"], value.get("output"), told)
        if isinstance(value.get("text"), str):
            return _by_word(value["text"], None, "")
    return Told("unclear", reason=f"it answered {_shown(value)} instead of {', '.join(_ANSWERS)}")


def _by_word(word: str, output: Json, reason: str) -> Told:
    for answer in _ANSWERS:
        if word.strip().casefold() == answer:
            return Told(answer, output if answer == "done" else None, reason)
    return Told("unclear", reason=f"it answered {_shown(word)} instead of {', '.join(_ANSWERS)}")


def _shown(value: object) -> str:
    text = as_unicode(repr(value))
    return text if len(text) <= 100 else text[:99] + "…"
