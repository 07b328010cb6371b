"""Which functions are long or have many paths through them.

May import: orchestration.models, orchestration.systems.codebase.files, stdlib.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from orchestration.models import Json, JsonObject
from orchestration.systems.codebase.files import Tree, check_top, count, open_tree, result

LONG_FUNCTION_LINES = 60
"""Functions over this are counted as long: they no longer fit on a screen."""

COMPLEX_FUNCTION_PATHS = 10
"""Functions over this are counted as complex: McCabe's own advice."""


@dataclass(frozen=True, slots=True)
class FunctionSize:
    """How big one function is."""

    function: str
    path: str
    line: int
    lines: int
    complexity: int


def longest_functions(path: str, top: int = 10) -> JsonObject:
    """Name the functions with the most lines, tests left out.

    Args:
        path: Folder of the source tree.
        top: How many to name.

    Raises:
        ValueError: `path` is not a folder.
    """
    ranking = _rank(path, top, lambda size: size.lines, LONG_FUNCTION_LINES)
    return result(
        "longest_functions",
        f"{count(ranking.total, 'function')} of {ranking.average:.1f} lines on average; "
        f"{ranking.above:,} over {LONG_FUNCTION_LINES} lines.",
        ranking.tree,
        total_functions=ranking.total,
        average_lines=round(ranking.average, 2),
        long_functions=ranking.above,
        functions=ranking.functions,
    )


def complex_functions(path: str, top: int = 10) -> JsonObject:
    """Name the functions with the highest cyclomatic complexity, tests left out.

    Args:
        path: Folder of the source tree.
        top: How many to name.

    Raises:
        ValueError: `path` is not a folder.
    """
    ranking = _rank(path, top, lambda size: size.complexity, COMPLEX_FUNCTION_PATHS)
    return result(
        "complex_functions",
        f"{count(ranking.total, 'function')} with {ranking.average:.1f} paths on average; "
        f"{ranking.above:,} with more than {COMPLEX_FUNCTION_PATHS}.",
        ranking.tree,
        total_functions=ranking.total,
        average_complexity=round(ranking.average, 2),
        above_limit=ranking.above,
        functions=ranking.functions,
    )


@dataclass(frozen=True, slots=True)
class _Ranking:
    """Functions by one of their measures."""

    tree: Tree
    total: int
    average: float
    above: int
    """How many are over the limit."""
    functions: list[Json]
    """The highest, as JSON."""


def _rank(path: str, top: int, measure: Callable[[FunctionSize], int], limit: int) -> _Ranking:
    """Rank a tree's functions by a measure, highest first, tests left out."""
    check_top(top)
    tree = open_tree(path)
    sizes = _measure(tree.parsed(with_tests=False))
    ranked = sorted(sizes, key=lambda size: (-measure(size), size.path, size.line))[:top]
    return _Ranking(
        tree=tree,
        total=len(sizes),
        average=sum(map(measure, sizes)) / len(sizes) if sizes else 0.0,
        above=sum(measure(size) > limit for size in sizes),
        functions=[asdict(size) for size in ranked],
    )


def cyclomatic_complexity(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return one more than the decisions in a function; functions inside it count for themselves."""
    paths = 1
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        paths += _decisions(node)
        waiting += ast.iter_child_nodes(node)
    return paths


def _decisions(node: ast.AST) -> int:
    """Return how many ways out of a syntax node there are beyond the first."""
    match node:
        case ast.If() | ast.For() | ast.AsyncFor() | ast.While() | ast.IfExp() | ast.ExceptHandler():
            return 1
        case ast.BoolOp():
            return len(node.values) - 1
        case ast.comprehension():
            return 1 + len(node.ifs)
        case ast.match_case():
            catches_all = (
                isinstance(node.pattern, ast.MatchAs) and node.pattern.pattern is None and node.guard is None
            )
            return 0 if catches_all else 1
        case _:
            return 0


def _measure(parsed: Iterator[tuple[object, ast.Module]]) -> list[FunctionSize]:
    """Measure every function, nested ones and methods included."""
    sizes: list[FunctionSize] = []
    for file, syntax in parsed:
        name = getattr(file, "name", "")
        waiting: list[tuple[ast.AST, str]] = [(syntax, "")]
        while waiting:
            node, prefix = waiting.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                qualified = prefix + node.name
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                sizes.append(FunctionSize(qualified, name, node.lineno, lines, cyclomatic_complexity(node)))
                prefix = f"{qualified}."
            elif isinstance(node, ast.ClassDef):
                prefix = f"{prefix}{node.name}."
            elif isinstance(node, ast.expr):
                continue
            waiting += [(child, prefix) for child in ast.iter_child_nodes(node)]
    return sizes
