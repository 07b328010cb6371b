"""Reads how orchestrations stand from storage, for any process: status, tasks, events, outputs, results, metrics.

May import: orchestration.{clock, dag, dag_file, errors, metrics, models, options, ports, reports, story},
orchestration.engine.*, orchestration.execution.{identity, process_sample, recovery}, stdlib.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.clock import Clock
from orchestration.dag import TaskDAG
from orchestration.dag_file import dag_from_json
from orchestration.engine.events import Recorded
from orchestration.engine.policy import asked_words
from orchestration.engine.state import ASKS, ASKS_FOR_APPROVAL, CLAIMED_BY, REPORTED, State
from orchestration.errors import NotPossibleError, TaskNotFoundError
from orchestration.execution.identity import is_gone
from orchestration.execution.process_sample import sample_process
from orchestration.execution.recovery import load_state
from orchestration.execution.views import SAYS
from orchestration.metrics import totals_document
from orchestration.models import (
    ErrorRecord,
    Json,
    OrchestrationId,
    OrchestrationMode,
    OrchestrationStatus,
    TaskId,
    TaskStatus,
)
from orchestration.options import OrchestratorOptions
from orchestration.ports import OrchestrationRecord, Storage, TaskRow
from orchestration.reports import (
    ERRORS_SHOWN,
    Results,
    final_dag,
    plan_document,
    result_document,
    status_document,
)
from orchestration.story import StoryReader
from orchestration.systems.fingerprints import missing_of
from orchestration.systems.registry import SystemRegistry

_RUNNING_SHOWN = 1_000
_AT_HAND_BYTES = 16 * 1024 * 1024
"""Outputs up to this sum are read with the result; more are read one by one, when they are asked for."""
_PAGE = 10_000
_REPLANNING_READ = 200
"""Tasks being replanned of which the open questions are looked for."""


class OrchestrationReader(StoryReader):
    """What can be told without driving anything.

    Args:
        storage: Where the state lives.
        options: For the concurrency that efficiency is measured against.
        clock: For what depends on the present.
        systems: What is configured here; says what keeps an orphan from going on here.
    """

    def __init__(
        self,
        storage: Storage,
        options: OrchestratorOptions,
        clock: Clock,
        systems: SystemRegistry | None = None,
    ) -> None:
        self.storage = storage
        self.options = options
        self.systems = systems
        self._clock = clock

    async def load_status(self, orchestration_id: OrchestrationId) -> dict[str, Any]:
        """Return an orchestration's status, whoever drives it.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
        """
        record = await self.storage.load_orchestration(orchestration_id)
        running = await self._rows_in(record, TaskStatus.RUNNING, _RUNNING_SHOWN)
        failed = await self._rows_in(record, TaskStatus.FAILED)
        unknown = await self._rows_in(record, TaskStatus.UNKNOWN)
        awaiting = await self._rows_in(record, TaskStatus.AWAITING_APPROVAL)
        replanning = await self._rows_in(record, TaskStatus.REPLANNING, _REPLANNING_READ)
        offered = await self._rows_in(record, TaskStatus.OFFERED)
        claimed = await self._rows_in(record, TaskStatus.CLAIMED)
        return self._status(
            record,
            [row.task_id for row in running],
            errors={row.task_id: row.error for row in failed if row.error is not None},
            open_questions={row.task_id: row.note or "" for row in unknown},
            approvals={row.task_id: (row.note or "").removeprefix(ASKS_FOR_APPROVAL) for row in awaiting},
            asked={
                row.task_id: asked_words(row.note, row.error)
                for row in replanning
                if row.note is not None and row.note.startswith(ASKS)
            },
            offered=[row.task_id for row in offered],
            progress={
                row.task_id: row.note.removeprefix(SAYS)
                for row in running
                if row.note is not None and row.note.startswith(SAYS)
            },
            claimed={row.task_id: worker_of(row.note) for row in claimed},
        )

    async def _rows_in(
        self, record: OrchestrationRecord, status: TaskStatus, limit: int = ERRORS_SHOWN
    ) -> list[TaskRow]:
        """Return the first tasks of a status, without asking for those that are none."""
        summary = record.summary
        # A task that has failed over its parts is not counted, and they need not have failed before.
        may_be_some = summary.counts.get(status) or (
            status is TaskStatus.FAILED and summary.state is OrchestrationStatus.FAILED
        )
        if not may_be_some:
            return []
        return await self.storage.load_tasks(record.orchestration_id, statuses=[status], limit=limit)

    def _status(
        self,
        record: OrchestrationRecord,
        running: Sequence[TaskId] = (),
        *,
        errors: Mapping[TaskId, ErrorRecord] | None = None,
        open_questions: Mapping[TaskId, str] | None = None,
        approvals: Mapping[TaskId, str] | None = None,
        asked: Mapping[TaskId, str] | None = None,
        offered: Sequence[TaskId] = (),
        claimed: Mapping[TaskId, str] | None = None,
        progress: Mapping[TaskId, str] | None = None,
    ) -> dict[str, Any]:
        is_orphan = is_orphaned(record)
        return status_document(
            record,
            summary=record.summary,
            running=list(running),
            errors=errors or {},
            open_questions=open_questions or {},
            approvals=approvals,
            asked=asked,
            offered=offered,
            claimed=claimed,
            progress=progress,
            last_seq=record.last_seq,
            now_us=self._clock.now_us(),
            is_orphaned=is_orphan,
            missing=self._missing(record) if is_orphan else [],
        )

    def _missing(self, record: OrchestrationRecord) -> list[str]:
        """Return a sentence per thing that an orchestration needs to go on and that is missing or different here."""
        return [] if self.systems is None else missing_of(record.needs, self.systems)

    async def list_orchestrations(
        self, *, states: Sequence[OrchestrationStatus | str] | None = None, limit: int = 100, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the statuses of orchestrations, latest first, without running tasks and errors.

        Args:
            states: Only orchestrations in these states.
            limit: Most to return.
            offset: How many to pass over.
        """
        wanted = None if states is None else [OrchestrationStatus(state) for state in states]
        records = await self.storage.list_orchestrations(states=wanted, limit=limit, offset=offset)
        return [self._status(record) for record in records]

    async def load_tasks(
        self,
        orchestration_id: OrchestrationId,
        *,
        statuses: Sequence[TaskStatus | str] | None = None,
        task_ids: Sequence[TaskId] | None = None,
        after_position: int = -1,
        limit: int = 1000,
    ) -> list[TaskRow]:
        """Return task rows by place in the DAG; page with the last one's `position`.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
        """
        await self.storage.load_orchestration(orchestration_id)
        return await self.storage.load_tasks(
            orchestration_id,
            statuses=None if statuses is None else [TaskStatus(status) for status in statuses],
            task_ids=task_ids,
            after_position=after_position,
            limit=limit,
        )

    async def load_events(
        self, orchestration_id: OrchestrationId, *, after_seq: int = 0, limit: int = 1000
    ) -> list[Recorded]:
        """Return journal entries after `after_seq`, in order.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
        """
        await self.storage.load_orchestration(orchestration_id)
        return await self.storage.read_events(orchestration_id, after_seq=after_seq, limit=limit)

    async def load_output(self, orchestration_id: OrchestrationId, task_id: TaskId) -> Json:
        """Return the output of a completed task.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
            TaskNotFoundError: It has no such task.
            NotPossibleError: The task has no output (yet).
        """
        rows = await self.load_tasks(orchestration_id, task_ids=[task_id])
        if not rows:
            known = await self.storage.load_tasks(orchestration_id, limit=20)
            raise TaskNotFoundError(orchestration_id, task_id, [row.task_id for row in known])
        found = await self.storage.load_outputs(orchestration_id, [task_id])
        if task_id not in found:
            raise NotPossibleError(
                f"Task {task_id!r}", rows[0].status, "read", "Only completed tasks have an output."
            )
        value: Json = json.loads(found[task_id])
        return value

    async def load_dag(self, orchestration_id: OrchestrationId) -> TaskDAG:
        """Return the graph as it stands: alternatives spliced in, every task with its present status.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
        """
        record = await self.storage.load_orchestration(orchestration_id)
        if record.summary.revision > 1:
            return final_dag(await load_state(self.storage, orchestration_id))
        dag = dag_from_json(await self.storage.load_dag(orchestration_id))
        statuses: dict[TaskId, TaskStatus] = {}
        after = -1
        while rows := await self.storage.load_tasks(orchestration_id, after_position=after, limit=_PAGE):
            statuses.update((row.task_id, row.status) for row in rows)
            after = rows[-1].position
        if statuses.keys() - dag.nodes.keys():  # items of a list, or a plan that was made while it ran
            return final_dag(await load_state(self.storage, orchestration_id))
        return dag.with_statuses(statuses)

    async def load_result(self, orchestration_id: OrchestrationId) -> dict[str, Any]:
        """Return the result document of an orchestration, as far as it has come, whoever drives it.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
        """
        record = await self.storage.load_orchestration(orchestration_id)
        state = await load_state(self.storage, orchestration_id)
        stored = await self._plan_of(record)
        plan = (
            None
            if stored is None
            else plan_document(stored.planner, stored.thinking_server, stored.thoughts, stored.notes)
        )
        end_us = record.summary.finished_at_us or self._clock.now_us()
        return await self._result(
            state,
            goal=record.goal,
            planning_seconds=0.0,
            total_seconds=(end_us - record.created_at_us) / 1_000_000,
            warnings=[],
            plan=plan,
        )

    async def _result(
        self,
        state: State,
        *,
        goal: str,
        planning_seconds: float,
        total_seconds: float,
        warnings: list[str],
        plan: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        return result_document(
            state,
            goal=goal,
            results=await self._results(state),
            concurrency=1 if state.mode is OrchestrationMode.SIMPLE else self.options.concurrency,
            planning_seconds=planning_seconds,
            total_seconds=total_seconds,
            warnings=warnings,
            plan=plan,
        )

    async def _results(self, state: State) -> Results:
        """Return the outputs: those of moderate size at once, the others when they are asked for."""
        sizes = {
            task_id: task.output.size_bytes
            for task_id, task in state.tasks.items()
            if task.output is not None
        }
        wanted: list[TaskId] = []
        total = 0
        for task_id, size in sizes.items():
            if size <= self.options.limits.inline_output_bytes and total + size <= _AT_HAND_BYTES:
                wanted.append(task_id)
                total += size
        at_hand: dict[TaskId, bytes] = {}
        for start in range(0, len(wanted), _PAGE):
            page = wanted[start : start + _PAGE]
            at_hand.update(await self.storage.load_outputs(state.orchestration_id, page))
        identifier = state.orchestration_id
        return Results(
            list(sizes), lambda task_id: self.storage.load_output_blocking(identifier, task_id), at_hand
        )

    async def load_metrics(self, *, since_us: int | None = None) -> dict[str, Any]:
        """Return the metrics of all orchestrations in storage, optionally only of those created since an instant.

        Args:
            since_us: Microseconds since the epoch.
        """
        document: dict[str, Any] = dict(totals_document(await self.storage.load_totals(since_us=since_us)))
        if self.options.enable_resource_monitoring:
            document["process"] = sample_process()
        return document


def worker_of(note: str | None) -> str:
    """Return the worker that the note of a claimed task names."""
    return (note or "").removeprefix(CLAIMED_BY).removesuffix(REPORTED)


def is_orphaned(record: OrchestrationRecord) -> bool:
    """Whether an orchestration is unfinished and certainly driven by nobody."""
    if record.summary.state.is_terminal:
        return False
    return record.holder is None or is_gone(record.holder)
