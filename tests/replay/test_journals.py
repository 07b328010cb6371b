"""Stored journals fold to the same state in every version: a new program must understand what an old one wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from orchestration.engine.events import Event
from orchestration.engine.invariants import check_state
from orchestration.engine.state import replay
from orchestration.engine.task_state import TaskState
from orchestration.models import OrchestrationStatus, TaskStatus
from tests.engine_kit import Bench, assert_same
from tests.replay.claimed import go_on_with_claims
from tests.replay.journals import FOLDER, MAKERS, described, document, read

JOURNALS = sorted(FOLDER.rglob("*.json"))


def expected_in(actual: Any, expected: Any) -> Any:
    """Return the part of `actual` that `expected` speaks of: a later version may know more, and note more."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return {
            key: None if key == "note" and value is None else expected_in(actual.get(key), value)
            for key, value in expected.items()
        }
    if isinstance(expected, list) and isinstance(actual, list) and len(actual) == len(expected):
        return [expected_in(one, other) for one, other in zip(actual, expected, strict=True)]
    return actual


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_stored_journal_folds_to_the_state_stored_with_it(path: Path) -> None:
    """Field by field, as it was when it was written."""
    dag, events, expected = read(path)

    state = replay("o", dag, events)

    assert expected_in(json.loads(json.dumps(described(state))), expected) == expected
    check_state(state)


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_stored_journal_can_be_taken_over_and_driven_to_its_end(path: Path) -> None:
    """What an old version left behind, this one finishes; what was done stays done."""
    dag, events, _ = read(path)
    bench = Bench(dag, events=events)
    done = {task_id: task.attempt for task_id, task in bench.state.tasks.items() if task.is_settled}

    bench.start()
    for _ in range(100):
        asks = [name for name, task in bench.state.tasks.items() if _wants_a_decision(task)]
        if bench.state.status is OrchestrationStatus.PAUSED:
            bench.resume()
        elif bench.running:
            bench.succeed(bench.running[0])
        elif bench.answer_one(items=1):
            continue
        elif asks:
            bench.decide(asks[0], "failed")
        elif bench.state.status is OrchestrationStatus.PLANNING:
            bench.end_plan()
        elif go_on_with_claims(bench):
            continue
        elif not bench.state.status.is_terminal:
            bench.wait(60)

    assert bench.state.status.is_terminal
    assert done.items() <= {task_id: task.attempt for task_id, task in bench.state.tasks.items()}.items()


def _wants_a_decision(task: TaskState) -> bool:
    return task.status is TaskStatus.UNKNOWN or task.is_asked


@pytest.mark.parametrize("name", list(MAKERS))
def test_the_present_engine_still_writes_what_is_stored(name: str) -> None:
    """The same inputs give the same events: a change of the engine's decisions shows here, to be judged."""
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))

    bench: Bench = MAKERS[name]()

    assert json.loads(json.dumps(document(bench))) == stored


@pytest.mark.parametrize("name", list(MAKERS))
def test_a_state_survives_storage_in_full(name: str) -> None:
    """What was written and read again folds to the live state in every field, not only the shown ones."""
    bench = MAKERS[name]()
    dag, events, _ = read(FOLDER / f"{name}.json")

    assert_same(replay("o", dag, events), bench.state)


def test_the_stored_journals_hold_every_kind_of_event() -> None:
    """A kind nobody stored is a kind nobody promises to read."""
    kinds = {type(entry.event) for path in JOURNALS for entry in read(path)[1]}

    assert kinds == set(get_args(Event))


def test_the_stored_journals_hold_every_status() -> None:
    """Of tasks."""
    statuses = {task["status"] for path in JOURNALS for task in read(path)[2]["tasks"].values()}

    assert statuses == {status.value for status in TaskStatus}
