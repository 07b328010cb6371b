"""What the engine's Hypothesis machine plays with: graphs, alternatives, what the outside knows of an orchestration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

from hypothesis import strategies as st

from orchestration.dag import TaskDAG
from orchestration.engine.engine import Engine, EngineOptions
from orchestration.engine.events import PlanEdited, RetryRequested
from orchestration.engine.inputs import OutputRef, Reusable, ReuseResults, Routes, TaskDefaults
from orchestration.engine.state import State, replay
from orchestration.engine.task_state import TaskState
from orchestration.models import (
    AGENT,
    Acceptance,
    Approver,
    CachePolicy,
    Fallback,
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
    {
        TaskStatus.READY,
        TaskStatus.AWAITING_APPROVAL,
        TaskStatus.OFFERED,
        TaskStatus.CLAIMED,
        TaskStatus.EXPANDED,
        TaskStatus.RUNNING,
        TaskStatus.RETRYING,
        TaskStatus.UNKNOWN,
        TaskStatus.REPLANNING,
    }
)
Batch = tuple[tuple[TaskNode, ...], tuple[TaskEdge, ...]]
"""Part of a plan: tasks, and the edges that lead to them."""


@st.composite
def fallbacks(draw: st.DrawFn, *, idempotent: bool) -> Fallback | None:
    """Return no fallback, mostly; or one, or one inside another."""
    inner = Fallback(tool="third") if draw(st.booleans()) else None
    one = Fallback(
        tool="second",
        max_retries=draw(st.sampled_from([0, 1])),
        idempotent=idempotent and draw(st.sampled_from([True, True, False])),
        fallback=inner,
    )
    return draw(st.sampled_from([None, None, one]))


@st.composite
def nodes(draw: st.DrawFn, name: TaskId) -> TaskNode:
    """Return a task; one that must not be repeated may say how to ask about it, any other may be cached."""
    is_idempotent = draw(st.sampled_from([True, True, False]))
    is_asked, is_cached = draw(st.booleans()), draw(st.sampled_from([False, False, True]))
    approval: Approver | None = draw(st.sampled_from([None, None, None, "person", "caller"]))
    items: list[Json] | None = ["some list"] if draw(st.integers(0, 3)) == 3 else None
    return TaskNode(
        name,
        priority=draw(st.sampled_from(TaskPriority)),
        estimated_time_seconds=draw(st.sampled_from([None, 0.0, 1.0, 30.0])),
        max_retries=draw(st.sampled_from([None, 0, 2])),
        timeout_seconds=draw(st.sampled_from([None, 20.0])),
        heartbeat_timeout_seconds=draw(st.sampled_from([None, None, 4.0])),
        idempotent=is_idempotent,
        verify=Verification(tool="ask") if is_asked and not is_idempotent else None,
        cache=CachePolicy(ttl_seconds=60.0) if is_cached and is_idempotent and approval is None else None,
        fallback=draw(fallbacks(idempotent=is_idempotent)),
        approval=approval,
        foreach=items,
        acceptance=draw(st.sampled_from([None, None, Acceptance(condition="output.ok")])),
        tool=draw(st.sampled_from([None, "x", "y"])),
    )


@st.composite
def parents(draw: st.DrawFn, names: str) -> dict[TaskId, TaskId]:
    """Return which tasks are parts of which; parents come before their parts, and may lie inside each other."""
    found: dict[TaskId, TaskId] = {}
    if not draw(st.sampled_from([False, True])):
        return found
    chosen = draw(st.sets(st.sampled_from(names), max_size=2))
    for name in names:
        before = sorted(each for each in chosen if each < name)
        if before and draw(st.sampled_from([True, True, False])):
            found[name] = draw(st.sampled_from(before))
    return found


@st.composite
def dags(draw: st.DrawFn) -> TaskDAG:
    """Return a DAG of up to eight tasks with every kind of edge; some may be parts of others, some lists."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    inside = draw(parents(names))
    edges = [
        TaskEdge(
            source,
            target,
            data_requirements=draw(st.sampled_from([[], [], [], ["ok"]])),
            is_optional=draw(st.booleans()),
            condition=draw(st.sampled_from(CONDITIONS)),
        )
        for source, target in combinations(names, 2)
        if inside.get(source) == inside.get(target) and draw(st.integers(0, 2)) == 0
    ]
    made = [
        TaskNode(name, parent=inside.get(name))
        if name in inside.values()
        else replace(draw(nodes(name)), parent=inside.get(name))
        for name in names
    ]
    return graph(made, *edges)


