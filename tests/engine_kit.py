"""Drives the pure engine in tests: graphs in a few words, reports by task id, the journal kept, invariants on.

Every input is followed by `check_invariants()` and by a replay of the whole journal that must equal the live state.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, Literal, TypeVar

from orchestration.dag import TaskDAG
from orchestration.engine.effects import (
    DescribeApproval,
    Effect,
    FindItems,
    GatherOutputs,
    LookUpResult,
    RequestAlternative,
    StartAttempt,
)
from orchestration.engine.engine import Decision, Engine, EngineOptions
from orchestration.engine.events import AttemptStarted, Event, OrchestrationSubmitted, Recorded
from orchestration.engine.inputs import (
    AlternativeFound,
    ApprovalDescribed,
    Approve,
    CacheAnswer,
    Cancel,
    DeadlineReached,
    Decide,
    DecisionKind,
    EditPlan,
    GraphChange,
    Heartbeat,
    Input,
    Interrupt,
    ItemsFound,
    NoAlternative,
    OutputRef,
    OutputsGathered,
    Pause,
    PlanEnded,
    PlanGrown,
    ReportCancelled,
    ReportFailure,
    ReportSuccess,
    Resume,
    Retry,
    Routes,
    TakeOver,
    TaskDefaults,
    VerifyAnswer,
)
from orchestration.engine.scheduler import AdaptiveTaskScheduler, SlotPool
from orchestration.engine.state import State, replay
from orchestration.engine.task_state import TaskState
from orchestration.models import (
    ErrorRecord,
    Json,
    JsonObject,
    OrchestrationId,
    OrchestrationMode,
    OrchestrationStatus,
    TaskEdge,
    TaskId,
    TaskNode,
    TaskStatus,
)

E = TypeVar("E", bound=Effect)
ONE_OUTPUT = OutputRef(sha256="ab" * 32, size_bytes=2)
SECOND = 1_000_000
START = 1_000 * SECOND
"""When tests begin, in microseconds since the epoch."""

_NOT_STATE = {"dag", "newly_ready", "newly_dead", "newly_closed", "touched", "held", "_story"}
"""Attributes of a state that are no part of the fold, or are its input."""


def graph(tasks: str | Iterable[TaskNode], *edges: TaskEdge | str, dag_id: str = "dag") -> TaskDAG:
    """Return a DAG: `graph("a b c", "a b", "b c?")` has edges a → b and, optional, b → c."""
    dag = TaskDAG(dag_id)
    for task in [TaskNode(name) for name in tasks.split()] if isinstance(tasks, str) else tasks:
        dag.add_task(task)
    for edge in edges:
        dag.add_dependency(edge_of(edge) if isinstance(edge, str) else edge)
    return dag


def plan(tasks: str, *edges: TaskEdge | str) -> TaskDAG:
    """Return an alternative plan: tasks that do something else than those of `graph`, each with its own tool."""
    return graph([TaskNode(name, tool=f"use-{name}") for name in tasks.split()], *edges, dag_id="plan")


def edge_of(text: str) -> TaskEdge:
    """Return the edge that `"a b"`, `"a b?"` (optional) or `"a b if CONDITION"` describes."""
    ends, _, condition = text.partition(" if ")
    source, target = ends.split()
    return TaskEdge(
        source, target.rstrip("?"), is_optional=target.endswith("?"), condition=condition.strip() or None
    )


def submitted(
    dag: TaskDAG,
    orchestration_id: OrchestrationId = "o",
    *,
    mode: OrchestrationMode = OrchestrationMode.HIERARCHICAL,
    defaults: TaskDefaults | None = None,
    context: JsonObject | None = None,
    can_replan: bool = False,
    asks_caller: bool = False,
    is_planning: bool = False,
    timeout_seconds: float | None = None,
    routes: Routes | None = None,
    at_us: int = START,
) -> Recorded:
    """Return the first entry of an orchestration's journal."""
    told = routes or Routes()
    event = OrchestrationSubmitted(
        dag_sha256="",
        mode=mode,
        context=context or {},
        routes=dict.fromkeys(dag.nodes, "here") | dict(told.systems),
        others=dict(told.others),
        fallback_routes=dict(told.fallbacks),
        defaults=defaults or TaskDefaults(timeout_seconds=None),
        can_replan=can_replan,
        asks_caller=asks_caller,
        is_planning=is_planning,
        timeout_seconds=timeout_seconds,
    )
    return Recorded(orchestration_id=orchestration_id, seq=1, at_us=at_us, event=event)


