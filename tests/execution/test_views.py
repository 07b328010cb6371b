"""The row of a task says where it stands, what it runs, and what it is a part of."""

from __future__ import annotations

from orchestration.engine.inputs import OutputRef
from orchestration.engine.task_state import TaskState
from orchestration.execution.views import row_of
from orchestration.models import ErrorRecord, TaskNode, TaskStatus
from orchestration.ports import TaskRow


def test_a_row_tells_of_a_part_what_it_runs_and_of_what_it_is_a_part() -> None:
    """With everything readers in other processes are told."""
    error = ErrorRecord(code="tool_error", message="broke")
    task = TaskState(node=TaskNode("load[2]", tool="copy", parent="load"), position=7, system="py")
    task.status, task.attempt, task.error, task.note = TaskStatus.COMPLETED, 2, error, "second try"
    task.started_at_us, task.finished_at_us, task.duration_us = 5, 9, 2_500_000
    task.output = OutputRef(sha256="e" * 64, size_bytes=17)

    assert row_of(task) == TaskRow(
        task_id="load[2]",
        position=7,
        status=TaskStatus.COMPLETED,
        attempt=2,
        system="py",
        started_at_us=5,
        finished_at_us=9,
        duration_seconds=2.5,
        error=error,
        output_sha256="e" * 64,
        output_bytes=17,
        note="second try",
        tool="copy",
        parent="load",
        is_composite=False,
    )


def test_a_composite_is_told_as_one() -> None:
    """It runs nothing itself."""
    task = TaskState(node=TaskNode("load"), position=0, system="", is_composite=True)

    row = row_of(task)

    assert (row.is_composite, row.system, row.tool, row.parent) == (True, None, None, None)