def batches(dag: TaskDAG) -> list[Batch]:
    """Return a DAG part by part, as a planner hands it out: what lies inside a task comes with it."""
    found = []
    for name, node in dag.nodes.items():
        if node.parent is None:
            whole = {each for each in dag.nodes if name in _line(dag, each)}
            tasks = tuple(each for each_id, each in dag.nodes.items() if each_id in whole)
            found.append((tasks, tuple(edge for edge in dag.edges if edge.target_task_id in whole)))
    return found


def _line(dag: TaskDAG, name: TaskId) -> list[TaskId]:
    """Return a task and everything it lies in."""
    found = [name]
    while (parent := dag.nodes[found[-1]].parent) is not None:
        found.append(parent)
    return found


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
def beginnings(draw: st.DrawFn, *, are_agents: bool = False) -> Beginning:
    """Return how an orchestration begins; sometimes, or if that is wanted, with tasks that are offered to workers."""
    dag = draw(dags())
    agents = st.sets(
        st.sampled_from(list(dag.nodes)), min_size=max(1, len(dag.nodes) - 2) if are_agents else 0
    )
    return Beginning(
        dag,
        draw(st.sampled_from(MODES)),
        can_replan=draw(st.sampled_from([True, True, False])),
        asks_caller=draw(st.booleans()),
        is_planning=not are_agents and draw(st.sampled_from([False, False, True])),
        others=draw(st.sets(st.sampled_from(list(dag.nodes)))),
        agents=draw(agents if are_agents else st.one_of(st.just(set[TaskId]()), agents)),
        timeout_seconds=draw(st.sampled_from([None, None, 100.0])),
        reused=set() if are_agents else draw(st.sets(st.sampled_from(list(dag.nodes)))),
    )


class Beginning:
    """How an orchestration begins."""

    def __init__(
        self,
        dag: TaskDAG,
        mode: OrchestrationMode,
        *,
        can_replan: bool,
        asks_caller: bool,
        is_planning: bool,
        others: set[TaskId],
        agents: set[TaskId],
        timeout_seconds: float | None,
        reused: set[TaskId],
    ) -> None:
        self.dag = dag
        self.mode = mode
        self.can_replan = can_replan
        self.asks_caller = asks_caller
        self.is_planning = is_planning
        """Whether the tasks come part by part, when it has begun."""
        self.others = others
        """Tasks that another system can do, too."""
        self.agents = agents
        """Tasks that are offered to workers; those among `others` go to a system afterwards, all else the other way."""
        self.timeout_seconds = timeout_seconds
        self.reused = reused
        """Tasks an earlier orchestration has results of, where it has those of all their upstreams."""

    def __repr__(self) -> str:
        return (
            f"Beginning({self.mode}, can_replan={self.can_replan}, asks_caller={self.asks_caller}, "
            f"is_planning={self.is_planning}, timeout_seconds={self.timeout_seconds}, "
            f"others={sorted(self.others)}, agents={sorted(self.agents)}, reused={sorted(self.reused)}, "
            f"tasks={list(self.dag.nodes.values())}, edges={self.dag.edges})"
        )


