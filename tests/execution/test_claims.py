"""Work that is offered, through the façade: given out once, reported, taken back, and done by the one who has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration import AdvancedTaskOrchestrator, TaskDAG, TaskEdge, TaskNode
from orchestration.claim_records import Claim
from orchestration.edits.editing import EditRefusedError
from orchestration.errors import (
    ClaimNotFoundError,
    InvalidArgumentError,
    NotPossibleError,
    UnroutableTaskError,
)
from orchestration.models import Fallback, TaskPriority, TaskStatus
from tests.execution.durable import assert_replayable, statuses
from tests.execution.offered import (
    LEASE_SECONDS,
    FastClock,
    Office,
    claimed,
    done,
    finished,
    for_agent,
    nothing,
    taken,
    until,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["memory", pytest.param("sqlite", marks=pytest.mark.slow)])
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Office:
    """Return where the work is offered: all of it goes alike with both storages; with SQLite it takes longer."""
    return Office(tmp_path if request.param == "sqlite" else None)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Hold what a test opens, for a bounded time."""
    with anyio.fail_after(30):
        async with AsyncExitStack() as opened:
            yield opened


def dag_of(*nodes: TaskNode, edges: tuple[TaskEdge, ...] = (), goal: str = "") -> TaskDAG:
    dag = TaskDAG("work", goal)
    for node in nodes:
        dag.add_task(node)
    for edge in edges:
        dag.add_dependency(edge)
    return dag


async def begin(
    office: Office, stack: AsyncExitStack, *nodes: TaskNode, functions: Any = None, **more: Any
) -> AdvancedTaskOrchestrator:
    """Open an orchestrator and submit these tasks as `work-1`."""
    edges, goal = more.pop("edges", ()), more.pop("goal", "")
    asked = {name: more.pop(name) for name in ("mode", "max_retries") if name in more}
    orchestrator = await stack.enter_async_context(office.orchestrator(functions, **more))
    await orchestrator.submit(dag_of(*nodes, edges=edges, goal=goal), **asked)
    return orchestrator


# Briefs


async def test_a_worker_is_told_all_it_needs_in_3_000_characters_however_much_there_is(
    office: Office, stack: AsyncExitStack
) -> None:
    """Goal, task, inputs as a beginning and where to read on, acceptance, limits."""
    long = "word " * 20_000
    functions = {f"say{number}": lambda: {"text": long} for number in range(15)}
    sources = [TaskNode(name, system_preference="python", tool=name) for name in functions]
    task = for_agent(
        "read",
        f"Read all of it. {long}",
        arguments={"first": "${say0.text}", "also": long},
        acceptance={"condition": "size(output) > 0"},
        idempotent=False,
        timeout_seconds=900,
    )
    edges = tuple(TaskEdge(source.task_id, "read") for source in sources)
    orchestrator = await begin(
        office, stack, *sources, task, functions=functions, edges=edges, goal=f"Summarise. {long}"
    )

    claim = await claimed(orchestrator)

    assert len(claim.brief) <= 3_000
    for told in (
        "Task read of work-1.",
        "Goal of the whole: Summarise.",
        "Do: Read all of it.",
        "Arguments:",
        "not instructions",
        "[work-1/say0]",
        "characters)",
        " more",
        "Counts as done when: size(output) > 0",
        "900 s in all",
        "must not be done twice",
    ):
        assert told in claim.brief, told


# Leases


async def test_any_report_renews_the_lease(office: Office, stack: AsyncExitStack) -> None:
    """A worker may take as long as it likes, as long as it says something."""
    orchestrator = await begin(office, stack, for_agent("a"))
    claim = await claimed(orchestrator)

    for _ in range(4):
        office.clock.skip(LEASE_SECONDS * 0.8)
        told = await orchestrator.report_task(claim.claim_id, "progress", summary="still at it")
        assert told.verdict.is_accepted
        assert told.verdict.claim.expires_at_us > office.clock.now_us() + 250 * 1_000_000
    await done(orchestrator, claim, "made")
    result = await finished(orchestrator, "work-1")

    assert result["success"] is True
    assert result["results"]["a"] == "made"


async def test_a_silent_worker_loses_its_task_to_the_next_one(office: Office, stack: AsyncExitStack) -> None:
    """And is told who has it, when it comes back."""
    orchestrator = await begin(office, stack, for_agent("a"))
    first = await taken(orchestrator, "ann")
    office.clock.skip(LEASE_SECONDS + 1)
    second = await claimed(orchestrator, "bob")

    late = await done(orchestrator, first, "ann's")
    await done(orchestrator, second, "bob's")
    result = await finished(orchestrator, "work-1")

    assert (second.task_id, second.attempt) == ("a", 2)
    assert (late.verdict.is_accepted, late.verdict.reason, late.verdict.holder) == (False, "taken", "bob")
    assert result["results"]["a"] == "bob's"


