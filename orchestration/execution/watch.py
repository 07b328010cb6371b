"""Keeps a coordinator in touch with other processes: gives heartbeats, and takes requests out of the shared inbox.

May import: orchestration.{clock, errors, logs, options, ports}, orchestration.execution.{coordinator,
driven, requests},
stdlib.

One loop looks, every `TICK_SECONDS`, whether another process has changed the state at all, and reads the inbox only
then. A heartbeat is due every third of a lease. After a longer gap (the process was suspended, the machine slept, the
loop was stuck) the leases are renewed before anything else is committed: what was lost meanwhile is let go.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio

from orchestration.clock import Clock
from orchestration.engine.inputs import Interrupt
from orchestration.errors import InvalidArgumentError, LeaseLostError, StorageError
from orchestration.execution.coordinator import ParallelCoordinator
from orchestration.execution.driven import Driven
from orchestration.execution.requests import input_of
from orchestration.logs import get_logger
from orchestration.options import OrchestratorOptions
from orchestration.ports import ControlAnswer, DriverIdentity, PendingControl, Storage

TICK_SECONDS = 0.2
"""Between two looks at the state's change count: a request is noticed within 300 ms."""

PROGRESS_SECONDS = 1.0
"""Least time between two looks at what running attempts say of their progress."""

log = get_logger()


class Watch:
    """Watches over the leases and the inbox of one coordinator.

    Args:
        storage: Where leases and inbox are.
        coordinator: Drives.
        identity: Who drives.
        clock: Where time comes from.
        options: The lease's length, and the limits of what a request may bring.
        draw: Draws a number in [0, 1): the jitter of a claim that came to nothing.
    """

    def __init__(
        self,
        storage: Storage,
        coordinator: ParallelCoordinator,
        identity: DriverIdentity,
        clock: Clock,
        options: OrchestratorOptions,
        draw: Callable[[], float],
    ) -> None:
        self._draw = draw
        self._storage = storage
        self._coordinator = coordinator
        self._identity = identity
        self._clock = clock
        self._options = options
        self._renewed_at = -math.inf
        self._progress_at = -math.inf
        self._changes: int | None = None
        self._taken: set[int] = set()
        """Requests on their way through the coordinator."""
        self._heard: set[int] = set()
        """Requests that were answered, or should have been: a list that was read before still holds them."""

    async def run(self) -> None:
        """Watch until cancelled; a fault of the storage is told once, and looked after with the next tick."""
        told = ""
        while True:
            await self._clock.sleep(TICK_SECONDS)
            if not self._coordinator.driven:
                self._changes = None
                continue
            try:
                await self.renew_if_due()
                self._take_progress()
                await self.look()
            except StorageError as exc:
                if str(exc) != told:
                    log.warning("Can't reach the shared state", operation="WATCH_FAILED", reason=str(exc))
                told = str(exc)
            else:
                told = ""

    def _take_progress(self) -> None:
        """Have what attempts say of their progress stored, now and then, for whoever looks from elsewhere."""
        now = self._clock.elapsed()
        if now - self._progress_at >= PROGRESS_SECONDS:
            self._progress_at = now
            self._coordinator.take_progress()

    @property
    def has_beaten(self) -> bool:
        """Whether a heartbeat was given."""
        return self._renewed_at > -math.inf

    async def renew_if_due(self) -> None:
        """Give a heartbeat when a third of the lease has passed since the last one; let go of what was lost."""
        if self._clock.elapsed() - self._renewed_at >= self._options.lease_seconds / 3:
            await self.renew()

    async def renew(self) -> None:
        """Give a heartbeat, and let go of every orchestration somebody else has taken over."""
        began = self._clock.elapsed()
        leases = [driven.lease for driven in self._coordinator.driven.values()]
        lost = await self._storage.renew_leases(
            self._identity,
            leases,
            lease_seconds=self._options.lease_seconds,
            now_us=self._clock.now_us(),
        )
        self._renewed_at = began
        by_id = {lease.orchestration_id: lease for lease in leases}
        for orchestration_id in lost:
            driven = self._coordinator.driven.get(orchestration_id)
            if driven is not None and driven.lease == by_id[orchestration_id]:
                log.warning(
                    "Another process took the orchestration over; its attempts here are ended",
                    operation="ORCHESTRATION_FENCED",
                    orchestration_id=orchestration_id,
                )
                self._coordinator.let_go(orchestration_id, LeaseLostError(orchestration_id))

    async def carry_out_stored(self, driven: Driven) -> None:
        """Carry out what was asked of an orchestration before it was adopted here, and before anything of it starts.

        Requests that were stored for a driver that is gone must not wait: what was to be cancelled would start first.
        """
        if not self._storage.is_durable:
            return
        identifier = driven.lease.orchestration_id
        stored = [
            pending
            for pending in await self._storage.pending_controls()
            if pending.orchestration_id == identifier and pending.control_id not in self._taken
        ]
        self._taken.update(pending.control_id for pending in stored)
        try:
            if stored:
                await self._coordinator.request(Interrupt(orchestration_id=identifier))
            for pending in stored:
                if self._coordinator.driven.get(identifier) is not driven:
                    return  # one of them was its end
                answered = anyio.Event()
                self._take(driven, pending, answered.set)
                await answered.wait()
        finally:
            self._taken.difference_update(pending.control_id for pending in stored)

    async def look(self, *, is_told: bool = False) -> None:
        """Take what is new in the inbox.

        Args:
            is_told: Something of this very process has come in, which no count of others' changes shows.
        """
        changes = await self._storage.change_count()
        if changes == self._changes and not is_told:
            return
        waiting = await self._storage.pending_controls()
        self._heard &= {pending.control_id for pending in waiting}
        for pending in waiting:
            driven = self._coordinator.driven.get(pending.orchestration_id)
            is_known = pending.control_id in self._taken or pending.control_id in self._heard
            if driven is not None and not is_known:
                self._take(driven, pending)
        self._changes = changes  # only now: a look that failed is made again

    def _take(
        self, driven: Driven, pending: PendingControl, on_answered: Callable[[], None] = lambda: None
    ) -> None:
        """Hand a request to the coordinator, which stores its answer with what it led to."""
        log.info(
            "Request of another process",
            operation="CONTROL_TAKEN",
            orchestration_id=pending.orchestration_id,
            action=pending.request.action.value,
        )

        try:
            item, output = input_of(
                pending.orchestration_id, pending.request, self._options.limits, self._draw()
            )
        except InvalidArgumentError as exc:
            self._coordinator.refuse(
                driven,
                ControlAnswer(control_id=pending.control_id, is_done=False, code=exc.code, message=str(exc)),
            )
            on_answered()
            return

        def answered() -> None:
            self._taken.discard(pending.control_id)
            self._heard.add(pending.control_id)
            on_answered()

        self._taken.add(pending.control_id)
        self._coordinator.carry_out(item, output, pending.control_id, answered)
