"""Meaning beside words: sentence vectors of tools and of what is looked for, where a model is at hand.

May import: orchestration.{logs}, orchestration.systems.tool_index_store, model2vec and numpy (late, optional), stdlib.

Whoever embeds is passed in; `load_embedder` makes one of a model2vec model in a folder of this machine. Nothing is ever
downloaded. Vectors are kept by the hash of their text and the embedder's name, so a text is embedded once. An embedder
that fails is done without until the tools change; the words still find.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from orchestration.logs import get_logger
from orchestration.systems.tool_index_store import ToolStore

MAX_TEXT_CHARS = 600
"""Embedded of one tool: what it is for is said at the beginning."""
BATCH = 256

_log = get_logger()


class Embedder(Protocol):
    """Turns texts into vectors."""

    name: str
    """Of the model; vectors of another name are never mixed in."""

    def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return one vector per text, all of one length; may take its time, and is called from any thread."""
        ...


class Model2VecEmbedder:
    """A static model of `model2vec`: a table of words, small and fast without a GPU.

    Args:
        model: A loaded `StaticModel`.
        name: What its vectors are kept under.
    """

    def __init__(self, model: Any, name: str) -> None:
        self._model = model
        self.name = name

    def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return one vector per text."""
        vectors: list[list[float]] = self._model.encode(list(texts)).tolist()
        return vectors


def load_embedder(folder: Path) -> Embedder | None:
    """Load a model2vec model from a folder; None where the extra is not installed or the folder holds none.

    Args:
        folder: With the model's files, as `StaticModel.save_pretrained` writes them.
    """
    try:
        model2vec = importlib.import_module("model2vec")
    except ImportError:
        return None
    if not folder.is_dir():
        # A name would be looked up on the network.
        _log.warning(
            "There is no sentence model in this folder", operation="TOOL_MODEL_MISSING", path=str(folder)
        )
        return None
    try:
        model = model2vec.StaticModel.from_pretrained(str(folder))
    except Exception as exc:  # noqa: BLE001  (a model that can't be read is as good as none)
        _log.warning(
            "The sentence model can't be read",
            operation="TOOL_MODEL_UNREADABLE",
            path=str(folder),
            reason=str(exc),
        )
        return None
    return Model2VecEmbedder(model, f"model2vec:{_stamp(folder)}")


def _stamp(folder: Path) -> str:
    """Return what changes when the model does: names and sizes of its files."""
    files = sorted((file.name, file.stat().st_size) for file in folder.iterdir() if file.is_file())
    return hashlib.sha256(repr((folder.name, files)).encode()).hexdigest()[:16]


class Meanings:
    """The vectors of all tools of an index, made when they are first needed.

    Args:
        embedder: Makes vectors.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._rows: list[int] | None = None
        self._vectors: list[array[float]] = []
        self._matrix: Any = None
        self._failed = False

    def changed(self) -> None:
        """Say that the tools are others now."""
        self._rows, self._failed = None, False

    def similarities(self, text: str, store: ToolStore) -> Mapping[int, float]:
        """Return the cosine between a text and each tool; empty where the embedder fails."""
        if self._failed:
            return {}
        try:
            if self._rows is None:
                self._load(store)
            (asked,) = self._embed([text])
            return self._cosines(asked)
        except Exception as exc:  # noqa: BLE001  (an embedder is anybody's code; words find without it)
            self._failed, self._rows = True, None
            _log.warning(
                "Tools are found by words alone",
                operation="TOOL_EMBEDDER_FAILED",
                embedder=self._embedder.name,
                reason=f"{type(exc).__name__}: {exc}",
            )
            return {}

    def _load(self, store: ToolStore) -> None:
        told = {key: f"{name}: {description}"[:MAX_TEXT_CHARS] for key, name, description in store.every()}
        hashes = {key: self._hash(text) for key, text in told.items()}
        kept = store.vectors(list(dict.fromkeys(hashes.values())))
        missing = {hashes[key]: text for key, text in told.items() if hashes[key] not in kept}
        names = list(missing)
        for begin in range(0, len(names), BATCH):
            part = names[begin : begin + BATCH]
            made = self._embed([missing[name] for name in part])
            fresh = [(name, vector.tobytes()) for name, vector in zip(part, made, strict=True)]
            store.keep_vectors(fresh)
            kept.update(fresh)
        rows = list(told)
        self._vectors = [array("f", kept[hashes[key]]) for key in rows]
        if len({len(vector) for vector in self._vectors}) > 1:
            raise ValueError("the vectors have several lengths")
        self._matrix = _matrix(self._vectors)
        self._rows = rows

    def _hash(self, text: str) -> str:
        whole = f"{self._embedder.name}\n{text}".encode("utf-8", "surrogatepass")
        return hashlib.sha256(whole).hexdigest()

    def _embed(self, texts: list[str]) -> list[array[float]]:
        """Return vectors of length 1; a vector of zeros stays as it is."""
        made = [array("f", vector) for vector in self._embedder.embed(texts)]
        if len(made) != len(texts) or not all(made):
            raise ValueError(f"{len(made)} vectors came for {len(texts)} texts")
        return [_unit(vector) for vector in made]

    def _cosines(self, asked: array[float]) -> dict[int, float]:
        assert self._rows is not None
        if self._vectors and len(asked) != len(self._vectors[0]):
            raise ValueError(f"a vector of {len(asked)} numbers came, and tools have {len(self._vectors[0])}")
        if self._matrix is not None:
            numpy = importlib.import_module("numpy")
            return dict(zip(self._rows, (self._matrix @ numpy.asarray(asked)).tolist(), strict=True))
        return {
            key: sum(map(float.__mul__, vector, asked))
            for key, vector in zip(self._rows, self._vectors, strict=True)
        }


def _unit(vector: array[float]) -> array[float]:
    length = math.sqrt(sum(number * number for number in vector))
    if not math.isfinite(length):
        raise ValueError("a vector holds what is no number")
    return array("f", (number / length for number in vector)) if length else vector


def _matrix(vectors: list[array[float]]) -> Any:
    """Return the vectors as one matrix where numpy is there, which the extra brings; else None, and it is slower."""
    try:
        numpy = importlib.import_module("numpy")
    except ImportError:
        return None
    return numpy.asarray(vectors, dtype="float32") if vectors else None
