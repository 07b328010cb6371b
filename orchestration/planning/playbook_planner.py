"""Plans by playbook: finds the one that fits the goal, binds its parameters and expands it.

May import: orchestration.planning.{draft_values, playbook*, proposal, sentence_planner}, orchestration.{dag, errors,
logs, models}, regex (late), stdlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestration.dag import TaskDAG
from orchestration.errors import InvalidDagError
from orchestration.logs import get_logger
from orchestration.models import Json
from orchestration.planning.draft_values import slug
from orchestration.planning.playbook import PlaybookLibrary
from orchestration.planning.playbook_expansion import as_text, expand
from orchestration.planning.playbook_model import GoalPattern, Parameter, Playbook
from orchestration.planning.playbook_search import FIT_THRESHOLD, MAX_GOAL_CHARS, Fit, find_playbooks
from orchestration.planning.proposal import PlanRequest, Proposal, ThoughtTrail
from orchestration.planning.sentence_planner import propose_sentences

_log = get_logger()

MAX_COMPARED = 3
"""Playbooks that are tried for one goal; who writes more of them for the same goals meant one."""

_PATTERN_SECONDS = 0.5
"""Longest look of one pattern at a goal: one that goes back and forth for ever would hold everything up."""

_SHOWN_CHARS = 80
_SHOWN_TASKS = 6


@dataclass(frozen=True, slots=True)
class Bound:
    """A parameter's value and where it came from."""

    value: Json
    source: str
    """`context.KEY`, `the goal` or `default`."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A fitting playbook, tried on a goal."""

    fit: Fit
    bound: Mapping[str, Bound]
    dag: TaskDAG | None
    lack: str | None
    """Why it can't be used."""

    @property
    def name(self) -> str:
        return self.fit.playbook.name

    @property
    def known(self) -> int:
        """How many parameters the goal or the context gives."""
        return sum(each.source != "default" for each in self.bound.values())


class PlaybookPlanner:
    """Proposes the expansion of the best fitting playbook that can be used, or nothing.

    Alternatives are thought through in branches: each of several playbooks that fit, and the goal's own list or
    sentences where it takes itself apart.
    """

    def __init__(self, library: PlaybookLibrary) -> None:
        self._library = library

    async def propose(self, request: PlanRequest, trail: ThoughtTrail) -> Proposal | None:
        """Return a plan, or None when no playbook fits well enough or those that do lack something."""
        fits = find_playbooks(request.goal, self._library.playbooks.values())
        count = len(self._library.playbooks)
        if not fits or not fits[0].is_enough:
            reason = (
                f"{_told(fits[0])} comes nearest, under {FIT_THRESHOLD}" if fits else "none shares a word"
            )
            await trail.think(f"None of {count} playbooks fits the goal: {reason}.")
            return None
        drafts = [self._draft(fit, request) for fit in fits[:MAX_COMPARED] if fit.is_enough]
        if len(drafts) == 1:
            chosen, draft = await self._sole(drafts[0], fits, trail), drafts[0]
        else:
            chosen, draft = await self._compared(drafts, count, trail)
        for other in drafts:
            if other is draft and other.lack is None:
                continue
            why = f"fits the goal but was not used: {other.lack}" if other.lack else "fits the goal, too"
            trail.notes.append(f"Playbook {other.name!r} {why}.")
        if draft.dag is None:
            return None
        await self._against_sentences(draft.dag, request, trail, chosen)
        if draft.bound:
            await trail.think(f"Parameters: {_told_values(draft.bound)}.")
        note = f"Planned by playbook {draft.name!r}: {_told_values(draft.bound) or 'no parameters'}."
        return Proposal(dag=draft.dag, planner=f"playbook:{draft.name}", notes=(note,))

    async def _sole(self, draft: _Draft, fits: Sequence[Fit], trail: ThoughtTrail) -> int:
        """Think about the only playbook that fits well enough."""
        others = f"next is {_told(fits[1])}" if len(fits) > 1 else "no other shares a word"
        told = f"Playbook {_told(draft.fit)} fits, by its example “{draft.fit.example}”; {others}."
        chosen = await trail.think(f"{told} {draft.fit.playbook.description}".strip())
        if draft.lack is not None:
            await trail.think(
                f"Playbook {draft.name!r} can't be used after all: {draft.lack}.", revises=chosen
            )
        return chosen

    async def _compared(
        self, drafts: Sequence[_Draft], count: int, trail: ThoughtTrail
    ) -> tuple[int, _Draft]:
        """Think each of several playbooks through in a branch, and decide."""
        names = ", ".join(_told(draft.fit) for draft in drafts)
        opening = await trail.think(
            f"{len(drafts)} of {count} playbooks fit the goal: {names}. Each is tried on it."
        )
        for draft in drafts:
            await trail.think(_tried(draft), branch=f"playbook-{draft.name}", branch_from=opening)
        # Of two that fit equally well the one that found more of what it wants to know was meant; then the first.
        best = max(drafts, key=lambda draft: (draft.lack is None, draft.fit.score, draft.known))
        if best.lack is not None:
            lacks = "; ".join(f"{draft.name!r}: {draft.lack}" for draft in drafts)
            return await trail.think(f"None of them can be used after all: {lacks}.", revises=opening), best
        why = _reason_for(best, [draft for draft in drafts if draft is not best])
        told = f"Playbook {best.name!r} is taken: {why}. {best.fit.playbook.description}".strip()
        return await trail.think(told), best

    async def _against_sentences(
        self, dag: TaskDAG, request: PlanRequest, trail: ThoughtTrail, chosen: int
    ) -> None:
        """Where the goal takes itself apart, think of that as the alternative."""
        own = (await propose_sentences(request, ThoughtTrail(expected=1))).dag
        if len(own.nodes) < 2:
            return
        names = ", ".join(list(own.nodes)[:_SHOWN_TASKS]) + (", …" if len(own.nodes) > _SHOWN_TASKS else "")
        how = "one after the other" if own.edges else "at once"
        await trail.think(
            f"Taken by its own words, the goal would be {len(own.nodes)} tasks, {how}: {names}. "
            "Nothing would say what each takes, what it needs of another, or how it is checked.",
            branch="sentences",
            branch_from=chosen,
        )
        estimated = sum(node.estimated_time_seconds is not None for node in dag.nodes.values())
        await trail.think(
            f"The playbook is kept: it has {_counted(len(dag.nodes), 'task')} with "
            f"{_counted(len(dag.edges), 'edge')}, and estimates for {estimated} of them."
        )

    def _draft(self, fit: Fit, request: PlanRequest) -> _Draft:
        """Try a playbook: bind its parameters, expand it and validate what comes out."""
        playbook = fit.playbook
        bound = bind(playbook, request.goal, request.context)
        lack = _lack(playbook, request, bound)
        if lack is not None:
            return _Draft(fit, bound, None, lack)
        values = {name: each.value for name, each in bound.items()} | {"goal": request.goal}
        expansion = expand(playbook, values, self._library.playbooks)
        if len(expansion.tasks) > request.max_tasks:
            lack = f"it has {len(expansion.tasks)} tasks and max_tasks is {request.max_tasks}"
            return _Draft(fit, bound, None, lack)
        try:
            dag = expansion.to_dag(slug(request.goal) or playbook.name, request.goal, request.limits)
        except InvalidDagError as exc:
            lack = f"with these parameters it gives no valid DAG ({exc.problems[0]})"
            return _Draft(fit, bound, None, lack)
        return _Draft(fit, bound, dag, None)


