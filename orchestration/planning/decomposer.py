"""From a goal to a plan: asks the planners in their order of trust and thinks aloud about every step.

May import: orchestration.{errors, logs, models, options, planning.*, ports, validation}, pydantic, stdlib.

The order of trust: the caller's own tasks; the caller's `sequential_thinking` collaborator; the configured language
model; a playbook that fits; the goal's own sentences. The first is binding: a draft with mistakes is refused, never
replaced by something else. What the collaborator or the model plans, they decompose further where a task is too
complex; the others' tasks stay as they are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from orchestration.errors import InvalidArgumentError, NoFittingPlanError, SystemUnavailableError
from orchestration.logs import get_logger
from orchestration.models import OrchestrationMode, is_unicode
from orchestration.options import Limits
from orchestration.planning.caller_plan import read_caller_plan
from orchestration.planning.collaborator_parts import split_by_collaborator
from orchestration.planning.collaborator_planner import ANSWER_TIMEOUT_SECONDS, propose_by_collaborator
from orchestration.planning.plan import Plan
from orchestration.planning.plan_stream import PlanStream, whole
from orchestration.planning.playbook import PlaybookLibrary, load_playbooks
from orchestration.planning.playbook_planner import PlaybookPlanner
from orchestration.planning.proposal import (
    Draft,
    FindTools,
    LanguageModel,
    PlanRequest,
    Proposal,
    TaskBatch,
    TaskStream,
    ThoughtTrail,
)
from orchestration.planning.refinement import COMPLEXITY_THRESHOLD, MAX_DEPTH, Split, refine
from orchestration.planning.request_reading import read_request
from orchestration.planning.sentence_planner import example_tasks, propose_sentences
from orchestration.planning.sequential_thinking import OpenThinking, in_process_thinking
from orchestration.planning.thoughts import (
    read_thoughts,
    told_critical_path,
    told_goal,
    told_levels,
    told_validation,
)
from orchestration.ports import ThinkingServer

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
        model: A language model that plans; None where none is configured.
        find_tools: Asks the systems what they can do, for the model; when absent, it is told of none and any may be
            named.
        complexity_threshold: A task that the collaborator or the model planned is decomposed further above it.
        max_depth: How many tasks a task may be a part of by that, one inside the other.
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
        model: LanguageModel | None = None,
        find_tools: FindTools | None = None,
        complexity_threshold: float = COMPLEXITY_THRESHOLD,
        max_depth: int = MAX_DEPTH,
    ) -> None:
        self._collaborator = sequential_thinking
        self._thinking = thinking or in_process_thinking
        self._playbook_folders = tuple(playbook_folders)
        self._systems = systems
        self._limits = limits or Limits()
        self._collaborator_timeout_seconds = collaborator_timeout_seconds
        self._model = model
        self._find_tools = find_tools
        self._complexity_threshold = complexity_threshold
        self._max_depth = max_depth
        self._library: PlaybookLibrary | None = None

    @property
    def can_stream(self) -> bool:
        """Whether there is somebody who hands a plan out while it is made."""
        return self._model is not None

    @property
    def starts_early(self) -> bool:
        """Whether the configuration wants tasks to start while the rest of the plan is still being made."""
        return self._model is not None and self._model.starts_early

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
        trail = await _begin(request, thoughts)
        if tasks is None and (proposal := await self._by_collaborator(request, trail)) is not None:
            await self._conclude(proposal, trail)
            return _plan(request, proposal, trail, "collaborator")
        async with AsyncExitStack() as stack:
            server = await self._open_thinking(stack, trail)
            if tasks is not None:
                proposal = await self._by_caller(tasks, request, trail)
            else:
                found = await self._by_model(request, trail)
                proposal = found or await self._by_goal(request, trail, allow_sentences=allow_sentences)
            await self._conclude(proposal, trail)
        return _plan(request, proposal, trail, _told_server(server, trail))

    @asynccontextmanager
    async def stream(
        self,
        goal: str,
        *,
        context: Mapping[str, Any] | str | None = None,
        mode: OrchestrationMode | str | None = None,
        max_tasks: int = DEFAULT_MAX_TASKS,
        allow_sentences: bool = True,
        existing: Sequence[Draft] = (),
    ) -> AsyncIterator[PlanStream]:
        """Make a plan and hand it out while it is being made, to whoever enters, iterates and leaves this in one task.

        Only the language model makes a plan bit by bit; everybody else's comes as one batch. When the model fails after
        it has handed something out, that is the end of the plan: nobody else can finish what it meant.

        Args:
            goal: As for `decompose`; so are those that are named alike there.
            context: What is known beside the goal.
            mode: How it is to run.
            max_tasks: Most tasks of the plan, those of `existing` included.
            allow_sentences: Whether a goal nothing else fits becomes tasks by its sentences.
            existing: Tasks of this plan that were handed out before, upstreams first, as `drafts.task_drafts` makes
                them of a DAG: after the death of the process that began it. Only the model can go on from there.

        Raises:
            InvalidArgumentError: An argument is wrong.
        """
        request = self._request(goal, context=context, mode=mode, max_tasks=max_tasks, has_tasks=False)
        request = replace(request, existing=tuple(existing))
        trail = await _begin(request, None)
        kind = "collaborator"
        server: ThinkingServer | None = None

        async def finish(proposal: Proposal) -> Plan:
            await self._conclude(proposal, trail)
            return _plan(request, proposal, trail, kind if server is None else _told_server(server, trail))

        async with AsyncExitStack() as stack:
            proposal = None if existing else await self._by_collaborator(request, trail)
            batches: TaskStream | None = None
            if proposal is None:
                kind = "none"
                server = await self._open_thinking(stack, trail)
                request = await self._with_tools(request)
                if self._model is not None:
                    batches = await stack.enter_async_context(self._model.stream(request, trail))
            otherwise = partial(self._by_goal, request, trail, allow_sentences=allow_sentences)
            made = self._batches(request, trail, proposal, batches, otherwise)
            yield PlanStream(await stack.enter_async_context(aclosing(made)), finish)

    async def _batches(
        self,
        request: PlanRequest,
        trail: ThoughtTrail,
        proposal: Proposal | None,
        batches: TaskStream | None,
        otherwise: Callable[[], Awaitable[Proposal]],
    ) -> AsyncGenerator[TaskBatch | Proposal, None]:
        """Yield the batches of a plan, and at the end the plan; of one that is whole already, or of the model's."""
        if proposal is None and batches is not None:
            begun = await self._ask_model(trail)
            is_begun = bool(request.existing)
            try:
                async for batch in batches:
                    is_begun = True
                    yield batch
                proposal = batches.proposal
            except SystemUnavailableError as exc:
                await self._passed_over(exc, begun, trail)
                if is_begun:
                    await trail.finish()
                    raise
            else:
                yield proposal
                return
        elif proposal is None and request.existing:
            raise SystemUnavailableError(
                "model", "no language model is configured that could finish the plan"
            )
        proposal = proposal or await otherwise()
        yield whole(proposal)
        yield proposal

    async def _open_thinking(self, stack: AsyncExitStack, trail: ThoughtTrail) -> ThinkingServer | None:
        try:
            server = await stack.enter_async_context(self._thinking())
        except SystemUnavailableError as exc:
            trail.notes.append(f"The thoughts reached no server: {exc.reason}.")
            return None
        await trail.attach(server)
        return server

    async def _by_collaborator(self, request: PlanRequest, trail: ThoughtTrail) -> Proposal | None:
        timeout = self._collaborator_timeout_seconds
        proposal = await propose_by_collaborator(self._collaborator, request, trail, timeout_seconds=timeout)
        if proposal is None:
            return None
        threshold = self._complexity_threshold
        split = split_by_collaborator(
            self._collaborator, request, trail, threshold=threshold, timeout_seconds=timeout
        )
        return await self._refined(proposal, request, trail, split)

    async def _by_model(self, request: PlanRequest, trail: ThoughtTrail) -> Proposal | None:
        """Return the model's plan; None, with the reason in the notes, where it makes none."""
        if self._model is None:
            return None
        request = await self._with_tools(request)
        begun = await self._ask_model(trail)
        try:
            proposal = await self._model.propose(request, trail)
        except SystemUnavailableError as exc:
            await self._passed_over(exc, begun, trail)
            return None
        split = partial(self._model.decompose_task, request=request, trail=trail)
        return await self._refined(proposal, request, trail, split)

    async def _with_tools(self, request: PlanRequest) -> PlanRequest:
        if self._model is None or self._find_tools is None:
            return request
        return replace(request, tools=tuple(await self._find_tools()))

    async def _ask_model(self, trail: ThoughtTrail) -> int:
        assert self._model is not None
        return await trail.think(f"The language model {self._model.name} is asked.")

    async def _passed_over(self, exc: SystemUnavailableError, begun: int, trail: ThoughtTrail) -> None:
        assert self._model is not None
        reason = exc.reason.rstrip(".")
        _log.warning(
            "The language model made no plan",
            operation="MODEL_PASSED_OVER",
            model=self._model.name,
            reason=reason,
        )
        trail.notes.append(f"The language model {self._model.name} was passed over: {reason}.")
        await trail.think(f"The language model is of no help: {reason}.", revises=begun)

    async def _refined(
        self, proposal: Proposal, request: PlanRequest, trail: ThoughtTrail, split: Split
    ) -> Proposal:
        return await refine(
            proposal,
            request,
            trail,
            split,
            threshold=self._complexity_threshold,
            max_depth=min(self._max_depth, request.limits.max_hierarchy_depth),
        )

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
        return read_request(
            goal,
            context=context,
            mode=mode,
            max_tasks=max_tasks,
            has_tasks=has_tasks,
            systems=None if self._systems is None else frozenset(self._systems()),
            limits=self._limits,
        )


