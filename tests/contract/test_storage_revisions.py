"""Plans and what runs have revisions: one after the other, none lost, each with who and why, in every storage."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import anyio
import pytest

from orchestration.errors import PlanNotFoundError, RevisionConflictError, StaleFencingTokenError
from orchestration.models import TaskStatus
from orchestration.ports import Retained, Revision, Storage
from tests.storage.records import (
    NOW_US,
    SECOND_US,
    STRANGER,
    answer,
    commit,
    created,
    ended,
    everybody_is_gone,
    keep,
    new_plan,
    output,
    over,
    plan_revision,
    request,
    revision,
    row,
    summary,
)

pytestmark = pytest.mark.anyio

FIRST = Revision(
    revision=1, by="playbook:web-application", reason="", told="what it began with", at_us=NOW_US
)


@pytest.fixture
def anyio_backend(backend: str) -> str:
    """The event loop of the backend."""
    return backend.split("-")[1]


# --- Of plans ---


async def test_a_new_plan_has_one_revision_and_says_who_made_it(storage: Storage) -> None:
    """Its log begins with the planner and the instant it was made."""
    await storage.save_plan(new_plan())

    assert await storage.load_plan_revisions("plan-1") == [FIRST]


async def test_a_revision_takes_the_plans_place_and_the_earlier_ones_stay(storage: Storage) -> None:
    """Only DAG and number change; each revision can be read, and the log says who, why, what and when."""
    first = await storage.save_plan(new_plan())

    second = await storage.revise_plan("plan-1", plan_revision(1))
    third = await storage.revise_plan(
        "plan-1", plan_revision(2, by="ada", reason="", told="back to 1", undoes=1, dag_json=first.dag_json)
    )

    assert (second.revision, second.dag_json) == (2, plan_revision(1).dag_json)
    assert (third.revision, third.dag_json) == (3, first.dag_json)
    assert await storage.load_plan("plan-1") == third
    assert [await storage.load_plan("plan-1", number) for number in (1, 2, 3)] == [first, second, third]
    rest = {"revision", "dag_json"}
    for name in set(first.__dataclass_fields__) - rest:
        assert getattr(third, name) == getattr(first, name)
    assert await storage.load_plan_revisions("plan-1") == [
        FIRST,
        Revision(revision=2, by="person", reason="it needs “more”", told="added audit", at_us=NOW_US + 1),
        Revision(revision=3, by="ada", reason="", told="back to 1", at_us=NOW_US + 2, undoes=1),
    ]


async def test_revisions_may_have_the_same_dag(storage: Storage) -> None:
    """A document is kept once, whoever names it; other plans are as they were."""
    await storage.save_plan(new_plan())
    await storage.save_plan(new_plan("other"))

    await storage.revise_plan("plan-1", plan_revision(1, dag_json=new_plan().dag_json))

    assert (await storage.load_plan("plan-1")).dag_json == new_plan().dag_json
    assert (await storage.load_plan("other-1")).revision == 1
    assert len(await storage.load_plan_revisions("other-1")) == 1


@pytest.mark.parametrize("expected", [0, 1, 3, 10**30, -1])
async def test_a_revision_made_of_another_than_the_present_one_is_refused(
    storage: Storage, expected: int
) -> None:
    """Nothing is stored, and the error names both."""
    await storage.save_plan(new_plan())
    await storage.revise_plan("plan-1", plan_revision(1))
    before = await storage.load_plan("plan-1"), await storage.load_plan_revisions("plan-1")

    with pytest.raises(
        RevisionConflictError,
        match=rf"is {expected}, but 'plan-1' has revision 2 by now; nothing was changed",
    ):
        await storage.revise_plan("plan-1", replace(plan_revision(1), expected_revision=expected))

    assert (await storage.load_plan("plan-1"), await storage.load_plan_revisions("plan-1")) == before


async def test_of_many_who_revise_at_once_one_succeeds(storage: Storage) -> None:
    """The others are told; nobody's change is overwritten unseen."""
    await storage.save_plan(new_plan())
    made: list[int] = []
    refused: list[int] = []

    async def revise(number: int) -> None:
        try:
            await storage.revise_plan("plan-1", plan_revision(1, dag_json=b'{"by": %d}' % number))
            made.append(number)
        except RevisionConflictError as error:
            refused.append(error.present)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(revise, number)

    assert (len(made), refused) == (1, [2] * 7)
    assert (await storage.load_plan("plan-1")).dag_json == b'{"by": %d}' % made[0]
    assert len(await storage.load_plan_revisions("plan-1")) == 2


@pytest.mark.parametrize("unknown", ["nope", "plan-2", "\udcff"])
async def test_a_plan_that_is_not_there_has_no_revisions(storage: Storage, unknown: str) -> None:
    """Whatever is asked of it; ids that can't exist included."""
    await storage.save_plan(new_plan())

    for call in (
        storage.load_plan(unknown),
        storage.load_plan(unknown, 1),
        storage.load_plan(unknown, 0),
        storage.load_plan_revisions(unknown),
        storage.revise_plan(unknown, plan_revision(1)),
    ):
        with pytest.raises(PlanNotFoundError, match="There is no plan"):
            await call


