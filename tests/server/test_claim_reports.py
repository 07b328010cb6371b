"""`report_task`: what a worker says counts once, is checked, and is refused when the task is another's by now."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest

from orchestration.factory import create_advanced_task_orchestrator
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.ports import System
from orchestration.systems.agent import AgentSystem
from tests.server.conftest import Connect, Functions, text_of
from tests.server.test_claims import SCARF, call, start, tasks_for_agents

pytestmark = pytest.mark.anyio


@pytest.fixture
def era() -> str:
    """What is said is the same in both; claims are made in both."""
    return "auto"


class NoJitter(random.Random):
    """Draws the least each time: what is tried again is tried again at once."""

    def random(self) -> float:
        return 0.0


@pytest.fixture
def orchestrator(functions: Functions, lease_seconds: float) -> AdvancedTaskOrchestrator:
    """An orchestrator whose claims run out as soon as the test wants, and whose retries don't wait."""
    systems: dict[str, System] = {
        "python": functions.system(),
        "agent": AgentSystem(lease_seconds=lease_seconds),
    }
    return create_advanced_task_orchestrator(systems=systems, rng=NoJitter())


@pytest.fixture
def lease_seconds() -> float:
    return 300.0


short_lease = pytest.mark.parametrize("lease_seconds", [0.05])


async def claim(client: Any, worker: str = "ada", **arguments: Any) -> Any:
    claimed = await call(client, "claim_task", worker=worker, wait_seconds=5, **arguments)
    assert "claim" in claimed.structured_content, text_of(claimed)
    return claimed.structured_content


async def report(client: Any, claimed: Any, status: str, **arguments: Any) -> Any:
    return await call(client, "report_task", claim=claimed["claim"], status=status, **arguments)


async def until_run_out(orchestrator: AdvancedTaskOrchestrator, claimed: Any) -> None:
    """Wait until a claim does not hold any more and its task is offered anew."""
    with anyio.fail_after(5):
        while True:
            (view,) = await orchestrator.load_offers(claimed["orchestration_id"])
            if view.state == "open":
                return
            await orchestrator.wait_for_change(claimed["orchestration_id"], after_seq=0, timeout_seconds=1)
            await anyio.lowlevel.checkpoint()


# --- Each status --------------------------------------------------------------------------------------------------


async def test_a_task_that_is_done_lets_the_next_ones_begin(connect: Connect) -> None:
    """Its output is what others read; the answer says what it unblocked and what to do next."""
    async with connect() as client:
        await start(client, SCARF)
        claimed = await claim(client)
        going_on = await report(client, claimed, "progress", summary="half of it")
        done = await report(
            client, claimed, "DONE", output={"rows": 240}, summary="knitted", evidence="a photo"
        )
        output = await call(client, "read_output", reference="scarf-1/knit")

    assert going_on.structured_content == {
        "message": "Task knit of scarf-1 is yours for another 300 s.",
        "next": [{"tool": "report_task", "arguments": {"claim": claimed["claim"], "status": "done"}}],
        "outcome": "accepted",
        "lease_seconds": 300.0,
        "task": "knit",
        "orchestration_id": "scarf-1",
    }
    answer = done.structured_content
    assert answer["message"] == "Task knit of scarf-1 is done."
    assert (answer["outcome"], answer["verified"], answer["unblocked"]) == ("accepted", True, ["count"])
    assert answer["next"][0] == {"tool": "claim_task", "arguments": {"worker": "ada"}}
    assert "may begin now: count" in text_of(done).splitlines()
    assert '"rows": 240' in text_of(output)


async def test_the_last_report_ends_the_orchestration(connect: Connect) -> None:
    """The next call is to look at it."""
    async with connect() as client:
        await start(client, tasks_for_agents(1))
        done = await report(client, await claim(client), "done", output="a poem")
        ended = await call(client, "get_orchestration_status", orchestration_id="work-1", wait_seconds=10)

    assert done.structured_content["state"] == "completed"
    assert done.structured_content["counts"] == {"completed": 1}
    assert done.structured_content["next"][0]["tool"] == "get_orchestration_status"
    assert ended.structured_content["outputs"][0]["output"] == "a poem"


