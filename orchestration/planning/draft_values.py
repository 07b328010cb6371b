"""Single values as language models write them, and what is meant: field names, JSON in strings, durations, ids.

May import: orchestration.models, stdlib. How the parts of a draft fit together is in `caller_plan.py`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestration.models import TASK_ID_PATTERN, Approver, JsonObject, TaskEdge, TaskId, TaskNode

MAX_SLUG_CHARS = 48
"""Of ids made from titles: long enough to speak, short enough for a table."""

FIELD_NAMES: Mapping[str, str] = {
    "id": "task_id",
    "key": "task_id",
    "name": "title",
    "desc": "description",
    "details": "description",
    "instruction": "description",
    "instructions": "description",
    "after": "depends_on",
    "dependencies": "depends_on",
    "dependency": "depends_on",
    "depends": "depends_on",
    "dependson": "depends_on",
    "prerequisites": "depends_on",
    "requires": "depends_on",
    "upstream": "depends_on",
    "system": "system_preference",
    "preferred_system": "system_preference",
    "tool_name": "tool",
    "args": "arguments",
    "params": "arguments",
    "parameters": "arguments",
    "tool_arguments": "arguments",
    "duration": "estimated_time_seconds",
    "duration_seconds": "estimated_time_seconds",
    "estimate": "estimated_time_seconds",
    "estimated_duration": "estimated_time_seconds",
    "estimated_duration_seconds": "estimated_time_seconds",
    "estimated_seconds": "estimated_time_seconds",
    "estimated_time": "estimated_time_seconds",
    "complexity": "complexity_score",
    "timeout": "timeout_seconds",
    "retries": "max_retries",
    "heartbeat": "heartbeat_timeout_seconds",
    "heartbeat_timeout": "heartbeat_timeout_seconds",
    "estimated_cost": "cost",
    "resources": "resource_requirements",
    "parent_id": "parent",
    "parent_task": "parent",
    "parent_task_id": "parent",
    "part_of": "parent",
    "subtask_of": "parent",
    "children": "subtasks",
    "child_tasks": "subtasks",
    "sub_tasks": "subtasks",
    "sub_steps": "subtasks",
    "substeps": "subtasks",
    "for_each": "foreach",
    "iterate_over": "foreach",
    "loop_over": "foreach",
    "map_over": "foreach",
    "approval_required": "approval",
    "human_approval": "approval",
    "needs_approval": "approval",
    "require_approval": "approval",
    "requires_approval": "approval",
    "requires_human_approval": "approval",
    "fallbacks": "fallback",
}
"""Other names of task fields, in snake case, that can mean nothing else."""

EDGE_FIELD_NAMES: Mapping[str, str] = {
    "source": "source_task_id",
    "source_id": "source_task_id",
    "from": "source_task_id",
    "from_task": "source_task_id",
    "target": "target_task_id",
    "target_id": "target_task_id",
    "to": "target_task_id",
    "to_task": "target_task_id",
    "optional": "is_optional",
    "data": "data_requirements",
}
"""The same for edges."""

_APPROVERS: Mapping[str, Approver | None] = {
    **dict.fromkeys(("person", "human", "user", "yes", "true", "required", "manual"), "person"),
    **dict.fromkeys(("caller", "calling agent"), "caller"),
    **dict.fromkeys(("", "no", "none", "false", "never", "not required", "n/a", "null"), None),
}
"""Who is meant; what asks for agreement without saying whose asks for a person's."""

_UNIT_SECONDS: Mapping[str, float] = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_BETWEEN_PARTS = re.compile(r"[\s,]*(?:and)?[\s,]*")

_TASK_ID = re.compile(TASK_ID_PATTERN)


def canonical_field(key: str, aliases: Mapping[str, str]) -> str:
    """Return a field's own name: `dependsOn`, `depends-on` and `dependencies` are `depends_on`."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key.strip())
    snake = re.sub(r"[\s-]+", "_", snake).lower()
    return aliases.get(snake, snake)


def is_task_id(text: str) -> bool:
    """Whether a text can be a task id as it is; `~n` and `[n]` are made by a run."""
    return "~" not in text and "[" not in text and _TASK_ID.fullmatch(text) is not None


def slug(text: str, *, limit: int = MAX_SLUG_CHARS) -> str:
    """Return lower-case ASCII words joined by `-`, cut between words; empty when `text` has none."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = re.findall(r"[a-z0-9]+", plain.lower().replace("'", ""))
    kept: list[str] = []
    for word in words:
        if kept and len("-".join((*kept, word))) > limit:
            break
        kept.append(word[:limit])
    return "-".join(kept)


