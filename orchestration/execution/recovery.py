"""Brings an orchestration back from storage: its DAG, its events, and the state they add up to.

May import: orchestration.{dag, dag_file, errors, ports}, orchestration.engine.*, stdlib.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestration.dag_file import dag_from_json
from orchestration.engine.events import Recorded
from orchestration.engine.state import State, replay
from orchestration.errors import HistoryMismatchError
from orchestration.models import OrchestrationId
from orchestration.ports import Storage

_PAGE = 10_000
"""Events read at once: enough to make the reads few, few enough to bound memory."""


async def load_state(storage: Storage, orchestration_id: OrchestrationId) -> State:
    """Return the state that an orchestration's journal adds up to.

    Raises:
        OrchestrationNotFoundError: There is no such orchestration.
        HistoryMismatchError: The journal has a gap, or names a task that is not there.
    """
    dag = dag_from_json(await storage.load_dag(orchestration_id))
    pages: list[list[Recorded]] = []
    after = 0
    while page := await storage.read_events(orchestration_id, after_seq=after, limit=_PAGE):
        pages.append(page)
        after = page[-1].seq
    try:
        return replay(orchestration_id, dag, _flat(pages))
    except KeyError as exc:
        raise HistoryMismatchError("a task of its DAG", f"task {exc.args[0]!r}") from exc


def _flat(pages: list[list[Recorded]]) -> Iterator[Recorded]:
    for page in pages:
        yield from page
