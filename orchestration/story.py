"""Why an orchestration is as it is: what waits for a yes, what replaced what, how its plan and each task came about.

May import: orchestration.{clock, dag, dag_file, drawings, errors, event_words, fallbacks, folding,
models, plan_store, ports, reports, routes}, orchestration.{engine.events, engine.state, execution.recovery,
systems.registry}, stdlib.

Everything here is read a bounded part at a time: a journal may have millions of entries, and an answer needs few.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from orchestration.clock import to_iso
from orchestration.dag import TaskDAG
from orchestration.dag_file import dag_from_json
from orchestration.drawings import Replaced
from orchestration.engine.events import (
    ApprovalRequested,
    Event,
    OrchestrationSubmitted,
    PlanEdited,
    PlanExtended,
    PlanRevised,
    Recorded,
    TaskRerouted,
)
from orchestration.engine.state import ASKS, ASKS_FOR_APPROVAL
from orchestration.errors import OrchestrationNotFoundError, PlanNotFoundError, TaskNotFoundError
from orchestration.event_words import words_about
from orchestration.execution.recovery import load_state
from orchestration.fallbacks import fallback_nodes
from orchestration.folding import words
from orchestration.models import (
    SETTLED,
    OrchestrationId,
    OrchestrationStatus,
    PlanId,
    TaskId,
    TaskNode,
    TaskStatus,
)
from orchestration.plan_store import kept_plan_id
from orchestration.ports import OrchestrationRecord, PlanRecord, Storage, TaskRow
from orchestration.reports import plan_document, revision_document
from orchestration.routes import route_reason
from orchestration.systems.registry import SystemRegistry

APPROVALS_SHOWN = 20
"""Tasks that wait for somebody's yes, of which an answer tells all there is to know."""
_SEARCHED = 20_000
"""Journal entries that are looked through for what is asked; what lies further back is told shorter."""
WINDOW = 5_000
"""Journal entries that one answer about a task is made of."""
_PAGE = 1_000
_REVISIONS_READ = 100
"""Revisions of which the drawing says what they replaced."""
_UPSTREAMS_TOLD = 20
_UPSTREAMS_ASKED = 1_000


def _reason_in(event: Event, row: TaskRow) -> str:
    """Return why an event sends a task to the system where it is now; empty where it does not say."""
    match event:
        case OrchestrationSubmitted() | PlanRevised() | PlanEdited() | PlanExtended():
            is_there = event.routes.get(row.task_id) == row.system
            return event.reasons.get(row.task_id, "") if is_there else ""
        case TaskRerouted() if event.task_id == row.task_id and event.system == row.system:
            return event.reason or "the system before used up its attempts"
        case _:
            return ""


