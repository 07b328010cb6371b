"""The keys of the configuration: where each stands in the file, which setting it is, which variable may set
it.

May import: config.document, orchestration.options, stdlib. How they are read and checked is in `settings.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from config.document import KeyPath, dotted
from orchestration.options import Limits, PrioritizationOptions, RetentionOptions

ROOT = "advanced_orchestration"
_OPTIONS = "options"

KEYS: Mapping[KeyPath, KeyPath] = {
    (ROOT, "max_concurrent_tasks"): (_OPTIONS, "max_concurrent_tasks"),
    (ROOT, "default_mode"): (_OPTIONS, "default_mode"),
    (ROOT, "enable_metrics"): (_OPTIONS, "enable_metrics"),
    (ROOT, "enable_detailed_metrics"): (_OPTIONS, "enable_detailed_metrics"),
    (ROOT, "log_level"): ("log_level",),
    (ROOT, "task_execution", "timeout_seconds"): (_OPTIONS, "task_timeout_seconds"),
    (ROOT, "task_execution", "max_retries"): (_OPTIONS, "max_retries"),
    (ROOT, "task_execution", "backoff_factor"): (_OPTIONS, "backoff_factor"),
    (ROOT, "task_execution", "cancel_grace_seconds"): (_OPTIONS, "cancel_grace_seconds"),
    (ROOT, "task_execution", "orchestration_timeout_seconds"): (_OPTIONS, "orchestration_timeout_seconds"),
    **{
        (ROOT, "prioritization", field.name): (_OPTIONS, "prioritization", field.name)
        for field in fields(PrioritizationOptions)
    },
    (ROOT, "performance", "enable_parallel_execution"): (_OPTIONS, "enable_parallel_execution"),
    (ROOT, "performance", "enable_resource_monitoring"): (_OPTIONS, "enable_resource_monitoring"),
    (ROOT, "performance", "enable_adaptive_scheduling"): (_OPTIONS, "enable_adaptive_scheduling"),
    **{(ROOT, "limits", field.name): (_OPTIONS, "limits", field.name) for field in fields(Limits)},
    ("storage", "database"): ("database",),
    ("storage", "synchronous"): ("synchronous",),
    ("storage", "lease_seconds"): (_OPTIONS, "lease_seconds"),
    ("storage", "control_wait_seconds"): (_OPTIONS, "control_wait_seconds"),
    **{
        ("storage", "retention", field.name): (_OPTIONS, "retention", field.name)
        for field in fields(RetentionOptions)
    },
    ("playbook_folders",): ("playbook_folders",),
    ("sequential_thinking",): ("sequential_thinking",),
    ("model",): ("model",),
    ("systems",): ("systems",),
    ("mcp_servers_file",): ("mcp_servers_file",),
}
"""Each key of the file and the setting it is."""

SECTIONS: frozenset[KeyPath] = frozenset(path[:length] for path in KEYS for length in range(len(path)))
"""The paths that hold further keys."""

NOT_YET_AVAILABLE: Mapping[KeyPath, str] = {}
"""Keys the file will have, each with what it will mean; until then it is refused by name."""

ENVIRONMENT: Mapping[str, KeyPath] = {
    "ADVANCED_ORCHESTRATION_MAX_CONCURRENT_TASKS": (ROOT, "max_concurrent_tasks"),
    "ADVANCED_ORCHESTRATION_DEFAULT_MODE": (ROOT, "default_mode"),
    "ADVANCED_ORCHESTRATION_ENABLE_METRICS": (ROOT, "enable_metrics"),
    "ADVANCED_ORCHESTRATION_LOG_LEVEL": (ROOT, "log_level"),
    "ADVANCED_ORCHESTRATION_TASK_TIMEOUT": (ROOT, "task_execution", "timeout_seconds"),
    "ADVANCED_ORCHESTRATION_RETRY_ATTEMPTS": (ROOT, "task_execution", "max_retries"),
    "ADVANCED_ORCHESTRATION_BACKOFF_FACTOR": (ROOT, "task_execution", "backoff_factor"),
    "ADVANCED_ORCHESTRATION_DATABASE": ("storage", "database"),
}
"""Each environment variable and the key it stands for."""

CONFIG_VARIABLE = "ADVANCED_ORCHESTRATION_CONFIG"
"""Names the configuration file."""

GIVEN_VARIABLES = (
    "ADVANCED_ORCHESTRATION_ATTEMPT_ID",
    "ADVANCED_ORCHESTRATION_DRIVER",
    "ADVANCED_ORCHESTRATION_IDEMPOTENCY_KEY",
    "ADVANCED_ORCHESTRATION_PROCESS_MARK",
)
"""Variables this program gives to the commands it runs; one of those may be this program again."""

VARIABLE_PREFIX = "ADVANCED_ORCHESTRATION_"


def children(section: KeyPath) -> list[str]:
    """Return the names that may stand in a section."""
    depth = len(section)
    known = (*KEYS, *NOT_YET_AVAILABLE) if not section else KEYS
    return list(dict.fromkeys(str(path[depth]) for path in known if path[:depth] == section))


def homes() -> dict[str, str]:
    """Return, for each key's last name, its full path: where a misplaced key belongs."""
    return {str(path[-1]): dotted(path) for path in reversed(list(KEYS))}
