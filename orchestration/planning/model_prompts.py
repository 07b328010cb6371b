"""What a model is told: the prompt files with their versions, the data beside them, and the shape of the answer.

May import: orchestration.{models, options, ports, planning.fitting, planning.proposal}, stdlib.

Instructions come from the files and hold nothing of a request but numbers. Everything else (goal, context, names and
descriptions of tools, earlier answers) goes as one JSON object between `<data>` and `</data>`, in which no `<` is left,
so that nothing of it can close the bracket.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from orchestration.models import Json
from orchestration.planning.fitting import fitting_tools
from orchestration.planning.proposal import SystemTools

FOLDER = Path(__file__).with_name("prompts")

MAX_TOOLS = 24
"""Told of all systems together; with more, those that fit best what is planned for."""
MAX_DESCRIPTION_CHARS = 240
MAX_PARAMETERS = 20
MAX_VALUE_CHARS = 2_000
"""Of one text inside the data that a planner may be sent: a context may hold whole documents."""
MAX_DATA_CHARS = 60_000
"""Of the whole context: what is longer is cut harder, until only its keys are left."""
_MAX_ITEMS = 50


@dataclass(frozen=True, slots=True)
class PromptFile:
    """One prompt of the project."""

    name: str
    version: int
    text: str

    def filled(self, **numbers: int) -> str:
        """Return the text with its numbers."""
        return Template(self.text).substitute({key: str(value) for key, value in numbers.items()})


@cache
def load_prompt(name: str) -> PromptFile:
    """Read `prompts/NAME.md`: front matter with its version, then the text."""
    _, head, text = (FOLDER / f"{name}.md").read_text(encoding="utf-8").split("---\n", 2)
    found = re.search(r"^version: (\d+)$", head, re.MULTILINE)
    assert found is not None, f"prompt {name} has no version"
    return PromptFile(name, int(found[1]), text.strip())


def data_block(data: Mapping[str, Any]) -> str:
    """Return data as the model gets it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str)
    return "<data>\n" + text.replace("<", "\\u003c") + "\n</data>"


def bounded_data(value: Json, *, limit: int = MAX_DATA_CHARS) -> Json:
    """Return a value cut to what a prompt can hold: long texts and lists are shortened and say so."""
    for chars, items in ((MAX_VALUE_CHARS, _MAX_ITEMS), (200, 10), (40, 3)):
        cut = _cut(value, chars, items, depth=8)
        if len(json.dumps(cut, ensure_ascii=False)) <= limit:
            return cut
    return [*sorted(value)[:_MAX_ITEMS]] if isinstance(value, dict) else "…"


def _cut(value: Json, chars: int, items: int, depth: int) -> Json:
    if isinstance(value, str):
        return value if len(value) <= chars else f"{value[:chars]}… ({len(value):,} characters)"
    if isinstance(value, (dict, list)) and depth == 0:
        return "…"
    if isinstance(value, list):
        kept: list[Json] = [_cut(item, chars, items, depth - 1) for item in value[:items]]
        return [*kept, f"… ({len(value):,} items)"] if len(value) > items else kept
    if isinstance(value, dict):
        cut: dict[str, Json] = {
            key: _cut(item, chars, items, depth - 1) for key, item in list(value.items())[:items]
        }
        return {**cut, "…": f"{len(value):,} keys"} if len(value) > items else cut
    return value


def told_systems(systems: Sequence[SystemTools], goal: str) -> list[dict[str, Any]]:
    """Return what the systems can do, bounded; with too many tools, those that fit the goal best."""
    kept = fitting_tools(systems, goal, MAX_TOOLS)
    told: list[dict[str, Any]] = []
    for system in systems:
        entry: dict[str, Any] = {"system": system.name}
        if system.takes_any:
            entry["takes"] = "any task, by its description; no tool is needed"
        if system.error is not None:
            entry["note"] = "could not be asked for its tools"
        tools = [tool for tool in system.tools if (system.name, tool.name) in kept]
        entry["tools"] = [
            {
                "tool": tool.name,
                "does": tool.description[:MAX_DESCRIPTION_CHARS],
                "parameters": _parameters(tool.input_schema),
            }
            for tool in tools
        ]
        if len(tools) < len(system.tools):
            entry["left_out"] = len(system.tools) - len(tools)
        told.append(entry)
    return told


def _parameters(schema: Mapping[str, Any] | None) -> dict[str, str]:
    """Return a tool's parameters in short: type, and whether it may be left out."""
    properties = (schema or {}).get("properties")
    required = (schema or {}).get("required")
    needed = required if isinstance(required, Collection) else ()
    if not isinstance(properties, Mapping):
        return {}
    return {
        str(name): f"{_kind(of)}{'' if name in needed else ', optional'}"
        for name, of in list(properties.items())[:MAX_PARAMETERS]
    }


def _kind(schema: object) -> str:
    if not isinstance(schema, Mapping):
        return "any"
    if isinstance(schema.get("enum"), list):
        return "one of " + ", ".join(json.dumps(item) for item in schema["enum"][:10])
    kind = schema.get("type")
    return kind if isinstance(kind, str) else "any"


# --- The shape of the answer ------------------------------------------------------------------------------------------

_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}

_THOUGHT = {
    "type": "object",
    "properties": {
        "text": _TEXT,
        "revises": {"type": "integer", "description": "Number of the thought that this one reconsiders."},
        "branch": {"type": "string", "description": "Name of the alternative that this one is about."},
        "branch_from": {
            "type": "integer",
            "description": "Number of the thought the alternative starts from.",
        },
    },
    "required": ["text"],
}

_DEPENDENCY = {
    "type": "object",
    "properties": {"task_id": _TEXT, "condition": _TEXT, "is_optional": {"type": "boolean"}},
    "required": ["task_id"],
}

_TASK_FIELDS: Mapping[str, Any] = {
    "task_id": {"type": "string", "description": "Short and speaking: letters, digits, - and _."},
    "description": _TEXT,
    "depends_on": {"type": "array", "items": {"anyOf": [_TEXT, _DEPENDENCY]}},
    "system_preference": _TEXT,
    "tool": _TEXT,
    "arguments": {"type": "object", "additionalProperties": True},
    "estimated_time_seconds": _NUMBER,
    "complexity_score": _NUMBER,
    "priority": {"type": "string", "enum": ["LOW", "MEDIUM", "HIGH", "CRITICAL", "URGENT"]},
    "idempotent": {"type": "boolean"},
    "approval": {"type": "string", "enum": ["person", "caller"]},
}


def answer_schema(*, is_alternative: bool = False) -> dict[str, Any]:
    """Return the JSON schema of an answer; thoughts come first, for what is written first is thought first."""
    task = {"type": "object", "properties": dict(_TASK_FIELDS), "required": ["task_id", "description"]}
    properties: dict[str, Any] = {
        "thoughts": {"type": "array", "items": _THOUGHT},
        "tasks": {"type": "array", "items": task},
    }
    if is_alternative:
        properties |= {"delivers": _TEXT, "reason": _TEXT}
    return {"type": "object", "properties": properties, "required": ["thoughts", "tasks"]}
