"""What `doctor` finds in the database: is it sound, what lost its driver and why, who drives, is there room; and what
it mends.

May import: server.cli.*, config, orchestration, server.composition, stdlib. Where there is no database yet, none is
made.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.settings import Settings
from orchestration.errors import StorageError, StorageUnavailableError
from orchestration.reader import OrchestrationReader
from server.cli.finding import Finding
from server.cli.output import clip, plural, seconds
from server.cli.session import ask, hint
from server.composition import make_storage, schema_version

_LEAST_FREE_BYTES = 100 * 1024 * 1024
"""Below this a database that is being written to may soon meet a full disk."""

_ORPHANS_TOLD = 5
_UNFINISHED_READ = 10_000
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was found in a database."""

    wrong: list[str]
    mended: list[str]
    unfinished: list[dict[str, Any]]
    size_bytes: int
    free_bytes: int


def database_findings(settings: Settings, args: argparse.Namespace) -> Iterator[Finding]:
    """Look at the database and what is in it; with `--mend`, put right what safely can be."""
    path = settings.database
    if not path.exists():
        yield _absent(path)
        yield _room(0, make_storage(settings).disk_free_bytes)
        return
    try:
        seen = _examine(settings, has_to_mend=args.mend)
    except StorageError as error:
        yield Finding("database", ok=False, detail=f"{path}: {error.reason}", fix=error.fix)
        return
    yield from (Finding("mended", ok=True, detail=line) for line in seen.mended)
    yield from _soundness(settings, args, seen)
    yield from _orphans(args, seen.unfinished)
    yield from _waiting(args, seen.unfinished)
    yield from _drivers(seen.unfinished)
    yield _room(seen.size_bytes, seen.free_bytes)


def _absent(path: Path) -> Finding:
    folder = next(folder for folder in path.absolute().parents if folder.is_dir())
    can = os.access(folder, os.W_OK | os.X_OK)
    what = "it is made when first needed" if can else f"{folder} can't be written"
    fix = "" if can else "choose another place with --database."
    return Finding("database", can, f"{path} does not exist yet; {what}", fix)


def _examine(settings: Settings, *, has_to_mend: bool) -> _Seen:
    async def look(reader: OrchestrationReader) -> _Seen:
        storage = make_storage(settings)
        try:
            mended = await storage.mend() if has_to_mend else []
            wrong = await storage.check()
            return _Seen(
                wrong=wrong,
                mended=mended or (["there was nothing to mend"] if has_to_mend else []),
                # A damaged file is not asked what is in it: the answer might be anything.
                unfinished=[] if _is_damaged(wrong) else await _unfinished(reader),
                size_bytes=storage.size_bytes,
                free_bytes=storage.disk_free_bytes,
            )
        finally:
            await storage.aclose()

    return ask(settings, look)


def _is_damaged(wrong: list[str]) -> bool:
    return any(line.startswith("integrity:") for line in wrong)


async def _unfinished(reader: OrchestrationReader) -> list[dict[str, Any]]:
    return await reader.list_orchestrations(
        states=["planning", "running", "paused", "cancelling"], limit=_UNFINISHED_READ
    )


def _soundness(settings: Settings, args: argparse.Namespace, seen: _Seen) -> Iterator[Finding]:
    path = settings.database
    wrong = list(seen.wrong)
    if not os.access(path, os.W_OK):
        wrong.append(f"{path} can't be written by this user")
    copy = "keep a copy of the file before anything else"
    fix = (
        f"{copy}." if args.mend or _is_damaged(wrong) else f"{copy}; then `{hint(args, 'doctor', '--mend')}`."
    )
    for line in wrong:
        yield Finding("database", ok=False, detail=line, fix=fix)
    if not wrong:
        log = path.with_name(f"{path.name}-wal")
        log_bytes = log.stat().st_size if log.exists() else 0
        size = f"{(seen.size_bytes - log_bytes) / _MIB:.1f} MiB and a log of {log_bytes / _MIB:.1f} MiB"
        yield Finding(
            "database", ok=True, detail=f"{path} is sound, schema version {schema_version()}, {size}"
        )