def unique(wanted: str, taken: set[str]) -> str:
    """Return `wanted`, or with the lowest number from 2 that makes it an id of its own; adds it to `taken`."""
    found, number = wanted, 1
    while found in taken:
        number += 1
        found = f"{wanted}-{number}"
    taken.add(found)
    return found


def seconds_of(value: object) -> float | None:
    """Return a duration in seconds: a number, or a text such as `90`, `5 min`, `1h 30m`; None when it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, str):
        return None
    text = value.strip().lower().removeprefix("~").removeprefix("about").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    total, place, found = 0.0, 0, False
    for part in _PART.finditer(text):
        unit = _UNIT_SECONDS.get(part[2])
        if unit is None or not _BETWEEN_PARTS.fullmatch(text[place : part.start()]):
            return None
        total += float(part[1]) * unit
        place, found = part.end(), True
    return total if found and place == len(text) else None


def approver_of(value: object) -> Approver | None:
    """Return who must agree by an `approval` as models write it: `true`, `"yes"`, `"human"`; None: nobody.

    Raises:
        ValueError: It can't be told who is meant.
    """
    word = str(value).strip().lower() if isinstance(value, bool | str) else "?"
    if word not in _APPROVERS:
        raise ValueError(f"nobody is known as {value!r}")
    return _APPROVERS[word]


def from_json_text(value: object, opening: str) -> object:
    """Return what a text that begins with one of the characters `opening` holds as JSON; else `value` itself."""
    if isinstance(value, str) and value.lstrip()[:1] in tuple(opening):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def names_in(text: str) -> list[str]:
    """Return the names in a text such as `a`, `a, b` or `a; b`; `none` and the like name nothing."""
    if text.strip().lower() in {"", "none", "null", "nothing", "-", "n/a"}:
        return []
    return [name.strip() for name in re.split(r"[,;]", text) if name.strip()]


def as_list(value: object) -> list[Any]:
    """Return a list, or JSON text of one, as a list; nothing as an empty one, and one thing as a list of it."""
    plain = from_json_text(value, "[{")
    if plain is None:
        return []
    return list(plain) if isinstance(plain, Sequence) and not isinstance(plain, str) else [plain]


def set_fields(value: TaskNode | TaskEdge) -> JsonObject:
    """Return the fields of a task or edge that are not at their defaults."""
    kept: dict[str, Any] = {}
    for item in dataclasses.fields(value):
        found = getattr(value, item.name)
        default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        if found != default:
            kept[item.name] = found
    return kept


_ELEMENT = frozenset({"item", "index"})


class Renaming:
    """Lets the references of a draft's tasks follow tasks that got another id.

    Args:
        renamed: The ids that tasks have now, by what references call them.
    """

    def __init__(self, renamed: Mapping[str, TaskId]) -> None:
        self._renamed = renamed
        self._pattern = _references_to(renamed)
        self._pattern_beside_element = _references_to([name for name in renamed if name not in _ELEMENT])

    def of_task(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a task with every reference renamed.

        Where there is a `foreach`, `item` and `index` are the element and no task's title.
        """
        pattern = self._pattern_beside_element if "foreach" in fields else self._pattern
        found = self._record(fields, pattern)
        if "foreach" in fields:
            found["foreach"] = self._rewritten(fields["foreach"], self._pattern)
        return found

    def value(self, value: Any) -> Any:
        """Return any JSON with every reference renamed."""
        return self._rewritten(value, self._pattern)

    def _record(self, fields: Mapping[str, Any], pattern: re.Pattern[str]) -> dict[str, Any]:
        found = dict(fields)
        for name in ("verify", "fallback", "acceptance"):
            if isinstance(found.get(name), Mapping):
                found[name] = self._record(found[name], pattern)
        if "arguments" in found:
            found["arguments"] = self._rewritten(found["arguments"], pattern)
        return found

    def _rewritten(self, value: Any, pattern: re.Pattern[str]) -> Any:
        if isinstance(value, str):
            if "${" not in value:
                return value
            return pattern.sub(lambda found: "${" + self._renamed[found[1]], value)
        if isinstance(value, Mapping):
            return {key: self._rewritten(item, pattern) for key, item in value.items()}
        if isinstance(value, list):
            return [self._rewritten(item, pattern) for item in value]
        return value


def _references_to(names: Iterable[str]) -> re.Pattern[str]:
    """Return what finds `${name` of any of `names`; `$${` stays text."""
    told = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(rf"(?<!\$)\$\{{\s*({told})\s*(?=[.\[}}])" if told else r"(?!)")


def with_renamed_references(value: Any, renamed: Mapping[str, TaskId]) -> Any:
    """Return JSON in which every `${old…}` has become `${new…}`; `$${` stays text. For many values, use `Renaming`."""
    return Renaming(renamed).value(value)
