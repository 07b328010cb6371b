"""Reads what a caller asks of the planners: goal, context, mode and size, each refused with what was expected.

May import: orchestration.{errors, models, options}, orchestration.planning.{draft_values, proposal}, pydantic_core,
stdlib.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from pydantic_core import PydanticSerializationError, to_jsonable_python

from orchestration.errors import InvalidArgumentError
from orchestration.models import JsonObject, OrchestrationMode, is_unicode
from orchestration.options import Limits
from orchestration.planning.draft_values import from_json_text
from orchestration.planning.proposal import PlanRequest

MAX_GOAL_CHARS = 20_000
"""Of a goal; what is longer is a document, and belongs into the context."""


def read_request(
    goal: object,
    *,
    context: object,
    mode: object,
    max_tasks: object,
    has_tasks: bool,
    systems: Collection[str] | None,
    limits: Limits,
) -> PlanRequest:
    """Return a request that planners can work with.

    Args:
        goal: What is to be achieved; may be empty where the caller sends the tasks.
        context: What is known beside the goal, as an object or JSON text of one.
        mode: How it is to run, by member, value or name.
        max_tasks: Most tasks a planner may come up with.
        has_tasks: Whether the caller sends the tasks.
        systems: Names of the configured systems.
        limits: Bounds on a plan.

    Raises:
        InvalidArgumentError: An argument is wrong.
    """
    if not isinstance(goal, str) or (not goal.strip() and not has_tasks):
        raise InvalidArgumentError("goal", goal, "a text that says what is to be achieved", "state the goal")
    if not is_unicode(goal):
        raise InvalidArgumentError("goal", goal, "a text of Unicode characters")
    if len(goal) > MAX_GOAL_CHARS:
        expected = f"at most {MAX_GOAL_CHARS:,} characters, not {len(goal):,}"
        raise InvalidArgumentError("goal", goal, expected, "put the details into the context")
    if isinstance(max_tasks, bool) or not isinstance(max_tasks, int) or max_tasks < 1:
        raise InvalidArgumentError("max_tasks", max_tasks, "a whole number of at least 1")
    return PlanRequest(
        goal=goal.strip(),
        context=_read_context(context),
        mode=_read_mode(mode),
        max_tasks=max_tasks,
        systems=systems,
        limits=limits,
    )


def _read_context(context: object) -> JsonObject:
    plain = from_json_text(context, "{")
    if plain is None:
        return {}
    if not isinstance(plain, Mapping):
        raise InvalidArgumentError("context", context, "an object", 'write {"technology_stack": "…"}')
    try:
        found: JsonObject = to_jsonable_python(dict(plain))
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except (PydanticSerializationError, ValueError, RecursionError) as exc:
        told = f"an object of JSON values ({exc})"
        raise InvalidArgumentError("context", context, told, "leave out what is no JSON") from exc
    return found


def _read_mode(mode: object) -> OrchestrationMode | None:
    if mode is None or isinstance(mode, OrchestrationMode):
        return mode
    try:
        return OrchestrationMode(str(mode))
    except ValueError:
        names = ", ".join(member.name for member in OrchestrationMode)
        raise InvalidArgumentError("mode", mode, f"one of {names}") from None