def new_engine(
    slots: int = 5, *, options: EngineOptions | None = None, pool: SlotPool | None = None
) -> Engine:
    """Return an engine with its own slots, or with shared ones."""
    return Engine(AdaptiveTaskScheduler(pool or SlotPool(slots)), options)


class Bench:
    """One orchestration on an engine, driven by hand.

    Args:
        dag: What to run.
        beside: Another one, on whose engine this one is put.
        slots: Of the new engine, otherwise.
        options: Of the new engine.
        checks: False: no invariants, no replay after each input; for large graphs.
        events: A journal to go on from; one that begins now when absent.
        settings: What `submitted` takes.
    """

    def __init__(
        self,
        dag: TaskDAG,
        *,
        beside: Bench | None = None,
        slots: int = 5,
        options: EngineOptions | None = None,
        orchestration_id: OrchestrationId = "o",
        checks: bool = True,
        events: Sequence[Recorded] = (),
        **settings: Any,
    ) -> None:
        self.dag = dag
        self.checks = checks
        self.id = orchestration_id
        self.options = options
        self.engine: Engine = beside.engine if beside else new_engine(slots, options=options)
        self.mates: list[Bench] = beside.mates if beside else []
        """Everyone on the engine."""
        self.mates.append(self)
        self.journal = list(events) or [submitted(dag, orchestration_id, **settings)]
        self.now_us = self.journal[-1].at_us
        self.effects: list[Effect] = []
        self.state = replay(self.id, dag, self.journal)
        self.engine.adopt(self.state)

    # Telling

    def tell(self, item: Input) -> Decision:
        """Hand the engine an input; keep what came of it and check that all is well."""
        decision = self.engine.handle(item, self.now_us)
        for mate in self.mates:
            mate.journal += [entry for entry in decision.events if entry.orchestration_id == mate.id]
            mate.effects += [effect for effect in decision.effects if effect.orchestration_id == mate.id]
            if mate.checks:
                mate.check()
        return decision

    def check(self) -> None:
        """Fail unless every invariant holds and replaying the journal gives the live state."""
        self.engine.check_invariants()
        assert_same(self.state, replay(self.id, self.dag, self.journal))

    def start(self) -> Decision:
        return self.tell(TakeOver(orchestration_id=self.id))

    def succeed(
        self, task_id: TaskId, value: Json = None, *, attempt: int | None = None, cost: float | None = None
    ) -> Decision:
        number = self.task(task_id).attempt if attempt is None else attempt
        return self.tell(
            ReportSuccess(
                orchestration_id=self.id,
                task_id=task_id,
                attempt=number,
                output=ONE_OUTPUT,
                value=value,
                cost=cost,
            )
        )

    def fail(
        self,
        task_id: TaskId,
        *,
        retryable: bool = False,
        jitter: float = 0.5,
        attempt: int | None = None,
        retry_after_seconds: float | None = None,
        code: str = "broken",
        effect_open: bool = False,
    ) -> Decision:
        number = self.task(task_id).attempt if attempt is None else attempt
        error = ErrorRecord(
            code=code,
            message=f"{task_id} broke",
            retryable=retryable,
            attempt=number,
            system="here",
            retry_after_seconds=retry_after_seconds,
            effect_open=effect_open,
        )
        return self.tell(
            ReportFailure(
                orchestration_id=self.id, task_id=task_id, attempt=number, error=error, jitter=jitter
            )
        )

    def stopped(self, task_id: TaskId, attempt: int | None = None, jitter: float = 0.5) -> Decision:
        number = self.task(task_id).attempt if attempt is None else attempt
        return self.tell(
            ReportCancelled(orchestration_id=self.id, task_id=task_id, attempt=number, jitter=jitter)
        )

    def wait(self, seconds: float) -> Decision:
        """Let time pass, then tell the engine that its deadline has come."""
        self.now_us += round(seconds * SECOND)
        return self.tell(DeadlineReached())

    def pause(self) -> Decision:
        return self.tell(Pause(orchestration_id=self.id))

    def resume(self) -> Decision:
        return self.tell(Resume(orchestration_id=self.id))

    def cancel(self, reason: str = "") -> Decision:
        return self.tell(Cancel(orchestration_id=self.id, reason=reason))

    def offer(
        self, task_id: TaskId, dag: TaskDAG, *, routes: Mapping[TaskId, str] | None = None, **more: Any
    ) -> Decision:
        """Bring an alternative; its tasks go where `routes` says."""
        found = Routes(systems=routes or {})
        return self.tell(
            AlternativeFound(orchestration_id=self.id, task_id=task_id, dag=dag, routes=found, **more)
        )

    def refuse(self, task_id: TaskId, reason: str = "nobody knows one") -> Decision:
        return self.tell(NoAlternative(orchestration_id=self.id, task_id=task_id, reason=reason))

    def retry(self, *task_ids: TaskId, reason: str = "") -> Decision:
        return self.tell(Retry(orchestration_id=self.id, task_ids=task_ids, reason=reason))

    def decide(
        self,
        task_id: TaskId,
        decision: DecisionKind,
        value: Json = None,
        *,
        by: str = "person",
        reason: str = "",
    ) -> Decision:
        output = ONE_OUTPUT if decision == "done" else None
        return self.tell(
            Decide(
                orchestration_id=self.id,
                task_id=task_id,
                decision=decision,
                by=by,
                reason=reason,
                output=output,
                value=value,
            )
        )

    def verified(
        self,
        task_id: TaskId,
        answer: Literal["done", "not_done", "unclear"],
        value: Json = None,
        *,
        attempt: int | None = None,
        reason: str = "",
    ) -> Decision:
        number = self.task(task_id).attempt if attempt is None else attempt
        return self.tell(
            VerifyAnswer(
                orchestration_id=self.id,
                task_id=task_id,
                attempt=number,
                answer=answer,
                reason=reason,
                output=ONE_OUTPUT if answer == "done" else None,
                value=value,
            )
        )

    def hit(self, task_id: TaskId, value: Json = None, source: str = "earlier-1:there") -> Decision:
        return self.tell(
            CacheAnswer(
                orchestration_id=self.id,
                task_id=task_id,
                output=ONE_OUTPUT,
                value=value,
                source=source,
                generation=self.task(task_id).generation,
            )
        )

    def miss(self, task_id: TaskId) -> Decision:
        generation = self.task(task_id).generation
        return self.tell(CacheAnswer(orchestration_id=self.id, task_id=task_id, generation=generation))

    def described(
        self,
        task_id: TaskId,
        digest: str = "d1",
        *,
        shown: str = "what would run",
        generation: int | None = None,
        error: ErrorRecord | None = None,
    ) -> Decision:
        """Say what exactly would run; an error: why that can't be said."""
        number = self.task(task_id).generation if generation is None else generation
        return self.tell(
            ApprovalDescribed(
                orchestration_id=self.id,
                task_id=task_id,
                generation=number,
                digest="" if error else digest,
                shown="" if error else shown,
                error=error,
            )
        )

    def approve(self, task_id: TaskId, digest: str | None = None, **more: Any) -> Decision:
        return self.tell(
            Approve(orchestration_id=self.id, task_id=task_id, is_approved=True, digest=digest, **more)
        )

    def reject(self, task_id: TaskId, digest: str | None = None, **more: Any) -> Decision:
        return self.tell(
            Approve(orchestration_id=self.id, task_id=task_id, is_approved=False, digest=digest, **more)
        )

    def found(
        self,
        task_id: TaskId,
        count: int = 0,
        *,
        generation: int | None = None,
        error: ErrorRecord | None = None,
    ) -> Decision:
        """Say how many items a list has; an error: why it can't be had."""
        number = self.task(task_id).generation if generation is None else generation
        return self.tell(
            ItemsFound(orchestration_id=self.id, task_id=task_id, generation=number, count=count, error=error)
        )

    def gathered(
        self,
        task_id: TaskId,
        value: Json = None,
        *,
        generation: int | None = None,
        error: ErrorRecord | None = None,
    ) -> Decision:
        """Bring the output that the parts of a task add up to; an error: why there is none."""
        number = self.task(task_id).generation if generation is None else generation
        return self.tell(
            OutputsGathered(
                orchestration_id=self.id,
                task_id=task_id,
                generation=number,
                output=None if error else ONE_OUTPUT,
                value=value,
                error=error,
            )
        )

    def edit(
        self,
        change: GraphChange | None = None,
        *,
        expected: int | None = None,
        values: Mapping[TaskId, Json] | None = None,
        by: str = "person",
        reason: str = "",
        undoes: int | None = None,
        **parts: Any,
    ) -> Decision:
        """Change the graph by a `GraphChange`, or by its parts: `added=`, `changed=`, `removed=`, `linked=`, …"""
        return self.tell(
            EditPlan(
                orchestration_id=self.id,
                expected_revision=self.state.revision if expected is None else expected,
                change=change or GraphChange(**parts),
                values=values or {},
                by=by,
                reason=reason,
                undoes=undoes,
            )
        )

    def grow(self, tasks: str | Iterable[TaskNode], *edges: TaskEdge | str, **more: Any) -> Decision:
        """Bring more of a plan: `grow("b c", "a b", "b c?")`."""
        nodes = tuple(map(TaskNode, tasks.split()) if isinstance(tasks, str) else tasks)
        joined = tuple(edge_of(edge) if isinstance(edge, str) else edge for edge in edges)
        routes = Routes(systems={node.task_id: "here" for node in nodes})
        return self.tell(
            PlanGrown(orchestration_id=self.id, tasks=nodes, edges=joined, **{"routes": routes, **more})
        )

    def end_plan(self, error: str | None = None) -> Decision:
        return self.tell(PlanEnded(orchestration_id=self.id, error=error))

    def beat(self, task_id: TaskId) -> Decision:
        attempt = self.task(task_id).attempt
        return self.tell(Heartbeat(orchestration_id=self.id, task_id=task_id, attempt=attempt))

    def interrupt(self) -> Decision:
        return self.tell(Interrupt(orchestration_id=self.id))

    def crash(self) -> None:
        """Lose everything but the journal; a new engine holds what it adds up to, not yet taken over."""
        self.state = replay(self.id, self.dag, self.journal)
        self.engine = new_engine(self.engine.scheduler.slots.limit, options=self.options)
        self.mates = [self]
        self.engine.adopt(self.state)
        self.effects = []

    # Looking

    def task(self, task_id: TaskId) -> TaskState:
        return self.state.tasks[task_id]

    def error(self, task_id: TaskId) -> ErrorRecord:
        error = self.state.tasks[task_id].error
        assert error is not None, f"{task_id} has no error"
        return error

    def statuses(self) -> dict[TaskId, str]:
        return {task_id: task.status.value for task_id, task in self.state.tasks.items()}

    @property
    def outcome(self) -> OrchestrationStatus:
        return self.state.status

    @property
    def running(self) -> list[TaskId]:
        return list(self.state.running)

    def of(self, kind: type[E]) -> list[E]:
        """Return the effects of one kind so far."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def starts(self) -> list[str]:
        """Return the attempts this driver was told to start so far, as `task#n`."""
        return [f"{effect.task_id}#{effect.attempt}" for effect in self.of(StartAttempt)]

    def history(self) -> list[str]:
        """Return the attempts started so far, by whichever driver, as `task#n`."""
        events = (entry.event for entry in self.journal)
        return [f"{event.task_id}#{event.attempt}" for event in events if isinstance(event, AttemptStarted)]

    def asked(self) -> list[TaskId]:
        """Return the tasks an alternative was asked for, so far."""
        return [effect.task_id for effect in self.of(RequestAlternative)]

    def wanted(self, kind: type[E]) -> list[E]:
        """Return the effects of one kind so far, and forget them: what comes next is new."""
        found = self.of(kind)
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return found

    def run_out(self, limit: int = 10_000) -> None:
        """Let every running attempt succeed until nothing runs."""
        for _ in range(limit):
            if not self.state.running:
                return
            self.succeed(next(iter(self.state.running)))
        raise AssertionError(f"still running after {limit} reports: {self.running}")

    def go_on(self, items: int = 2, limit: int = 10_000) -> None:
        """Let everything succeed that runs and answer every question kindly, until there is nothing to do.

        Lists have `items` items, caches nothing; people agree; no alternative is found.
        """
        for _ in range(limit):
            if self.state.running:
                self.succeed(next(iter(self.state.running)))
            elif not self.answer_one(items):
                return
        raise AssertionError(f"still something to do after {limit} answers: {self.statuses()}")

    def answer_one(self, items: int) -> bool:
        """Answer the oldest question, or agree to what somebody is asked; False when there is none."""
        answer: Callable[[TaskId], Decision]
        for effect in self.effects:
            match effect:
                case LookUpResult():
                    answer = self.miss
                case DescribeApproval():
                    answer = self.described
                case FindItems():
                    answer = partial(self.found, count=items)
                case GatherOutputs():
                    answer = self.gathered
                case RequestAlternative():
                    answer = self.refuse
                case _:
                    continue
            self.effects.remove(effect)
            answer(effect.task_id)
            return True
        for task_id, task in self.state.tasks.items():
            if task.status is TaskStatus.AWAITING_APPROVAL:
                self.approve(task_id)
                return True
        return False


def events_of(entries: Decision | Iterable[Recorded]) -> list[Event]:
    """Return the bare events."""
    return [entry.event for entry in (entries.events if isinstance(entries, Decision) else entries)]


def assert_same(one: State, other: State) -> None:
    """Fail unless two states agree in every field of every task and in everything else that counts."""
    assert snapshot(one) == snapshot(other)


def snapshot(state: State) -> dict[str, Any]:
    """Return everything a state knows, as plain values."""
    return {name: plain(value) for name, value in vars(state).items() if name not in _NOT_STATE}


_PLAIN = frozenset({str, int, float, bool, type(None)})


@functools.cache
def _names_of(kind: Any) -> tuple[str, ...]:
    """Return the names of a dataclass's fields; asked millions of times by long tests."""
    return tuple(item.name for item in dataclasses.fields(kind))


def plain(value: Any) -> Any:
    """Return a value as JSON-like data; sets are sorted, edges show both ends."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in _names_of(type(value))}
    if isinstance(value, Mapping):
        return {
            (key.value if isinstance(key, Enum) else str(key)): plain(item) for key, item in value.items()
        }
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def is_settled(status: str) -> bool:
    """Whether a task status is an outcome."""
    return TaskStatus(status) in {
        TaskStatus.COMPLETED,
        TaskStatus.FAILED,
        TaskStatus.CANCELLED,
        TaskStatus.SKIPPED,
    }
