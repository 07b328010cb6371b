"""What a model is told about a refused call: a sentence, a code, the field, an example, one safe next call."""

from __future__ import annotations

import json
import logging

import pytest
from mcp.server.mcpserver.exceptions import (
    ResourceError,
    ResourceNotFoundError,
    ToolError,
    UnexpectedToolError,
)
from mcp_types import INVALID_PARAMS

from orchestration.errors import (
    IdempotencyConflictError,
    InvalidArgumentError,
    InvalidDagError,
    LeaseHeldError,
    NoFittingPlanError,
    NotPossibleError,
    OrchestrationError,
    OrchestrationNotFoundError,
    PlanNotFoundError,
    Problem,
    StorageUnavailableError,
    TaskNotFoundError,
    UnroutableTaskError,
)
from server.answers import SHORT
from server.errors import check_arguments, refusal, resource_errors, tool_error, unknown_tool


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OrchestrationNotFoundError("nightly-8"),
            (
                "There is no orchestration 'nightly-8'. Fix: list them (`advanced-orchestration list`, or "
                "get_orchestration_status without an id).\n"
                "code: orchestration_not_found\n"
                "field: orchestration_id\n"
                'example: {"orchestration_id": "nightly-report-7"}\n'
                "next: get_orchestration_status({})"
            ),
        ),
        (
            PlanNotFoundError("p-1"),
            (
                "There is no plan 'p-1'. Fix: make one (`advanced-orchestration decompose`, or decompose_goal) "
                "and use the plan_id it answers.\n"
                "code: plan_not_found\n"
                "field: plan_id\n"
                'example: {"plan_id": "nightly-report-1"}\n'
                'next: decompose_goal({"goal": "Report on the health of this Python codebase"})'
            ),
        ),
        (
            TaskNotFoundError("n-1", "lod", ["load"]),
            (
                "Orchestration 'n-1' has no task 'lod'. It has: load.\n"
                "code: task_not_found\n"
                "field: task\n"
                'example: {"task": "extract"}\n'
                'next: get_orchestration_status({"orchestration_id": "n-1", "view": "tasks"})'
            ),
        ),
        (
            IdempotencyConflictError("k", "n-1"),
            (
                "Key 'k' was used for 'n-1' with other arguments. Fix: use a new key, or repeat the call exactly.\n"
                "code: idempotency_conflict\n"
                "field: key\n"
                'example: {"key": "nightly-2026-11-21"}\n'
                'next: get_orchestration_status({"orchestration_id": "n-1"})'
            ),
        ),
        (
            InvalidArgumentError("window", "soon", "a number with s, m, h or d", "For example 24h."),
            (
                "window is 'soon'; expected a number with s, m, h or d. Fix: For example 24h.\n"
                "code: invalid_argument\n"
                "field: window\n"
                'example: {"window": "24h"}\n'
                "next: get_orchestration_status({})"
            ),
        ),
        (
            InvalidDagError(
                [Problem("tasks[1].priority", "is 'top'; expected LOW to URGENT.", "Write 'HIGH'.")]
            ),
            (
                "The DAG has 1 mistake:\n"
                "tasks[1].priority: is 'top'; expected LOW to URGENT. Fix: Write 'HIGH'.\n"
                "code: invalid_dag\n"
                "field: tasks[1].priority\n"
                'example: {"tasks": [{"task_id": "fetch", "description": "Fetch the data"}, {"task_id": "report", '
                '"depends_on": ["fetch"]}]}\n'
                "next: get_orchestration_status({})"
            ),
        ),
        (
            NoFittingPlanError("Sing", [{"task_id": "sing"}]),
            (
                "There is no plan for the goal 'Sing': no playbook is used and no tasks were sent. Fix: send `tasks` "
                "with the goal.\n"
                "code: no_fitting_plan\n"
                'next: decompose_goal({"goal": "Sing", "tasks": [{"task_id": "sing"}]})'
            ),
        ),
        (
            LeaseHeldError("n-1", "process 7 on here"),
            (
                "Orchestration 'n-1' is driven by process 7 on here. Fix: wait for it, or end that process.\n"
                "code: lease_held\n"
                'next: get_orchestration_status({"orchestration_id": "n-1"})'
            ),
        ),
        (
            StorageUnavailableError("/data/o.db", "is locked", "try again"),
            (
                "Database /data/o.db: is locked Fix: try again\n"
                "code: storage_unavailable\n"
                "next: get_orchestration_status({})"
            ),
        ),
    ],
)
def test_an_error_becomes_a_sentence_a_code_a_field_an_example_and_a_safe_call(
    error: OrchestrationError, told: str
) -> None:
    """The whole text, for every kind of error a caller can cause."""
    assert str(refusal(error)) == told


def test_what_nothing_can_run_names_the_tools_there_are_and_where_more_are_declared() -> None:
    """The model can choose one of them, or tell the person what to configure."""
    problems = [Problem(f"tasks[{n}].tool", f"nothing can run task 't{n}'.", "set `tool`.") for n in range(5)]

    told = str(refusal(UnroutableTaskError(problems), ["files: tools read, write", "any: any task"]))

    assert told.splitlines()[:8] == [
        "The plan has 5 mistakes:",
        "tasks[0].tool: nothing can run task 't0'. Fix: set `tool`.",
        "tasks[1].tool: nothing can run task 't1'. Fix: set `tool`.",
        "… and 3 more",
        "system files: tools read, write",
        "system any: any task",
        (
            "Set `tool` to one of these, or let the person who runs the server declare what is needed under "
            "`systems:` in its configuration file (in the library: systems= or unified_controller=)."
        ),
        "code: unroutable_task",
    ]
    assert "\nNo system is configured here: set one up, or let the person" in str(
        refusal(UnroutableTaskError(problems[:1]))
    )