@pytest.mark.parametrize("number", [0, -1, 2, 2**63, 10**30])
async def test_a_revision_that_is_not_there_is_told_with_its_number(storage: Storage, number: int) -> None:
    """The plan is there; this revision of it is not."""
    await storage.save_plan(new_plan())

    with pytest.raises(PlanNotFoundError) as caught:
        await storage.load_plan("plan-1", number)

    assert f"revision {number}" in str(caught.value)


async def test_a_plan_of_an_earlier_revision_shares_nothing_with_its_reader(storage: Storage) -> None:
    """Each reader gets containers of its own."""
    await storage.save_plan(new_plan())
    await storage.revise_plan("plan-1", plan_revision(1))
    before = copy.deepcopy(await storage.load_plan("plan-1", 1))

    (await storage.load_plan("plan-1", 1)).context.clear()
    (await storage.load_plan_revisions("plan-1")).clear()

    assert await storage.load_plan("plan-1", 1) == before
    assert len(await storage.load_plan_revisions("plan-1")) == 2


# --- Of what runs ---


async def test_the_revisions_of_what_runs_come_with_the_events_that_made_them(storage: Storage) -> None:
    """Every field as it was given, in order; none before the first one after the beginning."""
    lease, other = await created(storage), await created(storage, "other")
    before = await storage.load_revisions("report-1")
    made = [revision(2, 2), revision(3, 4, by="person", undoes=1), revision(4, 5, reason="")]

    await storage.append(
        [
            commit(lease, 2, revisions=made[:1], summary=summary(revision=2)),
            commit(other, 2, revisions=[revision(2, 2, told="other")]),
            commit(lease, 3),
            commit(lease, 4, revisions=made[1:2], summary=summary(revision=3)),
        ]
    )
    await storage.append([commit(lease, 5, revisions=made[2:], summary=summary(revision=4))])

    assert before == []
    assert await storage.load_revisions("report-1") == made
    assert await storage.load_revisions("other-1") == [revision(2, 2, told="other")]
    assert (await storage.load_orchestration("report-1")).summary.revision == 4


@pytest.mark.parametrize("unknown", ["nope", "\udcff"])
async def test_what_is_not_there_has_no_revisions(storage: Storage, unknown: str) -> None:
    """Asking is no error, as with a journal."""
    assert await storage.load_revisions(unknown) == []


async def test_a_stale_token_brings_no_revision(storage: Storage) -> None:
    """Nothing of its commit is stored, nor of its batch."""
    good, lost = await created(storage, "good"), await created(storage, "lost")
    await storage.acquire_lease("lost-1", STRANGER, everybody_is_gone)

    with pytest.raises(StaleFencingTokenError):
        await storage.append(
            [commit(good, 2, revisions=[revision(2, 2)]), commit(lost, 2, revisions=[revision(2, 2)])]
        )

    assert await storage.load_revisions("good-1") == await storage.load_revisions("lost-1") == []


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_revision_that_does_not_follow_is_a_bug_and_nothing_is_stored(
    storage: Storage, number: int
) -> None:
    """Within a batch as well."""
    lease = await created(storage)
    await storage.append([commit(lease, 2, revisions=[revision(2, 2)])])

    with pytest.raises(
        ValueError, match=f"The revisions of 'report-1' go on after 3; a commit brings {number}"
    ):
        await storage.append(
            [commit(lease, 3, revisions=[revision(3, 3)]), commit(lease, 4, revisions=[revision(number, 4)])]
        )

    assert await storage.load_revisions("report-1") == [revision(2, 2)]
    assert (await storage.load_orchestration("report-1")).last_seq == 2


async def test_the_answer_to_an_edit_comes_with_its_revision(storage: Storage) -> None:
    """Whoever asked is told its number."""
    lease = await created(storage)
    control_id = await storage.send_control("report-1", request(), sent_at_us=NOW_US)

    await storage.append(
        [commit(lease, 2, revisions=[revision(2, 2)], answers=[answer(control_id, revision=2)])]
    )

    given = await storage.load_control_answer(control_id)
    assert given is not None
    assert given.revision == 2
    assert len(await storage.load_revisions("report-1")) == 1


# --- As long as what they are of ---


async def retained(storage: Storage, *, now_us: int, **fields: Any) -> Retained:
    """Do one round of housekeeping, which is enough for so little."""
    done = await storage.retain(keep(**fields), now_us=now_us)
    assert done.is_finished
    return done


