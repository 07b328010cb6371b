"""Finds the few right tools out of thousands, offline: full-text search, then a careful look at the best hundred.

May import: orchestration.{logs, models}, orchestration.systems.{tool_index_ranking, tool_index_store,
tool_index_vectors, tool_text}, stdlib.

    index = ToolIndex().build([{"server": "files", "name": "read_file", "description": "…", "input_schema": {…}}])
    for hit in index.search("show me what is in notes.txt"):
        print(hit.server, hit.name, hit.score)

SQLite's FTS5 chooses up to `CANDIDATES` tools by its BM25 over four weighted fields; `tool_index_ranking` rates those.
When too few share a word with the question, tools whose names look like its words come after them: misspellings.
An embedder, if one is passed, adds tools of the same meaning, and its cosine is blended with the score.

Every method may be called from any thread, one at a time does its work (a lock). A search takes a few milliseconds
and reads memory or a local file; on an event loop call it through a worker thread (`catalog.ToolCatalog` does).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orchestration.logs import get_logger
from orchestration.models import JsonObject
from orchestration.systems import tool_index_ranking as ranking
from orchestration.systems.tool_index_ranking import Profile, Question, Rated
from orchestration.systems.tool_index_store import StoredTool, Texts, ToolStore, in_memory, open_store
from orchestration.systems.tool_index_vectors import Embedder, Meanings
from orchestration.systems.tool_text import Stems, asked_words, clauses, trigrams

CANDIDATES = 100
"""Tools the full-text index hands on to be rated."""
MATCHED_STEMS = 64
"""Words of a question that choose candidates, the rarest; all of them rate."""
COMMON_SHARE = 0.2
"""A word that more than this share of the tools has chooses no candidates, if another word can."""
FEW_TOOLS = 200
"""Among so few tools every word may choose."""
LIKENESS = 0.4
"""Least share of a name's trigrams that a question must have where no word of it is known."""
MEANING_WEIGHT = 1.0
"""What the same meaning counts, beside a perfect score by words of 1."""

_T = TypeVar("_T")
_log = get_logger()


@dataclass(frozen=True, slots=True)
class ToolHit:
    """A tool that was found."""

    server: str
    name: str
    score: float
    """From 0 to 1: how well it fits beside the other candidates of this search; it says nothing across searches."""
    coverage: float
    """From 0 to 1: which share of what was asked, rare words counting more, the tool's own text speaks of."""
    description: str = ""
    input_schema: JsonObject | None = None

    @property
    def required(self) -> tuple[str, ...]:
        """Return the names of the arguments that must be given."""
        needed = (self.input_schema or {}).get("required")
        return tuple(name for name in needed if isinstance(name, str)) if isinstance(needed, list) else ()


