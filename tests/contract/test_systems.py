"""What every kind of system promises, whatever it is made of. A further kind is done when it passes this suite."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration.errors import InvalidArgumentError
from orchestration.models import Json, TaskNode
from orchestration.ports import System
from orchestration.systems.alita import AlitaSpec, AlitaSystem
from orchestration.systems.base import error_record
from orchestration.systems.command import CommandSpec, CommandSystem
from orchestration.systems.controller import ControllerSystem, TaskContext
from orchestration.systems.fingerprints import fingerprint_of
from orchestration.systems.function import FunctionSystem
from orchestration.systems.http import HttpOperation, HttpSpec, HttpSystem
from orchestration.systems.kgot import KgotSystem
from orchestration.systems.mcp import McpServerSpec, McpSystem
from orchestration.systems.process_pool import ProcessOptions
from orchestration.systems.registry import SystemRegistry
from tests.standins.support import AlitaServer, alita_server, kgot_spec, python_executor
from tests.systems import worker_functions
from tests.systems.http_service import HttpService, Received, Reply, a_json, a_text, http_service
from tests.systems.support import (
    IDEMPOTENCY_KEY,
    HttpServer,
    a_request,
    failure_of,
    http_server,
    is_alive,
    lines_of,
    pids_in,
    stdio_server,
    until,
)

pytestmark = pytest.mark.anyio

KINDS = [
    "function",
    "function-threads",
    "function-processes",
    "command",
    "mcp-stdio",
    "mcp-http",
    "controller",
    "http",
    "alita",
    "kgot",
]

above_the_transport = pytest.mark.parametrize(
    "case",
    [
        pytest.param(kind, marks=pytest.mark.slow) if kind in ("mcp-stdio", "function-processes") else kind
        for kind in KINDS
    ],
    indirect=True,
)
"""For promises in which the two transports of MCP can't differ, nor threads and processes: a server over stdio takes a
second to start and a worker process a part of one, so `make test-all` alone starts them for these."""

WAITING = 'sleep 300 & (echo $!; echo $$) > "$1.new"; mv "$1.new" "$1"; wait'
"""A command that has a child and writes both process ids to a file."""


@dataclass
class Case:
    """One kind of system with the same few tools: `add` (a + b), `fail` (message), `wait` (for ever)."""

    system: System
    broken: System | None
    """One of the same kind that can't work; None where that is impossible."""
    total: Callable[[Any], Any] = lambda value: value
    """Reads the sum out of the output of `add`."""
    failure_code: str = "tool_error"
    has_tools: bool = True
    own_tool: str | None = None
    """The one tool listed by a system that takes every task, whatever tool that names."""
    has_started: Callable[[], bool] = lambda: True
    """Whether `wait` is under way."""
    leftovers: Callable[[], list[Any]] = list
    """What a cancelled `wait` has left behind."""
    inputs_tool: str | None = None
    """Answers with the inputs it was given."""
    inputs: Callable[[Any], Any] = lambda value: value
    """Reads them out of that answer."""
    key_tool: str = "key"
    """Answers with the idempotency key it was given."""
    key: Callable[[Any], Any] = lambda value: value
    """Reads the key out of that answer."""
    beat_tool: str = "beat"
    """Gives a sign of life."""
    beat_arguments: dict[str, Json] = field(default_factory=dict)


@dataclass
class Waiting:
    """Counts calls under way."""

    running: list[str] = field(default_factory=list)
    started: bool = False

    async def wait(self) -> None:
        self.started = True
        self.running.append("wait")
        try:
            await anyio.sleep_forever()
        finally:
            self.running.remove("wait")


async def add(a: int, b: int = 2) -> int:
    return a + b


def add_blocking(a: int, b: int = 2) -> int:
    return a + b


async def fail(message: str) -> None:
    raise RuntimeError(message)


def fail_blocking(message: str) -> None:
    raise RuntimeError(message)


async def show(inputs: dict[str, Any]) -> dict[str, Any]:
    return inputs


async def key(idempotency_key: str) -> str:
    return idempotency_key


async def beat(heartbeat: Callable[[], None]) -> None:
    heartbeat()


def beat_blocking(heartbeat: Callable[[], None]) -> None:
    heartbeat()


