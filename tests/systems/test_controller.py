"""The caller's own controller, found by its methods."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from orchestration.errors import InvalidArgumentError
from orchestration.models import TaskNode
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