class ToolIndex:
    """An index of tools by what they do.

    Args:
        path: A file of its own to keep it in; in memory when absent. Whatever is wrong with the file, the index works,
            with a log line.
        embed: Adds meaning to words (`tool_index_vectors.load_embedder`).

    Raises:
        FullTextMissingError: This Python's SQLite has no FTS5.
    """

    def __init__(self, path: Path | None = None, embed: Embedder | None = None) -> None:
        self._lock = threading.RLock()
        self._store: ToolStore = open_store(path)
        self._stems = Stems()
        self._meanings = Meanings(embed) if embed is not None else None
        self._told: dict[str, list[StoredTool]] = {}
        """What this object was told, for the case that the file fails later."""
        self._names: dict[int, frozenset[str]] | None = None
        """Trigrams of every tool's name; made when words alone find too little."""
        self._forget_derived()

    def __len__(self) -> int:
        with self._lock:
            return self._kept(lambda store: store.count())

    def close(self) -> None:
        """Let go of the file; the index can't be used any more."""
        with self._lock:
            self._store.close()
            self._stems.close()

    @property
    def path(self) -> Path | None:
        """The file it is kept in; None in memory, be it that the file could not be used."""
        return self._store.path

    # What there is

    def build(self, tools: Iterable[Mapping[str, Any]]) -> ToolIndex:
        """Index exactly these tools, and return the index; servers whose tools are as before cost next to nothing.

        Args:
            tools: Each with `server` and `name`, and perhaps `description` and `input_schema`. Of two with one name on
                one server the first counts.
        """
        by_server: dict[str, list[Mapping[str, Any]]] = {}
        for tool in tools:
            by_server.setdefault(str(tool["server"]), []).append(tool)
        with self._lock:
            known = self._kept(lambda store: store.fingerprints())
            self._told = {server: _stored(server, given) for server, given in by_server.items()}
            self._change(self._told, [server for server in known if server not in by_server])
        return self

    def update(self, server: str, tools: Iterable[Mapping[str, Any]]) -> bool:
        """Replace the tools of one server; return whether they are others than before.

        Args:
            server: Its name.
            tools: Each with `name`, and perhaps `description` and `input_schema`.
        """
        with self._lock:
            self._told[server] = _stored(server, tools)
            return self._change({server: self._told[server]}, ())

    def remove(self, server: str) -> bool:
        """Forget a server with its tools; return whether it was known."""
        with self._lock:
            self._told.pop(server, None)
            is_known = server in self._kept(lambda store: store.fingerprints())
            if is_known:
                self._change({}, [server])
            return is_known

    def servers(self) -> frozenset[str]:
        """Return the names of the servers whose tools are indexed."""
        with self._lock:
            return frozenset(self._kept(lambda store: store.fingerprints()))

    def _change(self, given: Mapping[str, Sequence[StoredTool]], gone: Sequence[str]) -> bool:
        def change(store: ToolStore) -> bool:
            known = store.fingerprints()
            marks = {server: _fingerprint(tools) for server, tools in given.items()}
            changes = [
                (server, marks[server], tools)
                for server, tools in given.items()
                if known.get(server) != marks[server]
            ]
            if changes or gone:
                store.replace(changes, gone)
                self._forget_derived()
            return bool(changes or gone)

        return self._kept(change)

    # Search

    def search(self, text: str, limit: int = 5) -> list[ToolHit]:
        """Return the tools that fit a question best, best first; equal ones by server and name.

        Args:
            text: What is looked for, in any words; no character of it has a special meaning.
            limit: Most tools to return.
        """
        asked = asked_words(text)
        if limit < 1 or not asked:
            return []
        with self._lock:
            return self._kept(lambda store: self._search(store, text, asked, limit))

    def _search(self, store: ToolStore, text: str, asked: list[str], limit: int) -> list[ToolHit]:
        question = self._question(store, text, asked)
        chosen = store.match(self._choosing(question), max(CANDIDATES, limit)) if question.rarity else []
        rated = ranking.rate(question, self._profiled(store, chosen), self._average_length(store))
        if len(rated) < limit:
            rated |= self._alike(store, question, rated)
        if self._meanings is not None:
            rated = self._blended(rated, self._meanings.similarities(text, store))
        places = self._placed(store, rated)
        order = sorted(rated, key=lambda key: (-rated[key].score, places[key]))[:limit]
        tools = store.tools(order)
        return [
            ToolHit(
                server=tools[key].server,
                name=tools[key].name,
                score=round(rated[key].score, 4),
                coverage=round(rated[key].coverage, 4),
                description=tools[key].description,
                input_schema=tools[key].input_schema,
            )
            for key in order
        ]

    def _question(self, store: ToolStore, text: str, asked: list[str]) -> Question:
        stems = list(dict.fromkeys(self._stems.of(asked)))
        total = self._total(store)
        having = {stem: self._having_stem(store, stem) for stem in stems}
        known = {stem: ranking.rarity(total, count) for stem, count in having.items() if count}
        return Question(
            rarity=known,
            unknown=(len(stems) - len(known)) * ranking.rarity(total, 0),
            clauses=[list(dict.fromkeys(self._stems.of(clause))) for clause in clauses(text)],
            trigrams=trigrams(asked),
        )

    def _choosing(self, question: Question) -> list[str]:
        """Return the words that choose candidates: every match costs time, and common ones choose nothing."""
        total = max(self._count or 0, FEW_TOOLS)
        by_rarity = sorted(question.rarity, key=lambda stem: -question.rarity[stem])[:MATCHED_STEMS]
        rare = [stem for stem in by_rarity if self._having[stem] <= COMMON_SHARE * total]
        return rare or by_rarity

    def _alike(self, store: ToolStore, question: Question, but: Mapping[int, Rated]) -> dict[int, Rated]:
        """Return tools whose names look like the question, rated below any that shares a word with it."""
        if self._names is None:
            self._names = {key: trigrams(name.split()) for key, name, _ in store.names()}
        shares = {
            key: ranking.share_of(name, question.trigrams)
            for key, name in self._names.items()
            if key not in but
        }
        lowest = min((each.score for each in but.values()), default=ranking.NAME_WEIGHT)
        return {
            key: Rated(score=lowest * share / 2, coverage=0.0)
            for key, share in shares.items()
            if share >= LIKENESS
        }

    def _blended(self, rated: Mapping[int, Rated], similar: Mapping[int, float]) -> dict[int, Rated]:
        """Return what was found by words and by meaning, rated by the sum of both on one scale."""
        best = max(similar.values(), default=0.0)
        if best <= 0:
            return dict(rated)
        near = [
            key for key in sorted(similar, key=lambda key: -similar[key])[:CANDIDATES] if similar[key] > 0
        ]
        nothing = Rated(0.0, 0.0)
        blended: dict[int, Rated] = {}
        for key in dict.fromkeys([*rated, *near]):
            by_words = rated.get(key, nothing)
            meaning = max(0.0, similar.get(key, 0.0)) / best
            score = (by_words.score + MEANING_WEIGHT * meaning) / (1 + MEANING_WEIGHT)
            blended[key] = Rated(score, by_words.coverage)
        return blended

    # What is worked out once and kept until the tools change

    def _forget_derived(self) -> None:
        self._profiles: dict[int, Profile] = {}
        self._places: dict[int, tuple[str, str]] = {}
        self._having: dict[str, int] = {}
        self._names = None
        self._count: int | None = None
        self._length: float | None = None
        if self._meanings is not None:
            self._meanings.changed()

    def _total(self, store: ToolStore) -> int:
        if self._count is None:
            self._count = store.count()
        return self._count

    def _average_length(self, store: ToolStore) -> float:
        if self._length is None:
            self._length = store.words_in_all() / max(1, self._total(store)) or 1.0
        return self._length

    def _having_stem(self, store: ToolStore, stem: str) -> int:
        if stem not in self._having:
            if len(self._having) > 100_000:
                self._having.clear()
            self._having[stem] = store.having(stem)
        return self._having[stem]

    def _placed(self, store: ToolStore, keys: Iterable[int]) -> Mapping[int, tuple[str, str]]:
        missing = [key for key in keys if key not in self._places]
        if missing:
            self._places.update(store.places(missing))
        return self._places

    def _profiled(self, store: ToolStore, keys: Sequence[int]) -> dict[int, Profile]:
        missing = [key for key in keys if key not in self._profiles]
        if missing:
            for key, texts in store.texts(missing).items():
                self._profiles[key] = self._profile(texts)
        return {key: self._profiles[key] for key in keys}

    def _profile(self, texts: Texts) -> Profile:
        weights: Counter[str] = Counter()
        fields = (
            (texts.name, ranking.NAME),
            (texts.server, ranking.SERVER),
            (texts.description, ranking.DESCRIPTION),
            (texts.parameters, ranking.PARAMETERS),
        )
        length = 0
        for field, weight in fields:
            stems = self._stems.of(field.split())
            length += len(stems)
            for stem in stems:
                weights[stem] += weight  # type: ignore[assignment]  # a Counter counts in halves, too
        return Profile(
            weights=weights,
            length=length,
            name=trigrams(texts.name.split()),
            server=trigrams(texts.server.split()),
        )

    # A file that fails

    def _kept(self, work: Callable[[ToolStore], _T]) -> _T:
        """Do something with the store; where its file fails, go on in memory with what this object was told."""
        try:
            return work(self._store)
        except sqlite3.Error as error:
            if self._store.path is None:
                raise
            _log.warning(
                "The index of tools is kept in memory only",
                operation="TOOL_INDEX_IN_MEMORY",
                path=str(self._store.path),
                reason=str(error),
            )
            self._store.close()
            self._store = in_memory()
            self._forget_derived()
            given = [(server, _fingerprint(tools), tools) for server, tools in self._told.items()]
            self._store.replace(given, ())
            return work(self._store)


def _stored(server: str, tools: Iterable[Mapping[str, Any]]) -> list[StoredTool]:
    by_name: dict[str, StoredTool] = {}
    for tool in tools:
        name, schema = str(tool["name"]), tool.get("input_schema")
        found = StoredTool(
            server=server,
            name=name,
            description=str(tool.get("description") or ""),
            input_schema=dict(schema) if isinstance(schema, Mapping) else None,
        )
        by_name.setdefault(name, found)
    return list(by_name.values())


def _fingerprint(tools: Sequence[StoredTool]) -> str:
    told = [(tool.name, tool.description, tool.input_schema) for tool in tools]
    text = json.dumps(told, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