def _orphans(args: argparse.Namespace, unfinished: list[dict[str, Any]]) -> Iterator[Finding]:
    """Tell what lost its driver: what goes on with `resume`, and, one by one, what can't go on here."""
    orphans = [each for each in unfinished if each["orphaned"] and each["state"] != "paused"]
    stuck = [each for each in orphans if each["missing_systems"]]
    free = [each["orchestration_id"] for each in orphans if not each["missing_systems"]]
    if not orphans:
        yield Finding(
            "orchestrations", ok=True, detail=f"{len(unfinished):,} unfinished, none without a driver"
        )
    if free:
        told = (
            f"{plural(len(free), 'orchestration')} left unfinished by a process that is gone: {_first(free)}"
        )
        fix = f"go on with `{hint(args, 'resume', '--all')}`, or start a server."
        yield Finding("orchestrations", ok=False, detail=told, fix=fix)
    for each in stuck[:_ORPHANS_TOLD]:
        name = each["orchestration_id"]
        why = clip(" ".join(each["missing_systems"]), 500)
        by_hand = f"`{hint(args, 'resume', name)}` or `{hint(args, 'cancel', name)}`"
        fix = f"configure the system as it was, or decide by hand: {by_hand}."
        yield Finding(
            "orchestrations", ok=False, detail=f"{name} lost its driver and can't go on here: {why}", fix=fix
        )
    if len(stuck) > _ORPHANS_TOLD:
        yield Finding(
            "orchestrations", ok=False, detail=f"{len(stuck) - _ORPHANS_TOLD:,} more can't go on here"
        )


def _waiting(args: argparse.Namespace, unfinished: list[dict[str, Any]]) -> Iterator[Finding]:
    """Tell which orchestrations wait for a person's decision, or for a yes."""
    for status, what, says in (
        ("unknown", "to decide about", "says what is known, and how to decide."),
        ("awaiting_approval", "to agree to", "says what would run, and how to agree."),
    ):
        waiting = [each["orchestration_id"] for each in unfinished if each["counts"].get(status)]
        if waiting:
            detail = f"{plural(len(waiting), 'orchestration')} with tasks {what}: {_first(waiting)}"
            fix = f"`{hint(args, 'status', waiting[0])}` {says}"
            yield Finding("decisions", ok=False, detail=detail, fix=fix)


def _drivers(unfinished: list[dict[str, Any]]) -> Iterator[Finding]:
    """Tell who drives what is unfinished; one that has been silent for a lease is worth a look."""
    driven = Counter(each["driven_by"] for each in unfinished if each["driven_by"])
    silent = {
        each["driven_by"]: each["driver_silent_seconds"]
        for each in unfinished
        if each["driver_silent_seconds"]
    }
    if not driven:
        yield Finding("drivers", ok=True, detail="none at present")
    for driver, count in driven.items():
        if driver not in silent:
            yield Finding("drivers", ok=True, detail=f"{driver} drives {plural(count, 'orchestration')}")
            continue
        detail = f"{driver} drives {plural(count, 'orchestration')} and has been silent for {seconds(silent[driver])}"
        fix = "end or wake that process; a running server takes over what it drives."
        yield Finding("drivers", ok=False, detail=detail, fix=fix)


def _room(size_bytes: int, free_bytes: int) -> Finding:
    least = max(_LEAST_FREE_BYTES, size_bytes)
    is_enough = free_bytes >= least
    detail = f"{free_bytes / _MIB / 1024:.1f} GiB free where the database is"
    if not is_enough:
        should = f"{least / _MIB:,.0f} MiB should be"
        detail = f"{free_bytes / _MIB:,.0f} MiB free where the database is; at least {should}"
    fix = "" if is_enough else "make room, or choose another --database."
    return Finding("disk space", is_enough, detail, fix)


def _first(names: list[str]) -> str:
    more = len(names) - _ORPHANS_TOLD
    return ", ".join(names[:_ORPHANS_TOLD]) + (f" and {more:,} more" if more > 0 else "")


def back_up(settings: Settings, file: Path) -> int:
    """Write a copy of the database and return its size in bytes.

    Raises:
        StorageUnavailableError: There is no database, the file exists already, or it can't be written.
    """
    import anyio

    path = settings.database
    if not path.exists():
        raise StorageUnavailableError(
            str(path), "there is no such file, so there is nothing to copy.", "check --database."
        )

    async def main() -> int:
        storage = make_storage(settings)
        try:
            return await storage.backup(file)
        finally:
            await storage.aclose()

    return anyio.run(main)
