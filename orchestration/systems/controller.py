"""Runs tasks through the caller's own controller object, found by its methods: the `unified_controller` collaborator.

May import: orchestration.{clock, errors, models, ports}, orchestration.systems.{base, threads}, anyio,
stdlib.

`execute_task(context)` is called where there is one, else `process_task(description, context=…,
timeout_seconds=…)`; either may be a coroutine function or blocking, and is given only the arguments its
signature takes. The answer may be an object or a mapping with `success`, `result` and `error`, or the plain
value itself.

The idempotency key is part of the context, which `process_task` is given as a mapping; a parameter named
`idempotency_key` gets it, too. A failure the controller answers with is definite, unless its code says that the
controller itself heard no answer (`OPEN_CODES`) or it says `effect_open: true`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import anyio

from orchestration.clock import Clock, SystemClock, to_datetime
from orchestration.errors import AttemptFailedError, InvalidArgumentError
from orchestration.models import Json, TaskId, TaskNode
from orchestration.ports import AttemptRequest, Health, ToolInfo
from orchestration.systems.base import bounded, copied, name_of, short_hash
from orchestration.systems.calls import call_user
from orchestration.systems.threads import DaemonThreads

METHODS = ("execute_task", "process_task")
"""Methods of a controller, in the order in which they are looked for."""

DEFAULT_THREADS = 32
"""Blocking calls of the controller at once."""

STATUS_SECONDS = 2.0
"""Longest wait for the controller's own `get_system_status`."""

DEFAULT_COMPLEXITY = 5.0
"""What a controller is told of a task that says nothing of its complexity: the middle of the scale."""

OPEN_CODES = frozenset(
    {"timeout", "timeout_error", "connection_error", "connection_lost", "system_unavailable", "cancelled"}
)
"""Codes of a controller's failure that leave open whether the work was done."""


class RoutingStrategy(StrEnum):
    """Which of its systems a controller should prefer."""

    ALITA_FIRST = "alita_first"
    KGOT_FIRST = "kgot_first"
    HYBRID = "hybrid"
    PARALLEL = "parallel"


_STRATEGIES = {
    "alita": RoutingStrategy.ALITA_FIRST,
    "kgot": RoutingStrategy.KGOT_FIRST,
    "parallel": RoutingStrategy.PARALLEL,
}


