"""Which files of a tree are looked at, and how they are read: bounded, in order, whatever state they are in.

May import: orchestration.models, pydantic, stdlib.
"""

from __future__ import annotations

import ast
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import to_jsonable_python

from orchestration.models import JsonObject

MAX_FILES = 20_000
"""Files looked at; more would make a report slow without making it truer. Results say when it was reached."""

MAX_FILE_BYTES = 1024 * 1024
"""Files over this are counted but not read: they are data or generated."""

SKIPPED_FOLDERS = frozenset(
    {
        "__pycache__",
        "__pypackages__",
        "bower_components",
        "build",
        "dist",
        "node_modules",
        "site-packages",
        "venv",
    }
)
"""Folders that hold what tools made or fetched. Hidden folders are skipped too, except `KEPT_HIDDEN`."""

KEPT_HIDDEN = frozenset({".ci", ".circleci", ".github", ".gitlab"})
"""Hidden folders that people write by hand."""

MAX_TREES_KEPT = 64
"""Syntax trees at hand. Measurements that run at once go through the files in the same order and are never far apart:
the first to come parses, the others find the tree here. More would only be memory."""

MAX_KEPT_BYTES = 64 * 1024
"""Sources over this are parsed each time: a tree takes some forty times its source."""

_parsing = threading.Lock()
_kept: OrderedDict[bytes, ast.Module | None] = OrderedDict()


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a tree."""

    name: str
    """Relative to the tree, with forward slashes."""
    path: Path
    size_bytes: int

    @property
    def suffix(self) -> str:
        """Return the ending in lower case, with its dot; empty when there is none."""
        return self.path.suffix.lower()

    @property
    def is_test(self) -> bool:
        """Whether the file holds tests or their fixtures, judged by its name and folders."""
        *folders, last = self.name.split("/")
        if {"test", "tests", "testing"} & set(folders):
            return True
        return last.startswith("test_") or last.endswith("_test.py") or last == "conftest.py"

    def read_bytes(self) -> bytes | None:
        """Return the content; None when it is over the limit, binary or can't be read."""
        if self.size_bytes > MAX_FILE_BYTES:
            return None
        try:
            content = self.path.read_bytes()
        except OSError:
            return None
        return None if b"\0" in content[:8192] else content

    def read_text(self) -> str | None:
        """Return the content as text, wrong UTF-8 replaced; None as for `read_bytes`."""
        content = self.read_bytes()
        return None if content is None else content.decode("utf-8", errors="replace")

    def parse(self) -> ast.Module | None:
        """Return the syntax tree; None when it can't be read or is not Python to this interpreter."""
        content = self.read_bytes()
        return None if content is None else parse_python(content)


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of a tree, by name."""

    root: Path
    files: tuple[SourceFile, ...]
    is_truncated: bool

    def python(self) -> list[SourceFile]:
        """Return the Python files."""
        return [file for file in self.files if file.suffix == ".py"]

    def parsed(self, *, with_tests: bool = True) -> Iterator[tuple[SourceFile, ast.Module]]:
        """Yield each Python file that parses, with its syntax tree."""
        for file in self.python():
            if with_tests or not file.is_test:
                module = file.parse()
                if module is not None:
                    yield file, module


def open_tree(path: str) -> Tree:
    """List the files under `path`, at most `MAX_FILES`, in name order. Links are not followed.

    Raises:
        ValueError: There is no such folder.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        found = "a file" if root.is_file() else "nothing there"
        raise ValueError(f"path: {path!r} is not a folder ({found}). Fix: give the folder of a source tree.")
    files: list[SourceFile] = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if _is_looked_at(Path(folder, name)))
        for name in sorted(names):
            file = _source_file(root, Path(folder, name))
            if file is None:
                continue
            if len(files) == MAX_FILES:
                return Tree(root, tuple(files), is_truncated=True)
            files.append(file)
    return Tree(root, tuple(files), is_truncated=False)


def parse_python(content: bytes) -> ast.Module | None:
    """Return the syntax tree of a Python source, not to be changed; None when it is none."""
    # A source with odd escapes makes the compiler warn, which is none of our reader's business. The filters
    # are the process's, so only one thread at a time may change them.
    with _parsing, warnings.catch_warnings():
        if content in _kept:
            return _kept[content]
        warnings.simplefilter("ignore")
        try:
            syntax = ast.parse(content)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            syntax = None
        if len(content) <= MAX_KEPT_BYTES:
            _kept[content] = syntax
            if len(_kept) > MAX_TREES_KEPT:
                _kept.popitem(last=False)
        return syntax


def result(kind: str, summary: str, tree: Tree | None = None, **figures: object) -> JsonObject:
    """Return a measurement as JSON: its kind, a sentence, its figures, and whether the tree was cut."""
    document: JsonObject = {"kind": kind, "summary": summary, **to_jsonable_python(figures)}
    if tree is not None and tree.is_truncated:
        document["summary"] = f"{summary} Only the first {MAX_FILES:,} files were looked at."
        document["is_truncated"] = True
    return document


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: `1 file`, `2,000 files`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def check_top(top: int) -> int:
    """Return `top`, how many entries a list may have.

    Raises:
        ValueError: It is not between 1 and 1,000.
    """
    if not 1 <= top <= 1000:
        raise ValueError(f"top: {top} is out of range. Fix: give a number from 1 to 1000.")
    return top


def _is_looked_at(folder: Path) -> bool:
    """Whether a folder holds what people wrote."""
    name = folder.name
    if name.startswith("."):
        return name in KEPT_HIDDEN
    return (
        name not in SKIPPED_FOLDERS
        and not name.endswith(".egg-info")
        and not (folder / "pyvenv.cfg").exists()
    )


def _source_file(root: Path, path: Path) -> SourceFile | None:
    """Describe a regular file; None for links, devices and what vanished meanwhile."""
    try:
        if path.is_symlink() or not path.is_file():
            return None
        size = path.stat().st_size
    except OSError:
        return None
    return SourceFile(path.relative_to(root).as_posix(), path, size)
