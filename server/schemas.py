"""What goes over the wire in tool calls: the kinds of arguments the tools take and the records they answer with.

May import: orchestration.{errors, models}, pydantic, stdlib.

The tool list is read by a language model before every conversation, so its schemas are kept small (`published.py`).
Arguments are taken as clients really send them: an object may come as its JSON text, a choice in any case, a number for
a text and the other way round. What is null or an empty text counts as absent; that is seen to before the arguments
come here.
"""

from __future__ import annotations

import json
import re
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
MAX_TARGETS = 100
"""Tasks one control request may name."""
MAX_OUTPUT_CHARS = 20_000
"""Of an output, in one answer."""
MAX_SEQ = 2**63 - 1
"""The largest number a journal could reach."""

_DIGEST = re.compile("[0-9a-f]{8,64}")

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


def _names(value: object) -> object:
    """Take a list, its JSON text, or one name as it is."""
    is_one = isinstance(value, str) and not value.lstrip().startswith("[")
    return _from_json([value] if is_one else value)


def _decision(value: object) -> object:
    """Take a decision as its word alone, as an object, or as that one's JSON text; or the digest of what was shown."""
    if isinstance(value, str):
        word = value.strip()
        if _DIGEST.fullmatch(word.lower()):
            value = {"digest": word.lower()}
        else:
            value = _from_json(value) if word.startswith("{") else {"decision": value}
    if isinstance(value, dict):
        _check(value)
        return value
    raise ValueError("expected 'retry', 'done' or 'failed', or an object with it as `decision`")


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


def _texts(value: object) -> object:
    """Take a list, its JSON text, or one text as it is, whatever that begins with."""
    if isinstance(value, str):
        try:
            value = _from_json(value) if value.lstrip().startswith("[") else [value]
        except ValueError:
            value = [value]
    _check(value)
    return value


def _delivered(value: object) -> object:
    """Take anything; a text that is the JSON of an object or a list is taken as that."""
    if isinstance(value, str) and value.lstrip()[:1] in {"{", "["}:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return value  # a text that begins so: code, or a note in brackets
    _check(value)
    return value


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


class DecisionMade(BaseModel):
    """A decision, with what the task delivered; or what an agreement is to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Annotated[Literal["retry", "done", "failed"] | None, BeforeValidator(_choice)] = None
    output: Any = None
    digest: str | None = None
    """The beginning of the digest of what was shown."""


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
View: TypeAlias = Annotated[
    Literal["summary", "tasks", "events", "why", "approvals", "graph", "plan"], BeforeValidator(_choice)
]
Scope: TypeAlias = Annotated[Literal["server", "orchestration"], BeforeValidator(_choice)]
Action: TypeAlias = Annotated[Literal["start", "preview"], BeforeValidator(_choice)]
WaitSeconds: TypeAlias = Annotated[float, Field(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)]
Control: TypeAlias = Annotated[
    Literal["pause", "resume", "cancel", "retry", "approve", "reject", "decide"], BeforeValidator(_choice)
]
Part: TypeAlias = Annotated[
    Literal["summary", "head", "tail", "search", "path", "range"], BeforeValidator(_choice)
]
TaskNames: TypeAlias = Annotated[
    Annotated[list[Name], Field(max_length=MAX_TARGETS)] | None,
    BeforeValidator(_names),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
]
Decision: TypeAlias = Annotated[
    DecisionMade | None,
    BeforeValidator(_decision),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "object"}],
            "description": 'decide: "retry", "done", "failed" or {"decision": "done", "output": …}; approve: digest',
        }
    ),
]
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

Operations: TypeAlias = Annotated[
    Any,
    BeforeValidator(_from_json),
    WithJsonSchema({"type": "array", "items": {"type": "object"}}),
]
Report: TypeAlias = Annotated[
    Literal["progress", "done", "failed", "blocked", "release"], BeforeValidator(_choice)
]
Skills: TypeAlias = Annotated[
    list[Name] | None,
    BeforeValidator(_names),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
]
Evidence: TypeAlias = Annotated[
    list[str] | None,
    BeforeValidator(_texts),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
]
Delivered: TypeAlias = Annotated[Any, BeforeValidator(_delivered), WithJsonSchema({})]
Subtasks: TypeAlias = Annotated[
    list[dict[str, Any]] | None,
    BeforeValidator(_from_json),
    WithJsonSchema({"type": "array", "items": {"type": "object"}}),
]
Revision: TypeAlias = Annotated[int | None, Field(ge=1), WithJsonSchema({"type": "integer"})]

# --- Answers ------------------------------------------------------------------------------------------------------

UNLISTED: Any = Field(default=None, json_schema_extra={"unlisted": True})
"""A field of an answer that explains itself where it is there: the published schema has no room for all of them."""


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
    revision: int | None = UNLISTED
    planner: str | None = UNLISTED
    tasks: list[PlannedTask] | None = None
    more_tasks: int | None = UNLISTED
    estimate: Estimate | None = None
    problems: list[str] | None = None
    systems: list[str] | None = UNLISTED
    """What there is to run tasks on, with its tools; when the caller has to choose or change some."""
    notes: list[str] | None = UNLISTED
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
    parent: str | None = None
    """The task it is a part of."""
    parts: str | None = None
    """How far its parts came."""
    output: Any = None
    """The output where it is short, else its first part as text."""
    output_bytes: int | None = None
    output_uri: str | None = None
    """Where the whole output can be read, when `output` is only its first part."""


class ApprovalView(BaseModel):
    """What waits for somebody's yes."""

    task_id: str
    who: Literal["person", "caller"]
    """`person`: only a person may agree. `caller`: the calling agent, too."""
    shown: str
    """What exactly would run."""
    digest: str | None = None
    """Names exactly that."""
    asked_at: str | None = None
    agree_with: str
    """The command for a person."""