async def test_an_output_may_come_as_json_text(connect: Connect) -> None:
    """An object or a list as text is that; any other text is a text."""
    sent_and_kept: list[tuple[Any, Any]] = [
        ('{"rows": [1, 2]}', {"rows": [1, 2]}),
        ("[1, 2]", [1, 2]),
        ("[draft] a note in brackets", "[draft] a note in brackets"),
        ("{not json", "{not json"),
        ("42", "42"),
        (42, 42),
    ]
    kept = {}

    async with connect() as client:
        await start(client, tasks_for_agents(len(sent_and_kept)))
        for number, (sent, _) in enumerate(sent_and_kept):
            claimed = await claim(client)
            await report(client, claimed, "done", output=sent)
            task = await call(
                client, "get_orchestration_status", orchestration_id="work-1", task=claimed["task"]
            )
            kept[number] = task.structured_content["tasks"][0]["output"]

    assert list(kept.values()) == [expected for _, expected in sent_and_kept]


async def test_a_failure_is_tried_again_and_a_blocked_task_is_not(connect: Connect) -> None:
    """By others first; what was said is the error."""
    async with connect() as client:
        await start(client, tasks_for_agents(1, max_retries=2))
        failed = await report(client, await claim(client), "failed", summary="no wool")
        again = await claim(client, "bob")
        blocked = await report(client, again, "blocked", summary="no wool anywhere")
        ended = await call(client, "get_orchestration_status", orchestration_id="work-1", wait_seconds=10)

    assert failed.structured_content["message"] == (
        "This attempt at task t0 of work-1 has failed; it may be tried again."
    )
    assert again["attempt"] == 2
    assert "can't be done as it stands" in blocked.structured_content["message"]
    assert ended.structured_content["state"] == "failed"
    assert ended.structured_content["errors"]["t0"].endswith("bob reported: no wool anywhere")


async def test_a_task_may_be_replaced_by_tasks_of_its_worker(connect: Connect) -> None:
    """They come as a plan does, may need agents in turn, and the last one delivers; a repeated report adds nothing."""
    subtasks = '[{"task_id": "spin"}, {"task_id": "weave", "depends_on": ["spin"]}]'

    async with connect() as client:
        await start(client, SCARF)
        claimed = await claim(client)
        split = await report(client, claimed, "progress", subtasks=subtasks)
        again = await report(client, claimed, "progress", subtasks=subtasks)
        first = await claim(client)
        await report(client, first, "done", output="yarn")
        last = await claim(client)
        done = await report(client, last, "done", output="cloth")

    assert split.structured_content["message"] == (
        "Task knit of scarf-1 is replaced by 2 tasks, and your claim has ended."
    )
    assert again.structured_content["repeated"] is True
    assert first["task"].startswith("spin")
    assert last["task"].startswith("weave")
    assert done.structured_content["unblocked"] == ["count"]


# --- Reported is not verified -------------------------------------------------------------------------------------


