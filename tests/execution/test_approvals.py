"""Agreeing to tasks: to exactly what is shown, by whoever may, from any process, and to nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration import (
    AdvancedTaskOrchestrator,
    FunctionSystem,
    NotPossibleError,
    TaskDAG,
    TaskEdge,
    TaskNode,
    create_advanced_task_orchestrator,
    story,
)
from orchestration.engine.events import ApprovalGiven
from orchestration.errors import InvalidArgumentError, NotPermittedError, RefusedByDriverError
from orchestration.models import TaskStatus
from storage import SqliteStorage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Till:
    """Pays, and remembers what."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    def price(self) -> dict[str, int]:
        return {"amount": 5}

    def pay(self, amount: int) -> str:
        self.paid.append(amount)
        return "paid"


def bill(who: Any = "person", **more: Any) -> TaskDAG:
    """`pay` needs somebody's yes to the amount that `price` says; `thank` needs `pay`."""
    dag = TaskDAG("bill", "Pay the bill")
    dag.add_task(TaskNode("price"))
    dag.add_task(TaskNode("pay", "Pay it", approval=who, arguments={"amount": "${price.amount}"}, **more))
    dag.add_task(TaskNode("thank", tool="price"))
    dag.add_dependency(TaskEdge("price", "pay"))
    dag.add_dependency(TaskEdge("pay", "thank"))
    return dag


@asynccontextmanager
async def opened(till: Till, storage: SqliteStorage | None = None) -> AsyncIterator[AdvancedTaskOrchestrator]:
    async with create_advanced_task_orchestrator(
        systems={"python": FunctionSystem({"price": till.price, "pay": till.pay})}, state_manager=storage
    ) as orchestrator:
        yield orchestrator


async def until_asked(orchestrator: AdvancedTaskOrchestrator, name: str = "bill-1") -> dict[str, Any]:
    """Return what is asked once something is."""
    with anyio.fail_after(5):
        while True:
            status = await orchestrator.load_status(name)
            if status["waiting_for_approval"]:
                return (await orchestrator.load_approvals(name))[0]
            await orchestrator.wait_for_change(name, after_seq=status["last_seq"], timeout_seconds=5)


async def test_what_waits_for_a_yes_is_told_with_all_there_is_to_know() -> None:
    """Who may give it, what exactly would run, and a name for exactly that; nothing has run."""
    till = Till()
    async with opened(till) as orchestrator:
        await orchestrator.submit(bill())
        asked = await until_asked(orchestrator)
        status = await orchestrator.load_status("bill-1")
        live = orchestrator.get_orchestration_status("bill-1")

    assert {name: asked[name] for name in ("task_id", "who", "description", "system", "tool")} == {
        "task_id": "pay",
        "who": "person",
        "description": "Pay it",
        "system": "python",
        "tool": "pay",
    }
    assert '"amount": 5' in asked["shown"]
    assert len(asked["digest"]) == 64
    assert asked["asked_at"].endswith("Z")
    assert status["waiting_for_approval"] == live["waiting_for_approval"] == {"pay": asked["shown"]}
    assert status["counts"] == {"pending": 1, "awaiting_approval": 1, "completed": 1}
    assert till.paid == []


async def test_a_person_s_yes_lets_exactly_that_run() -> None:
    """The journal has who and why."""
    till = Till()
    async with opened(till) as orchestrator:
        await orchestrator.submit(bill())
        asked = await until_asked(orchestrator)
        await orchestrator.approve("bill-1", "pay", digest=asked["digest"], reason="it is due")
        with anyio.fail_after(5):
            result = await orchestrator.wait("bill-1")
        given = [
            recorded.event
            for recorded in await orchestrator.load_events("bill-1")
            if isinstance(recorded.event, ApprovalGiven)
        ]

    assert result["success"] is True
    assert till.paid == [5]
    assert [(event.by, event.reason, event.digest) for event in given] == [
        ("person", "it is due", asked["digest"])
    ]


async def test_the_caller_may_not_agree_in_a_person_s_name() -> None:
    """The refusal names the command for the person, and nothing has changed."""
    till = Till()
    async with opened(till) as orchestrator:
        await orchestrator.submit(bill("person"))
        await until_asked(orchestrator)
        with pytest.raises(NotPermittedError) as approving:
            await orchestrator.approve("bill-1", "pay", by="caller")
        with pytest.raises(NotPermittedError):
            await orchestrator.reject("bill-1", "pay", by="caller")
        status = await orchestrator.load_status("bill-1")

    assert str(approving.value) == (
        "Only a person may approve task 'pay'. Fix: show the user this command: "
        "`advanced-orchestration approve bill-1 pay`."
    )
    assert status["waiting_for_approval"].keys() == {"pay"}
    assert till.paid == []


async def test_the_caller_agrees_where_the_task_lets_it() -> None:
    """`approval: caller`."""
    till = Till()
    async with opened(till) as orchestrator:
        await orchestrator.submit(bill("caller"))
        asked = await until_asked(orchestrator)
        await orchestrator.approve("bill-1", "pay", digest=asked["digest"], by="caller")
        with anyio.fail_after(5):
            await orchestrator.wait("bill-1")

    assert asked["who"] == "caller"
    assert till.paid == [5]


