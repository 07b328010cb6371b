"""One entry of a file of MCP servers, as the programs that read such files write it.

May import: orchestration.systems.mcp_spec, pydantic, stdlib.

`${NAME}`, `${env:NAME}` and `${NAME:-default}` are taken from the environment wherever a text stands. The words of a
refusal never hold a value: a file like this is full of tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from pydantic import ValidationError

from orchestration.systems.mcp_spec import McpServerSpec

_YES = frozenset({"true", "yes", "on", "1"})
_NO = frozenset({"false", "no", "off", "0"})
_STDIO = frozenset({"stdio", "local"})
_HTTP = frozenset({"http", "streamable-http", "streamablehttp", "streamable_http", "remote"})
_TYPES = ("type", "transport", "transportType")
_URLS = ("url", "serverUrl", "httpUrl", "endpoint")

_OURS = (
    "connect_timeout_seconds",
    "timeout_seconds",
    "max_concurrent",
    "idle_seconds",
    "max_answer_bytes",
)
"""Keys of ours that may stand there, too."""

_SILENT = frozenset(
    {"description", "name", "displayName", "icon", "gallery", "version", "metadata", "tags", "note", "notes"}
)
"""Keys that say something to people only."""

_OUR_PROGRAMS = frozenset({"advanced-orchestration", "advanced-task-orchestration"})
"""This program's command and package; started by itself it would orchestrate itself."""

_RUNNERS = frozenset({"uvx", "uv", "pipx", "npx", "python", "python3", "py", "env"})

_VARIABLE = re.compile(
    r"\$\{(?:env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{(?P<other>[^}]*)\}?"
)


class NotForUsError(Exception):
    """The entry is not to be used, and nothing is wrong with it; says why."""


class UnusableEntryError(Exception):
    """The entry can't be used; says why and what to do."""


@dataclass(slots=True)
class Entry:
    """What becomes known while an entry is read."""

    environ: Mapping[str, str]
    notes: list[str] = field(default_factory=list)
    """What was passed over, in sentences."""


def read_entry(value: Any, entry: Entry) -> McpServerSpec:
    """Return how the entry's server is reached.

    Raises:
        NotForUsError: It is switched off, or is this program.
        UnusableEntryError: It can't be used.
    """
    if not isinstance(value, Mapping):
        raise UnusableEntryError(f"it is {_kind(value)}; expected an object with `command` or `url`.")
    if (how := _switched_off(value)) is not None:
        raise NotForUsError(f"it is switched off there{how}.")
    transport = _transport(value)
    fields = _stdio(value, entry) if transport == "stdio" else _http(value, entry)
    fields |= {key: value[key] for key in _OURS if value.get(key) is not None}
    entry.notes += _unread(value)
    try:
        return McpServerSpec.model_validate(fields)
    except ValidationError as error:
        raise UnusableEntryError(_told(error)) from None


def _switched_off(value: Mapping[str, Any]) -> str | None:
    """Return how the entry is switched off in other words than true and false, empty where in those; None: it is on.

    Whoever wrote `"disabled": "true"` wants it off: a server that runs against somebody's will is the worse mistake.
    """
    for key, off, words in (("disabled", True, _YES), ("enabled", False, _NO)):
        found = value.get(key)
        if found is off:
            return ""
        if isinstance(found, str | int) and str(found).strip().lower() in words:
            return f" (`{key}` is {found!r}; write {str(off).lower()} without quotes)"
    return None


def _transport(value: Mapping[str, Any]) -> str:
    """Return `stdio` or `http`."""
    wanted = next((value[key] for key in _TYPES if value.get(key) is not None), None)
    has_command, has_url = "command" in value, any(value.get(key) is not None for key in _URLS)
    if wanted is None:
        if has_command == has_url:
            there = "both `command` and `url`" if has_command else "neither `command` nor `url`"
            raise UnusableEntryError(f"it has {there}; expected one of them.")
        return "stdio" if has_command else "http"
    word = str(wanted).lower()
    if word in _STDIO:
        if not has_command:
            raise UnusableEntryError("its type is 'stdio', and `command` is missing. Fix: add it.")
        return "stdio"
    if word in _HTTP:
        if not has_url:
            raise UnusableEntryError(f"its type is {word!r}, and `url` is missing. Fix: add it.")
        return "http"
    why = " (the transport that Streamable HTTP has replaced)" if word == "sse" else ""
    raise UnusableEntryError(
        f"its type is {str(wanted)[:40]!r}{why}; expected 'stdio' or 'http'. "
        "Fix: use the server's Streamable HTTP address, usually ending in /mcp."
    )


