"""What an orchestration needs of the systems here, and whether another process has the same.

May import: orchestration.{models, ports}, orchestration.systems.{base, registry, unusable}, stdlib.

A fingerprint is a short hash that changes when what is configured comes to do something else: who takes an
orchestration over must not run its tasks on a system that only has the same name. It shows nothing of what it is made
of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from orchestration.models import TaskId
from orchestration.ports import Needs, System
from orchestration.systems.base import listed
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.unusable import UnusableSystem, UnusableSystemError

SEE_ARGUMENTS_ONLY = frozenset({"function", "command", "mcp"})
"""Kinds of systems that are told nothing of a task but its tool, arguments, inputs and context."""


@runtime_checkable
class HasFingerprint(Protocol):
    """A system that can tell its configuration from another one."""

    def fingerprint(self, tool: str | None) -> str:
        """Return the fingerprint of a tool, of the whole system without one; empty where it has no such tool.

        Never waits or connects, and shows no secrets.
        """
        ...


def fingerprint_of(system: System, tool: str | None) -> str:
    """Return a system's fingerprint; its kind where it has none of its own."""
    return system.fingerprint(tool) if isinstance(system, HasFingerprint) else system.kind


def needs_of(
    routes: Mapping[TaskId, str], tools: Mapping[TaskId, str | None], registry: SystemRegistry
) -> dict[str, dict[str, str]]:
    """Return what tasks need to run, system → tool (`""` where they name none) → fingerprint.

    Args:
        routes: System by task.
        tools: Tool by task; a task that is absent names none.
        registry: The systems.
    """
    needs: dict[str, dict[str, str]] = {}
    for task_id, name in routes.items():
        tool = tools.get(task_id)
        known = needs.setdefault(name, {})
        if (tool or "") not in known:
            known[tool or ""] = fingerprint_of(registry.get(name), tool)
    return needs


def missing_of(needs: Needs, registry: SystemRegistry) -> list[str]:
    """Return a sentence for each system that can't run here what is needed; none where all can be run."""
    sentences = (_missing(name, wanted, registry) for name, wanted in needs.items())
    return [sentence for sentence in sentences if sentence is not None]


def _missing(name: str, wanted: Mapping[str, str], registry: SystemRegistry) -> str | None:
    """Return what is missing of one system; None where nothing is."""
    if name not in registry:
        return f"System {name!r} is not configured here."
    system = registry.get(name)
    here = {tool: fingerprint_of(system, tool or None) for tool in wanted}
    if isinstance(system, UnusableSystem) and here != wanted:
        return str(UnusableSystemError(name, system.reason))
    absent = [tool for tool in wanted if not here[tool]]
    other = [tool for tool in wanted if here[tool] and here[tool] != wanted[tool]]
    said = []
    if absent:
        said.append(f"has no {listed(absent)} here")
    if other:
        what = f": {listed(other)}" if all(other) else ""
        said.append(f"is configured differently here{what}")
    return f"System {name!r} {' and '.join(said)}." if said else None
