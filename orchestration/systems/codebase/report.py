"""Joins measurements into one Markdown report.

May import: orchestration.models, orchestration.systems.codebase.files, stdlib.

A section is a table drawn from one list in a measurement. Measurements of a kind not listed here get their
summary and their plain figures, so that a further function needs no change here to appear.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestration.models import Json, JsonObject
from orchestration.systems.codebase.files import result

MARKER = "<!-- codebase report -->"
"""First line of every report: `write_report` replaces only files that begin with it."""

MAX_ROWS = 25
"""Rows of one table; the data keeps the rest."""


@dataclass(frozen=True, slots=True)
class Section:
    """How one kind of measurement is shown."""

    heading: str
    rows: str = ""
    """Key of the list the table is drawn from; empty for none."""
    columns: tuple[tuple[str, str], ...] = ()
    """Key and title of each column."""
    lists: tuple[tuple[str, str], ...] = ()
    """Key and title of lists of names, each written as one line."""


_FUNCTION_COLUMNS = (("function", "Function"), ("path", "File"), ("line", "Line"))

SECTIONS: Mapping[str, Section] = {
    "lines_by_language": Section(
        "Size",
        "languages",
        (("language", "Language"), ("files", "Files"), ("lines", "Lines"), ("blank_lines", "Blank")),
    ),
    "file_inventory": Section("Files", "largest", (("path", "Largest files"), ("size_bytes", "Bytes"))),
    "import_graph": Section(
        "Modules", "most_imported", (("module", "Most imported"), ("importers", "By modules"))
    ),
    "import_cycles": Section("Import cycles", "cycles", (("cycle", "Circle"), ("modules", "Modules"))),
    "longest_functions": Section("Longest functions", "functions", (*_FUNCTION_COLUMNS, ("lines", "Lines"))),
    "complex_functions": Section(
        "Most complex functions", "functions", (*_FUNCTION_COLUMNS, ("complexity", "Paths"))
    ),
    "test_inventory": Section(
        "Tests",
        "folders",
        (("folder", "Folder"), ("files", "Files"), ("functions", "Tests"), ("lines", "Lines")),
    ),
    "docstring_coverage": Section(
        "Docstrings", "kinds", (("what", "What"), ("total", "Public"), ("documented", "With a docstring"))
    ),
    "documentation_links": Section(
        "Links that lead nowhere", "broken", (("path", "Document"), ("line", "Line"), ("target", "Target"))
    ),
    "open_todos": Section(
        "Left for later", "todos", (("path", "File"), ("line", "Line"), ("marker", "Mark"), ("text", "Note"))
    ),
    "declared_dependencies": Section("Declared dependencies", lists=(("names", "Declared"),)),
    "imported_packages": Section("Imported packages", lists=(("names", "Imported"),)),
    "dependency_check": Section(
        "Declared against imported",
        lists=(("undeclared", "Imported, not declared"), ("unused", "Declared, never imported")),
    ),
    "git_churn": Section(
        "Where it changes",
        "files",
        (("path", "File"), ("commits", "Commits"), ("added_lines", "Added"), ("removed_lines", "Removed")),
    ),
}
"""Every kind that has a form of its own, in the order of the report."""


def render_report(
    title: str,
    path: str = "",
    sections: dict[str, Json] | list[Json] | None = None,
    inputs: dict[str, Json] | None = None,
) -> JsonObject:
    """Join measurements into one Markdown document, in a fixed order.

    Args:
        title: Heading of the report.
        path: The tree it is about, for the reader; only its last part is shown.
        sections: Measurements, by name or as a list.
        inputs: Measurements that arrive along the task's edges; used beside `sections`.
    """
    named = dict(inputs or {})
    named |= (
        sections
        if isinstance(sections, dict)
        else {str(index): item for index, item in enumerate(sections or ())}
    )
    order = list(SECTIONS)
    measured = [(name, item) for name, item in named.items() if isinstance(item, dict)]
    measured.sort(key=lambda pair: (_position(order, pair[1]), pair[0]))
    name = Path(path).name if path else ""
    lines = [MARKER, f"# {_plain(title)}", ""]
    if name:
        lines += [f"Tree: `{_plain(name)}`", ""]
    lines += ["## In short", "", *_in_short(measured), ""]
    for task_id, item in measured:
        lines += _section(task_id, item)
    return result(
        "report", f"A report of {len(measured)} sections.", markdown="\n".join(lines), sections=len(measured)
    )


def write_report(
    title: str,
    output: str,
    path: str = "",
    sections: dict[str, Json] | list[Json] | None = None,
    inputs: dict[str, Json] | None = None,
) -> JsonObject:
    """Do what `render_report` does and write the document to a file.

    Args:
        title: Heading of the report.
        output: File to write; must end with `.md`. Replaced only when it is an earlier report.
        path: The tree it is about, for the reader.
        sections: Measurements, by name or as a list.
        inputs: Measurements that arrive along the task's edges.

    Raises:
        ValueError: `output` does not end with `.md`, or is a file that is no report.
    """
    target = Path(output).expanduser()
    if target.suffix != ".md":
        raise ValueError(f"output: {output!r} does not end with .md. Fix: name a Markdown file.")
    document = render_report(title, path, sections, inputs)
    save_report(target, str(document["markdown"]))
    return {**document, "output": str(target)}


def save_report(target: Path, markdown: str) -> None:
    """Write a report, replacing only an earlier one.

    Raises:
        ValueError: `target` exists and is no report.
    """
    if target.exists():
        with target.open(encoding="utf-8", errors="replace") as file:
            if file.readline().strip() != MARKER:
                raise ValueError(
                    f"output: {str(target)!r} exists and is no report. Fix: choose another name."
                )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(markdown, encoding="utf-8")


def _position(order: Sequence[str], item: Mapping[str, Json]) -> int:
    """Return where a measurement stands in the report; unknown kinds come last."""
    kind = item.get("kind")
    return order.index(kind) if isinstance(kind, str) and kind in order else len(order)


def _in_short(measured: Iterable[tuple[str, Mapping[str, Json]]]) -> list[str]:
    """Return one bullet per measurement with its summary."""
    bullets = [
        f"- **{_heading(name, item)}:** {_plain(item['summary'])}"
        for name, item in measured
        if item.get("summary")
    ]
    return bullets or ["- Nothing was measured."]


def _section(name: str, item: Mapping[str, Json]) -> list[str]:
    """Return one section's lines."""
    section = SECTIONS.get(str(item.get("kind")))
    lines = [f"## {_heading(name, item)}", ""]
    if item.get("summary"):
        lines += [_plain(item["summary"]), ""]
    if section is None:
        figures = [(key, value) for key, value in item.items() if isinstance(value, int | float | str)]
        lines += [
            f"- {_plain(key)}: {_plain(value)}" for key, value in figures if key not in {"kind", "summary"}
        ]
        return [*lines, ""] if lines[-1] else lines
    for key, title in section.lists:
        names = item.get(key)
        if isinstance(names, list) and names:
            lines += [f"{title}: " + ", ".join(f"`{_plain(entry)}`" for entry in names[:100]), ""]
    return [*lines, *_table(section, item.get(section.rows))]


def _table(section: Section, rows: Json) -> list[str]:
    """Return a Markdown table, empty when there are no rows."""
    if not isinstance(rows, list) or not rows or not section.columns:
        return []
    lines = [
        "| " + " | ".join(title for _, title in section.columns) + " |",
        "|" + "|".join(" --- " for _ in section.columns) + "|",
    ]
    lines += [
        "| " + " | ".join(_plain(row.get(key, "")) for key, _ in section.columns) + " |"
        for row in rows[:MAX_ROWS]
        if isinstance(row, dict)
    ]
    if len(rows) > MAX_ROWS:
        lines += ["", f"… and {len(rows) - MAX_ROWS} more."]
    return [*lines, ""]


def _heading(name: str, item: Mapping[str, Json]) -> str:
    """Return a measurement's heading: its kind's, or its name made readable."""
    section = SECTIONS.get(str(item.get("kind")))
    return section.heading if section else _plain(name.replace("_", " ").replace("-", " ").capitalize())


def _plain(value: object) -> str:
    """Return a value as text of one line that can't break a table or become markup."""
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    for mark in ("\\", "|", "<", "[", "`"):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
