"""Approvals: somebody agrees to exactly these arguments and inputs before a task runs."""

from __future__ import annotations

import pytest

from orchestration.engine.effects import DescribeApproval, LookUpResult
from orchestration.engine.events import ApprovalGiven, ApprovalRequested, ApprovalVoided, TaskFailed
from orchestration.engine.outcomes import APPROVAL_VOID
from orchestration.errors import NotPermittedError, NotPossibleError
from orchestration.models import (
    Approver,
    ErrorRecord,
    Fallback,
    OrchestrationMode,
    OrchestrationStatus,
    TaskEdge,
    TaskNode,
    TaskPriority,
)
from tests.engine_kit import Bench, events_of, graph, plan


def asking(approval: Approver = "person", *others: str, edges: tuple[str, ...] = (), **more: object) -> Bench:
    """Return a started orchestration whose task `a` wants approval."""
    tasks = [TaskNode("a", approval=approval), *map(TaskNode, others)]
    bench = Bench(graph(tasks, *edges), **more)  # type: ignore[arg-type]
    bench.start()
    return bench


def awaiting(
    approval: Approver = "person", *others: str, edges: tuple[str, ...] = (), **more: object
) -> Bench:
    """The same, with somebody asked to agree."""
    bench = asking(approval, *others, edges=edges, **more)
    bench.described("a", "d1")
    return bench


# Asking


def test_what_would_run_is_described_before_anybody_is_asked() -> None:
    """The task is ready, and holds back."""
    bench = asking()

    assert (bench.statuses(), bench.starts()) == ({"a": "ready"}, [])
    assert bench.of(DescribeApproval) == [DescribeApproval(orchestration_id="o", task_id="a", generation=1)]


def test_somebody_is_asked_with_the_digest_of_what_would_run() -> None:
    """The event holds what they are shown."""
    bench = asking()

    decision = bench.described("a", "d1", shown='{"to": "me"}')

    assert events_of(decision) == [ApprovalRequested(task_id="a", digest="d1", shown='{"to": "me"}')]
    assert bench.statuses() == {"a": "awaiting_approval"}
    assert bench.task("a").note == 'asks for approval: {"to": "me"}'


def test_nothing_is_asked_before_the_upstream_has_settled() -> None:
    """There is nothing definite to agree to."""
    bench = asking("person", "u", edges=("u a",))

    assert bench.of(DescribeApproval) == []
    bench.succeed("u")
    assert len(bench.of(DescribeApproval)) == 1


def test_a_task_that_wants_approval_holds_no_slot() -> None:
    """The one beside it runs."""
    bench = awaiting("person", "b", slots=1)

    assert bench.running == ["b"]


def test_what_cannot_be_described_fails_the_task() -> None:
    """Its arguments can't be resolved: nobody could agree to it, and no attempt is made."""
    bench = asking("person", "b", edges=("a b",))

    bench.described("a", error=ErrorRecord(code="missing_data", message="no key 'x'"))

    assert bench.statuses() == {"a": "failed", "b": "skipped"}
    assert (bench.history(), bench.outcome) == ([], OrchestrationStatus.FAILED)


# Agreeing


def test_an_approved_task_runs() -> None:
    """With the digest it was approved under, for the attempt to compare."""
    bench = awaiting()

    events = events_of(bench.approve("a", "d1", reason="looks good"))

    assert events[0] == ApprovalGiven(task_id="a", digest="d1", by="person", reason="looks good")
    assert bench.task("a").approved_digest == "d1"
    assert bench.task("a").note == "approved by person (looks good)"
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_who_names_no_digest_agrees_to_what_is_asked_now() -> None:
    """As somebody does who has just read it."""
    bench = awaiting()

    bench.approve("a")

    assert bench.running == ["a"]


