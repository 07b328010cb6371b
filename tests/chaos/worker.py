"""One process of the chaos tests that drives orchestrations through the library, until it is done or is killed.

    python -m tests.chaos.worker run DATABASE DAG.json      submit the DAG, and stay until it has ended
    python -m tests.chaos.worker resume DATABASE            go on with what lost its driver, to the end
    python -m tests.chaos.worker serve DATABASE             go on with whatever loses its driver, for good

`--die POINT:N` makes it kill itself with SIGKILL when it comes to a named point for the N-th time; `--lease SECONDS`
sets how long its leases last. Logs go to stderr as JSON, one object a line.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import anyio

from orchestration import create_advanced_task_orchestrator
from orchestration.dag_file import dag_from_json
from orchestration.logs import configure
from orchestration.options import OrchestratorOptions
from orchestration.orchestrator import AdvancedTaskOrchestrator
from storage import SqliteStorage
from tests.chaos import work
from tests.chaos.mortal import MortalStorage


def orchestrator_over(storage: SqliteStorage, lease_seconds: float) -> AdvancedTaskOrchestrator:
    """Return an orchestrator with the system of the chaos tests."""
    return create_advanced_task_orchestrator(
        systems={"python": work.system()},
        state_manager=storage,
        max_concurrent_tasks=3,
        settings=OrchestratorOptions(
            max_concurrent_tasks=3, lease_seconds=lease_seconds, cancel_grace_seconds=1.0
        ),
    )


async def live(role: str, database: str, dag: str | None, die: str, lease_seconds: float) -> None:
    """Be what the role says."""
    storage = MortalStorage(database, die) if die else SqliteStorage(database)
    orchestrator = orchestrator_over(storage, lease_seconds)
    if role == "run":
        assert dag is not None, "what is to be run?"
        result = await orchestrator.execute_dag(dag_from_json(Path(dag).read_bytes()))  # noqa: ASYNC240  at the start
        sys.stdout.write(f"{result['orchestration_id']} {result['success']}\n")
    elif role == "resume":
        sys.stdout.write(f"{await orchestrator.resume_all()}\n")
    else:
        async with orchestrator:
            await orchestrator.take_over_orphans()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.worker")
    parser.add_argument("role", choices=("run", "resume", "serve"))
    parser.add_argument("database")
    parser.add_argument("dag", nargs="?")
    parser.add_argument("--die", default="", metavar="POINT:N")
    parser.add_argument("--lease", type=float, default=15.0)
    arguments = parser.parse_args()
    configure("INFO", json=True)
    anyio.run(live, arguments.role, arguments.database, arguments.dag, arguments.die, arguments.lease)


if __name__ == "__main__":
    main()
