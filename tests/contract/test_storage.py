"""What every storage promises, in memory or on disk. A further backend is done when it passes this suite."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration.engine.events import AttemptStarted, OrchestrationSubmitted, PlanRevised, RetryDue
from orchestration.errors import (
    IdempotencyConflictError,
    LeaseHeldError,
    OrchestrationNotFoundError,
    PlanNotFoundError,
    StaleFencingTokenError,
    TaskNotFoundError,
)
from orchestration.models import OrchestrationMode, OrchestrationStatus, TaskStatus
from orchestration.ports import DriverIdentity, DriverView, Storage
from storage import SqliteStorage
from tests.storage.records import (
    ERROR,
    EVERY_EVENT,
    HOLDER,
    NOW_US,
    STRANGER,
    commit,
    created,
    everybody_is_gone,
    new_orchestration,
    new_plan,
    nobody_is_gone,
    output,
    row,
    sha256,
    summary,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(backend: str) -> str:
    """The event loop of the backend."""
    return backend.split("-")[1]


# --- Opening and closing ---


async def test_a_storage_says_where_it_is_and_whether_it_lasts(storage: Storage, tmp_path: Path) -> None:
    """People are told the place; only the file outlives the process."""
    is_file = isinstance(storage, SqliteStorage)

    assert storage.location == (str(tmp_path / "state.db") if is_file else "memory")
    assert storage.is_durable is is_file


async def test_opening_and_closing_may_be_repeated_and_state_stays(storage: Storage) -> None:
    """Both are idempotent, and a call after closing opens again."""
    await storage.open()
    await storage.open()
    lease = await created(storage)
    await storage.aclose()
    await storage.aclose()

    record = await storage.load_orchestration(lease.orchestration_id)

    assert record.orchestration_id == "report-1"


# --- Plans ---


async def test_a_plan_comes_back_as_it_was_saved_under_a_new_id(storage: Storage) -> None:
    """Every field survives; ids count up per base id."""
    plan = new_plan("site")

    first, second = await storage.save_plan(plan), await storage.save_plan(plan)
    other = await storage.save_plan(new_plan("other", mode=None, thoughts=(), notes=(), context={}))

    assert [first.plan_id, second.plan_id, other.plan_id] == ["site-1", "site-2", "other-1"]
    assert await storage.load_plan("site-1") == first
    assert await storage.load_plan("other-1") == other
    kept = {name: getattr(first, name) for name in first.__dataclass_fields__ if name != "plan_id"}
    given = {name: getattr(plan, name) for name in kept if name != "revision"}
    assert kept == {**given, "revision": 1}
    assert (other.mode, other.thoughts, other.notes, other.context) == (None, (), (), {})


async def test_an_unknown_plan_is_refused_by_name(storage: Storage) -> None:
    """The error says how to get a plan."""
    with pytest.raises(PlanNotFoundError, match=r"no plan 'nope'.*decompose_goal"):
        await storage.load_plan("nope")


# --- Creating ---


async def test_a_new_orchestration_is_there_whole(storage: Storage) -> None:
    """DAG, first events, task rows, summary and lease are stored together."""
    new = new_orchestration(
        "nightly",
        key="k",
        request_sha256="r",
        goal="All of it",
        plan_id="plan-1",
        first_events=[EVERY_EVENT[0], RetryDue(task_id="a")],
    )

    made = await storage.create_orchestration(new)

    assert made.lease is not None
    assert (made.lease.orchestration_id, made.lease.token, made.lease.holder) == ("nightly-1", 1, HOLDER)
    record = await storage.load_orchestration("nightly-1")
    assert record == made.record
    assert (record.key, record.goal, record.mode, record.dag_id) == ("k", "All of it", new.mode, "nightly")
    assert (record.dag_sha256, record.plan_id, record.last_seq) == (new.dag_sha256, "plan-1", 2)
    assert (record.created_at_us, record.updated_at_us) == (NOW_US, NOW_US)
    assert (record.holder, record.token, record.summary) == (HOLDER, 1, new.summary)
    assert await storage.load_dag("nightly-1") == new.dag_json
    events = await storage.read_events("nightly-1")
    assert [(entry.orchestration_id, entry.seq, entry.at_us) for entry in events] == [
        ("nightly-1", 1, NOW_US),
        ("nightly-1", 2, NOW_US),
    ]
    assert [entry.event for entry in events] == list(new.first_events)
    assert await storage.load_tasks("nightly-1") == list(new.tasks)


async def test_ids_count_up_per_base_id(storage: Storage) -> None:
    """`base_id-N`, N from 1 for each base id by itself."""
    leases = [await created(storage, base) for base in ("a", "a", "b", "a")]

    assert [lease.orchestration_id for lease in leases] == ["a-1", "a-2", "b-1", "a-3"]


async def test_a_number_taken_by_a_chosen_id_is_passed_over(storage: Storage) -> None:
    """An id somebody chose by hand is never given to another orchestration."""
    await created(storage, "a", orchestration_id="a-1")

    assert (await created(storage, "a")).orchestration_id == "a-2"


async def test_a_refused_creation_uses_up_nothing(storage: Storage) -> None:
    """A chosen id that is taken is refused and leaves the first as it is."""
    await created(storage, "mine", orchestration_id="mine", task_ids=["x"])

    with pytest.raises(IdempotencyConflictError, match=r"Key 'mine' was used for 'mine'.*use a new key"):
        await storage.create_orchestration(new_orchestration("other", orchestration_id="mine"))

    assert [task.task_id for task in await storage.load_tasks("mine")] == ["x"]
    assert len(await storage.list_orchestrations()) == 1


async def test_the_same_key_and_request_give_the_first_orchestration(storage: Storage) -> None:
    """A repeated call finds what the first made, without a lease, and changes nothing."""
    first = await storage.create_orchestration(new_orchestration(key="k", request_sha256="r"))

    again = await storage.create_orchestration(
        new_orchestration(key="k", request_sha256="r", holder=STRANGER, goal="another")
    )

    assert again.lease is None
    assert again.record == first.record
    assert len(await storage.list_orchestrations()) == 1
    assert (await created(storage)).orchestration_id == "report-2"


async def test_the_same_key_with_another_request_is_refused(storage: Storage) -> None:
    """A key stands for one request."""
    await storage.create_orchestration(new_orchestration(key="k", request_sha256="r"))

    with pytest.raises(
        IdempotencyConflictError, match="Key 'k' was used for 'report-1' with other arguments"
    ):
        await storage.create_orchestration(new_orchestration(key="k", request_sha256="other"))

    assert len(await storage.list_orchestrations()) == 1


async def test_concurrent_creations_get_ids_of_their_own(storage: Storage) -> None:
    """All methods may be called concurrently, from the very first call."""
    ids: list[str] = []

    async def create() -> None:
        ids.append((await created(storage)).orchestration_id)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(create)

    assert sorted(ids) == sorted(f"report-{number}" for number in range(1, 21))


# --- Leases ---


async def test_a_held_lease_is_refused_naming_the_holder(storage: Storage) -> None:
    """Somebody who is alive keeps it."""
    await created(storage)

    with pytest.raises(LeaseHeldError, match="'report-1' is driven by process 11 on alpha"):
        await storage.acquire_lease("report-1", STRANGER, nobody_is_gone)

    record = await storage.load_orchestration("report-1")
    assert (record.holder, record.token) == (HOLDER, 1)


async def test_the_lease_of_a_process_that_is_gone_is_free(storage: Storage) -> None:
    """`is_gone` is asked about the present holder, and the token grows by one."""
    await created(storage)
    asked: list[DriverIdentity] = []

    def is_gone(holder: DriverIdentity, _: DriverView | None) -> bool:
        asked.append(holder)
        return True

    lease = await storage.acquire_lease("report-1", STRANGER, is_gone)

    assert asked == [HOLDER]
    assert (lease.orchestration_id, lease.token, lease.holder) == ("report-1", 2, STRANGER)
    record = await storage.load_orchestration("report-1")
    assert (record.holder, record.token) == (STRANGER, 2)


async def test_the_holder_itself_may_take_its_lease_anew(storage: Storage) -> None:
    """It gets a new token, which makes its older one stale; a namesake with the same pid does not count."""
    first = await created(storage)

    second = await storage.acquire_lease("report-1", HOLDER, nobody_is_gone)

    assert second.token == 2
    with pytest.raises(StaleFencingTokenError):
        await storage.append([commit(first, 2)])
    with pytest.raises(LeaseHeldError):
        await storage.acquire_lease("report-1", replace(HOLDER, process_start=999), nobody_is_gone)


async def test_a_lease_given_back_is_free_and_its_token_never_returns(storage: Storage) -> None:
    """The next token is one higher than any before."""
    lease = await created(storage)

    await storage.release_lease(lease)

    record = await storage.load_orchestration("report-1")
    assert (record.holder, record.token) == (None, 1)
    assert (await storage.acquire_lease("report-1", STRANGER, nobody_is_gone)).token == 2


async def test_giving_back_a_lease_one_has_lost_does_nothing(storage: Storage) -> None:
    """A stale token frees nobody else's lease, and an unknown orchestration is no error."""
    lost = await created(storage)
    held = await storage.acquire_lease("report-1", STRANGER, everybody_is_gone)

    await storage.release_lease(lost)
    await storage.release_lease(replace(lost, orchestration_id="nope"))

    assert (await storage.load_orchestration("report-1")).holder == STRANGER
    await storage.append([commit(held, 2)])


