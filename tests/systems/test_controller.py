"""The caller's own controller, found by its methods."""

from __future__ import annotations

import copy
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from orchestration.errors import AttemptFailedError, InvalidArgumentError
from orchestration.execution.outputs import encode_output
from orchestration.models import TaskNode
from orchestration.options import Limits
from orchestration.ports import AttemptRequest
from orchestration.systems.base import error_record
from orchestration.systems.controller import ControllerSystem, RoutingStrategy, TaskContext
from tests.systems.support import IDEMPOTENCY_KEY, a_request, failure_of

pytestmark = pytest.mark.anyio


class FixedClock:
    """A clock that stands still."""

    def now_us(self) -> int:
        return 1_000_000

    def monotonic(self) -> float:
        return 0.0

    def elapsed(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


@dataclass
class Result:
    """An answer as an object."""

    success: bool
    result: object = None
    error: str | None = None


class Answers:
    """A controller that answers `execute_task` with the same thing every time."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.seen: list[Any] = []

    async def execute_task(self, context: TaskContext) -> Any:
        self.seen.append(context)
        return self.answer


class Processes:
    """A controller with `process_task` alone."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.seen: dict[str, Any] = {}

    async def process_task(
        self, description: str, context: Any = None, timeout_seconds: float | None = None
    ) -> Any:
        self.seen = {"description": description, "context": context, "timeout_seconds": timeout_seconds}
        return self.answer


async def value_of(answer: Any, request: AttemptRequest | None = None) -> object:
    """Return the value an answer of `execute_task` stands for."""
    return await ControllerSystem(Answers(answer)).execute(request or a_request())


async def test_the_context_tells_everything_about_the_task() -> None:
    """Fields of the earlier orchestrator, and those of this one."""
    controller = Answers({"success": True, "result": 1})
    task = TaskNode(
        "create_api",
        description="Create endpoints",
        tool="tool",
        system_preference="kgot",
        complexity_score=7,
        metadata={"requires_code_generation": True, "data_complexity": "high", "mine": 1},
    )
    request = a_request(
        "tool",
        {"a": 1},
        task=task,
        inputs={"db": {"url": "x", "port": 5}, "plan": "text"},
        context={"who": "me", "budget_constraints": {"max_cost": 2}},
    )

    await ControllerSystem(controller, clock=FixedClock()).execute(request)

    assert controller.seen == [
        TaskContext(
            task_id="create_api",
            description="Create endpoints",
            complexity_score=7,
            routing_strategy=RoutingStrategy.KGOT_FIRST,
            requires_code_generation=True,
            data_complexity="high",
            budget_constraints={
                "max_cost": 2,
                "input_data": {"db_url": "x", "db_port": 5, "plan_output": "text"},
            },
            timeout_seconds=30.0,
            created_at=datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
            tool="tool",
            arguments={"a": 1},
            inputs={"db": {"url": "x", "port": 5}, "plan": "text"},
            context={"who": "me", "budget_constraints": {"max_cost": 2}},
            goal="Sleep well",
            orchestration_id="night-1",
            attempt=1,
            idempotency_key=IDEMPOTENCY_KEY,
        )
    ]


@pytest.mark.parametrize(
    ("preference", "strategy"),
    [
        ("alita", "alita_first"),
        ("KGOT", "kgot_first"),
        ("hybrid", "hybrid"),
        ("parallel", "parallel"),
        ("auto", "hybrid"),
        ("controller", "hybrid"),
    ],
)
async def test_the_preference_becomes_the_routing_strategy(preference: str, strategy: str) -> None:
    """As an enum whose values are the names of the earlier code."""
    controller = Answers(None)

    await ControllerSystem(controller).execute(a_request(task=TaskNode("t", system_preference=preference)))

    assert controller.seen[0].routing_strategy.value == strategy
    assert controller.seen[0].budget_constraints is None
    assert controller.seen[0].description == "t"


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ({"success": True, "result": {"rows": 1}}, {"rows": 1}),
        (Result(success=True, result=[1]), [1]),
        ({"success": True, "rows": 2}, {"rows": 2}),
        ({"rows": 3}, {"rows": 3}),
        ("plain", "plain"),
        (None, None),
        ([1, 2], [1, 2]),
    ],
)
async def test_the_value_is_found_in_every_shape_of_answer(answer: Any, value: object) -> None:
    """Object, mapping or plain value."""
    assert await value_of(answer) == value