async def test_revisions_go_with_what_runs(storage: Storage) -> None:
    """Others' stay, and compressing a journal touches none."""
    gone = await created(storage, "gone")
    await storage.append([commit(gone, 2, revisions=[revision(2, 2)], summary=over())])
    await storage.release_lease(gone)
    kept = await created(storage, "kept")
    await storage.append([commit(kept, 2, revisions=[revision(2, 2)])])

    await retained(storage, now_us=NOW_US, compact_after_seconds=0.0)
    compacted = await storage.load_revisions("gone-1")
    done = await retained(storage, now_us=NOW_US, remove_after_seconds=0.0)

    assert compacted == [revision(2, 2)]
    assert done.removed == 1
    assert await storage.load_revisions("gone-1") == []
    assert await storage.load_revisions("kept-1") == [revision(2, 2)]


async def test_a_plan_that_was_revised_lately_is_kept_with_all_its_revisions(storage: Storage) -> None:
    """Its age counts from its latest revision, whatever that one's clock said; then all of it goes."""
    await storage.save_plan(new_plan(created_at_us=NOW_US))
    await storage.revise_plan("plan-1", plan_revision(1, at_us=NOW_US + 60 * SECOND_US))
    await storage.revise_plan("plan-1", plan_revision(2, at_us=NOW_US))
    counts = []

    for now_us in (NOW_US + 119 * SECOND_US, NOW_US + 120 * SECOND_US):
        counts.append((await retained(storage, now_us=now_us, remove_after_seconds=60.0)).plans_removed)
        if not counts[-1]:
            assert len(await storage.load_plan_revisions("plan-1")) == 3

    assert counts == [0, 1]
    for call in (storage.load_plan("plan-1", 2), storage.load_plan_revisions("plan-1")):
        with pytest.raises(PlanNotFoundError):
            await call


async def test_a_plan_that_something_names_is_kept_with_all_its_revisions(storage: Storage) -> None:
    """What ran may have run any of them."""
    await storage.save_plan(new_plan())
    await storage.revise_plan("plan-1", plan_revision(1))
    await created(storage, plan_id="plan-1")

    await retained(storage, now_us=NOW_US + SECOND_US, remove_after_seconds=0.0)

    assert [(await storage.load_plan("plan-1", number)).dag_json for number in (1, 2)] == [
        new_plan().dag_json,
        plan_revision(1).dag_json,
    ]


async def test_a_document_outlives_the_plan_if_another_names_it(storage: Storage) -> None:
    """An earlier revision of another plan, an orchestration, a task's output."""
    shared = plan_revision(1, at_us=NOW_US)
    await storage.save_plan(new_plan("old"))
    await storage.revise_plan("old-1", shared)
    await storage.save_plan(new_plan("young", created_at_us=NOW_US + 1))
    await storage.revise_plan("young-1", plan_revision(1, dag_json=shared.dag_json, at_us=NOW_US + 1))
    await storage.revise_plan("young-1", plan_revision(2, at_us=NOW_US + 2))
    lease = await created(storage, dag_json=shared.dag_json, dag_sha256=shared.dag_sha256)
    await storage.append([commit(lease, 2, outputs=[output("a", shared.dag_json, inline=False)])])

    done = await retained(storage, now_us=NOW_US, remove_after_seconds=0.0)

    assert done.plans_removed == 1
    assert (await storage.load_plan("young-1", 2)).dag_json == shared.dag_json
    assert (await storage.load_plan("young-1", 1)).dag_json == new_plan().dag_json
    assert await storage.load_dag("report-1") == shared.dag_json
    assert await storage.load_outputs("report-1", ["a"]) == {"a": shared.dag_json}


# --- Tasks inside tasks ---


async def test_a_row_says_what_a_task_runs_and_what_it_is_a_part_of(storage: Storage) -> None:
    """From its creation on, and as it changes; a composite among the rest, by position and by status."""
    rows = [
        row("load", 0, is_composite=True),
        row("load[0]", 1, tool="copy", parent="load"),
        row("plain", 2, tool="echo", system="py"),
    ]
    await ended(storage, "before")
    lease = await created(storage, tasks=rows)
    made = await storage.load_tasks("report-1")
    later = [
        row("plain", 2, is_composite=True, parent="load"),
        row("load", 0, tool="x"),
        row("load[1]~2", 3, tool="copy", parent="load"),
    ]

    await storage.append([commit(lease, 2, tasks=later)])

    assert made == rows
    assert await storage.load_tasks("report-1") == [later[1], rows[1], later[0], later[2]]
    assert await storage.load_tasks("report-1", task_ids=["plain"]) == [later[0]]


async def test_totals_go_by_summaries_which_count_no_composites(storage: Storage) -> None:
    """However many rows of them there are; reading rows by status finds them all the same."""
    composites = [row(f"c{number}", number, is_composite=True) for number in range(3)]
    parts = [row("part", 3, parent="c0"), row("other", 4)]
    await created(storage, tasks=[*composites, *parts], summary=summary({TaskStatus.PENDING: 2}))

    totals = await storage.load_totals()

    assert totals.tasks_by_status == {TaskStatus.PENDING: 2}
    assert await storage.load_tasks("report-1", statuses=[TaskStatus.PENDING]) == [*composites, *parts]
