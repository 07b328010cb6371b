"""Changing plans and running orchestrations: checked whole and routed here, carried out by whoever drives.

May import: orchestration.* but for planners, submission and the façade, stdlib.

A change is made for one revision of the graph, and refused on any other: who edits looks first. Everything is known
before anything is asked of the driver: what the operations come to, where new tasks run, what follows; and the driver
asks once more whether what is touched has begun meanwhile.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestration.control import OrchestrationController
from orchestration.dag import TaskDAG
from orchestration.dag_file import dag_from_json, dag_to_json
from orchestration.edits.checks import CALLER
from orchestration.edits.consequences import Consequences, consequences, what_is_left
from orchestration.edits.editing import (
    Edited,
    EditRefusedError,
    Subject,
    edit_graph,
    in_order,
    subject_of,
    undo_to,
)
from orchestration.edits.report import EditReport, report_of
from orchestration.edits.routing import placed, with_routes, work_of
from orchestration.edits.targets import Journal, find_target, load_log
from orchestration.engine.graph import present_graph
from orchestration.engine.inputs import AlternativeFound, EditPlan
from orchestration.engine.state import State
from orchestration.errors import (
    InvalidArgumentError,
    NotPossibleError,
    Problem,
    RevisionConflictError,
    StateError,
    UnroutableTaskError,
)
from orchestration.execution.requests import input_of
from orchestration.execution.simulator import estimate
from orchestration.models import (
    Json,
    OrchestrationStatus,
    TaskId,
    TaskStatus,
    as_unicode,
)
from orchestration.ports import (
    ControlAction,
    ControlRequest,
    Edit,
    Graft,
    OrchestrationRecord,
    PlanRecord,
    PlanRevision,
    Revision,
)
from orchestration.systems.base import bounded
from orchestration.systems.router import route, routed_dag, routes_of

_TRIED_OUT = 2_000
"""Up to this many tasks left, an edit says what they are expected to take."""

_EDITABLE = frozenset({OrchestrationStatus.RUNNING, OrchestrationStatus.PAUSED})

_PLANNER = "planner"
"""Whose revisions need no question to have been asked; nobody else goes by that name."""


class OrchestrationEditor(OrchestrationController):
    """What can be done with revisions."""

    async def edit(
        self,
        target: str,
        operations: object = (),
        *,
        expected_revision: int | None = None,
        undo_to: int | None = None,
        dry_run: bool = False,
        by: str = "person",
        reason: str = "",
    ) -> EditReport:
        """Change the graph of a stored plan or of an orchestration that goes on, or find out what a change would do.

        Args:
            target: The id of a plan or an orchestration; `plan:ID` or `orchestration:ID` where both have it.
            operations: What to change: objects with `op` (`docs/editing.md`), carried out in order, all or none. With
                none, a dry run tells the present revision.
            expected_revision: The revision the change is made for; needed unless it is a dry run.
            undo_to: In place of operations: the revision to go back to, as far as its tasks have not begun.
            dry_run: Only tell what would change, what follows, and what would be refused.
            by: Who wants it; `caller` is a model, which may not take away what protects a person's work.
            reason: Kept in the log.

        Raises:
            EditRefusedError: It can't be made; every refusal is listed. A dry run returns them instead.
            UnroutableTaskError: Nothing could run some of the new tasks of an orchestration.
            RevisionConflictError: The target has another revision by now.
            NotPossibleError: The orchestration has ended, or something it touches has begun meanwhile.
            OrchestrationNotFoundError: There is no such target.
            ControlPendingError: Its driver has not answered yet; the request stays stored.
        """
        _check_arguments(operations, expected_revision, undo_to, dry_run, by)
        found = await find_target(self.storage, target)
        if expected_revision is not None and expected_revision != found.revision:
            raise RevisionConflictError(found.name, expected_revision, found.revision)
        if expected_revision is None and not dry_run:
            fix = f"Look at it first; it has revision {found.revision} now."
            raise InvalidArgumentError("expected_revision", None, "the revision the change is made for", fix)
        if undo_to is not None and not 1 <= undo_to < found.revision:
            expected = f"an earlier revision than the present one, {found.revision}"
            fix = (
                f"Write a number from 1 to {found.revision - 1}."
                if found.revision > 1
                else "Nothing was changed yet."
            )
            raise InvalidArgumentError("undo_to", undo_to, expected, fix)
        asked = _Asked(
            operations, undo_to, dry_run, bounded(as_unicode(by), 100), bounded(as_unicode(reason))
        )
        if found.plan is not None:
            return await self._edit_plan(found.plan, asked)
        assert found.orchestration is not None, "it is the one or the other"
        return await self._edit_orchestration(found.orchestration, asked)

    async def revisions(self, target: str) -> list[Revision]:
        """Return the log of a plan's or an orchestration's revisions, whoever made them, in order.

        Raises:
            OrchestrationNotFoundError: There is no such target.
        """
        return await load_log(self.storage, await find_target(self.storage, target))

    @property
    def _database(self) -> str | None:
        return self.storage.location if self.storage.is_durable else None

    # Plans

    async def _edit_plan(self, record: PlanRecord, asked: _Asked) -> EditReport:
        subject = Subject(target=record.plan_id, dag=dag_from_json(record.dag_json), database=self._database)
        limits = self.options.limits
        if asked.undo_to is None:
            edited = edit_graph(subject, asked.operations, by=asked.by, limits=limits)
        else:
            earlier = await self.storage.load_plan(record.plan_id, asked.undo_to)
            dag = dag_from_json(earlier.dag_json)
            edited = undo_to(subject, dag, asked.undo_to, by=asked.by, limits=limits)
        _refuse(edited.problems, asked)
        warnings: list[str] = []
        if not edited.problems and not edited.is_empty:
            _, problems, warnings = await self._routed(edited, allows_agent=asked.by == CALLER)
            warnings += [f"{problem.path}: {problem.message}" for problem in problems]
        revision = record.revision
        is_applied = not (asked.dry_run or edited.is_empty)
        if is_applied:
            dag_json = dag_to_json(edited.dag)
            stored = await self.storage.revise_plan(
                record.plan_id,
                PlanRevision(
                    expected_revision=record.revision,
                    dag_json=dag_json,
                    dag_sha256=hashlib.sha256(dag_json).hexdigest(),
                    by=asked.by,
                    reason=asked.reason,
                    told=edited.told,
                    at_us=self._clock.now_us(),
                    undoes=edited.undoes,
                ),
            )
            revision = stored.revision
        return report_of(
            subject,
            edited,
            revision,
            is_applied=is_applied,
            estimate=None if edited.problems else self._estimate(edited.dag),
            warnings=warnings,
            refusals=edited.problems,
        )

    # Orchestrations

    async def _edit_orchestration(self, record: OrchestrationRecord, asked: _Asked) -> EditReport:
        identifier = record.orchestration_id
        _refuse_state(identifier, record.summary.state)
        journal = Journal(identifier, dag_from_json(await self.storage.load_dag(identifier)))
        await journal.read(self.storage)
        state = journal.state()
        subject = replace(subject_of(state), database=self._database)
        if state.revision != record.summary.revision:
            raise RevisionConflictError(identifier, record.summary.revision, state.revision)
        limits = self.options.limits
        if asked.undo_to is None:
            edited = edit_graph(subject, asked.operations, by=asked.by, limits=limits)
        else:
            then = present_graph(journal.state(asked.undo_to))
            since = journal.since(asked.undo_to)
            edited = undo_to(subject, then, asked.undo_to, by=asked.by, limits=limits, since=since)
        problems = list(edited.problems)
        edited, unroutable, warnings = await self._routed(edited, allows_agent=state.allows_agent)
        if unroutable and not problems and not asked.dry_run:
            raise UnroutableTaskError(unroutable)
        values, too_large = await self._values(state, edited)
        problems += [*unroutable, *too_large]
        _refuse(problems, asked)
        request = ControlRequest(
            action=ControlAction.EDIT,
            edit=_edit_of(edited, state.revision, values),
            reason=asked.reason or edited.reason,
            by=asked.by,
        )
        revision = state.revision
        follows, left = Consequences(), None
        if not problems and not edited.is_empty:
            item, _ = input_of(identifier, request, limits)
            assert isinstance(item, EditPlan | AlternativeFound), "what EDIT stands for"
            try:
                follows = consequences(state, item, edited.change.skipped)
                left = self._estimate(what_is_left(state))
            except StateError as refusal:
                if not asked.dry_run:
                    raise
                problems.append(Problem(_place(edited), str(refusal)))
        is_applied = not (asked.dry_run or edited.is_empty)
        if is_applied:
            answer = await self.control(identifier, request)
            revision = answer.revision or revision + 1
        return report_of(
            subject,
            edited,
            revision,
            is_applied=is_applied,
            follows=follows,
            estimate=left,
            warnings=warnings,
            refusals=in_order(problems),
        )

    async def _routed(
        self, edited: Edited, *, allows_agent: bool = False
    ) -> tuple[Edited, list[Problem], list[str]]:
        """Find out where new and changed tasks run.

        Args:
            edited: The edit.
            allows_agent: Whether what nothing else can run is offered to agents.

        Returns:
            The edit with routes and tools, problems named by their operations, and warnings.
        """
        work = work_of(edited)
        if not work.nodes:
            return edited, [], []
        async with self.systems:
            try:
                routing = await route(work, self.systems, allows_agent=allows_agent)
            except UnroutableTaskError as exc:
                return edited, [placed(problem, work, edited) for problem in exc.problems], []
        routed = routed_dag(work, routing)
        return with_routes(edited, routed, routes_of(routing)), [], routing.warnings

    async def _values(self, state: State, edited: Edited) -> tuple[dict[TaskId, Json], list[Problem]]:
        """Load the outputs of completed tasks by which new edges are decided."""
        limit = self.options.limits.max_resolved_arguments_bytes
        wanted: dict[TaskId, TaskId] = {}
        size = 0
        for edge in edited.change.linked:
            source = state.tasks.get(edge.source_task_id)
            if source is None or source.status is not TaskStatus.COMPLETED:
                continue
            if (edge.condition is not None or edge.data_requirements) and edge.source_task_id not in wanted:
                wanted[edge.source_task_id] = edge.target_task_id
                size += source.output.size_bytes if source.output is not None else 0
        if size > limit:
            told = f"new edges look at outputs of {size:,} bytes; at most {limit:,} are allowed."
            fix = "Link from a task whose output is smaller, or without condition and data_requirements."
            return {}, [Problem(_place(edited), told, fix)]
        found = await self.storage.load_outputs(state.orchestration_id, list(wanted)) if wanted else {}
        return {task_id: json.loads(text) for task_id, text in found.items()}, []

    def _estimate(self, dag: TaskDAG) -> dict[str, float] | None:
        if not dag.nodes or len(dag.nodes) > _TRIED_OUT:
            return None
        found = estimate(dag, self.options.concurrency)
        return {
            "tasks": found["tasks"],
            "width": found["width"],
            "critical_path_seconds": found["critical_path_seconds"],
            "expected_seconds": found["expected_seconds"],
        }


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is wanted."""

    operations: object
    undo_to: int | None
    dry_run: bool
    by: str
    reason: str


