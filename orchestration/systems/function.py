"""Runs tasks as Python functions: here (coroutine functions on the event loop, all others on threads), or on an engine.

May import: orchestration.{errors, models, ports, redaction}, orchestration.systems.{base, calls, engines (late),
marked_processes, process_pool (late), signatures, signs, threads}, anyio, stdlib.

A function's parameters are the tool's arguments. Six names are filled in unless the task's own arguments
hold them: `inputs` (what each delivering upstream gave, by task id), `context` (the orchestration's),
`idempotency_key`, `attempt_id` (`task#n`), `heartbeat` (called without arguments, from any thread, it says
that the work goes on) and `progress` (called with how much is done, of how much, and a word about it). Which
functions there are is declared by whoever makes the system; nothing a task says imports anything.

With `engine="process"` every function, a coroutine function too, runs in a worker process (`process_pool.py`), where
a cancelled one really ends and a crash takes nothing else with it. Arguments and results are pickled; what is printed
goes to standard error. Any other `concurrent.futures.Executor` does as well (`engines.py` says what it can't do).
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pickle
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from orchestration.errors import AttemptFailedError, ConfigurationError, InvalidArgumentError, Problem
from orchestration.models import TaskNode
from orchestration.ports import AttemptRequest, Health, ToolInfo
from orchestration.redaction import secret_values
from orchestration.systems.base import copied, name_of, nearest, pick_tool, short_hash
from orchestration.systems.calls import await_user, call_user, is_async
from orchestration.systems.marked_processes import DRIVER_VARIABLE
from orchestration.systems.signatures import Signature
from orchestration.systems.signs import Heartbeat, ProgressReport, RemoteFunction
from orchestration.systems.threads import DaemonThreads

if TYPE_CHECKING:
    from orchestration.systems.engines import Engine
    from orchestration.systems.process_pool import ProcessOptions

DEFAULT_THREADS = 32
"""Blocking calls of one system at once; the orchestrator's own limit is usually the tighter one."""

_EXPECTED = "a function that can be imported"


