"""What `doctor` looks at, one finding each: the program, the configuration, the database, the systems.

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
from pathlib import Path

from config.settings import (
    FILE_NAME,
    Settings,
    config_path,
    load_settings,
    unusable_warning,
    user_config_folder,
)
from orchestration.errors import ConfigurationError
from server.cli.checking import check_systems
from server.cli.condition import database_findings
from server.cli.finding import Finding

_NPX_SECONDS = 20.0


def diagnose(args: argparse.Namespace) -> list[Finding]:
    """Look at everything and return what was found; with `--mend`, put right what safely can be."""
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
    findings += database_findings(settings, args)
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
    of_systems = {unusable_warning(name, each) for name, each in settings.unusable_systems.items()}
    for warning in settings.warnings:
        if warning in of_systems:
            continue  # told where the systems are
        is_variable = warning.startswith("Environment variable")
        yield (
            Finding("environment", ok=False, detail=warning, fix="unset it or correct its name.")
            if is_variable
            else Finding("configuration", ok=True, detail=warning)
        )


def _is_own(source: Path) -> bool:
    return source == user_config_folder() / FILE_NAME and source == config_path(None, {})


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
