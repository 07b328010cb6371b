"""Plans by a language model: thinks step by step, plans, mends; whole, or handed out while the plan is being made.

May import: orchestration.{dag, errors, logs, models}, orchestration.planning.*, anyio, stdlib.

What the model says counts only once it has been read and validated like a caller's plan. It can name no system or tool
that is not there, repeat or change nothing that is fixed, and has a bounded number of attempts; after that the plan is
somebody else's to make.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from orchestration.dag import TaskDAG
from orchestration.errors import InvalidDagError, Problem
from orchestration.planning.caller_plan import CallerPlan
from orchestration.planning.drafts import check_tasks, is_repeated, moved, task_drafts
from orchestration.planning.model_conversation import Question, converse
from orchestration.planning.model_options import ModelOptions
from orchestration.planning.model_prompts import bounded_data, load_prompt, told_systems
from orchestration.planning.model_providers import require_extra
from orchestration.planning.proposal import (
    Draft,
    PartRequest,
    PlanRequest,
    Proposal,
    TaskBatch,
    TaskStream,
    ThoughtTrail,
)
from orchestration.planning.refinement import graft
from orchestration.planning.tool_check import find_unknown_tools

MAX_PARTS = 10
"""Of one task that is decomposed; what has more was not one task."""

_EMPTY = Problem("tasks", "is empty; expected at least one task.", "Send the tasks of the plan.")


class ModelPlanner:
    """A planner over a language model; fulfils `proposal.LanguageModel`.

    Args:
        options: Which model, and what one plan may take of it.

    Raises:
        ConfigurationError: The optional extra `model` is not installed.
    """

    def __init__(self, options: ModelOptions) -> None:
        require_extra()
        self.options = options
        self.name = f"model:{options.name}"
        self.starts_early = options.start_early

    async def propose(self, request: PlanRequest, trail: ThoughtTrail) -> Proposal:
        """Return a whole plan.

        Raises:
            SystemUnavailableError: The model made none that can be used; `reason` says why.
            ConfigurationError: The model can't be used as it is configured.
        """
        read: list[CallerPlan] = []

        async def check(answer: Mapping[str, Any]) -> list[Problem]:
            tasks = [task for task in _tasks(answer) if not is_repeated(task, request.existing)]
            if not tasks and not request.existing:
                return [_EMPTY]
            found, problems = check_tasks(tasks, request.existing, request)
            read[:] = [] if found is None else [found]
            return problems

        question = Question(
            prompt="plan",
            max_tasks=request.max_tasks - len(request.existing),
            data=_goal_data(request),
            check=check,
            existing=lambda: request.existing,
        )
        await converse(self.options, question, trail, request.spending)
        return self._proposal(read[0].dag, read[0].notes)

    @asynccontextmanager
    async def stream(self, request: PlanRequest, trail: ThoughtTrail) -> AsyncIterator[TaskStream]:
        """Open a plan that is handed out while it is being made; leaving it ends the model's work.

        To be entered and left by one task. The exceptions of `propose` come from the iteration.
        """
        send, receive = anyio.create_memory_object_stream[TaskBatch](math.inf)
        batches = _Batches(receive)
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._produce, request, trail, send, batches)
            try:
                yield batches
            except Exception as exc:  # noqa: BLE001  # raised again below; a task group would wrap it in a group
                failure = exc
            finally:
                group.cancel_scope.cancel()
                receive.close()
        if failure is not None:
            raise failure

    async def _produce(
        self,
        request: PlanRequest,
        trail: ThoughtTrail,
        send: MemoryObjectSendStream[TaskBatch],
        batches: _Batches,
    ) -> None:
        with send:
            try:
                growth = _Growth(request, send)
                growth.require_sound()
                question = Question(
                    prompt="plan",
                    max_tasks=request.max_tasks - len(request.existing),
                    data=_goal_data(request),
                    check=growth.check,
                    hear_task=growth.hear,
                    begin=growth.begin,
                    existing=lambda: growth.fixed,
                )
                await converse(self.options, question, trail, request.spending)
                batches.whole = self._proposal(growth.dag, growth.notes)
            except Exception as exc:  # noqa: BLE001  # whoever iterates gets it, as it is
                batches.failure = exc

    async def decompose_task(
        self, part: PartRequest, request: PlanRequest, trail: ThoughtTrail
    ) -> Sequence[Draft] | None:
        """Return the parts a task is made of; None when it is one piece of work after all.

        Raises:
            SystemUnavailableError: The model made none that can be used; `reason` says why.
        """
        most = min(part.max_tasks, MAX_PARTS)

        async def check(answer: Mapping[str, Any]) -> list[Problem]:
            parts = _tasks(answer)
            if not parts:
                return [_EMPTY]
            if len(parts) == 1:
                return []
            if len(parts) > most:
                message = f"has {len(parts)} parts; at most {most} are allowed."
                return [Problem("tasks", message, "Decompose more coarsely.")]
            try:
                dag = graft(part, parts, request).dag
            except InvalidDagError as exc:
                return [moved(problem, len(part.plan.nodes)) for problem in exc.problems]
            new = [node for task_id, node in dag.nodes.items() if task_id not in part.plan.nodes]
            places = ((f"tasks[{index}]", node) for index, node in enumerate(new))
            return find_unknown_tools(places, request.tools)

        question = Question(
            prompt="split",
            max_tasks=most,
            data={
                "goal": bounded_data(request.goal),
                "task": _short(part.plan, part.task.task_id),
                "upstreams": [_short(part.plan, task_id) for task_id in part.upstreams],
                "context": bounded_data(request.context),
                "systems": told_systems(request.tools or (), part.task.description),
            },
            check=check,
        )
        parts = _tasks(await converse(self.options, question, trail, request.spending))
        return parts if len(parts) > 1 else None

    def _proposal(self, dag: TaskDAG, notes: Sequence[str]) -> Proposal:
        note = f"Planned by {self.name} with prompt plan {load_prompt('plan').version}."
        return Proposal(dag=dag, planner=self.name, notes=(note, *notes))


class _Batches:
    """A `TaskStream` over what the model's task sends."""

    def __init__(self, receive: MemoryObjectReceiveStream[TaskBatch]) -> None:
        self._receive = receive
        self.whole: Proposal | None = None
        self.failure: Exception | None = None

    def __aiter__(self) -> AsyncIterator[TaskBatch]:
        return self

    async def __anext__(self) -> TaskBatch:
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            if self.failure is not None:
                raise self.failure from None
            raise StopAsyncIteration from None

    @property
    def proposal(self) -> Proposal:
        """Return the whole plan."""
        if self.whole is None:
            raise RuntimeError("The plan is not whole. Fix: read `proposal` after the last batch.")
        return self.whole


