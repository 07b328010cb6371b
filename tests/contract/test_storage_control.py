"""The inbox: a request reaches whoever drives, and its answer comes with what it led to, in every storage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestration.engine.inputs import GraphChange, Routes
from orchestration.errors import OrchestrationNotFoundError, StaleFencingTokenError
from orchestration.models import TaskEdge, TaskNode
from orchestration.ports import ControlAction, ControlAnswer, ControlRequest, Edit, Graft, Storage
from tests.storage.records import (
    LINK,
    NOW_US,
    STRANGER,
    WHOLE_TASK,
    answer,
    answers_alone,
    commit,
    created,
    everybody_is_gone,
    request,
)

pytestmark = pytest.mark.anyio

DECISION = ControlRequest(
    action=ControlAction.DECIDE,
    task_ids=("a",),
    decision="done",
    output={"ü": [1, None, "\n"]},
    reason="I saw “it”",
    by="ada",
)


ROUTES = Routes(
    systems={"whole~2": "py"}, others={"whole~2": ("shell", "web")}, fallbacks={"whole~2": ("shell", "py")}
)
EDIT = Edit(
    expected_revision=3,
    change=GraphChange(
        added=(WHOLE_TASK,),
        changed=(TaskNode("b", foreach="${a.items}", approval="caller"),),
        removed=("c", "d"),
        linked=(LINK,),
        unlinked=(("a", "b"), ("b", "c")),
        skipped=("e",),
        routes=ROUTES,
    ),
    values={"z": {"n": [1, None, "ü"]}, "y": None},
    undoes=2,
)
GRAFT = Graft(
    task_id="a",
    expected_revision=3,
    tasks=(WHOLE_TASK, TaskNode("after", arguments={"x": 1})),
    edges=(TaskEdge("whole~2", "after"),),
    routes=ROUTES,
    delivers="after",
)


@pytest.fixture
def anyio_backend(backend: str) -> str:
    """The event loop of the backend."""
    return backend.split("-")[1]


async def test_requests_wait_oldest_first_until_they_are_answered(storage: Storage) -> None:
    """Over all orchestrations, every field as it was sent, under ids that grow."""
    one, two = await created(storage, "one"), await created(storage, "two")
    sent = [
        await storage.send_control("two-1", DECISION, sent_at_us=NOW_US + 5),
        await storage.send_control(
            "one-1", request(ControlAction.RETRY, task_ids=("a", "b")), sent_at_us=NOW_US
        ),
        await storage.send_control("two-1", request(), sent_at_us=NOW_US),
    ]
    pending = await storage.pending_controls()

    await storage.append([answers_alone(one, answer(sent[1]))])
    still = await storage.pending_controls()
    await storage.append([answers_alone(two, answer(sent[2]), answer(sent[0]))])

    assert sent == sorted(set(sent))
    assert [each.control_id for each in pending] == sent
    assert [each.orchestration_id for each in pending] == ["two-1", "one-1", "two-1"]
    assert [each.sent_at_us for each in pending] == [NOW_US + 5, NOW_US, NOW_US]
    assert [each.request.action for each in pending] == ["decide", "retry", "pause"]
    assert pending[0].request == DECISION
    assert [each.control_id for each in still] == [sent[0], sent[2]]
    assert await storage.pending_controls() == []


@pytest.mark.parametrize(
    "asked",
    [
        ControlRequest(action=ControlAction.EDIT, edit=EDIT, reason="it “lacks” it", by="caller"),
        ControlRequest(action=ControlAction.EDIT, edit=Edit(expected_revision=1, change=GraphChange())),
        ControlRequest(action=ControlAction.EDIT, edit=GRAFT),
        ControlRequest(
            action=ControlAction.EDIT, edit=Graft(task_id="a", expected_revision=1, tasks=(), edges=())
        ),
        ControlRequest(action=ControlAction.APPROVE, task_ids=("a",), digest="f" * 64),
        ControlRequest(action=ControlAction.REJECT, task_ids=("a",), reason="not today"),
    ],
    ids=["edit", "empty edit", "graft", "empty graft", "approve", "reject"],
)
async def test_a_change_of_the_graph_arrives_as_it_was_sent(storage: Storage, asked: ControlRequest) -> None:
    """Types included: an edit is no graft, tasks are tasks, pairs are tuples."""
    await created(storage)

    await storage.send_control("report-1", asked, sent_at_us=NOW_US)

    (pending,) = await storage.pending_controls()
    assert pending.request == asked
    assert type(pending.request.edit) is type(asked.edit)


async def test_an_answer_comes_with_the_events_of_its_commit(storage: Storage) -> None:
    """None before; then every field as it was given."""
    lease = await created(storage)
    control_id = await storage.send_control("report-1", request(ControlAction.RETRY), sent_at_us=NOW_US)
    before = await storage.load_control_answer(control_id)
    given = ControlAnswer(control_id=control_id, is_done=True, task_ids=("a", "b"))

    await storage.append([commit(lease, 2, answers=(given,))])

    assert before is None
    assert await storage.load_control_answer(control_id) == given
    assert (await storage.load_orchestration("report-1")).last_seq == 2


async def test_a_refusal_changes_nothing_but_the_inbox(storage: Storage) -> None:
    """A commit may consist of answers alone."""
    lease = await created(storage)
    control_id = await storage.send_control("report-1", request(), sent_at_us=NOW_US)
    before = await storage.load_orchestration("report-1")
    refusal = ControlAnswer(
        control_id=control_id, is_done=False, code="not_possible", message="It is “over”."
    )

    await storage.append([answers_alone(lease, refusal)])

    assert await storage.load_control_answer(control_id) == refusal
    assert await storage.load_orchestration("report-1") == before


async def test_a_stale_token_answers_nothing(storage: Storage) -> None:
    """Who was fenced off can't say that a request was carried out; its successor can."""
    lost = await created(storage)
    control_id = await storage.send_control("report-1", request(), sent_at_us=NOW_US)
    held = await storage.acquire_lease("report-1", STRANGER, everybody_is_gone)

    with pytest.raises(StaleFencingTokenError):
        await storage.append([answers_alone(lost, answer(control_id))])
    untouched = await storage.pending_controls()
    await storage.append([answers_alone(held, answer(control_id))])

    assert [each.control_id for each in untouched] == [control_id]
    assert await storage.load_control_answer(control_id) == answer(control_id)


