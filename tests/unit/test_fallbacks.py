"""A task under its fallbacks is the same task with another way to its output."""

from __future__ import annotations

from orchestration.fallbacks import fallback_nodes
from orchestration.models import CachePolicy, Fallback, TaskNode, TaskPriority, Verification


def test_each_fallback_takes_the_place_of_what_is_about_one_way() -> None:
    """Tool, arguments and limits are the fallback's; id, urgency, approval and place in the plan stay the task's."""
    node = TaskNode(
        "pay",
        description="Pay",
        system_preference="bank",
        tool="transfer",
        arguments={"to": "x"},
        priority=TaskPriority.HIGH,
        approval="person",
        parent="month-end",
        max_retries=5,
        backoff_factor=3,
        timeout_seconds=60,
        estimated_time_seconds=9,
        cost=1,
        metadata={"title": "Pay"},
        fallback=Fallback(
            tool="cheque", timeout_seconds=5, fallback=Fallback(description="Pay in cash", max_retries=1)
        ),
    )

    first, second = fallback_nodes(node)

    kept = {"priority": TaskPriority.HIGH, "approval": "person", "parent": "month-end"}
    assert first == TaskNode(
        "pay",
        description="Pay",
        tool="cheque",
        max_retries=0,
        backoff_factor=3,
        timeout_seconds=5,
        metadata={"title": "Pay"},
        fallback=Fallback(description="Pay in cash", max_retries=1),
        **kept,  # type: ignore[arg-type]
    )
    assert (second.description, second.tool, second.max_retries) == ("Pay in cash", None, 1)
    assert (second.timeout_seconds, second.backoff_factor, second.fallback) == (5, 3, None)


def test_what_must_not_be_repeated_stays_so_under_every_later_fallback() -> None:
    """An effect that was left open once stays open; the question about it is the fallback's own."""
    question = Verification("was_it_sent")
    node = TaskNode(
        "send",
        fallback=Fallback(idempotent=False, verify=question, fallback=Fallback(tool="post", verify=question)),
    )

    first, second = fallback_nodes(node)

    assert (node.idempotent, first.idempotent, second.idempotent) == (True, False, False)
    assert (first.verify, second.verify) == (question, question)


def test_a_fallback_reads_no_cache_and_no_list() -> None:
    """A cached output is that of the task's own way; a child of a `foreach` is for one item already."""
    node = TaskNode("a", cache=CachePolicy(60), foreach=["x"], fallback=Fallback(tool="b"))

    (only,) = fallback_nodes(node)

    assert (only.cache, only.foreach) == (None, None)
    assert fallback_nodes(TaskNode("a")) == ()
