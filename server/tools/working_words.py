"""What `claim_task` and `report_task` answer, in words: the brief, why there is nothing, what a report came to.

May import: orchestration, server.{answers, schemas, work_answers}, mcp types, stdlib. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcp_types import CallToolResult

from orchestration.claim_records import Claim
from orchestration.models import Json, OrchestrationStatus
from orchestration.work_desk import NoWork, Reported
from server.answers import clip, counts_line, plural, tell
from server.schemas import Call
from server.work_answers import ClaimAnswer, ReportAnswer

BRIEF_LIMIT = 4_500
"""Characters of an answer with a brief, which has up to 3,000 itself."""
WAIT_SECONDS = 30
"""How long the suggested next call waits for work."""
SHOWN_SKILLS = 5
SHOWN_UNBLOCKED = 10
SHOWN_OWN = 5
"""Claims a worker holds that are told to it when there is nothing else."""

_STALE = {
    "taken": "{holder} has it now",
    "cancelled": "it was cancelled",
    "changed": "it was changed, or offered anew",
    "settled": "it has been settled otherwise",
}
"""Why what was reported does not count any more."""
_ENDED = {
    "done": "reported done",
    "failed": "reported failed",
    "blocked": "reported blocked",
    "released": "given back",
}
"""What a claim is after the report that ended it."""


def tell_claim(claim: Claim) -> CallToolResult:
    """Return the task a worker has now, with its brief; lines of the brief are marked, for it quotes others."""
    answer = ClaimAnswer(
        message=f"You have task {claim.task_id} of {claim.orchestration_id} now (attempt {claim.attempt}): report at "
        f"least every {claim.lease_seconds:g} s.",
        claim=claim.claim_id,
        task=claim.task_id,
        orchestration_id=claim.orchestration_id,
        attempt=claim.attempt,
        lease_seconds=claim.lease_seconds,
        brief=claim.brief,
        next=[_report(claim, "progress"), _report(claim, "done")],
    )
    lines = [f"claim: {claim.claim_id}", *(f"| {line}" for line in claim.brief.splitlines())]
    lines.append("report done with the output, a summary, and evidence of it")
    return tell(answer, lines, limit=BRIEF_LIMIT, rest="the structured content has the whole brief")


# --- Nothing to give out ----------------------------------------------------------------------------------------------


def tell_no_work(
    found: NoWork,
    worker: str,
    orchestration_id: str,
    skills: Sequence[str] = (),
    own: Sequence[Claim] = (),
) -> CallToolResult:
    """Return why there is nothing for a worker, and what to call next.

    Args:
        found: What there is for others.
        worker: Who asked.
        orchestration_id: The only one that was asked about; empty for whichever.
        skills: What the worker has.
        own: Claims it holds already: it may have forgotten them.
    """
    lacking = list(found.lacking)[:SHOWN_SKILLS]
    again: dict[str, Json] = {"worker": worker}
    if orchestration_id:
        again["orchestration_id"] = orchestration_id
    if skills or lacking:
        again["skills"] = list(dict.fromkeys([*skills, *lacking]))
    again["wait_seconds"] = WAIT_SECONDS
    look = {"orchestration_id": orchestration_id} if orchestration_id else {}
    following = [Call(tool="get_orchestration_status", arguments=look)]
    if found.unfinished:
        following.insert(0, Call(tool="claim_task", arguments=again))
    offers: dict[str, Json] = {
        "open": found.open,
        "claimed": found.claimed,
        "avoided": found.avoided,
        "lacking": dict(found.lacking),
        "unfinished_orchestrations": found.unfinished,
    }
    where = f" in {orchestration_id}" if orchestration_id else ""
    answer = ClaimAnswer(
        message=f"Nothing for {clip(worker, 60)}{where} now: {_why_none(found)}.",
        offers={name: value for name, value in offers.items() if value} or None,
        yours={each.claim_id: f"{each.orchestration_id}/{each.task_id}" for each in own[:SHOWN_OWN]} or None,
        next=following,
    )
    lines = [
        f"asked for: {clip(skill, 100)}, by {plural(count, 'offered task')}"
        for skill, count in found.lacking.items()
    ]
    if lines:
        lines.append("pass in skills those you have")
    lines += [
        f"yours already: task {each.task_id} of {each.orchestration_id}, {each.claim_id}"
        for each in own[:SHOWN_OWN]
    ]
    return tell(answer, lines)


def tell_ended(worker: str, orchestration_id: str, state: str) -> CallToolResult:
    """Return that an orchestration has ended, so that nothing of it is given out any more."""
    answer = ClaimAnswer(
        message=f"Nothing for {clip(worker, 60)}: {clip(orchestration_id, 100)} is {state}.",
        next=[
            Call(tool="get_orchestration_status", arguments={"orchestration_id": orchestration_id}),
            Call(tool="claim_task", arguments={"worker": worker}),
        ],
    )
    return tell(answer)


def _why_none(found: NoWork) -> str:
    reasons = []
    if found.lacking:
        reasons.append("tasks are offered that ask for skills you did not name")
    if found.avoided:
        reasons.append(
            f"{plural(found.avoided, 'offered task')} you failed or gave back, so others may try first"
        )
    if found.open and not reasons:
        verb = "is" if found.open == 1 else "are"
        reasons.append(f"{plural(found.open, 'task')} {verb} offered, but paused, or for others to try first")
    if found.claimed:
        verb = "is" if found.claimed == 1 else "are"
        reasons.append(f"{plural(found.claimed, 'task')} {verb} claimed already")
    if reasons:
        return "; ".join(reasons)
    if found.unfinished:
        verb = "goes" if found.unfinished == 1 else "go"
        return f"no task is offered, and {plural(found.unfinished, 'orchestration')} {verb} on"
    return "nothing is unfinished"


# --- Reports ----------------------------------------------------------------------------------------------------------


def tell_report(
    reported: Reported, status: str, standing: Mapping[str, Any] | None, *, replaced_by: int = 0
) -> CallToolResult:
    """Return what a report came to, and what to call next.

    Args:
        reported: What became of it.
        status: What was reported.
        standing: Where the orchestration stands, unless the task is still its worker's.
        replaced_by: How many subtasks were sent.
    """
    verdict, claim = reported.verdict, reported.verdict.claim
    goes_on = verdict.is_accepted and claim.state == "active"
    is_done = claim.state == "done"
    answer = ReportAnswer(
        message=_sentence(_said(reported, status, replaced_by)),
        outcome="accepted" if verdict.is_accepted else "stale",
        task=claim.task_id,
        orchestration_id=claim.orchestration_id,
        lease_seconds=claim.lease_seconds if goes_on else None,
        verified=claim.is_accepted if is_done else None,
        unblocked=list(reported.unblocked[:SHOWN_UNBLOCKED]) or None,
        late=verdict.is_late or None,
        repeated=verdict.is_repeated or None,
        reason=clip(_why(reported)) or None,
        holder=verdict.holder,
        next=[_report(claim, "done")] if goes_on else _after(claim, standing),
    )
    lines = []
    if is_done and verdict.is_accepted:
        lines.append(f"verified: {_VERIFIED[claim.is_accepted]}")
    if reported.unblocked:
        more = len(reported.unblocked) - SHOWN_UNBLOCKED
        also = f" and {more:,} more" if more > 0 else ""
        lines.append(f"may begin now: {', '.join(answer.unblocked or ())}{also}")
    if standing is not None:
        answer.state = standing["state"]
        answer.counts = {str(name): count for name, count in standing["counts"].items() if count}
        lines += [f"state: {answer.state}", counts_line(answer.counts)]
    return tell(answer, lines)


_VERIFIED = {True: "yes", False: "no", None: "not yet"}


def _why(reported: Reported) -> str:
    verdict, claim = reported.verdict, reported.verdict.claim
    if not verdict.is_accepted:
        return verdict.reason
    return reported.refusal or (claim.reason if claim.is_accepted is False else "")


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _said(reported: Reported, status: str, replaced_by: int) -> str:
    """Say in one sentence what a report came to."""
    verdict, claim = reported.verdict, reported.verdict.claim
    task = f"task {claim.task_id} of {claim.orchestration_id}"
    if not verdict.is_accepted:
        why = _STALE.get(verdict.reason, verdict.reason).format(holder=clip(verdict.holder or "another", 60))
        return f"Stale: {task} is not yours any more, {why}; what you sent is kept as a note."
    late = "Late, but nobody else had taken it: " if verdict.is_late else ""
    if verdict.is_repeated:
        was = _ENDED.get(claim.state, claim.state)
        return f"This claim of {task} had ended before: it was {was}, and nothing was done now."
    if reported.refusal:
        return f"{late}Your report on {task} is stored, but came to nothing: {clip(reported.refusal, 150)}"
    return late + _accepted(claim, status, task, replaced_by, is_heard=reported.is_heard)


def _accepted(claim: Claim, status: str, task: str, replaced_by: int, *, is_heard: bool) -> str:
    if claim.state == "active":
        return f"{task} is yours for another {claim.lease_seconds:g} s."
    if replaced_by:
        return f"{task} is replaced by {plural(replaced_by, 'task')}, and your claim has ended."
    if claim.state != "done":
        return {
            "failed": f"this attempt at {task} has failed; it may be tried again.",
            "blocked": f"{task} can't be done as it stands, as you said; it is not tried again.",
            "release": f"{task} is given back; somebody else may do it.",
        }.get(status, f"noted of {task}.")
    if claim.is_accepted is False:
        return f"reported, not accepted: {task} was not found to be done: {clip(claim.reason, 120) or 'no reason'}"
    if claim.is_accepted:
        return f"{task} is done."
    if is_heard:
        return f"{task} is reported done; that is being checked."
    return f"{task} is reported done, and that is kept; whoever drives it has not answered yet."


def _after(claim: Claim, standing: Mapping[str, Any] | None) -> list[Call]:
    """Return the next calls of a worker whose claim has ended: more work, and where the whole stands."""
    look = {"orchestration_id": claim.orchestration_id}
    calls = [
        Call(tool="claim_task", arguments={"worker": claim.worker}),
        Call(tool="get_orchestration_status", arguments=look),
    ]
    has_ended = standing is not None and OrchestrationStatus(standing["state"]).is_terminal
    return calls[::-1] if has_ended else calls


def _report(claim: Claim, status: str) -> Call:
    return Call(tool="report_task", arguments={"claim": claim.claim_id, "status": status})
