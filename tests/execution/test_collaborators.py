"""The collaborators `monitoring_system`, `load_balancer` and `state_manager`: told and asked, and never in the way."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from orchestration import AdvancedTaskOrchestrator, FunctionSystem, create_advanced_task_orchestrator
from orchestration.dag import TaskDAG
from orchestration.errors import AttemptFailedError
from orchestration.execution import collaborator, courier, load_balancing, state_mirror
from orchestration.models import TaskEdge, TaskNode
from orchestration.ports import AttemptRequest, AttemptResult, System

pytestmark = pytest.mark.anyio

ADDRESS = "http://127.0.0.1:3001"


@pytest.fixture
def anyio_backend() -> str:
    """Real time: plain methods run on threads, of which virtual time knows nothing."""
    return "asyncio"


@pytest.fixture(autouse=True)
def bounded_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short limits, so that hanging collaborators cost these tests little."""
    monkeypatch.setattr(collaborator, "TELL_SECONDS", 0.1)
    monkeypatch.setattr(courier, "CLOSING_SECONDS", 0.1)
    monkeypatch.setattr(load_balancing, "SELECT_SECONDS", 0.05)
    monkeypatch.setattr(state_mirror, "_PATIENCE_SECONDS", 0.05)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What blocking methods wait for; set when the test is over, so that no thread stays."""
    event = threading.Event()
    yield event
    event.set()


class Analyzer:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.metrics: list[tuple[str, str, float]] = []

    def record_metric(self, system: str, metric_type: str, value: float) -> None:
        self.metrics.append((system, metric_type, value))

    def named(self, metric_type: str) -> list[tuple[str, float]]:
        return [(system, value) for system, name, value in self.metrics if name == metric_type]


class Monitor:
    """A monitoring system with every method."""

    def __init__(self) -> None:
        self.performance_analyzer = Analyzer()
        self.asked = 0

    async def get_monitoring_dashboard_data(self) -> dict[str, Any]:
        self.asked += 1
        return {"active_alerts": ["slow"], "system_health": {"alita": 0.5}, "performance_trends": object()}


class Balancer:
    """A load balancer with every method; keeps what was selected and completed."""

    def __init__(self) -> None:
        self.selected: list[str] = []
        self.completed: list[tuple[str, float, bool, str | None]] = []

    def instance(self) -> Any:
        number = len(self.selected)
        return SimpleNamespace(
            instance_id=f"i{number}",
            system_name="alita",
            endpoint=ADDRESS,
            load_percentage=1.0,
            is_available=True,
        )

    async def select_instance(self, system_name: str) -> Any:
        self.selected.append(system_name)
        return self.instance()

    async def record_request_completion(
        self, instance_id: str, response_time_ms: float, success: bool, error: str | None = None
    ) -> None:
        self.completed.append((instance_id, response_time_ms, success, error))

    def get_load_balancing_status(self) -> dict[str, Any]:
        return {"instances": len(self.selected)}

    @property
    def is_paired(self) -> bool:
        """Whether each instance that was handed out was completed exactly once."""
        return Counter(name for name, *_ in self.completed) == Counter(
            f"i{number}" for number in range(1, len(self.selected) + 1)
        )


@dataclass
class Endpoints:
    """A system of several instances: notes where it is pointed and does what the test wants."""

    does: Callable[[], Any] = lambda: "done"
    name: str = "alita"
    kind: str = "alita"
    seen: list[str | None] = field(default_factory=list)
    started: anyio.Event = field(default_factory=anyio.Event)

    async def open(self) -> None: ...

    async def aclose(self) -> None: ...

    async def list_tools(self) -> list[Any]:
        return []

    async def choose_tool(self, task: TaskNode) -> str | None:
        return task.tool

    def takes_inputs(self, tool: str | None) -> bool:
        return False

    async def check(self) -> Any: ...

    def balanced_as(self, request: AttemptRequest) -> str | None:
        return "alita"

    async def execute(self, request: AttemptRequest) -> object:
        self.seen.append(request.endpoint)
        self.started.set()
        answer = self.does()
        return await answer if hasattr(answer, "__await__") else answer


def a_dag(system: str = "alita", *, count: int = 1, **options: Any) -> TaskDAG:
    """Return independent tasks on a system, that are tried once."""
    dag = TaskDAG("d")
    for number in range(count):
        dag.add_task(TaskNode(f"t{number}", system_preference=system, max_retries=0, **options))
    return dag


def python_dag(count: int = 1) -> TaskDAG:
    """Return independent tasks that call the tool `work`."""
    return a_dag("python", count=count, tool="work")


async def work() -> int:
    return 1


async def fail() -> None:
    raise ValueError("no luck")


def python(**options: Any) -> AdvancedTaskOrchestrator:
    """Return an orchestrator with the tool `work`."""
    return create_advanced_task_orchestrator(systems={"python": FunctionSystem({"work": work})}, **options)


@asynccontextmanager
async def bounded(seconds: float = 5) -> AsyncIterator[None]:
    """Fail what takes too long."""
    with anyio.fail_after(seconds):
        yield


async def until(holds: Callable[[], Any]) -> None:
    """Wait until something holds, 5 s at the most."""
    with anyio.fail_after(5):
        while not holds():  # noqa: ASYNC110  (nothing announces what happens beside the work)
            await anyio.sleep(0.005)


# The monitoring system


async def test_a_monitoring_system_is_told_how_each_attempt_went() -> None:
    """Its time, whether it succeeded and what it cost, by the name tasks use for the system."""

    async def paid() -> AttemptResult:
        return AttemptResult(output=1, cost=0.25)

    monitor = Monitor()
    systems: dict[str, System] = {
        "jobs": FunctionSystem({"work": work, "fail": fail}, "inner"),
        "alita": Endpoints(paid),
    }
    dag = TaskDAG("d")
    for tool in ("work", "fail"):
        dag.add_task(TaskNode(tool, tool=tool, system_preference="jobs", max_retries=0))
    dag.add_task(TaskNode("ask", system_preference="alita"))

    await create_advanced_task_orchestrator(systems=systems, monitoring_system=monitor).execute_dag(dag)

    analyzer = monitor.performance_analyzer
    assert sorted(analyzer.named("success")) == [("alita", 1.0), ("jobs", 0.0), ("jobs", 1.0)]
    assert analyzer.named("cost") == [("alita", 0.25)]
    assert [value >= 0 for _, value in analyzer.named("execution_time_ms")] == [True] * 3


async def test_what_a_monitoring_system_says_is_shown_with_the_metrics() -> None:
    """Its alerts and the health of systems; asked once for many attempts."""
    monitor = Monitor()
    orchestrator = python(monitoring_system=monitor)

    await orchestrator.execute_dag(python_dag(20))

    told = orchestrator.get_performance_metrics()["collaborators"]["monitoring_system"]
    assert monitor.asked == 1
    assert told["calls"] == 41
    assert told["faults"] == 0
    assert told["active_alerts"] == ["slow"]
    assert told["system_health"] == {"alita": 0.5}


async def test_a_cancelled_attempt_says_nothing_about_its_system() -> None:
    """Somebody changed their mind; one that ran out of its time does say something."""
    monitor, system = Monitor(), Endpoints(anyio.sleep_forever)
    orchestrator = create_advanced_task_orchestrator(systems={"alita": system}, monitoring_system=monitor)

    async with bounded(), orchestrator:
        cancelled = await orchestrator.submit(a_dag())
        await system.started.wait()
        await orchestrator.cancel_orchestration(cancelled)
        await orchestrator.wait(cancelled)
        assert monitor.performance_analyzer.metrics == []
        result = await orchestrator.execute_dag(a_dag(timeout_seconds=0.02))

    assert result["success"] is False
    assert monitor.performance_analyzer.named("success") == [("alita", 0.0)]


# The load balancer


async def test_an_attempt_goes_where_the_load_balancer_says() -> None:
    """It is told how that went, with the time and the error."""
    balancer, system = Balancer(), Endpoints()
    orchestrator = create_advanced_task_orchestrator(systems={"alita": system}, load_balancer=balancer)

    assert (await orchestrator.execute_dag(a_dag(count=3)))["success"] is True

    assert system.seen == [ADDRESS] * 3
    assert balancer.selected == ["alita"] * 3
    assert balancer.is_paired
    assert {(success, error) for _, _, success, error in balancer.completed} == {(True, None)}
    told = orchestrator.get_performance_metrics()["collaborators"]["load_balancer"]
    assert told["status"] == {"instances": 3}


@pytest.mark.parametrize(
    ("preference", "asked"), [("alita", ["alita"]), ("kgot", ["kgot"]), ("hybrid", []), ("auto", [])]
)
async def test_a_controller_is_told_where_its_preferred_system_is(preference: str, asked: list[str]) -> None:
    """One that chooses itself is not."""

    class Controller:
        async def execute_task(self, context: Any) -> Any:
            return context.endpoint

    balancer = Balancer()
    orchestrator = create_advanced_task_orchestrator(unified_controller=Controller(), load_balancer=balancer)

    result = await orchestrator.execute_dag(a_dag(preference))

    assert result["results"]["t0"] == (ADDRESS if asked else None)
    assert balancer.selected == asked
    assert balancer.is_paired


async def test_a_system_of_one_instance_is_not_asked_about() -> None:
    """There is nothing to choose."""
    balancer = Balancer()

    await python(load_balancer=balancer).execute_dag(python_dag())

    assert balancer.selected == []


async def test_an_attempt_that_fails_is_completed_with_its_error() -> None:
    """Exactly once, however it ends."""

    def crash() -> None:
        raise AttemptFailedError("no luck")

    balancer, system = Balancer(), Endpoints(crash)

    await create_advanced_task_orchestrator(systems={"alita": system}, load_balancer=balancer).execute_dag(
        a_dag()
    )

    assert [done[2:] for done in balancer.completed] == [(False, "AttemptFailedError: no luck")]
    assert balancer.is_paired


async def test_an_attempt_cut_off_by_the_end_of_the_session_is_completed_too() -> None:
    """Whoever closes the orchestrator leaves no instance busy for ever."""
    balancer, system = Balancer(), Endpoints(anyio.sleep_forever)

    async with (
        bounded(),
        create_advanced_task_orchestrator(systems={"alita": system}, load_balancer=balancer) as orchestrator,
    ):
        await orchestrator.submit(a_dag())
        await system.started.wait()

    assert [done[2:] for done in balancer.completed] == [(False, "cancelled")]


async def test_an_instance_that_comes_too_late_is_given_back() -> None:
    """The attempt has gone to the system's own address meanwhile."""
    answer = anyio.Event()

    class Late(Balancer):
        async def select_instance(self, system_name: str) -> Any:
            self.selected.append(system_name)
            await answer.wait()
            return self.instance()

    balancer, system = Late(), Endpoints()
    async with (
        bounded(),
        create_advanced_task_orchestrator(systems={"alita": system}, load_balancer=balancer) as orchestrator,
    ):
        result = await orchestrator.execute_dag(a_dag())
        answer.set()
        await until(lambda: balancer.completed)

    assert result["success"] is True
    assert system.seen == [None]
    assert balancer.completed == [("i1", 0.0, False, load_balancing.TOO_LATE)]


