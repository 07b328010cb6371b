"""Asks the replanner for an alternative to a failed task, and routes what it made.

May import: orchestration.{errors, logs, models, ports, systems}, orchestration.engine.*,
orchestration.execution.preparation, stdlib.
"""

from __future__ import annotations

from orchestration.engine.effects import RequestAlternative
from orchestration.engine.inputs import AlternativeFound, Input, NoAlternative
from orchestration.engine.state import State
from orchestration.errors import OrchestrationError
from orchestration.execution.preparation import Preparation
from orchestration.logs import get_logger
from orchestration.models import TaskStatus
from orchestration.ports import AlternativeRequest, Replanner
from orchestration.systems.base import bounded, words_of
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.router import AGENT_KIND, route, routed_dag, routes_of

log = get_logger()


class AlternativeFinder:
    """Answers the engine's wish for an alternative plan; every fault of the replanner is a refusal with its reason.

    Args:
        registry: Where tasks can run.
        preparation: Loads what the failed task was fed.
        replanner: Makes alternatives; None when nobody can.
    """

    def __init__(
        self, registry: SystemRegistry, preparation: Preparation, replanner: Replanner | None
    ) -> None:
        self._registry = registry
        self._preparation = preparation
        self._replanner = replanner

    async def find(self, state: State, effect: RequestAlternative) -> Input:
        """Return the alternative, or why there is none."""
        orchestration_id, task_id = effect.orchestration_id, effect.task_id

        def none(reason: str) -> NoAlternative:
            return NoAlternative(orchestration_id=orchestration_id, task_id=task_id, reason=reason)

        if self._replanner is None:
            return none("there is no planner to ask")
        try:
            dag = await self._replanner.alternative(await self._request(state, effect))
            if dag is None:
                return none("the planner had none")
            routing = await route(dag, self._registry, allows_agent=state.allows_agent)
        except OrchestrationError as exc:
            return none(bounded(self._registry.redactor.text(words_of(exc))))
        except Exception as exc:  # noqa: BLE001  the caller's planner may raise anything; that is no reason to stop
            words = bounded(self._registry.redactor.text(words_of(exc)))
            log.warning("The replanner failed", operation="REPLAN_FAILED", task_id=task_id, reason=words)
            return none(f"the planner failed: {words}")
        delivers = dag.metadata.get("delivers")
        reason = dag.metadata.get("reason")
        return AlternativeFound(
            orchestration_id=orchestration_id,
            task_id=task_id,
            dag=routed_dag(dag, routing),
            routes=routes_of(routing),
            delivers=delivers if isinstance(delivers, str) else None,
            reason=f"{effect.error.message} {reason}" if isinstance(reason, str) else effect.error.message,
        )

    async def _request(self, state: State, effect: RequestAlternative) -> AlternativeRequest:
        """Return what the replanner is told: the failure, what the task was fed, what is done, which systems are up."""
        task = state.tasks[effect.task_id]
        surveys = await self._registry.survey(list(self._registry))
        return AlternativeRequest(
            orchestration_id=effect.orchestration_id,
            task=task.node,
            error=effect.error,
            goal=state.dag.goal,
            context=state.context,
            inputs={
                **await self._preparation.inputs(state, task),
                **await self._preparation.element(state, task),  # its tasks may name the item as this one did
            },
            completed=[other for other, entry in state.tasks.items() if entry.status is TaskStatus.COMPLETED],
            systems=[
                name
                for name, survey in surveys.items()
                if survey.error is None
                and (state.allows_agent or self._registry.get(name).kind != AGENT_KIND)
            ],
        )
