"""kill -9 while a plan changes: taken over by another process, it comes to the very same end, and nothing twice.

Each point is a commit that holds a certain event: before it, inside its transaction, after it. What an undisturbed run
comes to is what every disturbed one is compared with: the graph, the outputs, the log of revisions.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration.dag_file import dag_to_document
from orchestration.engine.events import AttemptStarted, AttemptSucceeded
from orchestration.errors import (
    NotPossibleError,
    OrchestrationNotFoundError,
    RefusedByDriverError,
    RevisionConflictError,
)
from orchestration.models import OrchestrationStatus
from orchestration.orchestrator import AdvancedTaskOrchestrator
from storage import SqliteStorage
from tests.chaos.checking import journal_of
from tests.chaos.places import Place
from tests.chaos.planning_worker import NAME, SCENARIOS, orchestrator_over
from tests.chaos.work import EFFECTS, traces

pytestmark = pytest.mark.anyio
slow = pytest.mark.slow

Person = Callable[[AdvancedTaskOrchestrator], Coroutine[Any, Any, None]]


async def approve(orchestrator: AdvancedTaskOrchestrator) -> None:
    """Agree to `publish` as soon as somebody is asked, unless somebody has agreed."""
    await until(orchestrator, lambda status: "publish" in status["waiting_for_approval"])
    with suppress(NotPossibleError, RefusedByDriverError):
        await orchestrator.approve(NAME, "publish")


ADDED = {"task_id": "audit", "tool": "act", "depends_on": ["second"]}
OPERATIONS = [
    {"op": "add", "task": ADDED},
    {"op": "link", "from": "audit", "to": "last"},
    {"op": "set", "task_id": "second", "arguments": {"number": 7}},
]


async def edit(orchestrator: AdvancedTaskOrchestrator) -> None:
    """Change what comes as soon as `first` runs, unless that was done."""
    await until(orchestrator, lambda status: bool(status["attempts"]))
    with suppress(RevisionConflictError, RefusedByDriverError):
        await orchestrator.edit(NAME, OPERATIONS, expected_revision=1, reason="on second thoughts")


async def nobody(orchestrator: AdvancedTaskOrchestrator) -> None:
    """Let it go on by itself."""


PEOPLE: dict[str, Person] = {"asking": approve, "changing": edit}


async def until(orchestrator: AdvancedTaskOrchestrator, holds: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until something holds of the status, or it has ended."""
    while True:
        try:
            status = await orchestrator.load_status(NAME)
        except OrchestrationNotFoundError:
            status = None
        if status is not None and (holds(status) or OrchestrationStatus(status["state"]).is_terminal):
            return
        await anyio.sleep(0.01)


async def end_of(orchestrator: AdvancedTaskOrchestrator) -> dict[str, Any]:
    """Return what an orchestration has come to, as far as it must not depend on who died when."""
    result = await orchestrator.load_result(NAME)
    return {
        "state": result["state"],
        "graph": dag_to_document(result["dag"]),
        "statuses": {task_id: node.status.value for task_id, node in result["dag"].nodes.items()},
        "outputs": dict(result["results"]),
        "total": result["total_tasks"],
        "revisions": [
            (entry.revision, entry.by, entry.reason, entry.told, entry.undoes)
            for entry in await orchestrator.storage.load_revisions(NAME)
        ],
    }


_undisturbed: dict[str, dict[str, Any]] = {}