@pytest.mark.parametrize(
    ("instance", "endpoint", "completed"),
    [
        (None, None, []),
        ("nonsense", None, []),
        (SimpleNamespace(instance_id=7, endpoint=ADDRESS), None, []),
        ({"instance_id": "m", "endpoint": ADDRESS}, ADDRESS, [("m", True, None)]),
        (SimpleNamespace(instance_id="a", endpoint="file:///etc/passwd"), None, [("a", True, None)]),
        (SimpleNamespace(instance_id="b", endpoint=object()), None, [("b", True, None)]),
        (SimpleNamespace(instance_id="c", endpoint="http://x/\n"), None, [("c", True, None)]),
        (SimpleNamespace(instance_id="d", endpoint="http://[x"), None, [("d", True, None)]),
        (
            SimpleNamespace(instance_id="e", endpoint=ADDRESS, is_available=False),
            None,
            [("e", False, load_balancing.NOT_AVAILABLE)],
        ),
    ],
)
async def test_an_answer_that_is_no_address_is_done_without(
    instance: Any, endpoint: str | None, completed: list[Any]
) -> None:
    """The attempt goes to the system's own address; what has an id is completed all the same."""

    class Odd(Balancer):
        def select_instance(self, system_name: str) -> Any:
            return instance

    balancer, system = Odd(), Endpoints()

    result = await create_advanced_task_orchestrator(
        systems={"alita": system}, load_balancer=balancer
    ).execute_dag(a_dag())

    assert result["success"] is True
    assert system.seen == [endpoint]
    assert [(name, success, error) for name, _, success, error in balancer.completed] == completed