async def test_an_answer_is_refused_with_the_rest_of_its_batch(storage: Storage) -> None:
    """It is never stored without what it led to."""
    lease = await created(storage)
    control_id = await storage.send_control("report-1", request(), sent_at_us=NOW_US)

    with pytest.raises(StaleFencingTokenError):
        await storage.append(
            [commit(lease, 2, answers=(answer(control_id),)), commit(replace(lease, token=9), 3)]
        )

    assert await storage.load_control_answer(control_id) is None
    assert len(await storage.pending_controls()) == 1


async def test_what_was_answered_or_withdrawn_is_passed_over(storage: Storage) -> None:
    """The first answer stands, and the rest of the commit is stored."""
    lease = await created(storage)
    answered = await storage.send_control("report-1", request(), sent_at_us=NOW_US)
    withdrawn = await storage.send_control("report-1", request(), sent_at_us=NOW_US)
    await storage.append([answers_alone(lease, answer(answered))])
    await storage.withdraw_control(withdrawn)
    late = [answer(number, is_done=False, code="late") for number in (answered, withdrawn, 77)]

    await storage.append([commit(lease, 2, answers=late)])

    assert await storage.load_control_answer(answered) == answer(answered)
    assert await storage.load_control_answer(withdrawn) is None
    assert (await storage.load_orchestration("report-1")).last_seq == 2


async def test_a_request_can_be_taken_back_until_it_is_answered(storage: Storage) -> None:
    """Once, and only then: nobody acts on what is gone, and what was carried out stays so."""
    lease = await created(storage)
    first = await storage.send_control("report-1", request(), sent_at_us=NOW_US)
    second = await storage.send_control("report-1", request(), sent_at_us=NOW_US)
    await storage.append([answers_alone(lease, answer(second))])

    taken_back = [await storage.withdraw_control(number) for number in (first, first, second, 77)]
    third = await storage.send_control("report-1", request(), sent_at_us=NOW_US)

    assert taken_back == [True, False, False, False]
    assert await storage.load_control_answer(second) == answer(second)
    assert third > second
    assert [each.control_id for each in await storage.pending_controls()] == [third]


async def test_a_request_to_an_unknown_orchestration_is_refused(storage: Storage) -> None:
    """There is nobody it could ever reach; ids that can't exist included."""
    for unknown in ("nope", "\udcff"):
        with pytest.raises(OrchestrationNotFoundError, match="There is no orchestration"):
            await storage.send_control(unknown, request(), sent_at_us=NOW_US)

    assert await storage.pending_controls() == []


async def test_a_request_is_answered_by_the_orchestration_it_was_sent_to(storage: Storage) -> None:
    """Another one's token guards nothing of it: a bug, and nothing is stored."""
    one, _ = await created(storage, "one"), await created(storage, "two")
    control_id = await storage.send_control("two-1", request(), sent_at_us=NOW_US)

    with pytest.raises(ValueError, match=f"'one-1' answers request {control_id}, which was sent to 'two-1'"):
        await storage.append([commit(one, 2, answers=(answer(control_id),))])

    assert (await storage.load_orchestration("one-1")).last_seq == 1
    assert await storage.load_control_answer(control_id) is None


async def test_an_answer_nobody_has_heard_of_is_none(storage: Storage) -> None:
    """Asking for it is no error."""
    assert await storage.load_control_answer(1) is None


async def test_a_request_is_not_shared_with_who_sent_or_read_it(storage: Storage) -> None:
    """Its output is copied on the way in and out."""
    await created(storage)
    output: dict[str, Any] = {"list": [1]}
    await storage.send_control("report-1", replace(DECISION, output=output), sent_at_us=NOW_US)

    output["list"].append(2)
    (first,) = await storage.pending_controls()
    assert isinstance(first.request.output, dict)
    first.request.output["mine"] = True

    (again,) = await storage.pending_controls()
    assert again.request.output == {"list": [1]}
