"""A task under its fallbacks: the same task, with another way to the same output in place of its own.

May import: orchestration.models, stdlib.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from orchestration.models import Fallback, TaskNode


def fallbacks_in(fallback: Fallback | None) -> Iterator[Fallback]:
    """Yield a fallback and those inside it, outermost first."""
    while fallback is not None:
        yield fallback
        fallback = fallback.fallback


def fallback_nodes(node: TaskNode) -> tuple[TaskNode, ...]:
    """Return the task as it is under its first, second and third fallback; empty when it has none.

    What is about the task stays (id, approval, priority, parent, metadata); what is about one way to do it is the
    fallback's. Once a way that must not be repeated is named, every later one must not be either: what was left open
    before it stays left open. A cached output is never that of a fallback, and an item's task is no list of its own.
    """
    found: list[TaskNode] = []
    for fallback in fallbacks_in(node.fallback):
        idempotent = node.idempotent and fallback.idempotent
        node = replace(
            node,
            description=fallback.description or node.description,
            system_preference=fallback.system_preference,
            tool=fallback.tool,
            arguments=fallback.arguments,
            max_retries=fallback.max_retries,
            backoff_factor=node.backoff_factor
            if fallback.backoff_factor is None
            else fallback.backoff_factor,
            timeout_seconds=node.timeout_seconds
            if fallback.timeout_seconds is None
            else fallback.timeout_seconds,
            estimated_time_seconds=fallback.estimated_time_seconds,
            cost=fallback.cost,
            idempotent=idempotent,
            verify=None if idempotent else fallback.verify,
            cache=None,
            foreach=None,
            fallback=fallback.fallback,
        )
        found.append(node)
    return tuple(found)
