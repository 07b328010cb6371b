"""From a goal to a plan: asks the planners in their order of trust and thinks aloud about every step.

May import: orchestration.{errors, logs, models, options, planning.*, ports, validation}, pydantic, stdlib.

The order of trust: the caller's own tasks; the caller's `sequential_thinking` collaborator; a playbook that fits;
the goal's own sentences. The first is binding: a draft with mistakes is refused, never replaced by something else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from orchestration.errors import InvalidArgumentError, NoFittingPlanError, SystemUnavailableError
from orchestration.logs import get_logger
from orchestration.models import JsonObject, OrchestrationMode, is_unicode
from orchestration.options import Limits
from orchestration.planning.caller_plan import read_caller_plan
from orchestration.planning.collaborator_planner import ANSWER_TIMEOUT_SECONDS, propose_by_collaborator
from orchestration.planning.draft_values import from_json_text
from orchestration.planning.plan import Plan
from orchestration.planning.playbook import PlaybookLibrary, load_playbooks
from orchestration.planning.playbook_planner import PlaybookPlanner
from orchestration.planning.proposal import PlanRequest, Proposal, ThoughtTrail
from orchestration.planning.sentence_planner import example_tasks, propose_sentences
from orchestration.planning.sequential_thinking import OpenThinking, in_process_thinking
from orchestration.planning.thoughts import (
    read_thoughts,
    told_critical_path,
    told_goal,
    told_levels,
    told_validation,
)

MAX_GOAL_CHARS = 20_000
"""Of a goal; what is longer is a document, and belongs into the context."""

DEFAULT_MAX_TASKS = 20

_EXPECTED_STEPS = 6
"""Thoughts of a plan that goes smoothly, beside the caller's own."""

_log = get_logger()