async def test_a_fault_in_is_gone_changes_nothing(storage: Storage) -> None:
    """The caller sees the fault; the lease stays where it was and the storage goes on."""
    lease = await created(storage)

    def is_gone(_: DriverIdentity, __: DriverView | None) -> bool:
        raise PermissionError("can't look")

    with pytest.raises(PermissionError, match="can't look"):
        await storage.acquire_lease("report-1", STRANGER, is_gone)

    await storage.append([commit(lease, 2)])


async def test_the_lease_of_an_unknown_orchestration_is_refused(storage: Storage) -> None:
    """There is nothing to drive."""
    with pytest.raises(OrchestrationNotFoundError, match=r"no orchestration 'nope'.*list them"):
        await storage.acquire_lease("nope", HOLDER, nobody_is_gone)


# --- Appending ---


async def test_a_commit_advances_journal_tasks_outputs_and_summary_together(storage: Storage) -> None:
    """What a commit says is there afterwards, and what it does not name is as before."""
    lease = await created(storage)
    done = row(
        "a",
        0,
        TaskStatus.COMPLETED,
        attempt=2,
        system="py",
        started_at_us=NOW_US,
        finished_at_us=NOW_US + 5,
        duration_seconds=0.25,
        error=ERROR,
        output_sha256=sha256(b"42"),
        output_bytes=2,
        note="second try",
    )
    standing = summary(
        {TaskStatus.COMPLETED: 1, TaskStatus.PENDING: 1},
        started_at_us=NOW_US,
        attempts=2,
        work_seconds=0.1 + 0.2,
        remaining_seconds=1.5,
        revision=2,
        cost=0.7,
    )

    await storage.append(
        [commit(lease, 2, *EVERY_EVENT, tasks=[done], outputs=[output("a", b"42")], summary=standing)]
    )

    record = await storage.load_orchestration("report-1")
    assert record.last_seq == 1 + len(EVERY_EVENT)
    assert record.updated_at_us == NOW_US + record.last_seq
    assert record.summary == standing
    assert await storage.load_tasks("report-1") == [done, row("b", 1)]
    assert await storage.load_outputs("report-1", ["a", "b"]) == {"a": b"42"}
    stored = await storage.read_events("report-1", after_seq=1)
    assert [entry.event for entry in stored] == list(EVERY_EVENT)
    assert [entry.seq for entry in stored] == list(range(2, 2 + len(EVERY_EVENT)))