class StoryReader(ABC):
    """What can be told of how things came to be as they are; a part of `OrchestrationReader`."""

    storage: Storage
    systems: SystemRegistry | None

    @abstractmethod
    async def load_dag(self, orchestration_id: OrchestrationId) -> TaskDAG:
        """Return the graph as it stands."""

    # Approvals

    async def load_approvals(
        self, orchestration_id: OrchestrationId, *, task_ids: Sequence[TaskId] | None = None
    ) -> list[dict[str, Any]]:
        """Return the tasks that wait for somebody's yes, and what exactly each would run.

        Args:
            orchestration_id: The orchestration.
            task_ids: Only these.

        Returns:
            Up to 20 times `task_id`, `who` (`person`: only a person may agree; `caller`: the calling agent, too),
            `shown` (what would run), `digest` (names exactly that), `asked_at`, `system`, `tool`.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
        """
        record = await self.storage.load_orchestration(orchestration_id)
        rows = await self.storage.load_tasks(
            orchestration_id,
            statuses=[TaskStatus.AWAITING_APPROVAL],
            task_ids=task_ids,
            limit=APPROVALS_SHOWN,
        )
        if not rows:
            return []
        asked = await self._latest_requests(record, [row.task_id for row in rows])
        nodes = await self._nodes(orchestration_id, rows)
        return [_approval(row, asked.get(row.task_id), nodes.get(row.task_id)) for row in rows]

    async def _latest_requests(
        self, record: OrchestrationRecord, task_ids: Sequence[TaskId]
    ) -> dict[TaskId, Recorded]:
        """Return the latest request for approval of each task, as far as it lies not too far back."""
        found: dict[TaskId, Recorded] = {}
        wanted = set(task_ids)
        end = record.last_seq
        while wanted and end > 0 and record.last_seq - end < _SEARCHED:
            begin = max(0, end - _PAGE)
            page = await self.storage.read_events(record.orchestration_id, after_seq=begin, limit=end - begin)
            for recorded in reversed(page):
                event = recorded.event
                if isinstance(event, ApprovalRequested) and event.task_id in wanted:
                    found[event.task_id] = recorded
                    wanted.discard(event.task_id)
            end = begin
        return found

    # Revisions

    async def _revising_events(self, orchestration_id: OrchestrationId) -> list[PlanRevised | PlanEdited]:
        """Return the events that revised an orchestration's plan, in order."""
        found: list[PlanRevised | PlanEdited] = []
        revisions = await self.storage.load_revisions(orchestration_id)
        for revision in revisions[-_REVISIONS_READ:]:
            if revision.seq is None:
                continue
            events = await self.storage.read_events(orchestration_id, after_seq=revision.seq - 1, limit=1)
            found += [each.event for each in events if isinstance(each.event, PlanRevised | PlanEdited)]
        return found

    async def load_replaced(self, orchestration_id: OrchestrationId) -> list[Replaced]:
        """Return which tasks revisions replaced or removed, by what, and why.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
        """
        record = await self.storage.load_orchestration(orchestration_id)
        if record.summary.revision == 1:
            return []
        found: list[Replaced] = []
        for event in await self._revising_events(orchestration_id):
            if isinstance(event, PlanRevised):
                new = tuple(node.task_id for node in event.tasks)
                found.append(
                    Replaced(event.task_id, event.revision, event.by, event.reason, new, event.delivers)
                )
            else:
                found += [
                    Replaced(task_id, event.revision, event.by, event.reason) for task_id in event.removed
                ]
        return found

    # The plan

    async def load_plan_story(self, target: OrchestrationId | PlanId) -> dict[str, Any]:
        """Return why a plan is as it is: who made it, of what thoughts, and every revision with its reason.

        Args:
            target: An orchestration, or a stored plan.

        Returns:
            `orchestration_id` (of an orchestration), `plan_id`, `goal`, `revision`, `planner`, `thinking_server`,
            `thoughts`, `notes`, `plan_revisions` (of the stored plan) and `revisions` (of what runs).

        Raises:
            OrchestrationNotFoundError: There is no orchestration and no plan of this id.
        """
        try:
            record = await self.storage.load_orchestration(target)
        except OrchestrationNotFoundError:
            try:
                plan = await self.storage.load_plan(target)
            except PlanNotFoundError:
                raise OrchestrationNotFoundError(target) from None
            return await self._story(plan, plan.goal, plan.revision, None)
        stored = await self._plan_of(record)
        return await self._story(stored, record.goal, record.summary.revision, record)

    async def _plan_of(self, record: OrchestrationRecord) -> PlanRecord | None:
        """Return the plan an orchestration was made of, also one that ran while it was made; None without one.

        It is kept for as long as retention says, and no longer.
        """
        try:
            return await self.storage.load_plan(kept_plan_id(record))
        except PlanNotFoundError:
            return None

    async def _story(
        self, plan: PlanRecord | None, goal: str, revision: int, record: OrchestrationRecord | None
    ) -> dict[str, Any]:
        document: dict[str, Any] = {} if record is None else {"orchestration_id": record.orchestration_id}
        document |= {"plan_id": plan.plan_id if plan else None, "goal": goal, "revision": revision}
        if plan is not None:
            document |= plan_document(plan.planner, plan.thinking_server, plan.thoughts, plan.notes)
        else:
            document |= plan_document("caller", "none", [], [])
        made = await self.storage.load_plan_revisions(plan.plan_id) if plan is not None else []
        run = await self.storage.load_revisions(record.orchestration_id) if record is not None else []
        document["plan_revisions"] = [revision_document(each) for each in made]
        document["revisions"] = [revision_document(each) for each in run]
        return document

    # One task

    async def load_why(
        self, orchestration_id: OrchestrationId, task_id: TaskId, *, before_seq: int | None = None
    ) -> dict[str, Any]:
        """Return why a task stands where it does: where it goes and why, what it waits for, what happened to it.

        Of a long journal a part is looked through, the part in which the task ended, or else the latest one.

        Args:
            orchestration_id: The orchestration.
            task_id: The task.
            before_seq: Look through what comes before this entry.

        Returns:
            `task_id`, `status`, `note`, `system`, `because` (why this system), `waits_for` (a sentence each), `events`
            (`seq`, `at`, `told`), `looked_through` (first and last entry) and `before_seq`, for what lies before it;
            None at the beginning.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
            TaskNotFoundError: It has no such task.
        """
        record = await self.storage.load_orchestration(orchestration_id)
        rows = await self.storage.load_tasks(orchestration_id, task_ids=[task_id], limit=1)
        if not rows:
            known = await self.storage.load_tasks(orchestration_id, limit=_UPSTREAMS_TOLD)
            raise TaskNotFoundError(orchestration_id, task_id, [row.task_id for row in known])
        row = rows[0]
        node = (await self._nodes(orchestration_id, rows)).get(task_id)
        end = record.last_seq
        if before_seq is not None:
            end = min(end, before_seq - 1)
        elif end > WINDOW and row.finished_at_us is not None:
            end = await self._last_until(record, row.finished_at_us)
        begin = max(0, end - WINDOW)
        recorded_reason = await self._recorded_reason(orchestration_id, row)
        events: list[dict[str, Any]] = []
        at = begin
        while at < end:
            page = await self.storage.read_events(orchestration_id, after_seq=at, limit=min(_PAGE, end - at))
            if not page:
                break
            at = page[-1].seq
            for recorded in page:
                told = words_about(recorded.event, task_id)
                recorded_reason = _reason_in(recorded.event, row) or recorded_reason
                if told is not None:
                    events.append({"seq": recorded.seq, "at": to_iso(recorded.at_us), "told": told})
        return {
            "orchestration_id": orchestration_id,
            "task_id": task_id,
            "status": row.status.value,
            "note": row.note,
            "system": row.system,
            "tool": row.tool or (node.tool if node is not None else None),
            "because": None if node is None else self._route_reason(node, row, recorded_reason),
            "waits_for": await self._waits_for(record, row, node),
            "events": events,
            "looked_through": [begin + 1, end],
            "before_seq": begin + 1 if begin else None,
        }

    async def _last_until(self, record: OrchestrationRecord, at_us: int) -> int:
        """Return the last journal entry of an instant; its entries never go back in time, so it is found by halves."""
        low, high = 1, record.last_seq
        while low < high:
            middle = (low + high + 1) // 2
            page = await self.storage.read_events(record.orchestration_id, after_seq=middle - 1, limit=1)
            if page and page[0].at_us <= at_us:
                low = middle
            else:
                high = middle - 1
        return low

    def _route_reason(self, node: TaskNode, row: TaskRow, recorded: str) -> str | None:
        """Return why a task goes where it goes; None while it goes nowhere."""
        if not row.system or row.is_composite:
            return None
        registry = self.systems
        is_here = registry is not None and row.system in registry
        system = registry.get(row.system) if registry is not None and is_here else None
        # The task as it is defined, or the fallback that has taken its place.
        ways = (node, *fallback_nodes(node))
        way = next((each for each in ways if each.tool == row.tool), node)
        before = "" if way is node else "its fallback took over; "
        return before + route_reason(way, row.system, system, recorded if way is node else None)

    async def _recorded_reason(self, orchestration_id: OrchestrationId, row: TaskRow) -> str:
        """Return why the router chose a task's system when the orchestration began; empty where it had no choice."""
        first = await self.storage.read_events(orchestration_id, after_seq=0, limit=1)
        return _reason_in(first[0].event, row) if first else ""

    async def _waits_for(self, record: OrchestrationRecord, row: TaskRow, node: TaskNode | None) -> list[str]:
        """Return what a task that has not settled waits for."""
        if record.summary.state.is_terminal:
            return []
        is_asked = (row.note or "").startswith(ASKS)
        is_paused = record.summary.state is OrchestrationStatus.PAUSED
        may_caller = node is not None and node.approval == "caller"
        match row.status:
            case TaskStatus.READY:
                return ["somebody to resume the orchestration" if is_paused else "a free slot"]
            case TaskStatus.RETRYING:
                return ["the end of its back-off"]
            case TaskStatus.AWAITING_APPROVAL:
                whose = "the caller's or a person's" if may_caller else "a person's"
                return [f"{whose} yes to exactly what it would run"]
            case TaskStatus.OFFERED:
                asked = (
                    f" with the skills {', '.join(node.skills)}" if node is not None and node.skills else ""
                )
                return [f"a worker{asked} that claims it (claim_task)"]
            case TaskStatus.CLAIMED:
                return [f"its worker's report ({row.note or 'claimed'})"]
            case TaskStatus.UNKNOWN:
                return ["somebody's decision: did its latest attempt take effect?"]
            case TaskStatus.REPLANNING:
                return ["somebody who says how to go on" if is_asked else "an alternative plan"]
            case TaskStatus.EXPANDED:
                return ["its parts"]
            case TaskStatus.PENDING | TaskStatus.PAUSED:
                return await self._waits_for_tasks(record, row)
            case _:
                return []

    async def _waits_for_tasks(self, record: OrchestrationRecord, row: TaskRow) -> list[str]:
        """Return the upstreams, and the parent, that a task waits for."""
        if record.summary.revision > 1 and record.last_seq > _SEARCHED:
            return ["tasks before it, which the graph shows"]
        dag = await self.load_dag(record.orchestration_id)
        before = [edge.source_task_id for edge in dag.edges if edge.target_task_id == row.task_id]
        if row.parent is not None:
            before.append(row.parent)
        rows = await self.storage.load_tasks(
            record.orchestration_id, task_ids=before[:_UPSTREAMS_ASKED], limit=_UPSTREAMS_ASKED
        )
        waits = [each for each in rows if each.status not in SETTLED and each.task_id != row.parent]
        told = [f"{each.task_id}, which is {words(each.status)}" for each in waits[:_UPSTREAMS_TOLD]]
        if len(waits) > _UPSTREAMS_TOLD:
            told.append(f"{len(waits) - _UPSTREAMS_TOLD:,} more")
        told += [
            f"{each.task_id}, which it is a part of, to begin"
            for each in rows
            if each.task_id == row.parent and each.status is not TaskStatus.EXPANDED
        ]
        return told

    # Tasks as they are defined

    async def _nodes(
        self, orchestration_id: OrchestrationId, rows: Sequence[TaskRow]
    ) -> dict[TaskId, TaskNode]:
        """Return what tasks say of themselves now, as far as that can be told without reading a whole journal."""
        wanted = {row.task_id for row in rows}
        parents = {row.task_id: row.parent for row in rows if row.parent is not None}
        asked = wanted | set(parents.values())
        document = json.loads(await self.storage.load_dag(orchestration_id))
        document["tasks"] = [task for task in document["tasks"] if task["task_id"] in asked]
        document["edges"] = []
        found: dict[TaskId, TaskNode] = dict(dag_from_json(json.dumps(document).encode()).nodes)
        for event in await self._revising_events(orchestration_id):
            new = event.tasks if isinstance(event, PlanRevised) else (*event.added, *event.changed)
            found.update((node.task_id, node) for node in new if node.task_id in asked)
        for task_id, parent in parents.items():
            if task_id not in found and parent in found:  # one item of a list
                found[task_id] = replace(found[parent], task_id=task_id, foreach=None, parent=parent)
        if missing := wanted - found.keys():
            record = await self.storage.load_orchestration(orchestration_id)
            if record.last_seq <= _SEARCHED:  # they came while the plan was still being made
                tasks = (await load_state(self.storage, orchestration_id)).tasks
                found.update((task_id, tasks[task_id].node) for task_id in missing if task_id in tasks)
        return found


def _approval(row: TaskRow, asked: Recorded | None, node: TaskNode | None) -> dict[str, Any]:
    """Return what a task waits to be agreed to."""
    event = asked.event if asked is not None and isinstance(asked.event, ApprovalRequested) else None
    return {
        "task_id": row.task_id,
        "who": "caller" if node is not None and node.approval == "caller" else "person",
        "shown": event.shown if event is not None else (row.note or "").removeprefix(ASKS_FOR_APPROVAL),
        "digest": event.digest if event is not None else None,
        "asked_at": to_iso(asked.at_us) if asked is not None else None,
        "description": node.description if node is not None else "",
        "system": row.system,
        "tool": row.tool or (node.tool if node is not None else None),
    }