class _Growth:
    """A plan on its way: what was handed out is fixed; what can't be yet waits for its upstreams, or to be mended."""

    def __init__(self, request: PlanRequest, send: MemoryObjectSendStream[TaskBatch]) -> None:
        self._request = request
        self._send = send
        self.fixed: list[Draft] = list(request.existing)
        self.notes: list[str] = []
        self._read: CallerPlan | None = None
        self._waiting: list[Any] = []
        self._heard: set[Any] = set()
        """Ids in the present answer: one that comes twice is a mistake, one of an earlier answer is only said again."""

    @property
    def dag(self) -> TaskDAG:
        """Return the plan as far as it is fixed."""
        self.require_sound()
        assert self._read is not None
        return self._read.dag

    def require_sound(self) -> None:
        """Make sure that what was fixed before can be gone on from: no answer of the model could mend it.

        Raises:
            InvalidDagError: It can't be.
        """
        if self._read is None and self.fixed:
            self._read, problems = check_tasks((), self.fixed, self._request)
            if problems:
                raise InvalidDagError(problems)

    def begin(self) -> None:
        """Forget what waits: the model sends it again."""
        self._waiting.clear()
        self._heard.clear()

    async def hear(self, task: Any) -> None:
        """Take one task; hand it out, and what waited for it, as far as that is valid by now."""
        task_id = task.get("task_id") if isinstance(task, Mapping) else None
        is_second = isinstance(task_id, str) and task_id in self._heard
        if isinstance(task_id, str):
            self._heard.add(task_id)
        if is_repeated(task, self.fixed) and not is_second:
            return
        self._waiting.append(task)
        is_more = True
        while is_more:
            is_more = False
            for waiting in list(self._waiting):
                if self._fix([waiting]) == []:
                    self._waiting.remove(waiting)
                    is_more = True

    async def check(self, answer: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with the tasks that could not be handed out."""
        _tasks(answer)
        if self._waiting:
            return self._fix(self._waiting)
        return [] if self.fixed else [_EMPTY]

    def _fix(self, tasks: Sequence[Any]) -> list[Problem]:
        """Hand tasks out, together, if they are valid with what is fixed; else say why they aren't."""
        read, problems = check_tasks(tasks, self.fixed, self._request)
        if read is None:
            return problems
        known = {draft["task_id"] for draft in self.fixed}
        new = [draft for draft in task_drafts(read.dag) if draft["task_id"] not in known]
        self._read = read
        self.fixed += new
        self.notes += [note for note in read.notes if note not in self.notes]
        ids = [draft["task_id"] for draft in new]
        edges = tuple(edge for edge in read.dag.edges if edge.target_task_id in ids)
        self._send.send_nowait(
            TaskBatch(tasks=tuple(read.dag.nodes[task_id] for task_id in ids), edges=edges)
        )
        return []


def _tasks(answer: Mapping[str, Any]) -> list[Any]:
    tasks = answer.get("tasks")
    return tasks if isinstance(tasks, list) else []


def _goal_data(request: PlanRequest) -> dict[str, Any]:
    return {
        "goal": request.goal,
        "context": bounded_data(request.context),
        "systems": told_systems(request.tools or (), request.goal),
    }


def _short(dag: TaskDAG, task_id: str) -> dict[str, Any]:
    task = dag.nodes[task_id]
    return {"task_id": task_id, "description": bounded_data(task.description)}
