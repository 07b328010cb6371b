"""Any order of calls on any storage gives what a plain dictionary would."""

from __future__ import annotations

import asyncio  # noqa: TID251  (the machine drives the loop itself, step by step)
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from orchestration.engine.events import Event, RetryDue
from orchestration.errors import IdempotencyConflictError, LeaseHeldError, StaleFencingTokenError
from orchestration.execution.memory_storage import MemoryStorage
from orchestration.models import OrchestrationStatus, TaskStatus
from orchestration.ports import Commit, DriverIdentity, Lease, Storage, Summary, TaskRow
from storage import SqliteStorage
from tests.storage.records import (
    EVERY_EVENT,
    HOLDER,
    STRANGER,
    commit,
    new_orchestration,
    output,
    row,
    summary,
)

T = TypeVar("T")

HOLDERS = st.sampled_from([HOLDER, STRANGER])
TASK_IDS = ["a", "b", "c", "d"]
POSITIONS = {task_id: position for position, task_id in enumerate(TASK_IDS)}


@dataclass
class Expected:
    """What a storage should know of one orchestration."""

    holder: DriverIdentity | None
    summary: Summary
    token: int = 1
    events: list[Event] = field(default_factory=list)
    tasks: dict[str, TaskRow] = field(default_factory=dict)
    outputs: dict[str, bytes] = field(default_factory=dict)


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """What a commit may bring."""
    rows = draw(st.dictionaries(st.sampled_from(TASK_IDS), st.sampled_from(TaskStatus), max_size=3))
    texts = draw(st.dictionaries(st.sampled_from(TASK_IDS[:2]), st.binary(max_size=5), max_size=2))
    facts = {
        "tasks": [row(task_id, POSITIONS[task_id], status) for task_id, status in rows.items()],
        "outputs": [output(task_id, text, inline=draw(st.booleans())) for task_id, text in texts.items()],
        "summary": summary(
            state=draw(st.sampled_from(OrchestrationStatus)), attempts=draw(st.integers(0, 9))
        ),
    }
    return {"events": draw(st.lists(st.sampled_from(EVERY_EVENT), max_size=3)), "facts": facts}