async def undisturbed(scenario: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what a scenario comes to when nobody dies of it."""
    if scenario not in _undisturbed:
        with monkeypatch.context() as patch:
            patch.setenv(EFFECTS, str(folder / "other effects"))
            async with orchestrator_over(SqliteStorage(folder / "other.db")) as orchestrator:
                with anyio.fail_after(15):
                    async with anyio.create_task_group() as group:
                        group.start_soon(SCENARIOS[scenario], orchestrator)
                        group.start_soon(PEOPLE.get(scenario, nobody), orchestrator)
                _undisturbed[scenario] = await end_of(orchestrator)
    return _undisturbed[scenario]


async def nothing_twice(orchestrator: AdvancedTaskOrchestrator, place: Place) -> None:
    """No attempt began after its task had succeeded; who completed has left a line; what may not be repeated, one."""
    done: set[str] = set()
    tries: Counter[str] = Counter()
    for recorded in await journal_of(orchestrator.storage, NAME):
        match recorded.event:
            case AttemptStarted():
                assert recorded.event.task_id not in done, f"{recorded.event.task_id} was done already"
                tries[recorded.event.task_id] += 1
            case AttemptSucceeded():
                done.add(recorded.event.task_id)
            case _:
                pass
    lines = Counter(line.partition("#")[0] for line in traces(place.effects))
    assert done <= set(lines) <= set(tries)
    assert all(lines[task_id] <= tries[task_id] for task_id in lines)
    for task_id, node in (await orchestrator.load_dag(NAME)).nodes.items():
        assert node.idempotent or lines[task_id] <= 1


async def killed(place: Place, scenario: str, point: str) -> dict[str, Any]:
    """Have a driver die at a point, go on in this process, and return what it comes to."""
    words = [sys.executable, "-m", "tests.chaos.planning_worker", scenario, str(place.database)]
    person = PEOPLE.get(scenario, nobody)
    with anyio.fail_after(40):
        async with (
            place.process([*words, "--die", point]) as process,
            orchestrator_over(SqliteStorage(place.database)) as here,
        ):
            async with anyio.create_task_group() as group:
                group.start_soon(person, here)
                await process.wait()
                assert process.returncode == -signal.SIGKILL, f"it did not die: {place.told(process)}"
                await here.resume_all()
                await place.decide_until_it_ends(here, NAME)
                group.cancel_scope.cancel()
            await nothing_twice(here, place)
            return await end_of(here)


QUICK = {
    "failing": ["inside:replan_requested", "before:plan_revised", "after:plan_revised"],
    "listed": ["after:task_expanded"],
    "asking": ["before:approval_given"],
    "changing": ["after:plan_edited"],
    "streamed": ["after:plan_extended@", "inside:plan_completed"],
}
"""Points of the default suite: one or two of each scenario; every other one takes as long again."""

EVENTS = {
    "failing": [
        "replan_requested",
        "plan_revised",
        "attempt_started@mend~1",
        "attempt_succeeded@again~1",
        "attempt_started@report",
        "orchestration_finished",
    ],
    "listed": [
        "task_expanded",
        "attempt_started@each[1]",
        "attempt_succeeded@each[2]",
        "children_gathered",
        "attempt_started@last",
    ],
    "asking": ["approval_requested", "approval_given", "attempt_succeeded@publish"],
    "changing": ["plan_edited", "attempt_started@second", "attempt_started@audit"],
    "streamed": ["plan_extended", "attempt_succeeded@one", "plan_completed", "attempt_started@last"],
}


def _cases() -> list[Any]:
    quick = [pytest.param(name, point.rstrip("@")) for name, points in QUICK.items() for point in points]
    others = [
        pytest.param(name, f"{when}:{event}", marks=slow)
        for name, events in EVENTS.items()
        for event in events
        for when in ("before", "inside", "after")
        if f"{when}:{event}" not in [point.rstrip("@") for point in QUICK[name]]
    ]
    return quick + others


@pytest.mark.parametrize(("scenario", "point"), _cases())
async def test_whoever_goes_on_comes_to_the_same_end(
    place: Place, monkeypatch: pytest.MonkeyPatch, scenario: str, point: str
) -> None:
    """The same graph, the same outputs, the same revisions; nothing that was done is done again."""
    expected = await undisturbed(scenario, place.folder, monkeypatch)

    found = await killed(place, scenario, point)

    assert found == expected
