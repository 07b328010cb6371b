"""The tool `control_orchestration`: pause, resume, cancel, retry, decide; for orchestrations of any process.

May import: orchestration, server.{answers, control, desk, schemas, tools.*, uris}, anyio, mcp types, pydantic, stdlib.

What is refused for the only target is a failed call; of several targets each has its own outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import anyio
from mcp_types import CallToolResult
from pydantic import Field

from orchestration.errors import ControlPendingError, InvalidArgumentError, OrchestrationError
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server import control
from server.answers import SHORT, clip, json_size, plural, take, tell
from server.desk import DeskContext, desk
from server.schemas import Control, ControlAnswer, Decision, Name, Outcome, Standing, TaskNames
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
    "decide": "decided",
}


async def control_orchestration(
    ctx: DeskContext,
    orchestration_id: Name,
    action: Control,
    tasks: TaskNames = None,
    value: Decision = None,
    reason: Annotated[str, Field(max_length=1000)] = "",
) -> Annotated[CallToolResult, ControlAnswer]:
    """Change what an orchestration does, whichever process drives it. pause: what runs may finish, nothing starts. \
resume: go on after a pause, or when no process drives it. cancel: end it, running attempts included. retry: run \
failed and cancelled tasks again (all, or those in tasks) with what depends on them; completed ones stay.

decide: for tasks that wait for a decision, because nobody knows whether their last attempt took effect. value: done \
(it happened; give its output as {"decision": "done", "output": …}), retry (it did not: run it again), failed (give it \
up). Find out before you decide: a wrong done loses work, a wrong retry repeats it.

Answers with an outcome per target: done, refused, or pending (stored; carried out as soon as its driver can)."""
    names = list(dict.fromkeys(tasks or ()))
    _check(action, names, value)
    here = desk(ctx)
    if action == "decide":
        outcomes = await _decide(here.orchestrator, orchestration_id, names, value, reason)
    else:
        outcomes = await _ask(here.orchestrator, orchestration_id, action, names, reason)
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
    if action == "decide":
        if not tasks:
            raise InvalidArgumentError(
                "tasks", list(tasks), "the tasks to decide about", "Name at least one."
            )
        if value is None:
            raise InvalidArgumentError("value", None, "retry, done or failed", "Say what became of them.")
        return
    if value is not None:
        raise InvalidArgumentError("value", value.decision, "action=decide beside it", "Leave it out.")
    if tasks and action != "retry":
        expected = "action=retry or action=decide beside it"
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


async def _decide(
    orchestrator: AdvancedTaskOrchestrator, name: str, tasks: Sequence[str], value: Decision, reason: str
) -> list[Outcome]:
    """Decide about each task, all at once, and tell what became of each.

    Raises:
        OrchestrationError: All were refused for one and the same reason.
    """
    assert value is not None, "checked before"
    decision = value.decision
    found: dict[str, Outcome] = {}
    refusals: list[OrchestrationError] = []

    async def decide(task_id: str) -> None:
        try:
            await orchestrator.decide(name, task_id, decision, output=value.output, reason=reason, by=BY)
        except ControlPendingError as pending:
            found[task_id] = Outcome(target=task_id, outcome="pending", detail=clip(str(pending)))
        except OrchestrationError as refusal:
            refusals.append(refusal)
            told = clip(f"{refusal.code}: {refusal}")
            found[task_id] = Outcome(target=task_id, outcome="refused", detail=told)
        else:
            found[task_id] = Outcome(target=task_id, outcome="done", detail=f"decided: {decision}")

    with anyio.move_on_after(ANSWER_SECONDS):
        async with anyio.create_task_group() as deciding:
            for task_id in tasks:
                deciding.start_soon(decide, task_id)
    if len(refusals) == len(tasks) and len(set(map(str, refusals))) == 1:
        raise refusals[0]
    return [found.get(task_id) or _unanswered(task_id) for task_id in tasks]


def _unanswered(target: str) -> Outcome:
    return Outcome(target=target, outcome="pending", detail="There is no answer yet; look at its status.")


def _summary(action: str, outcomes: Sequence[Outcome]) -> str:
    """Say what was done, in one sentence."""
    done = sum(each.outcome == "done" for each in outcomes)
    if done == len(outcomes):
        return f"{plural(done, 'task')} {_DONE[action]}." if action in {"retry", "decide"} else "Done."
    if action == "decide":
        refused = sum(each.outcome == "refused" for each in outcomes)
        parts = [f"{done} of {plural(len(outcomes), 'task')} decided"]
        parts += [f"{refused} refused"] if refused else []
        parts += [f"{len(outcomes) - done - refused} pending"] if len(outcomes) > done + refused else []
        return f"{', '.join(parts)}."
    return "Asked for, and not carried out yet."
