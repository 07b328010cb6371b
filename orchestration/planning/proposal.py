"""What planners are asked and what they answer, whole or bit by bit, and the trail of thoughts they leave.

May import: orchestration.{dag, errors, logs, models, options, ports}, stdlib.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from orchestration.dag import TaskDAG
from orchestration.errors import SystemUnavailableError
from orchestration.logs import get_logger
from orchestration.models import JsonObject, OrchestrationMode, TaskEdge, TaskId, TaskNode
from orchestration.options import Limits
from orchestration.ports import ThinkingServer, Thought, ToolInfo

Draft: TypeAlias = Mapping[str, Any]
"""A task as `read_caller_plan` takes it: its fields, and `depends_on`."""

_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemTools:
    """A system as a planner sees it."""

    name: str
    kind: str = ""
    tools: Sequence[ToolInfo] = ()
    serves: Collection[str] = ()
    """Other names under which it takes tasks."""
    takes_any: bool = False
    """Whether it runs tasks from their description alone."""
    error: str | None = None
    """Why it could not be asked for its tools; it is taken at a task's word then."""


FindTools: TypeAlias = Callable[[], Awaitable[Sequence[SystemTools]]]
"""Asks the systems what they can do; may start some of them."""


@dataclass(slots=True)
class Spending:
    """What one plan has used up of a model; shared by all that is asked for it."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    is_estimated: bool = False
    """Whether some tokens were counted by us, because the provider told none."""
    cost: float | None = None
    """US dollars; None when no price is known."""
    deadline: float | None = None
    """On the event loop's clock; set by the first request."""

    def told(self) -> str:
        """Return what was used up, as a sentence."""
        about = "about " if self.is_estimated else ""
        cost = "" if self.cost is None else f", about ${self.cost:.4f}"
        asked = f"{self.requests} request{'' if self.requests == 1 else 's'}"
        return f"The model took {asked}: {about}{self.input_tokens:,} tokens in, {self.output_tokens:,} out{cost}."


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """A goal to plan for."""

    goal: str
    context: JsonObject
    mode: OrchestrationMode | None
    max_tasks: int
    systems: Collection[str] | None
    """Names of the configured systems; None where nobody knows."""
    limits: Limits
    tools: Sequence[SystemTools] | None = None
    """What the systems can do; None where nobody was asked."""
    existing: Sequence[Draft] = ()
    """Tasks that are part of the plan already, upstreams first, as they are; a planner adds the rest."""
    spending: Spending = field(default_factory=Spending)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRequest:
    """One task of a plan that is to be decomposed further."""

    task: TaskNode
    plan: TaskDAG
    """The plan as it is by now, the task in it."""
    upstreams: Sequence[TaskId]
    """Tasks whose outputs the parts may name."""
    max_tasks: int
    """Most parts it may become."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A planner's answer: a validated DAG."""

    dag: TaskDAG
    planner: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBatch:
    """Some more tasks of a plan that is still being made."""

    tasks: tuple[TaskNode, ...]
    edges: tuple[TaskEdge, ...] = ()
    """Those that lead to `tasks`; each comes from one of them or from a task of an earlier batch."""


class TaskStream(Protocol):
    """A plan that is handed out while it is being made.

    Batches come upstreams first: what has been handed out is, together with the request's `existing`, a valid DAG at
    every moment, and it never changes afterwards. After the last batch `proposal` holds the whole, `existing` included.
    Iteration that ends with an exception means that there will be no whole; what was handed out stays as it is.
    """

    def __aiter__(self) -> AsyncIterator[TaskBatch]:
        """Return itself."""
        ...

    async def __anext__(self) -> TaskBatch:
        """Return the next batch.

        Raises:
            SystemUnavailableError: The rest can't be made; `reason` says why.
        """
        ...

    @property
    def proposal(self) -> Proposal:
        """Return the whole plan, once iteration has ended without an exception."""
        ...


class LanguageModel(Protocol):
    """A planner that thinks with a language model; fulfilled by `model_planner.ModelPlanner`."""

    name: str
    """`model:` and the model's name."""
    starts_early: bool
    """Whether its plans are to be handed out while they are made."""

    async def propose(self, request: PlanRequest, trail: ThoughtTrail) -> Proposal:
        """Return a whole plan.

        Raises:
            SystemUnavailableError: It made none; `reason` says why.
            ConfigurationError: The model can't be used as it is configured.
        """
        ...

    def stream(self, request: PlanRequest, trail: ThoughtTrail) -> AbstractAsyncContextManager[TaskStream]:
        """Open a plan that is handed out while it is being made; leaving it ends the model's work.

        To be entered and left by one task. The exceptions of `propose` come from the iteration, and `InvalidDagError`
        where what exists is no plan that could be gone on with.
        """
        ...

    async def decompose_task(
        self, part: PartRequest, request: PlanRequest, trail: ThoughtTrail
    ) -> Sequence[Draft] | None:
        """Return the parts a task is made of; None when it is one piece of work after all.

        Raises:
            SystemUnavailableError: It made none; `reason` says why.
        """
        ...


@dataclass(slots=True)
class ThoughtTrail:
    """The thoughts of one plan: numbered, kept, and sent to the thinking server as soon as there is one."""

    expected: int
    """How many there will be, as far as one can tell; the server is told."""
    thoughts: list[Thought] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the caller is to know beside the planner's own notes."""
    _server: ThinkingServer | None = None
    _held_back: Thought | None = None
    """The latest thought: whether another follows is known only with the next."""

    @property
    def number(self) -> int:
        """Return the number of the latest thought."""
        return len(self.thoughts)

    async def attach(self, server: ThinkingServer) -> None:
        """Send what there is to a server, and from now on every thought."""
        self._server = server
        for thought in self.thoughts[:-1]:
            await self._send(thought, more=True)
        self._held_back = self.thoughts[-1] if self.thoughts else None

    async def think(
        self,
        text: str,
        *,
        revises: int | None = None,
        branch: str | None = None,
        branch_from: int | None = None,
    ) -> int:
        """Take one step and return its number."""
        if self._held_back is not None:
            await self._send(self._held_back, more=True)
        thought = Thought(
            number=self.number + 1, text=text, revises=revises, branch=branch, branch_from=branch_from
        )
        self.thoughts.append(thought)
        self._held_back = thought
        return thought.number

    async def take(self, thought: Thought) -> int:
        """Take somebody else's thought; what it refers to moves with the numbers it gets here.

        A series of them is taken in order and without another in between.
        """
        shift = self.number + 1 - thought.number
        return await self.think(
            thought.text,
            revises=None if thought.revises is None else thought.revises + shift,
            branch=thought.branch,
            branch_from=None if thought.branch_from is None else thought.branch_from + shift,
        )

    async def finish(self) -> None:
        """Send the last thought as such."""
        if self._held_back is not None:
            await self._send(self._held_back, more=False)
            self._held_back = None

    async def _send(self, thought: Thought, *, more: bool) -> None:
        if self._server is None:
            return
        try:
            await self._server.think(thought, total=max(self.expected, self.number), more=more)
        except SystemUnavailableError as exc:
            _log.warning("Thoughts are no longer sent", operation="THINKING_SERVER_LOST", reason=exc.reason)
            self.notes.append(
                f"The thoughts from number {thought.number} on reached no server: {exc.reason}."
            )
            self._server = None
