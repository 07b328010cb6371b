"""Content that is no text, kept and shown."""

from __future__ import annotations

import hashlib

import pytest

from orchestration.models import Json
from orchestration.systems.content_blocks import blocks_in, bytes_of, data_block, text_block, without_data


def test_blocks_are_told_in_one_line_wherever_they_stand() -> None:
    """Everything else stays as it is."""
    value: Json = {
        "text": "see",
        "content": [data_block("image", "aGVsbG8=", mime_type="image/png"), 5, {"type": "link", "size": 3}],
        "doc": text_block("resource", "a\nb\x1b", mime_type="text/plain", uri="file:///a"),
    }

    digest = hashlib.sha256(b"a\nb\x1b").hexdigest()[:12]
    assert without_data(value) == {
        "text": "see",
        "content": ["[image image/png, 5 bytes, sha256 2cf24dba5fb0]", 5, {"type": "link", "size": 3}],
        "doc": f"[resource text/plain, file:///a, 4 bytes, sha256 {digest}: a b\x1b]",
    }
    assert len(blocks_in(value)) == 2


def test_a_block_gives_back_its_bytes() -> None:
    """As long as they are those it was made of."""
    image, text = data_block("image", "aGVsbG8="), text_block("resource", "hé")

    assert (bytes_of(image), bytes_of(text)) == (b"hello", "hé".encode())
    with pytest.raises(ValueError, match="not what its sha256 says"):
        bytes_of({**image, "data": "aGVsbG9v"})
    with pytest.raises(ValueError, match="holds no data"):
        bytes_of({"type": "image"})