async def test_a_batch_holds_commits_of_many_orchestrations_in_order(storage: Storage) -> None:
    """The last row, output and summary of a batch stand."""
    one, two = await created(storage, "one"), await created(storage, "two")

    await storage.append(
        [
            commit(one, 2, tasks=[row("a", 0, TaskStatus.RUNNING)], summary=summary(attempts=1)),
            commit(two, 2, tasks=[row("b", 1, TaskStatus.FAILED, error=ERROR)]),
            commit(
                one,
                3,
                RetryDue(task_id="a"),
                AttemptStarted(task_id="a", attempt=1, system="py"),
                tasks=[row("a", 0, TaskStatus.COMPLETED), row("new~1", 2)],
                outputs=[output("a", b"1"), output("a", b"2")],
                summary=summary(attempts=2),
            ),
        ]
    )

    record = await storage.load_orchestration("one-1")
    assert (record.last_seq, record.summary.attempts) == (4, 2)
    assert [(task.task_id, task.status) for task in await storage.load_tasks("one-1")] == [
        ("a", TaskStatus.COMPLETED),
        ("b", TaskStatus.PENDING),
        ("new~1", TaskStatus.PENDING),
    ]
    assert await storage.load_outputs("one-1", ["a"]) == {"a": b"2"}
    assert [task.status for task in await storage.load_tasks("two-1")] == [
        TaskStatus.PENDING,
        TaskStatus.FAILED,
    ]


