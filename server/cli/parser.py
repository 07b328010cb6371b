"""The words of the command line: the parser, the options every command has, and how a family adds its
commands.

May import: server.cli.*, argparse, stdlib. Nothing here or at the top of a family's module may be slow to
import.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from server.cli.output import Output

PROGRAM = "advanced-orchestration"

Handler: TypeAlias = Callable[[argparse.Namespace, Output], int]
"""Carries a command out and returns its exit code."""

SUCCESS, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 3
"""Exit codes: done; the orchestration failed; bad usage or input, or refused; interrupted but resumable, or asked and
not carried out yet.
"""

_INVALID_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")

_EPILOG = """\
examples:
  advanced-orchestration run examples/diamond.yaml
  advanced-orchestration run --goal "Report on the health of this Python codebase"
  advanced-orchestration status
  advanced-orchestration serve

exit codes: 0 success, 1 the orchestration failed, 2 bad usage or input, or refused, 3 interrupted but resumable,
or a request that is stored and not carried out yet
"""


class UsageError(Exception):
    """The command line itself is wrong.

    Args:
        message: What is wrong.
        usage: The command's usage line.
    """

    def __init__(self, message: str, usage: str = "") -> None:
        super().__init__(message, usage)
        self.message, self.usage = message, usage

    def __str__(self) -> str:
        return self.message


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake is an exception: it may have to be told as JSON."""

    def error(self, message: str) -> NoReturn:
        if found := _INVALID_CHOICE.search(message):
            choices = re.findall(r"'([^']*)'", found[2]) or found[2].split(", ")
            near = difflib.get_close_matches(found[1], choices, 1)
            message += f". Did you mean {near[0]!r}?" if near else ""
        raise UsageError(message, self.format_usage().strip())


class Commands:
    """Collects the commands while the parser is made."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._subparsers = parser.add_subparsers(
            title="commands", dest="command", metavar="COMMAND", parser_class=_Parser
        )

    def add(
        self, name: str, handler: Handler, *, about: str, example: str, details: str = ""
    ) -> argparse.ArgumentParser:
        """Add a command and return its parser, for arguments of its own.

        Args:
            name: The word.
            handler: Carries it out.
            about: One line for the list of commands.
            example: One or more lines a user can type.
            details: What `--help` says besides.
        """
        parser: argparse.ArgumentParser = self._subparsers.add_parser(
            name,
            help=about,
            description=f"{about[:1].upper()}{about[1:]}." + (f"\n\n{details}" if details else ""),
            epilog="example:\n" + "\n".join(f"  {line}" for line in example.splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.set_defaults(handler=handler)
        everywhere = parser.add_argument_group("options of every command")
        everywhere.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")
        everywhere.add_argument(
            "--database", type=text("a path"), metavar="PATH", help="the database with the state"
        )
        everywhere.add_argument(
            "--json", action="store_true", help="one JSON document on stdout, logs on stderr"
        )
        everywhere.add_argument(
            "--log-level",
            type=str.upper,
            choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
            help="what is logged",
        )
        return parser


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every command."""
    from server.cli import (
        approving,
        checking,
        controlling,
        editing,
        looking,
        planning,
        playbooks,
        running,
        serving,
    )

    parser = _Parser(
        prog=PROGRAM,
        description="Turns a goal into a graph of tasks and sees it through: in parallel, durably, on the systems "
        "you configure.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    commands = Commands(parser)
    for family in (
        *(serving, running, controlling, approving, editing),
        *(planning, playbooks, looking, checking),
    ):
        family.register(commands)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line.

    Raises:
        UsageError: It is wrong.
        SystemExit: Help was asked for and shown.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None and not args.version:
        raise UsageError(
            "which command? Fix: see `advanced-orchestration --help`.", parser.format_usage().strip()
        )
    return args


def text(what: str) -> Callable[[str], str]:
    """Return an argument type: text that is not empty."""

    def convert(value: str) -> str:
        if not value.strip():
            raise argparse.ArgumentTypeError(f"is empty; expected {what}")
        return value

    return convert


def readable(value: str) -> str:
    """Return a text that can be stored: bytes that are no Unicode become escapes; an argument type."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return an argument type: a whole number within bounds."""
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"

    def convert(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"is {value!r}; expected a whole number {bounds}")
        return number

    return convert


def add_mode(parser: argparse.ArgumentParser) -> None:
    """Add `--mode`."""
    parser.add_argument(
        "--mode",
        type=str.lower,
        choices=("simple", "hierarchical", "adaptive"),
        help="how to go through the DAG; the configured default_mode when absent",
    )


def add_context(parser: argparse.ArgumentParser) -> None:
    """Add `--context`."""
    parser.add_argument(
        "--context",
        type=_json_object,
        metavar="JSON",
        help="a JSON object that conditions, playbooks and systems see",
    )


def json_value(value: str) -> object:
    """Return what a text says as JSON; an argument type."""
    import json

    try:
        return json.loads(value, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        fix = """a text needs its own quotes: '"sent"'"""
        raise argparse.ArgumentTypeError(f"is {value!r}; expected JSON ({error}); {fix}") from None


def _json_object(value: str) -> dict[str, object]:
    import json

    try:
        found = json.loads(value, parse_constant=_refuse_constant)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is {value!r}; expected a JSON object ({error})") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'is {value!r}; expected a JSON object like \'{{"day": "monday"}}\'')
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
