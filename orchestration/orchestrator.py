"""The façade: plans goals and runs DAGs. Everything above calls this; what it inherits waits, controls and tells.

May import: all of orchestration, anyio, stdlib.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import anyio

from orchestration.clock import Clock, SystemClock
from orchestration.dag import TaskDAG
from orchestration.errors import (
    InvalidArgumentError,
    NotPossibleError,
    Problem,
    UnroutableTaskError,
)
from orchestration.execution.company import Collaborators
from orchestration.execution.session import Session
from orchestration.execution.state_mirror import StateMirror
from orchestration.models import (
    Json,
    OrchestrationId,
    OrchestrationMode,
    PlanId,
)
from orchestration.options import OrchestratorOptions
from orchestration.plan_store import load_plan, save_plan
from orchestration.planning.decomposer import AdvancedTaskDecomposer
from orchestration.planning.plan import Plan
from orchestration.planning.sequential_thinking import OpenThinking
from orchestration.planning.thinking_pool import ThinkingPool
from orchestration.ports import Listener, Replanner, Storage
from orchestration.previewer import as_mode
from orchestration.reuse import load_earlier
from orchestration.streamed_plans import StreamedPlans
from orchestration.submission import Submission, base_id, plain_context, prepare
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.router import route
from orchestration.takeover import OrchestrationKeeper


class AdvancedTaskOrchestrator(OrchestrationKeeper):
    """Turns goals into DAGs of tasks and sees them through. Make one with `create_advanced_task_orchestrator`.

    One object belongs to one event loop at a time.

    Args:
        storage: Where the state lives.
        systems: Where tasks run.
        decomposer: Makes plans of goals.
        replanner: Makes alternatives of failed tasks; None when nobody can.
        thinking: Opens the Sequential Thinking servers; a pool of them is open as long as this is.
        options: Everything that shapes how it runs.
        clock: Where time comes from.
        mirror: Is sent status summaries, best effort.
        collaborators: Are told and asked beside the work.
        rng: Draws the jitter of back-offs.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        systems: SystemRegistry,
        decomposer: AdvancedTaskDecomposer,
        replanner: Replanner | None = None,
        thinking: OpenThinking | None = None,
        options: OrchestratorOptions | None = None,
        clock: Clock | None = None,
        mirror: StateMirror | None = None,
        collaborators: Collaborators | None = None,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(
            storage=storage,
            systems=systems,
            replanner=replanner,
            planner=StreamedPlans(decomposer, storage, clock or SystemClock())
            if decomposer.can_stream
            else None,
            options=options,
            clock=clock,
            mirror=mirror,
            collaborators=collaborators,
            rng=rng,
        )
        self._decomposer = decomposer
        self._thinking = thinking
        self._kept = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as undo:
            if isinstance(self._thinking, ThinkingPool) and not self._thinking.is_open:
                await undo.enter_async_context(self._thinking)
            await super().__aenter__()
            self._kept = undo.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            return await super().__aexit__(exc_type, exc, traceback)
        finally:
            await self._kept.aclose()

    # Planning

    async def decompose(
        self,
        goal: str,
        *,
        tasks: object = None,
        thoughts: object = None,
        context: Mapping[str, Json] | None = None,
        mode: OrchestrationMode | str | None = None,
        max_tasks: int = 20,
        store: bool = True,
        allow_sentences: bool = True,
    ) -> Plan:
        """Turn a goal into a plan: a validated DAG with how it came about. Nothing runs.

        Args:
            goal: What is to be reached.
            tasks: The caller's own draft of the tasks, as language models send it.
            thoughts: The caller's own thoughts on the way to `tasks`.
            context: What planners may use and conditions see.
            mode: How it is to be run; left to the run when absent.
            max_tasks: Most tasks the plan may have.
            store: Whether to keep the plan, under a new id.
            allow_sentences: Whether a goal no planner knows may become one task per sentence.

        Raises:
            DefinitionError: The draft has mistakes, or (`NoFittingPlanError`) no planner knows the goal.
        """
        plan = await self._decomposer.decompose(
            goal,
            tasks=tasks,
            thoughts=thoughts,
            context=plain_context(context or {}),
            mode=as_mode(mode),
            max_tasks=max_tasks,
            allow_sentences=allow_sentences,
        )
        return await save_plan(self.storage, plan, self._clock.now_us()) if store else plan

    async def find_unroutable(self, dag: TaskDAG, *, allows_agent: bool = False) -> Sequence[Problem]:
        """Return what nothing configured could run of a DAG, with what to do about each; arguments as for `submit`."""
        async with self.systems:
            try:
                await route(dag, self.systems, allows_agent=allows_agent)
            except UnroutableTaskError as exc:
                return exc.problems
        return ()

    # Running

    async def orchestrate_task(
        self,
        goal: str,
        mode: OrchestrationMode | str | None = None,
        context: Mapping[str, Json] | None = None,
        *,
        orchestration_id: OrchestrationId | None = None,
        on_event: Listener | None = None,
        key: str | None = None,
        ask_caller: bool = False,
        start_early: bool | None = None,
    ) -> dict[str, Any]:
        """Plan a goal, run the plan, and return the result.

        Args:
            goal: What is to be reached.
            mode: SIMPLE, HIERARCHICAL or ADAPTIVE; the options' default when absent.
            context: Given to planners, conditions and systems.
            orchestration_id: An id of the caller's choice.
            on_event: Told of every event once it is durable.
            key: The same key with the same goal gives the orchestration made the first time.
            ask_caller: As for `submit`.
            start_early: Whether tasks that may be repeated, and need nobody's yes, start while a language model still
                plans the rest; the configuration's wish when absent. Other planners plan whole.

        Returns:
            The result document (`docs/library.md`); `success` is False when it failed or was cancelled.

        Raises:
            DefinitionError: The input is wrong; nothing was started.
            NestedOrchestrationError: A task of this very goal asks for it again.
        """
        self._refuse_loops(goal)
        started = self._clock.monotonic()
        work: Plan | TaskDAG
        if self._starts_early(start_early):
            work = TaskDAG(base_id(goal), goal)
        else:
            work = await self.decompose(goal, context=context, mode=mode)
        planned = self._clock.monotonic() - started
        async with self._open() as session:
            with self._lent_slot(session):
                created = await self._submit(
                    session,
                    work,
                    mode=mode,
                    context=context,
                    key=key,
                    orchestration_id=orchestration_id,
                    on_event=on_event,
                    ask_caller=ask_caller,
                    is_planning=isinstance(work, TaskDAG),
                    planning_seconds=planned,
                )
                return await self._wait(session, created, started)

    def _starts_early(self, wanted: bool | None) -> bool:
        """Whether a goal's tasks are to start while the rest is still being planned."""
        if self._world.planner is None:
            return False
        return self._decomposer.starts_early if wanted is None else wanted

    @property
    def starts_early(self) -> bool:
        """Whether goals are started by `submit_goal`, as the configuration wants it."""
        return self._session is not None and self._starts_early(None)

    async def submit_goal(
        self,
        goal: str,
        *,
        mode: OrchestrationMode | str | None = None,
        context: Mapping[str, Json] | None = None,
        key: str | None = None,
        on_event: Listener | None = None,
        ask_caller: bool = False,
        allows_agent: bool = False,
    ) -> OrchestrationId:
        """Start an orchestration whose plan is made while it runs; arguments are those of `submit`.

        Raises:
            NotPossibleError: Nobody plans while tasks run already (`starts_early` says so).
        """
        if not self.starts_early or self._session is None:
            fix = "Configure a model with `start_early`, and use it inside `async with`; or `decompose` and `submit`."
            raise NotPossibleError("A goal", "planned whole here", "started early", fix)
        self._refuse_loops(goal)
        return await self._submit(
            self._session,
            TaskDAG(base_id(goal), goal),
            mode=mode,
            context=context,
            key=key,
            on_event=on_event,
            ask_caller=ask_caller,
            allows_agent=allows_agent,
            is_planning=True,
        )

    async def execute_dag(
        self,
        dag: TaskDAG | Plan | PlanId,
        *,
        mode: OrchestrationMode | str | None = None,
        context: Mapping[str, Json] | None = None,
        key: str | None = None,
        on_event: Listener | None = None,
        reuse: OrchestrationId | None = None,
        ask_caller: bool = False,
    ) -> dict[str, Any]:
        """Run a DAG and return the result; arguments and errors are those of `submit`."""
        started = self._clock.monotonic()
        async with self._open() as session:
            with self._lent_slot(session):
                created = await self._submit(
                    session,
                    dag,
                    mode=mode,
                    context=context,
                    key=key,
                    on_event=on_event,
                    reuse=reuse,
                    ask_caller=ask_caller,
                )
                return await self._wait(session, created, started)

    async def submit(
        self,
        work: TaskDAG | Plan | PlanId,
        *,
        mode: OrchestrationMode | str | None = None,
        context: Mapping[str, Json] | None = None,
        key: str | None = None,
        goal: str | None = None,
        orchestration_id: OrchestrationId | None = None,
        on_event: Listener | None = None,
        reuse: OrchestrationId | None = None,
        ask_caller: bool = False,
        allows_agent: bool = False,
    ) -> OrchestrationId:
        """Store an orchestration of a DAG and, inside `async with`, start it. Its id is returned once it is durable.

        Outside `async with` nothing runs between calls: `wait` or `resume` runs it.

        Args:
            work: A DAG (copied), a plan, or a stored plan's id.
            mode: How to run it; the plan's wish, else the options' default when absent.
            context: Given to conditions and systems; added to the plan's own.
            key: The same key with the same arguments gives the orchestration made the first time.
            goal: What it is for, when the DAG does not say.
            orchestration_id: An id of the caller's choice; made of the DAG's id when absent.
            on_event: Told of every event once it is durable; only inside `async with`.
            reuse: An earlier orchestration: tasks that completed there, and with everything upstream of them are the
                same here, are completed by their outputs and do not run.
            ask_caller: In ADAPTIVE mode: whether a task that failed, and for which nobody has an alternative, waits for
                an answer (`edit`, `decide`) instead of failing. Somebody must be there to give it.
            allows_agent: Whether tasks that nothing else can run, and that name no tool, are offered to agents
                (`claim_task`) instead of being refused; tasks that are added later, too. Somebody must be there to
                claim them.

        Raises:
            InvalidDagError: The DAG has mistakes; all are listed.
            UnroutableTaskError: Nothing could run some of the tasks.
            IdempotencyConflictError: The key was used with other arguments, or the id is taken.
            PlanNotFoundError: There is no such plan.
        """
        async with self._open() as session:
            return await self._submit(
                session,
                work,
                mode=mode,
                context=context,
                key=key,
                goal=goal,
                orchestration_id=orchestration_id,
                on_event=on_event,
                reuse=reuse,
                ask_caller=ask_caller,
                allows_agent=allows_agent,
                is_started=session is self._session,
            )

    async def _submit(
        self,
        session: Session,
        work: TaskDAG | Plan | PlanId,
        *,
        mode: OrchestrationMode | str | None = None,
        context: Mapping[str, Json] | None = None,
        key: str | None = None,
        goal: str | None = None,
        orchestration_id: OrchestrationId | None = None,
        on_event: Listener | None = None,
        reuse: OrchestrationId | None = None,
        ask_caller: bool = False,
        allows_agent: bool = False,
        is_planning: bool = False,
        planning_seconds: float = 0.0,
        is_started: bool = True,
    ) -> OrchestrationId:
        self._refuse_depth(goal or "")
        if context is not None and not isinstance(context, Mapping):
            raise InvalidArgumentError("context", context, "an object")
        plan: Plan | None = None
        if isinstance(work, TaskDAG):
            dag = work
        else:
            plan = await load_plan(self.storage, work) if isinstance(work, str) else work
            if not isinstance(plan, Plan):
                raise InvalidArgumentError("dag", work, "a TaskDAG, a Plan or the id of a stored plan")
            dag = plan.dag
        submission = Submission(
            dag=dag,
            mode=as_mode(mode) or (plan.mode if plan is not None else None) or self.options.default_mode,
            context={**(plan.context if plan is not None else {}), **(context or {})},
            goal=goal or (plan.goal if plan is not None else dag.goal),
            key=key,
            plan_id=plan.plan_id if plan is not None else None,
            orchestration_id=orchestration_id,
            can_replan=self._world.replanner is not None,
            asks_caller=ask_caller,
            allows_agent=allows_agent,
            is_planning=is_planning,
            reuse=None if reuse is None else await load_earlier(self.storage, reuse),
        )
        prepared = await prepare(
            submission, self.systems, self.options, self._world.identity, self._clock.now_us()
        )
        async with self._deciding():
            with anyio.CancelScope(shield=True):  # once stored it is driven or free, never held by nobody
                created = await self.storage.create_orchestration(prepared.new)
                identifier = created.record.orchestration_id
                if created.lease is None:  # the key named one that exists already
                    return identifier
                if not is_started:
                    await self.storage.release_lease(created.lease)
                    return identifier
                prepared.state.orchestration_id = identifier
                driven = session.coordinator.take_over(created.lease, prepared.state, on_event)
                self._watch(session, created.record, driven, prepared.warnings, plan, planning_seconds)
        return identifier
