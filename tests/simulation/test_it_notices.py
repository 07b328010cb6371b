"""The simulation is no rubber stamp: each of these mistakes, made on purpose, is found within a few hundred seeds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestration.engine import control
from orchestration.engine.core import EngineCore
from orchestration.engine.engine import Engine
from orchestration.engine.events import AttemptInterrupted, RetryRequested
from orchestration.engine.outcomes import AttemptOutcomes
from orchestration.engine.ready_queue import StrictQueue
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.models import ErrorRecord, TaskId, TaskStatus
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


@pytest.mark.parametrize(
    "mistake",
    [
        repeats_what_must_not_be_repeated,
        takes_an_open_end_for_a_failure,
        believes_reports_of_earlier_attempts,
        lets_a_replaced_driver_write,
        never_looks_whether_it_still_holds_the_lease,
        keeps_the_idempotency_key_over_a_retry,
        caches_under_too_little,
        forgets_what_it_wanted_to_ask,
        never_goes_back_in_the_strict_order,
        never_stops_what_is_silent,
    ],
    ids=lambda mistake: mistake.__name__.replace("_", " "),
)
def test_a_mistake_made_on_purpose_is_found(monkeypatch: pytest.MonkeyPatch, mistake: Break) -> None:
    """An engine or a driver that does this breaks a promise some seed looks at."""
    mistake(monkeypatch)

    with pytest.raises(ScheduleFailedError):
        run_many(0, ENOUGH)
