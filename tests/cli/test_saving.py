"""Outputs as files."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from orchestration.errors import InvalidArgumentError
from orchestration.models import Json
from server.cli.saving import save_output


def picture(data: bytes) -> dict[str, Json]:
    return {
        "type": "image",
        "mimeType": "image/png",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "data": base64.b64encode(data).decode(),
    }


def test_the_picture_in_an_output_is_saved_as_it_came(tmp_path: Path) -> None:
    (saved,) = save_output({"text": "there", "content": [picture(b"\x89PNG")]}, tmp_path / "one.png")
    assert (saved, saved.read_bytes()) == (tmp_path / "one.png", b"\x89PNG")


def test_several_get_numbers(tmp_path: Path) -> None:
    saved = save_output([picture(b"a"), picture(b"b")], tmp_path / "some.png")
    assert [path.name for path in saved] == ["some-1.png", "some-2.png"]
    assert [path.read_bytes() for path in saved] == [b"a", b"b"]


def test_without_pictures_the_whole_is_saved(tmp_path: Path) -> None:
    save_output("plain", tmp_path / "a.txt")
    save_output({"ä": 1}, tmp_path / "b.json")
    assert (tmp_path / "a.txt").read_text() == "plain"
    assert (tmp_path / "b.json").read_text(encoding="utf-8") == '{\n  "ä": 1\n}\n'


def test_nothing_is_written_over_and_nothing_by_halves(tmp_path: Path) -> None:
    (tmp_path / "some-2.png").write_bytes(b"mine")
    with pytest.raises(InvalidArgumentError, match=r"some-2\.png"):
        save_output([picture(b"a"), picture(b"b")], tmp_path / "some.png")
    assert [path.name for path in tmp_path.iterdir()] == ["some-2.png"]


def test_a_damaged_picture_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="sha256"):
        save_output({**picture(b"a"), "sha256": "0" * 64}, tmp_path / "one.png")