@pytest.mark.parametrize(
    ("answer", "code", "message", "retryable"),
    [
        ({"success": False, "error": "no luck"}, "task_failed", "no luck", True),
        (Result(success=False, error="no luck"), "task_failed", "no luck", True),
        ({"success": False}, "task_failed", "The controller answered with success false and no error.", True),
        ({"success": False, "error": {"code": "quota", "message": "used up"}}, "quota", "used up", True),
        ({"success": False, "error": "never", "retryable": False, "error_code": "x"}, "x", "never", False),
    ],
)
async def test_success_false_is_a_failure(answer: Any, code: str, message: str, retryable: bool) -> None:
    """With the answer's own words, code and wish."""
    error = await failure_of(ControllerSystem(Answers(answer)), a_request())

    assert (error.code, str(error), error.retryable) == (code, message, retryable)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ({"success": True, "result": {"response": "hello"}}, "hello"),
        ({"success": True, "result": {"final_response": "bye"}}, "bye"),
        (Result(success=True, result={"response": "object"}), "object"),
        ({"success": True, "result": {"other": 1}}, {"other": 1}),
        ("plain", "plain"),
    ],
)
async def test_process_task_answers_with_a_response(answer: Any, value: object) -> None:
    """Its answer has the value one level deeper."""
    controller = Processes(answer)

    found = await ControllerSystem(controller).execute(a_request(task=TaskNode("t", description="Do it")))

    assert found == value
    assert controller.seen["description"] == "Do it"
    assert controller.seen["timeout_seconds"] == 30.0
    assert controller.seen["context"]["task_id"] == "t"


async def test_only_arguments_the_signature_takes_are_given() -> None:
    """A `process_task` of another shape works as well."""

    class Short:
        def process_task(self, text: str) -> str:
            return f"did {text}"

    class Keyword:
        async def process_task(self, description: str, *, timeout_seconds: float) -> float:
            return timeout_seconds

    class Open:
        async def process_task(self, description: str, **more: Any) -> list[str]:
            return sorted(more)

    request = a_request(task=TaskNode("t", description="it"))

    assert await ControllerSystem(Short()).execute(request) == "did it"
    assert await ControllerSystem(Keyword()).execute(request) == 30.0
    assert await ControllerSystem(Open()).execute(request) == ["context", "timeout_seconds"]


async def test_execute_task_is_preferred_and_may_block() -> None:
    """A blocking method runs on a thread of its own."""

    class Both:
        def execute_task(self, context: TaskContext) -> bool:
            return threading.current_thread() is threading.main_thread()

        def process_task(self, description: str) -> None:
            raise AssertionError("not asked")

    system = ControllerSystem(Both())

    assert await system.execute(a_request()) is False
    await system.aclose()


async def test_what_a_controller_raises_is_its_failure() -> None:
    """Ordinary exceptions come out as they are, others end only the attempt."""

    class Raises:
        async def execute_task(self, context: TaskContext) -> None:
            if context.tool == "exit":
                raise SystemExit(1)
            raise ValueError("no luck")

    system = ControllerSystem(Raises())

    with pytest.raises(ValueError, match="no luck"):
        await system.execute(a_request())
    assert "execute_task raised SystemExit" in str(await failure_of(system, a_request("exit")))