async def test_a_late_report_counts_while_nobody_else_has_the_task(
    office: Office, stack: AsyncExitStack
) -> None:
    """Work that was done is worth having."""
    orchestrator = await begin(office, stack, for_agent("a"))
    claim = await taken(orchestrator)
    office.clock.skip(LEASE_SECONDS + 1)
    await until(orchestrator, "work-1", "a", TaskStatus.RETRYING, TaskStatus.OFFERED)

    told = await done(orchestrator, claim, "late")
    result = await finished(orchestrator, "work-1")

    assert (told.verdict.is_accepted, told.verdict.is_late) == (True, True)
    assert result["results"]["a"] == "late"


async def test_what_must_not_be_repeated_waits_for_a_decision_when_its_worker_is_silent(
    office: Office, stack: AsyncExitStack
) -> None:
    """Nobody else is given it; the late report of the one who had it still counts."""
    orchestrator = await begin(office, stack, for_agent("a", idempotent=False))
    claim = await taken(orchestrator)
    office.clock.skip(LEASE_SECONDS + 1)
    await until(orchestrator, "work-1", "a", TaskStatus.UNKNOWN)

    await nothing(orchestrator, "bob")
    await done(orchestrator, claim, "once")
    result = await finished(orchestrator, "work-1")

    assert result["results"]["a"] == "once"


async def test_a_task_may_set_a_lease_of_its_own(office: Office, stack: AsyncExitStack) -> None:
    """`heartbeat_timeout_seconds`: what needs signs of life more often says so."""
    orchestrator = await begin(office, stack, for_agent("a", heartbeat_timeout_seconds=30))
    claim = await claimed(orchestrator)

    assert claim.lease_seconds == 30
    assert "at least every 30 s" in claim.brief


# Reports


async def test_a_report_that_is_repeated_gets_the_first_answer_and_changes_nothing(
    office: Office, stack: AsyncExitStack
) -> None:
    """A client that lost the answer may ask again, even with something else."""
    orchestrator = await begin(office, stack, for_agent("a"))
    claim = await claimed(orchestrator)
    first = await done(orchestrator, claim, 1)
    again = await done(orchestrator, claim, 2)
    otherwise = await orchestrator.report_task(claim.claim_id, "failed")
    result = await finished(orchestrator, "work-1")

    assert first.verdict.is_repeated is False
    assert again.verdict.is_repeated is otherwise.verdict.is_repeated is True
    assert again.verdict.is_accepted is otherwise.verdict.is_accepted is True
    assert again.verdict.control_id == first.verdict.control_id
    assert result["results"]["a"] == 1


async def test_a_report_tells_what_it_unblocked(office: Office, stack: AsyncExitStack) -> None:
    """So that a worker knows there is more to do."""
    orchestrator = await begin(office, stack, for_agent("a"), for_agent("b"), edges=(TaskEdge("a", "b"),))
    told = await done(orchestrator, await claimed(orchestrator), {"x": 1})

    assert (told.is_heard, told.unblocked) == (True, ("b",))
    assert '[work-1/a]: {"x": 1}' in (await claimed(orchestrator)).brief


async def test_a_task_that_is_reported_blocked_is_given_to_nobody_else(
    office: Office, stack: AsyncExitStack
) -> None:
    """It can't be done as it stands."""
    orchestrator = await begin(office, stack, for_agent("a"))
    claim = await claimed(orchestrator)
    await orchestrator.report_task(claim.claim_id, "blocked", summary="no such repository")
    result = await finished(orchestrator, "work-1")

    assert result["errors"]["a"]["code"] == "claim_blocked"
    assert "no such repository" in result["errors"]["a"]["message"]


async def test_a_task_that_was_given_back_unbegun_has_used_up_nothing(
    office: Office, stack: AsyncExitStack
) -> None:
    """And goes to somebody else."""
    orchestrator = await begin(office, stack, for_agent("a", max_retries=0))
    claim = await claimed(orchestrator, "ann")
    await orchestrator.report_task(claim.claim_id, "release", summary="not my field")
    second = await claimed(orchestrator, "bob")
    await done(orchestrator, second)
    result = await finished(orchestrator, "work-1")

    assert second.attempt == 1
    assert result["success"] is True


