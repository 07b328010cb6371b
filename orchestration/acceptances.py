"""What has to hold of a result that stands for another one: what was asked of either.

May import: orchestration.models, stdlib. Pure.
"""

from __future__ import annotations

from orchestration.models import Acceptance, JsonObject

_MAX_CONDITION_CHARS = 2_000


def both(first: Acceptance | None, second: Acceptance | None) -> Acceptance | None:
    """Return an acceptance that asks for all that two ask for.

    Of two tools only the first one's is asked, for an acceptance has one; so it is with conditions that are too long
    together.

    Args:
        first: What was asked before; nothing of it is given up.
        second: What is asked besides.
    """
    if first is None or second is None or first == second:
        return first or second
    asked = first if first.tool is not None else second
    conditions = [each for each in (first.condition, second.condition) if each is not None]
    together = " && ".join(f"({each})" for each in conditions) if len(conditions) > 1 else "".join(conditions)
    if len(together) > _MAX_CONDITION_CHARS:
        together = conditions[0]
    schemas = [each for each in (first.output_schema, second.output_schema) if each is not None]
    schema: JsonObject | None = schemas[0] if schemas else None
    if len(schemas) > 1:
        schema = {"allOf": [*schemas]}
    return Acceptance(
        condition=together or None,
        output_schema=schema,
        tool=asked.tool,
        arguments=asked.arguments,
        system_preference=asked.system_preference,
        timeout_seconds=asked.timeout_seconds,
    )
