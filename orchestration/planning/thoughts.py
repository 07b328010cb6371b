"""What is thought about a plan: the caller's own thoughts, and true sentences about a DAG that was made.

May import: orchestration.{dag, errors, models, ports, problems}, stdlib.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestration.dag import TaskDAG
from orchestration.errors import InvalidArgumentError
from orchestration.models import JsonObject, OrchestrationMode
from orchestration.planning.draft_values import as_list, canonical_field
from orchestration.ports import Thought
from orchestration.problems import shown

MAX_THOUGHTS = 200
"""A caller's own; a plan that takes more is several plans."""
MAX_THOUGHT_CHARS = 8000

_SHOWN_TASKS = 8
_THOUGHT_FIELDS: Mapping[str, str] = {
    "thought": "text",
    "content": "text",
    "thought_number": "number",
    "revises_thought": "revises",
    "branch_id": "branch",
    "branch_from_thought": "branch_from",
}
"""Names of the Sequential Thinking tool's parameters; others of its parameters follow from these."""


def read_thoughts(sent: object, *, lenient: bool = False) -> list[Thought]:
    """Return thoughts as they were sent: texts, or objects with the fields of `sequentialthinking` or of `Thought`.

    They are numbered anew from 1; what they revise or branch from is renumbered with them.

    Args:
        sent: A list, one thought, JSON text of either, or nothing.
        lenient: Leave out what is no thought, instead of refusing it.

    Raises:
        InvalidArgumentError: One of them is no thought, or there are too many.
    """
    thoughts: list[Thought] = []
    numbers: dict[int, int] = {}
    for index, item in enumerate(as_list(sent)):
        fields = _fields(item)
        text = fields.get("text")
        if not isinstance(text, str) or not text.strip():
            if lenient:
                continue
            raise InvalidArgumentError(
                f"thoughts[{index}]", item, "a text, or an object with `thought`", 'write {"thought": "…"}'
            )
        if len(thoughts) == MAX_THOUGHTS or len(text) > MAX_THOUGHT_CHARS:
            if lenient:
                break
            expected = f"at most {MAX_THOUGHTS} thoughts of at most {MAX_THOUGHT_CHARS:,} characters"
            raise InvalidArgumentError(f"thoughts[{index}]", shown(text), expected, "shorten them")
        number = len(thoughts) + 1
        numbers[fields["number"] if _is_number(fields.get("number")) else number] = number
        thoughts.append(
            Thought(
                number=number,
                text=text.strip(),
                revises=_earlier(fields.get("revises"), numbers),
                branch=fields["branch"] if isinstance(fields.get("branch"), str) else None,
                branch_from=_earlier(fields.get("branch_from"), numbers),
            )
        )
    return thoughts


def _fields(item: object) -> dict[str, Any]:
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, Thought):
        return {name: getattr(item, name) for name in ("number", "text", "revises", "branch", "branch_from")}
    if isinstance(item, Mapping):
        return {canonical_field(str(key), _THOUGHT_FIELDS): value for key, value in item.items()}
    return {}


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _earlier(number: object, numbers: Mapping[int, int]) -> int | None:
    """Return the new number of an earlier thought; None where it names none."""
    return numbers.get(number) if isinstance(number, int) and not isinstance(number, bool) else None


# --- About a DAG ----------------------------------------------------------------------------------------------------


def told_goal(goal: str, context: JsonObject, mode: OrchestrationMode | None, max_tasks: int) -> str:
    """Return what is understood of a request."""
    given = f"The context gives {', '.join(sorted(context))}" if context else "There is no context"
    run = f"to be run {mode.value}" if mode is not None else "the mode is left open"
    stated = f"The goal is: {_cut(goal, 300)}" if goal else "No goal is stated."
    return f"{stated} {given}; {run}; at most {max_tasks} tasks."


def told_levels(dag: TaskDAG) -> str:
    """Return how a DAG's tasks are ordered, and why some can run at once."""
    levels = dag.levels()
    count = len(dag.nodes)
    parents = len(dag.parents())
    outer = f", {parents} of them made of others," if parents else ""
    if count == 1:
        return f"The plan is one task: {next(iter(dag.nodes))}."
    steps = "; then ".join(_listed(level) for level in levels[:_SHOWN_TASKS])
    more = f"; and so on, {len(levels) - _SHOWN_TASKS} more" if len(levels) > _SHOWN_TASKS else ""
    width = dag.width()
    at_once = (
        f"Up to {width} tasks can run at once, for none of a level needs another's output"
        if width > 1
        else "Each task needs the one before it, so nothing can run at once"
    )
    return f"The plan has {count} tasks{outer} on {_counted(len(levels), 'level')}: {steps}{more}. {at_once}."


def told_critical_path(dag: TaskDAG) -> str:
    """Return what bounds a DAG's duration from below."""
    path = dag.critical_path()
    work = sum(dag.expected_durations().values())
    parents = dag.parents()
    runs = [node for task_id, node in dag.nodes.items() if task_id not in parents]
    known = sum(node.estimated_time_seconds is not None for node in runs)
    basis = "the tasks' estimates" if known == len(runs) else f"estimates of {known} of {len(runs)} tasks"
    if not known:
        return f"No task has an estimate. The longest chain has {len(path.task_ids)} of {len(runs)} tasks."
    way = " → ".join(path.task_ids[:_SHOWN_TASKS]) + (" → …" if len(path.task_ids) > _SHOWN_TASKS else "")
    if not path.seconds:
        return f"By {basis} the plan takes no time at all."
    return (
        f"By {basis} the critical path is {way}: {path.seconds:g} s of {work:g} s of work, so no schedule is "
        f"shorter, and on average at most {work / path.seconds:.1f} tasks run at once."
    )


def told_validation(dag: TaskDAG) -> str:
    """Return what validation has shown of a DAG that passed it."""
    if not dag.edges:
        what = "The task is" if len(dag.nodes) == 1 else f"All {len(dag.nodes)} tasks are"
        return f"Validated: {what.lower()} well formed; there are no edges, so nothing waits for anything."
    conditional = sum(edge.condition is not None for edge in dag.edges)
    optional = sum(edge.is_optional for edge in dag.edges)
    special = [
        f"{conditional} with a condition" if conditional else "",
        f"{optional} optional" if optional else "",
    ]
    told = ", ".join(part for part in special if part)
    edges = _counted(len(dag.edges), "edge") + (f" ({told})" if told else "")
    return f"Validated: {edges} between known tasks, no cycle, and references name upstream tasks only."


def _listed(names: list[str]) -> str:
    told = ", ".join(names[:_SHOWN_TASKS])
    return f"{told} and {len(names) - _SHOWN_TASKS} more" if len(names) > _SHOWN_TASKS else told


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _cut(text: str, limit: int) -> str:
    one_line = " ".join(text.split())
    cut = one_line if len(one_line) <= limit else one_line[: limit - 1] + "…"
    return cut if cut.endswith((".", "!", "?", "…")) else cut + "."