async def test_one_stale_token_refuses_the_whole_batch(storage: Storage) -> None:
    """Nothing at all is stored, not even what came before it, and the error names both tokens."""
    good, bad, other = [await created(storage, base) for base in ("good", "bad", "other")]
    await storage.acquire_lease("bad-1", STRANGER, everybody_is_gone)
    before = [await everything(storage, name) for name in ("good-1", "bad-1", "other-1")]
    done = {"tasks": [row("a", 0, TaskStatus.COMPLETED)], "outputs": [output("a", b"big", inline=False)]}

    with pytest.raises(StaleFencingTokenError, match="'bad-1' carried fencing token 1, but 2 is current"):
        await storage.append([commit(good, 2, **done), commit(bad, 2, **done), commit(other, 2, **done)])

    assert [await everything(storage, name) for name in ("good-1", "bad-1", "other-1")] == before
    await storage.append([commit(good, 2, **done)])


async def test_a_token_from_the_future_is_refused_too(storage: Storage) -> None:
    """Only the current token counts."""
    lease = await created(storage)

    with pytest.raises(StaleFencingTokenError, match="carried fencing token 7, but 1 is current"):
        await storage.append([commit(replace(lease, token=7), 2)])


async def test_a_commit_to_an_unknown_orchestration_is_refused_whole(storage: Storage) -> None:
    """Nothing of the batch is stored."""
    lease = await created(storage)

    with pytest.raises(OrchestrationNotFoundError, match="'nope'"):
        await storage.append([commit(lease, 2), commit(replace(lease, orchestration_id="nope"), 2)])

    assert (await storage.load_orchestration("report-1")).last_seq == 1


@pytest.mark.parametrize("first_seq", [1, 3])
async def test_a_journal_has_neither_gaps_nor_repeats(storage: Storage, first_seq: int) -> None:
    """A commit that does not follow the last entry is a bug and stores nothing."""
    lease = await created(storage)

    with pytest.raises(ValueError, match=f"'report-1' goes on with seq 2, not {first_seq}"):
        await storage.append([commit(lease, first_seq)])

    assert (await storage.load_orchestration("report-1")).last_seq == 1


