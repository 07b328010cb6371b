"""The tool `control_orchestration`: pause, resume, cancel, retry, approve, reject, decide; for any process's.

May import: orchestration, server.{answers, control, desk, schemas, tools.*, uris}, anyio, mcp, pydantic, stdlib.

What is refused for the only target is a failed call; of several targets each has its own outcome.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import Elicit, ElicitationResult, Resolve
from mcp_types import CallToolResult
from pydantic import Field

from orchestration.errors import ControlPendingError, InvalidArgumentError, OrchestrationError
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server import control
from server.answers import SHORT, clip, json_size, plural, take, tell
from server.desk import DeskContext, desk
from server.schemas import Control, ControlAnswer, Decision, Name, Outcome, Standing, TaskNames
from server.tools.approving import (
    Agreement,
    PersonsAnswer,
    Waiting,
    check_value,
    for_a_person,
    waiting_for_yes,
)
from server.tools.standing import fill, next_calls, sentence, standing_lines
from server.uris import orchestration_uri

ANSWER_SECONDS = 40.0
"""Longest wait for whoever carries a request out; what is stored is carried out after that, too."""
SHOWN_OUTCOMES = 20
BY = "caller"
"""Who decides, in the journal."""

_DONE = {
    "pause": "paused",
    "resume": "resumed",
    "cancel": "asked to end",
    "retry": "run again",
    "approve": "answered",
    "reject": "answered",
    "decide": "decided",
}
_PER_TASK = frozenset({"retry", "approve", "reject", "decide"})


async def ask_person(
    ctx: DeskContext,
    orchestration_id: str,
    waiting: Annotated[list[Waiting], Resolve(waiting_for_yes)],
) -> Elicit[PersonsAnswer] | None:
    """Ask the person at the client about the tasks that only a person may agree to."""
    return for_a_person(ctx, orchestration_id, waiting)


async def control_orchestration(
    ctx: DeskContext,
    orchestration_id: Name,
    action: Control,
    tasks: TaskNames = None,
    value: Decision = None,
    reason: Annotated[str, Field(max_length=1000)] = "",
    *,
    waiting: Annotated[list[Waiting], Resolve(waiting_for_yes)],
    person: Annotated[ElicitationResult[PersonsAnswer], Resolve(ask_person)],
) -> Annotated[CallToolResult, ControlAnswer]:
    """Change what an orchestration does, whichever process drives it. pause: what runs may finish, nothing starts. \
resume: go on. cancel: end it, running attempts included. retry: run failed and cancelled tasks again (all, or those \
in tasks) with what depends on them.

approve, reject: tasks that wait for a yes to exactly what view=approvals shows. What only a person may agree to is \
put to the person where your client can ask; else show the user the command. Never agree in a person's name.

decide: tasks that wait because nobody knows whether their last attempt took effect, or how to go on. value: done (it \
happened, or you did it), retry (run it again), failed (give it up). Find out first: a wrong done loses work, a wrong \
retry repeats it.

