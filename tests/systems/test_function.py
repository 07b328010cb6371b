"""Python functions as tools."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Annotated, Any, Literal

import anyio
import anyio.lowlevel
import pytest
from pydantic import BaseModel, Field

from orchestration.errors import AttemptError, AttemptFailedError, ConfigurationError, InvalidArgumentError
from orchestration.systems.function import FunctionSystem, import_function
from orchestration.systems.threads import DaemonThreads
from tests.systems.support import IDEMPOTENCY_KEY, a_request, failure_of, until

pytestmark = pytest.mark.anyio


class Point(BaseModel):
    """A point."""

    x: int
    y: int


class Adder:
    """An object that can be called, and awaited."""

    async def __call__(self, a: int) -> int:
        return a + 1


def one(function: Any) -> FunctionSystem:
    """Return a system of one function, called `f`."""
    return FunctionSystem({"f": function})


async def test_arguments_are_coerced_to_the_annotations() -> None:
    """JSON has no points, tuples or literals; the function sees what its signature says."""

    async def f(
        point: Point, pair: tuple[int, int], how: Literal["up", "down"], *, count: int = 1
    ) -> list[object]:
        return [point, pair, how, count]

    value = await one(f).execute(
        a_request("f", {"point": {"x": "1", "y": 2}, "pair": [3, 4], "how": "up", "count": "5"})
    )

    assert value == [Point(x=1, y=2), (3, 4), "up", 5]


async def test_every_wrong_argument_is_named_with_what_the_function_takes() -> None:
    """Missing, unknown and mistyped arguments are told at once; the attempt is not retried."""

    async def f(day: str, limit: int = 10, *, names: list[int]) -> None: ...

    error = await failure_of(one(f), a_request("f", {"limit": "many", "dya": "x", "names": ["a"]}))

    assert (error.code, error.retryable) == ("invalid_arguments", False)
    text = str(error)
    assert text.startswith("f can't be called like this: argument 'day' is missing; ")
    assert "there is no argument 'dya' (did you mean 'day'?)" in text
    assert "argument 'limit' is 'many': input should be a valid integer" in text
    assert "argument 'names'[0] is ['a']: input should be a valid integer" in text
    assert text.endswith("It takes (day: str, limit: int = 10, names: list[int]).")


async def test_arguments_for_a_function_without_parameters_are_refused() -> None:
    """They would be lost silently."""

    async def f() -> None: ...

    error = await failure_of(one(f), a_request("f", {"x": 1}))

    assert str(error) == "f can't be called like this: there is no argument 'x'. It takes no arguments."


async def test_inputs_context_and_key_come_by_parameter_name() -> None:
    """A function gets them where it has such parameters; they are no arguments of the tool."""

    async def f(
        inputs: Mapping[str, Any], context: dict[str, Any], idempotency_key: str, a: int = 0
    ) -> list[Any]:
        return [inputs, context, idempotency_key, a]

    system = one(f)
    value = await system.execute(a_request("f", {"a": 1}, inputs={"up": 2}, context={"who": "me"}))
    schema = (await system.list_tools())[0].input_schema

    assert value == [{"up": 2}, {"who": "me"}, IDEMPOTENCY_KEY, 1]
    assert schema is not None
    assert list(schema["properties"]) == ["a"]
    assert system.takes_inputs("f")
    assert system.takes_inputs(None)


async def test_a_function_can_give_signs_of_life_from_any_thread() -> None:
    """By calling `heartbeat`, where it has such a parameter."""
    beats: list[str] = []

    async def f(heartbeat: Callable[[], None]) -> None:
        heartbeat()

    def g(heartbeat: Callable[[], None]) -> None:
        heartbeat()

    for function in (f, g):
        await one(function).execute(
            a_request("f", heartbeat=lambda: beats.append(threading.current_thread().name))
        )

    assert beats == ["MainThread", "python worker"]


async def test_the_attempt_comes_by_parameter_name() -> None:
    """Its own id changes from attempt to attempt, where the key stays."""

    async def f(attempt_id: str) -> str:
        return attempt_id

    assert [await one(f).execute(a_request("f", attempt=n)) for n in (1, 2)] == ["t#1", "t#2"]


def test_the_fingerprint_follows_which_function_a_tool_is() -> None:
    """The same function has the same one everywhere; another, or one that is not there, has not."""
    system = FunctionSystem({"a": import_function, "b": a_request})

    assert system.fingerprint("a") == FunctionSystem({"x": import_function}).fingerprint("x")
    assert len({system.fingerprint("a"), system.fingerprint("b"), system.fingerprint(None)}) == 3
    assert system.fingerprint("c") == ""


async def test_an_argument_beats_what_would_be_filled_in() -> None:
    """A task may give `context` itself."""

    async def f(context: str) -> str:
        return context

    assert await one(f).execute(a_request("f", {"context": "mine"}, context={"a": 1})) == "mine"


async def test_inputs_are_coerced_like_arguments() -> None:
    """An annotation on `inputs` is honoured."""

    async def f(inputs: dict[str, Point]) -> int:
        return inputs["up"].x

    assert await one(f).execute(a_request("f", inputs={"up": {"x": 7, "y": 0}})) == 7


async def test_the_schema_describes_parameters_and_models() -> None:
    """Whoever plans sees types, defaults, constraints, and definitions that resolve."""

    def f(
        points: list[Point],
        size: Annotated[int, Field(ge=1, description="how big")] = 3,
        anything: Any = None,
    ) -> None:
        """Draw points.

        With details nobody needs.
        """

    tool = (await one(f).list_tools())[0]

    assert tool.description == "Draw points."
    schema = tool.input_schema
    assert schema is not None
    assert schema["properties"]["points"]["items"] == {"$ref": "#/$defs/Point"}
    assert schema["properties"]["size"] == {
        "default": 3,
        "description": "how big",
        "minimum": 1,
        "type": "integer",
    }
    assert schema["properties"]["anything"] == {"default": None}
    assert schema["required"] == ["points"]
    assert schema["additionalProperties"] is False
    assert "Point" in schema["$defs"]


async def test_parameters_without_usable_annotations_take_any_value() -> None:
    """No annotation, an unknown name, a class pydantic does not know: the value comes as it is."""

    class Strange:
        pass

    def f(a, b: NoSuchName, d: int, c: Strange | None = None, **rest: int) -> list[Any]:  # type: ignore[no-untyped-def, name-defined]  # noqa: F821
        return [a, b, d, c, rest]

    value = await one(f).execute(a_request("f", {"a": [1], "b": "x", "d": "4", "more": 5}))

    assert value == [[1], "x", 4, None, {"more": 5}]


async def test_positional_only_partial_lambda_object_and_builtin_can_be_called() -> None:
    """Whatever is callable is a tool."""

    def minus(a: int, b: int, /) -> int:
        return a - b

    system = FunctionSystem(
        {
            "minus": minus,
            "less": functools.partial(minus, 10),
            "twice": lambda x: x * 2,
            "adder": Adder(),
            "slow": lambda: anyio.lowlevel.checkpoint(),
            "dict": dict,
        }
    )

    assert await system.execute(a_request("minus", {"a": 5, "b": "3"})) == 2
    assert await system.execute(a_request("less", {"b": 4})) == 6
    assert await system.execute(a_request("twice", {"x": 4})) == 8
    assert await system.execute(a_request("adder", {"a": 4})) == 5
    assert await system.execute(a_request("slow")) is None
    assert await system.execute(a_request("dict", {"k": 1})) == {"k": 1}


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), StopIteration(), GeneratorExit()])
async def test_nothing_a_blocking_function_raises_ends_more_than_its_attempt(raised: BaseException) -> None:
    """`sys.exit()` in a task is a failure of the task."""

    def f() -> None:
        raise raised

    error = await failure_of(one(f), a_request("f"))

    assert not error.retryable
    assert f"f raised {type(raised).__name__}" in str(error)


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt()])
async def test_nothing_a_coroutine_raises_ends_more_than_its_attempt(raised: BaseException) -> None:
    """Neither blocking nor awaited code can stop the program."""

    async def f() -> None:
        raise raised

    error = await failure_of(one(f), a_request("f"))

    assert error.code in ("system_exit", "keyboard_interrupt")
    assert f"f raised {type(raised).__name__}" in str(error)


async def test_a_cancellation_nobody_asked_for_is_a_failure() -> None:
    """Something that the function awaits was cancelled, not the attempt."""

    async def f() -> None:
        raise anyio.get_cancelled_exc_class()

    error = await failure_of(one(f), a_request("f"))

    assert (error.code, str(error)) == ("cancelled_inside", "f was cancelled from inside.")
    assert error.effect_open


async def test_an_ordinary_exception_comes_out_as_it_is() -> None:
    """The coordinator classifies it; nothing is wrapped."""

    def f() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        await one(f).execute(a_request("f"))


async def test_blocking_functions_run_side_by_side() -> None:
    """Two calls that wait for each other both end."""
    meeting = threading.Barrier(2, timeout=5)

    async with anyio.create_task_group() as attempts:
        system = one(meeting.wait)
        attempts.start_soon(system.execute, a_request("f"))
        attempts.start_soon(system.execute, a_request("f"))


async def test_no_more_blocking_functions_run_at_once_than_threads() -> None:
    """The limit holds, and everything gets its turn."""
    running = 0
    most = 0
    lock = threading.Lock()
    leave = threading.Event()

    def f() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        leave.wait(5)
        with lock:
            running -= 1

    system = FunctionSystem({"f": f}, threads=2)
    async with anyio.create_task_group() as attempts:
        for _ in range(5):
            attempts.start_soon(system.execute, a_request("f"))
        await until(lambda: running == 2)
        leave.set()

    assert most == 2


async def test_a_cancelled_blocking_function_is_abandoned_at_once() -> None:
    """The attempt ends although the thread goes on; the thread can't hold the program up at its end."""
    started, leave = threading.Event(), threading.Event()
    found: list[threading.Thread] = []

    def f() -> None:
        found.append(threading.current_thread())
        started.set()
        leave.wait(5)

    system = one(f)
    async with anyio.create_task_group() as attempts:
        attempts.start_soon(system.execute, a_request("f"))
        await until(started.is_set)
        attempts.cancel_scope.cancel()

    assert found[0].is_alive()
    assert found[0].daemon
    leave.set()