async def test_an_event_of_another_orchestration_is_refused(storage: Storage) -> None:
    """A mixed-up commit is a bug and stores nothing."""
    one, two = await created(storage, "one"), await created(storage, "two")
    mixed = replace(commit(one, 2), events=commit(two, 2).events)

    with pytest.raises(ValueError, match="An event of 'two-1' is in a commit of 'one-1'"):
        await storage.append([mixed])


async def test_an_output_of_a_task_without_a_row_is_refused(storage: Storage) -> None:
    """An output that nobody could find again is a bug and stores nothing."""
    lease = await created(storage)

    with pytest.raises(ValueError, match="the output of a task that has no row"):
        await storage.append([commit(lease, 2, outputs=[output("ghost", b"1")])])

    assert (await storage.load_orchestration("report-1")).last_seq == 1


async def test_an_empty_batch_and_a_commit_without_events_are_fine(storage: Storage) -> None:
    """Rows and summaries may change alone."""
    lease = await created(storage)

    await storage.append([])
    await storage.append([replace(commit(lease, 2), events=[], tasks=[row("a", 0, TaskStatus.READY)])])

    record = await storage.load_orchestration("report-1")
    assert (record.last_seq, record.updated_at_us) == (1, NOW_US)
    assert (await storage.load_tasks("report-1", task_ids=["a"]))[0].status == TaskStatus.READY


# --- Outputs ---


@pytest.mark.parametrize("inline", [True, False])
async def test_outputs_come_back_byte_for_byte(storage: Storage, inline: bool) -> None:
    """Large or small, by name, over every asked task that has one; also when read on the caller's thread."""
    lease = await created(storage)
    text = '{"ü": "'.encode() + b"x" * 100_000 + b'"}'

    await storage.append([commit(lease, 2, outputs=[output("a", text, inline=inline)])])

    assert await storage.load_outputs("report-1", ["a", "b", "nope"]) == {"a": text}
    assert await storage.load_outputs("report-1", []) == {}
    assert await storage.load_outputs("nope", ["a"]) == {}
    assert storage.load_output_blocking("report-1", "a") == text


async def test_an_output_outlives_later_rows_and_a_newer_one_replaces_it(storage: Storage) -> None:
    """Whatever way the older and the newer are stored."""
    lease = await created(storage)

    await storage.append([commit(lease, 2, outputs=[output("a", b"1", inline=False)])])
    await storage.append([commit(lease, 3, tasks=[row("a", 0, TaskStatus.RUNNING)])])
    before = await storage.load_outputs("report-1", ["a"])
    await storage.append([commit(lease, 4, outputs=[output("a", b"2")])])
    between = await storage.load_outputs("report-1", ["a"])
    await storage.append([commit(lease, 5, outputs=[output("a", b"3", inline=False)])])

    assert (before, between) == ({"a": b"1"}, {"a": b"2"})
    assert await storage.load_outputs("report-1", ["a"]) == {"a": b"3"}


@pytest.mark.parametrize(("orchestration_id", "task_id"), [("report-1", "a"), ("report-1", "x"), ("x", "a")])
async def test_a_missing_output_read_on_the_callers_thread_is_refused(
    storage: Storage, orchestration_id: str, task_id: str
) -> None:
    """The error names the orchestration and the task."""
    await created(storage)

    with pytest.raises(TaskNotFoundError, match=f"'{orchestration_id}' has no task '{task_id}'"):
        storage.load_output_blocking(orchestration_id, task_id)


# --- Reading ---


async def test_unknown_orchestrations_are_refused_or_empty(storage: Storage) -> None:
    """Records and DAGs raise, lists are empty."""
    with pytest.raises(OrchestrationNotFoundError):
        await storage.load_orchestration("nope")
    with pytest.raises(OrchestrationNotFoundError):
        await storage.load_dag("nope")
    assert await storage.read_events("nope") == []
    assert await storage.load_tasks("nope") == []
    assert await storage.list_orchestrations() == []


