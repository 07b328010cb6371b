"""Meaning beside words: an embedder that is passed in adds what shares no word."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from orchestration.systems.tool_index import ToolIndex
from orchestration.systems.tool_index_vectors import load_embedder
from tests.systems.test_tool_index import TOOLS, tool

MEANINGS = ({"mail", "message", "send", "telegram"}, {"weather", "forecast", "rain", "umbrella"}, {"file"})


class Embedder:
    """Knows three meanings, and counts what it is asked."""

    name = "three-meanings"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        self.asked += texts
        return [
            [float(any(word in text.lower() for word in meaning)) for meaning in MEANINGS] for text in texts
        ]


def test_what_shares_no_word_is_found_by_meaning() -> None:
    """And what shares words still is."""
    index = ToolIndex(embed=Embedder()).build(TOOLS)

    assert [hit.name for hit in index.search("take an umbrella?")] == ["getForecast"]
    assert [hit.name for hit in index.search("read text file", limit=1)] == ["read_text_file"]


def test_words_and_meaning_are_blended_by_score() -> None:
    """The best in both beats the best in either."""
    tools = [
        tool("a", "words_only", "Handle the parcel label."),
        tool("b", "meaning_only", "Send mail."),
        tool("c", "both", "Send the parcel label."),
    ]
    index = ToolIndex(embed=Embedder()).build(tools)

    found = index.search("telegram parcel label")

    assert found[0].name == "both"
    assert {hit.name for hit in found} == {"both", "words_only", "meaning_only"}


def test_a_text_is_embedded_once(tmp_path: Path) -> None:
    """Vectors are kept by the hash of their text, across processes and changes."""
    path, first, second = tmp_path / "tools.db", Embedder(), Embedder()
    index = ToolIndex(path, first).build(TOOLS)
    index.search("umbrella")
    index.update("mail", [tool("mail", "post", "Post a letter.")])
    index.search("umbrella")
    index.close()

    again = ToolIndex(path, second)
    again.search("umbrella")
    again.close()

    assert len(first.asked) == len(TOOLS) + 1 + 2  # the tools, the changed one, two questions
    assert second.asked == ["umbrella"]


class _Broken(Embedder):
    def __init__(self, answer: object) -> None:
        super().__init__()
        self._answer = answer

    def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        self.asked += texts
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer  # type: ignore[return-value]


@pytest.mark.parametrize(
    "answer",
    [OSError("gone"), [], [[1.0]], [[float("nan")]] * 8, [[1.0]] * 7 + [[1.0, 2.0]], "x" * 8, [[]] * 8],
)
def test_an_embedder_that_fails_is_done_without(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    """Words find as before; it is asked again when the tools change."""
    broken = _Broken(answer)
    index = ToolIndex(embed=broken).build(TOOLS)

    with caplog.at_level(logging.WARNING, "advanced_task_orchestration"):
        found = [index.search("read a text file")[0].name for _ in range(3)]

    assert found == ["read_text_file"] * 3
    assert len(broken.asked) <= len(TOOLS) + 1
    assert caplog.text.count("found by words alone") == 1


def test_the_extra_is_silently_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody has to install it, and nobody is told to."""
    monkeypatch.setitem(sys.modules, "model2vec", None)

    assert load_embedder(tmp_path) is None


def test_a_model_comes_from_a_folder_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A name would be looked up on the network; a folder without a model is told in the log."""
    asked: list[str] = []

    class StaticModel:
        @classmethod
        def from_pretrained(cls, path: str) -> StaticModel:
            asked.append(path)
            if not (Path(path) / "model.safetensors").exists():
                raise FileNotFoundError(path)
            return cls()

        def encode(self, texts: list[str]) -> SimpleNamespace:
            return SimpleNamespace(tolist=lambda: [[float(len(text)), 1.0] for text in texts])

    module = ModuleType("model2vec")
    module.StaticModel = StaticModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "model2vec", module)
    (tmp_path / "model").mkdir()

    with caplog.at_level(logging.WARNING, "advanced_task_orchestration"):
        assert load_embedder(tmp_path / "someone" / "model") is None
        assert load_embedder(tmp_path / "model") is None
    (tmp_path / "model" / "model.safetensors").write_bytes(b"x")
    embedder = load_embedder(tmp_path / "model")

    assert asked == [str(tmp_path / "model")] * 2
    assert "There is no sentence model" in caplog.text
    assert "can't be read" in caplog.text
    assert embedder is not None
    assert embedder.embed(["abc"]) == [[3.0, 1.0]]
    assert embedder.name.startswith("model2vec:")