class Driven:
    """What the outside knows of one orchestration."""

    def __init__(self, name: str, beginning: Beginning) -> None:
        self.name = name
        self.dag = graph("") if beginning.is_planning else beginning.dag
        self.rest = batches(beginning.dag) if beginning.is_planning else []
        """What the planner has not handed out yet."""
        agents = beginning.agents
        self.routes = Routes(
            systems={task_id: AGENT if task_id in agents else "here" for task_id in beginning.dag.nodes},
            others={each: ("second",) if each in agents else ("second", AGENT) for each in beginning.others},
            fallbacks={
                task_id: ("spare", "last") if task_id in agents else ("spare", AGENT, "last")
                for task_id, node in beginning.dag.nodes.items()
                if node.fallback is not None
            },
        )
        self.journal = [
            submitted(
                self.dag,
                name,
                mode=beginning.mode,
                can_replan=beginning.can_replan,
                asks_caller=beginning.asks_caller,
                is_planning=beginning.is_planning,
                defaults=DEFAULTS,
                context={"env": "x"},
                routes=Routes() if beginning.is_planning else self.routes,
                timeout_seconds=beginning.timeout_seconds,
            )
        ]
        self.is_whole = not beginning.is_planning
        self.values: dict[TaskId, Json] = {}
        """Outputs, as they are stored."""
        self._reuse(set() if beginning.is_planning else beginning.reused)
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
        self.lookups: dict[TaskId, int] = {}
        """Tasks somebody looks into the cache for, by generation."""
        self.descriptions: dict[TaskId, tuple[int, str]] = {}
        """Tasks somebody describes for approval: the generation, and the digest of what they look at."""
        self.lists: dict[TaskId, int] = {}
        """Lists somebody counts, by generation."""
        self.gathers: dict[TaskId, int] = {}
        """Tasks whose parts' outputs somebody gathers, by generation."""
        self.briefs: dict[TaskId, tuple[int, int]] = {}
        """Tasks somebody writes an offer of: by generation and number."""
        self.looks: dict[TaskId, str] = {}
        """Claims somebody looks at."""
        self.checks: dict[TaskId, tuple[int, OutputRef]] = {}
        """Results somebody looks at: by attempt."""
        self.offers: defaultdict[TaskId, int] = defaultdict(int)
        """How often each task was offered."""
        self.held: dict[TaskId, str] = {}
        """Tasks that are claimed, as the journal tells, and the claims."""
        self.latest: dict[TaskId, str] = {}
        """The latest claim of each task."""
        self.splits = 0
        """Alternatives that workers brought for their own tasks."""
        self.is_grown = False
        """Whether somebody makes the rest of the plan."""
        self.asks: set[TaskId] = set()
        """Tasks whoever submitted it is asked about."""
        self.agreed: dict[TaskId, str] = {}
        """Digests of what somebody agreed to."""
        self.revision = 1
        self.gone: set[TaskId] = set()
        """Tasks that were replaced or removed."""
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
        self.questions, self.verifications, self.lookups = set(), {}, {}
        self.descriptions, self.lists, self.gathers, self.is_grown = {}, {}, {}, False
        self.briefs, self.looks, self.checks = {}, {}, {}
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
            self.held.pop(task_id, None)
            self.stop_asking(task_id)

    def stop_asking(self, task_id: TaskId, *, agreed: bool = False) -> None:
        """Nobody waits for an answer about a task any more; what was agreed to may stand."""
        self.questions.discard(task_id)
        self.asks.discard(task_id)
        if not agreed:
            self.agreed.pop(task_id, None)
        for asked in (
            self.lookups, self.verifications, self.descriptions, self.lists, self.gathers, self.briefs, self.looks,
            self.checks,
        ):  # fmt: skip
            asked.pop(task_id, None)

    def all_went_on_without(self, task_id: TaskId) -> set[TaskId]:
        """Return the upstreams that were retried when the task, or what it lies in, was ready or had begun.

        What an alternative has put in the place of one stands for it.
        """
        found = set(self.went_on_without[task_id])
        while (parent := self.state.tasks[task_id].node.parent) is not None:
            task_id = parent
            found |= self.went_on_without[task_id]
        return found | {self.state.current(upstream) for upstream in found}

    def digest(self, task: TaskState) -> str:
        """Return the identity of what an attempt of a task would do now."""
        fed = sorted((edge.edge.source_task_id, edge.delivers) for edge in task.incoming)
        return f"{task.node.tool} at {task.system} with {fed}"

    def edit(self, event: PlanEdited) -> None:
        """Note a change of the graph: whose keys and agreements it takes away, what is gone and what is back."""
        assert event.revision == self.revision + 1, "a revision is left out, or comes twice"
        self.revision = event.revision
        self.gone |= set(event.removed)
        for node in event.added:
            self.gone.discard(node.task_id)
            self.outcomes.pop(node.task_id, None)
        for task_id, task in self.state.tasks.items():
            if task.generation != self.generations[task_id]:
                is_edited = not task.attempt or task_id in {node.task_id for node in event.changed}
                assert is_edited, f"{task_id} got another key by an edit of something else"
                self.generations[task_id] = task.generation
                self.agreed.pop(task_id, None)
                self.asks.discard(task_id)

    def reopen(self, event: RetryRequested) -> None:
        """Tasks begin a new generation: what had settled may change again."""
        for task_id in event.task_ids:
            before = self.outcomes.pop(task_id, None)
            self.agreed.pop(task_id, None)
            assert before in {"failed", "cancelled", "skipped"}, f"{task_id} was {before}, and is retried"
            if task_id not in self.open:
                self.generations[task_id] += any(name == task_id for name, _ in self.past)
                self.went_on_without.pop(task_id, None)
            for edge in self.state.tasks[task_id].outgoing:
                if self.state.tasks[edge.target].status in BEGUN or edge.target in self.open:
                    self.went_on_without[edge.target].add(task_id)