async def test_too_many_abandoned_calls_stop_further_ones() -> None:
    """Functions that hang can't pile up without limit; when they end, calls go on."""
    leave = threading.Event()
    threads = DaemonThreads(1, "python")
    for count in range(1, 5):
        async with anyio.create_task_group() as attempts:
            attempts.start_soon(threads.run, lambda: leave.wait(5))
            await until(lambda: threads._limiter.borrowed_tokens == 1)
            attempts.cancel_scope.cancel()
        assert threads.abandoned == count

    with pytest.raises(
        AttemptFailedError, match="4 calls of python that were cancelled or timed out are still running"
    ):
        await threads.run(lambda: None)
    leave.set()
    await until(lambda: threads.abandoned == 0)
    assert await threads.run(lambda: 5) == 5


async def test_context_variables_reach_blocking_functions() -> None:
    """What the caller has set is seen, and a function may run an event loop of its own."""
    who: ContextVar[str] = ContextVar("who", default="nobody")

    async def inner() -> str:
        return who.get()

    token = who.set("me")
    value = await one(lambda: anyio.run(inner)).execute(a_request("f"))
    who.reset(token)

    assert value == "me"


async def test_idle_threads_end_when_the_system_closes() -> None:
    """Nothing is left of a closed system."""
    found: list[threading.Thread] = []
    system = one(lambda: found.append(threading.current_thread()))

    await system.execute(a_request("f"))
    await system.execute(a_request("f"))
    await system.aclose()

    assert found[0] is found[1], "the thread is used again"
    await until(lambda: not found[0].is_alive())