class FunctionSystem:
    """A system made of Python functions.

    On a thread a blocking function that is cancelled can't be stopped: its attempt ends at once, and it goes on
    unheard. Write long work as a coroutine function, give it a time limit of its own, or run it in a process.

    Args:
        functions: Callables by tool name.
        name: The system's name.
        threads: How many blocking functions run at once, on threads.
        engine: Where they run: `thread`, `process`, or a `concurrent.futures.Executor`, which stays the caller's
            to shut down.
        processes: How worker processes are kept, with `engine="process"`.

    Raises:
        InvalidArgumentError: A name is empty, a value is not callable, or can't be found by another process where
            it has to be; there is no such engine.
    """

    kind = "function"

    def __init__(
        self,
        functions: Mapping[str, Callable[..., Any]],
        name: str = "python",
        *,
        threads: int = DEFAULT_THREADS,
        engine: str | Engine = "thread",
        processes: ProcessOptions | None = None,
    ) -> None:
        if threads < 1:
            raise InvalidArgumentError("threads", threads, "a whole number of at least 1")
        self.name = name
        self._functions = {tool: _Function(tool, function) for tool, function in functions.items()}
        self._engine_kind = engine if isinstance(engine, str) else None
        self._engine: Engine | None = None if isinstance(engine, str) else engine
        self._processes = processes
        if engine != "thread":
            self._check_engine(engine)
        self._threads_limit = threads
        self._threads: DaemonThreads | None = None

    def _check_engine(self, engine: str | Engine) -> None:
        """Refuse an engine there is not, and functions it could not find."""
        from orchestration.systems.engines import check_engine
        from orchestration.systems.process_pool import ProcessPool

        check_engine(engine)
        if engine == "process" or isinstance(engine, ProcessPool):
            for function in self._functions.values():
                function.check_it_pickles()

    @classmethod
    def from_import_strings(
        cls,
        functions: Mapping[str, str],
        name: str = "python",
        *,
        threads: int = DEFAULT_THREADS,
        engine: str | Engine = "thread",
        processes: ProcessOptions | None = None,
    ) -> FunctionSystem:
        """Make a system of functions given as `package.module:function`; a worker process imports them itself.

        Raises:
            ConfigurationError: Some can't be imported; lists every one with the reason.
        """
        found: dict[str, Callable[..., Any]] = {}
        problems: list[Problem] = []
        for tool, target in functions.items():
            path = f"systems.{name}.functions.{tool}"
            try:
                found[tool] = _Named(import_function(target), target)
            except InvalidArgumentError as exc:
                problems.append(Problem(path, f"{target!r}: expected {exc.expected}.", exc.fix))
        if problems:
            raise ConfigurationError(problems)
        return cls(found, name, threads=threads, engine=engine, processes=processes)

    async def open(self) -> None:
        """Prepare; threads and worker processes start when the first function needs one."""

    async def aclose(self) -> None:
        """Let idle threads end, and end the worker processes; an executor that was given is left alone."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.close()
        if self._engine_kind is not None and self._engine is not None:
            from orchestration.systems.engines import close_engine

            engine, self._engine = self._engine, None
            own_turn = anyio.CapacityLimiter(1)
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(close_engine, engine, limiter=own_turn)

    async def list_tools(self) -> list[ToolInfo]:
        """Return the functions with their documentation and the JSON Schema of their parameters."""
        return [function.info for function in self._functions.values()]

    @property
    def secrets(self) -> list[str]:
        """Return what worker processes are given in their environment under names that tell of secrets."""
        return [] if self._processes is None else [*secret_values(self._processes.env)]

    async def choose_tool(self, task: TaskNode) -> str:
        """Return the function the task names, else the one called like the task, else the only one.

        Raises:
            InvalidArgumentError: There is none to choose; lists the functions there are.
        """
        return pick_tool(self.name, task.tool, task.task_id, self._functions)

    def takes_inputs(self, tool: str | None) -> bool:
        """Whether the function has a parameter named `inputs`; without a name, whether any has."""
        if tool is None:
            return any("inputs" in function.signature.provided for function in self._functions.values())
        function = self._functions.get(tool)
        return function is not None and "inputs" in function.signature.provided

    def fingerprint(self, tool: str | None) -> str:
        """Return what changes when a tool's name comes to stand for another function; empty where there is none.

        Without a tool it stands for all functions. What is written inside a function does not count.
        """
        if tool is None:
            return short_hash({name: name_of(function.call) for name, function in self._functions.items()})
        return short_hash(name_of(self._functions[tool].call)) if tool in self._functions else ""

    async def check(self) -> Health:
        """Functions of this process can always be called."""
        return Health(ok=True, detail=f"{len(self._functions)} functions")

    async def execute(self, request: AttemptRequest) -> object:
        """Call the function and return what it returns.

        Raises:
            AttemptFailedError: The arguments don't fit (`invalid_arguments`), the tool is unknown, or the
                function raised something that is no ordinary exception (`system_exit`, `keyboard_interrupt`,
                …).
        """
        function = self._functions.get(request.tool) if request.tool is not None else None
        if function is None:
            function = self._functions[await self._choose(request)]
        positional, keywords = function.bind(request)
        if self._engine_kind != "thread":
            return await self._elsewhere(function, request, positional, keywords)
        if function.is_async:
            return await await_user(function.name, function.call(*positional, **keywords))
        if self._threads is None:
            self._threads = DaemonThreads(self._threads_limit, self.name)
        call = functools.partial(function.call, *positional, **keywords)
        return await call_user(function.name, call, function.call, self._threads)

    async def _elsewhere(
        self, function: _Function, request: AttemptRequest, positional: list[Any], keywords: dict[str, Any]
    ) -> object:
        """Have a function called by the engine."""
        from orchestration.systems.engines import make_engine, run_on

        if self._engine is None:
            assert self._engine_kind is not None
            self._engine = make_engine(self._engine_kind, self.name, self._processes)
        variables = {DRIVER_VARIABLE: request.driver} if request.driver else {}
        remote = RemoteFunction(function.call, function.target, variables)
        return await await_user(
            function.name, run_on(self._engine, function.name, remote, positional, keywords)
        )

    async def _choose(self, request: AttemptRequest) -> str:
        try:
            return pick_tool(
                self.name, request.tool or request.task.tool, request.task.task_id, self._functions
            )
        except InvalidArgumentError as exc:
            raise AttemptFailedError(str(exc), "unknown_tool", retryable=False) from None


class _Function:
    """One function and everything about it that is known before it is called."""

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        if not name:
            raise InvalidArgumentError("functions", name, "a tool name that is not empty")
        self.target: str | None = None
        """Its import string, where it was declared by one."""
        if isinstance(call, _Named):
            self.target = call.target
            call = call.function
        if not callable(call):
            raise InvalidArgumentError(f"functions[{name!r}]", call, "something callable")
        self.name = name
        self.call = call
        self.signature = Signature(name, call)
        self.is_async = is_async(call)

    @functools.cached_property
    def info(self) -> ToolInfo:
        """Return how the function is described to others."""
        description = _description(self.call)
        return ToolInfo(name=self.name, description=description, input_schema=self.signature.json_schema())

    def bind(self, request: AttemptRequest) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of one call; at no cost where the function takes none and gets none."""
        signature = self.signature
        if signature.takes_nothing and not request.arguments:
            return [], {}
        provided: dict[str, Any] = {}
        if signature.provided:
            provided = {
                "inputs": dict(request.inputs),
                "context": copied(request.context) if "context" in signature.provided else {},
                "idempotency_key": request.idempotency_key,
                "attempt_id": request.attempt_id,
                "heartbeat": Heartbeat(request.heartbeat),
                "progress": ProgressReport(request.progress),
            }
        return signature.bind(request.arguments, provided)

    def check_it_pickles(self) -> None:
        """Refuse a function that no worker process could find.

        Raises:
            InvalidArgumentError: It doesn't pickle, and has no import string.
        """
        if self.target is not None:
            return
        try:
            pickle.dumps(self.call)
        except Exception as exc:
            raise InvalidArgumentError(
                f"functions[{self.name!r}]",
                self.call,
                f"a function that another process can find, but it does not pickle ({exc})",
                "define it at the top of a module, or use the engine `thread`.",
            ) from exc


