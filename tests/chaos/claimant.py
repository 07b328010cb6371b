"""One process of the chaos tests that works for agents: some workers, each claiming, acting and reporting in turn.

    python -m tests.chaos.claimant DATABASE NAME WORKERS [--die N] [--take N] [--lazy SECONDS]

Each ends when everything has ended. `--die` makes the process kill itself with SIGKILL right after the N-th task was
claimed and acted upon, before it is reported; `--take` ends each worker after so many tasks, while there is more.
Nothing is driven here: the process shares nothing but the database with whoever drives.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

import anyio

from orchestration.claim_records import Claim
from orchestration.errors import StorageError
from orchestration.logs import configure
from orchestration.orchestrator import AdvancedTaskOrchestrator
from storage import SqliteStorage
from tests.chaos import work
from tests.chaos.worker import orchestrator_over


class Claimants:
    """The workers of one process.

    Args:
        orchestrator: Over the shared database.
        die: After how many tasks to die; 0: never.
        take: How many tasks each worker does; 0: all there are.
        lazy_seconds: How long each task takes.
    """

    def __init__(
        self, orchestrator: AdvancedTaskOrchestrator, die: int, take: int, lazy_seconds: float
    ) -> None:
        self._orchestrator = orchestrator
        self._die = die
        self._take = take
        self._lazy_seconds = lazy_seconds
        self._acted = 0
        self.reported = 0
        self.refused = 0

    async def work(self, worker: str) -> None:
        """Do one task after the other."""
        done = 0
        while not self._take or done < self._take:
            try:
                found = await self._orchestrator.claim_task(worker, wait_seconds=1.0)
            except StorageError:  # the file is busy; nothing was given out
                continue
            if isinstance(found, Claim):
                await self._do(found)
                done += 1
            elif not found.unfinished:
                return

    async def _do(self, claim: Claim) -> None:
        work.leave_trace(f"{claim.task_id}#{claim.attempt}", claim.claim_id)
        self._acted += 1
        if self._acted == self._die:
            os.kill(os.getpid(), signal.SIGKILL)
        await anyio.sleep(self._lazy_seconds)
        told = await self._orchestrator.report_task(claim.claim_id, "done", output=claim.claim_id)
        self.reported += told.verdict.is_accepted
        self.refused += not told.verdict.is_accepted


async def live(database: str, name: str, workers: int, die: int, take: int, lazy_seconds: float) -> None:
    """Be some workers."""
    claimants = Claimants(orchestrator_over(SqliteStorage(database), 15.0), die, take, lazy_seconds)
    async with anyio.create_task_group() as group:
        for number in range(workers):
            group.start_soon(claimants.work, f"{name}-{number}")
    sys.stdout.write(f"{claimants.reported} reported, {claimants.refused} refused\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.claimant")
    parser.add_argument("database")
    parser.add_argument("name")
    parser.add_argument("workers", type=int)
    parser.add_argument("--die", type=int, default=0)
    parser.add_argument("--take", type=int, default=0)
    parser.add_argument("--lazy", type=float, default=0.0, metavar="SECONDS")
    arguments = parser.parse_args()
    configure("WARNING", json=True)
    anyio.run(
        live,
        arguments.database,
        arguments.name,
        arguments.workers,
        arguments.die,
        arguments.take,
        arguments.lazy,
    )


if __name__ == "__main__":
    main()