def test_what_is_no_function_is_refused() -> None:
    """At construction, by name."""
    with pytest.raises(InvalidArgumentError, match=r"functions\['f'\] is 3; expected something callable"):
        FunctionSystem({"f": 3})  # type: ignore[dict-item]
    with pytest.raises(InvalidArgumentError, match="expected a tool name that is not empty"):
        FunctionSystem({"": print})
    with pytest.raises(InvalidArgumentError, match="threads is 0; expected a whole number of at least 1"):
        FunctionSystem({}, threads=0)


def test_functions_are_imported_by_name() -> None:
    """`module:function`, reaching into classes by dots."""
    import json

    assert import_function("json:dumps") is json.dumps
    assert import_function("json:JSONDecoder.decode") is json.JSONDecoder.decode


def test_every_function_that_can_not_be_imported_is_told() -> None:
    """One error with a line for each, and a fix."""
    with pytest.raises(ConfigurationError) as caught:
        FunctionSystem.from_import_strings(
            {
                "form": "json.dumps",
                "module": "no_such_module_here:f",
                "name": "json:dumpss",
                "kind": "json:__name__",
                "fine": "json:dumps",
            }
        )

    text = str(caught.value)
    assert "systems.python.functions.form: 'json.dumps': expected the form 'package.module:function'." in text
    assert (
        "but there is no module 'no_such_module_here'. Fix: install it, or put its folder on PYTHONPATH."
        in text
    )
    assert "but 'json' has no 'dumpss'. Fix: did you mean 'dumps'?" in text
    assert "but it is of type str, which can't be called. Fix: name a function." in text
    assert "functions.fine" not in text


def test_a_module_that_fails_or_exits_when_imported_is_told(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing somebody's module may do anything; the start ends with a clear error."""
    (tmp_path / "exits_at_import.py").write_text("raise SystemExit('bye')")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(InvalidArgumentError, match="importing 'exits_at_import' raised SystemExit: bye"):
        import_function("exits_at_import:f")


async def test_a_function_task_without_a_choice_gets_the_only_function() -> None:
    """One function needs no name."""

    async def only() -> int:
        return 1

    assert await FunctionSystem({"only": only}).execute(a_request(None)) == 1


async def test_errors_are_attempt_errors() -> None:
    """An unknown tool is one the retry policy understands."""
    error: AttemptError = await failure_of(FunctionSystem({}), a_request("f"))

    assert "but system 'python' has none" in str(error)
