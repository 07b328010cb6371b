"""How much there is: lines by language, files by kind and size.

May import: orchestration.models, orchestration.systems.codebase.files, stdlib.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from orchestration.models import JsonObject
from orchestration.systems.codebase.files import SourceFile, count, open_tree, result

LANGUAGES = {
    ".bash": "Shell",
    ".c": "C",
    ".cc": "C++",
    ".cfg": "INI",
    ".cpp": "C++",
    ".cs": "C#",
    ".css": "CSS",
    ".go": "Go",
    ".h": "C",
    ".hpp": "C++",
    ".htm": "HTML",
    ".html": "HTML",
    ".ini": "INI",
    ".java": "Java",
    ".js": "JavaScript",
    ".json": "JSON",
    ".jsx": "JavaScript",
    ".kt": "Kotlin",
    ".lua": "Lua",
    ".md": "Markdown",
    ".mjs": "JavaScript",
    ".php": "PHP",
    ".pl": "Perl",
    ".proto": "Protocol Buffers",
    ".ps1": "PowerShell",
    ".py": "Python",
    ".pyi": "Python",
    ".pyx": "Cython",
    ".r": "R",
    ".rb": "Ruby",
    ".rs": "Rust",
    ".rst": "reStructuredText",
    ".scala": "Scala",
    ".scss": "CSS",
    ".sh": "Shell",
    ".sql": "SQL",
    ".svelte": "Svelte",
    ".swift": "Swift",
    ".toml": "TOML",
    ".ts": "TypeScript",
    ".tsx": "TypeScript",
    ".vue": "Vue",
    ".xml": "XML",
    ".yaml": "YAML",
    ".yml": "YAML",
    ".zig": "Zig",
}
"""Languages by file ending. What is not here is inventory, not code."""

NAMED_LANGUAGES = {"dockerfile": "Dockerfile", "makefile": "Makefile", "gnumakefile": "Makefile"}
"""Languages of files that are known by their whole name."""


@dataclass(slots=True)
class LanguageLines:
    """How much of one language there is."""

    language: str
    files: int = 0
    lines: int = 0
    blank_lines: int = 0


@dataclass(slots=True)
class Extension:
    """How many files share an ending."""

    extension: str
    files: int = 0
    size_bytes: int = 0


def lines_by_language(path: str) -> JsonObject:
    """Count files, lines and blank lines per programming and markup language.

    Args:
        path: Folder of the source tree.

    Raises:
        ValueError: `path` is not a folder.
    """
    tree = open_tree(path)
    found: dict[str, LanguageLines] = {}
    unread = 0
    for file in tree.files:
        language = language_of(file)
        if language is None:
            continue
        text = file.read_text()
        if text is None:
            unread += 1
            continue
        entry = found.setdefault(language, LanguageLines(language))
        lines = text.splitlines()
        entry.files += 1
        entry.lines += len(lines)
        entry.blank_lines += sum(1 for line in lines if not line.strip())
    languages = sorted(found.values(), key=lambda entry: (-entry.lines, entry.language))
    total = sum(entry.lines for entry in languages)
    summary = f"{count(total, 'line')} in {count(len(languages), 'language')}"
    if languages and total:
        summary += f"; {languages[0].language} is {100 * languages[0].lines / total:.0f} % of them"
    return result(
        "lines_by_language", f"{summary}.", tree, total_lines=total, languages=languages, unread_files=unread
    )


def file_inventory(path: str, top: int = 10) -> JsonObject:
    """Count files and bytes per file ending, and name the largest files.

    Args:
        path: Folder of the source tree.
        top: How many of the largest files to name.

    Raises:
        ValueError: `path` is not a folder.
    """
    tree = open_tree(path)
    extensions: dict[str, Extension] = {}
    folders: Counter[str] = Counter()
    for file in tree.files:
        entry = extensions.setdefault(file.suffix or file.path.name, Extension(file.suffix or file.path.name))
        entry.files += 1
        entry.size_bytes += file.size_bytes
        folders[file.name.rpartition("/")[0]] += 1
    total = sum(file.size_bytes for file in tree.files)
    largest = sorted(tree.files, key=lambda file: (-file.size_bytes, file.name))[:top]
    return result(
        "file_inventory",
        f"{count(len(tree.files), 'file')} in {count(len(folders), 'folder')}, {total / 1024:,.0f} KiB.",
        tree,
        total_files=len(tree.files),
        total_bytes=total,
        total_folders=len(folders),
        extensions=sorted(extensions.values(), key=lambda entry: (-entry.files, entry.extension))[:50],
        largest=[{"path": file.name, "size_bytes": file.size_bytes} for file in largest],
    )


def language_of(file: SourceFile) -> str | None:
    """Return the language a file is written in, by its name; None for anything else."""
    return LANGUAGES.get(file.suffix) or NAMED_LANGUAGES.get(file.path.name.lower())
