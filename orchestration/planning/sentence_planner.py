"""The plan of last resort: one task per item of a list or per separate instruction in the goal, else one task.

May import: orchestration.{dag, models, validation}, orchestration.planning.{draft_values, proposal}, stdlib.

It understands nothing, and its notes say so. It splits only where the goal itself does: items of a list, or
sentences that each begin like an instruction. What is numbered or told in sentences runs in the order written,
for nothing says that it may not matter; the items of an unnumbered list run at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from orchestration.dag import TaskDAG
from orchestration.models import TaskEdge, TaskNode
from orchestration.planning.draft_values import slug, unique
from orchestration.planning.proposal import PlanRequest, Proposal, ThoughtTrail
from orchestration.validation import normalized

_ITEM = re.compile(
    r"^(?P<indent>\s*)(?:(?P<bullet>[-*•–])|\(?(?P<number>\d{1,3})[.)])\s+(?:\[[ xX]?\]\s+)?(?P<text>\S.*)$"
)
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+(?=[A-Z])|\n+")
_LEAD_IN = re.compile(
    r"^(?:and\s+)?(?:first(?:ly)?|second(?:ly)?|third(?:ly)?|then|next|after (?:that|this)|afterwards|finally|lastly|"
    r"also|please)\b[,:]?\s+(?:please\s+)?",
    re.IGNORECASE,
)

_INSTRUCTION_WORDS = """
    add adjust analyse analyze announce archive arrange ask assess assign attach audit back backup benchmark book
    build buy calculate call categorise categorize change check choose classify clean clear clone close collect
    combine commit compare compile complete compose compress compute configure connect convert copy correct count
    create cut decide define delete deliver deploy describe design detect determine develop document download draft
    draw edit email enable encrypt estimate evaluate examine execute explain export extract fetch fill filter find
    finish fix format forward gather generate get give group identify implement import improve increase index inform
    inspect install integrate investigate invite label launch list load locate log make map mark match measure merge
    migrate monitor move notify open optimise optimize order organise organize package parse pay perform pick plan
    plot post predict prepare present print prioritise prioritize process produce profile provide publish pull push
    put query rank read rebuild record reduce refactor register release remove rename render reorder replace reply
    report reproduce request research reserve reset resize resolve restart restore retrieve review revise rewrite
    rotate run save scan schedule score search select send separate set share ship show sign simulate solve sort
    split start stop store submit summarise summarize sync tag take tell test trace train transfer transform
    translate tune turn uninstall update upgrade upload validate verify visit visualise visualize wait write
"""
_INSTRUCTIONS = frozenset(_INSTRUCTION_WORDS.split())
"""What an instruction begins with. A sentence that begins otherwise may explain the one before it."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """A goal taken apart."""

    texts: tuple[str, ...]
    is_ordered: bool
    kind: str
    """What the parts are, for the notes."""
    introduction: str = ""
    """What is said before a list, for every item."""


async def propose_sentences(request: PlanRequest, trail: ThoughtTrail) -> Proposal:
    """Return a plan that says again what the goal says, as one or several tasks."""
    parts = _split(request.goal)
    if len(parts.texts) > request.max_tasks:
        trail.notes.append(
            f"The goal has {len(parts.texts)} {parts.kind}, more than max_tasks ({request.max_tasks}): "
            "it stays one task."
        )
        parts = _Parts((request.goal.strip(),), is_ordered=True, kind="whole")
    if len(parts.texts) == 1:
        note = "No playbook is used and no tasks were sent: the goal is one task, as it stands; nothing was decomposed."
    else:
        how = "one after the other, as written" if parts.is_ordered else "at once, for nothing orders them"
        note = (
            "No playbook is used and no tasks were sent: "
            f"each of the goal's {len(parts.texts)} {parts.kind} is one task, {how}; their meaning was not analysed."
        )
    await trail.think(note)
    return Proposal(dag=_dag(parts, request), planner="sentences", notes=(note,))


def example_tasks(goal: str) -> list[dict[str, Any]]:
    """Return a short example of tasks a caller could send for a goal."""
    parts = _split(goal)
    if 1 < len(parts.texts) <= 6:
        taken: set[str] = set()
        tasks: list[dict[str, Any]] = []
        for text in parts.texts:
            task: dict[str, Any] = {
                "task_id": unique(slug(text, limit=30) or "task", taken),
                "description": text,
            }
            if parts.is_ordered and tasks:
                task["depends_on"] = [tasks[-1]["task_id"]]
            tasks.append(task)
        return tasks
    shown = " ".join(goal.split())
    shown = shown if len(shown) <= 80 else shown[:79] + "…"
    return [
        {
            "task_id": "gather",
            "description": f"Gather what is needed for: {shown}",
            "estimated_time_seconds": 60,
        },
        {"task_id": "do", "description": shown, "depends_on": ["gather"], "priority": "HIGH"},
        {"task_id": "check", "description": f"Check that it is done: {shown}", "depends_on": ["do"]},
    ]


def _dag(parts: _Parts, request: PlanRequest) -> TaskDAG:
    dag = TaskDAG(slug(request.goal) or "goal", request.goal)
    taken: set[str] = set()
    before: str | None = None
    for index, text in enumerate(parts.texts):
        task_id = unique(slug(text) or f"task-{index + 1}", taken)
        description = f"{text}\n\nContext: {parts.introduction}" if parts.introduction else text
        dag.add_task(TaskNode(task_id=task_id, description=description))
        if parts.is_ordered and before is not None:
            dag.add_dependency(TaskEdge(before, task_id))
        before = task_id
    return normalized(dag, request.limits)


def _split(goal: str) -> _Parts:
    return _items(goal) or _sentences(goal) or _Parts((goal.strip(),), is_ordered=True, kind="whole")


def _items(goal: str) -> _Parts | None:
    """Return the items of the goal's list, with what is indented under each; None when there is none of one kind."""
    introduction: list[str] = []
    items: list[list[str]] = []
    numbered: set[bool] = set()
    outer: int | None = None
    for line in goal.splitlines():
        found = _ITEM.match(line)
        indent = len(line) - len(line.lstrip())
        if found and (outer is None or indent <= outer):
            outer = indent
            numbered.add(found["number"] is not None)
            items.append([found["text"].strip()])
        elif not items:
            introduction.append(line.strip())
        elif line.strip():
            if found is None and outer is not None and indent <= outer:
                return None  # text after the list: it may concern all of it
            items[-1].append(line.strip())
    if len(items) < 2 or len(numbered) != 1:
        return None
    is_numbered = numbered == {True}
    kind = "numbered items" if is_numbered else "list items"
    texts = tuple("\n".join(item) for item in items)
    return _Parts(texts, is_numbered, kind, " ".join(part for part in introduction if part))


def _sentences(goal: str) -> _Parts | None:
    """Return the goal's sentences when each of them is an instruction."""
    found = [sentence.strip() for sentence in _SENTENCE_END.split(goal) if sentence.strip()]
    if len(found) < 2:
        return None
    plain = [_LEAD_IN.sub("", sentence) for sentence in found]
    if not all(_is_instruction(sentence) for sentence in plain):
        return None
    return _Parts(tuple(text[:1].upper() + text[1:] for text in plain), is_ordered=True, kind="sentences")


def _is_instruction(sentence: str) -> bool:
    words = re.findall(r"[A-Za-z']+", sentence)
    return len(words) >= 2 and words[0].lower() in _INSTRUCTIONS
