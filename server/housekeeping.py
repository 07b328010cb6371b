"""What a serving process does unasked: it goes on with what lost its driver, and lets go of what was kept long enough.

May import: orchestration, server.{desk, updates}, anyio, stdlib.

Nothing here may end the server: a fault is logged, and what could not be done is tried again later.
"""

from __future__ import annotations

import anyio
import anyio.abc

from orchestration.clock import Clock
from orchestration.errors import LeaseError, OrchestrationError, StateError, StorageError, UnroutableTaskError
from orchestration.logs import get_logger
from orchestration.models import OrchestrationId, OrchestrationStatus
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.ports import Retained, Retention, Storage
from server.desk import Desk
from server.updates import Updates

FOLLOWED = 100
"""Orchestrations without a listener whose changes are announced; each costs a query per change."""
LISTED = 10_000
"""Unfinished orchestrations looked at when the server starts; what is beyond them is found a moment later."""
REST_SECONDS = 30.0
"""Before looking for orphans goes on after a fault that nobody expected."""
RETAIN_FIRST_SECONDS = 5.0
"""After the start: clients wait for their first answers then."""
RETAIN_SECONDS = 600.0
"""Between two times of letting go."""
BREATH_SECONDS = 0.05
"""Between two rounds of one time: what is running commits in between."""

log = get_logger()


class Followers:
    """Announces the changes of orchestrations that were taken over, and so have no listener.

    Args:
        orchestrator: Drives them.
        updates: Announces.
        background: Where the following goes on.
    """

    def __init__(
        self, orchestrator: AdvancedTaskOrchestrator, updates: Updates, background: anyio.abc.TaskGroup
    ) -> None:
        self._orchestrator = orchestrator
        self._updates = updates
        self._background = background
        self._followed: set[OrchestrationId] = set()

    def follow(self, orchestration_id: OrchestrationId) -> None:
        """Begin to follow an orchestration, unless it is followed or too many are."""
        if orchestration_id not in self._followed and len(self._followed) < FOLLOWED:
            self._followed.add(orchestration_id)
            self._background.start_soon(self._follow, orchestration_id)

    async def _follow(self, orchestration_id: OrchestrationId) -> None:
        try:
            await self._updates.follow(self._orchestrator, orchestration_id)
        except OrchestrationError as error:
            log.warning(
                "Can't follow an orchestration",
                operation="FOLLOWING_FAILED",
                orchestration_id=orchestration_id,
                reason=str(error),
            )
        finally:
            self._followed.discard(orchestration_id)


async def take_over_forever(desk: Desk) -> None:
    """Go on with whatever loses its driver and can be run here, until cancelled.

    `desk.took_over` is set after the first look: who asks about an orphan until then is made to wait for it.
    """
    orchestrator = desk.orchestrator
    try:
        taken = await _take_over_now(orchestrator)
        for orchestration_id in taken:
            desk.follow(orchestration_id)
    except StorageError as error:
        _log_fault(error)
    finally:
        desk.took_over.set()
    while True:
        try:
            await orchestrator.take_over_orphans(on_taken=desk.follow)
        except OrchestrationError as error:
            _log_fault(error)
        await desk.clock.sleep(REST_SECONDS)


async def _take_over_now(orchestrator: AdvancedTaskOrchestrator) -> list[OrchestrationId]:
    """Take over what lost its driver before this server started, and return it."""
    going_on = [OrchestrationStatus.RUNNING, OrchestrationStatus.CANCELLING]
    taken: list[OrchestrationId] = []
    for status in await orchestrator.list_orchestrations(states=going_on, limit=LISTED):
        if not status["orphaned"] or status["missing_systems"]:
            continue
        try:
            await orchestrator.resume(status["orchestration_id"])
        except (LeaseError, StateError, UnroutableTaskError):
            continue  # another process was faster, or it can't be run here after all
        except OrchestrationError as error:
            _log_fault(error)
            continue
        taken.append(status["orchestration_id"])
    if taken:
        log.info("Goes on with unfinished orchestrations", operation="TAKEOVER", orchestration_ids=taken)
    return taken


def _log_fault(error: OrchestrationError) -> None:
    log.warning("Can't take over what lost its driver", operation="TAKEOVER_FAILED", reason=str(error))


async def retain_forever(orchestrator: AdvancedTaskOrchestrator, clock: Clock) -> None:
    """Compress and remove what has ended long ago, soon after the start and then from time to time, until cancelled."""
    kept = orchestrator.options.retention
    retention = Retention(
        compact_after_seconds=kept.compact_after_seconds,
        remove_after_seconds=kept.remove_after_seconds,
        keep_finished=kept.keep_finished,
    )
    pause = RETAIN_FIRST_SECONDS
    while True:
        await clock.sleep(pause)
        pause = RETAIN_SECONDS
        try:
            await _retain(orchestrator.storage, retention, clock)
        except StorageError as error:
            log.warning("Housekeeping failed", operation="RETENTION_FAILED", reason=str(error))


async def _retain(storage: Storage, retention: Retention, clock: Clock) -> None:
    """Do rounds of housekeeping until nothing is left to do."""
    rounds: list[Retained] = []
    while not rounds or not rounds[-1].is_finished:
        if rounds:
            await clock.sleep(BREATH_SECONDS)
        rounds.append(await storage.retain(retention, now_us=clock.now_us()))
    done = {
        "compacted": sum(each.compacted for each in rounds),
        "removed": sum(each.removed for each in rounds),
        "plans_removed": sum(each.plans_removed for each in rounds),
        "cache_entries_removed": sum(each.cache_entries_removed for each in rounds),
    }
    if any(done.values()):
        log.info("Let go of what was kept long enough", operation="RETENTION", **done)
