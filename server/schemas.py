"""What goes over the wire in tool calls: the kinds of arguments the tools take and the records they answer with.

May import: orchestration.{errors, models}, pydantic, stdlib.

The tool list is read by a language model before every conversation, so its schemas are kept small: `slim` drops what
pydantic writes for programs only. Arguments are taken as clients really send them: an object may come as its JSON
text, a choice in any case, a number for a text and the other way round. What is null or an empty text counts as
absent; that is seen to before the arguments come here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from orchestration.models import JsonObject, is_unicode

MAX_WAIT_SECONDS = 45
"""Clients commonly give a call 60 s; an answer must be back well before."""
MAX_NESTING = 100
"""Lists and objects inside each other, in an argument; parsers of JSON give up at 200."""
MAX_SEQ = 2**63 - 1
"""The largest number a journal could reach."""

# --- Arguments ----------------------------------------------------------------------------------------------------


def present(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call without the absent ones: clients fill in null or an empty text for those."""
    return {name: value for name, value in arguments.items() if value is not None and value != ""}


def _choice(value: object) -> object:
    """Take a choice in any case."""
    return value.strip().lower() if isinstance(value, str) else value


def _from_json(value: object) -> object:
    """Take an object or a list as its JSON text too."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"expected JSON, but the text is none: {error}") from None
    _check(value)
    return value


def _thoughts(value: object) -> object:
    """Take a list, its JSON text, or one thought as it is."""
    is_one = isinstance(value, str) and not value.lstrip().startswith("[")
    return _from_json([value] if is_one else value)


def _check(value: object) -> None:
    """Refuse what no answer and no database could hold.

    Raises:
        ValueError: It is nested too deeply, or has text that is no Unicode.
    """
    level = [value]
    for _ in range(MAX_NESTING):
        inner: list[object] = []
        for item in level:
            match item:
                case str() if not is_unicode(item):
                    raise ValueError(f"expected Unicode, but there is half a surrogate pair in {item!a:.60}")
                case list():
                    inner += item
                case dict():
                    inner += item.keys()
                    inner += item.values()
        if not inner:
            return
        level = inner
    raise ValueError(f"expected at most {MAX_NESTING} lists and objects inside each other")


def _object_schema(description: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "object", "description": description, **more})


_TASK_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "task_id": {"type": "string"},
        "description": {"type": "string"},
        "depends_on": {"type": "array", "items": {"type": "string"}},
        "system_preference": {"type": "string"},
        "tool": {"type": "string"},
        "arguments": {
            "type": "object",
            "description": "${other_task.path} takes a value from an upstream's output",
        },
        "priority": {"type": "string", "enum": ["LOW", "MEDIUM", "HIGH", "CRITICAL", "URGENT"]},
        "estimated_time_seconds": {"type": "number"},
        "max_retries": {"type": "integer"},
        "timeout_seconds": {"type": "number"},
    },
    "required": ["task_id"],
}

Goal: TypeAlias = Annotated[str, Field(max_length=4000)]
GivenGoal: TypeAlias = Annotated[str, Field(min_length=1, max_length=4000)]
Name: TypeAlias = Annotated[
    str, Field(max_length=200, coerce_numbers_to_str=True), StringConstraints(strip_whitespace=True)
]
"""An id, a key or a cursor; empty when absent."""
Seq: TypeAlias = Annotated[int, Field(ge=0), AfterValidator(lambda seq: min(seq, MAX_SEQ))]
"""The number of an event; one that is too large to be any is as good as the largest."""
Mode: TypeAlias = Annotated[
    Literal["simple", "hierarchical", "adaptive"] | None,
    BeforeValidator(_choice),
    WithJsonSchema({"type": "string", "enum": ["simple", "hierarchical", "adaptive"]}),
]
View: TypeAlias = Annotated[Literal["summary", "tasks", "events", "graph", "plan"], BeforeValidator(_choice)]
Scope: TypeAlias = Annotated[Literal["server", "orchestration"], BeforeValidator(_choice)]
Action: TypeAlias = Annotated[Literal["start"], BeforeValidator(_choice)]
WaitSeconds: TypeAlias = Annotated[float, Field(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)]
Context: TypeAlias = Annotated[
    dict[str, Any] | None,
    BeforeValidator(_from_json),
    _object_schema("Facts for planning, conditions and systems"),
]
Tasks: TypeAlias = Annotated[
    list[dict[str, Any]] | None,
    BeforeValidator(_from_json),
    WithJsonSchema(
        {"type": "array", "items": dict(_TASK_SCHEMA), "description": "Your own plan; omit to use a playbook"}
    ),
]
Thoughts: TypeAlias = Annotated[
    list[str] | None,
    BeforeValidator(_thoughts),
    WithJsonSchema(
        {"type": "array", "items": {"type": "string"}, "description": "Your reasoning, stored with the plan"}
    ),
]
Dag: TypeAlias = Annotated[
    dict[str, Any] | None,
    BeforeValidator(_from_json),
    _object_schema(
        "{dag_id, goal?, tasks: [as in decompose_goal], edges?: [{source_task_id, target_task_id, "
        "data_requirements?, condition?, is_optional?}]}"
    ),
]

# --- Answers ------------------------------------------------------------------------------------------------------


class Call(BaseModel):
    """A tool call that makes sense next, exactly as it should be sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: str
    arguments: JsonObject

    def __str__(self) -> str:
        return f"{self.tool}({json.dumps(self.arguments, ensure_ascii=False)})"


