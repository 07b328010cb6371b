"""What a task graph is made of: tasks, edges, their enums and the small records results are told in.

May import: pydantic, stdlib. Nothing here knows how a graph is validated as a whole (`dag.py`) or run.

The classes are frozen pydantic dataclasses: a wrong type or an unknown field is refused where it is written.
Fields that the file format names but no part of the program honours yet are refused by name (`NOT_YET_AVAILABLE`):
an approval that is silently ignored would be dangerous.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue
from pydantic.dataclasses import dataclass

TaskId: TypeAlias = str
OrchestrationId: TypeAlias = str
PlanId: TypeAlias = str
Json: TypeAlias = JsonValue
JsonObject: TypeAlias = dict[str, JsonValue]

TASK_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}(~[0-9]{1,3})?(\[[0-9]{1,6}\])?(~[0-9]{1,3})?$"
"""A task id. `~n` marks a task of an alternative plan, `[n]` the nth child of a `foreach`; no DAG may bring either."""

AUTO = "auto"
"""The system preference that lets the router choose."""

AGENT = "agent"
"""The system whose tasks are offered to agents; no other one may have this name."""

NOT_YET_AVAILABLE: Mapping[str, str] = {
    "deadline_seconds": "a deadline for one task",
    "user_weight": "a weight in the ranking formula",
}
"""Task fields of the file format that nothing honours yet, each with what it will mean."""


class OrchestrationMode(StrEnum):
    """How an orchestration goes through its DAG."""

    SIMPLE = "simple"
    """One task at a time, in strict topological order."""
    HIERARCHICAL = "hierarchical"
    """Every ready task at once, as far as the concurrency limit allows."""
    ADAPTIVE = "adaptive"
    """HIERARCHICAL; priorities follow measured durations and a failed task may get an alternative plan."""

    @classmethod
    def _missing_(cls, value: object) -> OrchestrationMode | None:
        """Accept a mode's name in any case."""
        return _by_name(cls, value)


class TaskPriority(IntEnum):
    """The user's wish; its value is the base score of the `weighted` formula."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4
    URGENT = 5

    @classmethod
    def _missing_(cls, value: object) -> TaskPriority | None:
        """Accept a priority's name in any case."""
        return _by_name(cls, value)


class TaskStatus(StrEnum):
    """Where a task stands. `TRANSITIONS` in the engine says which moves are legal."""

    PENDING = "pending"
    """An incoming edge is not decided yet."""
    READY = "ready"
    """Every incoming edge is decided, no required one is dead; waits for a slot."""
    RUNNING = "running"
    """An attempt is under way."""
    RETRYING = "retrying"
    """Waits for its back-off."""
    AWAITING_APPROVAL = "awaiting_approval"
    """Everything is there; somebody must agree to exactly this before it runs."""
    OFFERED = "offered"
    """Anybody who asks for work may take it."""
    CLAIMED = "claimed"
    """A worker has taken it."""
    EXPANDED = "expanded"
    """Its work is done by its children; it settles with them."""
    UNKNOWN = "unknown"
    """An attempt that must not be repeated ended without an answer: a person, an agent or `verify` decides."""
    REPLANNING = "replanning"
    """Out of attempts; an alternative plan is being made."""
    PAUSED = "paused"
    """Depends on a task that is being replanned."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    """A required upstream edge is dead, so the task never runs."""
    SUPERSEDED = "superseded"
    """Replaced by an alternative plan, or removed by a revision of the plan."""

    @classmethod
    def _missing_(cls, value: object) -> TaskStatus | None:
        """Accept a status name in any case."""
        return _by_name(cls, value)


SETTLED = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED})
"""Statuses in which a task has its outcome; its outgoing edges are decided then."""


class OrchestrationStatus(StrEnum):
    """Where an orchestration stands."""

    PLANNING = "planning"
    """Its plan is still being made; what may be repeated runs already."""
    RUNNING = "running"
    PAUSED = "paused"
    """A person's wish: running attempts finish, nothing starts."""
    CANCELLING = "cancelling"
    """Cancel was asked for; some attempts have not ended yet."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @classmethod
    def _missing_(cls, value: object) -> OrchestrationStatus | None:
        """Accept a status name in any case."""
        return _by_name(cls, value)

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more will happen on its own."""
        return self in TERMINAL


TERMINAL = frozenset(
    {OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED, OrchestrationStatus.CANCELLED}
)


def copy_json(value: Json) -> Json:
    """Return a copy of a JSON value that shares no list and no object with it."""
    if isinstance(value, dict):
        return {key: copy_json(item) for key, item in value.items()}
    return [copy_json(item) for item in value] if isinstance(value, list) else value


MAX_NESTING = 100
"""How many lists and objects may lie inside each other: JSON readers give up not far beyond."""


def nests_too_deeply(value: object) -> bool:
    """Return whether a value has more than `MAX_NESTING` lists and objects inside each other."""
    level = [value]
    for _ in range(MAX_NESTING + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, list):
                inner += item
            elif isinstance(item, dict):
                inner += item.values()
        if not inner:
            return False
        level = inner
    return True


