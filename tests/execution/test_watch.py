"""A stored request is carried out once, however often it is seen; on virtual time, with a watched coordinator."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from orchestration.execution.watch import Watch
from orchestration.options import OrchestratorOptions
from orchestration.ports import ControlAction, ControlRequest, PendingControl
from tests.execution.conftest import LoopClock

pytestmark = pytest.mark.anyio


class Inbox:
    """A storage with requests in it; its list may arrive late."""

    is_durable = True

    def __init__(self, *numbers: int) -> None:
        self.pending = [
            PendingControl(
                control_id=number,
                orchestration_id="o",
                request=ControlRequest(action=ControlAction.PAUSE),
                sent_at_us=0,
            )
            for number in numbers
        ]
        self.looks = 0
        self.gate: anyio.Event | None = None

    async def change_count(self) -> int:
        self.looks += 1
        return self.looks

    async def pending_controls(self) -> list[PendingControl]:
        found = list(self.pending)
        if self.gate is not None:
            await self.gate.wait()
        return found


class Desk:
    """A coordinator that only notes what it is given; answers come when the test says so."""

    def __init__(self) -> None:
        self.driven: dict[str, Any] = {"o": SimpleNamespace(lease=SimpleNamespace(orchestration_id="o"))}
        self.carried: list[int] = []
        self.answer: dict[int, Callable[[], None]] = {}

    async def request(self, _: object) -> list[Any]:
        return []

    def carry_out(self, _item: object, _output: object, number: int, on_answered: Callable[[], None]) -> None:
        self.carried.append(number)
        self.answer[number] = on_answered


def watching(desk: Desk, inbox: Inbox) -> Watch:
    return Watch(inbox, desk, None, LoopClock(), OrchestratorOptions(), lambda: 0.5)  # type: ignore[arg-type]


async def test_what_a_takeover_carries_out_is_not_taken_by_the_next_look() -> None:
    """While the first of two is being committed, the second one waits for its turn."""
    desk, inbox = Desk(), Inbox(1, 2)
    watch = watching(desk, inbox)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(watch.carry_out_stored, desk.driven["o"])
            await wait_all_tasks_blocked()
            await watch.look()
            desk.answer[1]()
            await wait_all_tasks_blocked()
            desk.answer[2]()

    assert desk.carried == [1, 2]


async def test_a_list_that_was_read_before_an_answer_was_stored_starts_nothing_again() -> None:
    """It still holds the request, which has been heard meanwhile."""
    desk, inbox = Desk(), Inbox(1)
    watch = watching(desk, inbox)
    await watch.look()
    inbox.gate = anyio.Event()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(watch.look)
            await wait_all_tasks_blocked()
            inbox.pending.clear()
            desk.answer[1]()
            inbox.gate.set()

    assert desk.carried == [1]
