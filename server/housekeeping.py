"""What a serving process does unasked: it goes on with what lost its driver, and lets go of what was kept long enough.

May import: orchestration, server.{desk, updates}, anyio, stdlib.

Nothing here may end the server: a fault is logged, and what could not be done is tried again later.
"""

from __future__ import annotations

import anyio
import anyio.abc

from orchestration.clock import Clock
from orchestration.errors import OrchestrationError, StorageError
from orchestration.housekeeping import let_go
from orchestration.logs import get_logger
from orchestration.models import OrchestrationId
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server.desk import Desk
from server.updates import Updates

FOLLOWED = 100
"""Orchestrations without a listener whose changes are announced; each costs a query per change."""
REST_SECONDS = 30.0
"""Before looking for orphans goes on after a fault that nobody expected."""
RETAIN_FIRST_SECONDS = 5.0
"""After the start: clients wait for their first answers then."""
RETAIN_SECONDS = 600.0
"""Between two times of letting go."""

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
    while True:
        try:
            await desk.orchestrator.take_over_orphans(on_taken=desk.follow, on_looked=desk.took_over.set)
        except OrchestrationError as error:
            _log_fault(error)
        finally:
            desk.took_over.set()
        await desk.clock.sleep(REST_SECONDS)


def _log_fault(error: OrchestrationError) -> None:
    log.warning("Can't take over what lost its driver", operation="TAKEOVER_FAILED", reason=str(error))


async def retain_forever(orchestrator: AdvancedTaskOrchestrator, clock: Clock) -> None:
    """Compress and remove what has ended long ago, soon after the start and then from time to time, until cancelled."""
    pause = RETAIN_FIRST_SECONDS
    while True:
        await clock.sleep(pause)
        pause = RETAIN_SECONDS
        try:
            await let_go(orchestrator.storage, orchestrator.options.retention, clock)
        except StorageError as error:
            log.warning("Housekeeping failed", operation="RETENTION_FAILED", reason=str(error))
