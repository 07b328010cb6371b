"""One run of the command line: parse, carry out, and turn whatever goes wrong into words and an exit code.

May import: server.cli.*, stdlib.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from server.cli.output import Output
from server.cli.parser import FAILED, PROGRAM, SUCCESS, parse

_STOPPED = 130
"""What shells call a command that Ctrl-C ended; `run` and `resume` end themselves, with a code that says
more.
"""


def run(argv: Sequence[str]) -> int:
    """Carry out one command line and return its exit code.

    Raises:
        SystemExit: Help was asked for and shown.
    """
    _open_streams()
    output = Output(is_json="--json" in argv)
    try:
        args = parse(argv)
        if args.version:
            output.line(f"{PROGRAM} {version()}")
            return SUCCESS
        output.is_json = args.json
        code: int = args.handler(args, output)
    except KeyboardInterrupt:
        if output.is_json:
            output.document({"error": {"code": "interrupted", "message": "Interrupted by the user."}})
        return _STOPPED
    except Exception as error:  # noqa: BLE001  # the outermost boundary: everything ends in words and an exit code
        from server.cli.failures import report

        return report(error, output)
    return FAILED if output.is_cut and code == SUCCESS else code


def _open_streams() -> None:
    """Give the process the streams it was started without (`>&-`)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def version() -> str:
    """Return this program's version."""
    from importlib import metadata

    try:
        return metadata.version("advanced-task-orchestration")
    except metadata.PackageNotFoundError:
        return "(run from its source tree)"