async def _begin(request: PlanRequest, thoughts: object) -> ThoughtTrail:
    """Return a trail that begins with the caller's own thoughts and what is understood of the request."""
    given = read_thoughts(thoughts)
    for thought in given:
        if not is_unicode(thought.text):
            raise InvalidArgumentError("thoughts", thought.text, "texts of Unicode characters")
    trail = ThoughtTrail(expected=len(given) + _EXPECTED_STEPS)
    for thought in given:
        await trail.take(thought)
    await trail.think(told_goal(request.goal, request.context, request.mode, request.max_tasks))
    return trail


def _told_server(server: ThinkingServer | None, trail: ThoughtTrail) -> str:
    """Return what kind of server took the thoughts; where another one was wanted, the notes say why."""
    if server is not None and server.replaced_because:
        trail.notes.append(
            f"The thoughts went to the thinking server inside this process: {server.replaced_because}."
        )
    return "none" if server is None else server.kind


def _plan(request: PlanRequest, proposal: Proposal, trail: ThoughtTrail, thinking_server: str) -> Plan:
    return Plan(
        goal=request.goal,
        mode=request.mode,
        context=request.context,
        dag=proposal.dag,
        planner=proposal.planner,
        thoughts=tuple(trail.thoughts),
        thinking_server=thinking_server,
        notes=(
            *proposal.notes,
            *trail.notes,
            *([request.spending.told()] if request.spending.requests else []),
        ),
    )
