"""One task of a draft: its fields under their own names and in the model's form, its fallback as a record.

May import: orchestration.{models, problems}, orchestration.planning.{draft_findings, draft_values}, stdlib.

How tasks of a draft name each other is in `caller_plan.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from orchestration.models import MAX_FALLBACKS, TaskStatus
from orchestration.planning.draft_findings import Findings
from orchestration.planning.draft_values import (
    FIELD_NAMES,
    approver_of,
    canonical_field,
    from_json_text,
    names_in,
    seconds_of,
)
from orchestration.problems import shown

_JSON_FIELDS = (
    "arguments",
    "resource_requirements",
    "metadata",
    "verify",
    "cache",
    "fallback",
    "acceptance",
)
_DURATIONS = ("estimated_time_seconds", "timeout_seconds", "heartbeat_timeout_seconds")
_DURATIONS_INSIDE = (
    ("verify", "timeout_seconds"),
    ("acceptance", "timeout_seconds"),
    ("cache", "ttl_seconds"),
)
_FALLBACK_FIX = (
    'Write an object such as {"tool": "other_tool", "arguments": {…}}; a task of its own depends on this one with the '
    "condition status == 'failed'."
)


def named_fields(
    findings: Findings, path: str, sent: Mapping[Any, Any], aliases: Mapping[str, str]
) -> dict[str, Any]:
    """Return fields under their own names; absent ones (null) left out."""
    fields: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for key, value in sent.items():
        own = canonical_field(str(key), aliases)
        if value is None:
            continue
        if own in fields and fields[own] != value:
            findings.refuse(
                f"{path}.{key}",
                f"says the same as {origin[own]}, with another value.",
                f"Keep only {own}.",
            )
            continue
        fields[own], origin[own] = value, str(key)
        if own not in {key, "title"}:
            findings.note("Fields read under their own names", f"{key} as {own}")
    return fields


def settle_values(
    findings: Findings, path: str, fields: dict[str, Any], is_task: Callable[[str], bool]
) -> None:
    """Put right, in place, the values of a task that are written in another form than the model's.

    Args:
        findings: What is completed and refused.
        path: How problems name the task.
        fields: Its fields, under their own names.
        is_task: Whether a text is the id or title of a task of the draft.
    """
    _plain_values(findings, path, fields)
    if "fallback" in fields:
        fallback = _fallback(findings, f"{path}.fallback", fields.pop("fallback"), is_task)
        if fallback is not None:
            fields["fallback"] = fallback
    if "approval" in fields:
        _approval(findings, f"{path}.approval", fields)
    if isinstance(fields.get("foreach"), str):
        fields["foreach"] = from_json_text(fields["foreach"], "[")
    status = fields.pop("status", None)
    if status is not None and str(status).lower() != TaskStatus.PENDING:
        findings.note("Statuses left out, for every task starts as pending", f"{path}.status {shown(status)}")


def _plain_values(findings: Findings, path: str, fields: dict[str, Any]) -> None:
    """Put right what a task and a fallback have in common."""
    for name in _JSON_FIELDS:
        plain = from_json_text(fields.get(name), "{")
        if isinstance(fields.get(name), str) and isinstance(plain, Mapping):
            fields[name] = plain
            findings.note("Read from JSON inside a string", f"{path}.{name}")
    for name in _DURATIONS:
        _duration(findings, path, fields, name)
    if isinstance(fields.get("acceptance"), str):  # the plainest form of it: a condition
        fields["acceptance"] = {"condition": fields["acceptance"]}
        findings.note("Acceptance read as a condition", path)
    for record, name in _DURATIONS_INSIDE:
        if isinstance(fields.get(record), Mapping):
            inner = fields[record] = dict(fields[record])
            _duration(findings, f"{path}.{record}", inner, name)
    if isinstance(fields.get("skills"), str):
        fields["skills"] = [name.strip() for name in fields["skills"].split(",") if name.strip()]
    if isinstance(fields.get("priority"), str):
        fields["priority"] = fields["priority"].strip()
        if fields["priority"].lower() in {"normal", "default"}:
            findings.note("Priorities read as MEDIUM", fields["priority"])
            fields["priority"] = "MEDIUM"
    for name in ("system_preference", "tool"):
        if fields.get(name) == "":
            del fields[name]


def _duration(findings: Findings, path: str, fields: dict[str, Any], name: str) -> None:
    if not isinstance(fields.get(name), str):
        return
    seconds = seconds_of(fields[name])
    if seconds is None:
        told = f"is {shown(fields[name])}; expected a duration."
        findings.refuse(f"{path}.{name}", told, 'Write 300 or "5 min".')
        del fields[name]
        return
    findings.note("Durations turned into seconds", f"{fields[name]} = {seconds:g}")
    fields[name] = seconds


def _approval(findings: Findings, path: str, fields: dict[str, Any]) -> None:
    sent = fields.pop("approval")
    try:
        approver = approver_of(sent)
    except ValueError:
        told = f"is {shown(sent)}; expected who must agree."
        findings.refuse(
            path, told, 'Write "person" (a human) or "caller" (you may agree, too), or leave it out.'
        )
        return
    if approver is not None:
        fields["approval"] = approver
    if sent not in (approver, True, False):
        findings.note("Approvals read", f"{path} {shown(sent)} as {approver or 'none'}")


def _fallback(
    findings: Findings, path: str, sent: object, is_task: Callable[[str], bool], depth: int = 1
) -> Any:
    """Return a fallback as a record, with those inside it; None when there is none or it is refused."""
    plain = from_json_text(sent, "[{")
    if isinstance(plain, Sequence) and not isinstance(plain, str | bytes):
        plain = _nested(findings, path, plain)
    if plain is None or (isinstance(plain, str) and not names_in(plain)):
        return None
    if not isinstance(plain, Mapping):
        if isinstance(plain, str) and is_task(plain):
            told = f"names task {shown(plain)}, which runs in any case; expected what to do in this task's place."
        else:
            told = f"is {shown(sent)}; expected what to do in this task's place."
        findings.refuse(path, told, _FALLBACK_FIX)
        return None
    if depth > MAX_FALLBACKS:
        told = f"is a fallback too many: at most {MAX_FALLBACKS} may be inside each other."
        findings.refuse(path, told, "Leave it out.")
        return None
    fields = named_fields(findings, path, plain, FIELD_NAMES)
    named = fields.pop("task_id", None)
    if isinstance(named, str) and is_task(named):
        told = f"names task {shown(named)}, which runs in any case; expected what to do in this task's place."
        findings.refuse(f"{path}.task_id", told, _FALLBACK_FIX)
    elif named is not None:
        findings.note("Ids of fallbacks left out, for a fallback runs under its task's id", str(named))
    title = fields.pop("title", None)
    if isinstance(title, str) and not fields.get("description"):
        fields["description"] = title
    _plain_values(findings, path, fields)
    if "fallback" in fields:
        inner = _fallback(findings, f"{path}.fallback", fields.pop("fallback"), is_task, depth + 1)
        if inner is not None:
            fields["fallback"] = inner
    return fields


def _nested(findings: Findings, path: str, listed: Sequence[Any]) -> Any:
    """Return a list of fallbacks as one inside the other, in order."""
    if not listed:
        return None
    found: list[Any] = [from_json_text(item, "{") for item in listed]
    if len(found) == 1:
        return found[0]
    if not all(isinstance(item, Mapping) and "fallback" not in item for item in found):
        findings.refuse(path, f"is {shown(listed)}; expected objects, in the order to try.", _FALLBACK_FIX)
        return None
    findings.note("Fallbacks of a list put inside each other", f"{path}, {len(found)} of them")
    inner: Any = None
    for item in reversed(found[: MAX_FALLBACKS + 1]):
        inner = item if inner is None else {**item, "fallback": inner}
    return inner


def tasks_in(draft: object) -> Iterator[Any]:
    """Yield the tasks of a draft with those inside them, in any of the wrappings; it may go on for long."""
    plain = from_json_text(draft, "[{")
    if isinstance(plain, Mapping) and "tasks" in plain:
        plain = from_json_text(plain["tasks"], "[{")
    if isinstance(plain, Mapping):
        is_keyed = bool(plain) and all(isinstance(value, Mapping) for value in plain.values())
        plain = [{"task_id": key, **value} for key, value in plain.items()] if is_keyed else [plain]
    if not isinstance(plain, Sequence) or isinstance(plain, str | bytes):
        return
    waiting = list(reversed(plain))
    while waiting:
        task = from_json_text(waiting.pop(), "{")
        yield task
        if isinstance(task, Mapping):
            for key, value in task.items():
                if canonical_field(str(key), FIELD_NAMES) == "subtasks":
                    inner = from_json_text(value, "[{")
                    if isinstance(inner, Mapping):
                        waiting += reversed(list(inner.values()))
                    elif isinstance(inner, Sequence) and not isinstance(inner, str | bytes):
                        waiting += reversed(inner)
