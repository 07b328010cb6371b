"""Decomposes a task further by the caller's own `sequential_thinking` collaborator: the same method, asked again.

May import: orchestration.errors, orchestration.planning.*, stdlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestration.errors import InvalidDagError, Problem
from orchestration.planning.caller_plan import read_caller_plan
from orchestration.planning.collaborator_planner import PLAN_METHOD, ask
from orchestration.planning.draft_values import from_json_text
from orchestration.planning.drafts import task_drafts
from orchestration.planning.proposal import Draft, PartRequest, PlanRequest, ThoughtTrail
from orchestration.planning.refinement import Split
from orchestration.planning.thoughts import read_thoughts


def split_by_collaborator(
    collaborator: object,
    request: PlanRequest,
    trail: ThoughtTrail,
    *,
    threshold: float,
    timeout_seconds: float,
) -> Split:
    """Return what asks a collaborator for the parts of a task: the task is the goal, and the context tells the rest."""

    async def split(part: PartRequest) -> Sequence[Draft] | None:
        task = part.task
        answer = await ask(
            collaborator,
            PLAN_METHOD,
            timeout_seconds,
            goal=task.description or task.task_id,
            context={
                **request.context,
                "whole_goal": request.goal,
                "task_id": task.task_id,
                "upstreams": list(part.upstreams),
            },
            complexity_threshold=threshold,
        )
        plain = from_json_text(answer, "{")
        if not isinstance(plain, Mapping) or not plain.get("tasks"):
            return None
        draft = {key: plain[key] for key in ("tasks", "edges") if plain.get(key) is not None}
        read = read_caller_plan(
            draft, goal=task.description, limits=request.limits, upstreams=tuple(part.upstreams)
        )
        count = len(read.dag.nodes)
        if count > part.max_tasks:
            told = f"has {count} tasks; at most {part.max_tasks} are allowed."
            raise InvalidDagError([Problem("tasks", told, "Decompose more coarsely.")])
        for thought in read_thoughts(plain.get("thoughts"), lenient=True):
            await trail.take(thought)
        return task_drafts(read.dag) if count > 1 else None

    return split
