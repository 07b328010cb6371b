"""What `doctor` looks at, one finding each. It changes nothing: where there is no database yet, it makes
none.

May import: server.cli.*, config, orchestration, server.composition, stdlib.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.settings import FILE_NAME, Settings, config_path, load_settings, user_config_folder
from orchestration.errors import ConfigurationError, StorageError
from server.cli.checking import check_systems
from server.cli.output import plural
from server.cli.session import ask, hint

_LEAST_FREE_BYTES = 200 * 1024 * 1024
"""Below this a database that is being written to may soon meet a full disk."""

_NPX_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    fix: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "fix": self.fix}


def diagnose(args: argparse.Namespace) -> list[Finding]:
    """Look at everything and return what was found."""
    findings = [_program()]
    try:
        settings = load_settings(args.config, os.environ, {"storage.database": args.database})
    except ConfigurationError as error:
        findings += [
            Finding("configuration", ok=False, detail=f"{problem.path}: {problem.message}", fix=problem.fix)
            for problem in error.problems
        ]
        findings.append(
            Finding("the rest", ok=False, detail="was not checked, because the configuration has mistakes")
        )
        return findings
    findings += _configuration(settings, args.config)
    findings += _database(settings, args)
    findings.append(_disk(settings.database))
    findings += _systems(settings)
    findings.append(_thinking(settings))
    return findings


def _program() -> Finding:
    from server.__main__ import foreign_package
    from server.cli.main import version

    python = f"Python {platform.python_version()} at {sys.executable}"
    home = Path(__file__).resolve().parents[2]
    stranger = foreign_package()
    return Finding("program", stranger is None, stranger or f"{version()} in {home}, {python}")


def _configuration(settings: Settings, named: Path | None) -> Iterator[Finding]:
    if settings.source is not None:
        how = (
            ""
            if named is not None
            else " (the user's own)"
            if _is_own(settings.source)
            else " (from the environment)"
        )
        yield Finding("configuration", ok=True, detail=f"{settings.source}{how}")
    else:
        own = user_config_folder() / FILE_NAME
        yield Finding("configuration", ok=True, detail=f"the defaults; yours would be looked for at {own}")
    for warning in settings.warnings:
        yield Finding("environment", ok=False, detail=warning, fix="unset it or correct its name.")


def _is_own(source: Path) -> bool:
    return source == user_config_folder() / FILE_NAME and source == config_path(None, {})


def _database(settings: Settings, args: argparse.Namespace) -> Iterator[Finding]:
    path = settings.database
    if not path.exists():
        folder = _existing_folder(path)
        can = os.access(folder, os.W_OK | os.X_OK)
        detail = f"{path} does not exist yet; " + (
            "it is made when first needed" if can else f"{folder} can't be written"
        )
        yield Finding("database", can, detail, "" if can else "choose another place with --database.")
        return
    try:
        wrong, unfinished = _examine(settings)
    except StorageError as error:
        yield Finding("database", ok=False, detail=f"{path}: {error.reason}", fix=error.fix)
        return
    if not os.access(path, os.W_OK):
        wrong.append(f"{path} can't be written by this user")
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*") if file.is_file())
    for line in wrong:
        yield Finding("database", ok=False, detail=line, fix="keep a copy of the file before anything else.")
    if not wrong:
        yield Finding("database", ok=True, detail=f"{path} is sound, {size / 1024 / 1024:.1f} MiB")
    orphans = [
        each["orchestration_id"] for each in unfinished if each["orphaned"] and each["state"] != "paused"
    ]
    if orphans:
        whose = "left unfinished by a process that is gone"
        told = f"{plural(len(orphans), 'orchestration')} {whose}: {', '.join(orphans[:5])}"
        yield Finding(
            "orchestrations", ok=False, detail=told, fix=f"go on with `{hint(args, 'resume', '--all')}`."
        )
    else:
        yield Finding(
            "orchestrations", ok=True, detail=f"{len(unfinished):,} unfinished, none without a driver"
        )


def _examine(settings: Settings) -> tuple[list[str], list[dict[str, Any]]]:
    """Return what is wrong with the database, and what is unfinished in it."""
    from server.composition import make_storage

    async def look(reader: Any) -> tuple[list[str], list[dict[str, Any]]]:
        storage = make_storage(settings)
        try:
            wrong = await storage.check()
        finally:
            await storage.aclose()
        found = await reader.list_orchestrations(states=["running", "paused", "cancelling"], limit=10_000)
        return wrong, found

    return ask(settings, look)


def _disk(database: Path) -> Finding:
    folder = _existing_folder(database)
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1024**3:.1f} GiB free at {folder}"
    is_enough = free >= _LEAST_FREE_BYTES
    return Finding(
        "disk space", is_enough, detail, "" if is_enough else "make room, or choose another --database."
    )


def _existing_folder(path: Path) -> Path:
    """Return the nearest folder above a path that exists."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def _systems(settings: Settings) -> Iterator[Finding]:
    for name, found in check_systems(settings).items():
        fix = "" if found["ok"] else "install what is missing, or correct the configuration of this system."
        yield Finding(f"system {name}", found["ok"], found["detail"] or "answers", fix)


def _thinking(settings: Settings) -> Finding:
    """Look whether the Sequential Thinking server can be started. Missing, it harms nothing: another takes
    its place.
    """
    command = settings.sequential_thinking
    if command is None:
        return Finding("sequential thinking", ok=True, detail="in-process, as configured")
    program = shutil.which(command.command)
    if program is None:
        detail = f"{command.command} is not installed; the in-process server takes its place"
        return Finding(
            "sequential thinking", ok=True, detail=detail, fix="install Node.js to use the real one."
        )
    try:
        told = subprocess.run(  # noqa: S603  (a program the user configured, asked for its version)
            [program, "--version"], capture_output=True, text=True, timeout=_NPX_SECONDS, check=False
        )
        version = told.stdout.strip().splitlines()[0] if told.stdout.strip() else "of unknown version"
    except (OSError, subprocess.TimeoutExpired):
        version = "that does not answer"
    return Finding("sequential thinking", ok=True, detail=f"{program} {version}")
