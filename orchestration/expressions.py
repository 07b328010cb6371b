"""Conditions (CEL) and `${task.output}` references: parsed when a DAG is validated, evaluated without `eval`.

May import: orchestration.{cel_syntax, errors, models}, cel (its extension module alone, late), stdlib.

A condition is CEL over `output`, `status` and `context`. Whatever it is given, an evaluation ends: CEL has no
loops but its macros, and `Condition.holds` refuses one whose macros could take more than `MAX_STEPS` steps.
"""

from __future__ import annotations

import difflib
import importlib.machinery
import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from orchestration.cel_syntax import FUNCTIONS, MACROS, METHODS, TYPE_NAMES, Reading, Use, read
from orchestration.errors import ConditionError, ReferenceResolutionError
from orchestration.models import Json, TaskId

CONDITION_VARIABLES = ("output", "status", "context")
"""What a condition can name."""
MAX_CONDITION_CHARS = 2000
MAX_MACRO_DEPTH = 3
"""How deep `all`, `map`, … may nest."""
MAX_STEPS = 20_000_000
"""Upper bound of one evaluation's work: a second or two, at 20 to 100 ns a step."""

COMPLETED = "completed"


# --- Conditions ---------------------------------------------------------------------------------------------


class Condition:
    """A compiled condition. Make one with `compile_condition`."""

    __slots__ = ("_program", "_reading", "_used", "names_status", "source")

    def __init__(self, source: str, program: Any, reading: Reading) -> None:
        self.source = source
        """As it was written."""
        names = {use.name for use in reading.variables}
        self.names_status = "status" in names
        """Whether it decides by itself about upstreams that did not complete."""
        self._used = tuple(name for name in CONDITION_VARIABLES if name in names)
        self._program = program
        self._reading = reading

    def __repr__(self) -> str:
        return f"Condition({self.source!r})"

    def holds(self, *, output: Json, status: str, context: Mapping[str, Json]) -> bool:
        """Evaluate the condition.

        Args:
            output: The upstream's output; None when it has none.
            status: The upstream's status, in lower case.
            context: The orchestration's context.

        Raises:
            ConditionError: It raised, its answer is no truth value, or it would take too long.
        """
        given: dict[str, Any] = {"output": output, "status": status, "context": context}
        values = {name: self._narrowed(name, given[name]) for name in self._used}
        if self._reading.can_be_long:
            self._refuse_long_work(values)
        try:
            answer = self._program.execute(values)
        except Exception as exc:
            raise ConditionError(self.source, _evaluation_fault(exc)) from exc
        if not isinstance(answer, bool):
            raise ConditionError(
                self.source,
                f"answered {_shown(answer)}; expected true or false. Fix: compare it: `output.rows > 0`.",
            )
        return answer

    def _narrowed(self, name: str, value: Any) -> Any:
        """Return `value`, without the top-level keys the condition never looks at: outputs can be large."""
        if name == "status" or not isinstance(value, Mapping):
            return value
        keys = set()
        for use in self._reading.variables:
            if use.name == name:
                if not use.path or not isinstance(use.path[0], str):
                    return value if isinstance(value, dict) else dict(value)
                keys.add(use.path[0])
        return {key: value[key] for key in keys if key in value}

    def _refuse_long_work(self, values: Mapping[str, Any]) -> None:
        steps = self._reading.steps(lambda use: _sizes_at(use, values))
        if steps > MAX_STEPS:
            raise ConditionError(
                self.source,
                f"could take {steps:,} steps on this output; at most {MAX_STEPS:,} are allowed. "
                "Fix: prefer `all` and `exists` to `map` and `filter`, or let a task compute the answer.",
            )


@lru_cache(maxsize=4096)
def compile_condition(source: str) -> Condition:
    """Compile a condition; the same source is compiled once.

    Raises:
        ConditionError: It is no CEL, names something there is not, or nests too deeply. Says the column.
    """
    if len(source) > MAX_CONDITION_CHARS:
        raise ConditionError(
            source[:60] + "…", f"has {len(source):,} characters; at most {MAX_CONDITION_CHARS:,} are allowed."
        )
    try:
        program = _cel().compile(source)
    except Exception as exc:
        raise ConditionError(source, _syntax_fault(source, str(exc))) from exc
    reading = read(source)
    _refuse_unknown_names(source, reading)
    if reading.macro_depth > MAX_MACRO_DEPTH:
        raise ConditionError(
            source, f"nests macros {reading.macro_depth} deep; at most {MAX_MACRO_DEPTH} are allowed."
        )
    if reading.steps(lambda _: (1, 1)) > MAX_STEPS:
        raise ConditionError(source, f"could take more than {MAX_STEPS:,} steps whatever the output is.")
    return Condition(source, program, reading)