@pytest.mark.parametrize(
    ("status", "more", "field"),
    [
        ("finished", {}, "status"),
        ("progress", {"output": 1}, "output"),
        ("done", {"output": float("nan")}, "output"),
        ("done", {"summary": 7}, "summary"),
        ("done", {"evidence": "a text"}, "evidence"),
        ("done", {"subtasks": [{"task_id": "x"}]}, "subtasks"),
    ],
)
async def test_a_report_that_can_not_be_taken_names_the_field_and_leaves_the_claim_as_it_is(
    stack: AsyncExitStack, status: Any, more: dict[str, Any], field: str
) -> None:
    """The worker can mend it and report again."""
    orchestrator = await begin(Office(None), stack, for_agent("a"))
    claim = await claimed(orchestrator)
    with pytest.raises(InvalidArgumentError, match=field):
        await orchestrator.report_task(claim.claim_id, status, **more)

    assert (await orchestrator.storage.load_claim(claim.claim_id)) == claim


async def test_nobody_has_an_unknown_claim(office: Office, stack: AsyncExitStack) -> None:
    """The error names it."""
    orchestrator = await begin(office, stack, for_agent("a"))
    with pytest.raises(ClaimNotFoundError, match="claim-x"):
        await orchestrator.report_task("claim-x", "done")


# Who gets what


async def test_a_task_is_given_only_to_who_has_the_skills_it_asks_for(
    office: Office, stack: AsyncExitStack
) -> None:
    """The others are told what is lacking."""
    orchestrator = await begin(office, stack, for_agent("a", skills=["go", "sql"]))
    await until(orchestrator, "work-1", "a", TaskStatus.OFFERED)

    none = await nothing(orchestrator, "ann", skills=["go"])
    claim = await claimed(orchestrator, "bob", skills=["sql", "go", "js"])

    assert (none.open, none.lacking) == (1, {"sql": 1})
    assert claim.task_id == "a"


async def test_the_most_urgent_task_goes_first_and_nobody_gets_one_twice(
    office: Office, stack: AsyncExitStack
) -> None:
    """Then the oldest."""
    nodes = [for_agent("low", priority=TaskPriority.LOW), for_agent("urgent", priority=TaskPriority.URGENT)]
    orchestrator = await begin(office, stack, *nodes)
    for node in nodes:
        await until(orchestrator, "work-1", node.task_id, TaskStatus.OFFERED)

    given = [(await claimed(orchestrator, worker)).task_id for worker in ("ann", "bob")]

    assert given == ["urgent", "low"]
    assert (await nothing(orchestrator, "eve")).claimed == 2


async def test_a_worker_does_not_get_back_what_it_failed_while_others_are_there(
    office: Office, stack: AsyncExitStack
) -> None:
    """They are given their try; when nobody else comes for a lease's length, it may try again."""
    orchestrator = await begin(office, stack, for_agent("a"), for_agent("b"))
    other = await claimed(orchestrator, "bob")
    first = await claimed(orchestrator, "ann")
    await orchestrator.report_task(first.claim_id, "failed", summary="could not")
    office.clock.skip(2)
    await until(orchestrator, "work-1", first.task_id, TaskStatus.OFFERED)

    assert (await nothing(orchestrator, "ann")).avoided == 1
    office.clock.skip(LEASE_SECONDS - 5)
    await orchestrator.report_task(other.claim_id, "progress")
    office.clock.skip(10)
    again = await claimed(orchestrator, "ann")

    assert (again.task_id, again.attempt) == (first.task_id, 2)


async def test_a_task_nobody_can_do_is_offered_only_where_that_is_allowed(stack: AsyncExitStack) -> None:
    """Else it is refused, as ever: nobody may be there to do it."""
    orchestrator = await stack.enter_async_context(Office(None).orchestrator())
    with pytest.raises(UnroutableTaskError):
        await orchestrator.submit(dag_of(TaskNode("a", "Think of a name.")))
    await orchestrator.submit(dag_of(TaskNode("a", "Think of a name.")), allows_agent=True)

    assert "Think of a name." in (await claimed(orchestrator)).brief


# Control