async def test_a_completion_that_takes_no_error_is_told_without_one() -> None:
    """Only arguments the signature takes are given."""
    completed = []

    class Short:
        def select_instance(self, system_name: str) -> Any:
            return {"instance_id": "i1", "endpoint": ADDRESS}

        def record_request_completion(self, instance_id: str, response_time_ms: float, success: bool) -> None:
            completed.append((instance_id, success))

    await create_advanced_task_orchestrator(
        systems={"alita": Endpoints()}, load_balancer=Short()
    ).execute_dag(a_dag())

    assert completed == [("i1", True)]


# What misbehaves


async def test_collaborators_that_hang_hold_nothing_up(release: threading.Event) -> None:
    """Neither tasks nor the end; blocking or waiting, the attempts go on without them."""

    class HangingMonitor:
        class performance_analyzer:  # noqa: N801  (an attribute, whatever it is)
            @staticmethod
            def record_metric(*_: Any) -> None:
                release.wait(30)

        async def get_monitoring_dashboard_data(self) -> None:
            await anyio.sleep_forever()

    class HangingBalancer:
        def select_instance(self, _: str) -> None:
            release.wait(30)

    system = Endpoints()
    async with bounded(3):
        result = await create_advanced_task_orchestrator(
            systems={"alita": system},
            monitoring_system=HangingMonitor(),
            load_balancer=HangingBalancer(),
            max_concurrent_tasks=4,
        ).execute_dag(a_dag(count=8))

    assert result["success"] is True
    assert system.seen == [None] * 8


