"""How texts about tools are taken apart: words, stems, clauses of a question, trigrams. Nothing here knows an index.

May import: stdlib.

Only general ideas about language stand here. Identifiers are split (`getHTTPStatus2`, `get_http_status`); texts without
spaces between words (Chinese, Japanese, Korean) become overlapping pairs of characters; a list of English function
words and of polite phrases keeps `please` and `the` from deciding anything.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

MAX_QUERY_CHARS = 4_000
"""What is looked for is said at the beginning; a pasted document is not a question."""
MAX_FIELD_CHARS = 4_000
"""Read of one description, or of all parameters of one tool."""
MAX_CLAUSES = 40

_MAX_STEMS_KEPT = 50_000

_FUNCTION_WORDS = (
    "a about above after again against all also am an and any are as at be because been before being below between "
    "both but by can cannot could d did do does doing don down during each few for from further had has have having he "
    "her here hers him his how i if in into is it its itself just ll m may me might more most must my no nor not now "
    "of off on once only onto or other our ours out over own per re s same shall she should so some such t than that "
    "the their theirs them then there these they this those through to too under until up upon us ve very was we were "
    "what when where which while who whom whose why will with within without would you your yours"
)
_POLITE_WORDS = "help hello hi let like need please thank thanks want wish"
STOP_WORDS = frozenset(f"{_FUNCTION_WORDS} {_POLITE_WORDS}".split())
"""Words that say nothing about what is looked for."""

_ASCII_WORD = re.compile(r"[A-Z]{2,}s?(?![a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_WORD = re.compile(r"[^\W_]+")
_BOUNDARY = re.compile(
    r"(?<=[^\W\dA-Z_])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])"
)
_UNSPACED = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f]+"
)
"""Runs of the scripts whose words no space divides, or whose words hold much more than one."""
_CLAUSE_END = re.compile(r"[.!?;:\n—。！？；：，、]+\s*|,\s+|\s+(?:and|then|also)\s+", re.IGNORECASE)


def words(text: str, *, singles: bool = True) -> list[str]:
    """Return the words of a text in lower case, in order.

    Args:
        text: Anything, an identifier too.
        singles: Whether a character of a run without spaces also stands alone, as it does in what is searched;
            a question of several characters asks for the pairs only.
    """
    if text.isascii():
        return [word.lower() for word in _ASCII_WORD.findall(text)]
    found: list[str] = []
    for word in _WORD.findall(_BOUNDARY.sub(" ", unicodedata.normalize("NFKC", text)).lower()):
        found += _pieces(word, singles) if _UNSPACED.search(word) else [word]
    return found


def _pieces(word: str, singles: bool) -> Iterable[str]:
    """Yield a word's parts of other scripts as they are, and its runs without spaces as pairs."""
    at = 0
    for run in _UNSPACED.finditer(word):
        if run.start() > at:
            yield word[at : run.start()]
        characters = run[0]
        if singles or len(characters) == 1:
            yield from characters
        yield from (characters[i : i + 2] for i in range(len(characters) - 1))
        at = run.end()
    if at < len(word):
        yield word[at:]


def asked_words(text: str) -> list[str]:
    """Return the words of a question that say what is looked for; all of them, if none does."""
    every = words(text[:MAX_QUERY_CHARS], singles=False)
    return [word for word in every if word not in STOP_WORDS] or every


def clauses(text: str) -> list[list[str]]:
    """Return the words of each clause of a question: one sentence may ask for several tools."""
    parts = (words(part, singles=False) for part in _CLAUSE_END.split(text[:MAX_QUERY_CHARS]))
    asked = ([word for word in part if word not in STOP_WORDS] for part in parts)
    return [part for part in asked if part][:MAX_CLAUSES]


def trigrams(these: Iterable[str]) -> frozenset[str]:
    """Return all runs of three characters in words, their ends counted as a character."""
    return frozenset(
        padded[i : i + 3] for padded in (f" {word} " for word in these) for i in range(len(padded) - 2)
    )


def parameter_text(schema: object) -> str:
    """Return the names and descriptions of a tool's parameters; of a schema that is none, nothing."""
    properties: Any = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping):
        return ""
    said: list[str] = []
    for name, about in properties.items():
        said.append(str(name))
        description = about.get("description") if isinstance(about, Mapping) else None
        if isinstance(description, str):
            said.append(description)
    return " ".join(said)[:MAX_FIELD_CHARS]


class Stems:
    """Reduces words to their stems exactly as the full-text index does, by asking one; safe from any thread."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()
        self._fts = sqlite3.connect(":memory:", check_same_thread=False)
        self._fts.execute("CREATE VIRTUAL TABLE words USING fts5(word, tokenize='porter unicode61')")
        self._fts.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(words, 'instance')")

    def of(self, these: Iterable[str]) -> list[str]:
        """Return the stem of each word, in order."""
        asked = list(these)
        with self._lock:
            new = [word for word in dict.fromkeys(asked) if word not in self._known]
            if new:
                self._learn(new)
            return [self._known[word] for word in asked]

    def close(self) -> None:
        """Let go of the index."""
        with self._lock:
            self._fts.close()

    def _learn(self, new: list[str]) -> None:
        if len(self._known) + len(new) > _MAX_STEMS_KEPT:
            # What the answer to come needs is asked for again; rare enough to cost nothing.
            self._known = {word: self._known[word] for word in list(self._known)[-_MAX_STEMS_KEPT // 2 :]}
        self._fts.execute("DELETE FROM words")
        self._fts.executemany("INSERT INTO words(rowid, word) VALUES (?, ?)", enumerate(new, start=1))
        for row, term in self._fts.execute("SELECT doc, term FROM terms ORDER BY doc, offset"):
            self._known.setdefault(new[row - 1], term)
        for word in new:
            self._known.setdefault(word, word)
