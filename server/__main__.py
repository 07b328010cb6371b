"""The entry point: `advanced-orchestration`, or `python -m server`.

May import: server.cli (late), stdlib.

The packages of this program have plain names. Before anything of them is used, the entry point makes sure
that Python finds the ones it belongs to, and not namesakes of another project.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

_OWN = {"config": "keys.py", "orchestration": "engine", "server": "cli", "storage": "migrations"}
"""Each package of this program, and something in it that a namesake would not have."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if stranger := foreign_package():
        if "--json" in arguments:
            sys.stdout.write(json.dumps({"error": {"code": "foreign_package", "message": stranger}}) + "\n")
        else:
            sys.stderr.write(f"error: {stranger}\n")
        return 2
    from server.cli.main import run

    return run(arguments)


def foreign_package() -> str | None:
    """Return one sentence about a package that Python finds in place of ours; None when all are ours."""
    home = Path(__file__).resolve().parent.parent
    for name, content in _OWN.items():
        found = _folder_of(name)
        if found == home / name and (found / content).exists():
            continue
        where = "nothing" if found is None else f"the one in {found}"
        return (
            f"Python finds {where} for the package `{name}`, but this program needs its own in {home / name}: "
            "another project has a package of that name. Fix: install this program by itself "
            "(`pipx install .` in its clone), "
            "and leave PYTHONPATH unset when you start it."
        )
    return None


def _folder_of(name: str) -> Path | None:
    """Return the folder Python would import a package from."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).resolve().parent


if __name__ == "__main__":
    sys.exit(main())
