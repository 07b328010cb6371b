"""Systems by name: opened late, once, and closed together."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.abc
import pytest

from orchestration.errors import InvalidArgumentError
from orchestration.models import TaskNode
from orchestration.ports import AttemptRequest, Health, ToolInfo
from orchestration.systems.function import FunctionSystem
from orchestration.systems.registry import Survey, SystemRegistry
from tests.systems.support import until

pytestmark = pytest.mark.anyio


class Recording:
    """A system that notes what is done to it."""

    kind = "recording"

    def __init__(self, name: str = "r", *, hangs: bool = False, fails: bool = False) -> None:
        self.name = name
        self.done: list[str] = []
        self._hangs = hangs
        self._fails = fails

    async def _trouble(self) -> None:
        if self._hangs:
            await anyio.sleep_forever()
        if self._fails:
            raise OSError("broken")

    async def open(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.done.append("open")

    async def aclose(self) -> None:
        await self._trouble()
        self.done.append("close")

    async def list_tools(self) -> list[ToolInfo]:
        await self._trouble()
        return [ToolInfo(name="t")]

    async def choose_tool(self, task: TaskNode) -> str | None:
        return task.tool

    def takes_inputs(self, tool: str | None) -> bool:
        return False

    async def execute(self, request: AttemptRequest) -> object:
        raise NotImplementedError

    async def check(self) -> Health:
        await self._trouble()
        return Health(ok=True, detail="fine")


class Background(Recording):
    """A system with a task in the background."""

    def __init__(self, name: str = "b") -> None:
        super().__init__(name)
        self.task_group: anyio.abc.TaskGroup | None = None
        self.ended = 0

    def attach(self, task_group: anyio.abc.TaskGroup | None) -> None:
        self.task_group = task_group

    async def open(self) -> None:
        await super().open()
        assert self.task_group is not None
        self.task_group.start_soon(self._stay)

    async def _stay(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.ended += 1


async def test_a_system_is_opened_once_when_it_is_first_needed() -> None:
    """However many ask at once; others stay closed."""
    used, unused = Recording("used"), Recording("unused")
    async with SystemRegistry({"used": used, "unused": unused}) as registry:
        assert used.done == []
        async with anyio.create_task_group() as askers:
            for _ in range(10):
                askers.start_soon(registry.ready, "used")
        assert await registry.ready("used") is used

    assert used.done == ["open", "close"]
    assert unused.done == []


async def test_it_may_be_entered_again() -> None:
    """Each time opens and closes anew."""
    system = Recording()
    registry = SystemRegistry({"r": system})
    for _ in range(3):
        async with registry:
            await registry.ready("r")

    assert system.done == ["open", "close"] * 3


async def test_systems_stay_open_until_the_last_caller_leaves() -> None:
    """Also where one caller enters twice."""
    system = Recording()
    registry = SystemRegistry({"r": system})
    async with registry:
        await registry.ready("r")
        async with registry:
            await registry.ready("r")
        assert system.done == ["open"]

    assert system.done == ["open", "close"]


async def test_background_tasks_end_with_the_registry() -> None:
    """Even those a system forgets to end."""
    system = Background()
    async with SystemRegistry({"b": system}) as registry:
        await registry.ready("b")

    assert system.ended == 1
    assert system.task_group is None


async def test_an_exception_inside_comes_out_after_everything_is_closed() -> None:
    """The caller's own exception is not lost or wrapped."""
    system = Background()

    async def fails() -> None:
        async with SystemRegistry({"b": system}) as registry:
            await registry.ready("b")
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await fails()
    assert (system.done, system.ended) == (["open", "close"], 1)


async def test_cancelling_the_caller_closes_everything() -> None:
    """Closing is shielded from the cancellation that caused it."""
    system = Recording()
    with anyio.move_on_after(0.01):
        async with SystemRegistry({"r": system}) as registry:
            await registry.ready("r")
            await anyio.sleep_forever()

    assert system.done == ["open", "close"]