async def test_what_is_reported_done_counts_only_when_it_is_found_to_be(connect: Connect) -> None:
    """The worker is told why not, the task is offered anew, and metrics keep both."""
    acceptance = {"condition": "output.rows >= 200"}

    async with connect() as client:
        await start(client, tasks_for_agents(1, acceptance=acceptance, max_retries=1))
        claimed = await claim(client)
        refused = await report(client, claimed, "done", output={"rows": 3})
        again = await claim(client)
        done = await report(client, again, "done", output={"rows": 200})
        overall = await call(client, "get_metrics")
        of_one = await call(client, "get_metrics", scope="orchestration", id="work-1")
        lately = await call(client, "get_metrics", window="1h")

    assert refused.structured_content["message"] == (
        "Reported, not accepted: task t0 of work-1 was not found to be done: The result is not accepted: "
        "`output.rows >= 200` does not hold."
    )
    assert (refused.structured_content["outcome"], refused.structured_content["verified"]) == (
        "accepted",
        False,
    )
    assert "Counts as done when: output.rows >= 200" in claimed["brief"]
    assert done.structured_content["verified"] is True
    for found in (overall, of_one):
        metrics = found.structured_content["metrics"]
        assert metrics["claims"] == {
            "made": 2,
            "reported_done": 2,
            "accepted": 1,
            "refused": 1,
            "expired": 0,
            "released": 0,
            "failed": 0,
        }
        assert metrics["workers"] == {"ada": {"claims": 2, "reported_done": 2, "accepted": 1}}
        assert "worker ada: 2 claims, 2 reported done, 1 accepted" in text_of(found).splitlines()
    assert "claims" not in lately.structured_content["metrics"]


async def test_metrics_without_claims_say_nothing_of_them(connect: Connect) -> None:
    """Most servers have no workers."""
    async with connect() as client:
        found = await call(client, "get_metrics")

    assert "claims" not in found.structured_content["metrics"]


async def test_only_the_busiest_workers_are_named(connect: Connect) -> None:
    """The others are counted."""
    async with connect() as client:
        await start(client, tasks_for_agents(23))
        for number in range(23):
            await claim(client, f"worker-{number:02}")
        found = await call(client, "get_metrics")

    metrics = found.structured_content["metrics"]
    assert len(metrics["workers"]) == 20
    assert metrics["more_workers"] == 3


# --- Late and stale -----------------------------------------------------------------------------------------------


@short_lease
async def test_a_late_report_counts_while_nobody_else_has_the_task(
    connect: Connect, orchestrator: AdvancedTaskOrchestrator
) -> None:
    """The lease has run out, and the work is worth having."""
    async with connect() as client:
        await start(client, tasks_for_agents(1))
        claimed = await claim(client)
        await until_run_out(orchestrator, claimed)
        late = await report(client, claimed, "done", output="done after all")

    assert late.structured_content["message"] == (
        "Late, but nobody else had taken it: task t0 of work-1 is done."
    )
    assert late.structured_content["late"] is True
    assert late.structured_content["state"] == "completed"


@short_lease
async def test_a_late_report_on_a_task_another_has_is_stale_and_names_the_holder(
    connect: Connect, orchestrator: AdvancedTaskOrchestrator
) -> None:
    """Whoever has it now goes on undisturbed."""
    async with connect() as client:
        await start(client, tasks_for_agents(1))
        first = await claim(client)
        await until_run_out(orchestrator, first)
        second = await claim(client, "bob")
        stale = await report(client, first, "done", output="too late")
        done = await report(client, second, "done", output="in time")

    assert stale.is_error is not True
    answer = stale.structured_content
    assert answer["message"] == (
        "Stale: task t0 of work-1 is not yours any more, bob has it now; what you sent is kept as a note."
    )
    assert (answer["outcome"], answer["reason"], answer["holder"]) == ("stale", "taken", "bob")
    assert answer["next"][0] == {"tool": "claim_task", "arguments": {"worker": "ada"}}
    assert done.structured_content["outcome"] == "accepted"


async def test_a_report_on_what_was_cancelled_or_settled_is_stale(connect: Connect) -> None:
    """It says which."""
    async with connect() as client:
        await start(client, tasks_for_agents(1))
        claimed = await claim(client)
        await call(client, "control_orchestration", orchestration_id="work-1", action="cancel")
        stale = await report(client, claimed, "done", output=1)
        going_on = await report(client, claimed, "progress")

    assert stale.structured_content["message"] == (
        "Stale: task t0 of work-1 is not yours any more, it was cancelled; what you sent is kept as a note."
    )
    assert going_on.structured_content["outcome"] == "stale"
    assert going_on.structured_content["reason"] == "cancelled"


