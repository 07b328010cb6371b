"""Turns a DAG a caller hands over into a new orchestration: validated, routed, and ready to be stored.

May import: orchestration.{dag, dag_file, errors, fallbacks, models, options, ports, validation, systems},
orchestration.engine.*, orchestration.execution.views, orchestration.reuse, stdlib.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic_core import to_jsonable_python

from orchestration.dag import TaskDAG
from orchestration.dag_file import dag_to_json
from orchestration.engine.events import OrchestrationSubmitted, Recorded
from orchestration.engine.inputs import TaskDefaults
from orchestration.engine.scheduler import AdaptiveTaskScheduler, SlotPool
from orchestration.engine.state import State, replay
from orchestration.errors import InvalidArgumentError
from orchestration.execution.views import row_of, summary_of
from orchestration.fallbacks import fallback_nodes
from orchestration.models import (
    MAX_NESTING,
    Json,
    JsonObject,
    OrchestrationId,
    OrchestrationMode,
    PlanId,
    TaskId,
    is_unicode,
    nests_too_deeply,
)
from orchestration.options import OrchestratorOptions
from orchestration.ports import DriverIdentity, NewOrchestration
from orchestration.reuse import Earlier, Reused, reused_from
from orchestration.systems.fingerprints import SEE_ARGUMENTS_ONLY, needs_of
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.router import Routing, route, routed_dag
from orchestration.validation import normalized

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_MAX_KEY_CHARS = 200
_MAX_BASE_CHARS = 60
"""Of the speaking part of an id: long enough to tell, short enough to type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A DAG and how it is to be run."""

    dag: TaskDAG
    mode: OrchestrationMode
    context: Mapping[str, Json]
    goal: str
    key: str | None = None
    plan_id: PlanId | None = None
    orchestration_id: OrchestrationId | None = None
    can_replan: bool = False
    asks_caller: bool = False
    """Whether somebody is there who can say how to go on when a task failed and no alternative is found."""
    allows_agent: bool = False
    """Whether what nothing else can run is offered to agents."""
    is_planning: bool = False
    """Whether the plan is still being made; the DAG is empty then."""
    reuse: Earlier | None = None
    """An orchestration whose results may be used."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A new orchestration, and the state it begins in."""

    new: NewOrchestration
    state: State
    warnings: list[str]


async def prepare(
    submission: Submission,
    registry: SystemRegistry,
    options: OrchestratorOptions,
    holder: DriverIdentity,
    now_us: int,
) -> Prepared:
    """Check everything about a submission; nothing is stored or started.

    Raises:
        InvalidDagError: The DAG has mistakes; all of them are listed.
        UnroutableTaskError: Nothing could run some of the tasks.
        InvalidArgumentError: The id, the key or the context can't be used.
    """
    _check_names(submission)
    dag = submission.dag.copy() if submission.is_planning else normalized(submission.dag, options.limits)
    if submission.goal and not dag.goal:
        dag.goal = submission.goal
    routing = await route(dag, registry, allows_agent=submission.allows_agent)
    dag = routed_dag(dag, routing)
    dag_json = dag_to_json(dag)
    dag_sha256 = hashlib.sha256(dag_json).hexdigest()
    context = plain_context(submission.context)
    submitted = OrchestrationSubmitted(
        dag_sha256=dag_sha256,
        mode=submission.mode,
        context=context,
        routes=dict(routing.routes),
        others=routing.others,
        fallback_routes=routing.fallbacks,
        reasons=routing.reasons,
        defaults=TaskDefaults(
            max_retries=options.max_retries,
            backoff_factor=options.backoff_factor,
            timeout_seconds=options.task_timeout_seconds,
        ),
        can_replan=submission.can_replan,
        asks_caller=submission.asks_caller,
        allows_agent=submission.allows_agent,
        is_planning=submission.is_planning,
        timeout_seconds=dag.timeout_seconds or options.orchestration_timeout_seconds,
    )
    state = replay("", dag, [Recorded(orchestration_id="", seq=1, at_us=now_us, event=submitted)])
    needs = _needs(dag, routing, registry)
    earlier = submission.reuse
    controllers = {name for name in registry if registry.get(name).kind not in SEE_ARGUMENTS_ONLY}
    reused = Reused() if earlier is None else await reused_from(earlier, state, needs, controllers, now_us)
    request: JsonObject = {
        "dag": dag_sha256,
        "mode": submission.mode.value,
        "context": context,
        "goal": submission.goal,
    }
    if earlier is not None:
        request["reuse"] = earlier.orchestration_id
    new = NewOrchestration(
        base_id=base_id(dag.dag_id or submission.goal),
        orchestration_id=submission.orchestration_id,
        key=submission.key,
        request_sha256=hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest(),
        goal=submission.goal or dag.goal,
        mode=submission.mode,
        dag_id=dag.dag_id,
        dag_json=dag_json,
        dag_sha256=dag_sha256,
        plan_id=submission.plan_id,
        created_at_us=now_us,
        holder=holder,
        first_events=[submitted, *reused.events],
        needs=needs,
        reused=reused.outputs,
        tasks=[row_of(task) for task in state.tasks.values()],
        summary=summary_of(state, AdaptiveTaskScheduler(SlotPool(options.concurrency))),
    )
    return Prepared(new, state, [*routing.warnings, *reused.notes])


