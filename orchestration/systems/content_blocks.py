"""Content that is no text (images, audio, files) as values: how an output holds it, and how it is shown without it.

May import: orchestration.models, stdlib.

A block is an object with `type`, and where it holds data: `mimeType`, `size` and `sha256` of the bytes, and either
`data` (the bytes in base64) or `text`. A large output is stored outside the journal by its hash anyway, so a picture is
a value like any other. Nobody wants to read one: whatever shows outputs to people or language models shows
`without_data` of them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

from orchestration.models import Json, JsonObject

SHOWN_TEXT_CHARS = 200
"""A block's text up to this length is shown; a longer one only counted."""

SHOWN_HASH_CHARS = 12


def data_block(
    kind: str, encoded: str, *, mime_type: str | None = None, uri: str | None = None
) -> JsonObject:
    """Return the block of bytes that came in base64; what is none is told and left out.

    Args:
        kind: `image`, `audio`, `resource`.
        encoded: The bytes in base64.
        mime_type: What they are.
        uri: Where they are from.
    """
    block = _head(kind, mime_type, uri)
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return {**block, "size": len(encoded), "problem": "its data is not base64, and was left out"}
    return {**block, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "data": encoded}


def text_block(kind: str, text: str, *, mime_type: str | None = None, uri: str | None = None) -> JsonObject:
    """Return the block of a text that is told apart from the answer's own: an embedded document."""
    data = text.encode("utf-8", "surrogatepass")
    block = _head(kind, mime_type, uri)
    return {**block, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "text": text}


def is_block(value: object) -> bool:
    """Whether a value is a block that holds data."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("type"), str)
        and isinstance(value.get("size"), int)
        and isinstance(value.get("sha256"), str)
        and (isinstance(value.get("data"), str) or isinstance(value.get("text"), str))
    )


def bytes_of(block: Mapping[str, Any]) -> bytes:
    """Return what a block holds, for saving it.

    Raises:
        ValueError: It holds nothing, or not what its hash says.
    """
    encoded, text = block.get("data"), block.get("text")
    if isinstance(encoded, str):
        data = base64.b64decode(encoded, validate=True)
    elif isinstance(text, str):
        data = text.encode("utf-8", "surrogatepass")
    else:
        raise ValueError("the block holds no data")
    if hashlib.sha256(data).hexdigest() != block.get("sha256"):
        raise ValueError("the block's data is not what its sha256 says")
    return data


def blocks_in(value: Json) -> list[JsonObject]:
    """Return every block inside a value, in order."""
    if isinstance(value, dict):
        if is_block(value):
            return [value]
        return [block for item in value.values() for block in blocks_in(item)]
    if isinstance(value, list):
        return [block for item in value for block in blocks_in(item)]
    return []


def without_data(value: Json) -> Json:
    """Return a value with each block told in one line; a value without blocks as it is."""
    if isinstance(value, dict):
        if is_block(value):
            return told(value)
        return {key: without_data(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_data(item) for item in value]
    return value


def told(block: Mapping[str, Any]) -> str:
    """Return a block in one line: `[image image/png, 5 bytes, sha256 2cf24dba5fb0]`."""
    size = block["size"]
    parts = [" ".join(_line(block[key]) for key in ("type", "mimeType") if block.get(key))]
    if block.get("uri"):
        parts.append(_line(block["uri"]))
    parts += [f"{size:,} byte{'' if size == 1 else 's'}", f"sha256 {block['sha256'][:SHOWN_HASH_CHARS]}"]
    text = block.get("text")
    shown = f": {_line(text)}" if isinstance(text, str) and 0 < len(text) <= SHOWN_TEXT_CHARS else ""
    return f"[{', '.join(parts)}{shown}]"


def _head(kind: str, mime_type: str | None, uri: str | None) -> JsonObject:
    block: JsonObject = {"type": kind}
    if mime_type is not None:
        block["mimeType"] = mime_type
    if uri is not None:
        block["uri"] = uri
    return block


def _line(text: object) -> str:
    """Return text as part of one line, cut to what a line can take."""
    return " ".join(str(text)[: SHOWN_TEXT_CHARS * 2].split())
