"""The commands that answer a task that waits for somebody's yes: `approve`, `reject`.

May import: server.cli.*, orchestration (late), stdlib.

What is agreed to is shown first, and the agreement is bound to exactly that: if the task would do something else by
the time it is carried out, nothing is agreed to. They open no system, so they work where the configuration of one no
longer does.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from server.cli.controlling import request
from server.cli.output import Output, clip, counts
from server.cli.parser import BAD_INPUT, Commands, readable
from server.cli.session import ask, hint, load

if TYPE_CHECKING:
    from config.settings import Settings
    from orchestration.orchestrator import AdvancedTaskOrchestrator

_LEAST_DIGEST_CHARS = 8
"""Fewer might be the beginning of two digests."""


def register(commands: Commands) -> None:
    """Add the commands."""
    parser = commands.add(
        "approve",
        approve,
        about="agree that a task runs with exactly the arguments and inputs it shows",
        example="advanced-orchestration approve release-4 publish\n"
        'advanced-orchestration approve release-4 publish --digest 3f9a1c07b2de --yes --reason "checked the notes"',
        details="Shows what would run and, on a terminal, asks before it agrees. The yes holds for exactly that: if\n"
        "the arguments, the inputs or the task itself change, it asks anew.",
    )
    _add_task(parser)
    parser.add_argument(
        "--digest",
        type=readable,
        metavar="D",
        help="agree only if this is the digest of what would run, or its beginning",
    )
    parser.add_argument("--yes", action="store_true", help="don't ask")

    parser = commands.add(
        "reject",
        reject,
        about="refuse that a task runs: it fails, and what requires it is skipped",
        example='advanced-orchestration reject release-4 publish --reason "the notes are wrong"',
        details="A refusal is final: no fallback and no alternative plan gets round it; `retry` asks anew.",
    )
    _add_task(parser)


def approve(args: argparse.Namespace, output: Output) -> int:
    """Agree to a task, once it was shown."""
    waiting = _waiting(args, load(args, output, has_progress=not output.is_json))
    digest = None
    if waiting is not None:
        digest = waiting["digest"]
        if args.digest is not None:
            _check_digest(args, digest)
        if not output.is_json:
            _show(waiting, output)
        if not args.yes and not output.is_json and _is_interactive() and not _confirmed():
            output.line("Nothing was changed.")
            return BAD_INPUT

    async def work(orchestrator: AdvancedTaskOrchestrator) -> dict[str, Any]:
        await orchestrator.approve(args.id, args.task, digest=digest, reason=args.reason)
        return await orchestrator.load_status(args.id)

    return request(args, output, work, lambda status: _told(args, status, "approved"))


def reject(args: argparse.Namespace, output: Output) -> int:
    """Refuse that a task runs."""

    async def work(orchestrator: AdvancedTaskOrchestrator) -> dict[str, Any]:
        await orchestrator.reject(args.id, args.task, reason=args.reason)
        return await orchestrator.load_status(args.id)

    return request(args, output, work, lambda status: _told(args, status, "rejected"))


def _told(args: argparse.Namespace, status: dict[str, Any], what: str) -> str:
    return f"{args.task} is {what}. {args.id} is {status['state']}: {counts(status['counts'])}."


def _waiting(args: argparse.Namespace, settings: Settings) -> dict[str, Any] | None:
    """Return what the task would run; None where it waits for nobody's yes, which the request itself then says."""
    found = ask(settings, lambda reader: reader.load_approvals(args.id, task_ids=[args.task]))
    return found[0] if found else None


def _check_digest(args: argparse.Namespace, digest: str | None) -> None:
    """Refuse to agree to something else than what was seen.

    Raises:
        InvalidArgumentError: The digest is another one, or says too little.
    """
    from orchestration.errors import InvalidArgumentError

    given = args.digest.lower()
    if len(given) < _LEAST_DIGEST_CHARS or not (digest or "").startswith(given):
        expected = f"the digest of what {args.task!r} would run now, {(digest or 'which is not known')[:12]}"
        look = hint(args, "status", args.id, "--view", "approvals")
        raise InvalidArgumentError("--digest", args.digest, expected, f"look at it anew: {look}")


def _show(waiting: dict[str, Any], output: Output) -> None:
    output.fields(
        {
            "Task": waiting["task_id"],
            "What for": clip(waiting["description"], 300) or None,
            "Who may agree": "a person" if waiting["who"] == "person" else "a person or the calling agent",
            "Digest": (waiting["digest"] or "")[:12] or None,
        }
    )
    is_cut = waiting["shown"].endswith(" more characters)")
    output.line(
        "It would run this and more than can be shown; the digest stands for the whole:"
        if is_cut
        else "It would run exactly this:"
    )
    for line in waiting["shown"].splitlines():
        output.line(f"  | {line}")


def _is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _confirmed() -> bool:
    """Ask on the terminal; no answer is a no."""
    sys.stdout.write("Agree? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _add_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the orchestration")
    parser.add_argument("task", metavar="TASK", type=readable, help="the task")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for whoever looks later")