Outcome per target: done, refused, or pending (stored; carried out as soon as its driver can)."""
    names = list(dict.fromkeys(tasks or ()))
    _check(action, names, value)
    here = desk(ctx)
    orchestrator = here.orchestrator
    match action:
        case "decide":
            outcomes = await _each(names, _deciding(orchestrator, orchestration_id, value, reason))
        case "approve" | "reject":
            agreement = Agreement(orchestrator, orchestration_id, action, value, reason, waiting, person)
            outcomes = await _each(names, agreement.carry_out)
        case _:
            outcomes = await _ask(orchestrator, orchestration_id, action, names, reason)
    if control.is_driven_here(here.orchestrator, orchestration_id):
        here.follow(orchestration_id)
    status = await here.orchestrator.load_status(orchestration_id)
    return _tell(action, outcomes, status)


def _tell(action: str, outcomes: Sequence[Outcome], status: Mapping[str, Any]) -> CallToolResult:
    """Return what became of each target, and how the orchestration stands now."""
    standing = Standing(message="")
    fill(standing, status)
    name = status["orchestration_id"]
    shown = take(outcomes[:SHOWN_OUTCOMES], json_size)
    answer = ControlAnswer(
        message=f"{_summary(action, outcomes)} {sentence(status)}",
        orchestration_id=name,
        action=action,
        outcomes=shown,
        more_outcomes=len(outcomes) - len(shown) or None,
        state=status["state"],
        counts=standing.counts or {},
        last_seq=status["last_seq"],
        next=next_calls(status),
    )
    lines = [
        f"{each.target}: {'' if each.outcome == 'done' else f'{each.outcome}: '}{each.detail}"
        for each in answer.outcomes
    ]
    if answer.more_outcomes:
        lines.append(f"… {plural(answer.more_outcomes, 'more task')}")
    lines += standing_lines(standing)
    return tell(answer, lines, limit=SHORT, rest=orchestration_uri(name))


def _check(action: str, tasks: Sequence[str], value: Decision) -> None:
    """Refuse what does not belong together.

    Raises:
        InvalidArgumentError: An argument is missing, or means nothing beside this action.
    """
    if action in {"approve", "reject"}:
        if not tasks:
            raise InvalidArgumentError("tasks", list(tasks), f"the tasks to {action}", "Name at least one.")
        check_value(action, value)
        return
    if action == "decide":
        if not tasks:
            raise InvalidArgumentError(
                "tasks", list(tasks), "the tasks to decide about", "Name at least one."
            )
        if value is None or value.decision is None:
            raise InvalidArgumentError("value", None, "retry, done or failed", "Say what became of them.")
        return
    if value is not None:
        given = value.decision or value.digest
        raise InvalidArgumentError("value", given, "action=decide or approve beside it", "Leave it out.")
    if tasks and action != "retry":
        expected = "action=retry, approve, reject or decide beside it"
        raise InvalidArgumentError(
            "tasks", list(tasks), expected, f"Leave it out: {action} is for the whole orchestration."
        )


async def _ask(
    orchestrator: AdvancedTaskOrchestrator, name: str, action: str, tasks: Sequence[str], reason: str
) -> list[Outcome]:
    """Put a request for the whole orchestration, and tell what became of it.

    Raises:
        StateError: It was refused.
    """
    again: Sequence[str] = ()
    with anyio.move_on_after(ANSWER_SECONDS) as waiting:
        try:
            match action:
                case "pause":
                    await orchestrator.pause(name, reason)
                case "resume":
                    await orchestrator.resume(name)
                case "cancel":
                    await control.cancel(orchestrator, name, reason)
                case _:
                    again = await orchestrator.retry(name, tasks, reason)
        except ControlPendingError as pending:
            return [Outcome(target=name, outcome="pending", detail=clip(str(pending)))]
    if waiting.cancelled_caught:
        return [_unanswered(name)]
    targets = again if action == "retry" else [name]
    return [Outcome(target=target, outcome="done", detail=_DONE[action]) for target in targets]


def _deciding(
    orchestrator: AdvancedTaskOrchestrator, name: str, value: Decision, reason: str
) -> Callable[[str], Awaitable[str]]:
    """Return what decides about one task."""
    decision = value.decision if value is not None else None
    assert value is not None, "checked before"
    assert decision is not None, "checked before"

    async def decide(task_id: str) -> str:
        await orchestrator.decide(name, task_id, decision, output=value.output, reason=reason, by=BY)
        return f"decided: {decision}"

    return decide


async def _each(tasks: Sequence[str], carry_out: Callable[[str], Awaitable[str]]) -> list[Outcome]:
    """Have something done about each task, all at once, and tell what became of each.

    Raises:
        OrchestrationError: All were refused for one and the same reason.
    """
    found: dict[str, Outcome] = {}
    refusals: list[OrchestrationError] = []

    async def do(task_id: str) -> None:
        try:
            told = await carry_out(task_id)
        except ControlPendingError as pending:
            found[task_id] = Outcome(target=task_id, outcome="pending", detail=clip(str(pending)))
        except OrchestrationError as refusal:
            refusals.append(refusal)
            told = clip(f"{refusal.code}: {refusal}")
            found[task_id] = Outcome(target=task_id, outcome="refused", detail=told)
        else:
            found[task_id] = Outcome(target=task_id, outcome="done", detail=told)

    with anyio.move_on_after(ANSWER_SECONDS):
        async with anyio.create_task_group() as doing:
            for task_id in tasks:
                doing.start_soon(do, task_id)
    if len(refusals) == len(tasks) and len(set(map(str, refusals))) == 1:
        raise refusals[0]
    return [found.get(task_id) or _unanswered(task_id) for task_id in tasks]


def _unanswered(target: str) -> Outcome:
    return Outcome(target=target, outcome="pending", detail="There is no answer yet; look at its status.")


def _summary(action: str, outcomes: Sequence[Outcome]) -> str:
    """Say what was done, in one sentence."""
    done = sum(each.outcome == "done" for each in outcomes)
    if done == len(outcomes):
        return f"{plural(done, 'task')} {_DONE[action]}." if action in _PER_TASK else "Done."
    if action in _PER_TASK - {"retry"}:
        refused = sum(each.outcome == "refused" for each in outcomes)
        parts = [f"{done} of {plural(len(outcomes), 'task')} {_DONE[action]}"]
        parts += [f"{refused} refused"] if refused else []
        parts += [f"{len(outcomes) - done - refused} pending"] if len(outcomes) > done + refused else []
        return f"{', '.join(parts)}."
    return "Asked for, and not carried out yet."