@pytest.mark.parametrize(
    ("answer", "effect_open"),
    [
        ({"success": False, "error": "no luck"}, False),
        ({"success": False, "error": "no answer", "error_code": "timeout"}, True),
        (Result(success=False, error="no luck"), False),
        ({"success": False, "error": {"code": "connection_lost", "message": "gone"}}, True),
        ({"success": False, "error": "who knows", "effect_open": True}, True),
        ({"success": False, "error": "undone", "error_code": "timeout", "effect_open": False}, False),
    ],
)
async def test_an_answer_that_says_no_is_definite_unless_the_controller_heard_none_itself(
    answer: Any, effect_open: bool
) -> None:
    """Its own words beat what its code means."""
    error = await failure_of(ControllerSystem(Answers(answer)), a_request())

    assert error.effect_open is effect_open


@pytest.mark.parametrize(
    ("raised", "effect_open"),
    [
        (TimeoutError("no answer"), True),
        (ConnectionResetError("gone"), True),
        (ConnectionRefusedError("nobody there"), False),
        (ValueError("no luck"), False),
    ],
)
async def test_a_connection_a_controller_loses_leaves_the_effect_open(
    raised: Exception, effect_open: bool
) -> None:
    """It had asked, and heard no answer; where nobody was there, nothing was asked."""

    class Raises:
        async def execute_task(self, context: TaskContext) -> None:
            raise raised

    with pytest.raises(type(raised)) as caught:
        await ControllerSystem(Raises()).execute(a_request())

    assert error_record(caught.value, "controller", 1).effect_open is effect_open


async def test_a_controller_can_give_signs_of_life() -> None:
    """By the context's `heartbeat`, or in a parameter of that name; the context's fields stay plain values."""
    beats: list[str] = []

    class Executes:
        async def execute_task(self, context: TaskContext) -> dict[str, Any]:
            context.heartbeat()
            copy.copy(context).heartbeat()
            return context.to_dict()

    class Processes:
        async def process_task(
            self, description: str, *, heartbeat: Callable[[], None], idempotency_key: str
        ) -> str:
            heartbeat()
            return idempotency_key

    request = a_request(heartbeat=lambda: beats.append("beat"))
    fields = await ControllerSystem(Executes()).execute(request)
    key = await ControllerSystem(Processes()).execute(request)

    assert beats == ["beat", "beat"]
    assert isinstance(fields, dict)
    assert "heartbeat" not in fields
    assert key == IDEMPOTENCY_KEY


async def test_a_request_for_another_tool_does_not_carry_the_tasks_own_words() -> None:
    """A question about a task must not have its description carried out again."""
    controller = Answers(None)
    task = TaskNode("pay", tool="pay", description="Pay the invoice")

    await ControllerSystem(controller).execute(a_request("was_it_paid", task=task))

    assert controller.seen[0].description == "was_it_paid"


def test_an_object_with_neither_method_is_refused() -> None:
    """At construction, with what is looked for."""
    with pytest.raises(InvalidArgumentError) as caught:
        ControllerSystem(object())

    assert str(caught.value) == (
        "unified_controller is 'object'; expected an object with a method execute_task(context), or "
        "process_task(description, context=, timeout_seconds=). Fix: add one of the two methods."
    )