class AdvancedTaskDecomposer:
    """Makes validated plans of goals.

    Args:
        sequential_thinking: The caller's planning collaborator, duck-typed; asked before any playbook.
        thinking: Opens the Sequential Thinking server a plan's thoughts go to; when absent, the one inside this
            process.
        playbook_folders: Folders of the user's own playbooks; one with the name of a shipped one replaces it.
        systems: Answers the names of the configured systems, so that a playbook is not used without those it
            needs; when absent, every playbook may be.
        limits: Bounds on a plan.
        collaborator_timeout_seconds: How long the collaborator may take over one answer.
    """

    def __init__(
        self,
        sequential_thinking: object = None,
        *,
        thinking: OpenThinking | None = None,
        playbook_folders: Sequence[Path] = (),
        systems: Callable[[], Collection[str]] | None = None,
        limits: Limits | None = None,
        collaborator_timeout_seconds: float = ANSWER_TIMEOUT_SECONDS,
    ) -> None:
        self._collaborator = sequential_thinking
        self._thinking = thinking or in_process_thinking
        self._playbook_folders = tuple(playbook_folders)
        self._systems = systems
        self._limits = limits or Limits()
        self._collaborator_timeout_seconds = collaborator_timeout_seconds
        self._library: PlaybookLibrary | None = None

    @property
    def playbooks(self) -> PlaybookLibrary:
        """The playbooks, read and checked when first asked for.

        Raises:
            ConfigurationError: Some have mistakes; all are listed with file and line.
        """
        if self._library is None:
            self._library = load_playbooks(self._playbook_folders)
        return self._library

    async def decompose(
        self,
        goal: str,
        *,
        tasks: object = None,
        thoughts: object = None,
        context: Mapping[str, Any] | str | None = None,
        mode: OrchestrationMode | str | None = None,
        max_tasks: int = DEFAULT_MAX_TASKS,
        allow_sentences: bool = True,
    ) -> Plan:
        """Make a plan; nothing is stored.

        Args:
            goal: What is to be achieved. May be empty where `tasks` are given.
            tasks: The caller's own plan, in the forms `read_caller_plan` takes; binding.
            thoughts: The caller's own thoughts, in order; sent before those of planning.
            context: What is known beside the goal, as JSON.
            mode: How it is to run, by member, value or name; kept in the plan.
            max_tasks: Most tasks a planner may come up with; the caller's own tasks are not counted against it.
            allow_sentences: Whether a goal nothing else fits becomes one task, or one per sentence or list item.

        Raises:
            InvalidArgumentError: An argument is wrong.
            InvalidDagError: The caller's tasks have mistakes; all are listed, each with a fix.
            NoFittingPlanError: Nothing fits and `allow_sentences` is false; holds an example of tasks to send.
            ConfigurationError: A playbook has mistakes.
        """
        request = self._request(
            goal, context=context, mode=mode, max_tasks=max_tasks, has_tasks=tasks is not None
        )
        given = read_thoughts(thoughts)
        for thought in given:
            if not is_unicode(thought.text):
                raise InvalidArgumentError("thoughts", thought.text, "texts of Unicode characters")
        trail = ThoughtTrail(expected=len(given) + _EXPECTED_STEPS)
        for thought in given:
            await trail.take(thought)
        await trail.think(told_goal(request.goal, request.context, request.mode, request.max_tasks))
        proposal: Proposal | None = None
        if tasks is None:
            proposal = await propose_by_collaborator(
                self._collaborator, request, trail, timeout_seconds=self._collaborator_timeout_seconds
            )
        if proposal is not None:
            await self._conclude(proposal, trail)
            return _plan(request, proposal, trail, "collaborator")
        async with AsyncExitStack() as stack:
            server = None
            try:
                server = await stack.enter_async_context(self._thinking())
            except SystemUnavailableError as exc:
                trail.notes.append(f"The thoughts reached no server: {exc.reason}.")
            else:
                await trail.attach(server)
            if tasks is not None:
                proposal = await self._by_caller(tasks, request, trail)
            else:
                proposal = await self._by_goal(request, trail, allow_sentences=allow_sentences)
            await self._conclude(proposal, trail)
        if server is not None and server.replaced_because:
            trail.notes.append(
                f"The thoughts went to the thinking server inside this process: {server.replaced_because}."
            )
        return _plan(request, proposal, trail, "none" if server is None else server.kind)

    async def _by_caller(self, tasks: object, request: PlanRequest, trail: ThoughtTrail) -> Proposal:
        received = await trail.think(
            "The caller sends the tasks; they are taken as they are, if they hold together."
        )
        read = read_caller_plan(tasks, goal=request.goal, limits=request.limits)
        if read.notes:
            await trail.think(
                f"What could mean only one thing was completed. {' '.join(read.notes)}", revises=received
            )
        note = "Planned by the caller."
        return Proposal(dag=read.dag, planner="caller", notes=(note, *read.notes))

    async def _by_goal(self, request: PlanRequest, trail: ThoughtTrail, *, allow_sentences: bool) -> Proposal:
        proposal = await PlaybookPlanner(self.playbooks).propose(request, trail)
        if proposal is not None:
            return proposal
        if not allow_sentences:
            await trail.finish()
            raise NoFittingPlanError(request.goal, example_tasks(request.goal), trail.notes)
        return await propose_sentences(request, trail)

    async def _conclude(self, proposal: Proposal, trail: ThoughtTrail) -> None:
        """Think about the plan that was made: its levels, its critical path, what validation has shown."""
        await trail.think(told_levels(proposal.dag))
        if len(proposal.dag.nodes) > 1:
            await trail.think(told_critical_path(proposal.dag))
        await trail.think(told_validation(proposal.dag))
        await trail.finish()
        _log.info("Plan made", operation="PLAN_MADE", planner=proposal.planner, tasks=len(proposal.dag.nodes))

    def _request(
        self, goal: object, *, context: object, mode: object, max_tasks: object, has_tasks: bool
    ) -> PlanRequest:
        if not isinstance(goal, str) or (not goal.strip() and not has_tasks):
            raise InvalidArgumentError(
                "goal", goal, "a text that says what is to be achieved", "state the goal"
            )
        if not is_unicode(goal):
            raise InvalidArgumentError("goal", goal, "a text of Unicode characters")
        if len(goal) > MAX_GOAL_CHARS:
            expected = f"at most {MAX_GOAL_CHARS:,} characters, not {len(goal):,}"
            raise InvalidArgumentError("goal", goal, expected, "put the details into the context")
        if isinstance(max_tasks, bool) or not isinstance(max_tasks, int) or max_tasks < 1:
            raise InvalidArgumentError("max_tasks", max_tasks, "a whole number of at least 1")
        return PlanRequest(
            goal=goal.strip(),
            context=_read_context(context),
            mode=_read_mode(mode),
            max_tasks=max_tasks,
            systems=None if self._systems is None else frozenset(self._systems()),
            limits=self._limits,
        )


def _read_context(context: object) -> JsonObject:
    plain = from_json_text(context, "{")
    if plain is None:
        return {}
    if not isinstance(plain, Mapping):
        raise InvalidArgumentError("context", context, "an object", 'write {"technology_stack": "…"}')
    try:
        found: JsonObject = to_jsonable_python(dict(plain))
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except (PydanticSerializationError, ValueError, RecursionError) as exc:
        told = f"an object of JSON values ({exc})"
        raise InvalidArgumentError("context", context, told, "leave out what is no JSON") from exc
    return found


def _read_mode(mode: object) -> OrchestrationMode | None:
    if mode is None or isinstance(mode, OrchestrationMode):
        return mode
    try:
        return OrchestrationMode(str(mode))
    except ValueError:
        names = ", ".join(member.name for member in OrchestrationMode)
        raise InvalidArgumentError("mode", mode, f"one of {names}") from None


def _plan(request: PlanRequest, proposal: Proposal, trail: ThoughtTrail, thinking_server: str) -> Plan:
    return Plan(
        goal=request.goal,
        mode=request.mode,
        context=request.context,
        dag=proposal.dag,
        planner=proposal.planner,
        thoughts=tuple(trail.thoughts),
        thinking_server=thinking_server,
        notes=(*proposal.notes, *trail.notes),
    )
