"""How records become documents in the database, and back.

May import: orchestration.{models, ports, engine.events, execution.history}, pydantic, stdlib.

Every document is JSON; the old part of a journal is many of them, compressed together. pydantic's own serializers, one
per event class, are as fast as code written by hand for the commonest events and can't drift from the classes.
`UnreadableError` says which document can't be understood; the caller knows in which database.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, get_args

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import SchemaSerializer

from orchestration.engine.events import Event, Recorded
from orchestration.execution.history import Tallies, Tally
from orchestration.models import ErrorRecord, JsonObject, OrchestrationId, OrchestrationMode, TaskStatus
from orchestration.ports import (
    ControlAnswer,
    ControlRequest,
    DriverIdentity,
    DriverView,
    Needs,
    Summary,
    TaskRow,
    Thought,
)

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
_NEEDS: TypeAdapter[dict[str, dict[str, str]]] = TypeAdapter(dict[str, dict[str, str]])
_TOOK: TypeAdapter[list[tuple[str, str, int, float, int, float]]] = TypeAdapter(
    list[tuple[str, str, int, float, int, float]]
)
_REQUEST: TypeAdapter[ControlRequest] = TypeAdapter(ControlRequest)
_ANSWER: TypeAdapter[ControlAnswer] = TypeAdapter(ControlAnswer)
_STATUSES: dict[str, TaskStatus] = {status.value: status for status in TaskStatus}

TASK_COLUMNS = (
    "task_id, position, status, attempt, system, started_at_us, finished_at_us, duration_seconds, error, "
    "output_sha256, output_bytes, note, tool, parent, is_composite"
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


def encode_entries(rows: Sequence[tuple[int, int, str]]) -> bytes:
    """Return journal entries of consecutive seqs, rows of (seq, at_us, document), as one compressed document."""
    # A line break in a document can only stand between its parts: inside text JSON writes it as `\n`.
    lines = [f"{at_us} {event.replace(chr(10), ' ')}" for _, at_us, event in rows]
    return zlib.compress("\n".join(lines).encode())


def decode_entries(
    orchestration_id: OrchestrationId, first_seq: int, last_seq: int, content: bytes
) -> list[tuple[int, int, str]]:
    """Return rows of (seq, at_us, document) from what `encode_entries` made.

    Raises:
        UnreadableError: It can't be unpacked, or does not hold the entries it should.
    """
    what = f"The journal of {orchestration_id!r} from entry {first_seq} to {last_seq}"
    try:
        lines = [line.split(" ", 1) for line in zlib.decompress(content).decode().split("\n")]
        rows = [(seq, int(at_us), event) for seq, (at_us, event) in enumerate(lines, start=first_seq)]
    except (zlib.error, ValueError) as error:
        raise UnreadableError(what, str(error)) from error
    if len(rows) != last_seq - first_seq + 1:
        raise UnreadableError(what, f"it holds {len(rows)} entries")
    return rows


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
        row.tool,
        row.parent,
        row.is_composite,
    )


def decode_task(values: Sequence[Any]) -> TaskRow:
    """Return a task row from the values of `TASK_COLUMNS`.

    Raises:
        UnreadableError: The status is unknown or the error no error record.
    """
    (
        task_id,
        position,
        status,
        attempt,
        system,
        started,
        finished,
        duration,
        error,
        sha256,
        size,
        note,
        tool,
        parent,
        is_composite,
    ) = values
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
        tool=tool,
        parent=parent,
        is_composite=bool(is_composite),
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


def decode_driver(
    orchestration_id: OrchestrationId,
    identity: str | None,
    beats: int,
    lease_seconds: float,
    beat_at_us: int,
) -> DriverView | None:
    """Return the heartbeats of an orchestration's driver, or raise `UnreadableError`; None when it gave none."""
    if identity is None:
        return None
    return DriverView(
        identity=_decode(_HOLDER, identity, f"The heartbeat of the driver of {orchestration_id!r}"),
        beats=beats,
        lease_seconds=lease_seconds,
        beat_at_us=beat_at_us,
    )


def encode_needs(needs: Needs) -> str:
    """Return what an orchestration needs as JSON."""
    return _NEEDS.dump_json({system: dict(tools) for system, tools in needs.items()}).decode()


def decode_needs(document: str, orchestration_id: OrchestrationId) -> Needs:
    """Return what an orchestration needs from JSON, or raise `UnreadableError`."""
    if document == "{}":
        return {}
    return _decode(_NEEDS, document, f"What {orchestration_id!r} needs")


def encode_tallies(tallies: Tallies) -> str:
    """Return what tasks took as JSON."""
    rows = [
        (*kind, tally.completed, tally.seconds, tally.costs, tally.cost) for kind, tally in tallies.items()
    ]
    return _TOOK.serializer.to_json(rows).decode()


def decode_tallies(document: str | None, orchestration_id: OrchestrationId) -> Tallies:
    """Return what tasks took from JSON, or raise `UnreadableError`; nothing from None."""
    if document is None:
        return {}
    rows = _decode(_TOOK, document, f"What the tasks of {orchestration_id!r} took")
    return {
        (system, tool): Tally(completed, seconds, costs, cost)
        for system, tool, completed, seconds, costs, cost in rows
    }


def encode_texts(texts: Sequence[str]) -> str:
    """Return a few texts as JSON."""
    return json.dumps(list(texts), ensure_ascii=False)


def decode_texts(document: str, what: str) -> tuple[str, ...]:
    """Return a few texts from JSON, or raise `UnreadableError` naming what has them."""
    return () if document == "[]" else _decode(_NOTES, document, what)


def decode_bool(value: int | None) -> bool | None:
    """Return a truth that may be unknown."""
    return None if value is None else bool(value)


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


def decode_mode(value: str, what: str) -> OrchestrationMode:
    """Return a mode, or raise `UnreadableError` naming what has it."""
    try:
        return OrchestrationMode(value)
    except ValueError:
        raise UnreadableError(what, f"its mode is {value!r}") from None


def present_content(content: bytes | None, what: str) -> bytes:
    """Return what an artifact or a row holds, or raise `UnreadableError` when it is not there."""
    if content is None:
        raise UnreadableError(what, "its content is missing")
    return content


# --- Requests to whoever drives -----------------------------------------------------------------------------


def encode_request(request: ControlRequest) -> str:
    """Return a request as JSON."""
    return _REQUEST.dump_json(request).decode()


def decode_request(document: str, control_id: int) -> ControlRequest:
    """Return a request from JSON, or raise `UnreadableError`."""
    return _decode(_REQUEST, document, f"Request {control_id}")


def encode_answer(answer: ControlAnswer) -> str:
    """Return the answer to a request as JSON."""
    return _ANSWER.dump_json(answer).decode()


def decode_answer(document: str, control_id: int) -> ControlAnswer:
    """Return the answer to a request from JSON, or raise `UnreadableError`."""
    return _decode(_ANSWER, document, f"The answer to request {control_id}")


def _decode(adapter: TypeAdapter[T], document: str, what: str) -> T:
    try:
        return adapter.validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UnreadableError(what, f"{place}: {first['msg']}" if place else first["msg"]) from error
