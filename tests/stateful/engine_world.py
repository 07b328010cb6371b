"""What the engine's Hypothesis machine plays with: graphs, alternatives, what the outside knows of an orchestration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations

from hypothesis import strategies as st

from orchestration.dag import TaskDAG
from orchestration.engine.engine import Engine, EngineOptions
from orchestration.engine.events import RetryRequested
from orchestration.engine.inputs import Reusable, ReuseResults, TaskDefaults
from orchestration.engine.state import State, replay
from orchestration.models import (
    CachePolicy,
    Json,
    OrchestrationMode,
    TaskEdge,
    TaskId,
    TaskNode,
    TaskPriority,
    TaskStatus,
    Verification,
)
from tests.engine_kit import ONE_OUTPUT, START, graph, submitted

CONDITIONS = [None, None, None, "output.ok", "output.n > 1", "status == 'failed'", "status != 'skipped'"]
OUTPUTS: list[Json] = [{"ok": True, "n": 2}, {"ok": False, "n": 0}, {"n": 5}, {}, "text", None]
DEFAULTS = TaskDefaults(max_retries=1, timeout_seconds=60.0)
LIMITS = EngineOptions(cancel_grace_seconds=5.0, max_replans_per_task=2, max_replans=3)
NAMES = "abcdefgh"
MODES = [OrchestrationMode.ADAPTIVE, *OrchestrationMode]
"""ADAPTIVE has most that can go wrong."""
BEGUN = frozenset(
    {TaskStatus.READY, TaskStatus.RUNNING, TaskStatus.RETRYING, TaskStatus.UNKNOWN, TaskStatus.REPLANNING}
)


@st.composite
def nodes(draw: st.DrawFn, name: TaskId) -> TaskNode:
    """Return a task; one that must not be repeated may say how to ask about it, any other may be cached."""
    is_idempotent = draw(st.sampled_from([True, True, False]))
    is_asked, is_cached = draw(st.booleans()), draw(st.sampled_from([False, False, True]))
    return TaskNode(
        name,
        priority=draw(st.sampled_from(TaskPriority)),
        estimated_time_seconds=draw(st.sampled_from([None, 0.0, 1.0, 30.0])),
        max_retries=draw(st.sampled_from([None, 0, 2])),
        timeout_seconds=draw(st.sampled_from([None, 20.0])),
        heartbeat_timeout_seconds=draw(st.sampled_from([None, None, 4.0])),
        idempotent=is_idempotent,
        verify=Verification(tool="ask") if is_asked and not is_idempotent else None,
        cache=CachePolicy(ttl_seconds=60.0) if is_cached and is_idempotent else None,
        tool=draw(st.sampled_from([None, "x", "y"])),
    )


@st.composite
def dags(draw: st.DrawFn) -> TaskDAG:
    """Return a DAG of up to eight tasks with every kind of edge."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    edges = [
        TaskEdge(
            source,
            target,
            data_requirements=draw(st.sampled_from([[], [], [], ["ok"]])),
            is_optional=draw(st.booleans()),
            condition=draw(st.sampled_from(CONDITIONS)),
        )
        for source, target in combinations(names, 2)
        if draw(st.integers(0, 2)) == 0
    ]
    return graph([draw(nodes(name)) for name in names], *edges)


@st.composite
def alternatives(draw: st.DrawFn) -> tuple[TaskDAG, TaskId | None]:
    """Return an alternative plan, sometimes one that must be refused, and the task it says delivers."""
    names = draw(st.sampled_from(["p", "pq", "pqr"]))
    made = [
        TaskNode(
            name,
            tool=draw(st.sampled_from("stuvw")),
            max_retries=0,
            idempotent=draw(st.sampled_from([True, False])),
        )
        for name in names
    ]
    edges = [
        TaskEdge(a, b, is_optional=draw(st.booleans()))
        for a, b in combinations(names, 2)
        if draw(st.booleans())
    ]
    return graph(made, *edges, dag_id="plan"), draw(st.sampled_from([None, names[-1], names[0]]))


@st.composite
def beginnings(draw: st.DrawFn) -> Beginning:
    """Return how an orchestration begins."""
    dag = draw(dags())
    return Beginning(
        dag,
        draw(st.sampled_from(MODES)),
        can_replan=draw(st.sampled_from([True, True, False])),
        timeout_seconds=draw(st.sampled_from([None, None, 100.0])),
        reused=draw(st.sets(st.sampled_from(list(dag.nodes)))),
    )