def bind(playbook: Playbook, goal: str, context: Mapping[str, Json]) -> dict[str, Bound]:
    """Return each parameter's value: from the context, else from the goal, else its default."""
    return {name: _bind(name, parameter, goal, context) for name, parameter in playbook.parameters.items()}


def _bind(name: str, parameter: Parameter, goal: str, context: Mapping[str, Json]) -> Bound:
    for key in (name, *parameter.context):
        if context.get(key) not in (None, "", []):
            return Bound(parameter.typed(context[key]), f"context.{key}")
    for pattern in parameter.from_goal:
        found = _found(pattern, goal[:MAX_GOAL_CHARS])
        if found not in (None, ""):
            return Bound(parameter.typed(found), "the goal")
    return Bound(parameter.typed(parameter.default), "default")


def _found(pattern: GoalPattern, goal: str) -> Json:
    import regex

    try:
        found = regex.search(pattern.pattern, goal, regex.IGNORECASE, timeout=_PATTERN_SECONDS)
    except TimeoutError:
        _log.warning(
            "A playbook's pattern was given up: it takes too long on this goal",
            operation="PATTERN_GIVEN_UP",
            pattern=pattern.pattern,
        )
        return None
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


def _tried(draft: _Draft) -> str:
    """Return what trying a playbook has shown."""
    told = f"Playbook {_told(draft.fit)}, by its example “{draft.fit.example}”"
    if draft.dag is None:
        return f"{told}: it can't be used, for {draft.lack}."
    count = len(draft.bound)
    known = f"{draft.known} of {_counted(count, 'parameter')} known" if count else "it has no parameters"
    path = draft.dag.critical_path()
    tasks = _counted(len(draft.dag.nodes), "task")
    return f"{told}: {known}; {tasks}, {path.seconds:g} s on the critical path."


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _reason_for(best: _Draft, others: Sequence[_Draft]) -> str:
    usable = [draft for draft in others if draft.lack is None]
    if not usable:
        return f"{', '.join(repr(draft.name) for draft in others)} can't be used"
    rival = max(usable, key=lambda draft: (draft.fit.score, draft.known))
    if best.fit.score > rival.fit.score:
        return f"it fits better than {rival.name!r}"
    if best.known > rival.known:
        return f"it fits as well as {rival.name!r} and more of its parameters are known"
    return f"it fits as well as {rival.name!r} and stands before it"


def _told(fit: Fit) -> str:
    return f"{fit.playbook.name!r} ({fit.score:.2f})"


def _bound_told(name: str, bound: Bound) -> str:
    text = as_text(bound.value)
    shown = text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"
    source = "default" if bound.source == "default" else f"from {bound.source}"
    return f"{name} = {shown or 'none'} ({source})"


def _told_values(bound: Mapping[str, Bound]) -> str:
    return "; ".join(_bound_told(name, each) for name, each in bound.items())
