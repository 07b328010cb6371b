"""The orchestrator's options: one frozen record with the built-in defaults. `config` makes one from files.

May import: orchestration.models, pydantic, stdlib.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from orchestration.models import OrchestrationMode, PositiveSeconds, Seconds, enum_by_name

_CONFIG = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class PrioritizationOptions:
    """Weights of the `weighted` formula, and which ranking the ready queue uses."""

    policy: Literal["upward_rank", "weighted"] = "upward_rank"
    """`upward_rank`: the user's priority, then the longest remaining path. `weighted`: the formula's score."""
    time_weight: float = 0.2
    dependency_weight: float = 0.3
    complexity_weight: float = 0.2
    base_priority_weight: float = 0.3


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Limits:
    """Bounds on what one request may bring."""

    max_tasks: Annotated[int, Field(ge=1)] = 100_000
    """Tasks of one DAG."""
    max_edges: Annotated[int, Field(ge=0)] = 1_000_000
    """Edges of one DAG."""
    max_arguments_bytes: Annotated[int, Field(ge=1)] = 1024 * 1024
    """Size of one task's arguments as JSON, before references are put in."""
    max_resolved_arguments_bytes: Annotated[int, Field(ge=1)] = 16 * 1024 * 1024
    """The same with the references' values in place."""
    max_output_bytes: Annotated[int, Field(ge=1)] = 64 * 1024 * 1024
    """Size of one output as JSON."""
    inline_output_bytes: Annotated[int, Field(ge=0)] = 64 * 1024
    """Outputs over this are stored once, by hash."""
    max_foreach_items: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """Items of the list a `foreach` goes through."""
    max_hierarchy_depth: Annotated[int, Field(ge=0, le=100)] = 5
    """Tasks a task may be a part of, one inside the other."""
    max_replans_per_task: Annotated[int, Field(ge=0)] = 2
    max_replans: Annotated[int, Field(ge=0)] = 5
    """Alternative plans of one orchestration."""
    max_nesting: Annotated[int, Field(ge=0)] = 3
    """How deep a task's own run may orchestrate through the orchestrator that runs it."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class RetentionOptions:
    """How long what has ended is kept; None means for ever."""

    compact_after_seconds: Seconds | None = 24 * 3600.0
    """Age since its end at which an orchestration's journal is compressed; it stays readable."""
    remove_after_seconds: Seconds | None = 30 * 24 * 3600.0
    """Age since its end at which an orchestration is removed, with its outputs; and age of unused plans."""
    keep_finished: Annotated[int, Field(ge=0)] | None = 10_000
    """Most ended orchestrations that are kept; the longest ended go first."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class OrchestratorOptions:
    """Everything that shapes how an orchestrator runs."""

    max_concurrent_tasks: Annotated[int, Field(ge=1, le=10_000)] = 5
    """Running attempts of one orchestrator, over all its orchestrations."""
    default_mode: Annotated[OrchestrationMode, enum_by_name(OrchestrationMode)] = (
        OrchestrationMode.HIERARCHICAL
    )
    enable_metrics: bool = True
    enable_detailed_metrics: bool = False
    """Logs every state change at DEBUG; with `max_concurrent_tasks=1` the debug mode."""
    task_timeout_seconds: PositiveSeconds | None = 3600.0
    """Time limit of one attempt, for tasks that name none."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 3
    """Retries after the first attempt, for tasks that name none."""
    backoff_factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    cancel_grace_seconds: Seconds = 10.0
    """How long an attempt may take to stop before it is abandoned."""
    orchestration_timeout_seconds: PositiveSeconds | None = None
    """Time limit of a whole orchestration, for DAGs that name none."""
    lease_seconds: Annotated[float, Field(ge=0.3, le=3600)] = 15.0
    """How long a driver may be silent before others take over what it drives."""
    control_wait_seconds: Seconds = 10.0
    """How long a request to another process's orchestration is waited for; it stays stored after that."""
    retention: RetentionOptions = RetentionOptions()
    enable_parallel_execution: bool = True
    """False: one task at a time."""
    enable_adaptive_scheduling: bool = True
    """False: one ranking, made at submission."""
    enable_resource_monitoring: bool = True
    """False: no sampling of this process's memory and CPU for the metrics."""
    prioritization: PrioritizationOptions = PrioritizationOptions()
    limits: Limits = Limits()

    @property
    def concurrency(self) -> int:
        """How many attempts may run at once."""
        return self.max_concurrent_tasks if self.enable_parallel_execution else 1