def is_unicode(text: str) -> bool:
    """Whether a text can be stored: half a surrogate pair (of a broken file name, of a JSON escape) is no Unicode."""
    return text.isascii() or _SURROGATE.search(text) is None


def as_unicode(text: str) -> str:
    """Return a text that can be stored: what is no Unicode becomes an escape like `\\udcff`."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


_SURROGATE = re.compile("[\ud800-\udfff]")

_Member = TypeVar("_Member", bound=Enum)


def _by_name(cls: type[_Member], value: object) -> _Member | None:
    """Find the member of `cls` whose name is `value` in any case; None when there is none."""
    if not isinstance(value, str):
        return None
    return cls.__members__.get(value.strip().upper())


def enum_by_name(cls: Any) -> BeforeValidator:
    """Make a validator that takes a member, its value or its name in any case, and lists the choices otherwise."""

    def parse(value: object) -> Any:
        if isinstance(value, cls):
            return value
        try:
            if isinstance(value, bool):
                raise ValueError
            return cls(value)
        except ValueError:
            names = ", ".join(member.name for member in cls)
            raise ValueError(f"expected one of {names}") from None

    return BeforeValidator(parse)


_CONFIG = ConfigDict(extra="forbid", use_attribute_docstrings=True)

Seconds: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveSeconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, config=_CONFIG)
class CachePolicy:
    """For how long a task's output may serve other tasks that do exactly the same."""

    ttl_seconds: PositiveSeconds
    """Age up to which an output is used again."""


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Verification:
    """The question that is asked before anybody decides about an attempt nobody knows the end of: did it happen?

    The tool answers `done`, `not_done` or `unclear`: as text, or as an object `{"status": …, "output": …}` whose output
    becomes the task's. Anything else, a failure included, counts as `unclear`.
    """

    tool: Annotated[str, Field(min_length=1, max_length=200)]
    """What to ask; must not change anything."""
    arguments: dict[str, JsonValue] = field(default_factory=dict)
    """Its arguments; `${task.path}` as in the task's own."""
    system_preference: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """Where to ask; the task's own system when absent."""
    timeout_seconds: PositiveSeconds = 60.0
    """Longest wait for the answer."""


def _approver(value: object) -> object:
    """Take `true` as a person, for that is what it means, and `false` as nobody."""
    return {True: "person", False: None}.get(value, value) if isinstance(value, bool) else value


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Acceptance:
    """What must hold before a task's result counts: reported is not verified. All that is given must hold.

    A result that is not accepted fails the attempt as `not_accepted`, which is retried.
    """

    condition: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """CEL over `output` and `context`."""
    output_schema: dict[str, JsonValue] | None = None
    """JSON Schema of the output."""
    tool: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """A tool that looks at the work and fails where it is not right: a declared command that runs the tests."""
    arguments: dict[str, JsonValue] = field(default_factory=dict)
    """The tool's arguments; `${task.path}` as in the task's own."""
    system_preference: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """Where the tool is; when absent the task's own system or, for an agent's or one with `auto`, one that has it."""
    timeout_seconds: PositiveSeconds = 300.0
    """Longest run of the tool."""

    def __post_init__(self) -> None:
        """Refuse a check that checks nothing."""
        if self.condition is None and self.output_schema is None and self.tool is None:
            raise ValueError("expected at least one of condition, output_schema and tool")
        if self.tool is None and (self.arguments or self.system_preference is not None):
            raise ValueError("arguments and system_preference are the tool's; name the tool")


