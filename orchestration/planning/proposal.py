"""What planners are asked and what they answer, and the trail of thoughts they leave.

May import: orchestration.{dag, errors, logs, models, options, ports}, stdlib.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from orchestration.dag import TaskDAG
from orchestration.errors import SystemUnavailableError
from orchestration.logs import get_logger
from orchestration.models import JsonObject, OrchestrationMode
from orchestration.options import Limits
from orchestration.ports import ThinkingServer, Thought

_log = get_logger()


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A planner's answer: a validated DAG."""

    dag: TaskDAG
    planner: str
    notes: tuple[str, ...] = ()


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