class _SignsOfLife:
    """What a context can do besides telling; no field, so that the fields stay plain values."""

    __slots__ = ("_beat",)
    _beat: Callable[[], None]

    def heartbeat(self) -> None:
        """Say that the work goes on; cheap, from any thread. A copy of a context says nothing."""
        beat = getattr(self, "_beat", None)
        if beat is not None:
            beat()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext(_SignsOfLife):
    """What `execute_task` is told about a task."""

    task_id: TaskId
    description: str
    complexity_score: float
    routing_strategy: RoutingStrategy
    requires_mcp_creation: bool = False
    """This, the other `requires_…`, `data_complexity` and `interaction_type` come from the task's metadata."""
    requires_knowledge_graph: bool = False
    requires_web_interaction: bool = False
    requires_code_generation: bool = False
    requires_complex_reasoning: bool = False
    data_complexity: str = "medium"
    interaction_type: str = "autonomous"
    budget_constraints: dict[str, Any] | None = None
    """The context's own; in `input_data` what upstreams delivered, as `<predecessor>_<requirement>`."""
    timeout_seconds: float | None = None
    created_at: datetime
    tool: str | None = None
    arguments: dict[str, Json] = field(default_factory=dict)
    inputs: dict[TaskId, Json] = field(default_factory=dict)
    """What each delivering upstream gave, by its task id."""
    context: dict[str, Json] = field(default_factory=dict)
    """The orchestration's context."""
    goal: str = ""
    orchestration_id: str = ""
    attempt: int = 1
    idempotency_key: str = ""
    """The same for all automatic attempts of the task: whoever keeps it can tell a repetition."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


_FROM_METADATA = (
    "requires_mcp_creation",
    "requires_knowledge_graph",
    "requires_web_interaction",
    "requires_code_generation",
    "requires_complex_reasoning",
    "data_complexity",
    "interaction_type",
)


class ControllerSystem:
    """A system that hands whole tasks to a controller object.

    Args:
        unified_controller: The object; needs `execute_task` or `process_task`.
        name: The system's name.
        clock: Where `created_at` comes from.

    Raises:
        InvalidArgumentError: The object has neither method.
    """

    kind = "controller"
    serves = frozenset({"alita", "kgot", "hybrid", "parallel"})
    """Preferences it takes besides its own name; they become the routing strategy."""

    def __init__(
        self, unified_controller: object, name: str = "controller", *, clock: Clock | None = None
    ) -> None:
        self.name = name
        self._controller = unified_controller
        self._clock = clock or SystemClock()
        self._threads: DaemonThreads | None = None
        found = next(
            (method for method in METHODS if callable(getattr(unified_controller, method, None))), None
        )
        if found is None:
            raise InvalidArgumentError(
                "unified_controller",
                type(unified_controller).__name__,
                "an object with a method execute_task(context), or "
                "process_task(description, context=, timeout_seconds=)",
                "add one of the two methods.",
            )
        self._method = found

    async def open(self) -> None:
        """Nothing to prepare: the controller is the caller's own."""

    async def aclose(self) -> None:
        """Let idle threads end; the controller is the caller's to close."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.close()

    async def list_tools(self) -> list[ToolInfo]:
        """A controller runs descriptions, not tools."""
        return []

    async def choose_tool(self, task: TaskNode) -> str | None:
        """Return the tool the task names, passed on as it is; it takes every task."""
        return task.tool

    def takes_inputs(self, tool: str | None) -> bool:  # noqa: ARG002  (the port's signature)
        """Inputs are part of the context."""
        return True

    def fingerprint(self, tool: str | None) -> str:  # noqa: ARG002  (a controller runs descriptions, whatever the tool)
        """Return what changes when the controller is of another class, or another method of it is called."""
        return short_hash([name_of(type(self._controller)), self._method])

    async def check(self) -> Health:
        """Ask the controller's own `get_system_status`, where it has one."""
        status = getattr(self._controller, "get_system_status", None)
        if not callable(status):
            return Health(ok=True, detail=f"calls {self._method}")
        try:
            with anyio.fail_after(STATUS_SECONDS):
                answer = await self._call(status, [], {})
        except TimeoutError:
            return Health(ok=False, detail=f"get_system_status gave no answer within {STATUS_SECONDS:g} s")
        except Exception as exc:  # noqa: BLE001  (a status that raises is an answer, too)
            return Health(
                ok=False, detail=bounded(f"get_system_status raised {type(exc).__name__}: {exc}", 300)
            )
        return _health(answer)

    async def execute(self, request: AttemptRequest) -> object:
        """Hand the task over and return the value of the controller's answer.

        Raises:
            AttemptFailedError: The answer has `success` false, or the controller raised something that is no
                ordinary exception.
        """
        method = getattr(self._controller, self._method)
        if self._method == "execute_task":
            positional: list[Any] = [self._task_context(request)]
            named: dict[str, Any] = {}
        else:
            positional = [_description(request)]
            named = {
                "context": self._task_context(request).to_dict(),
                "timeout_seconds": request.timeout_seconds,
                **_wished(method, idempotency_key=request.idempotency_key, heartbeat=request.heartbeat),
            }
        answer = await self._call(method, positional, named)
        return _value(answer, unwraps_response=self._method == "process_task")

    async def _call(self, method: Callable[..., Any], positional: list[Any], named: dict[str, Any]) -> Any:
        if self._threads is None:
            self._threads = DaemonThreads(DEFAULT_THREADS, self.name)
        call = functools.partial(method, *positional, **accepted(method, len(positional), named))
        return await call_user(getattr(method, "__name__", self._method), call, method, self._threads)

    def _task_context(self, request: AttemptRequest) -> TaskContext:
        task = request.task
        metadata = {name: task.metadata[name] for name in _FROM_METADATA if name in task.metadata}
        context = TaskContext(
            task_id=task.task_id,
            description=_description(request),
            complexity_score=DEFAULT_COMPLEXITY if task.complexity_score is None else task.complexity_score,
            routing_strategy=_STRATEGIES.get(request.preference.casefold(), RoutingStrategy.HYBRID),
            budget_constraints=_budget(request),
            timeout_seconds=request.timeout_seconds,
            created_at=to_datetime(self._clock.now_us()),
            tool=request.tool,
            arguments=dict(request.arguments),
            inputs=dict(request.inputs),
            context=copied(request.context),
            goal=request.goal,
            orchestration_id=request.orchestration_id,
            attempt=request.attempt,
            idempotency_key=request.idempotency_key,
            **metadata,  # type: ignore[arg-type]  # the task's author vouches for the metadata's types
        )
        object.__setattr__(context, "_beat", request.heartbeat)  # frozen for others, not while it is made
        return context