Approver: TypeAlias = Literal["person", "caller"]
"""Who may agree to a task: only a person, or the calling agent as well."""


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Fallback:
    """What is done in a task's place when it has failed: another way to the same output, under the same task id.

    Its attempts count on from the task's; its output is the task's. What the task requires (an approval, not to be
    repeated) its fallback requires, too.
    """

    description: str = ""
    """What is to be done; the task's own description when empty."""
    system_preference: Annotated[str, Field(min_length=1, max_length=100)] = AUTO
    """Name of a configured system, or `auto`."""
    tool: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """What to run there."""
    arguments: dict[str, JsonValue] = field(default_factory=dict)
    """Its arguments; `${task.path}` as in the task's own."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 0
    """Retries after its first attempt."""
    backoff_factor: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] | None = None
    """Growth of the longest wait from retry to retry; the task's when absent."""
    timeout_seconds: PositiveSeconds | None = None
    """Time limit of one attempt; the task's when absent."""
    estimated_time_seconds: Seconds | None = None
    """Expected duration of one attempt."""
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Expected cost of one attempt."""
    idempotent: bool = True
    """False: an attempt of it nobody knows the end of is never repeated on its own."""
    verify: Verification | None = None
    """Asked first, when an attempt of it was left open."""
    fallback: Fallback | None = None
    """What is done when this fails, too; at most three inside each other."""


MAX_FALLBACKS = 3
"""Fallbacks inside each other."""


@dataclass(frozen=True, slots=True, config=_CONFIG)
class TaskNode:
    """One task: what is to be done, where, how urgent it is and what it may cost.

    Raises:
        pydantic.ValidationError: A field has a wrong type or value, or is unknown.
    """

    task_id: Annotated[str, Field(pattern=TASK_ID_PATTERN)]
    """Unique in its DAG: a letter or digit, then letters, digits, `_` and `-`; at most 100 characters."""
    description: str = ""
    """What is to be done, for people and language models."""
    system_preference: Annotated[str, Field(min_length=1, max_length=100)] = AUTO
    """Name of a configured system, or `auto`."""
    priority: Annotated[TaskPriority, enum_by_name(TaskPriority)] = TaskPriority.MEDIUM
    """LOW, MEDIUM, HIGH, CRITICAL or URGENT, by name or value."""
    status: Annotated[TaskStatus, enum_by_name(TaskStatus)] = TaskStatus.PENDING
    """Where the task stands; in a submitted DAG every task starts as pending."""
    estimated_time_seconds: Seconds | None = None
    """Expected duration of one attempt; unknown when absent."""
    complexity_score: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None = None
    """How hard the task is, 0 to 10; unknown when absent."""
    resource_requirements: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = field(
        default_factory=dict
    )
    """Amounts the task holds while it runs. Recorded and exported; no capacities can be declared yet."""
    tool: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """What to run on the system; the system may choose when absent."""
    arguments: dict[str, JsonValue] = field(default_factory=dict)
    """Arguments of the tool; `${task.path}` takes a value from an upstream task's output."""
    max_retries: Annotated[int, Field(ge=0, le=100)] | None = None
    """Retries after the first attempt; the orchestrator's default when absent."""
    backoff_factor: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] | None = None
    """Growth of the longest wait from retry to retry; the orchestrator's default when absent."""
    timeout_seconds: PositiveSeconds | None = None
    """Time limit of one attempt; the orchestrator's default when absent."""
    heartbeat_timeout_seconds: PositiveSeconds | None = None
    """Longest silence of a running attempt; a sign of life (`heartbeat()`, progress, a line of output) renews it."""
    idempotent: bool = True
    """False: an attempt nobody knows the end of is never repeated on its own; the task becomes `unknown`."""
    verify: Verification | None = None
    """Asked first, when a task that is not idempotent has become `unknown`."""
    cache: CachePolicy | None = None
    """Use the output of an equal task again; never together with `idempotent: false` or `approval`."""
    fallback: Fallback | None = None
    """What is done in its place when it has failed."""
    approval: Annotated[Approver | None, BeforeValidator(_approver)] = None
    """Who must agree to its resolved arguments and inputs before it runs: `person` (`true`), or `caller`."""
    acceptance: Acceptance | None = None
    """What must hold before its result counts."""
    skills: list[Annotated[str, Field(min_length=1, max_length=100)]] = field(default_factory=list)
    """What a worker must have to be given it, where it is offered to agents."""
    foreach: Annotated[str, Field(min_length=1)] | list[JsonValue] | None = None
    """A list, or the reference to one: one child per item, with `${item}` and `${index}`; the output is theirs."""
    parent: Annotated[str, Field(pattern=TASK_ID_PATTERN)] | None = None
    """The task this one is a part of; that one runs nothing itself and completes with its parts."""
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Expected cost of one attempt, in a unit of the caller's choice; summed up by `simulate`."""
    metadata: dict[str, JsonValue] = field(default_factory=dict)
    """Free for the caller; kept and exported, never interpreted."""


@dataclass(frozen=True, slots=True, config=_CONFIG)
class TaskEdge:
    """A dependency: the target waits for the source and may receive its output.

    A required edge gates its target and, when dead, skips it; an optional edge is waited for but never blocks.
    """

    source_task_id: str
    """The upstream task."""
    target_task_id: str
    """The downstream task."""
    data_requirements: list[Annotated[str, Field(min_length=1)]] = field(default_factory=list)
    """Keys the upstream's output must have; with none, the whole output flows."""
    is_optional: bool = False
    """Whether the target runs even when this edge is dead."""
    condition: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """CEL over `output`, `status` and `context`; the edge delivers only where it holds."""


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ErrorRecord:
    """Why an attempt or a task failed, as it is stored and shown."""

    code: str
    """Stable, for programs: `timeout`, `tool_error`, `condition_error`, …"""
    message: str
    """One or a few sentences, for readers."""
    retryable: bool = False
    """Whether repeating can help."""
    attempt: int | None = None
    """Number of the attempt that failed; None when the task never ran."""
    system: str | None = None
    """Where it failed; None when the task never ran."""
    retry_after_seconds: float | None = None
    """The least wait before another attempt that the system asked for."""
    effect_open: bool = False
    """Whether the effect may have happened all the same: the end came without the system's definite answer."""
