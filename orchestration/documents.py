"""YAML and JSON text as plain JSON values, both ways: safe, bounded, and knowing the line of everything.

May import: orchestration.{errors, models, problems}, yaml, stdlib.

YAML is read in its 1.2 core schema, which agrees with JSON: `no` and `2026-11-21` are text, not a boolean and
a date. The reader takes libyaml's events and builds the values itself, without recursion: nothing is
constructed but mappings, lists, texts, numbers, booleans and nulls, and aliases can't multiply what they
stand for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from orchestration.errors import InvalidDagError, Problem
from orchestration.models import Json
from orchestration.problems import shown

MAX_TEXT_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 100
"""How deep mappings and lists may nest; libyaml's time grows with the square of it."""
MAX_ALIASED_VALUES = 100_000
"""Values that aliases may add: a few lines of YAML could otherwise stand for billions."""

Path: TypeAlias = tuple[str | int, ...]

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_TEXT_TAGS = frozenset({"!", "tag:yaml.org,2002:str"})
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SAFE_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read_document(text: str) -> Json:
    """Return what a YAML or JSON text says.

    Raises:
        InvalidDagError: It is neither, has a key twice, or goes over a limit. Says line and column.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_TEXT_BYTES:
        too_long = f"has {size:,} bytes; at most {MAX_TEXT_BYTES:,} are allowed."
        raise InvalidDagError([Problem("document", too_long, "Split the DAG.")])
    if text.lstrip()[:1] == "{":
        try:
            return _read_json(text)
        except (ValueError, RecursionError):
            pass  # YAML's flow mappings look like it; and its reader knows where a mistake is
    return _read_yaml(text)


def find_places(text: str, paths: Collection[Path]) -> dict[Path, int]:
    """Return the line (from 1) of each path, or of as much of it as there is; of none where nothing is."""
    wanted = {path[:length] for path in paths for length in range(1, len(path) + 1)}
    lines: dict[Path, int] = {}
    try:
        for path, line in _walk_places(text):
            if path in wanted:
                lines.setdefault(path, line)
    except yaml.YAMLError:
        pass  # JSON that is no YAML: what was found so far is as good as it gets
    found: dict[Path, int] = {}
    for path in paths:
        for length in range(len(path), 0, -1):
            if path[:length] in lines:
                found[path] = lines[path[:length]]
                break
    return found


def write_yaml(value: Json) -> str:
    """Return a value as YAML in block style, keys in order; `read_document` gives the same value back."""
    return str(
        yaml.dump(
            value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=100
        )
    )


# --- JSON ---------------------------------------------------------------------------------------------------


def _read_json(text: str) -> Json:
    value: Json = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# --- YAML ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being built."""

    container: Any
    started_at: int
    """How many values there were before it."""
    anchor: str | None
    key: str | None = None
    """The key that waits for its value."""


def _read_yaml(text: str) -> Json:
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        context = f" ({exc.context})" if exc.context else ""
        builder.refuse(mark, f"{exc.problem}{context}.")
    except (yaml.YAMLError, UnicodeError) as exc:
        builder.refuse(None, str(exc).split("\n")[0] + ".")
    except _TooMuch:
        pass
    if builder.problems:
        raise InvalidDagError(builder.problems)
    value: Json = builder.value
    return value


class _TooMuch(Exception):  # noqa: N818  (never leaves this module)
    """A limit is passed; reading on could take forever."""


