"""Which module of a tree imports which, and where that goes in circles.

May import: orchestration.models, orchestration.systems.codebase.files, stdlib.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestration.models import Json, JsonObject
from orchestration.systems.codebase.files import SourceFile, check_top, count, open_tree, result


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's target, as written."""

    module: str
    """Dotted name after `import` or `from`; empty for `from . import x`."""
    names: tuple[str, ...]
    """What `from … import` takes; empty for a plain `import`."""
    level: int
    """Leading dots."""
    is_deferred: bool
    """Inside a function or under `if TYPE_CHECKING`: not needed to load the module."""


def import_graph(path: str, top: int = 10) -> JsonObject:
    """Find which modules of the tree import which others when they are loaded.

    Imports inside functions and under `if TYPE_CHECKING` are counted but are no edges: they never fail.

    Args:
        path: Folder of the source tree.
        top: How many of the most imported modules to name.

    Raises:
        ValueError: `path` is not a folder.
    """
    check_top(top)
    tree = open_tree(path)
    modules = {module_name(file): file for file in tree.python()}
    known = set(modules)
    imports: dict[str, list[str]] = {}
    deferred = 0
    unparsed: list[str] = []
    for name, file in modules.items():
        syntax = file.parse()
        if syntax is None:
            unparsed.append(file.name)
            continue
        package = name if file.path.name == "__init__.py" else name.rpartition(".")[0]
        targets: set[str] = set()
        for found in iter_imports(syntax):
            internal = _resolve(found, package, known)
            if found.is_deferred:
                deferred += len(internal)
            else:
                targets |= internal
        imports[name] = sorted(targets - {name})
    edges = sum(len(targets) for targets in imports.values())
    importers = Counter(target for targets in imports.values() for target in targets)
    ranked = sorted(importers.items(), key=lambda item: (-item[1], item[0]))[:top]
    return result(
        "import_graph",
        f"{count(len(modules), 'module')}, {count(edges, 'import')} between them.",
        tree,
        total_modules=len(modules),
        total_imports=edges,
        deferred_imports=deferred,
        imports=imports,
        most_imported=[{"module": module, "importers": number} for module, number in ranked],
        unparsed=unparsed[:50],
    )


def import_cycles(graph: dict[str, Json]) -> JsonObject:
    """Find groups of modules that import each other in a circle.

    Args:
        graph: The result of `import_graph`, or its `imports`: the modules each module imports.

    Raises:
        ValueError: `graph` is neither.
    """
    imports = _imports_of(graph)
    groups = [
        group for group in _strongly_connected(imports) if len(group) > 1 or group[0] in imports[group[0]]
    ]
    cycles = sorted(
        (_cycle_within(sorted(group), imports) for group in groups), key=lambda cycle: (len(cycle), cycle)
    )
    described = [{"modules": len(cycle) - 1, "cycle": " → ".join(cycle)} for cycle in cycles]
    summary = (
        f"{count(len(cycles), 'circle')} of imports." if cycles else "No module imports itself in a circle."
    )
    return result("import_cycles", summary, total_cycles=len(cycles), cycles=described[:50])


def iter_imports(syntax: ast.Module) -> Iterator[Import]:
    """Yield every import of a module."""
    waiting: list[tuple[ast.AST, bool]] = [(syntax, False)]
    while waiting:
        node, is_deferred = waiting.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), 0, is_deferred)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            yield Import(node.module or "", names, node.level, is_deferred)
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            waiting += [(child, True) for child in node.body]
            waiting += [(child, is_deferred) for child in node.orelse]
        elif not isinstance(node, ast.expr):
            inside = is_deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            waiting += [(child, inside) for child in ast.iter_child_nodes(node)]


def module_name(file: SourceFile) -> str:
    """Return the dotted name a Python file is imported by: from its topmost package, or from the tree's root.

    A file outside any package is named by its path without a leading `src`.
    """
    parts = file.name.removesuffix(".py").split("/")
    start = len(parts) - 1
    folder = file.path.parent
    while start > 0 and (folder / "__init__.py").exists():
        start -= 1
        folder = folder.parent
    if start == len(parts) - 1:
        start = 1 if len(parts) > 1 and parts[0] == "src" else 0
    dotted = parts[start:]
    if dotted[-1] == "__init__" and len(dotted) > 1:
        dotted = dotted[:-1]
    return ".".join(dotted)


def _is_type_checking(test: ast.expr) -> bool:
    """Whether a condition is `TYPE_CHECKING` or `typing.TYPE_CHECKING`."""
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _resolve(found: Import, package: str, known: set[str]) -> set[str]:
    """Return which modules of the tree an import loads."""
    base = found.module
    if found.level:
        above = package.split(".") if package else []
        above = above[: len(above) - (found.level - 1)]
        base = ".".join([*above, found.module] if found.module else above)
    targets: set[str] = set()
    for name in found.names:
        if f"{base}.{name}" in known:
            targets.add(f"{base}.{name}")
        elif base in known:
            targets.add(base)
    if not found.names and base:
        parts = base.split(".")
        prefixes = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
        targets |= {next((prefix for prefix in prefixes if prefix in known), "")} - {""}
    return targets


def _imports_of(graph: Mapping[str, Json]) -> dict[str, list[str]]:
    """Return the adjacency lists in an argument, every target a key."""
    inner = graph.get("imports")
    adjacency = inner if isinstance(inner, dict) else graph
    imports: dict[str, list[str]] = {}
    for module, targets in adjacency.items():
        if not isinstance(targets, list):
            raise ValueError(
                f"graph: {module!r} has {targets!r} where a list of module names was expected. "
                "Fix: give the result of import_graph."
            )
        imports[module] = [str(target) for target in targets]
    for target in [target for targets in imports.values() for target in targets]:
        imports.setdefault(target, [])
    return imports


def _strongly_connected(graph: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return the strongly connected components: Tarjan's algorithm with a stack of its own, in O(V + E)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_nodes: list[str] = []
    is_open: set[str] = set()
    components: list[list[str]] = []
    for root in sorted(graph):
        if root in order:
            continue
        work = [(root, iter(graph[root]))]
        order[root] = lowest[root] = len(order)
        open_nodes.append(root)
        is_open.add(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in order:
                    order[target] = lowest[target] = len(order)
                    open_nodes.append(target)
                    is_open.add(target)
                    work.append((target, iter(graph[target])))
                    break
                if target in is_open:
                    lowest[node] = min(lowest[node], order[target])
            else:
                work.pop()
                if work:
                    lowest[work[-1][0]] = min(lowest[work[-1][0]], lowest[node])
                if lowest[node] == order[node]:
                    cut = open_nodes.index(node)
                    components.append(open_nodes[cut:])
                    is_open.difference_update(open_nodes[cut:])
                    del open_nodes[cut:]
    return components


def _cycle_within(group: Sequence[str], graph: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a shortest circle through the first module of a component, that module at both ends."""
    start = group[0]
    members = set(group)
    before: dict[str, str] = {}
    frontier = [start]
    while frontier:
        following: list[str] = []
        for node in frontier:
            for target in sorted(set(graph[node]) & members):
                if target == start:
                    steps = [start, node] if node != start else [start]
                    while steps[-1] != start:
                        steps.append(before[steps[-1]])
                    return steps[::-1] if node != start else [start, start]
                if target not in before:
                    before[target] = node
                    following.append(target)
        frontier = following
    return [start]