async def test_while_paused_nothing_is_given_out_and_who_has_something_may_report(
    office: Office, stack: AsyncExitStack
) -> None:
    """A claim does not run out meanwhile, either."""
    orchestrator = await begin(office, stack, for_agent("a"), for_agent("b"), for_agent("c"))
    for name in "abc":
        await until(orchestrator, "work-1", name, TaskStatus.OFFERED)
    one, two = await claimed(orchestrator), await claimed(orchestrator, "bob")
    await orchestrator.pause("work-1")

    await nothing(orchestrator, "eve")
    assert (await done(orchestrator, one)).verdict.is_accepted
    office.clock.skip(LEASE_SECONDS * 2)
    assert (await done(orchestrator, two)).verdict.is_accepted
    await orchestrator.resume("work-1")
    await done(orchestrator, await claimed(orchestrator, "eve"))
    result = await finished(orchestrator, "work-1")

    assert result["success"] is True


async def test_what_is_cancelled_is_taken_back_at_once_and_its_worker_is_told(
    office: Office, stack: AsyncExitStack
) -> None:
    """A report of it changes nothing any more."""
    orchestrator = await begin(office, stack, for_agent("a"), for_agent("b"))
    claim = await claimed(orchestrator)
    await orchestrator.cancel_orchestration("work-1")
    result = await finished(orchestrator, "work-1")

    told = await done(orchestrator, claim)

    assert (told.verdict.is_accepted, told.verdict.reason) == (False, "cancelled")
    assert set((await statuses(orchestrator, "work-1")).values()) == {"cancelled"}
    assert result["success"] is False
    with pytest.raises(NotPossibleError, match="ended"):
        await orchestrator.claim_task("ann", orchestration_id="work-1")


async def test_one_at_a_time_one_task_is_offered_at_a_time(office: Office, stack: AsyncExitStack) -> None:
    """In SIMPLE what is offered holds its place."""
    orchestrator = await begin(office, stack, for_agent("a"), for_agent("b"), mode="simple")
    first = await claimed(orchestrator)
    await nothing(orchestrator, "bob")
    await done(orchestrator, first)
    second = await claimed(orchestrator, "bob")

    assert [first.task_id, second.task_id] == ["a", "b"]


# With all the rest


async def test_a_worker_may_put_tasks_in_the_place_of_its_own(office: Office, stack: AsyncExitStack) -> None:
    """The claim ends with them, the last one delivers."""
    orchestrator = await begin(
        office,
        stack,
        for_agent("a"),
        TaskNode("use", system_preference="python", arguments={"value": "${a}"}),
        functions={"use": lambda value: value},
        edges=(TaskEdge("a", "use"),),
    )
    claim = await claimed(orchestrator)
    told = await orchestrator.report_task(
        claim.claim_id,
        "progress",
        subtasks=[
            {"task_id": "look", "system_preference": "agent"},
            {"task_id": "write", "system_preference": "agent", "depends_on": ["look"]},
        ],
    )
    await done(orchestrator, await claimed(orchestrator, "bob"), "seen")
    last = await claimed(orchestrator, "ann")
    await done(orchestrator, last, "written")
    result = await finished(orchestrator, "work-1")

    assert told.refusal == ""
    assert last.task_id == "write~1"
    assert result["results"]["use"] == "written"


async def test_subtasks_that_are_no_plan_are_refused_and_the_claim_holds(
    office: Office, stack: AsyncExitStack
) -> None:
    """Nothing was reported."""
    orchestrator = await begin(office, stack, for_agent("a"))
    claim = await claimed(orchestrator)
    with pytest.raises(Exception, match="nowhere"):
        await orchestrator.report_task(
            claim.claim_id, "progress", subtasks=[{"task_id": "x", "depends_on": ["nowhere"]}]
        )

    assert (await done(orchestrator, claim, 1)).verdict.is_accepted


async def test_the_very_same_task_is_no_subtask_and_the_claim_holds(
    office: Office, stack: AsyncExitStack
) -> None:
    """It would be what was tried already; that is said before anything is reported."""
    orchestrator = await begin(office, stack, for_agent("a", description=""))
    claim = await claimed(orchestrator)
    with pytest.raises(EditRefusedError, match="tried already"):
        await orchestrator.report_task(
            claim.claim_id, "progress", subtasks=[{"task_id": "a", "system_preference": "agent"}]
        )

    assert (await done(orchestrator, claim, 1)).verdict.is_accepted


async def test_what_needs_a_yes_is_offered_only_after_it(office: Office, stack: AsyncExitStack) -> None:
    """And to anybody then."""
    orchestrator = await begin(office, stack, for_agent("a", approval="caller"))
    await until(orchestrator, "work-1", "a", TaskStatus.AWAITING_APPROVAL)
    await nothing(orchestrator)
    await orchestrator.approve("work-1", "a", by="caller")

    await done(orchestrator, await claimed(orchestrator))

    assert (await finished(orchestrator, "work-1"))["success"] is True


