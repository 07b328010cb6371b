"""Finds what lost its driver: unfinished orchestrations nobody drives, or whose driver is gone or silent for too long.

May import: orchestration.{clock, errors, models, ports}, orchestration.execution.{identity, leases}, stdlib.

The list of what is unfinished is read when the shared state has changed, at most once a second, and every few seconds
anyway. Whether the processes in it live is looked at with every call: that costs a look into `/proc` per process.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from orchestration.clock import Clock
from orchestration.errors import OrchestrationNotFoundError
from orchestration.execution.leases import LeaseObserver
from orchestration.models import OrchestrationId, OrchestrationStatus
from orchestration.ports import DriverIdentity, OrchestrationRecord, Storage

_LIST_SECONDS = 1.0
"""Least time between two lists: a busy database changes with every look."""

_AT_LEAST_SECONDS = 5.0
"""Most time between two lists: what could not be taken over may be free by now."""

_REST_SECONDS = 30.0
"""Rest before an orchestration is tried again that could not be taken over."""


class OrphanWatch:
    """Watches what other processes drive.

    Args:
        storage: Where the state is.
        observer: Judges drivers.
        clock: Where time comes from.
        is_ours: Whether this process drives an orchestration.
        identity: Of this process's driver.
    """

    def __init__(
        self,
        storage: Storage,
        observer: LeaseObserver,
        clock: Clock,
        is_ours: Callable[[OrchestrationRecord], bool],
        identity: DriverIdentity,
    ) -> None:
        self._storage = storage
        self._observer = observer
        self._clock = clock
        self._is_ours = is_ours
        self._identity = identity
        self._records: list[OrchestrationRecord] = []
        self._changes: int | None = None
        self._listed_at = -math.inf
        self._asked_at = -math.inf
        self._resting: dict[OrchestrationId, float] = {}
        """When it was last tried to take them over."""

    async def find(self) -> list[OrchestrationRecord]:
        """Return what may be taken over now, oldest first; paused ones wait for a person."""
        await self._list_anew()
        return [record for record in self._records if self._is_orphan(record)]

    async def find_requests(self, older_than_us: int) -> list[OrchestrationRecord]:
        """Return what has a request waiting that nobody will carry out: paused or ended, and driven by nobody.

        Looked at every few seconds only; nothing in between.

        Args:
            older_than_us: Only requests sent before; who sent a younger one may still be waiting for the answer.
        """
        now = self._clock.monotonic()
        if now - self._asked_at < _AT_LEAST_SECONDS:
            return []
        self._asked_at = now
        waiting = {
            pending.orchestration_id
            for pending in await self._storage.pending_controls()
            if pending.sent_at_us < older_than_us
        }
        found: list[OrchestrationRecord] = []
        for orchestration_id in sorted(waiting):
            try:
                record = await self._storage.load_orchestration(orchestration_id)
            except OrchestrationNotFoundError:
                continue  # it was removed meanwhile, and its requests with it
            if not self._is_ours(record) and not self._is_resting(record) and self._is_free(record):
                found.append(record)
        return found

    def rest(self, record: OrchestrationRecord) -> None:
        """Leave an orchestration alone for a while that could not be taken over."""
        self._resting[record.orchestration_id] = self._clock.monotonic()

    def forget(self) -> None:
        """Read the list anew with the next call."""
        self._listed_at = -math.inf

    async def _list_anew(self) -> None:
        now = self._clock.monotonic()
        age = now - self._listed_at
        if age < _LIST_SECONDS:
            return
        changes = await self._storage.change_count()
        if changes == self._changes and age < _AT_LEAST_SECONDS:
            return
        self._changes = changes
        self._listed_at = now
        self._records = await self._storage.list_unfinished()
        self._resting = {name: since for name, since in self._resting.items() if now - since < _REST_SECONDS}

    def _is_orphan(self, record: OrchestrationRecord) -> bool:
        if self._is_ours(record) or record.summary.state is OrchestrationStatus.PAUSED:
            return False
        return not self._is_resting(record) and self._is_free(record)

    def _is_resting(self, record: OrchestrationRecord) -> bool:
        since = self._resting.get(record.orchestration_id)
        return since is not None and self._clock.monotonic() - since < _REST_SECONDS

    def _is_free(self, record: OrchestrationRecord) -> bool:
        """Whether its lease may be taken. One of our own that we don't drive by has outlived a fault of the storage."""
        holder = record.holder
        return (
            holder is None
            or holder == self._identity
            or self._observer.is_over(holder, record.driver, record.orchestration_id, record.token)
        )
