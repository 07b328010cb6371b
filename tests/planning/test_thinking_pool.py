"""Sequential Thinking processes are started ahead, one for each plan, and none outlives the pool."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from config.settings import Settings, ThinkingCommand, load_settings
from orchestration.errors import ConfigurationError
from orchestration.factory import create_advanced_task_orchestrator
from orchestration.planning.thinking_pool import ThinkingPool
from orchestration.ports import ThinkingServer, Thought
from server.composition import open_orchestrator
from tests.planning.recording_thinking_server import ROOT, command, environment, recorded, thoughts

pytestmark = pytest.mark.anyio

PUBLISHED = ("npx", "-y", "@modelcontextprotocol/server-sequential-thinking@2026.8.31")
ONE = Thought(number=1, text="one")
TWO = Thought(number=2, text="two")


class HandClock:
    """Time that moves when it is told to; whoever sleeps long enough wakes then."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.moved = anyio.Event()

    def now_us(self) -> int:
        return round(self.seconds * 1_000_000)

    def monotonic(self) -> float:
        return self.seconds

    def elapsed(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        until = self.seconds + seconds
        while self.seconds < until:
            await self.moved.wait()

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        self.moved.set()
        self.moved = anyio.Event()


async def until(is_so: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait for something other processes bring about."""
    with anyio.fail_after(seconds):
        while not is_so():  # noqa: ASYNC110  (another process brings it about)
            await anyio.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, though nobody may have asked how."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


async def think(server: ThinkingServer) -> None:
    await server.think(ONE, total=2, more=True)
    await server.think(TWO, total=2, more=False)


def pool_of(folder: Path, dies_after: int = 0, **more: object) -> ThinkingPool:
    return ThinkingPool(command(folder, dies_after), env=environment(), **more)  # type: ignore[arg-type]


async def test_a_plan_gets_the_process_that_was_started_ahead(tmp_path: Path) -> None:
    """It is there before the plan is, takes its thoughts, and another is there for the next plan."""
    async with pool_of(tmp_path) as pool:
        await until(lambda: pool.spares == 1)
        (first,) = recorded(tmp_path)

        async with pool() as server:
            assert pool.spares == 0
            await think(server)
        await until(lambda: pool.spares == 1)

        assert (server.kind, server.replaced_because) == ("process", None)
        assert [line.get("thought") for line in recorded(tmp_path)[first][:3]] == [None, "one", "two"]
        second = next(pid for pid in recorded(tmp_path) if pid != first)

    assert is_gone(first)
    assert is_gone(second)


async def test_plans_at_once_get_processes_of_their_own(tmp_path: Path) -> None:
    """A history belongs to one plan; what is not ready yet is started for it."""
    async with pool_of(tmp_path) as pool, pool() as one, pool() as other:
        await think(one)
        await think(other)

    assert [[line["thought"] for line in each] for each in thoughts(tmp_path)] == [["one", "two"]] * 2


async def test_a_plan_takes_the_process_that_is_being_started(tmp_path: Path) -> None:
    """It waits for the rest of that start, not for a whole one."""
    async with pool_of(tmp_path) as pool, pool() as server:
        await think(server)
        assert len(recorded(tmp_path)) <= 2

    assert server.kind == "process"


async def test_outside_its_context_a_pool_starts_nothing_ahead(tmp_path: Path) -> None:
    """Who makes one plan pays for one process, and it is gone with the plan."""
    pool = pool_of(tmp_path, warm=3)

    async with pool() as server:
        await think(server)
        assert not pool.is_open
        assert len(recorded(tmp_path)) == 1

    assert all(is_gone(pid) for pid in recorded(tmp_path))
    assert server.kind == "process"


async def test_a_pool_that_keeps_none_ready_starts_one_with_each_plan(tmp_path: Path) -> None:
    """`warm: 0` costs nothing between plans."""
    async with pool_of(tmp_path, warm=0) as pool, pool() as server:
        await think(server)
        assert len(recorded(tmp_path)) == 1

    assert len(recorded(tmp_path)) == 1
    assert all(is_gone(pid) for pid in recorded(tmp_path))


async def test_a_process_nobody_takes_is_ended_and_the_next_plan_wakes_the_pool(tmp_path: Path) -> None:
    """Idleness is bounded; afterwards one is kept ready again."""
    clock = HandClock()
    async with pool_of(tmp_path, idle_seconds=60, clock=clock) as pool:
        await until(lambda: pool.spares == 1)
        (first,) = recorded(tmp_path)

        clock.advance(59)
        await anyio.wait_all_tasks_blocked()
        assert pool.spares == 1
        clock.advance(2)
        await until(lambda: is_gone(first))
        assert pool.spares == 0
        assert len(recorded(tmp_path)) == 1

        async with pool() as server:
            await think(server)
        await until(lambda: pool.spares == 1)

    assert server.kind == "process"


async def test_a_spare_that_dies_is_replaced_after_a_pause(tmp_path: Path) -> None:
    """Its end is seen before a plan takes it."""
    clock = HandClock()
    async with pool_of(tmp_path, clock=clock) as pool:
        await until(lambda: pool.spares == 1)
        (first,) = recorded(tmp_path)
        os.kill(first, signal.SIGKILL)
        await until(lambda: pool.spares == 0)

        async with pool() as early:
            await think(early)
        clock.advance(1)
        await until(lambda: pool.spares == 1)
        async with pool() as late:
            await think(late)

    assert (early.kind, early.replaced_because) == (
        "in-process",
        f"`{sys.executable}` ended on its own; it is tried again in 1 s",
    )
    assert late.kind == "process"


async def test_a_process_that_dies_mid_plan_costs_the_plan_nothing(tmp_path: Path) -> None:
    """The server inside this process takes every thought again, and says why."""
    clock = HandClock()
    async with pool_of(tmp_path, dies_after=2, clock=clock) as pool:
        await until(lambda: pool.spares == 1)
        async with pool() as server:
            await think(server)

    assert (server.kind, server.replaced_because) == (
        "in-process",
        "it stopped answering (Connection closed)",
    )


async def test_a_broken_command_is_not_started_in_a_loop(tmp_path: Path) -> None:
    """Each failure doubles the pause; plans meanwhile are told at once, and nothing is started for them."""
    clock = HandClock()
    starts = tmp_path / "starts"
    code = f"import sys; open({str(starts)!r}, 'a').write('x'); sys.exit('no such package')"

    def started() -> int:
        return len(starts.read_text()) if starts.exists() else 0

    async with ThinkingPool((sys.executable, "-c", code), clock=clock) as pool:
        for number, pause in enumerate((1, 2, 4, 8), start=1):
            await until(lambda expected=number: started() == expected)  # type: ignore[misc]
            await until(lambda: pool._pause() > 0)
            async with pool() as server:
                await think(server)
            clock.advance(pause - 0.5)
            await anyio.wait_all_tasks_blocked()
            assert started() == number
            assert server.replaced_because == (
                f"`{sys.executable}` could not start it (no such package); it is tried again in {pause} s"
            )
            clock.advance(0.5)


async def test_pauses_have_a_longest_one() -> None:
    """A command that never worked is tried every five minutes, and what repairs it is noticed."""
    clock = HandClock()
    pool = ThinkingPool(("no-such-program-anywhere",), clock=clock, warm=0)
    async with pool:
        for _ in range(12):
            async with pool() as server:
                pass
            clock.advance(pool._pause())
        async with pool() as server:
            pass

        assert pool._pause() == 300

    assert server.replaced_because == "`no-such-program-anywhere` is not installed"


async def test_a_plan_served_to_its_end_forgets_the_failures(tmp_path: Path) -> None:
    """The next failure begins with the shortest pause again."""
    clock = HandClock()
    async with pool_of(tmp_path, clock=clock) as pool:
        for _ in range(2):
            await until(lambda: pool.spares == 1)
            os.kill(list(recorded(tmp_path))[-1], signal.SIGKILL)
            await until(lambda: pool.spares == 0)
            clock.advance(pool._pause())
        async with pool() as server:
            await think(server)

        assert server.kind == "process"
        assert pool._failures == 0


async def test_a_slow_start_is_given_up_when_the_pool_is_left(tmp_path: Path) -> None:
    """Leaving waits neither for a start nor for a process that reads nothing."""
    pid = tmp_path / "pid"
    code = (
        f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )

    with anyio.fail_after(10):
        async with ThinkingPool((sys.executable, "-c", code)):
            await until(lambda: pid.exists() and bool(pid.read_text()))

    assert is_gone(int(pid.read_text()))


async def test_a_start_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """A plan waits for the limit and no longer."""
    async with ThinkingPool(
        (sys.executable, "-c", "import time; time.sleep(60)"), startup_timeout_seconds=0.5, clock=HandClock()
    ) as pool:
        with anyio.fail_after(5):
            async with pool() as server:
                await think(server)

    assert server.replaced_because == f"`{sys.executable}` did not start it within 0.5 s"


async def test_an_error_of_the_plan_or_of_the_program_comes_out_as_it_was(tmp_path: Path) -> None:
    """No group is around it, and the processes are gone."""

    async def run() -> None:
        async with pool_of(tmp_path) as pool:
            await until(lambda: pool.spares == 1)
            with pytest.raises(ValueError, match="of the plan"):
                async with pool():
                    raise ValueError("of the plan")
            raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        await run()

    assert all(is_gone(pid) for pid in recorded(tmp_path))


async def test_a_cancelled_plan_gives_its_process_up(tmp_path: Path) -> None:
    """That says nothing about the command: another is ready for the next plan."""
    async with pool_of(tmp_path) as pool:
        await until(lambda: pool.spares == 1)
        (first,) = recorded(tmp_path)
        with anyio.CancelScope() as scope:
            async with pool():
                scope.cancel()
                await anyio.sleep_forever()
        await until(lambda: is_gone(first))
        await until(lambda: pool.spares == 1)

        assert pool._failures == 0


async def test_a_cancelled_pool_leaves_no_process(tmp_path: Path) -> None:
    """Whoever is told to stop at once takes the children along."""
    with anyio.CancelScope() as scope:
        async with pool_of(tmp_path) as pool:
            await until(lambda: pool.spares == 1)
            scope.cancel()
            await anyio.sleep_forever()

    assert all(is_gone(pid) for pid in recorded(tmp_path))


PROGRAM = """
import anyio, os, sys
from orchestration.planning.thinking_pool import ThinkingPool

async def main():
    async with ThinkingPool(sys.argv[1:], env={"PYTHONPATH": os.environ["PYTHONPATH"]}) as pool:
        async with pool() as server:
            while pool.spares < 1:
                await anyio.sleep(0.01)
            print(server.kind, flush=True)
            await anyio.sleep_forever()

anyio.run(main)
"""


@contextmanager
def planning(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program in the middle of a plan, with a process ready for the next one."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command],
        env={**os.environ, **environment()},
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"process\n"
        yield program


async def test_children_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    """kill -9 runs no line of ours: the children's input ends, and they notice."""
    with planning(*command(tmp_path)) as program:
        program.kill()

    children = recorded(tmp_path)
    assert len(children) == 2
    await until(lambda: all(is_gone(pid) for pid in children))


@pytest.mark.skipif(shutil.which("npx") is None, reason="npx is not installed")
async def test_the_published_server_is_kept_ready_and_leaves_nothing_behind() -> None:
    """With npx and node for real: handed out ready, followed by another, and gone with all their children."""
    before = _family(os.getpid())
    async with ThinkingPool(PUBLISHED, startup_timeout_seconds=90) as pool:
        await until(lambda: pool.spares == 1, seconds=100)
        with anyio.fail_after(2):
            async with pool() as server:
                await think(server)
        await until(lambda: pool.spares == 1, seconds=100)
        family = sorted(set(_family(os.getpid())) - set(before))
        assert not _has_proc() or family

    assert (server.kind, server.replaced_because) == ("process", None)
    assert all(is_gone(pid) for pid in family)


@pytest.mark.skipif(shutil.which("npx") is None, reason="npx is not installed")
async def test_the_published_server_ends_when_this_process_is_killed() -> None:
    """npx, its shell and node all end with their input."""
    with planning(*PUBLISHED) as program:
        family = _family(program.pid)
        assert not _has_proc() or len(family) >= 2
        program.kill()

    await until(lambda: all(is_gone(pid) for pid in family))


def _has_proc() -> bool:
    return Path("/proc/self/stat").exists()


def _family(ancestor: int) -> list[int]:
    """Return the ids of a process's living descendants, where the system tells them."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat") if _has_proc() else ():
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(status.parent.name)] = int(fields[1])
    found = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {ancestor})


# --- In the orchestrator --------------------------------------------------------------------------------------------


def settings_with(folder: Path, **thinking: object) -> Settings:
    """Settings whose thoughts go to recording processes."""
    argv = command(folder)
    return Settings(
        sequential_thinking=ThinkingCommand(
            command=argv[0],
            args=argv[1:],
            env=environment(),
            **thinking,
        ),
        database=folder / "state.db",
        log_level="WARNING",
    )


async def test_an_orchestrator_that_stays_open_keeps_a_process_ready(tmp_path: Path) -> None:
    """`serve` opens it so: the plan's thoughts go to the process that was there first."""
    async with open_orchestrator(settings_with(tmp_path), keeps_warm=True) as orchestrator:
        await until(lambda: len(recorded(tmp_path)) == 1)
        plan = await orchestrator.decompose("Bake a cake")
        await until(lambda: len(recorded(tmp_path)) == 2)

    assert plan.thinking_server == "process"
    assert [line["thought"] for line in thoughts(tmp_path)[0]] == [thought.text for thought in plan.thoughts]
    assert all(is_gone(pid) for pid in recorded(tmp_path))


async def test_one_command_pays_for_no_process_it_does_not_use(tmp_path: Path) -> None:
    """Without a plan nothing is started, and with one just its own."""
    async with open_orchestrator(settings_with(tmp_path, warm=3)) as orchestrator:
        await orchestrator.list_orchestrations()
        assert recorded(tmp_path) == {}
        await orchestrator.decompose("Bake a cake")

    assert len(recorded(tmp_path)) == 1


async def test_a_library_orchestrator_takes_a_pool(tmp_path: Path) -> None:
    """Whoever opens a pool around it decides how long processes are kept."""
    async with (
        pool_of(tmp_path) as pool,
        create_advanced_task_orchestrator(thinking=pool) as orchestrator,
    ):
        plans = [await orchestrator.decompose("Bake a cake", store=False) for _ in range(2)]

    assert [plan.thinking_server for plan in plans] == ["process"] * 2
    assert len(thoughts(tmp_path)) == 2


@pytest.mark.parametrize("warm", [-1, 17, True, "2"])
def test_a_wrong_number_of_warm_processes_is_refused(warm: object, tmp_path: Path) -> None:
    """It says where it stands."""
    config = tmp_path / "config.yaml"
    config.write_text(f"sequential_thinking: {{command: npx, warm: {json.dumps(warm)}}}\n")

    with pytest.raises(ConfigurationError) as refused:
        load_settings(config)

    assert str(refused.value.problems[0]).startswith(f"{config}:1: sequential_thinking.warm: is ")