class Controller:
    """A controller with the tools of the suite."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting

    async def execute_task(self, context: TaskContext) -> dict[str, Any]:
        arguments: Any = context.arguments
        if context.tool == "add":
            return {"success": True, "result": arguments["a"] + arguments.get("b", 2)}
        if context.tool == "fail":
            return {"success": False, "error": arguments["message"], "error_code": "tool_error"}
        if context.tool == "show":
            return {"success": True, "result": context.inputs}
        if context.tool == "key":
            return {"success": True, "result": context.idempotency_key}
        if context.tool == "beat":
            context.heartbeat()
            return {"success": True}
        await self._waiting.wait()
        return {"success": True}


class BrokenController:
    """A controller that knows it can't work."""

    async def execute_task(self, context: TaskContext) -> None: ...

    async def get_system_status(self) -> dict[str, Any]:
        raise ConnectionError("no systems")


def function_case(waiting: Waiting) -> Case:
    system = FunctionSystem(
        {"add": add, "fail": fail, "wait": waiting.wait, "show": show, "key": key, "beat": beat}
    )
    return Case(
        system,
        None,
        failure_code="runtime_error",
        has_started=lambda: waiting.started,
        leftovers=lambda: waiting.running,
        inputs_tool="show",
    )


def threads_case(waiting: Waiting) -> Case:
    case = function_case(waiting)
    case.system = FunctionSystem(
        {
            "add": add_blocking,
            "fail": fail_blocking,
            "wait": waiting.wait,
            "show": show,
            "key": lambda idempotency_key: idempotency_key,
            "beat": beat_blocking,
        }
    )
    return case


def processes_case(folder: Path) -> Case:
    pids = folder / "pids"
    system = FunctionSystem(
        {
            "add": worker_functions.add,
            "fail": worker_functions.fail,
            "wait": functools.partial(worker_functions.wait_with_child, str(pids)),
            "show": worker_functions.show,
            "key": worker_functions.key,
            "beat": worker_functions.beat,
        },
        engine="process",
        processes=ProcessOptions(workers=1),
    )
    return Case(
        system,
        None,
        failure_code="runtime_error",
        has_started=pids.exists,
        leftovers=lambda: [pid for pid in pids_in(pids) if is_alive(pid)],
        inputs_tool="show",
    )


def command_case(folder: Path) -> Case:
    pids = folder / "pids"
    commands = {
        "add": CommandSpec(argv=["expr", "{a}", "+", "{b}"], output="json"),
        "fail": CommandSpec(argv=["sh", "-c", 'echo "$1" >&2; exit 3', "fail", "{message}"]),
        "wait": CommandSpec(argv=["sh", "-c", WAITING, "wait", str(pids)]),
        "show": CommandSpec(argv=["cat"], stdin="inputs", output="json"),
        "key": CommandSpec(argv=["printenv", "ADVANCED_ORCHESTRATION_IDEMPOTENCY_KEY"]),
        "beat": CommandSpec(argv=["echo", "alive"]),
    }
    return Case(
        CommandSystem(commands),
        CommandSystem({"nothing": CommandSpec(argv=["no-such-program"])}),
        failure_code="command_failed",
        has_started=pids.exists,
        leftovers=lambda: [pid for pid in pids_in(pids) if is_alive(pid)],
        inputs_tool="show",
        key=lambda value: value["text"].strip(),
    )


def mcp_case(spec: McpServerSpec, broken: McpServerSpec, folder: Path) -> Case:
    return Case(
        McpSystem(spec),
        McpSystem(broken),
        total=lambda value: value["total"],
        has_started=(folder / "started").exists,
        leftovers=lambda: lines_of(folder / "started")[len(lines_of(folder / "cut-off")) :],
        key_tool="idempotency_key",
        beat_tool="report",
        beat_arguments={"times": 1},
    )


def http_case(service: HttpService) -> Case:
    def add_up(received: Received) -> Reply:
        return a_json(received.json["a"] + received.json["b"])

    service.answers.update(
        {
            "/add": add_up,
            "/fail": lambda received: a_text(received.json["message"], 503),
            "/wait": None,
            "/key": lambda received: a_json(received.headers["idempotency-key"]),
        }
    )
    service.has_waited.clear()
    adding = {"a": "{a}", "b": "{b}"}
    operations: dict[str, Any] = {
        "add": {"path": "/add", "body": adding, "parameters": {"b": {"type": "integer", "default": 2}}},
        "fail": {"path": "/fail", "body": {"message": "{message}"}},
        "wait": {"path": "/wait"},
        "key": {"path": "/key"},
        "beat": {"path": "/key"},
    }
    posted = {tool: HttpOperation(method="POST", **fields) for tool, fields in operations.items()}
    return Case(
        HttpSystem(HttpSpec(base_url=service.url, operations=posted)),
        HttpSystem(
            HttpSpec(base_url="http://127.0.0.1:9", operations={"nothing": HttpOperation(method="POST")})
        ),
        failure_code="http_503",
        has_started=service.has_waited.is_set,
        leftovers=lambda: list(service.waiting),
    )