async def test_a_collaborator_that_only_fails_is_left_alone_for_a_while() -> None:
    """Asked again later; its first fault is logged, the rest are counted."""

    class Broken:
        asked = 0

        def select_instance(self, _: str) -> None:
            self.asked += 1
            raise ConnectionError("redis is down")

    class Clock:
        now = 0.0

        def now_us(self) -> int:
            return 0

        def monotonic(self) -> float:
            return self.now

        def elapsed(self) -> float:
            return self.now

        async def sleep(self, seconds: float) -> None:
            await anyio.sleep(seconds)

    clock, broken = Clock(), Broken()
    told = collaborator.Collaborator("load_balancer", broken, clock)

    async def ask(times: int) -> int:
        before = broken.asked
        for _ in range(times):
            assert await told.call("select_instance", "alita") is collaborator.UNHEARD
        return broken.asked - before

    assert await ask(8) == collaborator.FAULTS_BEFORE_REST
    clock.now += collaborator.FIRST_REST_SECONDS
    assert await ask(3) == 1
    clock.now += collaborator.FIRST_REST_SECONDS
    assert await ask(3) == 0
    clock.now += collaborator.FIRST_REST_SECONDS
    assert await ask(3) == 1
    assert told.last_fault == "select_instance: ConnectionError: redis is down"
    assert (told.faults, told.dropped) == (7, 10)