async def test_the_journal_is_read_in_pages(storage: Storage) -> None:
    """`after_seq` and `limit` walk it in order without gaps or repeats, to an empty end."""
    lease = await created(storage)
    await storage.append([commit(lease, 2, *[RetryDue(task_id=f"t{n}") for n in range(9)])])
    seqs: list[int] = []

    while page := await storage.read_events("report-1", after_seq=seqs[-1] if seqs else 0, limit=4):
        assert len(page) <= 4
        seqs += [entry.seq for entry in page]

    assert seqs == list(range(1, 11))
    assert await storage.read_events("report-1", limit=0) == []
    assert len(await storage.read_events("report-1", after_seq=-5)) == 10


async def test_task_rows_are_read_by_position_in_pages(storage: Storage) -> None:
    """Whatever the order in which they were written; `after_position` and `limit` walk them."""
    positions = [5, 0, 3, 1, 4, 2]
    tasks = [row(f"t{position}", position) for position in positions]
    await storage.create_orchestration(new_orchestration(tasks=tasks))

    first = await storage.load_tasks("report-1", limit=4)
    rest = await storage.load_tasks("report-1", after_position=first[-1].position, limit=4)

    assert [task.position for task in first + rest] == [0, 1, 2, 3, 4, 5]
    assert await storage.load_tasks("report-1", limit=0) == []


async def test_task_rows_are_filtered_by_status_and_id(storage: Storage) -> None:
    """Both filters hold together; an empty filter lets nothing through."""
    statuses = [TaskStatus.RUNNING, TaskStatus.FAILED, TaskStatus.RUNNING, TaskStatus.PENDING]
    tasks = [row(f"t{position}", position, status) for position, status in enumerate(statuses)]
    await storage.create_orchestration(new_orchestration(tasks=tasks))

    async def ids(**filters: Any) -> list[str]:
        return [task.task_id for task in await storage.load_tasks("report-1", **filters)]

    assert await ids(statuses=[TaskStatus.RUNNING, TaskStatus.FAILED]) == ["t0", "t1", "t2"]
    assert await ids(task_ids=["t3", "t0", "nope"]) == ["t0", "t3"]
    assert await ids(statuses=[TaskStatus.RUNNING], task_ids=["t2", "t1"]) == ["t2"]
    assert await ids(statuses=[TaskStatus.RUNNING], after_position=0, limit=1) == ["t2"]
    assert await ids(statuses=[]) == []
    assert await ids(task_ids=[]) == []
    assert len(await ids(task_ids=[f"t{number}" for number in range(50_000)])) == 4


async def test_orchestrations_are_listed_latest_created_first(storage: Storage) -> None:
    """In pages, and by state where asked."""
    for base in "abcde":
        lease = await created(storage, base)
        if base in "bd":
            await storage.append([commit(lease, 2, summary=summary(state=OrchestrationStatus.FAILED))])

    async def ids(**filters: Any) -> list[str]:
        return [record.orchestration_id for record in await storage.list_orchestrations(**filters)]

    assert await ids() == ["e-1", "d-1", "c-1", "b-1", "a-1"]
    assert await ids(limit=2, offset=1) == ["d-1", "c-1"]
    assert await ids(offset=9) == []
    assert await ids(limit=0) == []
    assert await ids(states=[OrchestrationStatus.FAILED]) == ["d-1", "b-1"]
    assert await ids(states=[OrchestrationStatus.FAILED, OrchestrationStatus.RUNNING], limit=2) == [
        "e-1",
        "d-1",
    ]
    assert await ids(states=[]) == []


