"""Lets go of what was kept long enough: rounds of the storage's housekeeping until nothing is left to do.

May import: orchestration.{clock, logs, options, ports}, stdlib.
"""

from __future__ import annotations

from orchestration.clock import Clock
from orchestration.logs import get_logger
from orchestration.options import RetentionOptions
from orchestration.ports import Retained, Retention, Storage

BREATH_SECONDS = 0.05
"""Between two rounds: what is running commits in between."""

log = get_logger()


async def let_go(storage: Storage, options: RetentionOptions, clock: Clock) -> None:
    """Compress and remove what has ended long ago. May be cancelled at any time: each round is whole.

    Raises:
        StorageError: The state can't be read or written.
    """
    retention = Retention(
        compact_after_seconds=options.compact_after_seconds,
        remove_after_seconds=options.remove_after_seconds,
        keep_finished=options.keep_finished,
    )
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
