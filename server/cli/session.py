"""What a command needs around its work: settings, logging, an open orchestrator, and a way to be interrupted.

May import: server.cli.*, config (late), orchestration (late), server.composition (late), anyio (late),
stdlib.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout, suppress
from typing import TYPE_CHECKING, TypeVar

from server.cli.output import Output
from server.cli.parser import INTERRUPTED, PROGRAM

if TYPE_CHECKING:
    import anyio.abc

    from config.settings import Settings
    from orchestration.orchestrator import AdvancedTaskOrchestrator
    from orchestration.reader import OrchestrationReader

T = TypeVar("T")

_TIDYING_SECONDS = 1.0
"""Longest wait, at a command's end, for housekeeping."""


def load(args: argparse.Namespace, output: Output, *, has_progress: bool = False) -> Settings:
    """Read the settings and set logging up.

    Args:
        args: The command line.
        output: Where oddities are told.
        has_progress: Whether the command itself tells people what goes on; logs say less then, unless
        somebody
            chose their level.

    Raises:
        ConfigurationError: There are mistakes in the configuration.
    """
    from config.settings import load_settings
    from orchestration.logs import configure, hide
    from orchestration.redaction import Redactor

    overrides = {
        "storage.database": args.database,
        "advanced_orchestration.log_level": args.log_level,
        "advanced_orchestration.default_mode": getattr(args, "mode", None),
    }
    settings = load_settings(args.config, os.environ, overrides)
    output.redactor = Redactor(settings.secrets)
    hide(output.redactor)
    configure("WARNING" if has_progress and not settings.log_level_chosen else settings.log_level)
    for warning in settings.warnings:
        output.note(f"warning: {warning}")
    return settings


def hint(args: argparse.Namespace, *words: str) -> str:
    """Return a command to type next, with the options that this one was given."""
    given: list[str] = []
    for option in ("config", "database"):
        if (value := getattr(args, option, None)) is not None:
            given += [f"--{option}", str(value)]
    return shlex.join([PROGRAM, *words, *given])


def ask(settings: Settings, question: Callable[[OrchestrationReader], Awaitable[T]]) -> T:
    """Answer a question from what is stored, without opening a system."""
    import anyio

    from server.composition import open_reader

    async def main() -> T:
        async with open_reader(settings) as reader:
            return await question(reader)

    return anyio.run(main)


def drive(
    settings: Settings,
    work: Callable[[AdvancedTaskOrchestrator], Awaitable[T]],
    *,
    has_systems: bool = True,
) -> T | None:
    """Open the orchestrator, do `work` with it, and close it; SIGINT and SIGTERM end `work` in order.

    The orchestrator is closed as always: attempts are ended, leases given back, and everything that was
    committed stays. A second signal ends the process at once, which is safe as well. What tasks print goes to stderr:
    stdout is the command's own.

    Args:
        settings: What the orchestrator is made of.
        work: What to do with it.
        has_systems: Whether `work` may run something.

    Returns:
        What `work` does; None when it was interrupted.
    """
    import anyio

    from orchestration.logs import prepare
    from server.composition import open_orchestrator

    prepare()

    async def main() -> T | None:
        result: T | None = None
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as watch:
            await watch.start(_cancel_on_signal, scope)
            async with open_orchestrator(settings, has_systems=has_systems) as orchestrator:
                with scope:
                    result = await work(orchestrator)
                    await _let_go(orchestrator)
            watch.cancel_scope.cancel()
        return result

    with redirect_stdout(sys.stderr):
        return anyio.run(main)


async def _let_go(orchestrator: AdvancedTaskOrchestrator) -> None:
    """Let go of what was kept long enough: who never runs a server would keep it for ever.

    For a moment only; the next command goes on.
    """
    import anyio

    from orchestration.clock import SystemClock
    from orchestration.errors import StorageError
    from orchestration.housekeeping import let_go

    with anyio.move_on_after(_TIDYING_SECONDS), suppress(StorageError):
        await let_go(orchestrator.storage, orchestrator.options.retention, SystemClock())


async def _cancel_on_signal(scope: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    import signal

    import anyio

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if scope.cancel_called:
                os._exit(INTERRUPTED)
            scope.cancel()