def _check_arguments(
    operations: object, expected_revision: object, undo_to: object, dry_run: bool, by: object
) -> None:
    for name, value in (("expected_revision", expected_revision), ("undo_to", undo_to)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InvalidArgumentError(name, value, "the number of a revision, from 1")
    is_empty = operations in ((), [], None, "", "[]")
    if is_empty and undo_to is None and not dry_run:
        fix = 'Send for example {"op": "set", "task_id": "load", "timeout_seconds": 600}.'
        raise InvalidArgumentError("operations", operations, "at least one operation, or undo_to", fix)
    if undo_to is not None and not is_empty:
        raise InvalidArgumentError(
            "undo_to", undo_to, "operations or undo_to, not both", "Send two edits, one after the other."
        )
    if not isinstance(by, str) or not by.strip() or by == _PLANNER:
        raise InvalidArgumentError("by", by, "who wants it: person, caller, or a name; not planner")


def _refuse(problems: Sequence[Problem], asked: _Asked) -> None:
    if problems and not asked.dry_run:
        raise EditRefusedError(in_order(problems))


def _refuse_state(orchestration_id: str, state: OrchestrationStatus) -> None:
    if state in _EDITABLE:
        return
    match state:
        case OrchestrationStatus.PLANNING:
            possible = "Its plan is still being made; wait until it is whole."
        case OrchestrationStatus.FAILED | OrchestrationStatus.CANCELLED:
            possible = "Retry it first: what is to be changed waits then. Or edit its plan, and run that."
        case _:
            possible = "Running and paused ones can; edit its plan, and run that."
    raise NotPossibleError(f"Orchestration {orchestration_id!r}", state, "edited", possible)


def _place(edited: Edited) -> str:
    return "operations" if edited.undoes is None else "undo_to"


def _edit_of(edited: Edited, revision: int, values: Mapping[TaskId, Json]) -> Edit | Graft:
    if edited.alternative is None:
        return Edit(expected_revision=revision, change=edited.change, values=values, undoes=edited.undoes)
    return graft_of(edited, revision)


def graft_of(edited: Edited, revision: int) -> Graft:
    """Return what is to take a task's place, as it is sent to whoever drives.

    Args:
        edited: An edit that came to an alternative for one task.
        revision: The revision it was made for.
    """
    alternative = edited.alternative
    assert alternative is not None, "asked only where a task is to be replaced"
    return Graft(
        task_id=alternative.task_id,
        expected_revision=revision,
        tasks=tuple(alternative.dag.nodes.values()),
        edges=tuple(alternative.dag.edges),
        routes=edited.routes,
        delivers=alternative.delivers,
    )