class Standing(Answer):
    """Where an orchestration stands; `execute_dag` answers with it."""

    orchestration_id: str | None = None
    state: str | None = None
    counts: dict[str, int] | None = None
    progress_percentage: float | None = UNLISTED
    estimated_completion_time: float | None = UNLISTED
    """Seconds from now."""
    elapsed_seconds: float | None = UNLISTED
    last_seq: int | None = None
    plan_id: str | None = UNLISTED
    running: list[str] | None = UNLISTED
    waiting_for_decision: dict[str, str] | None = UNLISTED
    """What is known, by task."""
    waiting_for_answer: dict[str, str] | None = UNLISTED
    """Why nobody knows how to go on, by task."""
    approvals: list[ApprovalView] | None = None
    your_tasks: dict[str, str] | None = UNLISTED
    """What is to be done, by task, of those that wait for a worker: `claim_task` gives them out."""
    claimed: dict[str, str] | None = UNLISTED
    """Who has it, by task."""
    reason: str | None = UNLISTED
    """Why it is, or was, cancelled."""
    missing_systems: list[str] | None = UNLISTED
    """What keeps an orchestration nobody drives from going on here."""
    errors: dict[str, str] | None = None
    outputs: list[TaskView] | None = None
    """Of the tasks nothing depends on, once the orchestration has ended."""
    warnings: list[str] | None = UNLISTED
    preview: JsonObject | None = None
    """What running it would take; with action=preview, and nothing else is there then."""


class OrchestrationView(BaseModel):
    """One orchestration in a list."""

    orchestration_id: str
    goal: str
    state: str
    progress_percentage: float
    orphaned: bool | None = None
    """True when nobody drives it although it is unfinished."""
    waiting_for_decision: int | None = None
    """How many tasks wait for a decision."""
    waiting_for_approval: int | None = None
    """How many wait for somebody's yes."""
    waiting_for_worker: int | None = None
    """How many wait for a worker to claim them."""


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
    plan: JsonObject | None = None
    """How the plan came about."""
    why: JsonObject | None = None
    """What is known of one task."""
    next_cursor: str | None = None
    """Pass it as `cursor` for what follows; absent at the end."""


class Outcome(BaseModel):
    """What became of a request for one target."""

    target: str
    """A task, or the orchestration itself."""
    outcome: Literal["done", "pending", "refused"]
    """`pending`: it is stored, and whoever drives has not carried it out yet."""
    detail: str


class ControlAnswer(Answer):
    """Answer of `control_orchestration`."""

    orchestration_id: str
    action: str
    outcomes: list[Outcome]
    more_outcomes: int | None = UNLISTED
    state: str
    """Of the orchestration, afterwards."""
    counts: dict[str, int]
    last_seq: int


class EditRefusal(BaseModel):
    """Why one operation can't be carried out."""

    at: str
    """Which one, and which field of it: `operations[1].timeout_seconds`."""
    problem: str
    fix: str | None = None


class EditAnswer(Answer):
    """Answer of `edit_dag`."""

    target: str
    revision: int
    """The present one: what `expected_revision` is next time."""
    outcome: Literal["applied", "dry_run", "unchanged", "refused", "pending"]
    """`pending`: it is stored, and whoever drives has not carried it out yet."""
    changes: list[str] | None = None
    """What changes and what follows."""
    refusals: list[EditRefusal] | None = None
    notes: list[str] | None = None
    """How what was sent was read, and what should be known."""


class OutputAnswer(Answer):
    """Answer of `read_output`."""

    reference: str
    part: str
    text: str
    total: int
    """Characters of the whole; of what stands at the path; with search, the lines that were found."""
    offset: int | None = UNLISTED
    """Where the text begins: a character; with search, the number of its first line."""
    next_offset: int | None = None
    """Where what follows begins; absent at the end."""


class MetricsAnswer(Answer):
    """Answer of `get_metrics`."""

    scope: str
    orchestration_id: str | None = None
    window: str | None = None
    metrics: JsonObject


class SystemView(BaseModel):
    """Somewhere tasks run."""

    system: str
    kind: str
    tools: int
    """How many it has; 0 of one that takes tasks by their description."""
    health: Literal["ok", "probing", "resting", "not_asked", "unreachable"]
    """`not_asked`: it failed too often; `probing`: one attempt tries it; `resting`: it said "too many requests"."""
    detail: str | None = None
    """Why it is not well."""
    running: int | None = None
    limit: int | None = None
    """Most attempts at once."""
    success_rate: float | None = None
    """Of its latest attempts, 0 to 1."""
    mean_seconds: float | None = None
    story: list[str] | None = None
    """What changed lately."""


class ToolView(BaseModel):
    """A tool a task may name."""

    system: str
    tool: str
    does: str | None = None
    arguments: dict[str, str] | None = None
    """Types by name; those with a question mark may be left out."""
    more_arguments: int | None = None


class SystemsAnswer(Answer):
    """Answer of `list_systems`."""

    systems: list[SystemView] | None = None
    tools: list[ToolView] | None = None
    next_cursor: str | None = UNLISTED
