"""What is written about the code: links that lead nowhere, public names without a docstring.

May import: orchestration.models, orchestration.systems.codebase.files, stdlib.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from orchestration.models import JsonObject
from orchestration.systems.codebase.files import SourceFile, check_top, count, open_tree, result

_FENCE = re.compile(r"\s{0,3}(```+|~~~+)")
_CODE = re.compile(r"(`+)(?:(?!\1).)+\1")
_INLINE = re.compile(r"\]\(\s*(<[^>]*>|[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)")
_DEFINITION = re.compile(r"\s{0,3}\[[^\]]+\]:\s*(<[^>]*>|\S+)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """A link in a document whose target is not there."""

    path: str
    line: int
    target: str


def documentation_links(path: str, top: int = 50) -> JsonObject:
    """Check that relative links in Markdown files lead to a file or folder of the tree.

    Links to other places, and to headings, are not followed.

    Args:
        path: Folder of the source tree.
        top: How many broken links to list.

    Raises:
        ValueError: `path` is not a folder.
    """
    check_top(top)
    tree = open_tree(path)
    documents = [file for file in tree.files if file.suffix in {".md", ".markdown"}]
    broken: list[BrokenLink] = []
    checked = 0
    for file in documents:
        for line, target in _relative_links(file):
            checked += 1
            if not _leads_somewhere(tree.root, file, target):
                broken.append(BrokenLink(file.name, line, target))
    return result(
        "documentation_links",
        f"{count(checked, 'relative link')} in {count(len(documents), 'document')}; "
        f"{'none leads' if not broken else f'{len(broken):,} lead'} nowhere.",
        tree,
        documents=len(documents),
        checked_links=checked,
        total_broken=len(broken),
        broken=broken[:top],
    )


def docstring_coverage(path: str, top: int = 20) -> JsonObject:
    """Count public modules, classes and functions with a docstring, tests left out.

    Args:
        path: Folder of the source tree.
        top: How many names without one to list.

    Raises:
        ValueError: `path` is not a folder.
    """
    check_top(top)
    tree = open_tree(path)
    totals: Counter[str] = Counter()
    documented: Counter[str] = Counter()
    missing: list[dict[str, str | int]] = []
    for file, syntax in tree.parsed(with_tests=False):
        for kind, name, node in _public_definitions(syntax):
            totals[kind] += 1
            if ast.get_docstring(node, clean=False):
                documented[kind] += 1
            elif syntax.body:
                missing.append(
                    {"path": file.name, "line": getattr(node, "lineno", 1), "name": name or file.name}
                )
    total, have = totals.total(), documented.total()
    percent = 100 * have / total if total else 100.0
    kinds = [{"what": kind, "total": totals[kind], "documented": documented[kind]} for kind in sorted(totals)]
    return result(
        "docstring_coverage",
        f"{have:,} of {count(total, 'public name')} have a docstring ({percent:.0f} %).",
        tree,
        percent=round(percent, 1),
        total_names=total,
        documented_names=have,
        kinds=kinds,
        missing=missing[:top],
    )


def _relative_links(file: SourceFile) -> Iterator[tuple[int, str]]:
    """Yield line and target of each relative link outside code."""
    fence = ""
    for number, line in enumerate((file.read_text() or "").splitlines(), start=1):
        mark = _FENCE.match(line)
        if mark:
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence):
                fence = ""
            continue
        if fence or line.startswith("    "):
            continue
        prose = _CODE.sub("", line)
        definition = _DEFINITION.match(prose)
        for raw in [definition[1]] if definition else _INLINE.findall(prose):
            target = raw.strip("<>")
            if target and not target.startswith(("#", "//")) and not _SCHEME.match(target):
                yield number, target


def _leads_somewhere(root: Path, file: SourceFile, target: str) -> bool:
    """Whether a relative link's target exists; a leading slash means the tree's root."""
    name = unquote(re.split(r"[?#]", target, maxsplit=1)[0])
    place = root / name.lstrip("/") if name.startswith("/") else file.path.parent / name
    try:
        return place.exists()
    except (OSError, ValueError):
        return False


def _public_definitions(
    syntax: ast.Module,
) -> Iterator[tuple[str, str, ast.Module | ast.ClassDef | ast.FunctionDef]]:
    """Yield kind, name and node of a module and of its public classes, functions and methods."""
    yield "modules", "", syntax
    waiting: list[tuple[ast.stmt, str]] = [(node, "") for node in reversed(syntax.body)]
    while waiting:
        node, prefix = waiting.pop()
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield "classes", prefix + node.name, node
            waiting += [(child, f"{prefix}{node.name}.") for child in reversed(node.body)]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield "functions", prefix + node.name, node  # type: ignore[misc]  # an async def is documented alike