class _Named:
    """A function with the import string it was declared by."""

    def __init__(self, function: Callable[..., Any], target: str) -> None:
        self.function = function
        self.target = target

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.function(*args, **kwargs)


def _description(call: Callable[..., Any]) -> str:
    """Return the first paragraph of a function's docstring, in one line."""
    if not (inspect.isroutine(call) or inspect.isclass(call)):
        return ""  # a partial or an object: its docstring is its class's
    return " ".join((inspect.getdoc(call) or "").partition("\n\n")[0].split())


def import_function(target: str) -> Callable[..., Any]:
    """Return the callable that `package.module:function` names; dots after the colon reach into classes.

    Raises:
        InvalidArgumentError: The text has another form, the module or the name is missing, importing raised,
            or what was found can't be called.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        expected = "the form 'package.module:function'"
        raise InvalidArgumentError(
            "function", target, expected, "put a colon between the module and the function."
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        reason = f"{_EXPECTED}, but there is no module {exc.name!r}"
        raise InvalidArgumentError(
            "function", target, reason, "install it, or put its folder on PYTHONPATH."
        ) from exc
    except (Exception, SystemExit) as exc:
        reason = f"{_EXPECTED}, but importing {module_name!r} raised {type(exc).__name__}: {exc}"
        raise InvalidArgumentError("function", target, reason, "make the module importable.") from exc
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            near = nearest(part, [known for known in dir(found) if not known.startswith("_")])
            fix = f"did you mean {near[0]!r}?" if near else "name a function of that module."
            reason = f"{_EXPECTED}, but {module_name!r} has no {part!r}"
            raise InvalidArgumentError("function", target, reason, fix) from None
    if not callable(found):
        reason = f"{_EXPECTED}, but it is of type {type(found).__name__}, which can't be called"
        raise InvalidArgumentError("function", target, reason, "name a function.")
    result: Callable[..., Any] = found
    return result
