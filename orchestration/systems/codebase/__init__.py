"""Read-only measurements of a source tree, as plain functions a `function` system can run: the demo's tools.

May import: its own files.

A measurement takes a path and a few bounds and returns JSON with `kind`, a one-sentence `summary` and its
figures; the same tree gives the same answer. Nothing here imports or runs the tree's code, and only
`write_report` writes. A tree that is broken, empty, huge or under no version control is measured
as far as it goes.
"""

from collections.abc import Callable, Mapping

from orchestration.systems.codebase.churn import git_churn
from orchestration.systems.codebase.complexity import complex_functions, longest_functions
from orchestration.systems.codebase.dependencies import (
    declared_dependencies,
    dependency_check,
    imported_packages,
)
from orchestration.systems.codebase.docs import docstring_coverage, documentation_links
from orchestration.systems.codebase.imports import import_cycles, import_graph
from orchestration.systems.codebase.inventory import file_inventory, lines_by_language
from orchestration.systems.codebase.report import render_report, write_report
from orchestration.systems.codebase.testing import test_inventory
from orchestration.systems.codebase.todos import open_todos

FUNCTIONS: Mapping[str, Callable[..., object]] = {
    function.__name__: function
    for function in (
        complex_functions,
        declared_dependencies,
        dependency_check,
        docstring_coverage,
        documentation_links,
        file_inventory,
        git_churn,
        import_cycles,
        import_graph,
        imported_packages,
        lines_by_language,
        longest_functions,
        open_todos,
        render_report,
        test_inventory,
        write_report,
    )
}
"""Every function of this package by name, ready for `FunctionSystem(FUNCTIONS)`."""

__all__ = [
    "FUNCTIONS",
    "complex_functions",
    "declared_dependencies",
    "dependency_check",
    "docstring_coverage",
    "documentation_links",
    "file_inventory",
    "git_churn",
    "import_cycles",
    "import_graph",
    "imported_packages",
    "lines_by_language",
    "longest_functions",
    "open_todos",
    "render_report",
    "test_inventory",
    "write_report",
]
