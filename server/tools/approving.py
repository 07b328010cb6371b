"""Agreeing to tasks through `control_orchestration`: who may, and how a person is asked through the client.

May import: orchestration, server.{answers, desk, schemas, tools.standing}, mcp, pydantic, stdlib.

A model never agrees in a person's name. Where only a person may agree, the person is asked through the client, if that
can ask (elicitation), and the answer counts as the person's own. A client that can't ask has not said no, and neither
has a person who closed the question: both are told the command to type, and nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mcp.server.elicitation import AcceptedElicitation
from mcp.server.mcpserver import Elicit, ElicitationResult
from pydantic import BaseModel, Field

from orchestration.errors import InvalidArgumentError, NotPermittedError, NotPossibleError, OrchestrationError
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server.answers import printable
from server.desk import DeskContext, desk
from server.schemas import Decision, TaskNames
from server.tools.standing import DIGEST_SHOWN, command

ASKED_AT_ONCE = 5
"""Tasks one question to a person is about: more would be agreed to unread."""
SHOWN = 5_000
"""Most characters of what one task would run that a question shows; of more, nobody is asked here: a person types the
command, which shows it whole."""


_DONE = {"approve": "approved", "reject": "rejected"}


class PersonsAnswer(BaseModel):
    """What a person says to tasks that wait for a yes."""

    decision: Literal["approve", "reject"] = Field(description="approve: let it run. reject: it fails.")
    reason: str = Field(default="", max_length=1000, description="Why; kept in the journal")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task that waits for somebody's yes, as it was when the call came."""

    task_id: str
    who: str
    shown: str
    digest: str | None


async def waiting_for_yes(
    ctx: DeskContext, orchestration_id: str, action: str, tasks: TaskNames
) -> list[Waiting]:
    """Return those of the named tasks that wait for somebody's yes; none for other requests."""
    if action not in {"approve", "reject"} or not tasks:
        return []
    try:
        found = await desk(ctx).orchestrator.load_approvals(orchestration_id, task_ids=tasks)
    except OrchestrationError:
        return []  # the request itself says what is wrong
    return [Waiting(each["task_id"], each["who"], each["shown"], each["digest"]) for each in found]


def question(orchestration_id: str, waiting: list[Waiting]) -> str:
    """Return the question to a person; the same for the same tasks that would do the same."""
    lines = [f"{orchestration_id}: may this run, exactly as shown?"]
    for each in waiting:
        lines.append(f"Task {each.task_id} (digest {(each.digest or '')[:DIGEST_SHOWN]}):")
        lines += [f"| {printable(line)}" for line in each.shown.splitlines()]
    return "\n".join(lines)


def can_be_asked(ctx: DeskContext) -> bool:
    """Whether the client can put a question to its user in a form."""
    capabilities = ctx.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def for_a_person(
    ctx: DeskContext, orchestration_id: str, waiting: list[Waiting]
) -> Elicit[PersonsAnswer] | None:
    """Return the question about those tasks that only a person may agree to; None when there is nobody to ask."""
    persons = [each for each in waiting if each.who == "person"]
    is_too_much = len(persons) > ASKED_AT_ONCE or any(len(each.shown) > SHOWN for each in persons)
    if not persons or is_too_much or not can_be_asked(ctx):
        return None
    return Elicit(question(orchestration_id, persons), PersonsAnswer)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the caller, and the person where one was asked, want of tasks that wait for a yes."""

    orchestrator: AdvancedTaskOrchestrator
    orchestration_id: str
    action: str
    value: Decision
    reason: str
    waiting: list[Waiting]
    answer: ElicitationResult[PersonsAnswer]

    async def carry_out(self, task_id: str) -> str:
        """Agree to a task or refuse it, and return what was done.

        Raises:
            OrchestrationError: It was refused; nothing was changed.
        """
        asked = next((each for each in self.waiting if each.task_id == task_id), None)
        if asked is None:  # it waits for nobody's yes: whoever drives it says how it stands
            return await self._say(task_id, self.action, None, "caller", self.reason)
        self._check_digest(asked)
        if asked.who == "caller":
            return await self._say(task_id, self.action, asked.digest, "caller", self.reason)
        if not isinstance(self.answer, AcceptedElicitation):
            told = "still waiting (the person closed the question)"
            fix = f"Nothing was changed. The person can still type: {self._command(task_id)}"
            raise NotPossibleError(f"Task {task_id!r}", told, _DONE[self.action], fix)
        persons: PersonsAnswer | None = getattr(self.answer, "data", None)  # None: there was nobody to ask
        if persons is None:
            few = (
                f" (at most {ASKED_AT_ONCE} at once can be asked about)"
                if len(self.waiting) > ASKED_AT_ONCE
                else ""
            )
            raise NotPermittedError(
                f"{self.action} task {task_id!r}", f"a person{few}", self._command(task_id)
            )
        reason = persons.reason or self.reason
        return await self._say(task_id, persons.decision, asked.digest, "person", reason)

    def _check_digest(self, asked: Waiting) -> None:
        """Refuse an agreement to something else than what is asked about now."""
        seen = self.value.digest if self.value is not None else None
        if seen is not None and not (asked.digest or "").startswith(seen):
            raise NotPossibleError(
                f"Task {asked.task_id!r}",
                "to be approved with other arguments or inputs by now",
                "approved as it was",
                "Look at view=approvals.",
            )

    def _command(self, task_id: str) -> str:
        return command(self.orchestrator, self.action, self.orchestration_id, task_id)

    async def _say(self, task_id: str, action: str, digest: str | None, by: str, reason: str) -> str:
        if action == "approve":
            await self.orchestrator.approve(
                self.orchestration_id, task_id, digest=digest, reason=reason, by=by
            )
        else:
            await self.orchestrator.reject(self.orchestration_id, task_id, reason=reason, by=by)
        return f"{_DONE[action]} by {'you' if by == 'caller' else 'the person'}"


def check_value(action: str, value: Decision) -> None:
    """Refuse a value that says something else than the action.

    Raises:
        InvalidArgumentError: It does.
    """
    if value is None:
        return
    if value.decision is not None or "output" in value.model_fields_set or action == "reject":
        raise InvalidArgumentError(
            "value",
            value.decision or value.digest,
            "the digest that was shown, with approve" if action == "approve" else "nothing, with reject",
            "Leave it out.",
        )