async def test_a_yes_to_something_else_is_none() -> None:
    """Another digest than that of what is asked about now."""
    till = Till()
    async with opened(till) as orchestrator:
        await orchestrator.submit(bill())
        await until_asked(orchestrator)
        with pytest.raises(NotPossibleError, match="other arguments or inputs by now"):
            await orchestrator.approve("bill-1", "pay", digest="0" * 64)
        with pytest.raises(InvalidArgumentError, match="digest is ''; expected the digest of what was shown"):
            await orchestrator.approve("bill-1", "pay", digest="")

    assert till.paid == []


async def test_a_refused_task_fails_with_the_reason_and_what_needs_it_is_skipped() -> None:
    """A refusal is final: no fallback gets round it."""
    till = Till()
    async with opened(till) as orchestrator:
        await orchestrator.submit(bill())
        await until_asked(orchestrator)
        await orchestrator.reject("bill-1", "pay", reason="it was paid in cash")
        with anyio.fail_after(5):
            result = await orchestrator.wait("bill-1")

    assert result["success"] is False
    assert result["errors"]["pay"]["code"] == "rejected"
    assert "it was paid in cash" in result["errors"]["pay"]["message"]
    assert result["dag"].nodes["thank"].status is TaskStatus.SKIPPED
    assert till.paid == []


async def test_what_waits_for_nobody_s_yes_can_not_be_agreed_to() -> None:
    """The refusal says what does wait."""
    till = Till()
    async with opened(till) as orchestrator:
        await orchestrator.submit(bill())
        await until_asked(orchestrator)
        with pytest.raises(NotPossibleError, match="These wait for approval: pay"):
            await orchestrator.approve("bill-1", "thank")


async def test_a_yes_from_another_process_reaches_whoever_drives(tmp_path: Path) -> None:
    """As from the command line while a server runs it; a refusal by the driver keeps its code."""
    till = Till()
    path = tmp_path / "state.db"
    async with opened(till, SqliteStorage(path)) as driver, opened(Till(), SqliteStorage(path)) as other:
        await driver.submit(bill())
        asked = await until_asked(other)
        with pytest.raises(RefusedByDriverError) as refused:
            await other.approve("bill-1", "pay", by="caller")
        await other.approve("bill-1", "pay", digest=asked["digest"])
        with anyio.fail_after(5):
            result = await driver.wait("bill-1")

    assert refused.value.code == "not_permitted"
    assert result["success"] is True
    assert till.paid == [5]


async def test_a_yes_to_what_nobody_drives_is_kept_for_whoever_goes_on(tmp_path: Path) -> None:
    """Nothing runs by the agreement itself; it survives, and the task is not asked about again."""
    till = Till()
    path = tmp_path / "state.db"
    async with opened(till, SqliteStorage(path)) as first:
        await first.submit(bill())
        await until_asked(first)
    async with opened(Till(), SqliteStorage(path)) as second:
        asked = (await second.load_approvals("bill-1"))[0]
        await second.approve("bill-1", "pay", digest=asked["digest"])
        assert (await second.load_status("bill-1"))["counts"] == {"pending": 1, "ready": 1, "completed": 1}
    assert till.paid == []

    async with opened(till, SqliteStorage(path)) as third:
        await third.resume("bill-1")
        with anyio.fail_after(5):
            result = await third.wait("bill-1")

    assert result["success"] is True
    assert till.paid == [5]


async def test_each_item_of_a_list_asks_for_itself() -> None:
    """The children of a `foreach` inherit the approval, and each is bound to its own arguments."""
    till = Till()
    dag = TaskDAG("bill")
    dag.add_task(TaskNode("pay", approval="person", foreach=[3, 4], arguments={"amount": "${item}"}))
    async with opened(till) as orchestrator:
        await orchestrator.submit(dag)
        with anyio.fail_after(5):
            while len((status := await orchestrator.load_status("bill-1"))["waiting_for_approval"]) < 2:
                await orchestrator.wait_for_change("bill-1", after_seq=status["last_seq"], timeout_seconds=5)
        asked = await orchestrator.load_approvals("bill-1")
        await orchestrator.approve("bill-1", "pay[1]", digest=asked[1]["digest"])
        await orchestrator.reject("bill-1", "pay[0]")
        with anyio.fail_after(5):
            result = await orchestrator.wait("bill-1")

    assert [(each["task_id"], each["who"]) for each in asked] == [("pay[0]", "person"), ("pay[1]", "person")]
    assert till.paid == [4]
    assert result["errors"].keys() == {"pay", "pay[0]"}


async def test_a_question_that_lies_far_back_is_told_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """No journal is read to its beginning for it: who may agree is known, the digest is not, and a yes is to what is
    asked about when it arrives.
    """
    monkeypatch.setattr(story, "_SEARCHED", 0)
    till = Till()
    async with opened(till) as orchestrator:
        await orchestrator.submit(bill("caller"))
        asked = await until_asked(orchestrator)
        await orchestrator.approve("bill-1", "pay", digest=asked["digest"], by="caller")
        with anyio.fail_after(5):
            await orchestrator.wait("bill-1")

    assert (asked["who"], asked["digest"]) == ("caller", None)
    assert '"amount": 5' in asked["shown"]
    assert till.paid == [5]
