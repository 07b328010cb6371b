"""Who drives what: leases, and the heartbeats that keep them. Each function is one transaction's work.

May import: orchestration.{models, ports, errors}, storage.codec, stdlib. Runs on a connection's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from orchestration.errors import LeaseHeldError, OrchestrationNotFoundError
from orchestration.models import OrchestrationId
from orchestration.ports import DriverIdentity, DriverView, Lease
from storage import codec


def acquire_lease(
    database: sqlite3.Connection,
    orchestration_id: OrchestrationId,
    holder: DriverIdentity,
    is_gone: Callable[[DriverIdentity, DriverView | None], bool],
) -> Lease:
    """Take the lease of an orchestration; see `Storage.acquire_lease`."""
    row = database.execute(
        "SELECT token, holder, identity, beats, lease_seconds, beat_at_us "
        "FROM orchestration LEFT JOIN driver ON instance = holder_instance WHERE orchestration_id = ?",
        (orchestration_id,),
    ).fetchone()
    if row is None:
        raise OrchestrationNotFoundError(orchestration_id)
    present = codec.decode_holder(row[1], orchestration_id)
    driver = codec.decode_driver(orchestration_id, *row[2:])
    if present is not None and present != holder and not is_gone(present, driver):
        raise LeaseHeldError(orchestration_id, str(present))
    token = row[0] + 1
    database.execute(
        "UPDATE orchestration SET holder = ?, holder_instance = ?, token = ? WHERE orchestration_id = ?",
        (codec.encode_holder(holder), holder.instance, token, orchestration_id),
    )
    return Lease(orchestration_id=orchestration_id, token=token, holder=holder)


def release_lease(database: sqlite3.Connection, lease: Lease) -> None:
    """Give a lease back; see `Storage.release_lease`."""
    database.execute(
        "UPDATE orchestration SET holder = NULL, holder_instance = NULL "
        "WHERE orchestration_id = ? AND token = ?",
        (lease.orchestration_id, lease.token),
    )


def renew_leases(
    database: sqlite3.Connection,
    holder: DriverIdentity,
    leases: Sequence[Lease],
    lease_seconds: float,
    now_us: int,
) -> list[OrchestrationId]:
    """Count a heartbeat and return what was lost; see `Storage.renew_leases`."""
    database.execute(
        "INSERT INTO driver (instance, identity, beats, lease_seconds, beat_at_us) VALUES (?, ?, 1, ?, ?) "
        "ON CONFLICT (instance) DO UPDATE SET identity = excluded.identity, beats = beats + 1, "
        "lease_seconds = excluded.lease_seconds, beat_at_us = excluded.beat_at_us",
        (holder.instance, codec.encode_holder(holder), lease_seconds, now_us),
    )
    # One walk through an index that holds all it asks for: thousands of leases are a matter of a millisecond.
    held = dict(
        database.execute(
            "SELECT orchestration_id, token FROM orchestration WHERE holder_instance = ?", (holder.instance,)
        )
    )
    return [
        lease.orchestration_id
        for lease in leases
        if held.get(lease.orchestration_id) != lease.token and not _is_current(database, lease)
    ]


def retire_driver(database: sqlite3.Connection, holder: DriverIdentity) -> None:
    """Forget a driver's heartbeats; see `Storage.retire_driver`."""
    database.execute("DELETE FROM driver WHERE instance = ?", (holder.instance,))


def _is_current(database: sqlite3.Connection, lease: Lease) -> bool:
    """Whether a token stands although nobody is recorded as holding the lease, or the holder under another name."""
    row = database.execute(
        "SELECT token FROM orchestration WHERE orchestration_id = ?", (lease.orchestration_id,)
    ).fetchone()
    return row is not None and row[0] == lease.token
