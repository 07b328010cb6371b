"""What a Python project says it needs beside what it imports.

May import: orchestration.models, orchestration.systems.codebase.{files, imports, requirement_files}, stdlib.
"""

from __future__ import annotations

import re
import sys
from dataclasses import asdict, dataclass, field

from orchestration.models import Json, JsonObject
from orchestration.systems.codebase.files import SourceFile, Tree, count, open_tree, result
from orchestration.systems.codebase.imports import iter_imports, module_name
from orchestration.systems.codebase.requirement_files import Requirement, normalized, read_requirements

DISTRIBUTIONS = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cel": "common-expression-language",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "gitpython",
    "github": "pygithub",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "magic": "python-magic",
    "mcp_types": "mcp",
    "mpl_toolkits": "matplotlib",
    "multipart": "python-multipart",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "pydantic_ai": "pydantic-ai-slim",
    "pydantic_core": "pydantic",
    "_pytest": "pytest",
    "serial": "pyserial",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "slugify": "python-slugify",
    "socks": "pysocks",
    "telegram": "python-telegram-bot",
    "usb": "pyusb",
    "win32api": "pywin32",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
"""Import names that differ from the name of the distribution they come from."""

_DYNAMIC = re.compile(r"""\b(?:import_module|find_spec|__import__)\(\s*["']([A-Za-z_]\w*)""")

RUNTIME_GROUPS = frozenset({"dependencies", "requirements"})
"""Groups whose entries should be imported somewhere; the others hold tools."""


@dataclass(slots=True)
class ImportedPackage:
    """One package from outside that the tree imports."""

    package: str
    files: int = 0
    is_test_only: bool = True
    example: str = field(default="")


def declared_dependencies(path: str) -> JsonObject:
    """List what the project declares: pyproject.toml, setup.cfg and requirements files.

    Args:
        path: Folder of the source tree.

    Raises:
        ValueError: `path` is not a folder.
    """
    tree = open_tree(path)
    found, unreadable = read_requirements(tree)
    names = sorted({requirement.name for requirement in found})
    sources = sorted({requirement.source for requirement in found})
    summary = (
        f"{count(len(names), 'package')} declared in {', '.join(sources)}."
        if found
        else "Nothing is declared."
    )
    return result(
        "declared_dependencies",
        summary,
        tree,
        total_packages=len(names),
        names=names,
        runtime_names=sorted({item.name for item in found if item.group in RUNTIME_GROUPS}),
        declared=[asdict(requirement) for requirement in found[:500]],
        unreadable=unreadable,
    )


def imported_packages(path: str) -> JsonObject:
    """List the packages the tree imports that are neither its own nor the standard library's.

    Args:
        path: Folder of the source tree.

    Raises:
        ValueError: `path` is not a folder.
    """
    tree = open_tree(path)
    own = _own_names(tree)
    found: dict[str, ImportedPackage] = {}
    for file, syntax in tree.parsed():
        tops = {
            item.module.partition(".")[0] for item in iter_imports(syntax) if not item.level and item.module
        }
        tops.update(_DYNAMIC.findall(file.read_text() or ""))
        for name in sorted(tops - own):
            if name in sys.stdlib_module_names or _is_beside(file, name):
                continue
            package = found.setdefault(name, ImportedPackage(name))
            package.files += 1
            package.is_test_only = package.is_test_only and file.is_test
            package.example = package.example or file.name
    packages = [asdict(package) for _, package in sorted(found.items())]
    return result(
        "imported_packages",
        f"{count(len(packages), 'package')} from outside imported.",
        tree,
        total_packages=len(packages),
        names=sorted(found),
        packages=packages,
    )


def dependency_check(
    declared: list[str] | dict[str, Json], imported: list[str] | dict[str, Json]
) -> JsonObject:
    """Compare what is declared with what is imported.

    Args:
        declared: The result of `declared_dependencies`, or names of distributions.
        imported: The result of `imported_packages`, or import names.
    """
    declared_names = {normalized(name): name for name in _names(declared, "declared", "names")}
    runtime = declared_names
    if isinstance(declared, dict) and "runtime_names" in declared:
        runtime = {normalized(name): name for name in _names(declared, "declared", "runtime_names")}
    imported_names = _names(imported, "imported", "names")
    needed = {name: _candidates(name) for name in imported_names}
    missing = sorted(name for name, candidates in needed.items() if not candidates & declared_names.keys())
    used = set().union(*needed.values()) if needed else set()
    unused = sorted(name for key, name in runtime.items() if key not in used and not _is_tool(key))
    if missing or unused:
        summary = (
            f"{count(len(missing), 'import')} not declared; {count(len(unused), 'package')} never imported."
        )
    else:
        summary = "Everything imported is declared, and everything declared is imported."
    return result("dependency_check", summary, undeclared=missing, unused=unused, checked=len(imported_names))


def _names(argument: list[str] | dict[str, Json], field_name: str, key: str) -> list[str]:
    """Return the list of names in an argument that is one or has one."""
    names = argument.get(key) if isinstance(argument, dict) else argument
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"{field_name}: expected a list of names, or a result with {key!r}, but got {argument!r:.200}. "
            f"Fix: give the result of the step before."
        )
    return [str(name) for name in names]


def _candidates(import_name: str) -> set[str]:
    """Return the distributions an import name may come from."""
    return {normalized(import_name), normalized(DISTRIBUTIONS.get(import_name, import_name))}


def _is_tool(name: str) -> bool:
    """Whether a distribution is used without being imported: type stubs and plug-ins."""
    return bool(re.match(r"types-|.*-stubs$|pytest(-|$)|tzdata$", name))


def _own_names(tree: Tree) -> set[str]:
    """Return the top-level names the tree itself provides."""
    tops = {module_name(file).partition(".")[0] for file in tree.python()}
    folders = {
        file.name.split("/")[-2]
        for file in tree.python()
        if "/" in file.name and file.name.startswith("src/")
    }
    return tops | folders


def _is_beside(file: SourceFile, name: str) -> bool:
    """Whether a script imports its neighbour: a file or folder next to it."""
    folder = file.path.parent
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


__all__ = ["Requirement", "declared_dependencies", "dependency_check", "imported_packages"]