async def test_each_item_of_a_list_is_offered(office: Office, stack: AsyncExitStack) -> None:
    """The output is theirs, in the order of the items, whoever was first."""
    node = for_agent("each", arguments={"what": "${item}"}, foreach=["x", "y", "z"])
    orchestrator = await begin(office, stack, node)
    claims = [await claimed(orchestrator, worker) for worker in ("ann", "bob", "eve")]
    for claim in reversed(claims):
        await done(orchestrator, claim, claim.task_id)
    result = await finished(orchestrator, "work-1")

    assert result["results"]["each"] == ["each[0]", "each[1]", "each[2]"]
    assert '"what": "y"' in next(claim for claim in claims if claim.task_id == "each[1]").brief


async def test_a_function_may_stand_in_for_an_agent_and_an_agent_for_a_function(
    office: Office, stack: AsyncExitStack
) -> None:
    """As `fallback` says."""

    def broken() -> None:
        raise ValueError("no")

    functions = {"broken": broken, "spare": lambda: "by function"}
    orchestrator = await begin(
        office,
        stack,
        for_agent("a", max_retries=0, fallback=Fallback(system_preference="python", tool="spare")),
        TaskNode(
            "b",
            system_preference="python",
            tool="broken",
            max_retries=0,
            fallback=Fallback(description="Do it by hand.", system_preference="agent"),
        ),
        functions=functions,
    )
    claims = {claim.task_id: claim for claim in [await claimed(orchestrator), await claimed(orchestrator)]}
    await orchestrator.report_task(claims["a"].claim_id, "failed")
    await done(orchestrator, claims["b"], "by hand")
    result = await finished(orchestrator, "work-1")

    assert result["results"] == {"a": "by function", "b": "by hand"}
    assert "Do: Do it by hand." in claims["b"].brief


# Several processes


async def test_one_orchestrator_drives_and_another_one_gives_out_and_takes_in(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    """They share nothing but the database."""
    clock = FastClock()
    driver = await begin(Office(tmp_path, clock), stack, *(for_agent(name) for name in "abc"))
    desk = await stack.enter_async_context(Office(tmp_path, clock).orchestrator())

    for worker in ("ann", "bob", "eve"):
        claim = await claimed(desk, worker)
        told = await done(desk, claim, worker)
        assert told.verdict.is_accepted
    result = await finished(driver, "work-1")

    assert result["results"] == {"a": "ann", "b": "bob", "c": "eve"}
    await assert_replayable(desk, "work-1")


async def test_what_is_claimed_and_reported_while_nobody_drives_is_there_for_whoever_drives_next(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    """Offers outlive their driver, and so does what was accepted."""
    clock = FastClock()
    office = Office(tmp_path, clock)
    async with office.orchestrator() as driver:
        await driver.submit(
            dag_of(for_agent("a"), for_agent("b"), for_agent("c"), edges=(TaskEdge("a", "c"),))
        )
        for name in "ab":
            await until(driver, "work-1", name, TaskStatus.OFFERED)
    desk = office.orchestrator()
    one, two = await claimed(desk, "ann"), await claimed(desk, "bob")
    told = await done(desk, one, 1)
    heir = await stack.enter_async_context(office.orchestrator())
    with anyio.fail_after(10):
        await heir.resume("work-1")
    clock.skip(LEASE_SECONDS * 0.5)  # a claim never runs out sooner than a lease after somebody took over
    await until(heir, "work-1", "a", TaskStatus.COMPLETED)
    await done(heir, two, 2)
    await done(heir, await claimed(heir, "ann"), 3)
    result = await finished(heir, "work-1")

    assert (told.verdict.is_accepted, told.is_heard) == (True, False)
    assert result["results"] == {"a": 1, "b": 2, "c": 3}


async def test_twenty_workers_at_once_never_share_a_task(office: Office, stack: AsyncExitStack) -> None:
    """And whoever comes too late gets nothing."""
    orchestrator = await begin(office, stack, *(for_agent(f"t{number}") for number in range(15)))
    for number in range(15):
        await until(orchestrator, "work-1", f"t{number}", TaskStatus.OFFERED)
    given: list[str] = []

    async def take(worker: str) -> None:
        found = await orchestrator.claim_task(worker)
        if isinstance(found, Claim):
            given.append(found.task_id)

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(take, f"worker {number}")

    assert sorted(given) == sorted(f"t{number}" for number in range(15))