def test_many_mistakes_are_told_within_the_limit_and_the_rest_counted() -> None:
    """The code and the next call are never cut off."""
    problems = [
        Problem(f"tasks[{number}]", "is wrong in a way that takes long to tell " * 3) for number in range(40)
    ]

    told = str(refusal(InvalidDagError(problems)))

    assert len(told) <= SHORT
    assert "more lines\ncode: invalid_dag\n" in told
    assert told.endswith("next: get_orchestration_status({})")


def test_an_unknown_argument_is_refused_with_the_nearest_right_one() -> None:
    """A misspelled argument that is ignored would do something else than was meant."""
    with pytest.raises(InvalidArgumentError) as caught:
        check_arguments("get_metrics", ["scope", "id", "window"], {"scop": "server"})

    assert str(caught.value) == (
        "scop is 'server'; expected only scope, id, window as arguments of get_metrics. Fix: Did you mean 'scope'?"
    )


def test_an_argument_like_no_other_is_to_be_left_out() -> None:
    """There is nothing near to suggest."""
    with pytest.raises(InvalidArgumentError, match=r"Fix: Leave it out\.$"):
        check_arguments("get_metrics", ["scope"], {"budget": 5})


def test_an_unknown_tool_is_a_protocol_error_that_names_the_nearest() -> None:
    """It is -32602, as the protocol says, and not a tool's own failure."""
    error = unknown_tool("execute_dags", ["execute_dag", "get_metrics"])

    assert (error.code, error.message) == (
        INVALID_PARAMS,
        "Unknown tool: execute_dags; did you mean 'execute_dag'?",
    )
    assert unknown_tool("zzz", ["execute_dag"]).message == "Unknown tool: zzz; there are execute_dag."


def test_what_nobody_expected_is_told_without_its_text() -> None:
    """A file name or a password in an exception stays in the server's log."""
    crash = UnexpectedToolError("Error executing tool get_metrics")
    crash.__cause__ = RuntimeError("secret")

    told = tool_error("get_metrics", crash)

    assert isinstance(told, UnexpectedToolError)
    assert str(told) == (
        "get_metrics failed inside the server; its log has the reason.\n"
        "code: internal_error\n"
        "next: get_orchestration_status({})"
    )


@pytest.mark.parametrize(
    ("tool", "arguments", "error", "field", "example"),
    [
        ("get_metrics", {"id": "x-1"}, OrchestrationNotFoundError("x-1"), "id", "nightly-report-7"),
        ("execute_dag", {"reuse": "x-1"}, OrchestrationNotFoundError("x-1"), "reuse", "nightly-report-6"),
        (
            "read_output",
            {"reference": "x-1/t"},
            TaskNotFoundError("x-1", "t"),
            "reference",
            "nightly-report-7/extract",
        ),
        (
            "control_orchestration",
            {"orchestration_id": "x-1", "tasks": ["t"]},
            TaskNotFoundError("x-1", "t"),
            "tasks",
            ["extract"],
        ),
        (
            "control_orchestration",
            {"orchestration_id": "x-1"},
            NotPossibleError("Orchestration 'x-1'", "completed", "paused"),
            "action",
            "resume",
        ),
    ],
)
def test_the_field_is_an_argument_of_the_tool_that_was_called(
    tool: str, arguments: dict[str, object], error: OrchestrationError, field: str, example: object
) -> None:
    """The same error is about another argument in another tool, and the example fits there."""
    told = str(tool_error(tool, error, arguments=arguments))

    assert f"\nfield: {field}\nexample: {json.dumps({field: example})}\n" in told


def test_a_tools_own_words_are_passed_on() -> None:
    """A refusal that was already made for the model stays as it is."""
    refused = ToolError("as it is")

    assert tool_error("get_metrics", refused) is refused


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (OrchestrationNotFoundError("x"), ResourceNotFoundError, "There is no orchestration 'x'."),
        (TaskNotFoundError("x", "t"), ResourceNotFoundError, "Orchestration 'x' has no task 't'."),
        (NotPossibleError("Task 't'", "running", "read"), ResourceNotFoundError, "Task 't' is running"),
        (StorageUnavailableError("o.db", "is gone"), ResourceError, "is gone (code: storage_unavailable)"),
    ],
)
def test_a_resource_that_is_not_there_is_told_from_one_that_cannot_be_read(
    error: OrchestrationError, kind: type[Exception], text: str
) -> None:
    """The first is the caller's mistake, the second the server's trouble."""
    with pytest.raises(kind) as caught, resource_errors():
        raise error

    assert type(caught.value) is kind
    assert text in str(caught.value)


def test_the_logger_of_the_sdk_is_not_silenced() -> None:
    """The traceback of a crash is written by the SDK's logger; were it disabled, nobody would learn the reason."""
    assert not logging.getLogger("mcp.server.mcpserver.server").disabled