def _needs(dag: TaskDAG, routing: Routing, registry: SystemRegistry) -> dict[str, dict[str, str]]:
    """Return what the tasks, their fallbacks and what looks at their results need to run."""
    routes: dict[TaskId, str] = dict(routing.routes)
    tools: dict[TaskId, str | None] = {task_id: node.tool for task_id, node in dag.nodes.items()}
    for task_id, systems in routing.fallbacks.items():
        for number, fallback in enumerate(fallback_nodes(dag.nodes[task_id])):
            place = f"{task_id}.fallback[{number}]"  # no task is called so
            routes[place], tools[place] = systems[number], fallback.tool
    for task_id, system in routing.checks.items():
        acceptance = dag.nodes[task_id].acceptance
        if acceptance is not None:
            place = f"{task_id}.acceptance"
            routes[place], tools[place] = system, acceptance.tool
    return needs_of(routes, tools, registry)


def base_id(text: str) -> str:
    """Return the speaking part of an id made of any text: lower-case letters, digits and single dashes."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return slug[:_MAX_BASE_CHARS].rstrip("-") or "orchestration"


def _check_names(submission: Submission) -> None:
    chosen = submission.orchestration_id
    if chosen is not None and not (isinstance(chosen, str) and _ID.fullmatch(chosen)):
        expected = "a letter or digit, then letters, digits, `_` and `-`, at most 100 characters"
        raise InvalidArgumentError("orchestration_id", chosen, expected)
    key = submission.key
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= _MAX_KEY_CHARS and is_unicode(key)):
        raise InvalidArgumentError("key", key, f"1 to {_MAX_KEY_CHARS} Unicode characters")
    goal = submission.goal
    if not (isinstance(goal, str) and is_unicode(goal)):
        raise InvalidArgumentError("goal", goal, "a text of Unicode characters")


def plain_context(context: Mapping[str, Json]) -> dict[str, Json]:
    """Return the context as JSON, so that it is the same live and after a restart.

    Raises:
        InvalidArgumentError: JSON can't hold it, or it is nested too deeply to be read back.
    """
    if not isinstance(context, Mapping):
        raise InvalidArgumentError("context", context, "an object")
    try:
        text = json.dumps(to_jsonable_python(dict(context)), allow_nan=False, ensure_ascii=False)
        plain = json.loads(text.encode("utf-8"))
    except (ValueError, TypeError, RecursionError) as exc:
        raise InvalidArgumentError("context", context, f"an object that JSON can hold ({exc})") from exc
    assert isinstance(plain, dict), "made from a mapping"
    if nests_too_deeply(plain):
        expected = f"at most {MAX_NESTING} lists and objects inside each other"
        raise InvalidArgumentError("context", context, expected, "make it flatter.")
    return plain
