"""Alternative plans for failed tasks: how any is read, those of the caller's collaborator, and who is asked in turn.

May import: orchestration.{dag, errors, logs, options, ports}, orchestration.planning.*, stdlib.

The answer has the shape of any plan: `{"tasks": […], "edges"?: […], "delivers"?: id}`. Its references may name the
upstreams of the failed task, whose edges its roots inherit. What can't be used is logged with the reason and counts
as no alternative.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from orchestration.dag import TaskDAG
from orchestration.errors import InvalidDagError, Problem, SystemUnavailableError
from orchestration.logs import get_logger
from orchestration.options import Limits
from orchestration.planning.caller_plan import read_caller_plan
from orchestration.planning.collaborator_planner import ANSWER_TIMEOUT_SECONDS, ask, has_method
from orchestration.planning.draft_values import from_json_text
from orchestration.ports import AlternativeRequest, Replanner

REPLAN_METHOD = "generate_alternative_plan"

DELIVERS = "delivers"
"""Key of the DAG's metadata under which stands the task whose output takes the place of the failed one's."""

REASON = "reason"
"""Key of the DAG's metadata under which stands why the alternative will do better, where its maker said so."""

_log = get_logger()


class FirstReplanner:
    """Asks several replanners, one after the other, until one has an alternative.

    Args:
        replanners: In the order in which they are trusted.
    """

    def __init__(self, replanners: Sequence[Replanner]) -> None:
        self._replanners = tuple(replanners)

    async def alternative(self, request: AlternativeRequest) -> TaskDAG | None:
        """Return the first alternative there is, or None."""
        for replanner in self._replanners:
            dag = await replanner.alternative(request)
            if dag is not None:
                return dag
        return None


def read_alternative(answer: Mapping[str, object], request: AlternativeRequest, limits: Limits) -> TaskDAG:
    """Make a sub-DAG with one delivering task of a draft: `tasks`, and perhaps `edges` and `delivers`.

    Raises:
        InvalidDagError: The draft has mistakes; all are listed, each with a fix.
    """
    plan = {key: answer[key] for key in ("tasks", "edges", "delivers") if answer.get(key) is not None}
    read = read_caller_plan(
        plan,
        goal=request.goal,
        dag_id=request.task.task_id,
        limits=limits,
        upstreams=tuple(request.inputs),
    )
    dag = read.dag
    sources = {edge.source_task_id for edge in dag.edges}
    leaves = [
        task_id for task_id, task in dag.nodes.items() if task_id not in sources and task.parent is None
    ]
    delivers = read.delivers or (leaves[0] if len(leaves) == 1 else None)
    if delivers is None:
        told = f"is missing, and the plan ends in {len(leaves)} tasks ({', '.join(leaves[:5])})."
        fix = f"Name the task whose output stands for that of {request.task.task_id!r}."
        raise InvalidDagError([Problem("delivers", told, fix)])
    dag.metadata = {**dag.metadata, DELIVERS: delivers}
    return dag


def has_replanner(collaborator: object) -> bool:
    """Whether a collaborator can be asked for alternatives."""
    return has_method(collaborator, REPLAN_METHOD)


class CollaboratorReplanner:
    """A `Replanner` over a duck-typed collaborator.

    Args:
        sequential_thinking: The collaborator; its method may be absent, plain or async.
        timeout_seconds: How long one answer may take.
        limits: Bounds on an alternative.
    """

    def __init__(
        self,
        sequential_thinking: object,
        *,
        timeout_seconds: float = ANSWER_TIMEOUT_SECONDS,
        limits: Limits | None = None,
    ) -> None:
        self._collaborator = sequential_thinking
        self._timeout_seconds = timeout_seconds
        self._limits = limits or Limits()

    async def alternative(self, request: AlternativeRequest) -> TaskDAG | None:
        """Return a sub-DAG with one delivering task, or None.

        Which task delivers stands in the DAG's metadata under `delivers`.
        """
        if not has_replanner(self._collaborator):
            return None
        try:
            answer = await ask(
                self._collaborator,
                REPLAN_METHOD,
                self._timeout_seconds,
                failed_task=request.task,
                context=_context(request),
                available_resources={"systems": list(request.systems)},
            )
            return None if answer is None else self._read(answer, request)
        except SystemUnavailableError as exc:
            reason = exc.reason
        except InvalidDagError as exc:
            reason = str(exc)
        _log.warning(
            "Alternative plan passed over",
            operation="ALTERNATIVE_PLAN_REFUSED",
            orchestration_id=request.orchestration_id,
            task_id=request.task.task_id,
            reason=reason,
        )
        return None

    def _read(self, answer: object, request: AlternativeRequest) -> TaskDAG:
        plain = from_json_text(answer, "{")
        if not isinstance(plain, Mapping) or "tasks" not in plain:
            raise SystemUnavailableError(REPLAN_METHOD, f"it answered {type(answer).__name__} without tasks")
        dag = read_alternative(plain, request, self._limits)
        if isinstance(plain.get(REASON), str) and plain[REASON].strip():
            dag.metadata = {**dag.metadata, REASON: plain[REASON].strip()}
        return dag


def _context(request: AlternativeRequest) -> dict[str, object]:
    """Return what the collaborator is told: the orchestration's context, and beside it how things stand."""
    return {
        **request.context,
        "goal": request.goal,
        "orchestration_id": request.orchestration_id,
        "error": dataclasses.asdict(request.error),
        "completed_tasks": list(request.completed),
        "inputs": dict(request.inputs),
    }
