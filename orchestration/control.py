"""What people and agents ask of orchestrations that exist: pause, resume, cancel, retry, decide, approve, reject.

May import: orchestration.* but for planners, submission and the façade, anyio, stdlib.

Whoever drives an orchestration carries a request out. Where this object does, it is put to its coordinator; where
another process does, it is stored for it and its answer waited for; where nobody does, it is carried out here, under a
lease that is given back at once unless the request is to go on.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestration.engine.events import Recorded
from orchestration.engine.inputs import DecisionKind, Interrupt
from orchestration.engine.state import State
from orchestration.errors import (
    ControlPendingError,
    InvalidArgumentError,
    LeaseHeldError,
    NotPossibleError,
    OrchestrationInterruptedError,
    OrchestrationNotFoundError,
    RefusedByDriverError,
    StaleFencingTokenError,
)
from orchestration.execution.driven import Driven
from orchestration.execution.letters import reopened_in, revision_in
from orchestration.execution.requests import Request, input_of
from orchestration.execution.session import Session
from orchestration.execution.watch import TICK_SECONDS
from orchestration.logs import get_logger
from orchestration.models import Json, OrchestrationId, OrchestrationStatus, TaskId, as_unicode
from orchestration.ports import (
    ControlAction,
    ControlAnswer,
    ControlRequest,
    OrchestrationRecord,
    StoredOutput,
)
from orchestration.previewer import OrchestrationPreviewer
from orchestration.reader import is_orphaned
from orchestration.systems.base import bounded

log = get_logger()

_TRIES = 5
"""How often a request follows its orchestration from driver to driver."""

_ANSWER_SECONDS = 0.05
"""Between two looks whether a request was answered."""

DRIVER_SECONDS = 1.0
"""Between two looks whether the driver a request waits for is still there."""

_HERE = 0
"""The id of an answer to a request that was never stored."""

_ACTIONS = {
    ControlAction.PAUSE: "paused",
    ControlAction.RESUME: "resumed",
    ControlAction.CANCEL: "cancelled",
    ControlAction.RETRY: "retried",
    ControlAction.DECIDE: "decided about",
    ControlAction.APPROVE: "agreed to",
    ControlAction.REJECT: "refused",
    ControlAction.EDIT: "edited",
    ControlAction.CLAIM: "claimed",
    ControlAction.REPORT: "reported of",
}
_GOES_ON = frozenset({ControlAction.RESUME, ControlAction.RETRY})
"""Requests after which whoever carried them out drives."""


class OrchestrationController(OrchestrationPreviewer):
    """What can be asked of orchestrations that exist."""

    async def pause(self, orchestration_id: OrchestrationId, reason: str = "") -> None:
        """Let running attempts finish and start nothing more.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
            NotPossibleError: It is not running. `RefusedByDriverError` where its driver says so.
            ControlPendingError: Its driver has not answered yet; the request stays stored.
        """
        await self.control(orchestration_id, _request(ControlAction.PAUSE, reason))

    async def cancel_orchestration(self, orchestration_id: OrchestrationId, reason: str = "") -> bool:
        """End an orchestration: what has not started at once, what runs as soon as it can be stopped.

        Returns:
            True when it was asked to end; False when it had ended, or was ending, already.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
            ControlPendingError: Its driver has not answered yet; the request stays stored.
        """
        try:
            await self.control(orchestration_id, _request(ControlAction.CANCEL, reason))
        except NotPossibleError:
            return False
        except RefusedByDriverError as exc:
            if exc.code != NotPossibleError.code:
                raise
            return False
        return True

    async def resume(self, orchestration_id: OrchestrationId) -> None:
        """Make an orchestration go on, whatever stopped it. Without `async with`, returns when it has ended.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
            NotPossibleError: It has ended, or goes on already.
            LeaseHeldError: Another process drives it, and it is not paused.
            UnroutableTaskError: It needs systems that are not configured here.
        """
        await self._see_through(orchestration_id, _request(ControlAction.RESUME))

    async def retry(
        self, orchestration_id: OrchestrationId, tasks: Sequence[TaskId] = (), reason: str = ""
    ) -> tuple[TaskId, ...]:
        """Run failed tasks again, and what was skipped because of them; completed tasks stay.

        Reopens an orchestration that failed or was cancelled: its cancelled tasks are run, too. Each begins a new
        generation, with a new idempotency key. Without `async with`, returns when the orchestration has ended again.

        Args:
            orchestration_id: The orchestration.
            tasks: Failed tasks; all of them when empty.
            reason: Kept in the journal.

        Returns:
            The tasks that are pending again.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
            TaskNotFoundError: It has no such task.
            NotPossibleError: There is nothing to retry, or a task has not failed.
            ControlPendingError: Its driver has not answered yet; the request stays stored.
            UnroutableTaskError: It needs systems that are not configured here.
        """
        request = _request(ControlAction.RETRY, reason, tasks=tuple(tasks))
        return await self._see_through(orchestration_id, request)

    async def decide(
        self,
        orchestration_id: OrchestrationId,
        task_id: TaskId,
        decision: DecisionKind,
        *,
        output: Json = None,
        reason: str = "",
        by: str = "person",
    ) -> None:
        """Say what became of an `unknown` task, or what is to become of it.

        Answers as well an open question about a task that is out of attempts and has no alternative
        (`waiting_for_answer` of the status): run it again as it is, done by somebody else, or given up.

        Args:
            orchestration_id: The orchestration.
            task_id: A task that must not be repeated on its own and whose attempt nobody knows the end of; or one
                about which the caller is asked.
            decision: `retry`: run it again, under the same idempotency key. `done`: it happened. `failed`: it did not,
                and is not to be tried again.
            output: With `done`: the task's output.
            reason: Kept in the journal.
            by: Who decides.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
            TaskNotFoundError: It has no such task.
            NotPossibleError: The task waits for no decision.
            InvalidArgumentError: The decision is none of the three, or the output can't be stored.
            ControlPendingError: Its driver has not answered yet; the request stays stored.
        """
        if decision not in ("retry", "done", "failed"):
            raise InvalidArgumentError("decision", decision, "retry, done or failed")
        if output is not None and decision != "done":
            raise InvalidArgumentError(
                "output", output, "nothing", "only the decision `done` takes an output."
            )
        request = _request(
            ControlAction.DECIDE, reason, tasks=(task_id,), decision=decision, output=output, by=by
        )
        await self.control(orchestration_id, request)

    async def approve(
        self,
        orchestration_id: OrchestrationId,
        task_id: TaskId,
        *,
        digest: str | None = None,
        reason: str = "",
        by: str = "person",
    ) -> None:
        """Agree that a task runs with exactly what is asked about.

        Args:
            orchestration_id: The orchestration.
            task_id: A task with an `approval` whose arguments and inputs are all there.
            digest: Of what was shown (`load_approvals`): if something else is asked about by now, nothing is agreed
                to. None: what is asked about when the request is carried out.
            reason: Kept in the journal.
            by: Who agrees: `person`, or `caller`, which may only where the task says `approval: caller`.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
            TaskNotFoundError: It has no such task.
            NotPermittedError: Only a person may agree to this task. `RefusedByDriverError` where its driver says so.
            NotPossibleError: The task waits for nobody's yes, or for a yes to something else.
            ControlPendingError: Its driver has not answered yet; the request stays stored.
        """
        if digest is not None and not (isinstance(digest, str) and digest):
            raise InvalidArgumentError("digest", digest, "the digest of what was shown, or nothing")
        request = _request(ControlAction.APPROVE, reason, tasks=(task_id,), by=by, digest=digest)
        await self.control(orchestration_id, request)

    async def reject(
        self, orchestration_id: OrchestrationId, task_id: TaskId, *, reason: str = "", by: str = "person"
    ) -> None:
        """Refuse that a task runs: it fails, and what requires it is skipped.

        Args:
            orchestration_id: The orchestration.
            task_id: A task that waits for somebody's yes.
            reason: Becomes part of why it failed.
            by: Who refuses; as for `approve`.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
            TaskNotFoundError: It has no such task.
            NotPermittedError: Only a person may answer for this task. `RefusedByDriverError` where its driver says so.
            NotPossibleError: The task waits for nobody's yes.
            ControlPendingError: Its driver has not answered yet; the request stays stored.
        """
        await self.control(orchestration_id, _request(ControlAction.REJECT, reason, tasks=(task_id,), by=by))

    async def control(self, orchestration_id: OrchestrationId, request: ControlRequest) -> ControlAnswer:
        """Have a request carried out by whoever drives the orchestration, here when nobody does.

        Raises:
            StateError: It does not fit the state; nothing was changed.
        """
        async with self._open() as session:
            return await self._control(session, orchestration_id, request)

    async def _see_through(
        self, orchestration_id: OrchestrationId, request: ControlRequest
    ) -> tuple[TaskId, ...]:
        """Have a request to go on carried out; without a session that lasts, stay until the end."""
        async with self._open() as session:
            answer = await self._control(session, orchestration_id, request)
            live = self._live.get(orchestration_id)
            if session is not self._session and live is not None:
                await live.driven.finished.wait()
                if live.driven.failure is not None:
                    raise live.driven.failure
            return answer.task_ids

    async def _control(
        self, session: Session, orchestration_id: OrchestrationId, request: ControlRequest
    ) -> ControlAnswer:
        item, output = input_of(orchestration_id, request, self.options.limits)
        record: OrchestrationRecord | None = None
        for _ in range(_TRIES):
            events = await self._requested(orchestration_id, item, output)
            if events is not None:
                return _done(events)
            record = await self.storage.load_orchestration(orchestration_id)
            _refuse_ended(orchestration_id, record.summary.state, request.action)
            if self._is_driven_elsewhere(record):
                answer = await self._ask_driver(record, request)
            else:
                answer = await self._carry_out_here(session, record, request, item, output)
            if answer is not None:
                return answer
        assert record is not None, "there was at least one try"
        raise LeaseHeldError(orchestration_id, str(record.holder))

    # Here

    async def _requested(
        self, orchestration_id: OrchestrationId, item: Request, output: StoredOutput | None
    ) -> list[Recorded] | None:
        """Carry a request out if this object drives the orchestration; None when it does not, or not any more.

        Raises:
            StateError: It does not fit the orchestration's state.
        """
        while (live := self._live.get(orchestration_id)) is not None:
            try:
                return await self._coordinating(live).request(item, output)
            except (OrchestrationNotFoundError, OrchestrationInterruptedError, StaleFencingTokenError):
                if self._live.get(orchestration_id) is live:
                    raise
                continue  # it ended, or was let go, while the request was on its way
        return None

    async def _carry_out_here(
        self,
        session: Session,
        record: OrchestrationRecord,
        request: ControlRequest,
        item: Request,
        output: StoredOutput | None,
    ) -> ControlAnswer | None:
        """Carry a request out for an orchestration nobody drives; None when somebody began to meanwhile."""
        identifier = record.orchestration_id
        coordinator = session.coordinator
        async with self._deciding():
            if identifier in self._live:
                return None

            def check(state: State) -> None:
                _refuse_ended(identifier, state.status, request.action)
                if request.action in _GOES_ON:
                    self._refuse_missing(state)

            try:
                async with self._adopted(session, record, check) as driven:
                    if driven.finished.is_set():
                        return None  # a stored request was its end; what is possible now is looked at anew
                    events = await self._put(session, request, driven.state.status, item, output)
                    if driven.finished.is_set():
                        pass  # that was its end
                    elif request.action in _GOES_ON or request.action is ControlAction.CANCEL:
                        self._watch(session, record, driven, [])
                        coordinator.begin(driven)
                    else:
                        await self._put_down(session, driven)
            except LeaseHeldError:
                return None
        if request.action is ControlAction.CANCEL:
            await driven.finished.wait()
            if driven.failure is not None:
                raise driven.failure
        return _done(events)

    async def _put_down(self, session: Session, driven: Driven) -> None:
        """Let go of what was held only for a request, and give its lease back."""
        session.coordinator.let_go(driven.lease.orchestration_id)
        await self.storage.release_lease(driven.lease)

    async def _put(
        self,
        session: Session,
        request: ControlRequest,
        status: OrchestrationStatus,
        item: Request,
        output: StoredOutput | None,
    ) -> list[Recorded]:
        """Put a request to the engine before anything of the orchestration is started."""
        coordinator = session.coordinator
        if request.action is ControlAction.RESUME and status is not OrchestrationStatus.PAUSED:
            return []  # what stopped it was the end of its driver
        if request.action is ControlAction.DECIDE:
            await coordinator.request(Interrupt(orchestration_id=item.orchestration_id))
        return await coordinator.request(item, output)

    # Elsewhere

    def _is_driven_elsewhere(self, record: OrchestrationRecord) -> bool:
        holder = record.holder
        if holder is None or holder == self._world.identity:
            return False
        return not self._world.observer.is_over(holder, record.driver, record.orchestration_id, record.token)

    async def _ask_driver(self, record: OrchestrationRecord, request: ControlRequest) -> ControlAnswer | None:
        """Store a request for the driver and return its answer; None when the driver has gone without one.

        Raises:
            RefusedByDriverError: It was refused.
            ControlPendingError: There is no answer yet; the request stays stored.
            LeaseHeldError: It is to be resumed, and goes on already.
        """
        identifier = record.orchestration_id
        holder = str(record.holder)
        is_going_on = record.summary.state is not OrchestrationStatus.PAUSED
        if await self._is_silent(record):
            return None
        if request.action is ControlAction.RESUME and is_going_on:
            raise LeaseHeldError(identifier, holder)
        if not self.storage.is_durable:  # another orchestrator on the same memory does not look for requests
            raise LeaseHeldError(identifier, holder)
        control_id = await self.storage.send_control(identifier, request, sent_at_us=self._clock.now_us())
        waited = 0.0
        looked = 0.0
        while waited < self.options.control_wait_seconds:
            await self._clock.sleep(_ANSWER_SECONDS)
            waited += _ANSWER_SECONDS
            answer = await self.storage.load_control_answer(control_id)
            if answer is not None:
                if not answer.is_done:
                    raise RefusedByDriverError(answer.code, answer.message)
                return answer
            if waited - looked >= DRIVER_SECONDS:
                looked = waited
                present = await self.storage.load_orchestration(identifier)
                has_left = is_orphaned(present) or present.summary.state.is_terminal
                if has_left and await self.storage.withdraw_control(control_id):
                    return None
        raise ControlPendingError(identifier, holder, self.options.control_wait_seconds)

    async def _is_silent(self, record: OrchestrationRecord) -> bool:
        """Whether a driver that seems to be silent stays so for a lease length; waits for it where it seems so."""
        view = record.driver
        if record.holder is None or view is None:
            return False
        age_seconds = (self._clock.now_us() - view.beat_at_us) / 1_000_000
        if age_seconds < view.lease_seconds:
            return False
        until = self._clock.monotonic() + view.lease_seconds + DRIVER_SECONDS
        while self._clock.monotonic() < until:
            present = await self.storage.load_orchestration(record.orchestration_id)
            if not self._is_driven_elsewhere(present):
                return True
            if present.driver is None or present.driver.beats != view.beats:
                return False
            await self._clock.sleep(TICK_SECONDS)
        return False


def _request(
    action: ControlAction,
    reason: str = "",
    *,
    tasks: tuple[TaskId, ...] = (),
    decision: DecisionKind | None = None,
    output: Json = None,
    by: str = "person",
    digest: str | None = None,
) -> ControlRequest:
    for field, value in (("reason", reason), ("by", by), *(("tasks", task) for task in tasks)):
        if not isinstance(value, str):
            raise InvalidArgumentError(field, value, "a text")
    return ControlRequest(
        action=action,
        task_ids=tuple(as_unicode(task) for task in tasks),
        decision=decision,
        output=output,
        digest=digest,
        reason=bounded(as_unicode(reason)),
        by=bounded(as_unicode(by), 100),
    )


def _refuse_ended(
    orchestration_id: OrchestrationId, state: OrchestrationStatus, action: ControlAction
) -> None:
    """Refuse what can't be done with an orchestration that has ended."""
    if not state.is_terminal:
        return
    if action is not ControlAction.RETRY or state is OrchestrationStatus.COMPLETED:
        possible = (
            "It can be read." if state is OrchestrationStatus.COMPLETED else "It can be read, or retried."
        )
        raise NotPossibleError(f"Orchestration {orchestration_id!r}", state, _ACTIONS[action], possible)


def _done(events: list[Recorded]) -> ControlAnswer:
    return ControlAnswer(
        control_id=_HERE, is_done=True, task_ids=reopened_in(events), revision=revision_in(events)
    )