def test_an_agreement_to_something_else_is_refused() -> None:
    """It was about other arguments or inputs; nothing changes."""
    bench = awaiting()
    before = list(bench.journal)

    with pytest.raises(NotPossibleError) as caught:
        bench.approve("a", "d0")

    assert str(caught.value) == (
        "Task 'a' is to be approved with other arguments or inputs by now, so it can't be approved as it was. "
        "Look at what it asks now."
    )
    assert bench.journal == before
    assert bench.statuses() == {"a": "awaiting_approval"}


def test_the_caller_may_not_agree_in_a_persons_name() -> None:
    """The refusal holds the command to show the user; rejecting is a person's, too."""
    bench = awaiting("person")

    with pytest.raises(NotPermittedError) as caught:
        bench.approve("a", by="caller")
    assert str(caught.value) == (
        "Only a person may approve task 'a'. Fix: show the user this command: `advanced-orchestration approve o a`."
    )
    with pytest.raises(NotPermittedError, match="advanced-orchestration reject o a"):
        bench.reject("a", by="caller")
    with pytest.raises(NotPermittedError):
        bench.approve("a", by="Caller")
    assert bench.statuses() == {"a": "awaiting_approval"}


@pytest.mark.parametrize("by", ["caller", "person"])
def test_where_the_caller_may_agree_both_may(by: str) -> None:
    """A person can always."""
    bench = awaiting("caller")

    bench.approve("a", by=by)

    assert bench.running == ["a"]


def test_only_a_task_that_waits_for_it_can_be_approved() -> None:
    """The refusal names those that do."""
    bench = awaiting("person", "b")

    with pytest.raises(NotPossibleError) as caught:
        bench.approve("b")
    assert str(caught.value) == "Task 'b' is running, so it can't be approved. These wait for approval: a."

    bench.approve("a")
    with pytest.raises(NotPossibleError, match="No task of it waits for approval"):
        bench.reject("a")


# Refusing


def test_a_rejected_task_has_failed_for_good() -> None:
    """No retry, no fallback, no alternative plan gets round it; a handler of the failure runs."""
    node = TaskNode("a", approval="person", max_retries=5, fallback=Fallback(tool="other"))
    dag = graph([node, TaskNode("b"), TaskNode("c")], "a b", "a c if status == 'failed'")
    bench = Bench(dag, mode=OrchestrationMode.ADAPTIVE, can_replan=True, asks_caller=True)
    bench.start()
    bench.described("a")

    events = events_of(bench.reject("a", reason="not today"))

    assert isinstance(events[0], TaskFailed)
    assert events[0].error == ErrorRecord(code="rejected", message="person did not agree to it: not today")
    assert bench.statuses() == {"a": "failed", "b": "skipped", "c": "running"}
    assert bench.asked() == []


def test_a_retry_of_what_was_rejected_asks_again() -> None:
    """Somebody may have changed their mind."""
    bench = awaiting()
    bench.reject("a")
    assert bench.outcome is OrchestrationStatus.FAILED
    bench.crash()

    bench.retry()
    bench.start()

    assert (bench.statuses(), len(bench.of(DescribeApproval))) == ({"a": "ready"}, 1)


# What makes an agreement void


def test_an_attempt_that_is_not_what_was_agreed_to_is_asked_about_again() -> None:
    """It did not begin: it costs no retry, and its slot is free."""
    bench = awaiting()
    bench.approve("a")

    events = events_of(bench.fail("a", code=APPROVAL_VOID))

    assert events == [ApprovalVoided(task_id="a", attempt=1)]
    assert bench.statuses() == {"a": "ready"}
    assert bench.task("a").failures == 0
    assert bench.engine.scheduler.slots.used == 0
    bench.described("a", "d2")
    with pytest.raises(NotPossibleError):
        bench.approve("a", "d1")
    bench.approve("a", "d2")
    bench.run_out()
    assert bench.history() == ["a#1", "a#2"]