def edge_delivers(condition: str | None, *, output: Json, status: str, context: Mapping[str, Json]) -> bool:
    """Return whether an edge with this condition delivers, its upstream having settled.

    Without a condition an edge delivers when its upstream completed. A condition that does not name `status`
    means `status == "completed" && (…)`; one that does decides alone.

    Raises:
        ConditionError: The condition raised, or its answer is no truth value.
    """
    if condition is None:
        return status == COMPLETED
    compiled = compile_condition(condition)
    if status != COMPLETED and not compiled.names_status:
        return False
    return compiled.holds(output=output, status=status, context=context)


@lru_cache(maxsize=1)
def _cel() -> Any:
    """Return the CEL library's extension module.

    The package's `__init__` imports a whole command line (200 ms); the extension needs 10 ms and none of it.
    """
    if (loaded := sys.modules.get("cel.cel")) is not None:
        return loaded
    spec = importlib.util.find_spec("cel")
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("cel.*")):
            if path.name.endswith(suffixes):
                inner = importlib.util.spec_from_file_location("cel.cel", path)
                if inner is not None and inner.loader is not None:
                    # Under its own name, once: a program that also imports `cel` would load it a second time,
                    # and the extension panics then.
                    module = sys.modules["cel.cel"] = importlib.util.module_from_spec(inner)
                    inner.loader.exec_module(module)
                    return module
    return importlib.import_module("cel")