async def test_the_first_fault_of_a_method_is_logged_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """A log line per attempt would tell nothing more."""
    caplog.set_level("WARNING", logger="advanced_task_orchestration")

    class Broken:
        def record_metric(self, *_: Any) -> None:
            raise RuntimeError("no")

    await python(monitoring_system=Broken()).execute_dag(python_dag(3))

    lines = [
        vars(record) for record in caplog.records if vars(record).get("operation") == "COLLABORATOR_FAILED"
    ]
    assert [(line["collaborator"], line["method"], line["reason"]) for line in lines] == [
        ("monitoring_system", "record_metric", "RuntimeError: no")
    ]


async def test_a_state_manager_that_blocks_does_not_block_the_event_loop(release: threading.Event) -> None:
    """Nor one that raises what would end the program."""

    class StateManager:
        def set_state(self, key: str, value: Any) -> None:
            release.wait(0.04)
            raise SystemExit(1)

    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.002)
            ticks += 1

    orchestrator = python(state_manager=StateManager())
    async with bounded(), anyio.create_task_group() as group:
        group.start_soon(tick)
        assert (await orchestrator.execute_dag(python_dag()))["success"] is True
        group.cancel_scope.cancel()

    told = orchestrator.get_performance_metrics()["collaborators"]["state_manager"]
    assert ticks > 3
    assert "set_state raised SystemExit" in told["last_fault"]


class Cyclic(dict[str, Any]):
    """A mapping that holds itself."""

    def __init__(self) -> None:
        super().__init__(active_alerts=self, instance_id="i1", endpoint=self, system_health=10**5000)


class Chaos:
    """A collaborator whose every method is missing, slow, raising or wrong, as a seed decides at each look."""

    def __init__(self, seed: int, release: threading.Event) -> None:
        self._rng = random.Random(seed)
        self._release = release

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._rng.choice(self._kinds())

    def _kinds(self) -> list[Any]:
        async def hang(*_: Any, **__: Any) -> None:
            await anyio.sleep_forever()

        async def stops_late(*_: Any, **__: Any) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise RuntimeError("not now")

        def block(*_: Any, **__: Any) -> None:
            self._release.wait(30)

        def raises(kind: type[BaseException]) -> Callable[..., Any]:
            def plain(*_: Any, **__: Any) -> None:
                raise kind("chaos")

            async def waiting(*_: Any, **__: Any) -> None:
                raise kind("chaos")

            return self._rng.choice([plain, waiting])

        def answers(value: Any) -> Callable[..., Any]:
            return lambda *_, **__: value

        return [
            None,
            5,
            self,
            hang,
            stops_late,
            block,
            lambda: None,
            *(
                raises(kind)
                for kind in (ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration)
            ),
            *(answers(value) for value in (None, 5, "x" * 100_000, object(), Cyclic(), [hang], {1: {2: 3}})),
            answers({"instance_id": "i1", "endpoint": ADDRESS}),
        ]


class Known:
    """A state manager, which is known by its one method, whatever that does at each call."""

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos

    def set_state(self, key: str, value: Any) -> Any:
        method = self._chaos.set_state
        return method(key, value)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_collaborators_do_the_result_is_the_same(seed: int, release: threading.Event) -> None:
    """Every method at random missing, slow, raising or answering nonsense; and the end comes in bounded time."""
    chaos = [Chaos(seed * 3 + number, release) for number in range(3)]
    system = Endpoints()
    dag = a_dag(count=6)
    dag.add_task(TaskNode("last", system_preference="alita"))
    dag.add_dependency(TaskEdge("t0", "last"))

    async with bounded(4):
        orchestrator = create_advanced_task_orchestrator(
            systems={"alita": system},
            monitoring_system=chaos[0],
            load_balancer=chaos[1],
            state_manager=Known(chaos[2]),
        )
        result = await orchestrator.execute_dag(dag)

    assert result["success"] is True
    assert dict(result["results"]) == dict.fromkeys(dag.nodes, "done")
    assert len(system.seen) == 7
