"""Documents come back as the records they were, and cost what a task can afford."""

from __future__ import annotations

from typing import get_args

import pytest

from orchestration.engine.events import Event, RetryDue
from orchestration.models import TaskStatus
from storage import codec
from tests.storage.records import ERROR, EVERY_EVENT, NOW_US, row


def test_the_samples_name_every_kind_of_event() -> None:
    """A new kind of event must be added to the samples, and so to every test that walks them."""
    assert {type(event) for event in EVERY_EVENT} == set(get_args(Event))


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: event.type)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    """Types included: tuples, enums, nested tasks, large numbers, any text."""
    (entry,) = codec.decode_events("o-1", [(7, NOW_US, codec.encode_event(event))])

    assert entry.event == event
    assert (entry.orchestration_id, entry.seq, entry.at_us) == ("o-1", 7, NOW_US)


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: event.type)
def test_the_fast_serializer_writes_what_the_unions_would(event: Event) -> None:
    """Choosing the serializer by class is a shortcut, not another format."""
    assert codec.encode_event(event).encode() == codec.EVENT.dump_json(event)


def test_no_rows_are_no_events() -> None:
    """The empty page of a journal decodes."""
    assert codec.decode_events("o-1", []) == []


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ('{"type": "tasks_eaten"}', "Input tag 'tasks_eaten' found using 'type' does not match any"),
        ('{"type": "retry_due"}', "retry_due.task_id: Field required"),
        ("{", "Invalid JSON"),
        ('{"type": "retry_due", "task_id": 3}', "retry_due.task_id: Input should be a valid string"),
    ],
)
def test_an_entry_that_is_no_event_is_named(document: str, reason: str) -> None:
    """The error says which entry of which journal, and why."""
    good = codec.encode_event(RetryDue(task_id="a"))

    with pytest.raises(
        codec.UnreadableError, match=r"Journal entry 2 of 'o-1' can't be understood: "
    ) as caught:
        codec.decode_events("o-1", [(1, NOW_US, good), (2, NOW_US, document), (3, NOW_US, good)])

    assert reason in str(caught.value)


def test_a_task_row_with_an_unknown_status_or_error_is_named() -> None:
    """The error says which task."""
    good = codec.task_values(1, row("a", 0, TaskStatus.FAILED, error=ERROR))[1:]

    assert codec.decode_task(good) == row("a", 0, TaskStatus.FAILED, error=ERROR)
    with pytest.raises(
        codec.UnreadableError, match="row of task 'a' can't be understood: its status is 'eaten'"
    ):
        codec.decode_task((*good[:2], "eaten", *good[3:]))
    with pytest.raises(
        codec.UnreadableError, match="error of task 'a' can't be understood: code: Field required"
    ):
        codec.decode_task((*good[:8], '{"message": "x"}', *good[9:]))
