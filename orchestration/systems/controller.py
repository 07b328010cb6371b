"""Runs tasks through the caller's own controller object, found by its methods: the `unified_controller` collaborator.

May import: orchestration.{clock, errors, models, ports}, orchestration.systems.{base, calls, controller_answers, signs,
threads}, anyio, stdlib.

`execute_task(context)` is called where there is one, else `process_task(description, context=…,
timeout_seconds=…)`; either may be a coroutine function or blocking, and is given only the arguments its
signature takes. The answer may be an object or a mapping with `success`, `result` and `error`, or the plain
value itself (`controller_answers.py`).

What a controller is given belongs to the attempt: it may change it as it likes. Its life is its maker's: neither
`initialize` nor `shutdown` is called.

The idempotency key is part of the context, which `process_task` is given as a mapping; a parameter named
`idempotency_key` gets it, too.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import anyio

from orchestration.clock import Clock, SystemClock, to_datetime
from orchestration.errors import InvalidArgumentError
from orchestration.models import Json, TaskId, TaskNode, copy_json
from orchestration.ports import AttemptRequest, Health, ToolInfo
from orchestration.systems.base import bounded, copied, name_of, short_hash, words_of
from orchestration.systems.calls import await_user, call_user
from orchestration.systems.controller_answers import health_of, value_of
from orchestration.systems.signs import ProgressReport
from orchestration.systems.threads import DaemonThreads

METHODS = ("execute_task", "process_task")
"""Methods of a controller, in the order in which they are looked for."""

DEFAULT_THREADS = 32
"""Blocking calls of the controller at once."""

STATUS_SECONDS = 2.0
"""Longest wait for the controller's own `get_system_status`."""

DEFAULT_COMPLEXITY = 5.0
"""What a controller is told of a task that says nothing of its complexity: the middle of the scale."""

STATUS_THREADS = 2
"""Blocking questions for its status at once; not among the others, which hanging ones would use up."""

MAX_AWAITED = 10
"""How often what a controller answers may turn out to be yet to come."""


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

    def beats_by(self, beat: Callable[[], None]) -> None:
        """Say what a sign of life is passed on to."""
        self._beat = beat

    def heartbeat(self) -> None:
        """Say that the work goes on; cheap, from any thread. A copy of a context says nothing."""
        beat = getattr(self, "_beat", None)
        if beat is not None:
            beat()


@dataclass(kw_only=True)
class TaskContext(_SignsOfLife):
    """What `execute_task` is told about a task; made for one attempt, and the controller's to change."""

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
    endpoint: str | None = None
    """Where a load balancer would have the preferred system asked."""

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)  # without the sign of life: a copy gives none

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
        self._status_threads: DaemonThreads | None = None
        found = next((method for method in METHODS if _method(unified_controller, method) is not None), None)
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
        for threads in (self._threads, self._status_threads):
            if threads is not None:
                threads.close()
        self._threads = self._status_threads = None

    async def list_tools(self) -> list[ToolInfo]:
        """A controller runs descriptions, not tools."""
        return []

    async def choose_tool(self, task: TaskNode) -> str | None:
        """Return the tool the task names, passed on as it is; it takes every task."""
        return task.tool

    def takes_inputs(self, tool: str | None) -> bool:  # noqa: ARG002  (the port's signature)
        """Inputs are part of the context."""
        return True

    def balanced_as(self, request: AttemptRequest) -> str | None:
        """Return the system a controller is to prefer, which may run in several instances; None where it chooses."""
        preferred = request.preference.casefold()
        return preferred if preferred in {"alita", "kgot"} else None

    def fingerprint(self, tool: str | None) -> str:  # noqa: ARG002  (a controller runs descriptions, whatever the tool)
        """Return what changes when the controller is of another class, or another method of it is called."""
        return short_hash([name_of(type(self._controller)), self._method])

    async def check(self) -> Health:
        """Ask the controller's own `get_system_status`, where it has one."""
        status = _method(self._controller, "get_system_status")
        if status is None:
            return Health(ok=True, detail=f"calls {self._method}")
        if self._status_threads is None:
            self._status_threads = DaemonThreads(STATUS_THREADS, f"{self.name} status")
        with anyio.move_on_after(STATUS_SECONDS):
            try:
                return health_of(await self._call(status, [], {}, self._status_threads))
            except Exception as exc:  # noqa: BLE001  (a status that raises is an answer, too)
                told = f"get_system_status raised {type(exc).__name__}: {words_of(exc)}"
                return Health(ok=False, detail=bounded(told, 300))
        return Health(ok=False, detail=f"get_system_status gave no answer within {STATUS_SECONDS:g} s")

    async def execute(self, request: AttemptRequest) -> object:
        """Hand the task over and return the value of the controller's answer.

        Raises:
            AttemptFailedError: The answer has `success` false or can't be read, or the controller raised something that
                is no ordinary exception.
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
                **_wished(
                    method,
                    idempotency_key=request.idempotency_key,
                    heartbeat=request.heartbeat,
                    progress=ProgressReport(request.progress),
                ),
            }
        if self._threads is None:
            self._threads = DaemonThreads(DEFAULT_THREADS, self.name)
        answer = await self._call(method, positional, named, self._threads)
        return value_of(answer, unwraps_response=self._method == "process_task")

    async def _call(
        self, method: Callable[..., Any], positional: list[Any], named: dict[str, Any], threads: DaemonThreads
    ) -> Any:
        """Return what a method gives, once it is there: what it answers with may itself be yet to come."""
        name = getattr(method, "__name__", self._method)
        call = functools.partial(method, *positional, **accepted(method, len(positional), named))
        answer = await call_user(name, call, method, threads)
        for _ in range(MAX_AWAITED):
            if isinstance(answer, Future):
                answer = await _settled(name, answer, threads)
            elif inspect.isawaitable(answer):
                answer = await await_user(name, answer)
            elif inspect.isasyncgen(answer):
                answer = await await_user(name, _collected(answer))
            else:
                break
        return answer

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
            arguments=copied(request.arguments),
            inputs=copied(request.inputs),
            context=copied(request.context),
            goal=request.goal,
            orchestration_id=request.orchestration_id,
            attempt=request.attempt,
            idempotency_key=request.idempotency_key,
            endpoint=request.endpoint,
            **metadata,  # type: ignore[arg-type]  # the task's author vouches for the metadata's types
        )
        context.beats_by(request.heartbeat)
        return context


def _method(controller: object, name: str) -> Callable[..., Any] | None:
    """Return a method; None where there is none, or it can't even be looked at."""
    try:
        method = getattr(controller, name, None)
        return method if callable(method) else None
    except Exception:  # noqa: BLE001  (a property is anybody's code)
        return None


async def _settled(name: str, future: Future[Any], threads: DaemonThreads) -> Any:
    """Wait for a future of an executor; it is cancelled with the attempt, if it has not begun."""
    try:
        return await call_user(name, future.result, future.result, threads)
    except BaseException:
        future.cancel()
        raise


async def _collected(items: AsyncIterable[Any]) -> list[Any]:
    return [item async for item in items]


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
    budget = copied(given) if isinstance(given, Mapping) else {}
    data: dict[str, Json] = {}
    for upstream, value in request.inputs.items():
        if isinstance(value, dict):
            data.update({f"{upstream}_{key}": copy_json(part) for key, part in value.items()})
        else:
            data[f"{upstream}_output"] = copy_json(value)
    if data:
        budget["input_data"] = data
    return budget or None
