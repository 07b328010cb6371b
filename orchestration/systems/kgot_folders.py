"""The folder each run of KGoT has for itself: made, filled with the configuration, and removed, also after a kill.

May import: orchestration.errors, stdlib. Blocks; called on threads.

Whoever makes a folder holds a lock on it (`flock`), which the kernel takes away when that process ends, however it
ends. So a folder called `run-…` that nobody holds belonged to a process that was killed, and whoever starts next
removes it: with the keys of the configuration in it, it must not lie around. It is called so only once it is locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration.errors import AttemptFailedError

RUNS, MADE, KEPT = "run-", "new-", "kept-"
"""What the names of folders in use, in the making, and kept begin with."""

CONFIGURATION = "kgot"
"""The folder, inside that of a run, where KGoT looks for its configuration."""

LLMS, TOOLS = "config_llms.json", "config_tools.json"

NEEDED_MODEL = "gpt-4o-mini"
"""The model that all its tools use, under whatever address: its entry must be there."""

MAX_CONFIGURATION_BYTES = 1024 * 1024
SHORTEST_SECRET = 8
"""A shorter value is no key, and would be found in ordinary words."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The two files of a configuration, as they are, and the keys in them."""

    files: dict[str, bytes]
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Configuration({', '.join(self.files)})"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run, and the lock that says it is in use."""

    path: Path
    lock: int


def read_configuration(folder: Path) -> Configuration:
    """Return the configuration in a folder.

    Raises:
        AttemptFailedError: `configuration_error`: a file is missing, or is not what KGoT takes.
    """
    files = {name: _read(folder / name) for name in (LLMS, TOOLS)}
    models = _json(folder / LLMS, files[LLMS])
    tools = _json(folder / TOOLS, files[TOOLS])
    if not isinstance(models, dict) or not isinstance(models.get(NEEDED_MODEL), dict):
        raise _wrong(
            folder / LLMS,
            f"has no entry {NEEDED_MODEL!r}, which all tools of KGoT use",
            f'add {{"{NEEDED_MODEL}": {{"model": …, "temperature": 0, "organization": "", "api_key": …, '
            '"model_family": "OpenAI"}}',
        )
    if not isinstance(tools, list):
        raise _wrong(folder / TOOLS, "is no list", 'write [] or [{"name": …, "env": {…}}].')
    return Configuration(files, tuple(_secrets(models, tools)))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIGURATION_BYTES + 1)
    except OSError as exc:
        raise _wrong(path, f"can't be read ({exc.strerror})", "write it, or change config_dir.") from None
    if len(data) > MAX_CONFIGURATION_BYTES:
        raise _wrong(path, f"has more than {MAX_CONFIGURATION_BYTES} bytes", "check config_dir.")
    return data


def _json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):  # its words could show a key
        raise _wrong(path, "is no JSON", "correct it.") from None


def _wrong(path: Path, what: str, fix: str) -> AttemptFailedError:
    return AttemptFailedError(
        f"KGoT's configuration {str(path)!r} {what}. Fix: {fix}", "configuration_error", retryable=False
    )


def _secrets(models: dict[str, Any], tools: list[Any]) -> list[str]:
    """Return the keys of a configuration."""
    values = [model.get("api_key") for model in models.values() if isinstance(model, dict)]
    for tool in tools:
        if isinstance(tool, dict) and isinstance(tool.get("env"), dict):
            values += tool["env"].values()
    return [value for value in values if isinstance(value, str) and len(value) >= SHORTEST_SECRET]


