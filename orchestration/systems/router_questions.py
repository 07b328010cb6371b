"""Which systems must be asked before the tasks of a DAG can be routed, and which answers will do.

May import: orchestration.{dag, fallbacks, models}, orchestration.systems.{base, registry, router_acceptance}, stdlib.

A system that a task names is waited for. Of the others, the answers are enough once every tool that tasks name, or are
called like, was found on one that answered: a server that is silent holds up nobody who does not need it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestration.dag import TaskDAG
from orchestration.fallbacks import fallback_nodes
from orchestration.models import TaskNode
from orchestration.systems.base import base_task_id
from orchestration.systems.registry import Survey, SystemRegistry
from orchestration.systems.router_acceptance import leaves_choice


@dataclass(frozen=True, slots=True)
class Questions:
    """What a routing asks."""

    systems: list[str]
    """Those to ask, in order."""
    named: frozenset[str]
    """Those that tasks name."""
    tools: frozenset[str]
    """Tools that may be anywhere."""

    def is_enough(self, found: Mapping[str, Survey]) -> bool:
        """Whether these answers leave no task without a system."""
        if not self.named <= found.keys():
            return False
        have = {tool.name for survey in found.values() for tool in survey.tools}
        return self.tools <= have


def questions_of(
    dag: TaskDAG, registry: SystemRegistry, served: Mapping[str, str], agent_kind: str
) -> Questions:
    """Return what must be asked to route a DAG.

    Args:
        dag: The tasks.
        registry: The systems.
        served: Systems by the other names under which they take tasks.
        agent_kind: Kind of the systems whose tasks are done by whoever claims them.
    """
    named: set[str] = set()
    tools: set[str] = set()
    asks_all = False
    for node in _nodes(dag):
        preference = node.system_preference
        name = preference if preference in registry else served.get(preference.casefold())
        asks_all = asks_all or preference not in registry
        if name is not None:
            named.add(name)
        else:
            tools.add(base_task_id(node.task_id) if node.tool is None else node.tool)
        asked = node.acceptance
        if asked is None or asked.tool is None:
            continue
        if leaves_choice(node, registry, agent_kind):
            asks_all = True
            tools.add(asked.tool)
        elif asked.system_preference is not None:
            checks = asked.system_preference
            found = checks if checks in registry else served.get(checks.casefold())
            if found is not None:
                named.add(found)
    systems = [name for name in registry if asks_all or name in named]
    return Questions(systems, frozenset(named), frozenset(tools))


def _nodes(dag: TaskDAG) -> Iterator[TaskNode]:
    """Yield what runs: tasks that are no parents, and each as it is under its fallbacks."""
    parents = {task.parent for task in dag.nodes.values()}
    for task in dag.nodes.values():
        if task.task_id not in parents:
            yield task
            yield from fallback_nodes(task)