class Answer(BaseModel):
    """What every tool answers with: one sentence for a person, and what to do next."""

    model_config = ConfigDict(extra="forbid")

    message: str
    next: list[Call] = Field(default_factory=list, max_length=2)


class PlannedTask(BaseModel):
    """A task of a plan."""

    task_id: str
    title: str
    depends_on: list[str] | None = None
    more_depends_on: int | None = None
    """How many more there are."""
    system: str
    """Where it would run: a configured system's name, `auto`, or `none` where nothing can run it."""


class Estimate(BaseModel):
    """What a plan is expected to take, from its tasks' own estimates."""

    total_tasks: int
    width: int
    """The most tasks that could run side by side."""
    critical_path_seconds: float | None = None
    """No schedule can be shorter; absent, as the next, when no task gives an estimate."""
    expected_seconds: float | None = None
    """With this server's concurrency."""


class PlanAnswer(Answer):
    """Answer of `decompose_goal`."""

    state: Literal["planned", "needs_systems", "needs_tasks"]
    """`needs_tasks`: nothing was stored, send tasks. `needs_systems`: stored, but nothing here can run some tasks."""
    plan_id: str | None = None
    revision: int | None = None
    planner: str | None = None
    tasks: list[PlannedTask] | None = None
    more_tasks: int | None = None
    estimate: Estimate | None = None
    problems: list[str] | None = None
    systems: list[str] | None = None
    """What there is to run tasks on, with its tools; when the caller has to choose or change some."""
    notes: list[str] | None = None
    example: list[JsonObject] | None = None


class TaskView(BaseModel):
    """Where one task stands."""

    task_id: str
    status: str
    attempt: int | None = None
    system: str | None = None
    duration_seconds: float | None = None
    error: str | None = None
    note: str | None = None
    depends_on: list[str] | None = None
    more_depends_on: int | None = None
    """How many more there are."""
    output: Any = None
    """The output where it is short, else its first part as text."""
    output_bytes: int | None = None
    output_uri: str | None = None
    """Where the whole output can be read, when `output` is only its first part."""


class Standing(Answer):
    """Where an orchestration stands; `execute_dag` answers with it."""

    orchestration_id: str | None = None
    state: str | None = None
    counts: dict[str, int] | None = None
    progress_percentage: float | None = None
    estimated_completion_time: float | None = None
    """Seconds from now."""
    elapsed_seconds: float | None = None
    last_seq: int | None = None
    plan_id: str | None = None
    running: list[str] | None = None
    errors: dict[str, str] | None = None
    outputs: list[TaskView] | None = None
    """Of the tasks nothing depends on, once the orchestration has ended."""
    warnings: list[str] | None = None


class OrchestrationView(BaseModel):
    """One orchestration in a list."""

    orchestration_id: str
    goal: str
    state: str
    progress_percentage: float
    orphaned: bool | None = None
    """True when nobody drives it although it is unfinished."""


class EventView(BaseModel):
    """One entry of an orchestration's journal."""

    seq: int
    at: str
    type: str
    task_id: str | None = None
    attempt: int | None = None
    detail: str | None = None


class StatusAnswer(Standing):
    """Answer of `get_orchestration_status`; which of the lists is there depends on the view."""

    orchestrations: list[OrchestrationView] | None = None
    tasks: list[TaskView] | None = None
    events: list[EventView] | None = None
    graph: str | None = None
    """Mermaid."""
    next_cursor: str | None = None
    """Pass it as `cursor` for what follows; absent at the end."""


class MetricsAnswer(Answer):
    """Answer of `get_metrics`."""

    scope: str
    orchestration_id: str | None = None
    window: str | None = None
    metrics: JsonObject


# --- Schemas as they are published --------------------------------------------------------------------------------


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
    """
    slimmed = slim(schema)
    properties = {name: _kind(property_) for name, property_ in slimmed["properties"].items()}
    return {"type": "object", "properties": properties, "required": slimmed["required"]}


def _kind(schema: Mapping[str, Any]) -> dict[str, Any]:
    kind = {key: schema[key] for key in ("type", "enum") if key in schema}
    if "items" in schema:
        kind["items"] = {"type": schema["items"]["type"]}
    return kind
