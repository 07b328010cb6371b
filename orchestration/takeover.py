"""Going on with what lost its driver: by hand, or for as long as a server runs.

May import: orchestration.* but for planners, submission and the façade, anyio, stdlib.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from orchestration.control import DRIVER_SECONDS
from orchestration.driver import Live
from orchestration.engine.state import State
from orchestration.errors import (
    LeaseHeldError,
    NotPossibleError,
    OrchestrationError,
    Problem,
    StorageError,
    UnroutableTaskError,
)
from orchestration.execution.orphans import OrphanWatch
from orchestration.execution.session import Session
from orchestration.execution.watch import TICK_SECONDS
from orchestration.logs import get_logger
from orchestration.models import OrchestrationId, OrchestrationStatus
from orchestration.ports import OrchestrationRecord
from orchestration.reader import is_orphaned
from orchestration.work_desk import WorkDesk

log = get_logger()

_NO_PLANNER = "Its plan was still being made, and there is no planner here that could go on with it."


class OrchestrationKeeper(WorkDesk):
    """What can be done about orchestrations nobody drives."""

    def _missing(self, record: OrchestrationRecord) -> list[str]:
        """Return a sentence per thing that an orchestration needs to go on and that is missing or different here."""
        missing = super()._missing(record)
        if record.summary.state is OrchestrationStatus.PLANNING and self._world.planner is None:
            missing.append(_NO_PLANNER)
        return missing

    def _refuse_missing(self, state: State) -> None:
        """Refuse to drive an orchestration that needs systems, or a planner, which are not here.

        Raises:
            UnroutableTaskError: Something is missing; it names it.
        """
        super()._refuse_missing(state)
        if state.status is OrchestrationStatus.PLANNING and self._world.planner is None:
            fix = "configure a language model that plans, resume it where there is one, or cancel it."
            raise UnroutableTaskError([Problem(state.orchestration_id, _NO_PLANNER, fix)])

    async def resume_all(self) -> list[OrchestrationId]:
        """Take over every orchestration that lost its driver; paused ones stay paused.

        Without `async with`, returns when all have ended.

        Returns:
            Their ids. What could not be taken over (a system is missing) is left; its status says why.
        """
        taken: list[Live] = []
        async with self._open() as session:
            for record in await self.storage.list_unfinished():
                is_paused = record.summary.state is OrchestrationStatus.PAUSED
                # A lease of this very object may have outlived a storage fault that made it let go.
                is_free = is_orphaned(record) or record.holder == self._world.identity
                if is_paused or record.orchestration_id in self._live or not is_free:
                    continue
                try:
                    live = await self._try_to_take_over(session, record)
                except OrchestrationError as exc:  # of one of them: the others go on all the same
                    log.info(
                        "Left alone",
                        operation="TAKEOVER_FAILED",
                        orchestration_id=record.orchestration_id,
                        reason=str(exc),
                    )
                    continue
                if live is not None:
                    taken.append(live)
            if session is not self._session:
                for live in taken:
                    await live.driven.finished.wait()
                for live in taken:
                    if live.driven.failure is not None:
                        raise live.driven.failure
        return [live.record.orchestration_id for live in taken]

    async def take_over_orphans(
        self,
        on_taken: Callable[[OrchestrationId], Awaitable[None] | None] | None = None,
        on_looked: Callable[[], None] | None = None,
    ) -> None:
        """Go on, until cancelled, with whatever loses its driver and can be run here. For a server, in a session.

        At once where the driver was a process of this host that is gone, else when its lease has run out.

        Args:
            on_taken: Told of each orchestration that was taken over.
            on_looked: Called after every look, the first of them included.
        """
        async with self._open() as session:
            orphans = OrphanWatch(
                self.storage,
                self._world.observer,
                self._clock,
                lambda record: record.orchestration_id in self._live,
                self._world.identity,
            )
            while True:
                try:
                    found = await orphans.find()
                    await self._carry_out_forgotten(session, orphans)
                except StorageError as exc:
                    log.warning("Can't look for orphans", operation="TAKEOVER_FAILED", reason=str(exc))
                    found = []
                for record in found:
                    if await self._adopt_orphan(session, record, orphans) and on_taken is not None:
                        answer = on_taken(record.orchestration_id)
                        if answer is not None:
                            await answer
                if found:
                    orphans.forget()
                if on_looked is not None:
                    on_looked()
                await self._clock.sleep(TICK_SECONDS)

    async def _carry_out_forgotten(self, session: Session, orphans: OrphanWatch) -> None:
        """Carry out requests that were stored for a driver which ended, or paused, before it came to them."""
        longest_us = round((self.options.control_wait_seconds + DRIVER_SECONDS) * 1_000_000)
        for record in await orphans.find_requests(self._clock.now_us() - longest_us):
            try:
                await self._carry_out_stored(session, record)
            except OrchestrationError as exc:
                orphans.rest(record)
                log.warning(
                    "Can't carry out a stored request",
                    operation="CONTROL_FAILED",
                    orchestration_id=record.orchestration_id,
                    reason=str(exc),
                )

    async def _carry_out_stored(self, session: Session, record: OrchestrationRecord) -> None:
        """Take an orchestration for as long as its stored requests take, or go on with it if one of them says so."""
        async with self._deciding():
            if record.orchestration_id in self._live:
                return  # a call of this object was faster, and carries them out
            async with self._adopted(session, record, self._refuse_missing) as driven:
                if driven.finished.is_set():
                    return
                if driven.state.status in {OrchestrationStatus.RUNNING, OrchestrationStatus.CANCELLING}:
                    self._watch(session, record, driven, [])
                    session.coordinator.begin(driven)
                else:
                    await self._put_down(session, driven)

    async def _adopt_orphan(
        self, session: Session, record: OrchestrationRecord, orphans: OrphanWatch
    ) -> bool:
        """Go on with an orphan if it can be run here; a fault of one is no reason to leave the others.

        Where another process was faster there is nothing to rest from: it is no orphan any more.
        """
        if self._missing(record):
            orphans.rest(record)
            return False
        try:
            return await self._try_to_take_over(session, record) is not None
        except LeaseHeldError:
            return False
        except OrchestrationError as exc:
            orphans.rest(record)
            log.warning(
                "Can't go on with an orchestration that lost its driver",
                operation="TAKEOVER_FAILED",
                orchestration_id=record.orchestration_id,
                reason=str(exc),
            )
            return False

    async def _try_to_take_over(self, session: Session, record: OrchestrationRecord) -> Live | None:
        """Begin to drive an orchestration; None when it has ended meanwhile, or another call of this object was faster.

        Raises:
            OrchestrationError: Another process was faster, or it can't be run here.
        """
        try:
            live, is_new = await self._take_over(session, record)
        except NotPossibleError:
            return None
        if not is_new:
            return None
        log.info(
            "Goes on with an orchestration that lost its driver",
            operation="TAKEOVER",
            orchestration_id=record.orchestration_id,
            before=str(record.holder) if record.holder is not None else None,
        )
        return live