def controller_case(waiting: Waiting) -> Case:
    return Case(
        ControllerSystem(Controller(waiting)),
        ControllerSystem(BrokenController()),
        has_tools=False,
        has_started=lambda: waiting.started,
        leftovers=lambda: waiting.running,
        inputs_tool="show",
    )


def alita_case(server: AlitaServer) -> Case:
    server.behave("answer")
    earlier = server.started(), server.cut_off()

    def begun() -> int:
        return server.started() - earlier[0]

    return Case(
        AlitaSystem(AlitaSpec(base_url=server.url)),
        AlitaSystem(AlitaSpec(base_url="http://127.0.0.1:9")),
        total=lambda value: int(value["response"]),
        failure_code="empty_answer",
        has_tools=False,
        own_tool="ask_alita",
        has_started=lambda: begun() > 0,
        leftovers=lambda: list(range(server.cut_off() - earlier[1], begun())),
        inputs_tool="show",
        inputs=lambda value: json.loads(value["response"]),
        key=lambda value: value["response"],
    )


def kgot_case(folder: Path, executor: str) -> Case:
    def spec(**fields: Any) -> KgotSystem:
        return KgotSystem(kgot_spec(folder, python_executor_uri=f"{executor}/run", **fields))

    pids = folder / "pids"
    return Case(
        spec(),
        spec(command=["no-such-program"]),
        total=lambda value: int(value.output["solution"]),
        failure_code="runtime_error",
        has_tools=False,
        own_tool="ask_kgot",
        has_started=pids.exists,
        leftovers=lambda: [pid for pid in pids_in(pids) if is_alive(pid)],
        inputs_tool="show",
        inputs=lambda value: json.loads(value.output["solution"]),
        key=lambda value: value.output["solution"],
    )


def noting_calls(folder: Path) -> dict[str, str]:
    """Return the environment in which the fixture server notes its calls in a folder."""
    return {"STARTED_FILE": str(folder / "started"), "CANCELLED_FILE": str(folder / "cut-off")}


@pytest.fixture(scope="module")
def http_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HttpServer, Path]]:
    """One server over HTTP for all tests: it takes a second to start."""
    folder = tmp_path_factory.mktemp("http")
    with http_server(**noting_calls(folder)) as server:
        anyio.run(server.start)
        yield server, folder


@pytest.fixture(scope="module")
def alita_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlitaServer]:
    """One stand-in of the Alita manager agent for all tests."""
    with alita_server(tmp_path_factory.mktemp("alita")) as server:
        yield server


@pytest.fixture(scope="module")
def executor_fixture() -> Iterator[str]:
    """The Python executor that KGoT looks for."""
    with python_executor() as address:
        yield address


@pytest.fixture(scope="module")
def service_fixture() -> Iterator[HttpService]:
    """One HTTP service for all tests."""
    with http_service() as service:
        yield service


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """Every kind of system, one after the other."""
    return a_case(request.param, tmp_path, request)


def a_case(kind: str, folder: Path, request: pytest.FixtureRequest) -> Case:
    match kind:
        case "function":
            return function_case(Waiting())
        case "function-threads":
            return threads_case(Waiting())
        case "function-processes":
            return processes_case(folder)
        case "command":
            return command_case(folder)
        case "http":
            return http_case(request.getfixturevalue("service_fixture"))
        case "controller":
            return controller_case(Waiting())
        case "alita":
            return alita_case(request.getfixturevalue("alita_fixture"))
        case "kgot":
            return kgot_case(folder, request.getfixturevalue("executor_fixture"))
        case "mcp-stdio":
            return mcp_case(
                stdio_server(**noting_calls(folder)), McpServerSpec(command="no-such-program"), folder
            )
        case _:
            server, noted = request.getfixturevalue("http_fixture")
            for file in noted.iterdir():
                file.unlink()
            return mcp_case(server.spec, McpServerSpec(url="http://127.0.0.1:9/mcp"), noted)


async def test_a_success_is_the_value(case: Case) -> None:
    """What the tool gives is what `execute` returns."""
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")

        value = await system.execute(a_request("add", {"a": 3, "b": 4}))

        assert case.total(value) == 7


@above_the_transport
async def test_arguments_keep_their_types(case: Case) -> None:
    """Numbers arrive as numbers: they are added, not put side by side."""
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")

        value = await system.execute(a_request("add", {"a": 30, "b": 12}))

        assert case.total(value) == 42


