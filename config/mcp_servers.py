"""The file in which other programs list their MCP servers, taken as it is: `mcp_servers_file`.

May import: config.{document, mcp_entries, mistakes, systems_config}, orchestration.errors,
orchestration.systems.mcp_spec, stdlib. What one entry says is read in `mcp_entries.py`.

It is another program's file, so it is read leniently: comments and trailing commas are allowed (some editors write
them), unknown keys are noted, and an entry that can't be used spoils itself alone: it becomes a system that is there
and says why it can't run. Only what keeps the whole file from being read is a mistake of the configuration.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.mcp_entries import Entry, NotForUsError, UnusableEntryError, read_entry
from config.mistakes import shown
from config.systems_config import UnusableSettings
from orchestration.errors import Problem
from orchestration.systems.mcp_spec import McpServerSpec

MAX_FILE_BYTES = 32 * 1024 * 1024
"""Some programs keep their servers in the file with all their other settings."""

MAX_SERVERS = 1_000

_TOPS = (("mcpServers",), ("servers",), ("mcp", "servers"), ("mcp", "mcpServers"))
"""Where the programs put their servers."""

_RESERVED = frozenset({"auto", "agent"})
_NAME_CHARS = 100


@dataclass(slots=True)
class McpServers:
    """What the file declares."""

    servers: dict[str, McpServerSpec] = field(default_factory=dict)
    """Those that can be started, by the name of their system."""
    unusable: dict[str, UnusableSettings] = field(default_factory=dict)
    """Those that can't, by the name of their system."""
    warnings: list[str] = field(default_factory=list)
    """What was passed over, renamed or not understood, in sentences."""


def read_mcp_servers(
    source: Path, environ: Mapping[str, str], *, taken: Collection[str], place: str, problems: list[Problem]
) -> McpServers:
    """Read the file.

    Args:
        source: The file.
        environ: Where `${NAME}` is looked up.
        taken: Systems that are declared already; they win.
        place: Where the file was named, for a file that can't be read.
        problems: Gets what keeps the whole file from being read.
    """
    found = McpServers()
    text = _text(source, place, problems)
    if text is None:
        return found
    twice: list[str] = []
    try:
        document = json.loads(_plain(text), object_pairs_hook=lambda pairs: _object(pairs, twice))
    except json.JSONDecodeError as error:
        where = f"{source}:{error.lineno}:{error.colno}"
        problems.append(Problem(where, f"broken JSON: {error.msg}.", "correct it there."))
        return found
    except RecursionError:
        problems.append(Problem(str(source), "is nested too deeply to be read.", "check the file."))
        return found
    section = _section(document)
    if section is None:
        problems.append(
            Problem(
                str(source),
                "has no servers: expected an object with `mcpServers` (or `servers`), itself an object by name.",
                'write {"mcpServers": {"name": {"command": …}}}.',
            )
        )
        return found
    if len(section) > MAX_SERVERS:
        message = f"lists {len(section):,} servers; at most {MAX_SERVERS:,} are allowed."
        problems.append(Problem(str(source), message, "name another file."))
        return found
    _take_all(section, source, environ, taken, found)
    found.warnings += [
        f"{source}: {name!r} stands twice; the last one is used." for name in twice if name in section
    ]
    return found


def _take_all(
    section: Mapping[str, Any],
    source: Path,
    environ: Mapping[str, str],
    taken: Collection[str],
    found: McpServers,
) -> None:
    """Take every entry; what is said of one is a warning, or the reason it can't run."""
    # A name that is one already keeps it: those that must be renamed give way.
    renamed = {name for name in section if _as_name(name) != name}
    used = set(taken) | (set(section) - renamed)
    for written, value in section.items():
        where = f"{source}: {shown(written)}"
        name = written
        if written in renamed:
            name = _free_name(_as_name(written), used)
            used.add(name)
        if name in taken:
            found.warnings.append(
                f"{where} is not used: `systems` declares {name!r}, too. Fix: rename one of them to use both."
            )
            continue
        entry = Entry(environ)
        try:
            spec = read_entry(value, entry)
        except NotForUsError as why:
            found.warnings.append(f"{where} is not used: {why}")
            continue
        except UnusableEntryError as why:
            found.unusable[name] = UnusableSettings("mcp", f"{where}: {why}")
        else:
            found.servers[name] = spec
        if name != written:
            found.warnings.append(f"{where} is no name of a system; tasks call it {name!r}.")
        found.warnings += [f"{where}: {note}" for note in entry.notes]


def _text(source: Path, place: str, problems: list[Problem]) -> str | None:
    """Return the file's text; None after adding a problem."""
    try:
        if source.stat().st_size > MAX_FILE_BYTES:
            message = f"is over {MAX_FILE_BYTES:,} bytes; is it a file of MCP servers?"
            problems.append(Problem(str(source), message))
            return None
        return source.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problems.append(
            Problem(place, f"there is no file {str(source)!r}.", "check the path, or remove the key.")
        )
    except IsADirectoryError:
        problems.append(
            Problem(place, f"{str(source)!r} is a folder; expected a JSON file.", "name the file in it.")
        )
    except UnicodeDecodeError as error:
        problems.append(Problem(str(source), f"is not UTF-8 text (byte {error.start}).", "save it as UTF-8."))
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or error
        problems.append(Problem(place, f"{str(source)!r} can't be read: {words}.", "check the path."))
    return None


_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[\]}])', re.DOTALL)


def _plain(text: str) -> str:
    """Return the text without comments and trailing commas, everything else at its place."""

    def blank(match: re.Match[str]) -> str:
        found = match.group()
        return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)

    return _TRAILING.sub(blank, _LITERAL.sub(blank, text))


def _object(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    """Return an object; keys that stand twice are noted where they could be servers'."""
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, item in pairs if isinstance(item, dict)]
        twice += sorted({key for key in keys if keys.count(key) > 1})
    return value


def _section(document: Any) -> Mapping[str, Any] | None:
    """Return the servers by name; None where there are none."""
    for path in _TOPS:
        section = document
        for step in path:
            section = section.get(step) if isinstance(section, dict) else None
        if isinstance(section, dict):
            return section
    return None


def _as_name(written: str) -> str:
    """Return a name as a system may have it."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", written.strip()).strip("-_.")[:_NAME_CHARS] or "server"
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", written) and len(written) <= _NAME_CHARS:
        name = written
    return f"{name}-mcp" if name in _RESERVED else name


def _free_name(name: str, used: Collection[str]) -> str:
    """Return the name, with a number where it is another system's."""
    candidate, number = name, 1
    while candidate in used:
        number += 1
        candidate = f"{name[: _NAME_CHARS - 6]}-{number}"
    return candidate
