"""The JSON Schema of the DAG file, for editors and other programs; made from the model, kept in `docs/`.

May import: orchestration.{dag_file, models}, pydantic, stdlib.

`python -m orchestration.schema` prints it; with a path it writes the file, with `--check` too it only
compares.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from orchestration.dag_file import DEFAULTABLE_KEYS
from orchestration.models import Fallback, TaskEdge, TaskNode, TaskPriority, TaskStatus

TASK_ID = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"
"""An id that a DAG may bring: `~n` and `[n]` are made by a run."""
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def dag_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a DAG document.

    It says what one field may be. What only shows in the whole (cycles, references) is `validate`'s to say.
    """
    task = _fields(TaskNode)
    task["properties"] |= _choices()
    task["properties"]["task_id"]["pattern"] = TASK_ID
    task["properties"]["parent"]["anyOf"][0]["pattern"] = TASK_ID
    task["properties"]["approval"]["anyOf"].insert(1, {"type": "boolean"})
    edge = _fields(TaskEdge)
    for end in ("source_task_id", "target_task_id"):
        edge["properties"][end]["pattern"] = TASK_ID
    defaults = {key: task["properties"][key] for key in DEFAULTABLE_KEYS}
    task["properties"]["depends_on"] = {
        "type": "array",
        "items": {"type": "string", "pattern": TASK_ID},
        "uniqueItems": True,
        "description": "Upstream tasks; each stands for an edge with defaults.",
    }
    return {
        "$schema": SCHEMA_DIALECT,
        "title": "Task DAG",
        "description": "A graph of tasks for advanced-orchestration, in YAML or JSON.",
        "type": "object",
        "required": ["dag_id", "tasks"],
        "additionalProperties": False,
        "properties": {
            "dag_id": {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "description": "Speaking name; orchestrations of it are called `dag_id-N`.",
            },
            "goal": {"type": ["string", "null"], "description": "What the whole is for."},
            "timeout_seconds": {
                "type": ["number", "null"],
                "exclusiveMinimum": 0,
                "description": "Time limit of the whole; what has not ended by then is cancelled, and it ends failed.",
            },
            "defaults": _nullable_object(
                "Fields for every task that does not give them itself.",
                properties=defaults,
                additionalProperties=False,
            ),
            "tasks": {"type": "array", "minItems": 1, "items": task, "description": "The tasks, ids unique."},
            "edges": {
                "type": ["array", "null"],
                "items": edge,
                "description": "Dependencies with details; an entry overrides `depends_on` for its pair.",
            },
            "metadata": _nullable_object("Free for the caller; kept and exported, never interpreted."),
        },
        "$defs": {_FALLBACK: _fields(Fallback)},
    }


def schema_text() -> str:
    """Return the schema as it stands in the file."""
    return json.dumps(dag_json_schema(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the schema, write it to a file, or compare it with the file; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m orchestration.schema", description=main.__doc__)
    parser.add_argument("path", nargs="?", type=Path, help="the file to write, or to compare with --check")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when the file is not current"
    )
    options = parser.parse_args(arguments)
    if options.path is None:
        sys.stdout.write(schema_text())
        return 0
    if options.check:
        if options.path.is_file() and options.path.read_text(encoding="utf-8") == schema_text():
            return 0
        sys.stderr.write(
            f"{options.path} is not current. Fix: python -m orchestration.schema {options.path}\n"
        )
        return 1
    options.path.write_text(schema_text(), encoding="utf-8")
    return 0


def _nullable_object(description: str, **more: Any) -> dict[str, Any]:
    return {"type": ["object", "null"], "description": description, **more}


_FALLBACK = Fallback.__name__
"""What may be inside itself: the one definition that is referred to."""


def _fields(model: type[TaskNode | TaskEdge | Fallback]) -> dict[str, Any]:
    """Return the schema of a model with everything it refers to put in place, but for fallbacks."""
    schema = TypeAdapter(model).json_schema(mode="validation")
    definitions = schema.pop("$defs", {})
    if "$ref" in schema:  # a model that may be inside itself
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    inlined: dict[str, Any] = _inline(schema, definitions)
    inlined.pop("title", None)
    inlined["additionalProperties"] = False
    for field in inlined["properties"].values():
        field.pop("title", None)
    return inlined


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inline(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if reference is not None and reference != f"#/$defs/{_FALLBACK}":
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return _inline(definitions[reference.rpartition("/")[2]], definitions) | _inline(beside, definitions)
    return {key: _inline(value, definitions) for key, value in schema.items()}


def _choices() -> dict[str, Any]:
    """Say what the enums accept: names and values in any case; editors are offered the usual spelling."""
    return {
        "priority": {
            "anyOf": [
                {"enum": [priority.name for priority in TaskPriority]},
                {"type": "string", "pattern": _any_case([priority.name for priority in TaskPriority])},
                {"type": "integer", "minimum": min(TaskPriority), "maximum": max(TaskPriority)},
            ],
            "default": TaskPriority.MEDIUM.name,
            "description": "How urgent the task is; the value, 1 to 5, counts in the ranking.",
        },
        "status": {
            "anyOf": [
                {"enum": [status.value for status in TaskStatus]},
                {"type": "string", "pattern": _any_case([status.name for status in TaskStatus])},
            ],
            "default": TaskStatus.PENDING.value,
            "description": "Where the task stood when the DAG was exported; a run starts with every task pending.",
        },
    }


def _any_case(names: Sequence[str]) -> str:
    """Return a pattern for one of the names in any case; JSON Schema knows no flags."""
    spelled = ("".join(f"[{letter}{letter.lower()}]" for letter in name) for name in names)
    return f"^({'|'.join(spelled)})$"


if __name__ == "__main__":
    raise SystemExit(main())