class WithStatus(Answers):
    """A controller that tells its status."""

    async def get_system_status(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer == "hang":
            await anyio.sleep_forever()
        return self.answer


@pytest.mark.parametrize(
    ("status", "ok", "detail"),
    [
        ({"status": "healthy"}, True, "status healthy"),
        ({"status": "unhealthy"}, False, "status unhealthy"),
        ({"healthy": False}, False, "answers"),
        ({"alita": {}}, True, "answers"),
        ("hang", False, "get_system_status gave no answer within 0.05 s"),
        (ConnectionError("redis"), False, "get_system_status raised ConnectionError: redis"),
    ],
)
async def test_its_own_status_is_its_health(
    status: Any, ok: bool, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked with a short limit, and never an exception."""
    monkeypatch.setattr("orchestration.systems.controller.STATUS_SECONDS", 0.05)

    health = await ControllerSystem(WithStatus(status)).check()

    assert (health.ok, health.detail) == (ok, detail)


async def test_without_a_status_it_counts_as_healthy() -> None:
    """There is nothing to ask."""
    assert (await ControllerSystem(Answers(1)).check()).detail == "calls execute_task"


# Controllers that misbehave


class Unreadable:
    """An answer whose own code raises."""

    result = 1

    @property
    def success(self) -> bool:
        raise RuntimeError("lazy loading failed")


class Undecided:
    """Neither true nor false, like an array."""

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")


@pytest.mark.parametrize("answer", [Unreadable(), {"success": Undecided()}])
async def test_an_answer_that_can_not_be_read_leaves_open_what_happened(answer: Any) -> None:
    """The work was done, and nobody can tell what came of it."""
    error = await failure_of(ControllerSystem(Answers(answer)), a_request())

    assert (error.code, error.retryable, error.effect_open) == ("unreadable_answer", False, True)
    assert f"The controller's answer, of type {type(answer).__name__}, can't be read" in str(error)


@pytest.mark.parametrize("success", ["false", " No ", "failed", "", 0, None, []])
async def test_success_of_another_type_that_means_no_is_a_failure(success: Any) -> None:
    """The string "false" is not true."""
    error = await failure_of(ControllerSystem(Answers({"success": success, "error": "no luck"})), a_request())

    assert str(error) == "no luck"


async def test_success_of_another_type_that_means_yes_is_none() -> None:
    """Whatever it is."""
    assert await value_of({"success": "true", "result": 1}) == 1
    assert await value_of({"success": 1, "result": 2}) == 2


@pytest.mark.parametrize(
    ("answer", "code", "effect_open"),
    [
        (ValueError("no luck"), "value_error", False),
        (TimeoutError("no answer"), "timeout", True),
        (SystemExit("bye"), "system_exit", False),
        (StopIteration("over"), "stop_iteration", False),
    ],
)
async def test_an_exception_that_is_returned_is_a_failure(
    answer: BaseException, code: str, effect_open: bool
) -> None:
    """As if it had been raised."""
    with pytest.raises(Exception, match=str(answer)) as caught:
        await value_of(answer)

    record = error_record(caught.value, "controller", 1)
    assert (record.code, record.effect_open) == (code, effect_open)


async def test_what_is_yet_to_come_is_waited_for() -> None:
    """A future of an executor, a coroutine that gives another one, items that come one by one."""

    class Controller:
        def execute_task(self, context: TaskContext) -> Any:
            if context.tool == "future":
                return pool.submit(lambda: {"success": True, "result": 1})
            return self.nested() if context.tool == "nested" else self.items()

        async def nested(self) -> Any:
            return self.inner()

        async def inner(self) -> int:
            return 2

        async def items(self) -> AsyncIterator[int]:
            yield 3
            yield 4

    system = ControllerSystem(Controller())
    with ThreadPoolExecutor(1) as pool:
        assert await system.execute(a_request("future")) == 1
    assert await system.execute(a_request("nested")) == 2
    assert await system.execute(a_request("items")) == [3, 4]
    await system.aclose()


async def test_a_future_that_has_not_begun_is_cancelled_with_the_attempt() -> None:
    """Nothing starts later for an attempt that has ended."""
    future: Future[None] = Future()
    system = ControllerSystem(Answers(future))

    with anyio.move_on_after(0.02):
        await system.execute(a_request())

    assert future.cancelled()
    await system.aclose()


@pytest.mark.parametrize(
    "kind", [KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, StopAsyncIteration]
)
@pytest.mark.parametrize("is_async", [True, False])
async def test_nothing_a_controller_raises_ends_more_than_the_attempt(
    kind: type[BaseException], is_async: bool
) -> None:
    """Also what would end the program, or be taken for the end of a coroutine."""

    class Blocking:
        def execute_task(self, context: TaskContext) -> None:
            raise kind("out")

    class Waiting:
        async def execute_task(self, context: TaskContext) -> None:
            raise kind("out")

    with pytest.raises(Exception, match=r"StopIteration|Interrupt|Exit|out"):
        await ControllerSystem(Waiting() if is_async else Blocking()).execute(a_request())


async def test_a_coroutine_that_is_closed_is_no_failure_of_the_controller() -> None:
    """It ends as Python wants it to."""
    call = ControllerSystem(Answers(anyio.sleep_forever())).execute(a_request())
    call.send(None)

    call.close()


async def test_what_a_controller_changes_reaches_nobody_else() -> None:
    """Its context is its own: another attempt gets what this one got."""

    class Changes:
        async def execute_task(self, context: Any) -> Any:
            context.complexity_score = 10
            context.extra = "mine"
            context.inputs["up"]["rows"].append("changed")
            context.arguments["list"].append("changed")
            context.context["budget_constraints"]["max_cost"] = 0
            context.budget_constraints["max_cost"] = 0
            context.budget_constraints["input_data"]["up_rows"].append("changed")
            return None

    request = a_request(
        arguments={"list": [1]},
        inputs={"up": {"rows": [1]}},
        context={"budget_constraints": {"max_cost": 5}},
    )

    await ControllerSystem(Changes()).execute(request)

    assert request.arguments == {"list": [1]}
    assert request.inputs == {"up": {"rows": [1]}}
    assert request.context == {"budget_constraints": {"max_cost": 5}}


@pytest.mark.parametrize("size", [30, 3_000])
async def test_a_huge_or_endless_answer_is_refused(size: int) -> None:
    """When it is made JSON, which no answer escapes."""
    cyclic: dict[str, Any] = {"rows": ["x" * size]}
    cyclic["self"] = cyclic if size < 1_000 else None
    value = await value_of({"success": True, "result": cyclic})

    with pytest.raises(AttemptFailedError) as caught:
        encode_output("t", value, Limits(max_output_bytes=2_000))

    assert caught.value.code == ("output_not_json" if size < 1_000 else "output_too_large")


async def test_a_controller_whose_attributes_raise_is_used_as_far_as_it_goes() -> None:
    """A property is anybody's code."""

    class Raises:
        @property
        def execute_task(self) -> Any:
            raise RuntimeError("not connected")

        @property
        def get_system_status(self) -> Any:
            raise RuntimeError("not connected")

        def process_task(self, description: str) -> str:
            return description

    system = ControllerSystem(Raises())

    assert await system.execute(a_request(task=TaskNode("t", description="it"))) == "it"
    assert (await system.check()).ok is True
    await system.aclose()


async def test_a_status_that_raises_a_timeout_or_an_exit_is_told_as_it_is() -> None:
    """Not as the limit of the question."""

    class Exits(Answers):
        def get_system_status(self) -> Any:
            raise self.answer

    timeout = await ControllerSystem(Exits(TimeoutError("redis"))).check()
    ended = await ControllerSystem(Exits(SystemExit("bye"))).check()

    assert timeout.detail == "get_system_status raised TimeoutError: redis"
    assert "get_system_status raised SystemExit: bye" in ended.detail
    assert not timeout.ok
    assert not ended.ok


async def test_its_life_is_its_makers() -> None:
    """Neither `initialize` nor `shutdown` is called, so that neither can hang."""

    class Hangs(Answers):
        async def initialize(self) -> None:
            await anyio.sleep_forever()

        async def shutdown(self) -> None:
            await anyio.sleep_forever()

    system = ControllerSystem(Hangs("done"))

    with anyio.fail_after(1):
        await system.open()
        assert await system.execute(a_request()) == "done"
        await system.aclose()
