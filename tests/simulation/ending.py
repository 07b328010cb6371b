"""What must hold of a schedule once all of it is over."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from orchestration.engine.state import replay
from tests.engine_kit import assert_same
from tests.simulation.graphs import ID

if TYPE_CHECKING:
    from tests.simulation.schedule import Schedule


def check_end(schedule: Schedule) -> None:
    """Check the whole story."""
    store, state = schedule.store, schedule.store.folded
    assert state.status.is_terminal
    assert state.unsettled == 0
    assert_same(state, store.replay())
    for length in schedule.rng.sample(range(1, state.last_seq + 1), k=min(3, state.last_seq)):
        assert replay(ID, schedule.story.dag, store.journal[:length]).last_seq == length
    schedule.promises.check_end()
    _check_effects(schedule)
    _check_controls(schedule)


def _check_effects(schedule: Schedule) -> None:
    """What must not be repeated happened once, and once more for each time somebody said so."""
    unheard = schedule.workforce.unheard(schedule.promises.claims)
    for task_id, task in schedule.promises.tasks.items():
        allowed = unheard[task_id] + 1 + task.decided_retries + task.reopened
        if schedule.suspensions:  # what `verify` did not find, a driver that was asleep did after it woke up
            allowed += task.verified_retries
        happened = schedule.outside.once[task_id]
        assert happened <= allowed, f"{task_id} took effect {happened} times, and {allowed} were allowed"


def _check_controls(schedule: Schedule) -> None:
    """Every request was carried out once at most, and what is in the journal was asked for."""
    done = Counter[str]()
    for control in schedule.store.controls:
        assert len(control.answers) <= 1, "a request was answered twice"
        if control.answers == [True] and not control.is_plain:
            done[type(control.item).__name__] += 1
    happened = schedule.promises.happened
    assert done["Pause"] == happened["orchestration_paused"]
    assert done["Resume"] == happened["orchestration_resumed"]
    assert done["Cancel"] == happened["cancelled by request"]
    assert done["Retry"] == happened["retry_requested"]
    assert done["Decide"] == happened["decided by a person"]
    assert done["Approve"] == happened["approved or rejected"]
    assert done["EditPlan"] == happened["plan_edited"]
    assert done["AlternativeFound"] == happened["replaced by a person"]
