"""Tells the caller's `monitoring_system` how attempts went, and asks it now and then how everything stands.

May import: orchestration.{clock, ports}, orchestration.execution.{collaborator, courier}, stdlib.

Told, for each attempt that ended: `performance_analyzer.record_metric(system, "execution_time_ms", …)`, the same with
`"success"` (1.0 or 0.0) and, where the system knows it, `"cost"` in US dollars; where there is no analyzer, a
`record_metric` of its own. An attempt that somebody cancelled says nothing about the system and is not told. Asked, at
most every `ASKED_EVERY_SECONDS` and only while there is work: `get_monitoring_dashboard_data()`, of which the alerts
and the systems' health are shown with the metrics.
"""

from __future__ import annotations

import math
from typing import Any

from orchestration.clock import Clock
from orchestration.execution.collaborator import Collaborator, member, plain
from orchestration.execution.courier import Courier

ASKED_EVERY_SECONDS = 30.0
"""Between two questions to a collaborator how things stand."""

RECORD = "performance_analyzer.record_metric"
OWN_RECORD = "record_metric"
DASHBOARD = "get_monitoring_dashboard_data"

_SHOWN = ("active_alerts", "system_health")
"""What of the dashboard is shown with the metrics; its trends and statistics are the monitoring system's own affair."""


class Monitoring:
    """What is known of a monitoring system; outlives the sessions.

    Args:
        collaborator: The monitoring system.
        clock: Says when it is to be asked again.
    """

    def __init__(self, collaborator: Collaborator, clock: Clock) -> None:
        self.collaborator = collaborator
        self._clock = clock
        self._asked_at = -math.inf
        self._dashboard: dict[str, Any] = {}

    def tell(
        self, courier: Courier, system: str, *, seconds: float, succeeded: bool, cost: float | None
    ) -> None:
        """Have an attempt's end told."""
        path = RECORD if self.collaborator.method(RECORD) is not None else OWN_RECORD
        if self.collaborator.method(path) is not None:
            courier.tell(path, system, "execution_time_ms", seconds * 1000)
            courier.tell(path, system, "success", 1.0 if succeeded else 0.0)
            if cost is not None:
                courier.tell(path, system, "cost", cost)
        now = self._clock.monotonic()
        if now - self._asked_at >= ASKED_EVERY_SECONDS:
            self._asked_at = now
            courier.tell(DASHBOARD, take=self._take)

    def told(self) -> dict[str, Any]:
        """Return how its calls went, and what it said last, for the metrics."""
        return {**self.collaborator.told(), **self._dashboard}

    def _take(self, answer: object) -> None:
        found = {name: member(answer, name) for name in _SHOWN}
        self._dashboard = {name: plain(value) for name, value in found.items() if value is not None}
