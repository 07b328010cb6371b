"""How an answer is told: one sentence, its lines, what to do next; bounded, and cut only between lines.

May import: orchestration.{errors, models, plain_text}, server.schemas, mcp types, stdlib.

A client's context is precious: an answer nobody asked to be long has at most 1,500 characters, none has more than
8,000, text and structured content alike. What does not fit is counted, and a handle says where the rest is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from mcp_types import CallToolResult, TextContent

from orchestration.models import Json
from orchestration.plain_text import printable_line
from server.schemas import Answer

SHORT = 1_500
"""Characters of an answer that was not asked to be long."""
LONG = 8_000
"""Characters no answer exceeds."""
LIST_BUDGET = 5_500
"""Characters of JSON one list in the structured content may take, so that the whole stays below `LONG`."""
SENTENCE = 300
"""Characters of the first sentence, and of any one line that quotes someone."""

DEEP = 50
"""Lists and objects inside each other that an answer has as they are; clients give up on JSON at 200."""

_T = TypeVar("_T")


def printable(line: str) -> str:
    """Return a line in which control characters are told as escapes: what tasks and callers wrote stays data."""
    return printable_line(line)


def clip(text: str, limit: int = SENTENCE) -> str:
    """Return `text` on one line and in at most `limit` characters, with an ellipsis where something is missing."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def middle_cut(text: str, limit: int) -> str:
    """Return a text in at most `limit` characters: its beginning and its end, with a line between that counts."""
    if len(text) <= limit:
        return text
    half = limit // 2 - 20
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters …\n{text[-half:]}"


def cut_lines(lines: Sequence[str], room: int, rest: str) -> list[str]:
    """Return as many whole lines as fit into `room` characters, and then a line that counts the others.

    Args:
        lines: What there is to say; each is shown whole or not at all.
        room: Characters there are, line ends included.
        rest: Where the lines left out can be read; empty when nowhere.
    """
    if sum(len(line) + 1 for line in lines) <= room:
        return list(lines)
    where = f": {rest}" if rest else ""
    last = f"… {len(lines)} more lines{where}"
    kept: list[str] = []
    room -= len(last) + 1
    for line in lines:
        if len(line) + 1 > room:
            break
        room -= len(line) + 1
        kept.append(line)
    left = len(lines) - len(kept)
    return [*kept, f"… {left} more line{'s' if left != 1 else ''}{where}"]


def take(items: Iterable[_T], size: Callable[[_T], int], budget: int = LIST_BUDGET) -> list[_T]:
    """Return the first items whose sizes add up to at most `budget`."""
    taken: list[_T] = []
    for item in items:
        budget -= size(item)
        if budget < 0:
            break
        taken.append(item)
    return taken


def json_size(value: Any) -> int:
    """Return how many characters a value, or a record without its absent fields, takes as JSON, with a separator."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json", exclude_none=True)
    return len(json.dumps(value, ensure_ascii=False)) + 2


def tell(answer: Answer, lines: Sequence[str] = (), *, limit: int = SHORT, rest: str = "") -> CallToolResult:
    """Return an answer as the result of a tool call.

    Args:
        answer: The structured content; its message is the first line and its `next` the last ones.
        lines: What stands between.
        limit: Characters of the text.
        rest: Where lines that do not fit can be read.
    """
    answer.message = clip(answer.message)
    following = [printable(f"next: {call}") for call in answer.next]
    room = limit - len(answer.message) - sum(len(line) + 1 for line in following) - 1
    shown = cut_lines([printable(line) for line in lines], room, rest)
    text = "\n".join([answer.message, *shown, *following])
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        structured_content=answer.model_dump(mode="json", exclude_none=True),
    )


def counts_line(counts: Mapping[str, int]) -> str:
    """Return counts per status as one line."""
    return "counts: " + (", ".join(f"{status} {count}" for status, count in counts.items()) or "no tasks")


def seconds(value: float) -> str:
    """Return a duration for people."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    if value < 360_000:
        return f"{value / 3600:.1f} h"
    return f"{value / 86_400:.3g} days"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def preview(value: Json, limit: int) -> tuple[Json, bool]:
    """Return a value, or its first part as text, cut at a line where there is one; and whether it is whole.

    Args:
        value: An output.
        limit: Characters of it as JSON; up to twice as many where a part of it needs many escapes.
    """
    if json_size(value) <= limit and not _is_deep(value):
        return value, True
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
    head = text[:limit]
    while json_size(head) > 2 * limit:
        head = head[: len(head) // 2]
    cut = head.rfind("\n")
    # Lines count only where they keep most of what there is room for.
    return (head[:cut] if cut > limit // 2 else head) + "…", False


def _is_deep(value: Json) -> bool:
    level: list[Json] = [value]
    for _ in range(DEEP):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


def as_text(value: Json) -> str:
    """Return a value as it is shown to people: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
