"""Any order of calls on any storage gives what plain dictionaries would."""

from __future__ import annotations

import asyncio  # noqa: TID251  (the machine drives the loop itself, step by step)
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from orchestration.engine.events import AttemptSucceeded, RetryDue
from orchestration.errors import (
    IdempotencyConflictError,
    LeaseHeldError,
    OrchestrationNotFoundError,
    PlanNotFoundError,
    RevisionConflictError,
    StaleFencingTokenError,
    TaskNotFoundError,
)
from orchestration.execution.memory_storage import MemoryStorage
from orchestration.ports import (
    CachedResult,
    Commit,
    ControlAnswer,
    DriverIdentity,
    DriverView,
    Lease,
    NewOrchestration,
    PendingControl,
    ReusedOutput,
    Revision,
    Storage,
)
from storage import SqliteStorage
from tests.stateful.storage_model import (
    KEYS,
    TASK_IDS,
    Completed,
    Expected,
    ExpectedControl,
    ExpectedPlan,
    changes,
    history,
)
from tests.storage.records import (
    DAY_US,
    HOLDER,
    NOW_US,
    STRANGER,
    answer,
    commit,
    keep,
    new_orchestration,
    new_plan,
    plan_revision,
    request,
    revision,
    sha256,
)

T = TypeVar("T")

