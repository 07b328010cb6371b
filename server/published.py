"""Schemas as they are published: a tool's arguments and answer in as few words as a model needs.

May import: mcp types, stdlib.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from mcp_types import CallToolResult, InputRequiredResult, TextContent


def slim(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an input schema without what costs a reader tokens and says nothing.

    Titles go, lengths (what is too long is refused with the limit), and defaults that only mean "absent"; a choice
    between a type and null becomes the type, since null arguments are taken as absent. Definitions are put where they
    are used.
    """
    definitions = schema.get("$defs", {})

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return walk(definitions[node["$ref"].removeprefix("#/$defs/")])
        options = [option for option in node.get("anyOf", ()) if option != {"type": "null"}]
        if len(options) == 1:
            return walk({**{key: value for key, value in node.items() if key != "anyOf"}, **options[0]})
        kept: dict[str, Any] = {}
        for key, value in node.items():
            if key in {"title", "$defs", "maxLength", "maxItems"} or (
                key == "default" and value in (None, "")
            ):
                continue
            if key == "properties":
                kept[key] = {name: walk(property_) for name, property_ in value.items()}
            else:
                kept[key] = value if key in {"enum", "const", "required", "default"} else walk(value)
        return kept

    return {**walk(dict(schema)), "additionalProperties": False}


def outline(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an output schema as an outline: the fields and their types; of records inside them not even that.

    What a field means is in the tool's description or in the documentation; a model needs neither to read an answer.
    Fields marked `unlisted` are left out: answers have them where they say something, and they explain themselves.
    """
    slimmed = slim(schema)
    properties = {
        name: _kind(property_)
        for name, property_ in slimmed["properties"].items()
        if not property_.get("unlisted")
    }
    return {"type": "object", "properties": properties, "required": slimmed["required"]}


def _kind(schema: Mapping[str, Any]) -> dict[str, Any]:
    kind = {key: schema[key] for key in ("type", "enum") if key in schema}
    if schema.get("items", {}).get("type", "object") != "object":
        kind["items"] = {"type": schema["items"]["type"]}
    return kind


def only_known(
    result: CallToolResult | InputRequiredResult, tools: Container[str]
) -> CallToolResult | InputRequiredResult:
    """Return an answer without the next calls of tools that this server has not.

    Args:
        result: What a tool answered.
        tools: Names of those there are.
    """
    if not isinstance(result, CallToolResult) or result.structured_content is None:
        return result
    following = result.structured_content.get("next", [])
    left_out = {call["tool"] for call in following} - {
        call["tool"] for call in following if call["tool"] in tools
    }
    if not left_out:
        return result
    starts = tuple(f"next: {tool}(" for tool in left_out)
    return result.model_copy(
        update={
            "content": [
                TextContent(
                    type="text",
                    text="\n".join(line for line in each.text.split("\n") if not line.startswith(starts)),
                )
                if isinstance(each, TextContent)
                else each
                for each in result.content
            ],
            "structured_content": {
                **result.structured_content,
                "next": [call for call in following if call["tool"] not in left_out],
            },
        }
    )
