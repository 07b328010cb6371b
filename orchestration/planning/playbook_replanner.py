"""Alternative plans for failed tasks by playbook: what a task was to do may be what a playbook does in several steps.

May import: orchestration.{dag, logs, options, ports}, orchestration.planning.*, stdlib.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestration.dag import TaskDAG
from orchestration.logs import get_logger
from orchestration.options import Limits
from orchestration.planning.playbook import PlaybookLibrary
from orchestration.planning.playbook_planner import PlaybookPlanner
from orchestration.planning.proposal import PlanRequest, ThoughtTrail
from orchestration.planning.replanner import DELIVERS, REASON
from orchestration.ports import AlternativeRequest

MAX_TASKS = 50
"""Of an alternative; what needs more is no alternative to one task."""

_log = get_logger()


class PlaybookReplanner:
    """A `Replanner` over playbooks: takes the task's description for a goal.

    Args:
        library: Returns the playbooks; asked when first needed.
        limits: Bounds on an alternative.
    """

    def __init__(self, library: Callable[[], PlaybookLibrary], limits: Limits | None = None) -> None:
        self._library = library
        self._limits = limits or Limits()

    async def alternative(self, request: AlternativeRequest) -> TaskDAG | None:
        """Return the expansion of a playbook that fits, ends in one task and needs only what is up; or None."""
        goal = request.task.description.strip()
        if not goal:
            return None
        wanted = PlanRequest(
            goal=goal,
            context=dict(request.context),
            mode=None,
            max_tasks=MAX_TASKS,
            systems=frozenset(request.systems),
            limits=self._limits,
        )
        proposal = await PlaybookPlanner(self._library()).propose(wanted, ThoughtTrail(expected=1))
        if proposal is None:
            return None
        dag = proposal.dag
        sources = {edge.source_task_id for edge in dag.edges}
        leaves = [
            task_id for task_id, node in dag.nodes.items() if task_id not in sources and node.parent is None
        ]
        if len(leaves) != 1:
            _log.info(
                "A playbook that fits a failed task delivers no one output",
                operation="REPLAN_PASSED_OVER",
                task_id=request.task.task_id,
                planner=proposal.planner,
            )
            return None
        dag.metadata = {**dag.metadata, DELIVERS: leaves[0], REASON: f"{proposal.notes[0]}"}
        return dag