async def test_inputs_arrive_where_they_are_taken(case: Case) -> None:
    """A tool that takes inputs gets them as they are; others say that they take none."""
    inputs: dict[str, Json] = {"first": {"rows": [1, 2]}, "second": "é"}
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")
        if case.inputs_tool is None:
            assert not system.takes_inputs("add")
            return

        value = await system.execute(a_request(case.inputs_tool, inputs=inputs))

        assert system.takes_inputs(case.inputs_tool)
        assert case.inputs(value) == inputs


@above_the_transport
async def test_a_failure_says_what_went_wrong_and_whether_repeating_can_help(case: Case) -> None:
    """The tool's own words reach the error record; its failure may be retried."""
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")

        with pytest.raises(Exception, match="no luck") as caught:
            await system.execute(a_request("fail", {"message": "no luck"}))

        record = error_record(caught.value, "s", 1)
        assert (record.code, record.retryable, record.system, record.attempt) == (
            case.failure_code,
            True,
            "s",
            1,
        )


@above_the_transport
async def test_a_definite_failure_leaves_nothing_open(case: Case) -> None:
    """A tool's own error is an answer; so is the refusal of one that is not there."""
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")

        with pytest.raises(Exception, match="no luck") as caught:
            await system.execute(a_request("fail", {"message": "no luck"}))
        unknown = await failure_of(system, a_request("ad")) if case.has_tools else None

    assert not error_record(caught.value, "s", 1).effect_open
    assert unknown is None or not unknown.effect_open


@above_the_transport
async def test_a_system_that_can_not_be_reached_leaves_nothing_open(case: Case) -> None:
    """Nothing has been asked of it."""
    if case.broken is None or case.system.kind == "controller":
        assert case.system.kind in ("function", "controller"), "these are part of this process"
        return
    async with SystemRegistry({"s": case.broken}) as registry:
        error = await failure_of(await registry.ready("s"), a_request("nothing"))

    assert not error.effect_open


@above_the_transport
async def test_every_attempt_of_a_task_is_given_the_same_idempotency_key(case: Case) -> None:
    """Whoever honours it repeats no effect, however often the task is tried."""
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")

        outputs = [await system.execute(a_request(case.key_tool, attempt=attempt)) for attempt in (1, 2, 3)]

    assert [case.key(output) for output in outputs] == [IDEMPOTENCY_KEY] * 3


@above_the_transport
async def test_work_that_gives_a_sign_of_life_is_heard(case: Case) -> None:
    """By a call, a line of output or a notification of progress: the attempt's heartbeat is called."""
    beats: list[int] = []
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")

        await system.execute(
            a_request(case.beat_tool, case.beat_arguments, heartbeat=lambda: beats.append(1))
        )
        await until(lambda: beats)

    assert beats


@above_the_transport
async def test_the_tool_of_the_request_beats_the_tasks_own(case: Case) -> None:
    """A task's `verify` is asked with the task beside it, and must not run the task."""
    task = TaskNode("pay", tool="fail", description="Pay the invoice", arguments={"message": "paid twice"})
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")

        value = await system.execute(a_request("add", {"a": 1, "b": 1}, task=task))

    assert case.total(value) == 2


@above_the_transport
async def test_a_fingerprint_is_short_steady_and_needs_no_connection(case: Case) -> None:
    """The same for the same configuration, of a tool and of the whole system."""
    for tool in ("add", None):
        fingerprint = fingerprint_of(case.system, tool)

        assert len(fingerprint) == 16
        assert int(fingerprint, 16) >= 0
        assert fingerprint_of(case.system, tool) == fingerprint


@pytest.mark.timeout(20)
async def test_a_cancelled_attempt_ends_soon_and_leaves_nothing_behind(case: Case) -> None:
    """Cancelling ends the work itself: no process and no call goes on."""
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")
        async with anyio.create_task_group() as attempts:
            attempts.start_soon(system.execute, a_request("wait"))
            await until(case.has_started)

            attempts.cancel_scope.cancel()

        await until(lambda: not case.leftovers())
        assert case.leftovers() == []


@above_the_transport
async def test_the_system_works_on_after_a_cancelled_attempt(case: Case) -> None:
    """One cancelled attempt takes nothing from the next."""
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")
        async with anyio.create_task_group() as attempts:
            attempts.start_soon(system.execute, a_request("wait"))
            await until(case.has_started)
            attempts.cancel_scope.cancel()

        value = await system.execute(a_request("add", {"a": 1, "b": 1}))

        assert case.total(value) == 2


