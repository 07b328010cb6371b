"""Plans by playbook: finds the one that fits the goal, binds its parameters and expands it.

May import: orchestration.planning.{draft_values, playbook*, proposal}, orchestration.{errors, models}, stdlib.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from orchestration.errors import InvalidDagError
from orchestration.models import Json
from orchestration.planning.draft_values import slug
from orchestration.planning.playbook import PlaybookLibrary
from orchestration.planning.playbook_expansion import as_text, expand
from orchestration.planning.playbook_model import GoalPattern, Parameter, Playbook
from orchestration.planning.playbook_search import FIT_THRESHOLD, MAX_GOAL_CHARS, Fit, find_playbooks
from orchestration.planning.proposal import PlanRequest, Proposal, ThoughtTrail

_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True)
class Bound:
    """A parameter's value and where it came from."""

    value: Json
    source: str
    """`context.KEY`, `the goal` or `default`."""


class PlaybookPlanner:
    """Proposes the expansion of the best fitting playbook, or nothing."""

    def __init__(self, library: PlaybookLibrary) -> None:
        self._library = library

    async def propose(self, request: PlanRequest, trail: ThoughtTrail) -> Proposal | None:
        """Return a plan, or None when no playbook fits well enough or the best one lacks something."""
        fits = find_playbooks(request.goal, self._library.playbooks.values())
        count = len(self._library.playbooks)
        if not fits or not fits[0].is_enough:
            reason = (
                f"{_told(fits[0])} comes nearest, under {FIT_THRESHOLD}" if fits else "none shares a word"
            )
            await trail.think(f"None of {count} playbooks fits the goal: {reason}.")
            return None
        fit = fits[0]
        others = f"next is {_told(fits[1])}" if len(fits) > 1 else "no other shares a word"
        told = f"Playbook {_told(fit)} fits, by its example “{fit.example}”; {others}."
        chosen = await trail.think(f"{told} {fit.playbook.description}".strip())
        return await self._expanded(fit.playbook, request, trail, chosen)

    async def _expanded(
        self, playbook: Playbook, request: PlanRequest, trail: ThoughtTrail, chosen: int
    ) -> Proposal | None:
        bound = bind(playbook, request.goal, request.context)
        lack = _lack(playbook, request, bound)
        if lack is None and playbook.parameters:
            await trail.think(
                f"Parameters: {'; '.join(_bound_told(name, each) for name, each in bound.items())}."
            )
        if lack is None:
            values = {name: each.value for name, each in bound.items()} | {"goal": request.goal}
            expansion = expand(playbook, values, self._library.playbooks)
            if len(expansion.tasks) > request.max_tasks:
                lack = f"it has {len(expansion.tasks)} tasks and max_tasks is {request.max_tasks}"
        if lack is None:
            try:
                dag = expansion.to_dag(slug(request.goal) or playbook.name, request.goal, request.limits)
            except InvalidDagError as exc:
                lack = f"with these parameters it gives no valid DAG ({exc.problems[0]})"
            else:
                note = f"Planned by playbook {playbook.name!r}: {_told_values(bound) or 'no parameters'}."
                return Proposal(dag=dag, planner=f"playbook:{playbook.name}", notes=(note,))
        await trail.think(f"Playbook {playbook.name!r} can't be used after all: {lack}.", revises=chosen)
        trail.notes.append(f"Playbook {playbook.name!r} fits the goal but was not used: {lack}.")
        return None


def bind(playbook: Playbook, goal: str, context: Mapping[str, Json]) -> dict[str, Bound]:
    """Return each parameter's value: from the context, else from the goal, else its default."""
    return {name: _bind(name, parameter, goal, context) for name, parameter in playbook.parameters.items()}


def _bind(name: str, parameter: Parameter, goal: str, context: Mapping[str, Json]) -> Bound:
    for key in (name, *parameter.context):
        if context.get(key) not in (None, "", []):
            return Bound(context[key], f"context.{key}")
    for pattern in parameter.from_goal:
        found = _found(pattern, goal[:MAX_GOAL_CHARS])
        if found not in (None, ""):
            return Bound(found, "the goal")
    return Bound(parameter.default, "default")


def _found(pattern: GoalPattern, goal: str) -> Json:
    found = re.search(pattern.pattern, goal, re.IGNORECASE)
    if found is None:
        return None
    if "value" in found.re.groupindex:
        taken = found["value"]
    else:
        taken = found[1] if found.re.groups else None if pattern.value is not None else found[0]
    return taken.strip() if taken else pattern.value


def _lack(playbook: Playbook, request: PlanRequest, bound: Mapping[str, Bound]) -> str | None:
    """Return what keeps a playbook from being used, or None."""
    if request.systems is not None:
        missing = [system for system in playbook.systems if system not in request.systems]
        if missing:
            return f"it needs the system {missing[0]!r}, which is not configured"
    for name, parameter in playbook.parameters.items():
        if parameter.required and bound[name].value in (None, "", []):
            return f"it needs {name!r}; give it as context.{name}"
    return None


def _told(fit: Fit) -> str:
    return f"{fit.playbook.name!r} ({fit.score:.2f})"


def _bound_told(name: str, bound: Bound) -> str:
    text = as_text(bound.value)
    shown = text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"
    source = "default" if bound.source == "default" else f"from {bound.source}"
    return f"{name} = {shown or 'none'} ({source})"


def _told_values(bound: Mapping[str, Bound]) -> str:
    return "; ".join(_bound_told(name, each) for name, each in bound.items())