async def test_a_system_that_can_not_close_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are closed, the time is bounded, and the log says what happened."""
    monkeypatch.setattr("orchestration.systems.registry.CLOSE_SECONDS", 0.05)
    caplog.set_level(logging.WARNING, "advanced_task_orchestration")
    fine, hangs, fails = Recording(), Recording(hangs=True), Recording(fails=True)

    with anyio.fail_after(5):
        async with SystemRegistry({"hangs": hangs, "fails": fails, "fine": fine}) as registry:
            for name in registry:
                await registry.ready(name)

    assert fine.done == ["open", "close"]
    reasons = {vars(record)["system"]: vars(record)["reason"] for record in caplog.records}
    assert reasons == {"hangs": "it took longer than 0.05 s", "fails": "OSError: broken"}


async def test_an_unknown_system_is_refused_with_the_choices() -> None:
    """With the nearest name, or what to do where there are none."""
    registry = SystemRegistry({"python": FunctionSystem({}), "local": Recording()})

    with pytest.raises(
        InvalidArgumentError, match=r"expected a configured system: python, local. Fix: did you mean 'python'"
    ):
        registry.get("pyton")
    with pytest.raises(
        InvalidArgumentError, match=r"expected a system, but there are none. Fix: configure it under"
    ):
        SystemRegistry({}).get("x")


async def test_a_closed_registry_opens_nothing() -> None:
    """It would never be closed again."""
    registry = SystemRegistry({"r": Recording()})

    with pytest.raises(RuntimeError, match="Fix: use them inside `async with registry:`"):
        await registry.ready("r")


async def test_all_are_checked_at_once_within_the_limit() -> None:
    """One that hangs or raises is unhealthy, in the order of the systems."""
    registry = SystemRegistry(
        {"hangs": Recording(hangs=True), "fails": Recording(fails=True), "fine": Recording()}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestration.systems.registry.CLOSE_SECONDS", 0.05)
        async with registry:
            health = await registry.check_all(timeout_seconds=0.05)

    assert list(health.items()) == [
        ("hangs", Health(ok=False, detail="no answer within 0.05 s")),
        ("fails", Health(ok=False, detail="OSError: broken")),
        ("fine", Health(ok=True, detail="fine")),
    ]


async def test_a_survey_tells_tools_or_why_there_are_none() -> None:
    """Of those asked for, within the limit."""
    systems: dict[str, Any] = {
        "hangs": Recording(hangs=True),
        "fails": Recording(fails=True),
        "fine": Recording(),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestration.systems.registry.CLOSE_SECONDS", 0.05)
        async with SystemRegistry(systems) as registry:
            found = await registry.survey(timeout_seconds=0.05)
            some = await registry.survey(["fine"])

    assert [(name, [tool.name for tool in survey.tools], survey.error) for name, survey in found.items()] == [
        ("hangs", [], "no answer within 0.05 s"),
        ("fails", [], "broken"),
        ("fine", ["t"], None),
    ]
    assert list(some) == ["fine"]


def test_it_describes_what_there_is_without_asking() -> None:
    """Names and kinds, in order."""
    registry = SystemRegistry({"python": FunctionSystem({}), "r": Recording()})

    assert registry.describe() == [{"name": "python", "kind": "function"}, {"name": "r", "kind": "recording"}]
    assert (registry.names, len(registry), "r" in registry, "x" in registry) == (
        ["python", "r"],
        2,
        True,
        False,
    )


async def test_concurrent_callers_share_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each from its own task; the last one closes. Background work that does not move is cancelled in time."""
    monkeypatch.setattr("orchestration.systems.registry.HAND_OVER_SECONDS", 0.05)
    system = Background()
    registry = SystemRegistry({"b": system})
    inside = 0
    leave = anyio.Event()

    async def caller() -> None:
        nonlocal inside
        async with registry:
            await registry.ready("b")
            inside += 1
            await leave.wait()

    async with anyio.create_task_group() as callers:
        for _ in range(3):
            callers.start_soon(caller)
        await until(lambda: inside == 3)
        leave.set()

    assert (system.done, system.ended) == (["open", "close"], 1)


async def test_nobody_waits_again_for_a_system_that_has_just_not_answered_in_time() -> None:
    """A second plan must not be held up by the server that held up the first."""
    silent = Recording(hangs=True)
    async with SystemRegistry({"silent": silent, "other": Recording()}) as registry:
        first = await registry.survey(timeout_seconds=0.05)
        with anyio.fail_after(5):
            second = await registry.survey(timeout_seconds=3600)
        silent._hangs = False

        assert first["silent"].error == second["silent"].error == "no answer within 0.05 s"
        assert [tool.name for tool in second["other"].tools] == ["t"]
        registry._silent.clear()
        assert (await registry.survey())["silent"].error is None


def has_t(found: Mapping[str, Survey]) -> bool:
    """Whether some system answered that it has the tool `t`."""
    return any(tool.name == "t" for survey in found.values() for tool in survey.tools)


async def test_nobody_waits_long_for_a_system_without_which_the_others_are_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor again soon after; where the others are not enough, it is asked, and counts as soon as it answers."""
    monkeypatch.setattr("orchestration.systems.registry.PATIENCE_SECONDS", 0.05)
    silent = Recording(hangs=True)
    async with SystemRegistry({"silent": silent, "other": Recording()}) as registry:
        with anyio.fail_after(5):
            first = await registry.survey(timeout_seconds=3600, is_enough=has_t)
            silent._hangs = False
            second = await registry.survey(timeout_seconds=3600, is_enough=has_t)
            third = await registry.survey(timeout_seconds=3600, is_enough=lambda found: "silent" in found)
            fourth = await registry.survey(timeout_seconds=3600, is_enough=has_t)

    assert first["silent"].error == second["silent"].error == "no answer within 0.05 s"
    assert list(first) == ["silent", "other"]
    assert [survey.error for survey in (*third.values(), *fourth.values())] == [None] * 4


async def test_a_slow_system_is_waited_for_while_the_others_are_not_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the patience that there is for what nobody needs; the rest of that ends with its answer."""
    monkeypatch.setattr("orchestration.systems.registry.PATIENCE_SECONDS", 0.02)

    class Slow(Recording):
        async def list_tools(self) -> list[ToolInfo]:
            await anyio.sleep(0.1)
            return await super().list_tools()

    systems: dict[str, Any] = {"hangs": Recording(hangs=True), "slow": Slow()}
    async with SystemRegistry(systems) as registry:
        with anyio.fail_after(5):
            found = await registry.survey(timeout_seconds=3600, is_enough=has_t)
        systems["hangs"]._hangs = False

    assert [survey.error for survey in found.values()] == ["no answer within 0.02 s", None]
