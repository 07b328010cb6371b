"""Asks the caller's own `sequential_thinking` collaborator, whatever it is like, for a plan or an alternative.

May import: orchestration.{errors, logs, models}, orchestration.planning.{caller_plan, proposal}, anyio, stdlib.

The collaborator is duck-typed and not ours: any method may be absent, plain or async, raise, hang or answer anything.
What can't be used is said and passed over; it never fails a plan.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from orchestration.errors import InvalidDagError, SystemUnavailableError
from orchestration.planning.caller_plan import read_caller_plan
from orchestration.planning.draft_values import from_json_text
from orchestration.planning.proposal import PlanRequest, Proposal, ThoughtTrail
from orchestration.planning.thoughts import read_thoughts

ANSWER_TIMEOUT_SECONDS = 300.0
"""A collaborator may think with a language model; one that says nothing for five minutes will not."""

COMPLEXITY_THRESHOLD = 5.0
"""Handed to the collaborator: goals it finds less complex need no decomposition."""

PLAN_METHOD = "analyze_task_decomposition"


def has_method(collaborator: object, name: str) -> bool:
    """Whether a collaborator can be asked."""
    return collaborator is not None and callable(getattr(collaborator, name, None))


async def ask(
    collaborator: object, name: str, timeout_seconds: float = ANSWER_TIMEOUT_SECONDS, **arguments: Any
) -> object:
    """Call a collaborator's method, plain (in a thread, so that it holds nothing up) or async.

    Raises:
        SystemUnavailableError: It raised or did not answer in time.
    """
    method = getattr(collaborator, name)
    try:
        with anyio.fail_after(timeout_seconds):
            if inspect.iscoroutinefunction(method):
                return await method(**arguments)
            answer = await anyio.to_thread.run_sync(partial(method, **arguments), abandon_on_cancel=True)
            return await answer if inspect.isawaitable(answer) else answer
    except TimeoutError as exc:
        raise SystemUnavailableError(name, f"it did not answer within {timeout_seconds:g} s") from exc
    except Exception as exc:  # the caller's code may raise anything
        raise SystemUnavailableError(name, f"it raised {type(exc).__name__}: {exc}") from exc


async def propose_by_collaborator(
    collaborator: object,
    request: PlanRequest,
    trail: ThoughtTrail,
    *,
    timeout_seconds: float = ANSWER_TIMEOUT_SECONDS,
) -> Proposal | None:
    """Return the collaborator's plan, or None with the reason in the notes; None without one where it can't plan."""
    if not has_method(collaborator, PLAN_METHOD):
        return None
    asked = await trail.think(f"The collaborator's {PLAN_METHOD} is asked first.")
    try:
        answer = await ask(
            collaborator,
            PLAN_METHOD,
            timeout_seconds,
            goal=request.goal,
            context=dict(request.context),
            complexity_threshold=COMPLEXITY_THRESHOLD,
        )
        proposal = await _read(answer, request, trail)
    except SystemUnavailableError as exc:
        reason = exc.reason
    except InvalidDagError as exc:
        reason = f"its answer is no plan ({exc.problems[0]})"
    else:
        return proposal
    trail.notes.append(f"The sequential_thinking collaborator was passed over: {reason}.")
    await trail.think(f"The collaborator is of no help: {reason}.", revises=asked)
    return None


async def _read(answer: object, request: PlanRequest, trail: ThoughtTrail) -> Proposal:
    plain = from_json_text(answer, "{")
    if not isinstance(plain, Mapping) or "tasks" not in plain:
        raise SystemUnavailableError(PLAN_METHOD, f"it answered {type(answer).__name__} without tasks")
    plan = {key: plain[key] for key in ("tasks", "edges", "delivers") if plain.get(key) is not None}
    read = read_caller_plan(plan, goal=request.goal, limits=request.limits)
    if len(read.dag.nodes) > request.max_tasks:
        told = f"its plan has {len(read.dag.nodes)} tasks and max_tasks is {request.max_tasks}"
        raise SystemUnavailableError(PLAN_METHOD, told)
    for thought in read_thoughts(plain.get("thoughts"), lenient=True):
        await trail.take(thought)
    notes = ("Planned by the sequential_thinking collaborator.", *read.notes)
    return Proposal(dag=read.dag, planner="sequential_thinking", notes=notes)
