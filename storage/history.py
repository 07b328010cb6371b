"""What completed tasks of each kind took: kept with each orchestration, told from the latest ones.

May import: orchestration.{models, ports, execution.history}, storage.codec, stdlib. Runs on a connection's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from orchestration.execution.history import LOOKED_AT, Tallies, summed_up
from orchestration.models import OrchestrationId
from orchestration.ports import History
from storage import codec

_MOST_KEPT = 1_000
"""Documents remembered with what they say: more orchestrations hardly advance at once."""
_kept: dict[str, Tallies] = {}
"""What the latest documents written here say, so that a chain of commits reads none of them again.

By their text: whatever is found in the database, rolled back or written by another process, is never mistaken for
something else. Whoever takes one out may change it.
"""


def tallies_of(document: str | None, orchestration_id: OrchestrationId) -> Tallies:
    """Return what an orchestration's tasks took so far, to be added to; or raise `UnreadableError`."""
    kept = _kept.pop(document, None) if document is not None else None
    return codec.decode_tallies(document, orchestration_id) if kept is None else kept


def document_of(tallies: Tallies) -> str:
    """Return what is to be stored of tallies that nobody changes any more."""
    document = codec.encode_tallies(tallies)
    if len(_kept) >= _MOST_KEPT:
        _kept.clear()
    _kept[document] = tallies
    return document


def load_history(
    database: sqlite3.Connection, kinds: Sequence[tuple[str, str | None]]
) -> dict[tuple[str, str | None], History]:
    """Return what is known of some kinds; see `Storage.load_history`."""
    rows = database.execute(
        "SELECT took, orchestration_id FROM orchestration ORDER BY number DESC LIMIT ?", (LOOKED_AT,)
    )
    return summed_up((codec.decode_tallies(document, owner) for document, owner in rows), kinds)