async def test_a_repeated_report_returns_the_first_outcome(connect: Connect) -> None:
    """A client that did not hear the answer sends it again."""
    async with connect() as client:
        await start(client, tasks_for_agents(1))
        claimed = await claim(client)
        await report(client, claimed, "done", output="first")
        again = await report(client, claimed, "failed", summary="second thoughts")
        ended = await call(client, "get_orchestration_status", orchestration_id="work-1")

    assert again.structured_content["message"] == (
        "This claim of task t0 of work-1 had ended before: it was reported done, and nothing was done now."
    )
    assert (again.structured_content["outcome"], again.structured_content["repeated"]) == ("accepted", True)
    assert ended.structured_content["state"] == "completed"


# --- Refusals -----------------------------------------------------------------------------------------------------


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"status": "finished"}, "status", "invalid_argument"),
    ({"status": "failed", "output": 1}, "output", "invalid_argument"),
    ({"status": "done", "evidence": ["x"] * 21}, "evidence", "invalid_argument"),
    ({"status": "done", "subtasks": [{"task_id": "a"}]}, "subtasks", "invalid_argument"),
    ({"status": "progress", "subtasks": "[{"}, "subtasks", "invalid_argument"),
    (
        {"status": "progress", "subtasks": [{"task_id": "a", "depends_on": ["nobody"]}]},
        "subtasks",
        "edit_refused",
    ),
    (
        {"status": "progress", "subtasks": [{"task_id": "a", "tool": "levitate"}]},
        "subtasks",
        "unroutable_task",
    ),
    ({"status": "progress", "claim": "claim-none"}, "claim", "claim_not_found"),
]
"""Reports that can't be, the field that is wrong, and the code."""


async def test_what_cannot_be_reported_is_refused_and_the_claim_holds(connect: Connect) -> None:
    """Nothing was reported; the field, an example and a next call are given."""
    async with connect() as client:
        await start(client, tasks_for_agents(1))
        claimed = await claim(client)
        refused = [
            await call(client, "report_task", **{"claim": claimed["claim"], **arguments})
            for arguments, _, _ in REFUSED
        ]
        going_on = await report(client, claimed, "progress")

    for answer, (_, field, code) in zip(refused, REFUSED, strict=True):
        assert answer.is_error is True
        assert f"\ncode: {code}\nfield: {field}\nexample: " in text_of(answer)
        assert "\nnext: " in text_of(answer)
    assert going_on.structured_content["outcome"] == "accepted"


@short_lease
async def test_subtasks_for_a_task_that_is_not_held_any_more_are_refused(
    connect: Connect, orchestrator: AdvancedTaskOrchestrator
) -> None:
    """A late worker first asks for its task again, with a report of progress."""
    async with connect() as client:
        await start(client, tasks_for_agents(1))
        claimed = await claim(client)
        await until_run_out(orchestrator, claimed)
        refused = await report(client, claimed, "progress", subtasks=[{"task_id": "a"}])

    assert "\ncode: not_possible\nfield: subtasks\n" in text_of(refused)
    assert text_of(refused).endswith(
        f'next: report_task({{"claim": "{claimed["claim"]}", "status": "progress"}})'
    )


async def test_long_words_are_cut_and_marks_of_a_terminal_are_told_as_escapes(connect: Connect) -> None:
    """What a worker sends is data, to whoever reads it later."""
    async with connect() as client:
        await start(client, tasks_for_agents(1, max_retries=0))
        claimed = await claim(client, "ada\u202e")
        told = await report(client, claimed, "failed", summary="\x1b[31mred" + "x" * 50_000)
        why = await call(client, "get_orchestration_status", orchestration_id="work-1", task="t0", view="why")

    for text in (text_of(told), text_of(why)):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert len(text) <= 8_000
