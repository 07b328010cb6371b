"""A server looks after its database unasked: it takes over what lost its driver, and lets go of what was kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp import Client

from orchestration.clock import SystemClock
from orchestration.dag_file import parse_document
from orchestration.errors import StorageUnavailableError
from orchestration.factory import create_advanced_task_orchestrator
from orchestration.options import OrchestratorOptions, RetentionOptions
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.ports import Retained, Retention
from orchestration.systems.function import FunctionSystem
from server.app import build_server
from server.housekeeping import retain_forever
from storage import SqliteStorage
from tests.server.conftest import DIAMOND, WAITING, Functions, lend

pytestmark = pytest.mark.anyio


@pytest.fixture
def make(functions: Functions, tmp_path: Path) -> Any:
    """Make orchestrators over one database, each like a process of its own."""

    def made(**options: Any) -> AdvancedTaskOrchestrator:
        return create_advanced_task_orchestrator(
            systems={"python": functions.system()},
            state_manager=SqliteStorage(tmp_path / "o.db"),
            settings=OrchestratorOptions(**options),
        )

    return made


class HastyClock(SystemClock):
    """Does not wait long; counts how often it was asked to."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await anyio.lowlevel.checkpoint()


async def status_of(client: Any, name: str, **arguments: Any) -> Any:
    with anyio.fail_after(10):
        result = await client.call_tool("get_orchestration_status", {"orchestration_id": name, **arguments})
    return result.structured_content


async def test_what_loses_its_driver_while_the_server_runs_is_taken_over(
    functions: Functions, make: Any
) -> None:
    """Not only what it finds when it starts; a client that waits for it is kept waiting, and gets the end."""
    server = build_server(lambda: lend(make()), keeps_house=True)

    async with Client(server) as client:
        async with make() as other:
            name = await other.submit(parse_document(WAITING))
            with anyio.fail_after(5):
                await functions.reached.wait()
            assert (await status_of(client, name))["state"] == "running"
        functions.gate.set()
        status = await status_of(client, name, wait_seconds=8)

    assert status["state"] == "completed"


async def test_what_another_server_cannot_run_is_left_alone_and_says_why(
    functions: Functions, make: Any, tmp_path: Path
) -> None:
    """Its tools are other ones; taking it over by hand stays possible where they are the same."""
    async with make() as other:
        name = await other.submit(parse_document(WAITING))
    stranger = create_advanced_task_orchestrator(
        systems={"python": FunctionSystem({"add": functions.add})},
        state_manager=SqliteStorage(tmp_path / "o.db"),
    )
    server = build_server(lambda: lend(stranger), keeps_house=True)

    async with Client(server) as client:
        status = await status_of(client, name, wait_seconds=8)

    assert status["state"] == "running"
    assert status["missing_systems"] == ["System 'python' has no wait here."]
    assert status["next"] == [
        {
            "tool": "get_orchestration_status",
            "arguments": {"orchestration_id": name, "view": "tasks"},
        }
    ]


async def test_one_that_waits_for_a_person_stays_paused(functions: Functions, make: Any) -> None:
    """A server takes over what lost its driver, not what somebody stopped."""
    async with make() as other:
        name = await other.submit(parse_document(WAITING))
        with anyio.fail_after(5):
            await functions.reached.wait()
        await other.pause(name)
    server = build_server(lambda: lend(make()), keeps_house=True)

    async with Client(server) as client:
        paused = await status_of(client, name, wait_seconds=8)
        functions.gate.set()
        resumed = await client.call_tool(
            "control_orchestration", {"orchestration_id": name, "action": "resume"}
        )
        done = await status_of(client, name, wait_seconds=8)

    assert (paused["state"], paused["next"][0]["arguments"]["action"]) == ("paused", "resume")
    assert resumed.structured_content["outcomes"][0]["outcome"] == "done"
    assert done["state"] == "completed"


