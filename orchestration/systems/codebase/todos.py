"""What people left for later: comments that open with TODO, FIXME, XXX or HACK.

May import: orchestration.models, orchestration.systems.codebase.{files, inventory}, stdlib.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator

from orchestration.models import JsonObject
from orchestration.systems.codebase.files import SourceFile, check_top, count, open_tree, result
from orchestration.systems.codebase.inventory import language_of

_MARKED = re.compile(r"(?:#|//|/\*|<!--|--|;|%)\s*(TODO|FIXME|XXX|HACK)\b(?:\([^)]*\))?\s*:?\s*(.{0,200})")
_NO_COMMENTS = frozenset({"JSON", "Markdown", "reStructuredText"})


def open_todos(path: str, top: int = 50) -> JsonObject:
    """List comments that open with TODO, FIXME, XXX or HACK.

    In Python only real comments count, not text that mentions the words.

    Args:
        path: Folder of the source tree.
        top: How many to list.

    Raises:
        ValueError: `path` is not a folder.
    """
    check_top(top)
    tree = open_tree(path)
    found: list[dict[str, str | int]] = []
    for file in tree.files:
        language = language_of(file)
        if language is None or language in _NO_COMMENTS:
            continue
        for line, comment in _comments(file, is_python=language == "Python"):
            match = _MARKED.search(comment)
            if match:
                text = match[2].strip().removesuffix("*/").removesuffix("-->").strip()
                found.append({"path": file.name, "line": line, "marker": match[1], "text": text})
    markers = Counter(str(entry["marker"]) for entry in found)
    parts = ", ".join(f"{number:,} {marker}" for marker, number in sorted(markers.items()))
    summary = (
        f"{count(len(found), 'open note')}: {parts}." if found else "Nothing is marked as left for later."
    )
    return result(
        "open_todos",
        summary,
        tree,
        total_todos=len(found),
        by_marker=dict(sorted(markers.items())),
        todos=found[:top],
    )


def _comments(file: SourceFile, *, is_python: bool) -> Iterator[tuple[int, str]]:
    """Yield line numbers with what may be a comment: Python's comment tokens, else every whole line."""
    text = file.read_text()
    if text is None:
        return
    if is_python and _MARKED.search(text):  # tokenizing is slow, and most files have no mark at all
        try:
            tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        except (tokenize.TokenError, SyntaxError, ValueError):
            tokens = []
        if tokens:
            yield from ((token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT)
            return
    yield from enumerate(text.splitlines(), start=1)
