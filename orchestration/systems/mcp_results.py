"""What a tool's answer becomes as an output.

May import: orchestration.models, orchestration.systems.content_blocks, stdlib.

* Structured content is the output as it is; the text beside it only repeats it.
* Text alone is the output as a string.
* Images, audio and embedded resources are kept as values (`content_blocks.py`), and links as they are told, in
  `{"text": …, "content": […]}`; with structured content in `{"structured": …, "content": […]}`.
"""

from __future__ import annotations

from typing import Any

from orchestration.models import Json, JsonObject
from orchestration.systems.content_blocks import data_block, text_block


def joined_text(content: list[Any]) -> str:
    """Return the text of an answer, its blocks on lines of their own."""
    return "\n".join(block.text for block in content if block.type == "text")


def output_of(result: Any) -> object:
    """Return a tool result's value."""
    others: list[Json] = [_block(block) for block in result.content if block.type != "text"]
    if result.structured_content is not None:
        if not others:
            return result.structured_content
        return {"structured": result.structured_content, "content": others}
    text = joined_text(result.content)
    return {"text": text, "content": others} if others else text


def _block(block: Any) -> JsonObject:
    """Return content that is no text."""
    if block.type in ("image", "audio"):
        return data_block(block.type, block.data, mime_type=block.mime_type)
    if block.type == "resource":
        resource = block.resource
        mime_type, uri = resource.mime_type, str(resource.uri)
        encoded = getattr(resource, "blob", None)
        if encoded is not None:
            return data_block("resource", encoded, mime_type=mime_type, uri=uri)
        return text_block("resource", resource.text, mime_type=mime_type, uri=uri)
    told: JsonObject = block.model_dump(mode="json", by_alias=True, exclude_none=True)
    return told