HOLDERS = st.sampled_from([HOLDER, STRANGER])
MOMENTS = st.one_of(st.integers(0, 30), st.integers(DAY_US - 3, DAY_US + 30)).map(
    lambda after: NOW_US + after
)


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
        self.gone: set[str] = set()
        self.keys: dict[str, tuple[str, str]] = {}
        self.numbers: dict[str, int] = {}
        self.made = 0
        self.drivers: dict[str, DriverView] = {}
        self.controls: dict[int, ExpectedControl] = {}
        self.last_control = 0
        self.cache: dict[str, tuple[CachedResult, int]] = {}
        self.plans: dict[str, ExpectedPlan] = {}
        self.plans_made = 0

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Await one call."""
        return self.runner.run(call)

    def teardown(self) -> None:
        """Close everything."""
        self.run(self.storage.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)

    # Creating

    @initialize(target=leases)
    def begin(self) -> Lease:
        """There is always one orchestration to begin with."""
        return self._created(new_orchestration("x"))

    @rule(
        target=leases,
        base=st.sampled_from(["x", "y"]),
        key=st.none() | st.sampled_from(["k", "l"]),
        request_sha256=st.sampled_from(["r", "s"]),
        plan_id=st.sampled_from([None, "plan-1", "plan-2"]),
        needs=st.sampled_from([{}, {"py": {"": "f"}}]),
    )
    def create(self, base: str, key: str | None, request_sha256: str, plan_id: str | None, needs: Any) -> Any:
        """A known key gives the first orchestration or a refusal, anything else a new one."""
        new = new_orchestration(base, key=key, request_sha256=request_sha256, plan_id=plan_id, needs=needs)
        if key in self.keys:
            orchestration_id, first_request = self.keys[key]
            if first_request != request_sha256:
                with pytest.raises(IdempotencyConflictError):
                    self.run(self.storage.create_orchestration(new))
            else:
                made = self.run(self.storage.create_orchestration(new))
                assert (made.record.orchestration_id, made.lease) == (orchestration_id, None)
            return multiple()
        return self._created(new)

    @rule(target=leases, chosen=st.sampled_from(["x-2", "x-4", "y-1", "z"]))
    def create_under_a_chosen_id(self, chosen: str) -> Any:
        """Refused while it is taken; what was removed may be chosen again, and counting up passes it over."""
        new = new_orchestration("x", orchestration_id=chosen)
        if chosen in self.model:
            with pytest.raises(IdempotencyConflictError):
                self.run(self.storage.create_orchestration(new))
            return multiple()
        return self._created(new)

    @rule(target=leases, source=leases, from_task=st.sampled_from(TASK_IDS[:2]))
    def create_with_an_earlier_output(self, source: Lease, from_task: str) -> Any:
        """It is the new task's own from then on, or nothing is created."""
        earlier = source.orchestration_id
        reused = ReusedOutput(task_id="b", from_orchestration=earlier, from_task=from_task)
        new = new_orchestration("x", reused=[reused])
        if earlier not in self.model or from_task not in self.model[earlier].outputs:
            with pytest.raises(TaskNotFoundError):
                self.run(self.storage.create_orchestration(new))
            return multiple()
        lease = self._created(new)
        self.model[lease.orchestration_id].outputs["b"] = self.model[earlier].outputs[from_task]
        return lease

    def _created(self, new: NewOrchestration) -> Lease:
        made = self.run(self.storage.create_orchestration(new))
        orchestration_id = new.orchestration_id or self._next_id(new.base_id)
        lease = Lease(orchestration_id=orchestration_id, token=1, holder=HOLDER)
        assert made.lease == lease
        self.made += 1
        self.model[orchestration_id] = Expected(
            number=self.made,
            holder=HOLDER,
            summary=new.summary,
            key=new.key,
            plan_id=new.plan_id,
            needs={system: dict(tools) for system, tools in new.needs.items()},
            events=list(new.first_events),
            tasks={task.task_id: task for task in new.tasks},
        )
        if new.key is not None:
            self.keys[new.key] = (orchestration_id, new.request_sha256)
        return lease

    def _next_id(self, base: str) -> str:
        number = self.numbers.get(base, 0) + 1
        while f"{base}-{number}" in self.model or f"{base}-{number}" in self.gone:
            number += 1
        self.numbers[base] = number
        return f"{base}-{number}"

    @rule(age=st.integers(0, 30))
    def save_plan(self, age: int) -> None:
        """Plans count up by themselves."""
        plan = self.run(self.storage.save_plan(new_plan(created_at_us=NOW_US + age)))
        self.plans_made += 1
        assert plan.plan_id == f"plan-{self.plans_made}"
        first = Revision(
            revision=1, by=plan.planner, reason="", told="what it began with", at_us=plan.created_at_us
        )
        self.plans[plan.plan_id] = ExpectedPlan([plan.dag_json], [first])

    @rule(
        number=st.integers(1, 4),
        off=st.sampled_from([0, 0, 0, -1, 1]),
        back_to=st.none() | st.integers(0, 2),
        age=st.integers(0, 60),
    )
    def revise_plan(self, number: int, off: int, back_to: int | None, age: int) -> None:
        """Only of the present revision, to something new or back to what it was."""
        plan_id = f"plan-{number}"
        known = self.plans.get(plan_id)
        present = 1 if known is None else len(known.log)
        made = plan_revision(present, at_us=NOW_US + age)
        if known is not None and back_to is not None:
            made = plan_revision(
                present, at_us=NOW_US + age, dag_json=known.documents[back_to % present], undoes=back_to
            )
        call = self.storage.revise_plan(plan_id, replace(made, expected_revision=present + off))
        if known is None:
            with pytest.raises(PlanNotFoundError):
                self.run(call)
        elif off:
            with pytest.raises(RevisionConflictError):
                self.run(call)
        else:
            assert self.run(call).revision == present + 1
            known.documents.append(made.dag_json)
            known.log.append(
                Revision(
                    revision=present + 1,
                    by=made.by,
                    reason=made.reason,
                    told=made.told,
                    at_us=made.at_us,
                    undoes=made.undoes,
                )
            )

    # Leases

    @rule(target=leases, lease=leases, holder=HOLDERS, is_gone=st.booleans())
    def acquire(self, lease: Lease, holder: DriverIdentity, is_gone: bool) -> Any:
        """Granted to the holder itself, or when it is gone or there is none."""
        expected = self.model.get(lease.orchestration_id)
        asked: list[tuple[DriverIdentity, DriverView | None]] = []

        def answered(present: DriverIdentity, view: DriverView | None) -> bool:
            asked.append((present, view))
            return is_gone

        call = self.storage.acquire_lease(lease.orchestration_id, holder, answered)
        if expected is None:
            with pytest.raises(OrchestrationNotFoundError):
                self.run(call)
            return multiple()
        is_strange = expected.holder not in (None, holder)
        if is_strange and not is_gone:
            with pytest.raises(LeaseHeldError):
                self.run(call)
            taken = None
        else:
            taken = self.run(call)
        present = expected.holder
        assert asked == ([(present, self._driver_of(present))] if is_strange and present else [])
        if taken is None:
            return multiple()
        expected.holder, expected.token = holder, expected.token + 1
        assert taken == Lease(orchestration_id=lease.orchestration_id, token=expected.token, holder=holder)
        return taken

    @rule(lease=leases)
    def release(self, lease: Lease) -> None:
        """Only the current token frees the lease."""
        self.run(self.storage.release_lease(lease))
        if self._is_current(lease):
            self.model[lease.orchestration_id].holder = None

    @rule(holder=HOLDERS, named=st.lists(leases, max_size=4), at_us=MOMENTS)
    def beat(self, holder: DriverIdentity, named: list[Lease], at_us: int) -> None:
        """Counted, and told what was lost."""
        known = self.drivers.get(holder.instance)
        lost = self.run(self.storage.renew_leases(holder, named, lease_seconds=1.5, now_us=at_us))
        assert lost == [lease.orchestration_id for lease in named if not self._is_current(lease)]
        beats = 1 if known is None else known.beats + 1
        self.drivers[holder.instance] = DriverView(
            identity=holder, beats=beats, lease_seconds=1.5, beat_at_us=at_us
        )

    @rule(holder=HOLDERS)
    def retire(self, holder: DriverIdentity) -> None:
        """Forgotten, whether it was known or not."""
        self.run(self.storage.retire_driver(holder))
        self.drivers.pop(holder.instance, None)

    def _is_current(self, lease: Lease) -> bool:
        expected = self.model.get(lease.orchestration_id)
        return expected is not None and expected.token == lease.token

    def _driver_of(self, holder: DriverIdentity | None) -> DriverView | None:
        return None if holder is None else self.drivers.get(holder.instance)

    # Control

    @rule(lease=leases, sent_at_us=MOMENTS, reason=st.text(max_size=3))
    def send(self, lease: Lease, sent_at_us: int, reason: str) -> None:
        """Under an id of its own, unless there is nobody it could reach."""
        asked, owner = request(reason=reason), lease.orchestration_id
        call = self.storage.send_control(owner, asked, sent_at_us=sent_at_us)
        if owner not in self.model:
            with pytest.raises(OrchestrationNotFoundError):
                self.run(call)
            return
        control_id = self.run(call)
        assert control_id > self.last_control
        self.last_control = control_id
        self.controls[control_id] = ExpectedControl(
            PendingControl(
                control_id=control_id, orchestration_id=owner, request=asked, sent_at_us=sent_at_us
            )
        )

    @rule(control_id=st.integers(1, 6))
    def withdraw(self, control_id: int) -> None:
        """Only what is there and not answered."""
        known = self.controls.get(control_id)
        can = known is not None and known.answer is None
        assert self.run(self.storage.withdraw_control(control_id)) is can
        if can:
            del self.controls[control_id]

    # Advancing

    @rule(batch=st.lists(st.tuples(leases, changes()), min_size=1, max_size=4))
    def append(self, batch: list[tuple[Lease, dict[str, Any]]]) -> None:
        """All of the batch or, with one stale token, nothing of it."""
        next_seqs = {name: len(expected.events) + 1 for name, expected in self.model.items()}
        revisions = {name: len(expected.revisions) + 1 for name, expected in self.model.items()}
        commits: list[Commit] = []
        for lease, change in batch:
            first_seq = next_seqs.get(lease.orchestration_id, 1)
            events = change["events"] or [RetryDue(task_id="a")]
            answers = self._answers(lease, change["answers"])
            latest = revisions.get(lease.orchestration_id, 1)
            made = [revision(latest + more, first_seq) for more in range(1, change["revisions"] + 1)]
            commits.append(
                replace(commit(lease, first_seq, *events), answers=answers, revisions=made, **change["facts"])
            )
            next_seqs[lease.orchestration_id] = first_seq + len(events)
            revisions[lease.orchestration_id] = latest + len(made)
        if not all(self._is_current(lease) for lease, _ in batch):
            with pytest.raises((StaleFencingTokenError, OrchestrationNotFoundError)):
                self.run(self.storage.append(commits))
            return
        self.run(self.storage.append(commits))
        for applied in commits:
            self._applied(applied)

    def _answers(self, lease: Lease, drawn: list[tuple[int, bool]]) -> list[ControlAnswer]:
        """Return answers to requests of this orchestration, or to what is not there."""
        owners = {number: known.pending.orchestration_id for number, known in self.controls.items()}
        return [
            answer(control_id, is_done=is_done)
            for control_id, is_done in drawn
            if owners.get(control_id, lease.orchestration_id) == lease.orchestration_id
        ]

    def _applied(self, made: Commit) -> None:
        name = made.lease.orchestration_id
        expected = self.model[name]
        expected.events += [entry.event for entry in made.events]
        expected.updated_at_us = made.events[-1].at_us
        expected.tasks |= {task.task_id: task for task in made.tasks}
        texts = {each.task_id: each.text for each in made.outputs}
        expected.outputs |= texts
        expected.summary = made.summary
        expected.revisions += made.revisions
        expected.completed += self._completed(made)
        for entry in made.cached:
            text = texts[entry.task_id]
            found = CachedResult(
                text=text,
                sha256=sha256(text),
                source=f"{name}:{entry.task_id}",
                stored_at_us=entry.stored_at_us,
            )
            self.cache[entry.key] = (found, entry.expires_at_us)
        for given in made.answers:
            known = self.controls.get(given.control_id)
            if known is not None and known.answer is None:
                known.answer = given
                known.answered_at_us = max(expected.updated_at_us, known.pending.sent_at_us)

    def _completed(self, made: Commit) -> list[Completed]:
        """Return every attempt that delivered, of a task the commit has a row of and that runs somewhere itself."""
        return [
            Completed((task.system, task.tool), task.duration_seconds, entry.event.cost)
            for entry in made.events
            if isinstance(entry.event, AttemptSucceeded)
            for task in made.tasks
            if task.task_id == entry.event.task_id and task.system and not task.is_composite
        ]

    @rule()
    def reopen(self) -> None:
        """Closing and opening again loses nothing."""
        self.run(self.storage.aclose())

    # Housekeeping

    @rule(
        now_us=MOMENTS,
        compact=st.sampled_from([None, 0.0]),
        age_us=st.sampled_from([None, 0, 3]),
        most=st.sampled_from([None, 0, 1, 2]),
    )
    def retain(self, now_us: int, compact: float | None, age_us: int | None, most: int | None) -> None:
        """Removes what is too old or too many and nobody's, the longest ended first; compressing shows nowhere."""
        age = None if age_us is None else age_us / 1_000_000
        asked = keep(compact_after_seconds=compact, remove_after_seconds=age, keep_finished=most)
        done = self.run(self.storage.retain(asked, now_us=now_us))
        assert done.is_finished
        removed = self._removable(now_us, age_us, most)
        for name in removed:
            key = self.model.pop(name).key
            self.keys.pop(key or "", None)
            self.gone.add(name)
        self.controls = {
            number: known
            for number, known in self.controls.items()
            if known.pending.orchestration_id not in removed
            and (known.answer is None or known.answered_at_us > now_us - DAY_US)
        }
        expired = [key for key, (_, expires_at_us) in self.cache.items() if expires_at_us <= now_us]
        self.cache = {key: found for key, found in self.cache.items() if key not in expired}
        used = {expected.plan_id for expected in self.model.values()}
        unused = [
            plan_id
            for plan_id, plan in self.plans.items()
            if age_us is not None and now_us - plan.changed_at_us >= age_us and plan_id not in used
        ]
        self.plans = {plan_id: plan for plan_id, plan in self.plans.items() if plan_id not in unused}
        named = {expected.holder.instance for expected in self.model.values() if expected.holder}
        self.drivers = {
            instance: view
            for instance, view in self.drivers.items()
            if instance in named or view.beat_at_us > now_us - DAY_US
        }
        assert (done.removed, done.cache_entries_removed) == (len(removed), len(expired))
        assert done.plans_removed == len(unused)

    def _removable(self, now_us: int, age_us: int | None, most: int | None) -> Sequence[str]:
        ended = {name: each for name, each in self.model.items() if each.summary.state.is_terminal}
        removed: list[str] = []
        for name in sorted(ended, key=lambda name: (ended[name].updated_at_us, ended[name].number)):
            driver = self._driver_of(ended[name].holder)
            is_silent = driver is not None and driver.beat_at_us <= now_us - DAY_US
            is_old = age_us is not None and now_us - ended[name].updated_at_us >= age_us
            is_too_many = most is not None and len(ended) - len(removed) > most
            if (ended[name].holder is None or is_silent) and (is_old or is_too_many):
                removed.append(name)
        return removed

    # What must hold

    @invariant()
    def orchestrations_agree_with_the_model(self) -> None:
        """Every record, journal, row and output is as expected."""
        listed = self.run(self.storage.list_orchestrations())
        unfinished = self.run(self.storage.list_unfinished())
        assert [record.orchestration_id for record in listed] == list(reversed(self.model))
        assert unfinished == [each for each in reversed(listed) if not each.summary.state.is_terminal]
        for record in listed:
            name, expected = record.orchestration_id, self.model[record.orchestration_id]
            entries = self.run(self.storage.read_events(name))
            middle = self.run(self.storage.read_events(name, after_seq=1, limit=2))
            assert (record.holder, record.token) == (expected.holder, expected.token)
            assert (record.driver, record.needs) == (self._driver_of(expected.holder), expected.needs)
            assert (record.summary, record.last_seq) == (expected.summary, len(expected.events))
            assert record.updated_at_us == expected.updated_at_us
            assert [entry.event for entry in entries] == expected.events
            assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
            assert middle == entries[1:3]
            tasks = self.run(self.storage.load_tasks(name))
            assert tasks == sorted(expected.tasks.values(), key=lambda task: task.position)
            assert self.run(self.storage.load_outputs(name, TASK_IDS)) == expected.outputs
            assert self.run(self.storage.load_revisions(name)) == expected.revisions

    @invariant()
    def the_rest_agrees_with_the_model(self) -> None:
        """Requests, answers and cached outputs are as expected."""
        pending = self.run(self.storage.pending_controls())
        assert pending == [known.pending for known in self.controls.values() if known.answer is None]
        for control_id in range(1, self.last_control + 2):
            known = self.controls.get(control_id)
            given = self.run(self.storage.load_control_answer(control_id))
            assert given == (None if known is None else known.answer)
        for key in KEYS:
            found, expires_at_us = self.cache.get(key, (None, NOW_US))
            assert self.run(self.storage.load_cached(key, now_us=expires_at_us - 1)) == found
            assert self.run(self.storage.load_cached(key, now_us=expires_at_us)) is None

    @invariant()
    def plans_agree_with_the_model(self) -> None:
        """Each revision of each plan, and its log."""
        for number in range(1, self.plans_made + 1):
            plan_id = f"plan-{number}"
            known = self.plans.get(plan_id)
            if known is None:
                for call in (self.storage.load_plan(plan_id), self.storage.load_plan_revisions(plan_id)):
                    with pytest.raises(PlanNotFoundError):
                        self.run(call)
                continue
            assert self.run(self.storage.load_plan_revisions(plan_id)) == known.log
            present = self.run(self.storage.load_plan(plan_id))
            assert (present.revision, present.dag_json) == (len(known.log), known.documents[-1])
            for place, document in enumerate(known.documents, start=1):
                earlier = self.run(self.storage.load_plan(plan_id, place))
                assert earlier == replace(present, revision=place, dag_json=document)

    @invariant()
    def history_agrees_with_the_model(self) -> None:
        """Of every kind that something is known of."""
        kinds = [(system, tool) for system in ("py", "shell") for tool in (None, "load")]
        found = self.run(self.storage.load_history(kinds))
        for kind in kinds:
            known = history([each.completed for each in reversed(self.model.values())], kind)
            assert (kind in found) is (known is not None)
            if known is not None:
                assert found[kind].count == known.count
                assert found[kind].mean_seconds == pytest.approx(known.mean_seconds)
                assert found[kind].mean_cost == pytest.approx(known.mean_cost)


class SqliteMachine(StorageMachine):
    """The same over SQLite, whose file is sound in the end."""

    kind = "sqlite"

    def teardown(self) -> None:
        """Look for what does not fit together, then close everything."""
        assert isinstance(self.storage, SqliteStorage)
        problems = self.run(self.storage.check())
        super().teardown()
        assert problems == []


StorageMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
SqliteMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)

TestMemoryStorage = StorageMachine.TestCase
TestSqliteStorage = SqliteMachine.TestCase
