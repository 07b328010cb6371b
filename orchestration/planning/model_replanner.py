"""Alternative plans for failed tasks, by a language model.

May import: orchestration.{dag, errors, logs, models, options, ports}, orchestration.planning.*, pydantic_core, stdlib.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from pydantic_core import to_jsonable_python

from orchestration.dag import TaskDAG
from orchestration.errors import InvalidDagError, Problem, SystemUnavailableError
from orchestration.logs import get_logger
from orchestration.models import TaskNode
from orchestration.options import Limits
from orchestration.planning.draft_values import set_fields
from orchestration.planning.model_conversation import Question, converse
from orchestration.planning.model_options import ModelOptions
from orchestration.planning.model_prompts import bounded_data, told_systems
from orchestration.planning.proposal import FindTools, Spending, SystemTools, ThoughtTrail
from orchestration.planning.replanner import REASON, read_alternative
from orchestration.planning.sequential_thinking import OpenThinking
from orchestration.planning.tool_check import find_unknown_tools
from orchestration.ports import AlternativeRequest

MAX_TASKS = 10
"""Of one alternative: it takes the place of a single task."""

_MAX_INPUT_CHARS = 12_000
"""Of all inputs of the failed task, as the model sees them."""
_SHOWN_COMPLETED = 100
_LOGGED_CHARS = 300
_SAME = ("system_preference", "tool", "arguments", "description")

_log = get_logger()


class ModelReplanner:
    """A `Replanner` over a language model. The budgets of a plan hold for each alternative.

    Args:
        options: Which model, and what one alternative may take of it.
        find_tools: Asks the systems what they can do; when absent, the model knows their names only.
        thinking: Opens the Sequential Thinking server the thoughts go to; when absent, they go to the log alone.
        limits: Bounds on an alternative.
    """

    def __init__(
        self,
        options: ModelOptions,
        *,
        find_tools: FindTools | None = None,
        thinking: OpenThinking | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._options = options
        self._find_tools = find_tools
        self._thinking = thinking
        self._limits = limits or Limits()

    async def alternative(self, request: AlternativeRequest) -> TaskDAG | None:
        """Return a sub-DAG with one delivering task, or None.

        Which task delivers stands in the DAG's metadata under `delivers`, and why it will do better under `reason`.
        """
        try:
            found = await self._found(request)
        except SystemUnavailableError as exc:
            _passed_over(request, self._options.name, exc.reason)
            return None
        if isinstance(found, str):
            _passed_over(request, self._options.name, f"it sees no other way: {found}")
            return None
        return found

    async def _found(self, request: AlternativeRequest) -> TaskDAG | str:
        """Return an alternative, or why there is none."""
        tools = None if self._find_tools is None else await self._find_tools()
        up = None if tools is None else [each for each in tools if each.name in request.systems]
        read: list[TaskDAG | str] = []

        async def check(answer: Mapping[str, Any]) -> list[Problem]:
            read[:] = []
            if not answer.get("tasks") and _text(answer.get(REASON)):
                read.append(_text(answer[REASON]))
                return []
            try:
                dag = read_alternative(answer, request, self._limits)
            except InvalidDagError as exc:
                return list(exc.problems)
            problems = _problems(dag, request, up)
            if not problems:
                dag.metadata = {
                    **dag.metadata,
                    REASON: _text(answer.get(REASON)) or "the model names no reason",
                }
                read.append(dag)
            return problems

        question = Question(
            prompt="alternative",
            max_tasks=MAX_TASKS,
            data=_data(request, up),
            check=check,
            is_alternative=True,
        )
        trail = ThoughtTrail(expected=4)
        async with AsyncExitStack() as stack:
            await trail.think(
                f"Task {request.task.task_id!r} has failed ({request.error.message}); another way is looked for."
            )
            if self._thinking is not None:
                try:
                    await trail.attach(await stack.enter_async_context(self._thinking()))
                except SystemUnavailableError as exc:
                    trail.notes.append(f"The thoughts reached no server: {exc.reason}.")
            try:
                await converse(self._options, question, trail, Spending())
            finally:
                _log.info(
                    "Alternative thought about",
                    operation="ALTERNATIVE_THOUGHTS",
                    orchestration_id=request.orchestration_id,
                    task_id=request.task.task_id,
                    thoughts=[thought.text[:_LOGGED_CHARS] for thought in trail.thoughts],
                )
            await trail.finish()
        return read[0]


def _problems(dag: TaskDAG, request: AlternativeRequest, systems: list[SystemTools] | None) -> list[Problem]:
    """Return what is wrong with an alternative that is a valid DAG."""
    if len(dag.nodes) > MAX_TASKS:
        message = f"has {len(dag.nodes)} tasks; at most {MAX_TASKS} are allowed."
        return [Problem("tasks", message, "Plan more coarsely.")]
    only = next(iter(dag.nodes.values()))
    if len(dag.nodes) == 1 and _same(only, request.task):
        message = f"does what {request.task.task_id!r} did, which has failed."
        return [Problem("tasks[0]", message, "Find another way, or send no tasks and the reason.")]
    places = ((f"tasks[{index}]", node) for index, node in enumerate(dag.nodes.values()))
    return find_unknown_tools(places, systems)


def _same(one: TaskNode, other: TaskNode) -> bool:
    """Whether two tasks run the same; where tools are named, how they are described makes no difference."""
    fields = _SAME if other.tool is None else _SAME[:-1]
    return all(getattr(one, field) == getattr(other, field) for field in fields)


def _data(request: AlternativeRequest, systems: list[SystemTools] | None) -> dict[str, Any]:
    told = told_systems(systems, request.task.description) if systems is not None else list(request.systems)
    return {
        "goal": bounded_data(request.goal),
        "failed_task": bounded_data(to_jsonable_python(set_fields(request.task))),
        "error": bounded_data(to_jsonable_python(dataclasses.asdict(request.error))),
        "inputs": bounded_data(dict(request.inputs), limit=_MAX_INPUT_CHARS),
        "completed": list(request.completed)[:_SHOWN_COMPLETED],
        "context": bounded_data(dict(request.context)),
        "systems": told,
    }


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _passed_over(request: AlternativeRequest, model: str, reason: str) -> None:
    _log.warning(
        "Alternative plan passed over",
        operation="ALTERNATIVE_PLAN_REFUSED",
        orchestration_id=request.orchestration_id,
        task_id=request.task.task_id,
        model=model,
        reason=reason,
    )
