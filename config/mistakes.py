"""How mistakes in a configuration are told: pydantic's findings and unknown keys, in one clear line each.

May import: orchestration.errors, config.document, pydantic, stdlib.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence

from pydantic_core import ErrorDetails

from config.document import KeyPath
from orchestration.errors import Problem

_LIMITS: Mapping[str, str] = {
    "greater_than": "a number over {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "a number under {lt:g}",
    "less_than_equal": "at most {le:g}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "literal_error": "{expected}",
    "enum": "{expected}",
}

_KINDS: Mapping[str, str] = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "keys with values",
    "dataclass": "keys with values",
    "model": "keys with values",
    "path": "a path",
    "none": "nothing",
    "url": "an address such as https://host/path",
}


def expected(error: ErrorDetails) -> str:
    """Say what pydantic wanted, in words."""
    kind = error["type"]
    context = error.get("ctx") or {}
    if kind in _LIMITS:
        return _LIMITS[kind].format(**context)
    if kind == "value_error" and "error" in context:
        return str(context["error"]).removeprefix("expected ").rstrip(".")
    return _KINDS.get(kind.split("_", 1)[0], error["msg"][:1].lower() + error["msg"][1:])


def _sentence(error: ErrorDetails) -> str:
    """Return what a validator of ours said."""
    return f"{str((error.get('ctx') or {}).get('error', error['msg'])).rstrip('.')}."


def wrong_value(place: str, value: object, wanted: str, fix: str = "") -> Problem:
    """Make the problem of a value that is not what was expected."""
    return Problem(place, f"is {shown(value)}; expected {wanted}.", fix)


def unknown_key(
    place: str, key: str, known: Iterable[str], elsewhere: Mapping[str, str] | None = None
) -> Problem:
    """Make the problem of a key nobody knows, with the nearest right one.

    Args:
        place: Where it stands.
        key: The key.
        known: The keys that may stand there.
        elsewhere: Keys that exist in another place, each with its full path.
    """
    names = list(known)
    near = difflib.get_close_matches(key, names, 1, 0.6)
    if near:
        return Problem(place, f"unknown key {key!r}.", f"write {near[0]!r}.")
    if elsewhere and key in elsewhere:
        return Problem(place, f"unknown key {key!r} here.", f"put it at {elsewhere[key]!r}.")
    return Problem(place, f"unknown key {key!r}.", f"the keys here are {', '.join(names)}.")


def shown(value: object) -> str:
    """Return a value as a message quotes it: short."""
    text = "empty" if value is None else repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def problems_of(
    errors: Sequence[ErrorDetails],
    place: Callable[[KeyPath], str],
    written: Callable[[KeyPath], object],
    known: Iterable[str] = (),
    at: KeyPath = (),
) -> list[Problem]:
    """Turn a failed validation into problems.

    Args:
        errors: What pydantic found.
        place: Callable from a key path to its place in words.
        written: Callable from a key path to the value as it was written.
        known: Keys a misspelled one is compared with.
        at: Where the validated value stands.
    """
    names = list(known)
    found: dict[str, Problem] = {}
    for error in errors:
        path = (*at, *error["loc"])
        if error["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            problem = unknown_key(place(path), str(path[-1]), names)
        elif error["type"] in {"missing", "missing_argument"}:
            problem = Problem(place(path), "is missing.", f"add {path[-1]!r}.")
        else:
            value, wanted = written(path), expected(error)
            is_sentence = error["type"] == "value_error" and (
                isinstance(value, Mapping) or "expected" not in error["msg"]
            )
            problem = (
                Problem(place(path), _sentence(error))
                if is_sentence
                else wrong_value(place(path), value, wanted)
            )
        found.setdefault(problem.path, problem)
    return list(found.values())