def _stdio(value: Mapping[str, Any], entry: Entry) -> dict[str, Any]:
    command = _text(value["command"], "command", entry)
    args = value.get("args") or []
    if not isinstance(args, list):
        raise UnusableEntryError(f"args is {_kind(args)}; expected a list of texts.")
    texts = [_text(item, f"args[{index}]", entry) for index, item in enumerate(args)]
    if _is_ourselves(command, texts):
        raise NotForUsError("it is this program, which would orchestrate itself.")
    fields: dict[str, Any] = {"command": _home(command), "args": texts, "env": _texts(value, "env", entry)}
    if value.get("cwd") is not None:
        fields["cwd"] = Path(_home(_text(value["cwd"], "cwd", entry)))
    if value.get("envFile") is not None:
        entry.notes.append(
            "`envFile` is not read; set its variables in the environment and name them in `env`."
        )
    return fields


def _http(value: Mapping[str, Any], entry: Entry) -> dict[str, Any]:
    key = next(key for key in _URLS if value.get(key) is not None)
    return {"url": _text(value[key], key, entry), "headers": _texts(value, "headers", entry)}


def _texts(value: Mapping[str, Any], key: str, entry: Entry) -> dict[str, str]:
    """Return an object of texts; a number or truth value counts as its text, as in the programs that write it."""
    section = value.get(key) or {}
    if not isinstance(section, Mapping):
        raise UnusableEntryError(f"{key} is {_kind(section)}; expected an object of texts.")
    return {name: _text(item, f"{key}.{name}", entry) for name, item in section.items() if item is not None}


def _text(value: Any, where: str, entry: Entry) -> str:
    """Return a text with the environment put in.

    Raises:
        UnusableEntryError: It is none, or names a variable that is not set.
    """
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        raise UnusableEntryError(f"{where} is {_kind(value)}; expected a text.")

    def fill(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if name is None:
            raise UnusableEntryError(
                f"{where} has {match.group()[:60]!r}, which only the program it was written for understands. "
                "Fix: write ${NAME} and set NAME in the environment."
            )
        found = entry.environ.get(name)
        if found is not None and (found or default is None):
            return found
        if default is not None:
            return str(default)
        raise UnusableEntryError(
            f"environment variable {name}, which {where} names, is not set. Fix: set {name} and start again."
        )

    text = _VARIABLE.sub(fill, value)
    if "\0" in text:
        raise UnusableEntryError(f"{where} holds a NUL character; no program takes that.")
    return text


def _is_ourselves(command: str, args: list[str]) -> bool:
    """Whether the entry starts this program."""
    name = _program(command)
    if name in _OUR_PROGRAMS:
        return True
    if name not in _RUNNERS and not re.fullmatch(r"python[\d.]*", name):
        return False
    words = [word for word in args if not word.startswith("-")]
    if any(re.split(r"[=@\[<>~ ]", word, maxsplit=1)[0].lower() in _OUR_PROGRAMS for word in words):
        return True
    return any(_program(word) in _OUR_PROGRAMS for word in words)


def _program(text: str) -> str:
    """Return a program's name without its folder and ending."""
    return PurePath(text.replace("\\", "/")).name.removesuffix(".exe").removesuffix(".cmd").lower()


def _home(text: str) -> str:
    """Return a path with `~` put in; where there is no home, as it is."""
    if not text.startswith("~"):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError:
        return text


def _unread(value: Mapping[str, Any]) -> list[str]:
    """Return a note for the keys that mean nothing here."""
    read = {"command", "args", "env", "cwd", "headers", "disabled", "enabled", "envFile"}
    read |= {*_TYPES, *_URLS, *_OURS, *_SILENT}
    odd = [str(key)[:60] for key in value if key not in read]
    if not odd:
        return []
    return [f"not used here: {', '.join(odd[:10])}{' …' if len(odd) > 10 else ''}."]


def _told(error: ValidationError) -> str:
    """Return a failed check in a sentence, without the value: it may be a secret."""
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"])
    words = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{where + ': ' if where else ''}{words}."


def _kind(value: Any) -> str:
    """Return what a value is, without the value."""
    if value is None:
        return "null"
    names = {bool: "a truth value", int: "a number", float: "a number", str: "a text", list: "a list"}
    return names.get(type(value), "an object")
