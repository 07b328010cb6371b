"""Which playbook fits a goal: full-text search over their example goals, and a measure of how well one fits.

May import: orchestration.planning.playbook_model, stdlib.

SQLite's full-text index (FTS5, in memory) finds and ranks example goals that share words with the goal. Its rank
(bm25) compares candidates but says nothing in itself, least of all among a handful of playbooks; so how well one
fits is measured on a scale of its own, from 0 to 1: how much of the example's words the goal says near its
beginning, and how much of that beginning the playbook has words for. The first word of substance of either must
be in the other: "write tests for a web application" is no goal to build one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from orchestration.planning.playbook_model import Playbook

FIT_THRESHOLD = 0.7
"""Least fit with which a playbook is used; measured by `tests/planning/test_playbook_search.py`."""

KNOWN_SHARE = 0.4
"""How much of the fit depends on the goal's own words: a goal may say much about what no playbook knows."""

MAX_GOAL_CHARS = 2000
"""What a goal is about is said at its beginning."""

_MAX_CANDIDATES = 50

_STOP_WORDS = (
    "a about an and any are as at be by can could d do does for from give goal have help hey hi how i in into is it "
    "its let like lets ll m me my need new now of on one or our out please re s so some somebody something someone "
    "task that the their them then there this to up us using ve via want we what when where which who will with "
    "would you your"
)
"""Words that say nothing about what is wanted."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a playbook fits a goal."""

    playbook: Playbook
    score: float
    """From 0 to 1."""
    example: str
    """The example goal that fits best."""

    @property
    def is_enough(self) -> bool:
        """Whether the playbook may be used for the goal."""
        return self.score >= FIT_THRESHOLD


def find_playbooks(goal: str, playbooks: Iterable[Playbook]) -> list[Fit]:
    """Return the playbooks that share words with a goal, best first; ties in the order of the full-text rank."""
    with closing(sqlite3.connect(":memory:")) as index:
        words = _Words(index)
        described = {playbook.name: _described(playbook, words) for playbook in playbooks}
        return _ranked(_words_of(goal[:MAX_GOAL_CHARS], words), goal, described, index, words)


@dataclass(frozen=True, slots=True)
class _Described:
    """A playbook in words."""

    playbook: Playbook
    same: Mapping[str, str]
    """Word → the one used in its place."""
    vocabulary: frozenset[str]
    unless: frozenset[str]

    def plain(self, words: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(self.same.get(word, word) for word in words))


class _Words:
    """Splits a text into stems as the full-text index does, by asking it."""

    def __init__(self, index: sqlite3.Connection) -> None:
        self._index = index
        for table in ("goals", "scratch"):
            index.execute(f"CREATE VIRTUAL TABLE {table} USING fts5(text, tokenize = 'porter unicode61')")
        index.execute("CREATE VIRTUAL TABLE stems USING fts5vocab(scratch, instance)")
        self.stop_words = frozenset(self.of(_STOP_WORDS))

    def of(self, text: str) -> list[str]:
        """Return the stems of a text, in order."""
        self._index.execute("DELETE FROM scratch")
        self._index.execute("INSERT INTO scratch (text) VALUES (?)", (text,))
        return [row[0] for row in self._index.execute('SELECT term FROM stems ORDER BY "offset"')]


def _words_of(text: str, words: _Words) -> list[str]:
    """Return the stems of a text that say something."""
    return [word for word in words.of(text) if word not in words.stop_words]


def _described(playbook: Playbook, words: _Words) -> _Described:
    same = {
        stem: chosen
        for word, others in playbook.words.items()
        for chosen in words.of(word)[:1]
        for other in others
        for stem in words.of(other)[:1]
    }
    told = [playbook.title, playbook.description, *playbook.goals, *playbook.words]
    vocabulary = frozenset(same.get(stem, stem) for stem in _words_of("\n".join(told), words))
    return _Described(playbook, same, vocabulary, frozenset(words.of("\n".join(playbook.unless))))


def _ranked(
    said: Sequence[str],
    goal: str,
    described: Mapping[str, _Described],
    index: sqlite3.Connection,
    words: _Words,
) -> list[Fit]:
    rows = [
        (" ".join(playbook.plain(_words_of(example, words))), example, name)
        for name, playbook in described.items()
        for example in playbook.playbook.goals
    ]
    index.executemany(
        "INSERT INTO goals (rowid, text) VALUES (?, ?)", [(n, row[0]) for n, row in enumerate(rows)]
    )
    best: dict[str, Fit] = {}
    spoken = set(words.of(goal[:MAX_GOAL_CHARS]))
    for number in _candidates({word for each in described.values() for word in each.plain(said)}, index):
        example_words, example, name = rows[number]
        about = described[name]
        score = (
            0.0
            if about.unless & spoken
            else _score(about.plain(said), example_words.split(), about.vocabulary)
        )
        if name not in best or score > best[name].score:
            best[name] = Fit(about.playbook, round(score, 3), example)
    return sorted(best.values(), key=lambda fit: -fit.score)


def _candidates(wanted: Iterable[str], index: sqlite3.Connection) -> list[int]:
    """Return the rows that share a word, best rank first."""
    query = " OR ".join(f'"{word}"' for word in sorted(wanted))
    if not query:
        return []
    found = index.execute(
        "SELECT rowid FROM goals WHERE goals MATCH ? ORDER BY bm25(goals), rowid LIMIT ?",
        (query, _MAX_CANDIDATES),
    )
    return [row[0] for row in found]


def _score(said: Sequence[str], example: Sequence[str], vocabulary: frozenset[str]) -> float:
    """Return how well an example goal fits what was said, both as plain words in order."""
    beginning = said[: 2 * len(example) + 4]
    if not said or not example or said[0] not in example or example[0] not in beginning:
        return 0.0
    share = sum(word in beginning for word in example) / len(example)
    known = sum(word in vocabulary for word in beginning) / len(beginning)
    return share * (1 - KNOWN_SHARE + KNOWN_SHARE * known)
