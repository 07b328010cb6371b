"""A storage whose process kills itself with SIGKILL at a named point. Nothing in the program knows of it.

Each point is a place where the order of things matters: what is committed, what is let out, what is said. A point may
be told to count: `before_commit:3` dies at the third commit.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Sequence

from orchestration.models import OrchestrationId
from orchestration.ports import Commit, DriverIdentity, DriverView, Lease
from storage import SqliteStorage, writes
from tests.chaos import work

POINTS = (
    "before_commit",
    "inside_transaction",
    "after_commit",
    "after_effect",
    "before_lease",
    "after_lease",
    "before_release",
    "after_release",
    "before_heartbeat",
    "after_heartbeat",
    "before_control_commit",
    "inside_control_transaction",
    "after_control_commit",
)


class MortalStorage(SqliteStorage):
    """Dies at its point.

    Args:
        path: The database.
        point: One of `POINTS`, a colon, and at which time it dies there.
    """

    def __init__(self, path: str, point: str) -> None:
        super().__init__(path)
        self._point, _, number = point.partition(":")
        assert self._point in POINTS, f"there is no point {self._point!r}"
        self._left = int(number or 1)
        work.on_effect = lambda: self.reach("after_effect")
        writes.append = self._inside(writes.append)  # type: ignore[assignment]  # called by position

    def reach(self, *points: str) -> None:
        """Die if it is time."""
        if self._point in points:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def _inside(
        self, append: Callable[[sqlite3.Connection, Sequence[Commit]], None]
    ) -> Callable[[sqlite3.Connection, Sequence[Commit]], None]:
        """Wrap what a commit writes: it is written, but not committed, when the process dies."""

        def wrapped(database: sqlite3.Connection, commits: Sequence[Commit]) -> None:
            append(database, commits)
            self.reach("inside_transaction")
            if _answers(commits):
                self.reach("inside_control_transaction")

        return wrapped

    async def append(self, commits: Sequence[Commit]) -> None:
        """Store a batch."""
        self.reach("before_commit", *(["before_control_commit"] if _answers(commits) else []))
        await super().append(commits)
        self.reach("after_commit", *(["after_control_commit"] if _answers(commits) else []))

    async def acquire_lease(
        self,
        orchestration_id: OrchestrationId,
        holder: DriverIdentity,
        is_gone: Callable[[DriverIdentity, DriverView | None], bool],
    ) -> Lease:
        """Take a lease."""
        self.reach("before_lease")
        lease = await super().acquire_lease(orchestration_id, holder, is_gone)
        self.reach("after_lease")
        return lease

    async def release_lease(self, lease: Lease) -> None:
        """Give a lease back."""
        self.reach("before_release")
        await super().release_lease(lease)
        self.reach("after_release")

    async def renew_leases(
        self, holder: DriverIdentity, leases: Sequence[Lease], *, lease_seconds: float, now_us: int
    ) -> list[OrchestrationId]:
        """Give a heartbeat."""
        self.reach("before_heartbeat")
        lost = await super().renew_leases(holder, leases, lease_seconds=lease_seconds, now_us=now_us)
        self.reach("after_heartbeat")
        return lost


def _answers(commits: Sequence[Commit]) -> bool:
    return any(commit.answers for commit in commits)
