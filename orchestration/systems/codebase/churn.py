"""Where a tree changes: commits and changed lines per file, from git's own log.

May import: orchestration.models, orchestration.systems.codebase.files, stdlib.

Git reads the tree's own configuration, which may name programs to run. Everything that could is switched off:
no pager, no file-system monitor, no signature check, no external diff or text conversion.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestration.models import JsonObject
from orchestration.systems.codebase.files import check_top, count, open_tree, result

GIT_TIMEOUT_SECONDS = 60.0
"""A log that takes longer is reported as not available."""

MAX_COMMITS = 5_000
"""Commits read, the latest first."""


@dataclass(slots=True)
class FileChurn:
    """How often one file changed."""

    path: str
    commits: int = 0
    added_lines: int = 0
    removed_lines: int = 0


def git_churn(path: str, days: int = 365, top: int = 15) -> JsonObject:
    """Count commits and changed lines per file over the last `days`.

    Where git is missing or the folder is under no version control, `is_available` is false and `summary` says
    why.

    Args:
        path: Folder of the source tree.
        days: How far to look back from today.
        top: How many of the most changed files to name.

    Raises:
        ValueError: `path` is not a folder, or a number is out of range.
    """
    check_top(top)
    if not 1 <= days <= 36_500:
        raise ValueError(f"days: {days} is out of range. Fix: give a number from 1 to 36500.")
    root = open_tree(path).root
    try:
        log = _git_log(root, days)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _unavailable(
            "git took too long" if isinstance(error, subprocess.TimeoutExpired) else "git is missing"
        )
    if log.returncode != 0:
        lines = log.stderr.decode("utf-8", errors="replace").strip().splitlines()
        return _unavailable(lines[0].removeprefix("fatal: ") if lines else "git failed")
    commits, authors, files = _parse_log(log.stdout.decode("utf-8", errors="replace"))
    ranked = sorted(
        files.values(), key=lambda file: (-file.commits, -file.added_lines - file.removed_lines, file.path)
    )
    added = sum(file.added_lines for file in ranked)
    removed = sum(file.removed_lines for file in ranked)
    return result(
        "git_churn",
        f"{count(commits, 'commit')} by {count(authors, 'author')} in {count(days, 'day')}: "
        f"+{added:,} and −{removed:,} lines in {count(len(ranked), 'file')}.",
        is_available=True,
        commits=commits,
        authors=authors,
        added_lines=added,
        removed_lines=removed,
        files=[asdict(file) for file in ranked[:top]],
        is_cut=commits == MAX_COMMITS,
    )


def _git_log(root: Path, days: int) -> subprocess.CompletedProcess[bytes]:
    """Ask git for the log of a folder with changed lines per file."""
    safe = ["core.fsmonitor=false", "log.showSignature=false", "core.quotePath=false", "log.mailmap=true"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(  # noqa: S603 — a fixed argv; the folder and the number are no options
        [  # noqa: S607 — the user's own git
            "git",
            "--no-pager",
            *(part for setting in safe for part in ("-c", setting)),
            *(
                "-C",
                str(root),
                "log",
                f"--since={days} days ago",
                f"--max-count={MAX_COMMITS}",
                "--no-renames",
            ),
            *("--no-ext-diff", "--no-textconv", "--numstat", "--format=%x01%aE", "--relative", "--", "."),
        ],
        env={**environment, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=GIT_TIMEOUT_SECONDS,
        check=False,
    )


def _parse_log(log: str) -> tuple[int, int, dict[str, FileChurn]]:
    """Return the number of commits and of authors, and each file's changes."""
    commits = 0
    authors: set[str] = set()
    files: dict[str, FileChurn] = {}
    for line in log.splitlines():
        if line.startswith("\x01"):
            commits += 1
            authors.add(line[1:])
            continue
        added, tab, rest = line.partition("\t")
        removed, _, name = rest.partition("\t")
        if not tab or not name:
            continue
        file = files.setdefault(name, FileChurn(name))
        file.commits += 1
        file.added_lines += int(added) if added.isdigit() else 0  # git writes `-` for binary files
        file.removed_lines += int(removed) if removed.isdigit() else 0
    return commits, len(authors), files


def _unavailable(reason: str) -> JsonObject:
    """Return the result of a tree whose history can't be read."""
    return result(
        "git_churn", f"No history: {reason}.", is_available=False, reason=reason, commits=0, files=[]
    )
