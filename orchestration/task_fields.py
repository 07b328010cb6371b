"""The fields of one task of a document: what is unknown in them, and what pydantic finds, in the words of the format.

May import: orchestration.{errors, models, problems}, pydantic, stdlib.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from orchestration.errors import Problem
from orchestration.models import MAX_FALLBACKS, Acceptance, CachePolicy, Fallback, Verification
from orchestration.problems import problems_in, shown, unknown_key

FALLBACK_KEYS = tuple(field.name for field in dataclasses.fields(Fallback))
VERIFY_KEYS = tuple(field.name for field in dataclasses.fields(Verification))
ACCEPTANCE_KEYS = tuple(field.name for field in dataclasses.fields(Acceptance))
CACHE_KEYS = tuple(field.name for field in dataclasses.fields(CachePolicy))


def without_unknown(path: str, task: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """Return a task whose records (`fallback`, `verify`, …) have known keys only; `problems` gets the others.

    Fallbacks too deep inside each other are left out, so that nothing later has to go down after them.
    """
    found = dict(task)
    for name, known in (("verify", VERIFY_KEYS), ("cache", CACHE_KEYS), ("acceptance", ACCEPTANCE_KEYS)):
        if isinstance(task.get(name), Mapping):
            found[name] = _known(f"{path}.{name}", task[name], known, problems)
    if isinstance(task.get("fallback"), Mapping):
        found["fallback"] = _fallback(f"{path}.fallback", task["fallback"], MAX_FALLBACKS, problems)
    return found


def _fallback(
    path: str, given: Mapping[Any, Any], left: int, problems: list[Problem]
) -> dict[str, Any] | None:
    if not left:
        told = f"is a fallback too many: at most {MAX_FALLBACKS} may be inside each other."
        problems.append(Problem(path, told, "Leave it out."))
        return None
    found = _known(path, given, FALLBACK_KEYS, problems)
    if isinstance(found.get("verify"), Mapping):
        found["verify"] = _known(f"{path}.verify", found["verify"], VERIFY_KEYS, problems)
    if isinstance(found.get("fallback"), Mapping):
        found["fallback"] = _fallback(f"{path}.fallback", found["fallback"], left - 1, problems)
    return found


def _known(
    path: str, given: Mapping[Any, Any], known: tuple[str, ...], problems: list[Problem]
) -> dict[str, Any]:
    for key in given:
        if not isinstance(key, str):
            problems.append(Problem(path, f"has the key {key!r}; expected a text.", "Quote it."))
        elif key not in known:
            problems.append(unknown_key(path, key, known))
    return {key: value for key, value in given.items() if key in known}


def field_problems(error: ValidationError, path: str, given: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what pydantic found in a task, in the words of the format."""
    is_told = False
    for problem in problems_in(error, path):
        if problem.path.startswith(f"{path}.foreach"):
            # Neither a text nor a list: that is one mistake, not one of each.
            if not is_told:
                told = f"is {shown(given.get('foreach'))}; expected a list, or a reference to one."
                yield Problem(f"{path}.foreach", told, "Write it like ${fetch.items}.")
            is_told = True
        elif problem.path in (f"{path}.task_id", f"{path}.parent") and "pattern" in problem.message:
            told = problem.message.split("; ")[0]
            told += "; expected a letter or digit, then letters, digits, `_` and `-`."
            yield Problem(problem.path, told, "Write at most 100 of these characters.")
        else:
            yield problem
