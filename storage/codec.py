"""How records become documents in the database, and back.

May import: orchestration.{models, ports, engine.events}, pydantic, stdlib.

Every document is JSON. pydantic's own serializers, one per event class, are as fast as code written by hand
for the commonest events and can't drift from the classes. `UnreadableError` says which document can't be
understood; the caller knows in which database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, get_args

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import SchemaSerializer

from orchestration.engine.events import Event, Recorded
from orchestration.models import ErrorRecord, JsonObject, OrchestrationId, TaskStatus
from orchestration.ports import DriverIdentity, Summary, TaskRow, Thought

T = TypeVar("T")

EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])
_EVENTS: TypeAdapter[list[Event]] = TypeAdapter(list[Annotated[Event, Field(discriminator="type")]])
_EVENT_SERIALIZERS: dict[type, SchemaSerializer] = {
    kind: TypeAdapter(kind).serializer for kind in get_args(Event)
}
"""By class: a third of what the union's serializer takes."""
_SUMMARY: TypeAdapter[Summary] = TypeAdapter(Summary)
_ERROR: TypeAdapter[ErrorRecord] = TypeAdapter(ErrorRecord)
_HOLDER: TypeAdapter[DriverIdentity] = TypeAdapter(DriverIdentity)
_CONTEXT: TypeAdapter[JsonObject] = TypeAdapter(JsonObject)
_THOUGHTS: TypeAdapter[tuple[Thought, ...]] = TypeAdapter(tuple[Thought, ...])
_NOTES: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])
_STATUSES: dict[str, TaskStatus] = {status.value: status for status in TaskStatus}

TASK_COLUMNS = (
    "task_id, position, status, attempt, system, started_at_us, finished_at_us, duration_seconds, error, "
    "output_sha256, output_bytes, note"
)
"""The columns of a task row in the order of `task_values`."""


class UnreadableError(ValueError):
    """A stored document can't be understood."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, reason)
        self.what, self.reason = what, reason

    def __str__(self) -> str:
        return f"{self.what} can't be understood: {self.reason}"


# --- Events -------------------------------------------------------------------------------------------------


def encode_event(event: Event) -> str:
    """Return an event as JSON; its `type` says which class it is."""
    return _EVENT_SERIALIZERS[type(event)].to_json(event).decode()


def decode_events(orchestration_id: OrchestrationId, rows: Sequence[tuple[int, int, str]]) -> list[Recorded]:
    """Return journal entries from rows of (seq, at_us, document).

    Raises:
        UnreadableError: A document is no event.
    """
    try:
        events = _EVENTS.validate_json(f"[{','.join([row[2] for row in rows])}]")
    except ValidationError:
        events = [_decode(EVENT, row[2], f"Journal entry {row[0]} of {orchestration_id!r}") for row in rows]
    return [
        Recorded(orchestration_id=orchestration_id, seq=seq, at_us=at_us, event=event)
        for (seq, at_us, _), event in zip(rows, events, strict=True)
    ]


# --- Task rows ----------------------------------------------------------------------------------------------


def task_values(number: int, row: TaskRow) -> tuple[Any, ...]:
    """Return the values of a task row: its orchestration's number, then `TASK_COLUMNS`."""
    return (
        number,
        row.task_id,
        row.position,
        row.status.value,
        row.attempt,
        row.system,
        row.started_at_us,
        row.finished_at_us,
        row.duration_seconds,
        None if row.error is None else encode_error(row.error),
        row.output_sha256,
        row.output_bytes,
        row.note,
    )


def decode_task(values: Sequence[Any]) -> TaskRow:
    """Return a task row from the values of `TASK_COLUMNS`.

    Raises:
        UnreadableError: The status is unknown or the error no error record.
    """
    task_id, position, status, attempt, system, started, finished, duration, error, sha256, size, note = (
        values
    )
    if status not in _STATUSES:
        raise UnreadableError(f"The row of task {task_id!r}", f"its status is {status!r}")
    return TaskRow(
        task_id=task_id,
        position=position,
        status=_STATUSES[status],
        attempt=attempt,
        system=system,
        started_at_us=started,
        finished_at_us=finished,
        duration_seconds=duration,
        error=None if error is None else _decode(_ERROR, error, f"The error of task {task_id!r}"),
        output_sha256=sha256,
        output_bytes=size,
        note=note,
    )


def encode_error(error: ErrorRecord) -> str:
    """Return an error record as JSON."""
    return _ERROR.serializer.to_json(error).decode()


# --- Orchestrations and plans -------------------------------------------------------------------------------


def encode_summary(summary: Summary) -> str:
    """Return a summary as JSON."""
    return _SUMMARY.serializer.to_json(summary).decode()


def decode_summary(document: str, orchestration_id: OrchestrationId) -> Summary:
    """Return a summary from JSON, or raise `UnreadableError`."""
    return _decode(_SUMMARY, document, f"The summary of {orchestration_id!r}")


def encode_holder(holder: DriverIdentity) -> str:
    """Return a driver's identity as JSON."""
    return _HOLDER.serializer.to_json(holder).decode()


def decode_holder(document: str | None, orchestration_id: OrchestrationId) -> DriverIdentity | None:
    """Return a driver's identity from JSON, or raise `UnreadableError`; None stays None."""
    if document is None:
        return None
    return _decode(_HOLDER, document, f"The driver of {orchestration_id!r}")


def encode_plan_parts(
    context: JsonObject, thoughts: Sequence[Thought], notes: Sequence[str]
) -> tuple[str, str, str]:
    """Return a plan's context, thoughts and notes as JSON."""
    return (
        _CONTEXT.dump_json(context).decode(),
        _THOUGHTS.dump_json(tuple(thoughts)).decode(),
        _NOTES.dump_json(tuple(notes)).decode(),
    )


def decode_plan_parts(
    plan_id: str, context: str, thoughts: str, notes: str
) -> tuple[JsonObject, tuple[Thought, ...], tuple[str, ...]]:
    """Return a plan's context, thoughts and notes from JSON, or raise `UnreadableError`."""
    return (
        _decode(_CONTEXT, context, f"The context of plan {plan_id!r}"),
        _decode(_THOUGHTS, thoughts, f"A thought of plan {plan_id!r}"),
        _decode(_NOTES, notes, f"A note of plan {plan_id!r}"),
    )


def _decode(adapter: TypeAdapter[T], document: str, what: str) -> T:
    try:
        return adapter.validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UnreadableError(what, f"{place}: {first['msg']}" if place else first["msg"]) from error
