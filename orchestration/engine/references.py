"""Tasks whose references name other tasks as they are called now.

May import: orchestration.models, stdlib.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestration.models import Fallback, Json, JsonObject, TaskNode

_NAMED = re.compile(r"(?<!\$)(\$\{\s*)([A-Za-z0-9][A-Za-z0-9_-]*(?:~[0-9]{1,3})?)(?=[\s.\[}])")
"""The task a reference names; `$${` is no reference."""


def renamed_references(node: TaskNode, renamed: Mapping[str, str]) -> TaskNode:
    """Return a task whose references name other tasks as they are called now."""
    if not renamed:
        return node
    foreach = node.foreach
    return replace(
        node,
        arguments=_followed(node.arguments, renamed),
        verify=None
        if node.verify is None
        else replace(node.verify, arguments=_followed(node.verify.arguments, renamed)),
        acceptance=None
        if node.acceptance is None
        else replace(node.acceptance, arguments=_followed(node.acceptance.arguments, renamed)),
        fallback=_fallback_followed(node.fallback, renamed),
        foreach=None if foreach is None else _follow(foreach, renamed),
    )


def _fallback_followed(fallback: Fallback | None, renamed: Mapping[str, str]) -> Fallback | None:
    if fallback is None:
        return None
    verify = fallback.verify
    return replace(
        fallback,
        arguments=_followed(fallback.arguments, renamed),
        verify=None if verify is None else replace(verify, arguments=_followed(verify.arguments, renamed)),
        fallback=_fallback_followed(fallback.fallback, renamed),
    )


def _followed(arguments: JsonObject, renamed: Mapping[str, str]) -> JsonObject:
    return {key: _follow(value, renamed) for key, value in arguments.items()}


def _follow(value: Json, renamed: Mapping[str, str]) -> Any:
    """Return `value` with every reference to a renamed task naming it anew."""
    if isinstance(value, str):
        return _NAMED.sub(lambda found: found[1] + renamed.get(found[2], found[2]), value)
    if isinstance(value, list):
        return [_follow(item, renamed) for item in value]
    if isinstance(value, dict):
        return {key: _follow(item, renamed) for key, item in value.items()}
    return value
