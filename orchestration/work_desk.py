"""Work for whoever asks: giving out offered tasks, and taking what is reported of them.

May import: orchestration.* but for planners, submission and the façade, anyio, stdlib.

Any process may give out and take in: both are one transaction in the shared state (`Storage.claim_offer`,
`Storage.report_claim`), and whoever drives reads of it. What is accepted here is durable; what came of it is added
where the driver says so soon.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import anyio
import anyio.lowlevel

from orchestration.claim_records import (
    Claim,
    ClaimReport,
    ClaimRequest,
    ClaimVerdict,
    OfferView,
    ReportStatus,
)
from orchestration.dag_file import dag_from_json
from orchestration.editor import OrchestrationEditor, graft_of
from orchestration.edits.checks import CALLER
from orchestration.edits.editing import EditRefusedError, edit_graph, in_order, subject_of
from orchestration.edits.targets import Journal
from orchestration.engine.inputs import AlternativeFound
from orchestration.engine.splice import plan_revision
from orchestration.engine.task_state import TaskState
from orchestration.errors import (
    AttemptFailedError,
    InvalidArgumentError,
    NotPossibleError,
    Problem,
    StorageError,
    UnroutableTaskError,
)
from orchestration.execution.outputs import encode_output
from orchestration.execution.requests import input_of
from orchestration.logs import get_logger
from orchestration.models import Json, OrchestrationId, TaskId, TaskStatus, as_unicode
from orchestration.ports import ControlAction, ControlRequest, Graft
from orchestration.redaction import Redactor
from orchestration.systems.base import bounded

log = get_logger()

MAX_WAIT_SECONDS = 45.0
"""Longest wait for work; a client gives up on longer calls."""

HEARD_SECONDS = 1.0
"""How long to wait for the driver to say what a report led to."""

MAX_NAME_CHARS = 100
MAX_SKILLS = 50
MAX_SUMMARY_CHARS = 2_000
MAX_EVIDENCE = 20
MAX_EVIDENCE_CHARS = 1_000

_LOOK_SECONDS = 0.1
"""Between two looks for work, or for what a report led to."""

_LISTED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NoWork:
    """Why there is nothing for a worker now."""

    open: int = 0
    """Offers that are open, for whomever."""
    claimed: int = 0
    """Offers that others have."""
    lacking: Mapping[str, int]
    """Skills the worker has not, each with how many open offers ask for it."""
    avoided: int = 0
    """Open offers that this worker failed or gave back, and others go first."""
    unfinished: int = 0
    """Orchestrations that have not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What became of a report."""

    verdict: ClaimVerdict
    is_heard: bool = False
    """Whether the driver has said what it led to."""
    unblocked: tuple[TaskId, ...] = ()
    """Tasks that may begin now because of it."""
    refusal: str = ""
    """Why the driver could do nothing with it."""


class WorkDesk(OrchestrationEditor):
    """What workers ask and say."""

    async def claim_task(
        self,
        worker: str,
        *,
        orchestration_id: OrchestrationId | None = None,
        skills: Sequence[str] = (),
        wait_seconds: float = 0.0,
    ) -> Claim | NoWork:
        """Give a worker the task it should do next; nobody else gets it while the claim holds.

        Args:
            worker: Who asks; the same name every time.
            orchestration_id: Only of this one; of whichever when absent.
            skills: What the worker has: tasks that ask for others are not given to it.
            wait_seconds: How long to wait for work, at most 45.

        Returns:
            The claim with its brief; or why there is none.

        Raises:
            InvalidArgumentError: A name is empty or too long, or the wait is no number of seconds.
            OrchestrationNotFoundError: There is no such orchestration.
        """
        name = _name("worker", worker)
        has = _skills(skills)
        _check_wait(wait_seconds)
        if orchestration_id is not None:
            record = await self.storage.load_orchestration(orchestration_id)
            if record.summary.state.is_terminal:
                raise NotPossibleError(
                    f"Orchestration {orchestration_id!r}", record.summary.state, "worked on", "It has ended."
                )
        until = self._clock.monotonic() + wait_seconds
        seen: int | None = None
        while True:
            changes = await self.storage.change_count()
            if seen is None or changes != seen or not self.storage.is_durable:
                claim = await self._claim(
                    ClaimRequest(
                        worker=name,
                        claim_id=f"claim-{secrets.token_hex(6)}",
                        skills=has,
                        orchestration_id=orchestration_id,
                        now_us=self._clock.now_us(),
                    )
                )
                if claim is not None:
                    return claim
            if self._clock.monotonic() >= until:
                return await self._why_none(name, has, orchestration_id)
            seen = None if self._has_session else changes
            await self._clock.sleep(_LOOK_SECONDS)

    async def report_task(
        self,
        claim_id: str,
        status: ReportStatus,
        *,
        summary: str = "",
        output: Json = None,
        evidence: Sequence[str] = (),
        subtasks: Sequence[Mapping[str, Any]] = (),
    ) -> Reported:
        """Take what a worker reports of its task; when this returns, it is durable.

        Args:
            claim_id: The claim.
            status: `progress`: it goes on, and the lease begins anew. `done`, with the output. `failed`: this attempt
                has; it may be tried again. `blocked`: it can't be done as it stands. `release`: somebody else may.
            summary: What was done, or why not, in a few words.
            output: With `done`: what the task delivers.
            evidence: What shows it: paths, addresses, commands with what they printed.
            subtasks: Tasks to be done in its place, as a draft: the claim ends, and the last one delivers.

        Raises:
            InvalidArgumentError: A field has a wrong type or size; nothing was reported.
            ClaimNotFoundError: There is no such claim.
            EditRefusedError: The subtasks are no plan; nothing was reported.
            UnroutableTaskError: Nothing can run one of the subtasks; nothing was reported.
        """
        if status not in get_args(ReportStatus):
            raise InvalidArgumentError("status", status, " | ".join(get_args(ReportStatus)))
        report = ClaimReport(
            status=status,
            summary=self._redactor.text(_summary(summary)),
            output=self._output(output, status),
            evidence=tuple(self._redactor.text(each) for each in _evidence(evidence)),
            now_us=self._clock.now_us(),
        )
        graft = None
        if subtasks:
            if status not in {"progress", "release"}:
                fix = "Report them with status progress; the claim ends with them."
                raise InvalidArgumentError("subtasks", f"with status {status}", "status progress", fix)
            claim = await self.storage.load_claim(claim_id)
            if claim.state in {"active", "expired"}:  # what has ended is answered as it was the first time
                graft = await self._graft(claim, subtasks)
        verdict = await self.storage.report_claim(claim_id, report, graft)
        log.info(
            "A worker has reported",
            operation="CLAIM_REPORTED",
            orchestration_id=verdict.claim.orchestration_id,
            task_id=verdict.claim.task_id,
            status=status,
            is_accepted=verdict.is_accepted,
        )
        if not verdict.is_accepted or verdict.control_id is None:
            return Reported(verdict=verdict)
        await self._tell_driver()
        return await self._what_it_led_to(verdict, verdict.control_id)

    async def load_offers(self, orchestration_id: OrchestrationId | None = None) -> list[OfferView]:
        """Return what is offered to agents, and who has it: of one orchestration, or of all that go on."""
        return await self.storage.load_offers(orchestration_id, limit=_LISTED)

    async def _claim(self, request: ClaimRequest) -> Claim | None:
        """Take an offer, if there is one; where nobody hears of it any more, it is given back and not an attempt."""
        with anyio.CancelScope(shield=True):
            claim = await self.storage.claim_offer(request)
            if claim is not None:
                await self._tell_driver()
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
        except anyio.get_cancelled_exc_class():
            if claim is not None:
                with anyio.CancelScope(shield=True):
                    await self.report_task(claim.claim_id, "release", summary="whoever asked went away")
            raise
        return claim

    @property
    def _redactor(self) -> Redactor:
        """Takes secrets out of what a worker says: it may have seen one on this machine."""
        return self._world.registry.redactor

    @property
    def _has_session(self) -> bool:
        return bool(self._world.sessions)

    async def _tell_driver(self) -> None:
        """Have this process's own driver look into its inbox at once, where it drives anything."""
        for session in list(self._world.sessions):
            try:
                await session.watch.look(is_told=True)
            except StorageError as exc:  # it looks again by itself
                log.warning("Can't reach the shared state", operation="WATCH_FAILED", reason=str(exc))

    async def _why_none(
        self, worker: str, skills: tuple[str, ...], orchestration_id: OrchestrationId | None
    ) -> NoWork:
        views = await self.storage.load_offers(orchestration_id, states=["open", "claimed"], limit=_LISTED)
        open_ones = [view for view in views if view.state == "open"]
        lacking = Counter(skill for view in open_ones for skill in view.skills if skill not in skills)
        fitting = [view for view in open_ones if all(skill in skills for skill in view.skills)]
        return NoWork(
            open=len(open_ones),
            claimed=len(views) - len(open_ones),
            lacking=dict(lacking.most_common(10)),
            avoided=sum(worker in view.failed_by or _gave_back(view, worker) for view in fitting),
            unfinished=len(await self.storage.list_unfinished()),
        )

    def _output(self, output: Json, status: ReportStatus) -> Json:
        if status != "done":
            if output is not None:
                raise InvalidArgumentError("output", "…", "nothing", "only `done` takes an output.")
            return None
        try:
            jsonable, _, _ = encode_output("reported", output, self.options.limits, self._redactor)
        except AttemptFailedError as exc:
            raise InvalidArgumentError("output", "…", "JSON that is not too large", str(exc)) from exc
        return jsonable

    async def _graft(self, claim: Claim, subtasks: Sequence[Mapping[str, Any]]) -> Graft:
        """Return what is to be done in place of a claimed task, checked whole and routed."""
        identifier, task_id = claim.orchestration_id, claim.task_id
        journal = Journal(identifier, dag_from_json(await self.storage.load_dag(identifier)))
        await journal.read(self.storage)
        state = journal.state()
        task = state.tasks.get(task_id)
        if task is None or not _has(task, claim):
            told = "not held by this claim" if task is None else str(task.status)
            raise NotPossibleError(f"Task {task_id!r}", told, "replaced by its worker", "Claim it first.")
        # On this copy of the state it asks how to go on, and what the worker sends is the answer.
        task.status, task.is_asked = TaskStatus.REPLANNING, True
        operation = {"op": "replace", "task_id": task_id, "tasks": list(subtasks)}
        edited = edit_graph(subject_of(state), [operation], by=CALLER, limits=self.options.limits)
        if edited.problems:
            raise EditRefusedError(in_order(edited.problems))
        edited, unroutable, _ = await self._routed(edited, allows_agent=True)  # a worker is there: it asks
        if unroutable:
            raise UnroutableTaskError(unroutable)
        graft = graft_of(edited, state.revision)
        request = ControlRequest(action=ControlAction.EDIT, edit=graft, by=claim.worker)
        found, _ = input_of(identifier, request, self.options.limits)
        assert isinstance(found, AlternativeFound), "what a graft stands for"
        refusal = plan_revision(state, state.tasks[task_id], found)
        if isinstance(refusal, str):
            raise EditRefusedError([Problem("subtasks", f"can't take the place of {task_id!r}: {refusal}.")])
        return graft

    async def _what_it_led_to(self, verdict: ClaimVerdict, control_id: int) -> Reported:
        """Wait a little for the driver's answer."""
        until = self._clock.monotonic() + HEARD_SECONDS
        while True:
            is_over = self._clock.monotonic() >= until
            answer = await self.storage.load_control_answer(control_id)
            if answer is not None:
                claim = await self.storage.load_claim(verdict.claim.claim_id)
                is_looked_at = claim.state == "done" and claim.is_accepted is None and answer.is_done
                if is_looked_at and not is_over:
                    await self._clock.sleep(_LOOK_SECONDS / 2)
                    continue
                return Reported(
                    verdict=replace(verdict, claim=claim),
                    is_heard=True,
                    unblocked=answer.task_ids,
                    refusal="" if answer.is_done else answer.message,
                )
            if is_over:
                return Reported(verdict=verdict)
            await self._clock.sleep(_LOOK_SECONDS / 2)


