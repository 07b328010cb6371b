"""Promises about who may import whom: the arrows of `docs/architecture.md`, read from the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("orchestration", "storage", "config", "server")

MAY_NOT: dict[str, tuple[str, ...]] = {
    "orchestration": ("server", "storage", "config", "asyncio"),
    "storage": (
        "server",
        "config",
        "orchestration.orchestrator",
        "orchestration.planning",
        "orchestration.systems",
    ),
    "config": ("server", "storage", "orchestration.orchestrator", "orchestration.execution"),
    "orchestration.planning": (
        "orchestration.execution",
        "orchestration.engine",
        "orchestration.orchestrator",
    ),
    "orchestration.execution": ("orchestration.planning", "orchestration.orchestrator"),
    "orchestration.systems": (
        *(
            "orchestration.planning",
            "orchestration.execution",
            "orchestration.engine",
            "orchestration.orchestrator",
        ),
    ),
}
"""Room → what nothing in it imports, late imports included."""

PURE = (
    *("orchestration.engine", "orchestration.models", "orchestration.dag", "orchestration.errors"),
    *("orchestration.expressions", "orchestration.cel_syntax", "orchestration.validation"),
)
"""Rooms that wait for nothing, read no clock, draw nothing and do no I/O."""

IMPURE = (
    *("anyio", "asyncio", "concurrent", "logging", "os", "random", "secrets", "shutil", "signal", "socket"),
    *("sqlite3", "structlog", "subprocess", "tempfile", "threading", "time", "uuid"),
    "orchestration.clock",
)
"""What pure rooms never import."""

ENGINE_KNOWS = ("dag", "engine", "errors", "expressions", "models", "options")
"""The only parts of `orchestration` the engine imports."""

ONLY_IN: dict[str, tuple[str, ...]] = {
    "networkx": ("orchestration.dag",),
    "cel": ("orchestration.expressions",),
    "aiosqlite": ("storage",),
    "sqlite3": ("storage", "orchestration.planning.playbook_search"),
    "rich": ("server.cli",),
    "uvicorn": ("server",),
    "platformdirs": ("config",),
}
"""Library → the rooms that may import it."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield name and syntax tree of every module of the program."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def imports(syntax: ast.Module) -> Iterator[str]:
    """Yield everything a module imports, at its top or later."""
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_in(name: str, room: str) -> bool:
    """Whether a module or what it provides belongs to a room."""
    return name == room or name.startswith(f"{room}.")


IMPORTS = [(name, target) for name, syntax in modules() for target in imports(syntax)]


@pytest.mark.parametrize("room", MAY_NOT)
def test_imports_point_one_way(room: str) -> None:
    """server → storage, config → orchestration; planning and execution do not know each other."""
    wrong = [
        f"{name} imports {target}"
        for name, target in IMPORTS
        if is_in(name, room) and any(is_in(target, banned) for banned in MAY_NOT[room])
    ]

    assert wrong == []


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_stay_pure(room: str) -> None:
    """Nothing there waits, reads a clock, draws or does I/O."""
    wrong = [
        f"{name} imports {target}"
        for name, target in IMPORTS
        if is_in(name, room) and any(is_in(target, banned) for banned in IMPURE)
    ]

    assert wrong == []


def test_the_engine_knows_the_model_and_nothing_else_of_ours() -> None:
    """The engine could be lifted out with five modules."""
    wrong = [
        f"{name} imports {target}"
        for name, target in IMPORTS
        if is_in(name, "orchestration.engine") and is_in(target, "orchestration")
        if not any(is_in(target, f"orchestration.{known}") for known in ENGINE_KNOWS)
    ]

    assert wrong == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_used_in_its_own_room_only(library: str) -> None:
    """What one room hides, no other room depends on."""
    wrong = [
        f"{name} imports {target}"
        for name, target in IMPORTS
        if is_in(target, library) and not any(is_in(name, room) for room in ONLY_IN[library])
    ]

    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_opens_by_saying_what_belongs_in_it(package: str) -> None:
    """A docstring whose first line is a sentence, then what the file may import."""
    silent = []
    for name, syntax in modules():
        text = ast.get_docstring(syntax) or ""
        is_marker = not syntax.body or (
            len(syntax.body) == 1 and text
        )  # a package's `__init__` with words alone
        if is_in(name, package) and not is_marker and (not text or "May import:" not in text):
            silent.append(name)

    assert silent == []
