"""The simulation is no rubber stamp: each of these mistakes, made on purpose, is found within a few hundred seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestration.engine import claims, control, core, splice
from orchestration.engine.claims import Claims
from orchestration.engine.core import EngineCore
from orchestration.engine.engine import Engine
from orchestration.engine.events import (
    AttemptInterrupted,
    FallbackStarted,
    OrchestrationSubmitted,
    PlanEdited,
    RetryRequested,
)
from orchestration.engine.inputs import Approve, EditPlan, OutputRef, ReportClaim
from orchestration.engine.outcomes import AttemptOutcomes
from orchestration.engine.ready_queue import StrictQueue
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.models import ErrorRecord, TaskId, TaskNode, TaskStatus
from orchestration.ports import Lease
from tests.simulation import driver
from tests.simulation.crash_schedules import ScheduleFailedError, run_many
from tests.simulation.driver import Process
from tests.simulation.store import Batch, Store

ENOUGH = 1_500
"""Seeds within which each mistake must be found; most need a few dozen."""

Break = Callable[[pytest.MonkeyPatch], None]


def repeats_what_must_not_be_repeated(patch: pytest.MonkeyPatch) -> None:
    def interrupt(engine: Engine, state: State) -> None:
        for task_id in list(state.running):
            event = AttemptInterrupted(task_id=task_id, attempt=state.tasks[task_id].attempt)
            engine._record(state, event)

    patch.setattr(control.Control, "_interrupt", interrupt)


def takes_an_open_end_for_a_failure(patch: pytest.MonkeyPatch) -> None:
    real = AttemptOutcomes._attempt_failed

    def failed(engine: Engine, state: State, task: TaskState, error: ErrorRecord, jitter: float) -> None:
        closed = ErrorRecord(code=error.code, message=error.message, retryable=error.retryable)
        real(engine, state, task, closed, jitter)

    patch.setattr(AttemptOutcomes, "_attempt_failed", failed)


def believes_reports_of_earlier_attempts(patch: pytest.MonkeyPatch) -> None:
    real = EngineCore._running

    def running(
        engine: EngineCore, orchestration_id: str, task_id: TaskId, attempt: int
    ) -> tuple[State, TaskState] | None:
        found = engine._driven_task(orchestration_id, task_id)
        if found is not None and found[1].status is TaskStatus.RUNNING:
            return found
        return real(engine, orchestration_id, task_id, attempt)

    patch.setattr(EngineCore, "_running", running)


def lets_a_replaced_driver_write(patch: pytest.MonkeyPatch) -> None:
    real = Store.append

    def append(store: Store, lease: Lease, batch: Batch) -> None:
        current = Lease(orchestration_id=lease.orchestration_id, token=store.token, holder=lease.holder)
        real(store, current, batch)

    patch.setattr(Store, "append", append)


def never_looks_whether_it_still_holds_the_lease(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Process, "_renew_if_due", lambda process: True)


def keeps_the_idempotency_key_over_a_retry(patch: pytest.MonkeyPatch) -> None:
    real = State._reopen

    def reopen(state: State, event: RetryRequested, now: int) -> None:
        before = {task_id: state.tasks[task_id].generation for task_id in event.task_ids}
        real(state, event, now)
        for task_id, generation in before.items():
            state.tasks[task_id].generation = generation

    patch.setattr(State, "_reopen", reopen)


def caches_under_too_little(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(driver, "cache_key", lambda system, request: request.tool)


def forgets_what_it_wanted_to_ask(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EngineCore, "_ask_again", lambda engine, state: None)


def never_goes_back_in_the_strict_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StrictQueue, "push", lambda queue, task_id: None)


def never_stops_what_is_silent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AttemptOutcomes, "_abandon", lambda engine, state, task: None)


def keeps_an_agreement_to_something_else(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(State, "_forget_approval", lambda state, task: None)


def asks_nobody_to_agree(patch: pytest.MonkeyPatch) -> None:
    def needs_more(state: State, task: TaskState) -> bool:
        return task.is_composite or task.node.cache is not None or not core.may_go_on(state, task)

    patch.setattr(core, "needs_more", needs_more)
    patch.setattr(control, "needs_more", needs_more)


def lets_a_model_agree_in_a_persons_name(patch: pytest.MonkeyPatch) -> None:
    real = control.Control._approve

    def approve(engine: Engine, item: Approve) -> None:
        real(engine, replace(item, by="somebody"))

    patch.setattr(control.Control, "_approve", approve)


def starts_anything_before_the_plan_is_whole(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(core, "may_go_on", lambda state, task: True)


def takes_half_a_plan_for_the_whole_when_retried(patch: pytest.MonkeyPatch) -> None:
    real = State._reopen

    def reopen(state: State, event: RetryRequested, now: int) -> None:
        state.is_whole = True
        real(state, event, now)

    patch.setattr(State, "_reopen", reopen)


def begins_parts_before_their_parent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(State, "_may_begin", lambda state, task: not task.undecided and not task.dead)
    real = State._begin

    def begin(state: State, event: OrchestrationSubmitted, now: int) -> None:
        real(state, event, now)
        for task in state.tasks.values():
            state._begin_if_possible(task)

    patch.setattr(State, "_begin", begin)


def forgets_that_a_part_begins_anew(patch: pytest.MonkeyPatch) -> None:
    real = State._begin_anew

    def begin_anew(state: State, task: TaskState) -> None:
        real(state, task)
        if task.node.parent is not None:
            state.tasks[task.node.parent].open_children -= 1

    patch.setattr(State, "_begin_anew", begin_anew)


def keeps_the_idempotency_key_in_a_fallback(patch: pytest.MonkeyPatch) -> None:
    real = State._fall_back

    def fall_back(state: State, event: FallbackStarted) -> None:
        before = state.tasks[event.task_id].generation
        real(state, event)
        state.tasks[event.task_id].generation = before

    patch.setattr(State, "_fall_back", fall_back)


def repeats_elsewhere_what_must_not_be_repeated(patch: pytest.MonkeyPatch) -> None:
    real = AttemptOutcomes._attempt_failed

    def failed(engine: Engine, state: State, task: TaskState, error: ErrorRecord, jitter: float) -> None:
        node = task.node
        if task.others and not error.effect_open:
            task.node = replace(node, idempotent=True, verify=None)
        real(engine, state, task, error, jitter)
        if task.node.task_id == node.task_id and not task.fallbacks:
            task.node = node

    patch.setattr(AttemptOutcomes, "_attempt_failed", failed)


def lets_an_alternative_get_round_an_approval(patch: pytest.MonkeyPatch) -> None:
    real = splice._renamed

    def renamed(node: TaskNode, names: dict[str, str], failed: TaskNode, **more: bool) -> TaskNode:
        return real(node, names, replace(failed, approval=None), **more)

    patch.setattr(splice, "_renamed", renamed)


def takes_a_change_made_for_an_old_revision(patch: pytest.MonkeyPatch) -> None:
    real = control.Control._edit

    def edit(engine: Engine, item: EditPlan) -> None:
        real(engine, replace(item, expected_revision=engine._state(item.orchestration_id).revision))

    patch.setattr(control.Control, "_edit", edit)


def counts_a_revision_twice(patch: pytest.MonkeyPatch) -> None:
    real = State._edit

    def edit(state: State, event: PlanEdited) -> None:
        real(state, event)
        state.revision -= 1

    patch.setattr(State, "_edit", edit)


def forgets_what_was_removed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(State, "_remove", lambda state, task, note: None)


def changes_what_runs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(control, "first_refusal", lambda state, change: None)


def believes_whoever_reports(patch: pytest.MonkeyPatch) -> None:
    real = Claims._claim_reported

    def reported(engine: Engine, item: ReportClaim) -> None:
        task = engine._state(item.orchestration_id).tasks.get(item.task_id)
        real(engine, item if task is None or task.claim is None else replace(item, claim=task.claim))

    patch.setattr(Claims, "_claim_reported", reported)


def gives_what_must_not_be_repeated_to_the_next_worker(patch: pytest.MonkeyPatch) -> None:
    real = claims._error

    def error(task: TaskState, code: str, message: str, *, is_open: bool = False) -> ErrorRecord:
        return real(task, code, message)

    patch.setattr(claims, "_error", error)


def takes_what_is_reported_for_verified(patch: pytest.MonkeyPatch) -> None:
    def done(engine: Engine, state: State, task: TaskState, item: ReportClaim, output: OutputRef) -> None:
        engine._accepted(state, task, output, item.value)

    patch.setattr(Claims, "_done", done)


def forgets_what_was_reported_when_the_driver_dies(patch: pytest.MonkeyPatch) -> None:
    real = EngineCore._ask_acceptance

    def ask(engine: Engine, state: State, task: TaskState) -> None:
        if task.node.task_id in {getattr(each.event, "task_id", "") for each in engine._decision.events}:
            real(engine, state, task)

    patch.setattr(EngineCore, "_ask_acceptance", ask)


def offers_several_tasks_where_they_come_one_by_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StrictQueue, "_is_under_way", lambda queue: bool(queue._state.running))


def never_looks_whether_a_worker_is_silent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Claims, "_look_at_claim", lambda engine, state, task: None)


@pytest.mark.parametrize(
    "mistake",
    [
        repeats_what_must_not_be_repeated,
        takes_an_open_end_for_a_failure,
        believes_reports_of_earlier_attempts,
        lets_a_replaced_driver_write,
        pytest.param(never_looks_whether_it_still_holds_the_lease, marks=pytest.mark.slow),
        keeps_the_idempotency_key_over_a_retry,
        caches_under_too_little,
        forgets_what_it_wanted_to_ask,
        pytest.param(never_goes_back_in_the_strict_order, marks=pytest.mark.slow),
        never_stops_what_is_silent,
        keeps_an_agreement_to_something_else,
        asks_nobody_to_agree,
        lets_a_model_agree_in_a_persons_name,
        starts_anything_before_the_plan_is_whole,
        takes_half_a_plan_for_the_whole_when_retried,
        begins_parts_before_their_parent,
        forgets_that_a_part_begins_anew,
        keeps_the_idempotency_key_in_a_fallback,
        pytest.param(repeats_elsewhere_what_must_not_be_repeated, marks=pytest.mark.slow),
        lets_an_alternative_get_round_an_approval,
        pytest.param(takes_a_change_made_for_an_old_revision, marks=pytest.mark.slow),
        counts_a_revision_twice,
        pytest.param(forgets_what_was_removed, marks=pytest.mark.slow),
        changes_what_runs,
        pytest.param(believes_whoever_reports, marks=pytest.mark.slow),
        gives_what_must_not_be_repeated_to_the_next_worker,
        takes_what_is_reported_for_verified,
        forgets_what_was_reported_when_the_driver_dies,
        pytest.param(offers_several_tasks_where_they_come_one_by_one, marks=pytest.mark.slow),
        never_looks_whether_a_worker_is_silent,
    ],
    ids=lambda mistake: mistake.__name__.replace("_", " "),
)
def test_a_mistake_made_on_purpose_is_found(monkeypatch: pytest.MonkeyPatch, mistake: Break) -> None:
    """An engine or a driver that does this breaks a promise some seed looks at."""
    mistake(monkeypatch)

    with pytest.raises(ScheduleFailedError):
        run_many(0, ENOUGH)