def _gave_back(view: OfferView, worker: str) -> bool:
    claim = view.claim
    return claim is not None and claim.worker == worker and claim.state == "released"


def _has(task: TaskState, claim: Claim) -> bool:
    """Whether a worker has a task; whoever drives may not have heard of it yet."""
    if task.status is TaskStatus.OFFERED:
        return claim.state == "active" and claim.number == task.offers
    return task.status is TaskStatus.CLAIMED and task.claim == claim.claim_id


def _name(field: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_NAME_CHARS:
        fix = "Choose a name and keep it, for example `claude-1`."
        raise InvalidArgumentError(field, value, f"a name of 1 to {MAX_NAME_CHARS} characters", fix)
    return as_unicode(value.strip())


def _skills(skills: object) -> tuple[str, ...]:
    if isinstance(skills, str) or not isinstance(skills, Sequence) or len(skills) > MAX_SKILLS:
        raise InvalidArgumentError("skills", skills, f"a list of at most {MAX_SKILLS} names")
    return tuple(dict.fromkeys(_name(f"skills[{index}]", each) for index, each in enumerate(skills)))


def _check_wait(seconds: object) -> None:
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= float(str(seconds)) <= MAX_WAIT_SECONDS:
        raise InvalidArgumentError("wait_seconds", seconds, f"seconds, 0 to {MAX_WAIT_SECONDS:g}")


def _summary(summary: object) -> str:
    if not isinstance(summary, str):
        raise InvalidArgumentError("summary", summary, "a text")
    return bounded(as_unicode(summary), MAX_SUMMARY_CHARS)


def _evidence(evidence: object) -> tuple[str, ...]:
    if isinstance(evidence, str) or not isinstance(evidence, Sequence) or len(evidence) > MAX_EVIDENCE:
        raise InvalidArgumentError("evidence", evidence, f"a list of at most {MAX_EVIDENCE} texts")
    for index, each in enumerate(evidence):
        if not isinstance(each, str):
            raise InvalidArgumentError(f"evidence[{index}]", each, "a text")
    return tuple(bounded(as_unicode(each), MAX_EVIDENCE_CHARS) for each in evidence)
