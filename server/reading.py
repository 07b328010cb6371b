"""Reading an output in parts: as text, a window of it, the lines that contain something, a value at a path.

May import: orchestration.{errors, models}, orchestration.systems.content_blocks, server.answers, stdlib. Pure: values
in, values out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.errors import InvalidArgumentError
from orchestration.models import Json
from orchestration.systems.content_blocks import without_data
from server.answers import clip, json_size, plural, printable

ROOM = 17_500
"""Characters a text may take in an answer, escapes included: an answer has at most 20,000, with what stands around."""
PATH_EXAMPLE = "rows[0].name"
KEYS_SHOWN = 20
LINE_SHOWN = 300
"""Characters of a line that was found; of a longer one what stands around the hit."""
PREVIEW = 600

_STEP = re.compile(r"""\.?([A-Za-z0-9_-]+)|\[([0-9]{1,18})\]|\[("(?:[^"\\]|\\.)*")\]""")


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a text."""

    text: str
    start: int
    """Where it begins."""
    end: int
    """Where what follows begins."""
    total: int

    @property
    def next_offset(self) -> int | None:
        """Where to go on; None at the end."""
        return self.end if self.end < self.total else None


def as_read(output: Json) -> str:
    """Return an output as the text that is read: a text as it is, what a command wrote, anything else as JSON.

    Images and other content that is no text are told in a line each; their data can be read by its path.
    """
    if isinstance(output, dict) and output.keys() == {"text", "exit_code"}:
        output = output["text"]
    return (
        output if isinstance(output, str) else json.dumps(without_data(output), ensure_ascii=False, indent=1)
    )


def window(text: str, start: int, max_chars: int) -> Window:
    """Return the part of a text that begins at `start`, cut after a line where there is one."""
    start = min(start, len(text))
    end = min(len(text), start + max_chars)
    while end - start > 1 and (cost := _cost(text[start:end])) > ROOM:
        end = start + max(1, (end - start) * ROOM * 9 // (cost * 10))
    if end < len(text) and (cut := text.rfind("\n", start, end)) >= start + (end - start) // 2:
        end = cut + 1
    return Window(text[start:end], start, end, len(text))


def last_window(text: str, max_chars: int) -> Window:
    """Return the end of a text, from the beginning of a line where there is one."""
    start = max(0, len(text) - max_chars)
    while len(text) - start > 1 and (cost := _cost(text[start:])) > ROOM:
        start = len(text) - max(1, (len(text) - start) * ROOM * 9 // (cost * 10))
    if start > 0 and -1 < (cut := text.find("\n", start)) < start + (len(text) - start) // 2:
        start = cut + 1
    return Window(text[start:], start, len(text), len(text))


def _cost(text: str) -> int:
    """Return the most that a text takes of an answer: as JSON, or in marked lines with what is no text as escapes."""
    lines = text.split("\n")
    return max(json_size(text), sum(len(printable(line)) + 3 for line in lines))


@dataclass(frozen=True, slots=True)
class Found:
    """The lines of a text that contain something."""

    text: str
    """Each with its number."""
    total: int
    """How many lines there are in all."""
    first: int | None
    """Number of the first line shown."""
    next_line: int | None
    """Number of the next one; None when there is none."""


def search(text: str, query: str, first_line: int, max_chars: int) -> Found:
    """Return the lines that contain `query`, in any case, with their numbers, counted from 1.

    Args:
        text: What is searched.
        query: What to look for.
        first_line: Lines before this one are counted, but not shown.
        max_chars: Characters of what is shown; at least one line is.
    """
    wanted = query.casefold()
    shown: list[str] = []
    numbers: list[int] = []
    total, used, next_line = 0, 0, None
    for number, line in enumerate(text.split("\n"), 1):
        if wanted not in line.casefold():
            continue
        total += 1
        if number < first_line or next_line is not None:
            continue
        told = f"{number}: {_around(line, line.casefold().find(wanted))}"
        used += max(len(told) + 1, _cost(told))
        if shown and used > min(max_chars, ROOM):
            next_line = number
            continue
        shown.append(told)
        numbers.append(number)
    return Found("\n".join(shown), total, numbers[0] if numbers else None, next_line)


def _around(line: str, hit: int) -> str:
    if len(line) <= LINE_SHOWN:
        return line
    start = max(0, min(hit - LINE_SHOWN // 3, len(line) - LINE_SHOWN))
    end = start + LINE_SHOWN
    return ("…" if start else "") + line[start:end] + ("…" if end < len(line) else "")


def at_path(output: Json, path: str) -> Json:
    """Return the value at a path such as `rows[0].name`; a key with other signs stands as `["odd key"]`.

    Raises:
        InvalidArgumentError: It can't be read, or leads to nothing; says what there is.
    """
    value = output
    way = ""
    for step, spelled in _steps(path):
        match value, step:
            case dict(), str() if step in value:
                value = value[step]
            case list(), int() if step < len(value):
                value = value[step]
            case _:
                where = f"at {way}" if way else "at the top"
                raise InvalidArgumentError(
                    "query", path, f"a path that is there; {where} there is {shape(value)}"
                )
        way += spelled
    return value


def _steps(path: str) -> list[tuple[str | int, str]]:
    steps: list[tuple[str | int, str]] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            raise InvalidArgumentError(
                "query", path, f"a path such as {PATH_EXAMPLE}", 'odd keys: ["odd key"].'
            )
        name, index, quoted = found.groups()
        steps.append((name or (int(index) if index else str(json.loads(quoted))), found[0]))
        at = found.end()
    return steps


def shape(value: Json) -> str:
    """Return what kind of value it is, with its keys or its length."""
    match value:
        case dict():
            if not value:
                return "an empty object"
            keys = ", ".join(clip(key, 60) for key in list(value)[:KEYS_SHOWN])
            more = f" and {len(value) - KEYS_SHOWN:,} more" if len(value) > KEYS_SHOWN else ""
            return f"an object with {plural(len(value), 'key')}: {keys}{more}"
        case list():
            return f"a list of {plural(len(value), 'item')}"
        case str():
            return (
                f"a text of {plural(len(value), 'character')} in {plural(value.count(chr(10)) + 1, 'line')}"
            )
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case _:
            return f"the number {value}"


def outline(output: Json) -> Sequence[str]:
    """Return what is in an output, a line for each key of an object or for the first items of a list."""
    if isinstance(output, dict):
        inner = [(clip(key, 60), value) for key, value in list(output.items())[:KEYS_SHOWN]]
    elif isinstance(output, list):
        inner = [(f"[{index}]", value) for index, value in enumerate(output[:3])]
    else:
        return ()
    return [f"{name}: {clip(shape(value), 200)}" for name, value in inner]