def test_an_agreement_holds_for_retries_of_the_same() -> None:
    """Nobody is asked after each back-off."""
    bench = awaiting()
    bench.approve("a")

    bench.fail("a", retryable=True)
    bench.wait(60)

    assert bench.running == ["a"]
    assert len(bench.of(DescribeApproval)) == 1


def test_an_explicit_retry_asks_anew() -> None:
    """The agreement was to the generation before."""
    bench = awaiting()
    bench.approve("a")
    bench.fail("a")
    bench.crash()

    bench.retry()
    bench.start()

    assert (bench.statuses(), bench.starts()) == ({"a": "ready"}, [])
    assert len(bench.of(DescribeApproval)) == 1


def test_a_change_of_the_task_voids_what_was_agreed_to() -> None:
    """Whether somebody was only asked, or had agreed already."""
    for has_agreed in (False, True):
        bench = awaiting("person", "b", slots=1)  # `b` takes the slot
        if has_agreed:
            bench.approve("a")

        bench.edit(changed=(TaskNode("a", approval="person", arguments={"to": "you"}),))

        assert bench.statuses()["a"] == "ready"
        assert bench.task("a").approved_digest is None
        assert [effect.generation for effect in bench.of(DescribeApproval)] == [1, 2]
        bench.succeed("b")
        assert bench.starts() == ["b#1"]


@pytest.mark.parametrize("has_agreed", [False, True])
def test_a_change_of_what_it_is_fed_voids_what_was_agreed_to(has_agreed: bool) -> None:
    """An edge more, decided at once, or one less: other inputs than somebody has seen."""
    for change in (
        {"linked": (TaskEdge("done", "a"),)},
        {"unlinked": (("u", "a"),)},
        {"linked": (TaskEdge("late", "a"),)},
    ):
        bench = asking("person", "u", "done", "late", slots=1, edges=("u a",))
        for name in ("u", "done"):
            bench.succeed(name)
        bench.described("a", "d1")
        if has_agreed:
            bench.approve("a", "d1")

        bench.edit(**change)

        assert bench.task("a").approved_digest is None
        assert bench.task("a").asked_digest is None
        bench.described("a", "d1", generation=1)
        bench.succeed("late")
        assert bench.statuses()["a"] == "ready", "an answer about other inputs asks nobody"
        bench.described("a", "d2")
        bench.approve("a", "d2")
        assert bench.running == ["a"]


def test_an_agreement_survives_a_change_of_priority() -> None:
    """It changes nothing of what would run."""
    bench = awaiting()

    bench.edit(changed=(TaskNode("a", approval="person", priority=TaskPriority.URGENT),))

    assert bench.statuses() == {"a": "awaiting_approval"}
    bench.approve("a", "d1")
    assert bench.running == ["a"]


def test_an_edit_can_take_the_approval_away() -> None:
    """Then the task runs without."""
    bench = awaiting()

    bench.edit(changed=(TaskNode("a"),))

    assert bench.running == ["a"]


def test_an_answer_about_what_the_task_was_before_is_passed_over() -> None:
    """Its digest is of something else."""
    bench = asking()
    bench.edit(changed=(TaskNode("a", approval="person", tool="other"),))

    bench.described("a", "old", generation=1)

    assert bench.statuses() == {"a": "ready"}
    bench.described("a", "new", generation=2)
    assert bench.task("a").asked_digest == "new"


# Pause, cancel, takeover


def test_an_agreement_given_while_paused_counts_when_it_goes_on() -> None:
    """People answer when they have time."""
    bench = awaiting()
    bench.pause()

    bench.approve("a")

    assert (bench.statuses(), bench.running) == ({"a": "ready"}, [])
    bench.resume()
    assert bench.running == ["a"]


def test_a_description_that_comes_while_paused_is_taken() -> None:
    """Somebody can be asked; nothing starts."""
    bench = asking()
    bench.pause()

    bench.described("a")

    assert bench.statuses() == {"a": "awaiting_approval"}