def _refuse_unknown_names(source: str, reading: Reading) -> None:
    variables = [use for use in reading.variables if use.name not in TYPE_NAMES]
    for uses, known, kind in (
        (variables, CONDITION_VARIABLES, "variable"),
        (reading.calls, tuple(sorted(FUNCTIONS)), "function"),
        (reading.methods, tuple(sorted(METHODS | MACROS)), "method"),
    ):
        for use in uses:
            if use.name not in known:
                near = difflib.get_close_matches(use.name, known, 1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ConditionError(
                    source,
                    f"{_place(source, use.column)}: unknown {kind} {use.name!r}; there are {', '.join(known)}.{hint}",
                )


def _place(source: str, column: int) -> str:
    """Say where in a source, which may have several lines, its `column`-th character is."""
    above, newline, line = source[: column - 1].rpartition("\n")
    return f"line {above.count(newline) + 2}, column {len(line) + 1}" if newline else f"column {column}"


def _syntax_fault(source: str, message: str) -> str:
    """Make one line of the parser's report: where, and what."""
    found = re.search(r"ERROR: <input>:(\d+):(\d+): (.*)", message)
    if not source.strip():
        return "is empty; expected a CEL expression. Fix: leave the condition out."
    if found is None:
        return "is no CEL expression."
    line, column, what = int(found[1]), int(found[2]), found[3]
    what = re.sub(r"^Syntax error: ", "", what).split(" expecting ")[0]
    return f"line {line}, column {column}: {what}" if line > 1 else f"column {column}: {what}"


def _evaluation_fault(exc: Exception) -> str:
    if isinstance(exc, KeyError):
        return f"the value has no key {exc.args[0]!r}. Fix: guard it, as in `has(output.key) && …`."
    if isinstance(exc, TypeError):
        return (
            "an operation does not fit its values' types (null is no number; int and double do not add up). "
            "Fix: check for null, convert with double(), int() or string()."
        )
    return str(exc).split(" Check ")[0].strip()


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _sizes_at(use: Use, values: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many values there are at `use`, and how many are copied on the way; 1 where there is nothing."""
    value: Any = values.get(use.name)
    copied = 0 if use.path else _size(value)
    size = copied
    for key in use.path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return 1, copied + 1
        size = _size(value)
        copied += size
    return max(size, 1), max(copied, 1)


def _size(value: Any) -> int:
    total = 0
    stack = [value]
    while stack:
        item = stack.pop()
        total += 1
        if isinstance(item, Mapping):
            total += len(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, str):
            total += len(item) // 64
    return total


# --- References ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reference:
    """One `${task.path}`."""

    task_id: TaskId
    path: tuple[str | int, ...]
    """Keys and indexes, in order; empty for the whole output."""
    text: str
    """As it was written, `${` and `}` included."""


_TASK = r"[A-Za-z0-9][A-Za-z0-9_-]*(?:~[0-9]{1,3})?"
_REFERENCE = re.compile(rf"\$\{{\s*({_TASK})((?:\.[A-Za-z0-9_-]+|\[[0-9]+\])*)\s*\}}")
_STEP = re.compile(r"\.([A-Za-z0-9_-]+)|\[([0-9]+)\]")
_OPENING = re.compile(r"(\$\$\{)|\$\{")


RESULT_NAME = "output"
"""What `${…}` calls a task's own result, in the arguments of the tool that looks at it."""
ITEM_NAMES = frozenset({"item", "index"})
"""What references of a task with `foreach` call the element and its place in the list, from 0."""


def has_references(value: Json) -> bool:
    """Return whether `${` occurs anywhere in `value`: a cheap look before the real work."""
    if isinstance(value, str):
        return "${" in value
    if isinstance(value, dict):
        return any("${" in key or has_references(item) for key, item in value.items())
    if isinstance(value, list):
        return any(has_references(item) for item in value)
    return False


def references_in(value: Json) -> tuple[Reference, ...]:
    """Return every reference in `value`, in order of appearance, repeated ones included.

    Raises:
        ReferenceResolutionError: A reference is malformed, or stands in a key.
    """
    return tuple(_walk(value))


def whole_reference(text: str) -> Reference | None:
    """Return the reference that a text consists of, and nothing else; None when there is more or none.

    Raises:
        ReferenceResolutionError: A reference is malformed.
    """
    pieces = _pieces(text)
    return pieces[0] if len(pieces) == 1 and isinstance(pieces[0], Reference) else None


def _walk(value: Json) -> Iterator[Reference]:
    if isinstance(value, str):
        if "${" in value:
            yield from (piece for piece in _pieces(value) if isinstance(piece, Reference))
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_key(key)
            yield from _walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item)


def resolve_references(value: Json, outputs: Mapping[TaskId, Json]) -> Json:
    """Return `value` with every `${…}` replaced.

    A reference that is a whole string keeps the value's type; inside a text, strings are put in as they are
    and other values as compact JSON. `$${` stands for a literal `${`.

    Args:
        value: What may hold references, at any depth.
        outputs: The outputs of the upstreams that delivered. One that is not there delivered nothing: a
            whole-string reference to it is null, one inside a text is empty.

    Raises:
        ReferenceResolutionError: A reference is malformed or names what a delivered output does not have.
    """
    if isinstance(value, str):
        return _resolve_text(value, outputs) if "${" in value else value
    if isinstance(value, dict):
        for key in value:
            _refuse_key(key)
        return {key: resolve_references(item, outputs) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve_references(item, outputs) for item in value]
    return value


def _resolve_text(text: str, outputs: Mapping[TaskId, Json]) -> Json:
    pieces = _pieces(text)
    if len(pieces) == 1 and isinstance(pieces[0], Reference):
        return _look_up(pieces[0], outputs)
    return "".join(piece if isinstance(piece, str) else _as_text(piece, outputs) for piece in pieces)


def _as_text(reference: Reference, outputs: Mapping[TaskId, Json]) -> str:
    if reference.task_id not in outputs:
        return ""
    value = _look_up(reference, outputs)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _look_up(reference: Reference, outputs: Mapping[TaskId, Json]) -> Json:
    if reference.task_id not in outputs:
        return None
    value = outputs[reference.task_id]
    for depth, key in enumerate(reference.path):
        match value, key:
            case dict(), str() if key in value:
                value = value[key]
            case list(), int() if key < len(value):
                value = value[key]
            case _:
                raise ReferenceResolutionError(reference.text, _missing(reference, depth, value))
    return value


def _missing(reference: Reference, depth: int, value: Json) -> str:
    steps = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in reference.path[:depth])
    where = reference.task_id + "".join(steps)
    if isinstance(value, dict):
        keys = ", ".join(list(value)[:20]) + (", …" if len(value) > 20 else "")
        there = f"an object with {keys}" if value else "an empty object"
    else:
        there = f"a list of {len(value)}" if isinstance(value, list) else _shown(value)
    missing = reference.path[depth]
    return f"the output of task {reference.task_id!r} has no {missing!r} at {where}; there is {there}."


def _pieces(text: str) -> list[str | Reference]:
    """Split a text into literal strings and references.

    Raises:
        ReferenceResolutionError: A `${` opens nothing that can be read.
    """
    pieces: list[str | Reference] = []
    at = 0
    for opening in _OPENING.finditer(text):
        if opening.start() < at:
            continue
        if opening.start() > at:
            pieces.append(text[at : opening.start()])
        if opening[1]:
            pieces.append("${")
            at = opening.end()
            continue
        found = _REFERENCE.match(text, opening.start())
        if found is None:
            raise ReferenceResolutionError(
                text if len(text) <= 120 else text[:117] + "…",
                f"column {opening.start() + 1}: no reference can be read here; expected `${{task.key[0]}}`. "
                "Fix: write `$${` for a literal `${`.",
            )
        steps = tuple(name or int(index) for name, index in _STEP.findall(found[2]))
        pieces.append(Reference(found[1], steps, found[0]))
        at = found.end()
    if at < len(text):
        pieces.append(text[at:])
    return pieces


def _refuse_key(key: str) -> None:
    if "${" in key:
        raise ReferenceResolutionError(key, "a reference can't stand in a key. Fix: put it into a value.")
