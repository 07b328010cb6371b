"""The one boundary between exceptions and what an MCP client sees.

May import: orchestration.{errors, problems}, server.{answers, schemas}, mcp, pydantic, stdlib.

What a smarter caller could have avoided is told to the model as a tool's failure: one sentence, a stable code, the
field, a valid example, one safe next call. What breaks the protocol (a tool that does not exist, a resource that is
not there) is a JSON-RPC error. What nobody expected is logged with its traceback, and its text stays here.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from mcp import MCPError
from mcp.server.mcpserver.exceptions import (
    ResourceError,
    ResourceNotFoundError,
    ToolError,
    UnexpectedToolError,
)
from mcp_types import INVALID_PARAMS
from pydantic import ValidationError

from orchestration.errors import (
    ClaimNotFoundError,
    ControlPendingError,
    IdempotencyConflictError,
    InvalidArgumentError,
    LeaseHeldError,
    NoFittingPlanError,
    NotPossibleError,
    OrchestrationError,
    OrchestrationNotFoundError,
    PlanNotFoundError,
    ProblemsError,
    RevisionConflictError,
    StateError,
    TaskNotFoundError,
    UnroutableTaskError,
)
from orchestration.models import Json
from orchestration.problems import problems_in
from server.answers import SHORT, clip, cut_lines
from server.schemas import Call, present

EXAMPLES: Mapping[str, Json] = {
    "action": "start",
    "claim": "claim-1f2e3d4c5b6a",
    "evidence": ["pytest -q: 12 passed"],
    "output": {"path": "report.md"},
    "skills": ["python"],
    "status": "done",
    "subtasks": [
        {"task_id": "outline", "system_preference": "agent"},
        {"task_id": "write", "system_preference": "agent", "depends_on": ["outline"]},
    ],
    "summary": "The report is written",
    "worker": "agent-1",
    "max_chars": 4000,
    "offset": 4000,
    "part": "head",
    "query": "rows[0].name",
    "reason": "The warehouse is being moved",
    "reference": "nightly-report-7/extract",
    "reuse": "nightly-report-6",
    "value": "done",
    "context": {"audience": "developers"},
    "cursor": "100",
    "expected_revision": 1,
    "operations": [{"op": "set", "task_id": "extract", "timeout_seconds": 600}],
    "target": "nightly-report-7",
    "undo_to": 1,
    "dag": {
        "dag_id": "two-steps",
        "tasks": [{"task_id": "fetch"}, {"task_id": "report", "depends_on": ["fetch"]}],
    },
    "goal": "Report on the health of this Python codebase",
    "id": "nightly-report-7",
    "key": "nightly-2026-11-21",
    "max_tasks": 20,
    "mode": "adaptive",
    "orchestration_id": "nightly-report-7",
    "plan_id": "nightly-report-1",
    "scope": "server",
    "since": 42,
    "task": "extract",
    "tasks": [
        {"task_id": "fetch", "description": "Fetch the data"},
        {"task_id": "report", "depends_on": ["fetch"]},
    ],
    "thoughts": ["Fetching and reporting depend on each other"],
    "view": "tasks",
    "wait_seconds": 30,
    "window": "24h",
}
"""One valid value for each argument of the tools."""

EXAMPLES_OF: Mapping[str, Mapping[str, Json]] = {
    "control_orchestration": {"action": "resume", "tasks": ["extract"]}
}
"""Where an argument of a tool means something else than in other tools."""

SHOWN_UNROUTABLE = 2
"""Tasks nothing can run that are explained; the explanations differ little."""
SHOWN_SYSTEMS = 8

LOOK = Call(tool="get_orchestration_status", arguments={})
"""The call that is always safe: what is there?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a model is told about a call that was refused."""

    lines: Sequence[str]
    """What is wrong; the first line is a sentence."""
    code: str
    field: str = ""
    following: Call = LOOK
    tool: str = ""
    """What was called; it decides about the example."""

    def __str__(self) -> str:
        after = [f"code: {self.code}"]
        if self.field:
            after.append(f"field: {clip(self.field, 200)}")
            argument = self.field.partition("[")[0].partition(".")[0]
            examples = {**EXAMPLES, **EXAMPLES_OF.get(self.tool, {})}
            if argument in examples:
                after.append(f"example: {json.dumps({argument: examples[argument]}, ensure_ascii=False)}")
        after.append(f"next: {self.following}")
        room = SHORT - sum(len(line) + 1 for line in after)
        return "\n".join([*cut_lines([clip(line, 400) for line in self.lines], room, ""), *after])


def check_arguments(tool: str, known: Sequence[str], arguments: Mapping[str, Any]) -> None:
    """Refuse arguments the tool does not have: one that is silently ignored does something else than was meant.

    Raises:
        InvalidArgumentError: An argument is unknown; the error names the nearest right one.
    """
    for name, value in arguments.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1) or [
                other for other in known if name.startswith(f"{other}_") or name.endswith(f"_{other}")
            ]
            near += [other for other in known if other.startswith(f"{name}_")]
            fix = f"Did you mean {near[0]!r}?" if near else "Leave it out."
            raise InvalidArgumentError(
                clip(name, 100), value, f"only {', '.join(known)} as arguments of {tool}", fix
            )


def unknown_tool(name: str, known: Sequence[str]) -> MCPError:
    """Return the protocol error for a tool that does not exist."""
    name = clip(name, 100)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}."
    return MCPError(INVALID_PARAMS, f"Unknown tool: {name}{hint}", {"tool": name, "known": list(known)})


def tool_error(
    tool: str, error: Exception, systems: Sequence[str] = (), arguments: Mapping[str, Any] | None = None
) -> ToolError:
    """Return what to raise so that the model reads what it can act on.

    Args:
        tool: The tool that was called.
        error: What the SDK raised for the call, with the original as its cause; or a refusal itself.
        systems: The configured systems, a line each, for refusals that are about them.
        arguments: What the tool was called with: a mistake in a DAG is one of the argument `dag`.
    """
    cause = error.__cause__ if isinstance(error, ToolError) else error
    if isinstance(cause, OrchestrationError):
        told = replace(refusal(cause, systems), tool=tool)
        return ToolError(str(_placed(told, tool, cause, present(arguments or {}))))
    if isinstance(cause, ValidationError) and not isinstance(error, UnexpectedToolError):
        return ToolError(str(replace(_bad_arguments(cause), tool=tool)))
    if isinstance(error, UnexpectedToolError):
        told = Refusal(
            lines=[f"{tool} failed inside the server; its log has the reason."], code="internal_error"
        )
        return UnexpectedToolError(str(told))
    return error if isinstance(error, ToolError) else ToolError(str(error))


def _placed(told: Refusal, tool: str, cause: OrchestrationError, given: Mapping[str, Any]) -> Refusal:
    """Return a refusal that names the argument of this very tool, and looks at what the call was about."""
    match tool:
        case "execute_dag" if isinstance(cause, ProblemsError) and "dag" in given:
            return replace(told, field=f"dag.{told.field}" if told.field else "dag")
        case "execute_dag" if isinstance(cause, OrchestrationNotFoundError):
            return replace(told, field="reuse")
        case "get_metrics" if isinstance(cause, OrchestrationNotFoundError):
            return replace(told, field="id")
        case "edit_dag" if isinstance(cause, OrchestrationNotFoundError | PlanNotFoundError):
            return replace(told, field="target", following=LOOK)
        case "edit_dag":
            name = clip(str(given.get("target", "")), 200)
            field = (
                "expected_revision" if isinstance(cause, RevisionConflictError) else told.field or "target"
            )
            look = Call(tool="edit_dag", arguments={"target": name, "dry_run": True})
            return replace(told, field=field, following=look)
        case "report_task" if isinstance(cause, ProblemsError):
            return replace(told, field="subtasks")
        case "report_task" if isinstance(cause, NotPossibleError):
            claim = clip(str(given.get("claim", "")), 200)
            return replace(told, field="subtasks", following=_progress(claim))
        case "read_output" if isinstance(cause, StateError):
            return replace(told, field="reference")
        case "control_orchestration" if told.field in {"output", "decision"}:
            return replace(told, field="value")
        case "control_orchestration" if isinstance(cause, StateError) and told.field != "orchestration_id":
            name = clip(str(given.get("orchestration_id", "")), 200)
            field = "tasks" if isinstance(cause, TaskNotFoundError) else "action"
            following = told.following if told.following != LOOK else _look_at(name)
            return replace(told, field=field, following=following)
        case _:
            return told


def refusal(error: OrchestrationError, systems: Sequence[str] = ()) -> Refusal:
    """Return what a model is told about an error of the orchestrator."""
    lines = str(error).splitlines() or [error.code]
    field, following = "", LOOK
    match error:
        case InvalidArgumentError():
            field = error.field
        case UnroutableTaskError():
            field = error.problems[0].path if error.problems else "tasks"
            shown = lines[: 1 + SHOWN_UNROUTABLE]
            left = len(lines) - len(shown)
            lines = [*shown, *([f"… and {left} more"] if left else []), *_systems_lines(systems)]
        case ProblemsError():
            field = error.problems[0].path if error.problems else ""
        case OrchestrationNotFoundError():
            field = "orchestration_id"
        case PlanNotFoundError():
            field = "plan_id"
            following = Call(tool="decompose_goal", arguments={"goal": EXAMPLES["goal"]})
        case TaskNotFoundError():
            field = "task"
            following = _look_at(error.orchestration_id, view="tasks")
        case IdempotencyConflictError():
            field = "key"
            following = _look_at(error.orchestration_id)
        case ClaimNotFoundError():
            field = "claim"
            following = Call(tool="claim_task", arguments={"worker": EXAMPLES["worker"]})
        case LeaseHeldError() | ControlPendingError():
            following = _look_at(error.orchestration_id)
        case NoFittingPlanError():
            # What the sentence gives as an example is in the call that follows.
            lines = [str(error).partition(", for example")[0] + "."]
            return Refusal(lines=lines, code=error.code, following=plan_it_yourself(error))
    return Refusal(lines=lines, code=error.code, field=field, following=following)


def plan_it_yourself(error: NoFittingPlanError) -> Call:
    """Return the call that sends tasks with a goal no playbook fits, filled with the error's example."""
    tasks: Json = json.loads(json.dumps(error.example))
    return Call(tool="decompose_goal", arguments={"goal": clip(error.goal, 200), "tasks": tasks})


