"""What is tested: test files, test functions, and their size beside the code.

May import: orchestration.models, orchestration.systems.codebase.files, stdlib.
"""

from __future__ import annotations

import ast
from dataclasses import asdict, dataclass

from orchestration.models import JsonObject
from orchestration.systems.codebase.files import count, open_tree, result


@dataclass(slots=True)
class Folder:
    """The tests of one folder."""

    folder: str
    files: int = 0
    functions: int = 0
    lines: int = 0


def test_inventory(path: str) -> JsonObject:
    """Count Python test files and test functions per folder, and compare their lines with the code's.

    Args:
        path: Folder of the source tree.

    Raises:
        ValueError: `path` is not a folder.
    """
    tree = open_tree(path)
    folders: dict[str, Folder] = {}
    source_lines = source_files = 0
    for file in tree.python():
        content = file.read_bytes()
        lines = 0 if content is None else len(content.splitlines())
        if not file.is_test:
            source_files += 1
            source_lines += lines
            continue
        syntax = file.parse()
        name = file.name.rpartition("/")[0] or "."
        folder = folders.setdefault(name, Folder(name))
        folder.files += 1
        folder.lines += lines
        folder.functions += 0 if syntax is None else _count_tests(syntax)
    functions = sum(folder.functions for folder in folders.values())
    files = sum(folder.files for folder in folders.values())
    test_lines = sum(folder.lines for folder in folders.values())
    ratio = test_lines / source_lines if source_lines else 0.0
    return result(
        "test_inventory",
        f"{count(functions, 'test')} in {count(files, 'file')}; {ratio:.2f} lines of tests per line of code.",
        tree,
        total_tests=functions,
        test_files=files,
        test_lines=test_lines,
        source_files=source_files,
        source_lines=source_lines,
        tests_per_line=round(ratio, 3),
        folders=[asdict(folder) for _, folder in sorted(folders.items())],
    )


def _count_tests(syntax: ast.Module) -> int:
    """Count `test…` functions at the top and in classes, not those inside other functions."""
    found = 0
    waiting: list[ast.stmt] = [*syntax.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found += node.name.startswith("test")
        elif isinstance(node, ast.ClassDef):
            waiting += node.body
    return found
