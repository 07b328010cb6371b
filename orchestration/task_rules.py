"""What one task may say, looked at by itself: sizes, and which of its fields go together.

May import: orchestration.{errors, expressions, fallbacks, json_schemas, models, options, problems}, stdlib.

What only shows in the whole graph (edges, references, parents) is in `validation.py` and `hierarchy_rules.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from orchestration.errors import ConditionError, Problem, ReferenceResolutionError
from orchestration.expressions import compile_condition, has_references, whole_reference
from orchestration.fallbacks import fallbacks_in
from orchestration.json_schemas import check_schema
from orchestration.models import (
    MAX_FALLBACKS,
    MAX_NESTING,
    Acceptance,
    Fallback,
    Json,
    TaskId,
    TaskNode,
    Verification,
    nests_too_deeply,
)
from orchestration.options import Limits
from orchestration.problems import joined, shown


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a task that may hold references, or a key."""

    path: str
    value: Json
    has_item: bool = False
    """Whether `${item}` and `${index}` are the element of the task's `foreach` there."""
    has_result: bool = False
    """Whether `${output}` is the task's own result there."""


def is_item(task_id: TaskId) -> bool:
    """Whether an id is that of a child that a `foreach` made."""
    return task_id.endswith("]") or "]~" in task_id


def is_plain(node: TaskNode) -> bool:
    """Return quickly that a task has nothing that could be wrong by itself: most tasks of a large graph have not."""
    return not (
        node.arguments
        or node.metadata
        or node.verify
        or node.acceptance
        or node.cache
        or node.fallback
        or node.foreach is not None
        or not node.description.isascii()
        or "~" in node.task_id
        or "[" in node.task_id
    )


def has_texts(node: TaskNode) -> bool:
    """Return quickly whether a task may have references."""
    return bool(
        node.foreach
        or node.fallback
        or node.verify
        or node.acceptance
        or (node.arguments and has_references(node.arguments))
    )


def task_problems(node: TaskNode, path: str, limits: Limits, *, is_live: bool) -> Iterator[Problem]:
    """Yield what is wrong with a task by itself.

    Args:
        node: The task.
        path: How problems name it.
        limits: How large its parts may be.
        is_live: Whether it may be one that a run has made.
    """
    if not is_live and ("~" in node.task_id or "[" in node.task_id):
        yield Problem(
            f"{path}.task_id",
            f"is {node.task_id!r}; `~n` marks the tasks of an alternative plan and `[n]` the items of a `foreach`: "
            "only a run makes such ids.",
            "Use letters, digits, `_` and `-`.",
        )
    if not node.description.isascii():
        yield from json_problems(f"{path}.description", node.description)
    if node.metadata:
        yield from json_problems(f"{path}.metadata", node.metadata)
    if node.verify is not None or node.cache is not None:
        yield from _repetition(node, path)
    if node.acceptance is not None:
        yield from _acceptance(node.acceptance, f"{path}.acceptance")
    if node.arguments:
        yield from _arguments(node.arguments, f"{path}.arguments", limits)
    if node.foreach is not None:
        yield from _foreach(node.foreach, f"{path}.foreach", limits)
    if node.fallback is not None:
        yield from _fallback(node, node.fallback, f"{path}.fallback", limits)


def texts_of(node: TaskNode, path: str) -> Iterator[Text]:
    """Yield every text of a task that has a `${`: in its arguments, its `verify`, its `foreach` and its fallbacks."""
    has_item = node.foreach is not None or is_item(node.task_id)
    if node.arguments:
        yield from _texts(node.arguments, f"{path}.arguments", has_item=has_item)
    yield from _verification_texts(node.verify, path, has_item=has_item)
    if node.acceptance is not None:
        place = f"{path}.acceptance.arguments"
        yield from _texts(node.acceptance.arguments, place, has_item=has_item, has_result=True)
    if node.foreach is not None:
        yield from _texts(node.foreach, f"{path}.foreach")
    place = path
    for fallback in fallbacks_in(node.fallback):
        place += ".fallback"
        yield from _texts(fallback.arguments, f"{place}.arguments", has_item=has_item)
        yield from _verification_texts(fallback.verify, place, has_item=has_item)


def json_problems(path: str, value: Json) -> Iterator[Problem]:
    """Yield why a value has no JSON form, if it has none."""
    _, problem = _measured(path, value)
    if problem is not None:
        yield problem


def _measured(path: str, value: Json) -> tuple[int, Problem | None]:
    """Return the size of a value as JSON, or why it has none."""
    try:
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode()) if value else 2
        if not nests_too_deeply(value):
            return size, None
        told = f"has more than {MAX_NESTING} lists and objects inside each other."
        return 0, Problem(path, told, "Make it flatter.")
    except ValueError as exc:
        what = "text that is no Unicode" if isinstance(exc, UnicodeError) else "NaN, an infinity or a circle"
        return 0, Problem(path, f"can't be written as JSON: it contains {what}.")
    except (TypeError, RecursionError) as exc:
        return 0, Problem(path, f"can't be written as JSON: {exc}.")