def _description(request: AttemptRequest) -> str:
    """Return what is to be done, in words.

    A request may be for another tool than the task's own (its `verify`): the task's description must not be carried out
    then, and the tool's name is all there is.
    """
    if request.tool is not None and request.tool != request.task.tool:
        return request.tool
    return request.task.description or request.task.task_id


def _wished(method: Callable[..., Any], **named: Any) -> dict[str, Any]:
    """Return those of the named arguments for which a callable has a parameter of that very name."""
    try:
        parameters = inspect.signature(method).parameters
    except (TypeError, ValueError):
        return {}
    return {name: value for name, value in named.items() if name in parameters}


def accepted(method: Callable[..., Any], positional: int, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the named arguments that a callable takes after its first `positional` ones."""
    try:
        parameters = list(inspect.signature(method).parameters.values())
    except (TypeError, ValueError):
        return dict(named)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(named)
    taken = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    filled = {parameter.name for parameter in [p for p in parameters if p.kind in taken][:positional]}
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    open_names = {parameter.name for parameter in parameters if parameter.kind in by_name} - filled
    return {name: value for name, value in named.items() if name in open_names}


def _budget(request: AttemptRequest) -> dict[str, Any] | None:
    """Return the budget constraints with the upstreams' data in them; None where there is neither."""
    given = request.context.get("budget_constraints")
    budget = dict(given) if isinstance(given, Mapping) else {}
    data: dict[str, Json] = {}
    for upstream, value in request.inputs.items():
        if isinstance(value, dict):
            data.update({f"{upstream}_{key}": part for key, part in value.items()})
        else:
            data[f"{upstream}_output"] = value
    if data:
        budget["input_data"] = data
    return budget or None


def _value(answer: Any, *, unwraps_response: bool) -> object:
    """Return the value of a controller's answer.

    Raises:
        AttemptFailedError: The answer says that the task failed.
    """
    fields = _fields(answer)
    if fields is None:
        return answer
    if "success" in fields and not fields["success"]:
        raise _failure(fields)
    if "result" in fields:
        value = fields["result"]
    else:
        value = (
            {name: part for name, part in fields.items() if name != "success"}
            if "success" in fields
            else answer
        )
    if unwraps_response and isinstance(value, Mapping):
        for key in ("response", "final_response"):
            if value.get(key) is not None:
                return value[key]
    return value


def _fields(answer: Any) -> Mapping[str, Any] | None:
    """Return the fields of an answer that has some to look at; None for a plain value."""
    if isinstance(answer, Mapping):
        return answer
    if not hasattr(answer, "success"):
        return None
    names = [name for name in dir(answer) if not name.startswith("_")]
    return {name: value for name in names if not callable(value := getattr(answer, name))}


def _failure(fields: Mapping[str, Any]) -> AttemptFailedError:
    """Return the failure an answer tells of.

    It is retried unless the answer has `retryable` false; `effect_open` in the answer beats what its code says.
    """
    error = fields.get("error")
    code = fields.get("error_code")
    if isinstance(error, Mapping):
        code = error.get("code", code)
        error = error.get("message", error)
    text = bounded(str(error)) if error else "The controller answered with success false and no error."
    retryable = fields.get("retryable", True) is not False
    code = code if isinstance(code, str) and code else "task_failed"
    effect_open = fields.get("effect_open", code in OPEN_CODES) is True
    return AttemptFailedError(text, code, retryable, effect_open=effect_open)


def _health(status: Any) -> Health:
    """Return what a controller's status means; one that can't be read counts as well."""
    word = status.get("status") if isinstance(status, Mapping) else status
    bad = isinstance(word, str) and word.casefold() in {"error", "unhealthy", "down", "critical", "offline"}
    denied = isinstance(status, Mapping) and status.get("healthy") is False
    return Health(
        ok=not (bad or denied), detail=bounded(f"status {word}", 300) if isinstance(word, str) else "answers"
    )
