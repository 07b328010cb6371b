"""What planning hands out: a validated DAG with how it came about.

May import: orchestration.{dag, models, ports}, stdlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orchestration.dag import TaskDAG
from orchestration.models import JsonObject, OrchestrationMode, PlanId
from orchestration.ports import Thought


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A DAG made for a goal, before it runs."""

    goal: str
    mode: OrchestrationMode | None = None
    """How it is to run; None leaves that to whoever runs it."""
    context: JsonObject = field(default_factory=dict)
    dag: TaskDAG
    """Validated, with an edge for each reference."""
    planner: str
    """Who made it: `caller`, `sequential_thinking`, `model:NAME`, `playbook:NAME` or `sentences`."""
    thoughts: Sequence[Thought] = ()
    thinking_server: str = "none"
    """Where the thoughts went: `process`, `in-process`, `collaborator` or `none`."""
    notes: Sequence[str] = ()
    """What was completed, changed or passed over on the way, for the caller."""
    plan_id: PlanId | None = None
    """None until it is stored."""
    revision: int = 1

    def stored(self, plan_id: PlanId, revision: int = 1) -> Plan:
        """Return the plan as it is called once it is stored."""
        return replace(self, plan_id=plan_id, revision=revision)
