"""Schemas as they are published: a tool's arguments and answer in as few words as a model needs.

May import: stdlib.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def slim(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an input schema without what costs a reader tokens and says nothing.

    Titles go, and defaults that only mean "absent"; a choice between a type and null becomes the type, since null
    arguments are taken as absent. Definitions are put where they are used.
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
            if key in {"title", "$defs"} or (key == "default" and value in (None, "")):
                continue
            if key == "properties":
                kept[key] = {name: walk(property_) for name, property_ in value.items()}
            else:
                kept[key] = value if key in {"enum", "const", "required", "default"} else walk(value)
        return kept

    return {**walk(dict(schema)), "additionalProperties": False}


def outline(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an output schema as an outline: the fields and their types, records inside them without theirs.

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
    if "items" in schema:
        kind["items"] = {"type": schema["items"]["type"]}
    return kind