@contextmanager
def resource_errors() -> Iterator[None]:
    """Turn errors of the orchestrator into those a resource may raise: not there, or there but not readable."""
    try:
        yield
    except (OrchestrationNotFoundError, TaskNotFoundError, NotPossibleError) as error:
        raise ResourceNotFoundError(str(error)) from error
    except OrchestrationError as error:
        raise ResourceError(f"{error} (code: {error.code})") from error


def _progress(claim: str) -> Call:
    return Call(tool="report_task", arguments={"claim": claim, "status": "progress"})


def _look_at(orchestration_id: str, **arguments: Json) -> Call:
    return Call(tool=LOOK.tool, arguments={"orchestration_id": orchestration_id, **arguments})


def _systems_lines(systems: Sequence[str]) -> list[str]:
    return [
        *(f"system {line}" for line in systems[:SHOWN_SYSTEMS]),
        ("Set `tool` to one of these" if systems else "No system is configured here: set one up")
        + ", or let the person who runs the server declare what is needed under `systems:` in its configuration file "
        "(in the library: systems= or unified_controller=).",
    ]


def _bad_arguments(error: ValidationError) -> Refusal:
    """Tell arguments of a wrong type or value, one line each."""
    problems = problems_in(error, "")
    field = problems[0].path.partition("[")[0].partition(".")[0]
    return Refusal(lines=[str(problem) for problem in problems], code=InvalidArgumentError.code, field=field)