def _arguments(arguments: Json, path: str, limits: Limits) -> Iterator[Problem]:
    size, problem = _measured(path, arguments)
    if problem is not None:
        yield problem
    elif size > limits.max_arguments_bytes:
        yield Problem(
            path,
            f"has {size:,} bytes as JSON; at most {limits.max_arguments_bytes:,} are allowed.",
            "Put large values into a file and pass its path.",
        )


def _repetition(node: TaskNode, path: str) -> Iterator[Problem]:
    """Check what depends on whether a task may be repeated."""
    if node.cache is not None and not node.idempotent:
        yield Problem(
            f"{path}.cache",
            "is set together with `idempotent: false`: a cached result would stand for an effect that never came.",
            "Remove one of the two.",
        )
    if node.cache is not None and node.approval is not None:
        yield Problem(
            f"{path}.cache",
            "is set together with `approval`: a cached result would stand for work that nobody agreed to.",
            "Remove one of the two.",
        )
    if node.verify is not None:
        yield from _verify(node.verify, path, idempotent=node.idempotent)


def _verify(verify: Verification, path: str, *, idempotent: bool) -> Iterator[Problem]:
    if idempotent:
        yield Problem(
            f"{path}.verify",
            "is set, but the task is idempotent: it is simply run again, and nobody would ask.",
            "Add `idempotent: false`, or remove `verify`.",
        )
    yield from json_problems(f"{path}.verify.arguments", verify.arguments)


def _acceptance(acceptance: Acceptance, path: str) -> Iterator[Problem]:
    """Check that what is to hold can be looked at."""
    yield from json_problems(f"{path}.arguments", acceptance.arguments)
    if acceptance.condition is not None:
        try:
            condition = compile_condition(acceptance.condition)
        except ConditionError as exc:
            yield Problem(f"{path}.condition", str(exc), "Write CEL over `output` and `context`.")
        else:
            if condition.names_status:
                told = f"is {shown(acceptance.condition)}; only what has succeeded is looked at, so it has no status."
                yield Problem(f"{path}.condition", told, "Name `output` and `context` only.")
    if acceptance.output_schema is not None:
        problems = [*json_problems(f"{path}.output_schema", acceptance.output_schema)]
        wrong = None if problems else check_schema(acceptance.output_schema)
        if wrong is not None:
            problems.append(Problem(f"{path}.output_schema", f"is no JSON Schema: {wrong}."))
        yield from problems


def _foreach(foreach: str | list[Json], path: str, limits: Limits) -> Iterator[Problem]:
    if isinstance(foreach, list):
        yield from _arguments(foreach, path, limits)
        if len(foreach) > limits.max_foreach_items:
            told = f"has {len(foreach):,} items; at most {limits.max_foreach_items:,} are allowed."
            yield Problem(path, told, "Let one task work on many of them.")
        return
    try:
        is_reference = whole_reference(foreach) is not None
    except ReferenceResolutionError:
        return  # told with the other references
    if not is_reference:
        yield Problem(
            path,
            f"is {shown(foreach)}; expected a list, or exactly one reference to one.",
            "Write it like ${fetch.items}.",
        )


def _fallback(node: TaskNode, fallback: Fallback, path: str, limits: Limits) -> Iterator[Problem]:
    idempotent = node.idempotent
    for number, inner in enumerate(fallbacks_in(fallback), 1):
        if number > MAX_FALLBACKS:
            told = f"is a fallback too many: at most {MAX_FALLBACKS} may be inside each other."
            yield Problem(path, told, "Leave it out.")
            return
        idempotent = idempotent and inner.idempotent
        if not inner.description.isascii():
            yield from json_problems(f"{path}.description", inner.description)
        yield from _arguments(inner.arguments, f"{path}.arguments", limits)
        if inner.verify is not None:
            yield from _verify(inner.verify, path, idempotent=idempotent)
        path += ".fallback"


def _verification_texts(verify: Verification | None, path: str, *, has_item: bool) -> Iterator[Text]:
    if verify is not None:
        yield from _texts(verify.arguments, f"{path}.verify.arguments", has_item=has_item)


def _texts(value: Json, path: str, *, has_item: bool = False, has_result: bool = False) -> Iterator[Text]:
    """Yield each text (and key) in `value` that has a `${`."""
    if isinstance(value, str):
        if "${" in value:
            yield Text(path, value, has_item, has_result)
    elif isinstance(value, dict):
        for key, item in value.items():
            place = joined(path, (key,))
            if "${" in key:
                yield Text(place, {key: None}, has_item, has_result)
            yield from _texts(item, place, has_item=has_item, has_result=has_result)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]", has_item=has_item, has_result=has_result)
