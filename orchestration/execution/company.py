"""Runs an attempt on its system in the company of the collaborators: asked where it goes, told how it went.

May import: orchestration.{clock, ports}, orchestration.execution.{collaborator, courier, load_balancing, monitoring},
anyio, stdlib.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.abc

from orchestration.clock import Clock
from orchestration.execution.collaborator import Collaborator, in_words
from orchestration.execution.courier import Courier
from orchestration.execution.load_balancing import LoadBalancing, pointed_at
from orchestration.execution.monitoring import Monitoring
from orchestration.ports import AttemptRequest, AttemptResult, System

Execute = Callable[[str, System, AttemptRequest], Awaitable[object]]
"""Runs an attempt on its system, which tasks know by that name."""


async def execute_alone(_name: str, system: System, request: AttemptRequest) -> object:
    """Run an attempt on its system, and nothing else."""
    return await system.execute(request)


@dataclass(frozen=True, slots=True)
class Collaborators:
    """Whom an orchestrator tells and asks; outlives its sessions."""

    monitoring: Monitoring | None = None
    load_balancing: LoadBalancing | None = None

    def told(self) -> dict[str, Any]:
        """Return, by role, how their calls went and what they said last; empty where there are none."""
        found = (self.monitoring, self.load_balancing)
        return {each.collaborator.role: each.told() for each in found if each is not None}


def collaborators_of(monitoring_system: object, load_balancer: object, clock: Clock) -> Collaborators:
    """Return the collaborators a caller has; any of their methods may be missing."""
    monitoring = load_balancing = None
    if monitoring_system is not None:
        monitoring = Monitoring(Collaborator("monitoring_system", monitoring_system, clock), clock)
    if load_balancer is not None:
        load_balancing = LoadBalancing(Collaborator("load_balancer", load_balancer, clock), clock)
    return Collaborators(monitoring, load_balancing)


class Company:
    """The collaborators during one session.

    Args:
        collaborators: Who there is.
        clock: Measures attempts.
    """

    def __init__(self, collaborators: Collaborators, clock: Clock) -> None:
        monitoring, balancing = collaborators.monitoring, collaborators.load_balancing
        self._clock = clock
        self._group: anyio.abc.TaskGroup | None = None
        self._monitoring = None if monitoring is None else (monitoring, Courier(monitoring.collaborator))
        self._balancing = None if balancing is None else (balancing, Courier(balancing.collaborator))
        self._couriers = [found[1] for found in (self._monitoring, self._balancing) if found is not None]

    @property
    def execute(self) -> Execute:
        """Runs an attempt; costs nothing where there are no collaborators."""
        return self._execute if self._couriers else execute_alone

    def start(self, group: anyio.abc.TaskGroup) -> None:
        """Begin to tell, in a task group that ends it, too."""
        self._group = group
        for courier in self._couriers:
            courier.start(group)

    def hurry(self) -> None:
        """Note that the session is closing."""
        for courier in self._couriers:
            courier.hurry()

    async def finish(self) -> None:
        """Tell what is still to be told, once no attempt runs any more; takes little time, even when cancelled."""
        if self._couriers:
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as group:
                    for courier in self._couriers:
                        group.start_soon(courier.finish)

    async def _execute(self, name: str, system: System, request: AttemptRequest) -> object:
        began = self._clock.monotonic()
        instance = None
        if self._balancing is not None and self._group is not None:
            balancing, courier = self._balancing
            instance = await balancing.choose(self._group, courier, system, request)
            request = pointed_at(request, instance)
        started = self._clock.monotonic()
        error: str | None = "it ended in the middle"
        cost = None
        is_told = True
        try:
            value = await system.execute(request)
            error = None
            cost = value.cost if isinstance(value, AttemptResult) else None
        except Exception as exc:
            error = in_words(exc)
            raise
        except anyio.get_cancelled_exc_class():
            limit = request.timeout_seconds
            is_told = limit is not None and self._clock.monotonic() - began >= limit
            error = "timeout" if is_told else "cancelled"
            raise
        finally:
            seconds = self._clock.monotonic() - started
            if self._balancing is not None and instance is not None:
                balancing, courier = self._balancing
                balancing.complete(courier, instance, seconds, error)
            if self._monitoring is not None and is_told:
                monitoring, courier = self._monitoring
                monitoring.tell(courier, name, seconds=seconds, succeeded=error is None, cost=cost)
        return value