async def test_totals_add_up_every_orchestration_since_an_instant(storage: Storage) -> None:
    """Averages are over finished ones alone; nothing stored gives zeros and no averages."""
    empty = await storage.load_totals()
    await created(storage, "old", created_at_us=NOW_US - 1, task_ids=["x", "y", "z"])
    lease = await created(storage, "new")
    for number, efficiency in enumerate((0.5, 1.0)):
        done = await created(storage, "done")
        finished = summary(
            {TaskStatus.COMPLETED: 2, TaskStatus.SKIPPED: 1},
            state=OrchestrationStatus.COMPLETED,
            makespan_seconds=2.0 + number,
            parallel_efficiency=efficiency,
            attempts=3,
            work_seconds=4.0,
            cost=0.5,
        )
        await storage.append([commit(done, 2, summary=finished)])
    await storage.append([commit(lease, 2, summary=summary(attempts=1, makespan_seconds=99.0))])

    everything_ = await storage.load_totals()
    recent = await storage.load_totals(since_us=NOW_US)

    assert (empty.by_state, empty.tasks_by_status, empty.attempts) == ({}, {}, 0)
    assert (empty.average_makespan_seconds, empty.average_parallel_efficiency) == (None, None)
    assert everything_.by_state == {OrchestrationStatus.RUNNING: 2, OrchestrationStatus.COMPLETED: 2}
    assert recent.by_state == {OrchestrationStatus.RUNNING: 1, OrchestrationStatus.COMPLETED: 2}
    assert recent.tasks_by_status == {
        TaskStatus.PENDING: 2,
        TaskStatus.COMPLETED: 4,
        TaskStatus.SKIPPED: 2,
    }
    assert (recent.attempts, recent.work_seconds, recent.cost) == (7, 8.0, 1.0)
    assert (recent.average_makespan_seconds, recent.average_parallel_efficiency) == (2.5, 0.75)


# --- Nothing is shared with the caller ---


async def test_what_was_given_may_change_afterwards(storage: Storage) -> None:
    """Containers handed over are copied."""
    context: dict[str, Any] = {"list": [1]}
    counts = {TaskStatus.PENDING: 2}
    submitted = OrchestrationSubmitted(dag_sha256="d", mode=OrchestrationMode.SIMPLE, context=context)
    await storage.create_orchestration(new_orchestration(first_events=[submitted], summary=summary(counts)))
    await storage.save_plan(new_plan(context=context))
    before = copy.deepcopy(context)

    context["list"].append(2)
    counts[TaskStatus.FAILED] = 1

    (entry,) = await storage.read_events("report-1")
    assert isinstance(entry.event, OrchestrationSubmitted)
    assert entry.event.context == before
    assert (await storage.load_plan("plan-1")).context == before
    assert (await storage.load_orchestration("report-1")).summary.counts == {TaskStatus.PENDING: 2}


async def test_what_was_handed_out_may_be_changed_by_its_reader(storage: Storage) -> None:
    """Each reader gets containers of its own."""
    lease = await created(storage)
    await storage.append(
        [commit(lease, 2, EVERY_EVENT[0], *[e for e in EVERY_EVENT if isinstance(e, PlanRevised)])]
    )
    await storage.save_plan(new_plan())
    before = await everything(storage, "report-1"), await storage.load_plan("plan-1")

    _, record, events, _, _ = await everything(storage, "report-1")
    record.summary.counts.clear()
    events[1].event.context["deep"].append("mine")
    events[2].event.tasks[0].arguments.clear()
    (await storage.load_plan("plan-1")).context.clear()

    assert (await everything(storage, "report-1"), await storage.load_plan("plan-1")) == before


async def everything(storage: Storage, orchestration_id: str) -> tuple[Any, ...]:
    """Read all there is about an orchestration."""
    tasks = await storage.load_tasks(orchestration_id)
    return (
        await storage.load_dag(orchestration_id),
        await storage.load_orchestration(orchestration_id),
        await storage.read_events(orchestration_id),
        tasks,
        await storage.load_outputs(orchestration_id, [task.task_id for task in tasks]),
    )