class StorageMachine(RuleBasedStateMachine):
    """Calls a storage and a model alike."""

    leases = Bundle("leases")
    kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.storage: Storage = (
            SqliteStorage(self.folder / "state.db") if self.kind == "sqlite" else MemoryStorage()
        )
        self.model: dict[str, Expected] = {}
        self.keys: dict[str, tuple[str, str]] = {}
        self.numbers: dict[str, int] = {}

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Await one call."""
        return self.runner.run(call)

    def teardown(self) -> None:
        """Close everything."""
        self.run(self.storage.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)

    @initialize(target=leases)
    def begin(self) -> Lease:
        """There is always one orchestration."""
        return self._created("x", None, "")

    @rule(
        target=leases,
        base=st.sampled_from(["x", "y"]),
        key=st.none() | st.sampled_from(["k", "l"]),
        request_sha256=st.sampled_from(["r", "s"]),
    )
    def create(self, base: str, key: str | None, request_sha256: str) -> Any:
        """A known key gives the first orchestration or a refusal, anything else a new one."""
        if key in self.keys:
            orchestration_id, first_request = self.keys[key]
            again = new_orchestration(base, key=key, request_sha256=request_sha256)
            if first_request != request_sha256:
                with pytest.raises(IdempotencyConflictError):
                    self.run(self.storage.create_orchestration(again))
            else:
                made = self.run(self.storage.create_orchestration(again))
                assert (made.record.orchestration_id, made.lease) == (orchestration_id, None)
            return multiple()
        return self._created(base, key, request_sha256)

    def _created(self, base: str, key: str | None, request_sha256: str) -> Lease:
        new = new_orchestration(base, key=key, request_sha256=request_sha256)
        made = self.run(self.storage.create_orchestration(new))
        number = self.numbers[base] = self.numbers.get(base, 0) + 1
        lease = Lease(orchestration_id=f"{base}-{number}", token=1, holder=HOLDER)
        assert made.lease == lease
        expected = Expected(HOLDER, new.summary, events=list(new.first_events))
        expected.tasks = {task.task_id: task for task in new.tasks}
        self.model[lease.orchestration_id] = expected
        if key is not None:
            self.keys[key] = (lease.orchestration_id, request_sha256)
        return lease

    @rule(target=leases, lease=leases, holder=HOLDERS, is_gone=st.booleans())
    def acquire(self, lease: Lease, holder: DriverIdentity, is_gone: bool) -> Any:
        """Granted to the holder itself, or when it is gone or there is none."""
        expected = self.model[lease.orchestration_id]
        call = self.storage.acquire_lease(lease.orchestration_id, holder, lambda _: is_gone)
        if expected.holder not in (None, holder) and not is_gone:
            with pytest.raises(LeaseHeldError):
                self.run(call)
            return multiple()
        taken = self.run(call)
        expected.holder, expected.token = holder, expected.token + 1
        assert taken == Lease(orchestration_id=lease.orchestration_id, token=expected.token, holder=holder)
        return taken

    @rule(lease=leases)
    def release(self, lease: Lease) -> None:
        """Only the current token frees the lease."""
        self.run(self.storage.release_lease(lease))
        expected = self.model[lease.orchestration_id]
        if expected.token == lease.token:
            expected.holder = None

    @rule(batch=st.lists(st.tuples(leases, changes()), min_size=1, max_size=4))
    def append(self, batch: list[tuple[Lease, dict[str, Any]]]) -> None:
        """All of the batch or, with one stale token, nothing of it."""
        next_seqs = {name: len(expected.events) + 1 for name, expected in self.model.items()}
        commits: list[Commit] = []
        for lease, change in batch:
            first_seq = next_seqs[lease.orchestration_id]
            events = change["events"] or [RetryDue(task_id="a")]
            commits.append(replace(commit(lease, first_seq, *events), **change["facts"]))
            next_seqs[lease.orchestration_id] += len(events)
        if any(lease.token != self.model[lease.orchestration_id].token for lease, _ in batch):
            with pytest.raises(StaleFencingTokenError):
                self.run(self.storage.append(commits))
            return
        self.run(self.storage.append(commits))
        for made in commits:
            expected = self.model[made.lease.orchestration_id]
            expected.events += [entry.event for entry in made.events]
            expected.tasks |= {task.task_id: task for task in made.tasks}
            expected.outputs |= {each.task_id: each.text for each in made.outputs}
            expected.summary = made.summary

    @rule()
    def reopen(self) -> None:
        """Closing and opening again loses nothing."""
        self.run(self.storage.aclose())

    @invariant()
    def agrees_with_the_model(self) -> None:
        """Every record, journal, row and output is as expected."""
        listed = self.run(self.storage.list_orchestrations())
        assert [record.orchestration_id for record in listed] == list(reversed(self.model))
        for record in listed:
            name, expected = record.orchestration_id, self.model[record.orchestration_id]
            entries = self.run(self.storage.read_events(name))
            assert (record.holder, record.token) == (expected.holder, expected.token)
            assert (record.summary, record.last_seq) == (expected.summary, len(expected.events))
            assert [entry.event for entry in entries] == expected.events
            assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
            tasks = self.run(self.storage.load_tasks(name))
            assert tasks == sorted(expected.tasks.values(), key=lambda task: task.position)
            assert self.run(self.storage.load_outputs(name, TASK_IDS)) == expected.outputs


class SqliteMachine(StorageMachine):
    """The same over SQLite."""

    kind = "sqlite"


StorageMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
SqliteMachine.TestCase.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)

TestMemoryStorage = StorageMachine.TestCase
TestSqliteStorage = SqliteMachine.TestCase
