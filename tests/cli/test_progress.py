"""What is told while an orchestration runs: one line for what matters, and the commands where somebody must decide."""

from __future__ import annotations

import argparse
from functools import partial

import pytest
from rich.console import Console

from orchestration.engine.events import (
    AttemptLeftOpen,
    AttemptStarted,
    CancelRequested,
    Event,
    OrchestrationPaused,
    OrchestrationResumed,
    Recorded,
    ResultReused,
    RetryRequested,
    TaskDecided,
    VerificationUnclear,
)
from orchestration.engine.inputs import OutputRef
from orchestration.models import ErrorRecord, TaskStatus
from server.cli.output import Output
from server.cli.progress import Progress
from server.cli.questions import question_lines, questions_lines

LOST = AttemptLeftOpen(
    task_id="t0", attempt=1, error=ErrorRecord(code="interrupted", message="The line broke.")
)
OUTPUT = OutputRef(sha256="0" * 64, size_bytes=1)
ARGS = argparse.Namespace(config=None, database="my state.db")


def progress(tasks: int = 1) -> Progress:
    statuses = {f"t{number}": TaskStatus.PENDING for number in range(tasks)}
    return Progress(Output(), statuses, question=partial(question_lines, ARGS))


def told(capsys: pytest.CaptureFixture[str], following: Progress, *events: Event) -> list[str]:
    """Return the lines that these events lead to."""
    for seq, event in enumerate(events, 1):
        following.take(Recorded(orchestration_id="x-1", seq=seq, at_us=seq, event=event))
    return capsys.readouterr().err.splitlines()


def test_a_task_nobody_knows_the_end_of_is_told_with_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """However many tasks there are; with the options this command was given."""
    at = "--database 'my state.db'"
    question = [
        "t0 waits for a decision: The line broke.",
        f"  it happened:              advanced-orchestration decide x-1 t0 done {at}",
        f"  it did not, run it again: advanced-orchestration decide x-1 t0 retry {at}",
        f"  it did not, give it up:   advanced-orchestration decide x-1 t0 failed {at}",
    ]

    assert told(capsys, progress(), LOST) == question
    assert told(capsys, progress(1_000), LOST) == question


def test_a_task_with_verify_is_asked_about_only_when_that_could_not_say(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Most of the time it can."""
    following = progress()
    following.verified = {"t0"}

    asked = told(capsys, following, LOST)
    unclear = told(capsys, following, VerificationUnclear(task_id="t0", attempt=1, reason="no such file"))

    assert asked == ["t0: nobody knows whether it happened; `verify` is asked"]
    assert unclear[0] == "t0 waits for a decision: The line broke. `verify` could not say: no such file"
    assert len(unclear) == 4


def test_decisions_and_requests_are_told_by_whom_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    """A person who looks at the run sees what others did to it."""
    lines = told(
        capsys,
        progress(100),
        OrchestrationPaused(),
        OrchestrationResumed(),
        TaskDecided(task_id="t0", decision="retry", by="caller", reason="I looked"),
        RetryRequested(task_ids=("t1", "t2"), reason=""),
        CancelRequested(reason="wrong day"),
    )

    assert lines == [
        "paused: what runs may finish, nothing starts until it is resumed",
        "resumed",
        "t0: decided by caller: retry (I looked)",
        "run again: t1, t2",
        "cancelling: wrong day",
    ]


def test_a_result_that_was_there_already_says_whose_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """From the cache, or from an earlier orchestration."""
    cached = ResultReused(task_id="t0", output=OUTPUT, source="w-3:t9", because="cache")
    reused = ResultReused(task_id="t1", output=OUTPUT, source="w-2:t1", because="reuse")

    assert told(capsys, progress(2), cached, reused) == [
        "t0: completed by the cached output of w-3:t9",
        "t1: completed by the reused output of w-2:t1",
    ]


def test_the_display_shows_a_question_until_it_is_answered() -> None:
    """On a terminal, where lines are redrawn."""
    following = progress(2)
    console = Console(width=200, force_terminal=False)

    def shown() -> str:
        with console.capture() as captured:
            console.print(following._display())
        return captured.get()

    for event in (AttemptStarted(task_id="t0", attempt=1, system="local"), LOST):
        following.take(Recorded(orchestration_id="x-1", seq=1, at_us=1, event=event))
    asked = shown()
    decided = TaskDecided(task_id="t0", decision="done", by="person", output=OUTPUT)
    following.take(Recorded(orchestration_id="x-1", seq=2, at_us=2, event=decided))

    assert "1 pending, 1 unknown" in asked
    assert "advanced-orchestration decide x-1 t0 retry --database 'my state.db'" in asked
    assert "decide" not in shown()


def test_of_many_questions_the_first_are_told_and_the_others_counted() -> None:
    """The rest stand in the list of tasks."""
    questions = {f"t{number}": "The line broke." for number in range(20)}

    lines = questions_lines(ARGS, "x-1", questions, 31)

    assert sum(" waits for a decision: " in line for line in lines) == 5
    assert lines[-1] == (
        "26 more wait for a decision: advanced-orchestration status x-1 --tasks --database 'my state.db'"
    )