class _Builder:
    """Builds one document from events."""

    def __init__(self) -> None:
        self.value: Any = None
        self.problems: list[Problem] = []
        self.documents = 0
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.count = 0
        self.aliased = 0

    def refuse(self, mark: Any, message: str, fix: str = "") -> None:
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "document"
        self.problems.append(Problem(place, message, fix))

    def take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent():
                self._open(event, {})
            case yaml.SequenceStartEvent():
                self._open(event, [])
            case yaml.CollectionEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    self.refuse(event.start_mark, "starts a second document; expected one.", "Remove `---`.")
                    raise _TooMuch
            case _:
                pass

    def _scalar(self, event: Any) -> None:
        top = self.stack[-1] if self.stack else None
        if top is not None and top.key is None and isinstance(top.container, dict):
            top.key = event.value
            if event.value in top.container:
                self.refuse(event.start_mark, f"key {event.value!r} is there twice.", "Keep one of them.")
            return
        value: Any = event.value
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            self.refuse(event.start_mark, f"tag {shown(event.tag)} is not allowed.", "Write the plain value.")
        elif event.tag is None and event.implicit[0]:
            try:
                value = _plain(event.value)
            except ValueError:
                self.refuse(event.start_mark, f"number {shown(event.value)} is too long.", "Quote it.")
        self._remember(event.anchor, value, 1)
        self._put(value, event)

    def _open(self, event: Any, container: Any) -> None:
        if len(self.stack) >= MAX_DEPTH:
            self.refuse(event.start_mark, f"nests more than {MAX_DEPTH} deep.", "Make the document flatter.")
            raise _TooMuch
        if event.tag is not None and not event.tag.startswith(
            ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
        ):
            self.refuse(event.start_mark, f"tag {shown(event.tag)} is not allowed.", "Write the plain value.")
        started_at = self.count
        self._put(container, event)
        self.stack.append(_Open(container, started_at, event.anchor))

    def _close(self) -> None:
        done = self.stack.pop()
        self._remember(done.anchor, done.container, self.count - done.started_at)

    def _remember(self, anchor: str | None, value: Any, size: int) -> None:
        if anchor is not None:
            self.anchors[anchor] = (value, size)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            self.refuse(
                event.start_mark,
                f"alias *{event.anchor} names nothing complete above it.",
                "Write the value.",
            )
            self._put(None, event)
            return
        value, size = self.anchors[event.anchor]
        self.aliased += size
        self.count += size - 1
        if self.aliased > MAX_ALIASED_VALUES:
            limit = f"aliases stand for more than {MAX_ALIASED_VALUES:,} values."
            self.refuse(event.start_mark, limit, "Write them out.")
            raise _TooMuch
        self._put(value, event)

    def _put(self, value: Any, event: Any) -> None:
        self.count += 1
        if not self.stack:
            self.value = value
            return
        top = self.stack[-1]
        if isinstance(top.container, list):
            top.container.append(value)
        elif top.key is None:
            self.refuse(
                event.start_mark, "a key is a mapping, a list or an alias; expected text.", "Quote it."
            )
            top.key = ""
        else:
            top.container[top.key] = value
            top.key = None


def _plain(text: str) -> Json:
    """Return what an unquoted scalar means in the core schema.

    Raises:
        ValueError: It is a number longer than Python reads.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if text[0] in "+-.0123456789":
        if _INT.fullmatch(text):
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if _FLOAT.fullmatch(text):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _walk_places(text: str) -> Iterator[tuple[Path, int]]:
    """Yield each value's path and line; for a mapping's values the line of the key."""
    path: list[Any] = []
    kinds: list[str] = []
    has_key: list[bool] = []
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionEndEvent):
            path.pop()
            kinds.pop()
            has_key.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        mark: Any = event.start_mark
        line = mark.line + 1
        if kinds and kinds[-1] == "mapping" and not has_key[-1]:
            path[-1] = getattr(event, "value", "")
            has_key[-1] = True
            yield tuple(path), line
            continue
        if kinds and kinds[-1] == "list":
            path[-1] += 1
            yield tuple(path), line
        if kinds:
            has_key[-1] = False
        if isinstance(event, yaml.CollectionStartEvent):
            is_list = isinstance(event, yaml.SequenceStartEvent)
            path.append(-1 if is_list else "")
            kinds.append("list" if is_list else "mapping")
            has_key.append(False)


class _Dumper(_SAFE_DUMPER):  # type: ignore[misc]
    """Writes every value in full and quotes what either version of YAML would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


for _first in "+-.0123456789":
    _Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(rf"^(?:{_INT.pattern})$"), [_first])
    _Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"^(?:{_FLOAT.pattern})$"), [_first])
