"""What is told while an orchestration runs: one line for what matters, and the commands where somebody must decide."""

from __future__ import annotations

import argparse
import io
from functools import partial

import pytest
from rich.console import Console

from orchestration.engine.events import (
    ApprovalGiven,
    ApprovalRequested,
    ApprovalVoided,
    AttemptLeftOpen,
    AttemptStarted,
    AttemptSucceeded,
    CallerAsked,
    CancelRequested,
    ChildrenGathered,
    ClaimReleased,
    ClaimReported,
    ClaimResumed,
    ClaimStarted,
    Event,
    FallbackStarted,
    OrchestrationPaused,
    OrchestrationResumed,
    PlanCompleted,
    PlanEdited,
    PlanExtended,
    PlanRevised,
    Recorded,
    ReplanRequested,
    ResultReused,
    RetryRequested,
    TaskDecided,
    TaskExpanded,
    TaskOffered,
    TaskRerouted,
    VerificationUnclear,
)
from orchestration.engine.inputs import OutputRef
from orchestration.models import ErrorRecord, TaskNode, TaskStatus
from server.cli.output import Output
from server.cli.progress import Progress
from server.cli.questions import lines_about, questions_lines

LOST = AttemptLeftOpen(
    task_id="t0", attempt=1, error=ErrorRecord(code="interrupted", message="The line broke.")
)
OUTPUT = OutputRef(sha256="0" * 64, size_bytes=1)
ARGS = argparse.Namespace(config=None, database="my state.db")


def progress(tasks: int = 1) -> Progress:
    statuses = {f"t{number}": TaskStatus.PENDING for number in range(tasks)}
    return Progress(Output(), statuses, questions=partial(lines_about, ARGS))


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


def test_a_task_that_waits_for_a_yes_is_told_with_what_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    """However many tasks there are, and until somebody has answered."""
    following = progress(1_000)
    at = "--database 'my state.db'"

    asked = told(capsys, following, ApprovalRequested(task_id="t0", digest="d", shown="pay 5\n\x1b[2J"))
    given = told(
        capsys,
        following,
        ApprovalGiven(task_id="t0", digest="d", by="person", reason="due"),
        ApprovalVoided(task_id="t0", attempt=1),
    )

    assert asked == [
        "t0 waits for your yes; it would run exactly this:",
        "  | pay 5",
        "  | [2J",
        f"  agree:  advanced-orchestration approve x-1 t0 {at}",
        f"  refuse: advanced-orchestration reject x-1 t0 {at}",
    ]
    assert given == [
        "t0: approved by person (due)",
        "t0: what was agreed to has changed; it asks anew",
    ]


def test_a_task_that_asks_how_to_go_on_is_told_with_the_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """The display forgets the question once it was answered."""
    following = progress(2)
    error = ErrorRecord(code="broken", message="It broke.")

    asked = told(
        capsys,
        following,
        ReplanRequested(task_id="t0", error=error, paused=("t1",)),
        CallerAsked(task_id="t0", reason="nothing fits"),
    )
    shown = _drawn(following)
    told(capsys, following, TaskDecided(task_id="t0", decision="retry", by="person"))

    assert asked[1] == "t0 asks how to go on: nothing fits"
    assert [line.split(":")[0].strip() for line in asked[2:]] == [
        "do something else instead",
        "run it again as it is",
        "it was done otherwise",
        "give it up",
    ]
    assert "t0 asks how to go on: nothing fits" in shown
    assert "t0 asks how to go on" not in _drawn(following)


def test_other_ways_to_the_same_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Another system, and the fallback."""
    assert told(
        capsys,
        progress(1_000),
        TaskRerouted(task_id="t0", attempt=2, system="other"),
        FallbackStarted(task_id="t0", attempt=4),
    ) == ["t0: its system used up its attempts; it goes to other", "t0: its fallback takes over"]


def test_tasks_with_parts_are_not_counted_and_their_parts_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Those there are from the start, items that come with the run, and what a revision brings."""
    statuses = {"list": TaskStatus.PENDING, "each": TaskStatus.PENDING}
    following = Progress(Output(), statuses, composites=["each"])

    lines = told(
        capsys,
        following,
        TaskExpanded(task_id="each", count=2),
        AttemptSucceeded(task_id="each[0]", attempt=1, output=OUTPUT),
        ChildrenGathered(task_id="each", output=OUTPUT),
        PlanExtended(tasks=(TaskNode("more"), TaskNode("inner", parent="more"))),
        PlanCompleted(),
        PlanRevised(
            task_id="list", revision=2, tasks=(TaskNode("list~1"),), edges=(), routes={}, delivers="list~1",
            reason="it broke",
        ),
        PlanEdited(revision=3, by="caller", reason="faster", removed=("inner",), added=(TaskNode("new"),)),
    )  # fmt: skip

    assert lines == [
        "each: one part for each of 2 items",
        "each[0]: completed",
        "each: completed with its parts",
        "planned: more, inner",
        "the plan is whole",
        "list: replaced by list~1: it broke",
        "the plan was edited by caller (revision 3): faster",
    ]
    assert "1/4" in _drawn(following)


def _drawn(following: Progress) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(following._display())
    return console.export_text()


def test_a_run_that_waits_for_workers_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """However many tasks there are: nobody else would tell the person who started it."""
    offered = TaskOffered(task_id="t0", number=1, lease_seconds=300.0)
    following = progress()

    lines = told(
        capsys,
        following,
        offered,
        ClaimStarted(task_id="t0", attempt=1, claim="claim-1", worker="ada"),
        ClaimResumed(task_id="t0", attempt=1, claim="claim-1"),
        ClaimReported(task_id="t0", attempt=1, claim="claim-1", output=OUTPUT),
        ClaimReleased(task_id="t0", attempt=1, claim="claim-1", reason="no wool"),
    )

    assert lines == [
        "t0: offered; it waits for a worker: claim_task over MCP",
        "t0: claimed by ada",
        "t0: its worker reported late, and goes on",
        "t0: reported done; that is being checked",
        "t0: given back by its worker (no wool); it waits for a worker: claim_task over MCP",
    ]
    assert told(capsys, progress(1_000), offered) == lines[:1]


def test_the_display_shows_what_waits_for_a_worker_until_somebody_has_it() -> None:
    """Also where it was offered before anybody looked."""
    following = Progress(Output(), {"t0": TaskStatus.OFFERED, "t1": TaskStatus.CLAIMED})

    before = _drawn(following)
    claimed = ClaimStarted(task_id="t0", attempt=1, claim="claim-1", worker="ada")
    following.take(Recorded(orchestration_id="x-1", seq=1, at_us=1, event=claimed))

    assert "t0 waits for a worker: claim_task over MCP" in before
    assert "1 offered, 1 claimed" in before
    assert "waits for a worker" not in _drawn(following)