def test_what_was_not_asked_while_paused_is_asked_afterwards() -> None:
    """The upstream settled meanwhile."""
    bench = asking("person", "u", edges=("u a",))
    bench.pause()
    bench.succeed("u")
    assert bench.of(DescribeApproval) == []

    bench.resume()

    assert len(bench.of(DescribeApproval)) == 1


def test_cancel_ends_what_waits_for_approval() -> None:
    """An agreement after that is refused."""
    bench = awaiting()

    bench.cancel()

    assert bench.outcome is OrchestrationStatus.CANCELLED
    assert bench.task("a").asked_digest is None
    with pytest.raises(NotPossibleError, match="Task 'a' is cancelled"):
        bench.approve("a")


def test_the_next_driver_knows_who_is_asked_what() -> None:
    """The question is in the journal: it is not asked twice."""
    bench = awaiting()
    bench.crash()

    bench.start()

    assert bench.of(DescribeApproval) == []
    bench.approve("a", "d1")
    assert bench.running == ["a"]


def test_the_next_driver_asks_what_nobody_answered() -> None:
    """The description was lost with the driver before."""
    bench = asking()
    bench.crash()

    bench.start()

    assert len(bench.of(DescribeApproval)) == 1


def test_an_agreement_while_nobody_drives_is_kept() -> None:
    """Whoever takes over runs the task."""
    bench = awaiting()
    bench.crash()

    bench.approve("a", "d1")
    assert bench.running == []
    bench.start()

    assert bench.running == ["a"]


def test_an_interrupted_attempt_runs_again_under_the_same_agreement() -> None:
    """The same arguments, the same inputs: it is compared when it begins."""
    bench = awaiting()
    bench.approve("a")
    bench.crash()

    bench.start()

    assert bench.history() == ["a#1", "a#2"]
    assert bench.task("a").approved_digest == "d1"


def test_a_task_that_awaits_approval_holds_its_place_in_simple_mode() -> None:
    """Nothing after it begins."""
    bench = awaiting("person", "b", mode=OrchestrationMode.SIMPLE)

    assert bench.running == []
    bench.approve("a")
    bench.run_out()
    assert bench.history() == ["a#1", "b#1"]


def test_the_time_limit_of_the_whole_ends_the_wait_for_approval() -> None:
    """Nobody waits for ever."""
    bench = awaiting(timeout_seconds=60.0)

    bench.wait(60)

    assert bench.statuses() == {"a": "cancelled"}
    assert bench.outcome is OrchestrationStatus.FAILED


# Alternatives


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("person", None, "person"),
        ("person", "caller", "person"),
        ("caller", "person", "person"),
        ("caller", None, "caller"),
        (None, "caller", "caller"),
    ],
)
def test_what_stands_for_a_task_wants_the_same_approval(
    old: Approver | None, new: Approver | None, wanted: str
) -> None:
    """A planner can't get round a person."""
    bench = Bench(graph([TaskNode("a", approval=old)]), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    if old:
        bench.described("a")
        bench.approve("a")
    bench.fail("a")

    bench.offer("a", graph([TaskNode("b", tool="else", approval=new)]))

    assert bench.task("b~1").node.approval == wanted
    assert bench.statuses()["b~1"] == "ready"


def test_what_stands_for_an_approved_task_takes_nothing_from_the_cache() -> None:
    """Somebody has to agree first."""
    bench = awaiting(mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.approve("a")
    bench.fail("a")

    bench.offer("a", plan("b"))

    assert bench.of(LookUpResult) == []
    assert bench.task("b~1").node.cache is None


def test_what_stands_for_an_approved_task_goes_through_no_list() -> None:
    """Of an empty list nobody would be asked."""
    bench = Bench(graph([TaskNode("a", approval="person")]), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.described("a")
    bench.approve("a")
    bench.fail("a")

    bench.offer("a", graph([TaskNode("b", tool="else", foreach=[])]))

    assert bench.statuses() == {"a": "failed"}