async def test_a_fault_of_the_database_does_not_end_the_server(
    functions: Functions, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and whoever asks is not kept waiting."""
    orchestrator = make()

    async def broken(**_: object) -> list[Any]:
        raise StorageUnavailableError("o.db", "is locked.")

    monkeypatch.setattr(orchestrator, "list_orchestrations", broken)
    async with make() as other:
        name = await other.submit(parse_document(WAITING))
    functions.gate.set()
    server = build_server(lambda: lend(orchestrator), keeps_house=True)

    async with Client(server) as client:
        status = await status_of(client, name, wait_seconds=8)

    assert status["state"] == "completed", "the watch for orphans went on and found it"


async def test_what_ended_long_ago_is_compressed_and_still_read_page_by_page(make: Any) -> None:
    """Its journal takes less room and says the same."""
    orchestrator = make(retention=RetentionOptions(compact_after_seconds=0.0))
    dag = {
        "dag_id": "many",
        "tasks": [{"task_id": f"t{n}", "tool": "add", "arguments": {"a": n, "b": 0}} for n in range(60)],
    }
    found: list[int] = []

    async with Client(build_server(lambda: lend(orchestrator))) as client:
        await client.call_tool("execute_dag", {"dag": dag, "wait_seconds": 8})
        before = await status_of(client, "many-1", view="events")
        retained = await _retain(orchestrator)
        after = await status_of(client, "many-1", view="events")
        cursor = ""
        while True:
            page = await status_of(client, "many-1", view="events", cursor=cursor)
            found += [event["seq"] for event in page["events"]]
            if not (cursor := page.get("next_cursor", "")):
                break

    assert retained.compacted == 1
    assert after == before
    assert found == list(range(1, page["last_seq"] + 1))


async def _retain(orchestrator: AdvancedTaskOrchestrator) -> Retained:
    kept = orchestrator.options.retention
    retention = Retention(
        compact_after_seconds=kept.compact_after_seconds,
        remove_after_seconds=kept.remove_after_seconds,
        keep_finished=kept.keep_finished,
    )
    return await orchestrator.storage.retain(retention, now_us=SystemClock().now_us() + 1)


async def test_a_server_removes_what_was_kept_long_enough(make: Any) -> None:
    """By the settings: here nothing that ended is kept at all."""
    clock = HastyClock()
    orchestrator = make(retention=RetentionOptions(keep_finished=0))

    async with orchestrator:
        result = await orchestrator.execute_dag(parse_document(DIAMOND))
        async with anyio.create_task_group() as background:
            background.start_soon(retain_forever, orchestrator, clock)
            with anyio.fail_after(10):
                while await orchestrator.list_orchestrations():
                    await anyio.lowlevel.checkpoint()
            background.cancel_scope.cancel()

    assert result["state"] == "completed"
    assert clock.slept[0] == 5.0, "soon after the start, not at once"


async def test_rounds_go_on_until_nothing_is_left_and_a_fault_waits_for_the_next_time() -> None:
    """One round is bounded; a locked database is tried again later."""
    rounds: list[str] = []

    class Storage:
        async def retain(self, retention: Retention, *, now_us: int) -> Retained:
            assert (retention.keep_finished, now_us > 0) == (10_000, True)
            rounds.append("round")
            if len(rounds) == 3:
                raise StorageUnavailableError("o.db", "is locked.")
            return Retained(removed=1, is_finished=len(rounds) != 1)

    class Orchestrator:
        options = OrchestratorOptions()
        storage = Storage()

    clock = HastyClock()
    orchestrator: Any = Orchestrator()

    async with anyio.create_task_group() as background:
        background.start_soon(retain_forever, orchestrator, clock)
        with anyio.fail_after(5):
            while len(rounds) < 4:
                await anyio.lowlevel.checkpoint()
        background.cancel_scope.cancel()

    assert clock.slept[:4] == [5.0, 0.05, 600.0, 600.0]