async def test_attempts_run_at_the_same_time_without_mixing(case: Case) -> None:
    """Each of many concurrent attempts gets its own answer."""
    totals: dict[int, Any] = {}
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")

        async def attempt(number: int) -> None:
            totals[number] = case.total(await system.execute(a_request("add", {"a": number, "b": 100})))

        async with anyio.create_task_group() as attempts:
            for number in range(20):
                attempts.start_soon(attempt, number)

    assert totals == {number: number + 100 for number in range(20)}


async def test_a_closed_system_opens_again(case: Case) -> None:
    """Closing is not for ever: the next opening works as the first."""
    totals = []
    for _ in range(2):
        async with SystemRegistry({"s": case.system}) as registry:
            system = await registry.ready("s")

            totals.append(case.total(await system.execute(a_request("add", {"a": 1, "b": 1}))))

    assert totals == [2, 2]


@above_the_transport
async def test_closing_twice_is_closing_once(case: Case) -> None:
    """`aclose` may be called at any time, again as well."""
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")
        await system.execute(a_request("add", {"a": 1, "b": 1}))

        await system.aclose()
        await system.aclose()


@above_the_transport
async def test_an_unknown_tool_is_refused_with_the_choices(case: Case) -> None:
    """Choosing and running a tool that is not there both name the ones that are; it is never retried."""
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")
        if not case.has_tools:
            assert await system.choose_tool(TaskNode("t", tool="ad")) == "ad"
            return

        with pytest.raises(
            InvalidArgumentError, match=r"expected a tool of system .*add.* did you mean 'add'"
        ):
            await system.choose_tool(TaskNode("t", tool="ad"))
        error = await failure_of(system, a_request("ad"))

        assert (error.code, error.retryable) == ("unknown_tool", False)
        assert "add, " in str(error)


@above_the_transport
async def test_a_task_without_a_tool_gets_the_one_called_like_it(case: Case) -> None:
    """Also where the task belongs to an alternative plan and its id has a suffix."""
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")
        if not case.has_tools:
            assert await system.choose_tool(TaskNode("add")) is None
            return

        assert await system.choose_tool(TaskNode("add")) == "add"
        assert await system.choose_tool(TaskNode("add~1")) == "add"
        with pytest.raises(
            InvalidArgumentError, match="set `tool` of task 'x', or call the task like its tool"
        ):
            await system.choose_tool(TaskNode("x"))


@above_the_transport
async def test_tools_are_listed_with_the_schema_of_their_arguments(case: Case) -> None:
    """Whoever plans sees names and arguments."""
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")

        tools = {tool.name: tool for tool in await system.list_tools()}

    if case.has_tools:
        schema = tools["add"].input_schema
        assert schema is not None
        assert sorted(schema["properties"]) == ["a", "b"]
        assert "a" in schema["required"]
    else:
        assert list(tools) == ([case.own_tool] if case.own_tool is not None else [])


async def test_a_healthy_system_says_so(case: Case) -> None:
    """`check` of a system that works is ok."""
    async with SystemRegistry({"s": case.system}) as registry:
        health = await registry.check_all()

    assert health["s"].ok
    assert health["s"].detail


async def test_a_broken_system_says_what_is_wrong(case: Case) -> None:
    """`check` of a system that can't work does not raise; it tells why."""
    if case.broken is None:
        assert isinstance(case.system, FunctionSystem), "functions of this process can always be called"
        return
    async with SystemRegistry({"s": case.broken}) as registry:
        health = await registry.check_all(timeout_seconds=5)

    assert not health["s"].ok
    assert health["s"].detail


@above_the_transport
async def test_a_failed_attempt_raises_an_ordinary_exception(case: Case) -> None:
    """Nothing a tool does ends more than its attempt."""
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")

        try:
            await system.execute(a_request("fail", {"message": "x" * 10_000}))
        except Exception as exc:  # noqa: BLE001  (the claim is about any of them)
            record = error_record(exc, "s", 1)

    assert len(record.message) <= 2_000


async def test_no_process_of_this_suite_is_left(case: Case) -> None:
    """Once the registry is left, the process has the children it had before."""
    before = children()
    async with SystemRegistry({"s": case.system}) as registry:
        system = await registry.ready("s")
        await system.execute(a_request("add", {"a": 1, "b": 1}))

    await until(lambda: children() <= before)
    assert children() <= before


def children() -> set[int]:
    """Return the ids of this process's children that are no zombies."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and is_alive(int(entry.name)):
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == os.getpid():
                found.add(int(entry.name))
    return found