class Beginning:
    """How an orchestration begins."""

    def __init__(
        self,
        dag: TaskDAG,
        mode: OrchestrationMode,
        *,
        can_replan: bool,
        timeout_seconds: float | None,
        reused: set[TaskId],
    ) -> None:
        self.dag = dag
        self.mode = mode
        self.can_replan = can_replan
        self.timeout_seconds = timeout_seconds
        self.reused = reused
        """Tasks an earlier orchestration has results of, where it has those of all their upstreams."""

    def __repr__(self) -> str:
        return (
            f"Beginning({self.mode}, can_replan={self.can_replan}, timeout_seconds={self.timeout_seconds}, "
            f"reused={sorted(self.reused)}, tasks={list(self.dag.nodes.values())}, edges={self.dag.edges})"
        )


class Driven:
    """What the outside knows of one orchestration."""

    def __init__(self, name: str, beginning: Beginning) -> None:
        self.name = name
        self.dag = beginning.dag
        self.journal = [
            submitted(
                beginning.dag,
                name,
                mode=beginning.mode,
                can_replan=beginning.can_replan,
                defaults=DEFAULTS,
                context={"env": "x"},
                timeout_seconds=beginning.timeout_seconds,
            )
        ]
        self._reuse(beginning.reused)
        self.state: State = replay(name, self.dag, self.journal)
        self.is_dormant = True
        """Adopted, and not taken over yet."""
        self.live: dict[TaskId, int] = {}
        """Attempts the outside is running."""
        self.stopping: set[TaskId] = set()
        self.begun_us: dict[TaskId, int] = {}
        """When the latest attempt began, by the clock the engine is told."""
        self.beats_us: dict[TaskId, int] = {}
        """Latest sign of life of live attempts, by the same clock."""
        self.questions: set[TaskId] = set()
        """Tasks an alternative is wanted for."""
        self.verifications: dict[TaskId, int] = {}
        """Attempts somebody wants to know the end of."""
        self.lookups: set[TaskId] = set()
        """Tasks somebody looks into the cache for."""
        self.past: list[tuple[TaskId, int]] = []
        """Every attempt ever started."""
        self.unended: set[TaskId] = set()
        """Tasks with an attempt that has begun and not ended, as the journal tells."""
        self.open: set[TaskId] = set()
        """Tasks with an attempt nobody knows the end of, until somebody decides; they may be cancelled meanwhile."""
        self.went_on_without: defaultdict[TaskId, set[TaskId]] = defaultdict(set)
        """Upstreams that were retried when the task was ready or had begun."""
        self.outcomes: dict[TaskId, str] = {}
        self.generations: defaultdict[TaskId, int] = defaultdict(lambda: 1)
        self.announced = 0

    def _reuse(self, wanted: set[TaskId]) -> None:
        """Complete tasks by results of an earlier orchestration, as a submission does."""
        incoming = self.dag.incoming()
        found: set[TaskId] = set()
        for task_id in self.dag.topological_sort():
            if task_id in wanted and all(edge.source_task_id in found for edge in incoming[task_id]):
                found.add(task_id)
        engine = Engine()
        engine.adopt(replay(self.name, self.dag, self.journal))
        results = tuple(
            Reusable(task_id=task_id, output=ONE_OUTPUT, value={"ok": True}, source=f"earlier:{task_id}")
            for task_id in self.dag.topological_sort()
            if task_id in found
        )
        self.journal += engine.handle(ReuseResults(orchestration_id=self.name, results=results), START).events

    def lose(self) -> None:
        """Forget everything but the journal."""
        self.live, self.stopping, self.beats_us, self.begun_us = {}, set(), {}, {}
        self.questions, self.verifications, self.lookups = set(), {}, set()
        self.state = replay(self.name, self.dag, self.journal)
        self.is_dormant = True

    def forget(self, task_id: TaskId) -> None:
        """An attempt is over, or nobody waits for it."""
        self.live.pop(task_id, None)
        self.stopping.discard(task_id)

    def cease(self, task_ids: Iterable[TaskId]) -> None:
        """Tasks were cancelled: nobody waits for an answer about them any more."""
        for task_id in task_ids:
            if task_id in self.unended and not self.state.tasks[task_id].node.idempotent:
                self.open.add(task_id)
            self.unended.discard(task_id)
            self.questions.discard(task_id)
            self.lookups.discard(task_id)
            self.verifications.pop(task_id, None)

    def reopen(self, event: RetryRequested) -> None:
        """Tasks begin a new generation: what had settled may change again."""
        for task_id in event.task_ids:
            before = self.outcomes.pop(task_id, None)
            assert before in {"failed", "cancelled", "skipped"}, f"{task_id} was {before}, and is retried"
            if task_id not in self.open:
                self.generations[task_id] += any(name == task_id for name, _ in self.past)
                self.went_on_without.pop(task_id, None)
            for edge in self.state.tasks[task_id].outgoing:
                if self.state.tasks[edge.target].status in BEGUN or edge.target in self.open:
                    self.went_on_without[edge.target].add(task_id)
