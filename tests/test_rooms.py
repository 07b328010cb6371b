"""The house rules of the imports, read from the syntax trees: which room may know which.

Each rule is a sentence of `docs/architecture.md`; each module's own `May import:` line is held to as well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("server", "storage", "config", "orchestration")

MAY_KNOW = {
    "server": {"server", "storage", "config", "orchestration"},
    "storage": {"storage", "orchestration"},
    "config": {"config", "orchestration"},
    "orchestration": {"orchestration"},
}
"""Imports point one way: server → storage, config → orchestration."""

MAY_NOT_KNOW = {
    "orchestration.engine": ("orchestration.execution", "orchestration.planning", "orchestration.systems",
                             "orchestration.ports", "orchestration.clock"),
    "orchestration.planning": ("orchestration.execution", "orchestration.orchestrator"),
    "orchestration.execution": ("orchestration.planning", "orchestration.orchestrator"),
    "orchestration.systems": ("orchestration.planning", "orchestration.execution", "orchestration.orchestrator"),
    "orchestration.ports": ("orchestration.execution", "orchestration.planning", "orchestration.systems"),
}  # fmt: skip
"""Inside orchestration: execution reaches the planner only through a port; the engine knows none of them."""

PURE = (
    "orchestration.engine", "orchestration.models", "orchestration.errors", "orchestration.dag",
    "orchestration.expressions", "orchestration.cel_syntax", "orchestration.problems", "orchestration.options",
    "orchestration.validation", "orchestration.exports",
)  # fmt: skip
IMPURE_MODULES = frozenset(
    {
        *("anyio", "asyncio", "concurrent", "multiprocessing", "signal", "subprocess", "threading"),
        *("os", "select", "socket", "tempfile", "logging", "structlog"),
        *("random", "secrets", "time", "uuid"),
        *("aiosqlite", "httpx", "mcp", "sqlite3"),
    }
)
"""What waits, reads a clock, draws, or does I/O."""

HOMES = {
    "networkx": ("orchestration.dag",),
    "cel": (),
    "yaml": ("orchestration.documents", "config"),
    "aiosqlite": ("storage",),
    "sqlite3": ("storage", "orchestration.planning", "orchestration.systems"),
    "pydantic_ai": ("orchestration.planning",),
    "uvicorn": ("server",),
    "starlette": ("server",),
}
"""Libraries that have one home; an empty one means nobody imports it by name."""

HOMES_IN_ORCHESTRATION = {"time": ("orchestration.clock",), "asyncio": (), "uuid": ()}
"""The same for what the orchestrator may only have through a port or through anyio."""


@dataclass(frozen=True)
class Module:
    """One file of the house."""

    name: str
    path: Path
    tree: ast.Module

    def imports(self) -> Iterator[tuple[str, int]]:
        """Yield each module that is imported anywhere in it, with the line; `from a import b` may yield `a.b`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield (inner if inner in _names() else base), node.lineno

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.name.split(".") if self.path.name == "__init__.py" else self.name.split(".")[:-1]
        above = package[: len(package) - node.level + 1]
        return ".".join([*above, *([node.module] if node.module else [])])


@cache
def _names() -> dict[str, Path]:
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def modules() -> tuple[Module, ...]:
    """Return every module of the house."""
    return tuple(Module(name, path, ast.parse(path.read_bytes())) for name, path in _names().items())


def _is_in(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


def _offences(rule: object) -> list[str]:
    """Return `module:line imports what` wherever `rule(module, imported)` is true."""
    assert callable(rule)
    return [
        f"{module.name}:{line} imports {imported}"
        for module in modules()
        for imported, line in module.imports()
        if rule(module.name, imported)
    ]


def test_imports_point_one_way() -> None:
    """server → storage, config → orchestration, and never back."""

    def offends(module: str, imported: str) -> bool:
        room = imported.partition(".")[0]
        return room in ROOMS and room not in MAY_KNOW[module.partition(".")[0]]

    assert _offences(offends) == []


def test_rooms_of_orchestration_keep_apart() -> None:
    """Planning and execution meet in the orchestrator; the engine knows neither, and no port."""

    def offends(module: str, imported: str) -> bool:
        return any(
            _is_in(module, room) and any(_is_in(imported, other) for other in others)
            for room, others in MAY_NOT_KNOW.items()
        )

    assert _offences(offends) == []


def test_pure_rooms_do_not_wait_draw_or_touch_the_world() -> None:
    """No event loop, thread, clock, randomness, process, file or socket in the core."""

    def offends(module: str, imported: str) -> bool:
        return any(_is_in(module, room) for room in PURE) and imported.partition(".")[0] in IMPURE_MODULES

    assert _offences(offends) == []


def test_libraries_have_one_home() -> None:
    """networkx is the graph's, YAML the documents', SQLite storage's, the web server the server's."""

    def offends(module: str, imported: str) -> bool:
        library = imported.partition(".")[0]
        homes = HOMES.get(library)
        if _is_in(module, "orchestration"):
            homes = HOMES_IN_ORCHESTRATION.get(library, homes)
        return homes is not None and not any(_is_in(module, home) for home in homes)

    assert _offences(offends) == []


def test_heavy_libraries_are_imported_when_they_are_needed() -> None:
    """Start-up time is a feature: mcp (0.4 s) and networkx wait for their first use."""
    heavy = {"mcp", "networkx", "cel", "rich", "uvicorn", "starlette"}
    early = [
        f"{module.name}:{node.lineno}"
        for module in modules()
        if _is_in(module.name, "orchestration")
        for node in module.tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and {name.partition(".")[0] for name in _roots(node)} & heavy
    ]

    assert early == []


def _roots(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""] if not node.level else []
    return [alias.name for alias in node.names]


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_a_module_says_what_it_may_import(module: Module) -> None:
    """Every module opens with what belongs in it and, when it imports anything, a `May import:` line."""
    if not module.tree.body:
        return
    opening = ast.get_docstring(module.tree) or ""

    assert opening, "no opening docstring"
    assert _permitted(opening) or not list(module.imports()), "no `May import:` line"


@pytest.mark.parametrize(
    "module",
    [module for module in modules() if any(_is_in(module.name, room) for room in PURE)],
    ids=lambda module: module.name,
)
def test_a_pure_module_imports_what_its_first_lines_say(module: Module) -> None:
    """In the core the line is exact: nothing of the house is imported that it does not name."""
    permitted = _permitted(ast.get_docstring(module.tree) or "")
    own = {name for name, _ in module.imports() if name.partition(".")[0] in ROOMS}

    assert sorted(name for name in own if not _is_permitted(name, permitted)) == []


def _permitted(opening: str) -> str:
    """Return the sentence after `May import:`."""
    found = re.search(r"May import:(.*?)(?:\n\s*\n|\Z)", opening, re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def _is_permitted(imported: str, sentence: str) -> bool:
    """Whether a sentence like `orchestration.{dag, errors}, orchestration.engine.*` covers a module."""
    package, _, name = imported.rpartition(".")
    if f"{package}.*" in sentence:
        return True
    return (
        re.search(rf"(?<![\w.]){re.escape(imported)}\b|{{[^}}]*\b{re.escape(name)}\b[^}}]*}}", sentence)
        is not None
    )