def parent_folder(declared: Path | None) -> Path:
    """Return the folder in which those of the runs are made; only this user may look into it.

    Raises:
        AttemptFailedError: It can't be made, or belongs to somebody else.
    """
    folder = (
        declared.expanduser()
        if declared is not None
        else Path(tempfile.gettempdir()) / f"advanced-orchestration-kgot-{os.getuid()}"
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat() if declared is None else folder.stat()
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if declared is None and is_ours:
            folder.chmod(0o700)
    except OSError as exc:
        raise _no_folder(folder, exc.strerror or str(exc)) from exc
    if not is_ours:
        raise _no_folder(folder, "it belongs to somebody else")
    return folder


def _no_folder(folder: Path, reason: str) -> AttemptFailedError:
    return AttemptFailedError(
        f"KGoT can't be given a folder in {str(folder)!r}: {reason}. Fix: set work_folder.",
        "folder_not_usable",
        retryable=False,
    )


def make_run_folder(parent: Path, configuration: Configuration) -> RunFolder:
    """Return a new folder with a copy of the configuration, in use from now on.

    Raises:
        OSError: It can't be written.
    """
    path = Path(tempfile.mkdtemp(prefix=MADE, dir=parent))
    lock = -1
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path = path.rename(parent / (RUNS + path.name.removeprefix(MADE)))
        (path / CONFIGURATION).mkdir(mode=0o700)
        for name, data in configuration.files.items():
            descriptor = os.open(
                path / CONFIGURATION / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        if lock >= 0:
            os.close(lock)
        raise
    return RunFolder(path, lock)


def release_run_folder(folder: RunFolder, *, keeps: bool) -> Path | None:
    """Remove the folder of a run that has ended, or keep it without its configuration and return where it is."""
    kept: Path | None = None
    try:
        if keeps:
            shutil.rmtree(folder.path / CONFIGURATION, ignore_errors=True)
            with contextlib.suppress(OSError):
                kept = folder.path.rename(folder.path.parent / (KEPT + folder.path.name.removeprefix(RUNS)))
        if kept is None:
            shutil.rmtree(folder.path, ignore_errors=True)
    finally:
        os.close(folder.lock)
    return kept


def remove_leftovers(parent: Path) -> int:
    """Remove the folders of runs whose process was killed, and return how many."""
    removed = 0
    with contextlib.suppress(OSError):
        for path in sorted(parent.iterdir()):
            if path.name.startswith(RUNS) and _is_nobodys(path):
                shutil.rmtree(path, ignore_errors=True)
                removed += 1
    return removed


def _is_nobodys(path: Path) -> bool:
    """Whether no living process holds a folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def files_of(value: object, root: Path | None, limit: int) -> list[Path]:
    """Return the files a task names, as they are once links are followed.

    Args:
        value: The argument `files`.
        root: Folder they must be in; relative names count from there.
        limit: Most of them.

    Raises:
        AttemptFailedError: `invalid_arguments`: they are not what may be named.
    """
    if value is None or value == []:
        return []
    if root is None:
        raise _refused(value, "nothing: no folder of files is declared", "set files_root of the system.")
    names: Sequence[object] = value if isinstance(value, list) else [value]
    if len(names) > limit:
        raise _refused(value, f"at most {limit} files", "name fewer, or raise max_files.")
    real_root = root.expanduser().resolve()
    paths = [_confined(name, real_root) for name in names]
    if len({path.parent for path in paths}) > 1:
        raise _refused(value, "files of one folder: KGoT takes no others", "put them into one folder.")
    return paths


def _confined(name: object, root: Path) -> Path:
    if not isinstance(name, str) or not name or "\0" in name:
        raise _refused(name, "the name of a file, as text", "name it as it is called below files_root.")
    try:
        path = (root / name).resolve()
        is_file = path.is_file()
    except (OSError, RuntimeError, ValueError):
        raise _refused(name, "the name of a file", "check it.") from None
    if not path.is_relative_to(root):
        raise _refused(name, "a file below files_root", "copy it there.")
    if not is_file:
        raise _refused(name, "a file that is there", "check its name; relative ones count from files_root.")
    return path


def _refused(value: object, expected: str, fix: str) -> AttemptFailedError:
    shown = repr(value)
    shown = shown if len(shown) <= 120 else shown[:119] + "…"
    return AttemptFailedError(
        f"argument 'files' is {shown}; expected {expected}. Fix: {fix}", "invalid_arguments", retryable=False
    )
