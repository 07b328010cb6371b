"""The public library: everything a program needs to plan goals and run DAGs of tasks.

May import: orchestration.*, each when it is first asked for, so that `import orchestration` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestration.dag import CriticalPath as CriticalPath
    from orchestration.dag import TaskDAG as TaskDAG
    from orchestration.dag_file import load_dag as load_dag
    from orchestration.engine.prioritizer import DynamicTaskPrioritizer as DynamicTaskPrioritizer
    from orchestration.engine.scheduler import AdaptiveTaskScheduler as AdaptiveTaskScheduler
    from orchestration.errors import AttemptCancelledError as AttemptCancelledError
    from orchestration.errors import AttemptError as AttemptError
    from orchestration.errors import AttemptFailedError as AttemptFailedError
    from orchestration.errors import AttemptTimeoutError as AttemptTimeoutError
    from orchestration.errors import ClaimNotFoundError as ClaimNotFoundError
    from orchestration.errors import ConfigurationError as ConfigurationError
    from orchestration.errors import ControlPendingError as ControlPendingError
    from orchestration.errors import CorruptRecordError as CorruptRecordError
    from orchestration.errors import CycleError as CycleError
    from orchestration.errors import DefinitionError as DefinitionError
    from orchestration.errors import DuplicateTaskError as DuplicateTaskError
    from orchestration.errors import ExpressionError as ExpressionError
    from orchestration.errors import IdempotencyConflictError as IdempotencyConflictError
    from orchestration.errors import InvalidArgumentError as InvalidArgumentError
    from orchestration.errors import InvalidDagError as InvalidDagError
    from orchestration.errors import LeaseError as LeaseError
    from orchestration.errors import LeaseHeldError as LeaseHeldError
    from orchestration.errors import LeaseLostError as LeaseLostError
    from orchestration.errors import NestedOrchestrationError as NestedOrchestrationError
    from orchestration.errors import NoFittingPlanError as NoFittingPlanError
    from orchestration.errors import NotPermittedError as NotPermittedError
    from orchestration.errors import NotPossibleError as NotPossibleError
    from orchestration.errors import OrchestrationError as OrchestrationError
    from orchestration.errors import OrchestrationInterruptedError as OrchestrationInterruptedError
    from orchestration.errors import OrchestrationNotFoundError as OrchestrationNotFoundError
    from orchestration.errors import PlanNotFoundError as PlanNotFoundError
    from orchestration.errors import Problem as Problem
    from orchestration.errors import RefusedByDriverError as RefusedByDriverError
    from orchestration.errors import RevisionConflictError as RevisionConflictError
    from orchestration.errors import SchemaVersionError as SchemaVersionError
    from orchestration.errors import StaleFencingTokenError as StaleFencingTokenError
    from orchestration.errors import StateError as StateError
    from orchestration.errors import StorageError as StorageError
    from orchestration.errors import StorageUnavailableError as StorageUnavailableError
    from orchestration.errors import SystemUnavailableError as SystemUnavailableError
    from orchestration.errors import TaskNotFoundError as TaskNotFoundError
    from orchestration.errors import UnknownDependencyError as UnknownDependencyError
    from orchestration.errors import UnroutableTaskError as UnroutableTaskError
    from orchestration.execution.coordinator import ParallelCoordinator as ParallelCoordinator
    from orchestration.execution.memory_storage import MemoryStorage as MemoryStorage
    from orchestration.execution.simulator import simulate as simulate
    from orchestration.factory import create_advanced_task_orchestrator as create_advanced_task_orchestrator
    from orchestration.models import Acceptance as Acceptance
    from orchestration.models import CachePolicy as CachePolicy
    from orchestration.models import ErrorRecord as ErrorRecord
    from orchestration.models import Fallback as Fallback
    from orchestration.models import OrchestrationMode as OrchestrationMode
    from orchestration.models import OrchestrationStatus as OrchestrationStatus
    from orchestration.models import TaskEdge as TaskEdge
    from orchestration.models import TaskNode as TaskNode
    from orchestration.models import TaskPriority as TaskPriority
    from orchestration.models import TaskStatus as TaskStatus
    from orchestration.models import Verification as Verification
    from orchestration.options import Limits as Limits
    from orchestration.options import OrchestratorOptions as OrchestratorOptions
    from orchestration.options import PrioritizationOptions as PrioritizationOptions
    from orchestration.options import RetentionOptions as RetentionOptions
    from orchestration.orchestrator import AdvancedTaskOrchestrator as AdvancedTaskOrchestrator
    from orchestration.planning.decomposer import AdvancedTaskDecomposer as AdvancedTaskDecomposer
    from orchestration.planning.model_options import ModelOptions as ModelOptions
    from orchestration.planning.model_planner import ModelPlanner as ModelPlanner
    from orchestration.planning.plan import Plan as Plan
    from orchestration.planning.thinking_pool import ThinkingPool as ThinkingPool
    from orchestration.ports import AttemptRequest as AttemptRequest
    from orchestration.ports import AttemptResult as AttemptResult
    from orchestration.ports import Claim as Claim
    from orchestration.ports import ControlAction as ControlAction
    from orchestration.ports import ControlRequest as ControlRequest
    from orchestration.ports import Progress as Progress
    from orchestration.systems.agent import AgentSystem as AgentSystem
    from orchestration.systems.alita import AlitaSystem as AlitaSystem
    from orchestration.systems.alita_spec import AlitaSpec as AlitaSpec
    from orchestration.systems.command import CommandSpec as CommandSpec
    from orchestration.systems.command import CommandSystem as CommandSystem
    from orchestration.systems.command_limits import CommandLimits as CommandLimits
    from orchestration.systems.controller import ControllerSystem as ControllerSystem
    from orchestration.systems.function import FunctionSystem as FunctionSystem
    from orchestration.systems.health import Rate as Rate
    from orchestration.systems.health import SystemPolicy as SystemPolicy
    from orchestration.systems.http import HttpSystem as HttpSystem
    from orchestration.systems.http_spec import HttpOperation as HttpOperation
    from orchestration.systems.http_spec import HttpSpec as HttpSpec
    from orchestration.systems.kgot import KgotSystem as KgotSystem
    from orchestration.systems.kgot_spec import KgotSpec as KgotSpec
    from orchestration.systems.mcp import McpServerSpec as McpServerSpec
    from orchestration.systems.mcp import McpSystem as McpSystem
    from orchestration.systems.process_pool import ProcessOptions as ProcessOptions
    from orchestration.systems.process_pool import ProcessPool as ProcessPool
    from orchestration.systems.tool_index import ToolIndex as ToolIndex
    from orchestration.work_desk import NoWork as NoWork
    from orchestration.work_desk import Reported as Reported

_HOMES: dict[str, str] = {
    **dict.fromkeys(["CriticalPath", "TaskDAG"], "dag"),
    "load_dag": "dag_file",
    "DynamicTaskPrioritizer": "engine.prioritizer",
    "AdaptiveTaskScheduler": "engine.scheduler",
    **dict.fromkeys(
        [
            "AttemptCancelledError",
            "AttemptError",
            "AttemptFailedError",
            "AttemptTimeoutError",
            "ClaimNotFoundError",
            "ConfigurationError",
            "ControlPendingError",
            "CorruptRecordError",
            "CycleError",
            "DefinitionError",
            "DuplicateTaskError",
            "ExpressionError",
            "IdempotencyConflictError",
            "InvalidArgumentError",
            "InvalidDagError",
            "LeaseError",
            "LeaseHeldError",
            "LeaseLostError",
            "NestedOrchestrationError",
            "NoFittingPlanError",
            "NotPermittedError",
            "NotPossibleError",
            "OrchestrationError",
            "OrchestrationInterruptedError",
            "OrchestrationNotFoundError",
            "PlanNotFoundError",
            "Problem",
            "RefusedByDriverError",
            "RevisionConflictError",
            "SchemaVersionError",
            "StaleFencingTokenError",
            "StateError",
            "StorageError",
            "StorageUnavailableError",
            "SystemUnavailableError",
            "TaskNotFoundError",
            "UnknownDependencyError",
            "UnroutableTaskError",
        ],
        "errors",
    ),
    "ParallelCoordinator": "execution.coordinator",
    "MemoryStorage": "execution.memory_storage",
    "simulate": "execution.simulator",
    "create_advanced_task_orchestrator": "factory",
    **dict.fromkeys(
        [
            "Acceptance",
            "CachePolicy",
            "ErrorRecord",
            "Fallback",
            "OrchestrationMode",
            "OrchestrationStatus",
            "TaskEdge",
            "TaskNode",
            "TaskPriority",
            "TaskStatus",
            "Verification",
        ],
        "models",
    ),
    **dict.fromkeys(
        ["Limits", "OrchestratorOptions", "PrioritizationOptions", "RetentionOptions"], "options"
    ),
    "AdvancedTaskOrchestrator": "orchestrator",
    "AdvancedTaskDecomposer": "planning.decomposer",
    "ModelOptions": "planning.model_options",
    "ModelPlanner": "planning.model_planner",
    "Plan": "planning.plan",
    "ThinkingPool": "planning.thinking_pool",
    **dict.fromkeys(
        ["AttemptRequest", "AttemptResult", "Claim", "ControlAction", "ControlRequest", "Progress"], "ports"
    ),
    "AgentSystem": "systems.agent",
    "AlitaSystem": "systems.alita",
    "AlitaSpec": "systems.alita_spec",
    **dict.fromkeys(["CommandSpec", "CommandSystem"], "systems.command"),
    "CommandLimits": "systems.command_limits",
    "ControllerSystem": "systems.controller",
    "FunctionSystem": "systems.function",
    **dict.fromkeys(["Rate", "SystemPolicy"], "systems.health"),
    "HttpSystem": "systems.http",
    **dict.fromkeys(["HttpOperation", "HttpSpec"], "systems.http_spec"),
    "KgotSystem": "systems.kgot",
    "KgotSpec": "systems.kgot_spec",
    **dict.fromkeys(["McpServerSpec", "McpSystem"], "systems.mcp"),
    **dict.fromkeys(["ProcessOptions", "ProcessPool"], "systems.process_pool"),
    "ToolIndex": "systems.tool_index",
    **dict.fromkeys(["NoWork", "Reported"], "work_desk"),
}
"""Where each public name lives."""

__all__ = sorted(_HOMES)  # noqa: PLE0605  made of the one table above


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
