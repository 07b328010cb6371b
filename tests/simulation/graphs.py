"""What a schedule is about, drawn at random: the DAG, how it is run, alternative plans, outputs.

A graph has up to fourteen tasks with every kind of edge. Some tasks must not be repeated, some of these can be asked
whether they happened, some may take an equal task's output, some must give signs of life. Some want approval, have a
fallback or other systems, are lists, or parts of others. Some graphs come part by part, when they run already.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

from orchestration.dag import TaskDAG
from orchestration.engine.engine import Engine, EngineOptions
from orchestration.engine.events import OrchestrationSubmitted, Recorded
from orchestration.engine.inputs import OutputRef, Reusable, ReuseResults, Routes, TaskDefaults
from orchestration.engine.state import State, replay
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
from tests.engine_kit import START, graph

ID = "o"
"""The orchestration of a schedule."""
SYSTEM = "there"
"""Where its tasks run."""
OTHER = "elsewhere"
"""Where some of them can run, too."""

_CONDITIONS = [None] * 6 + ["output.ok", "output.n > 1", "status == 'failed'"]
APPROVERS: tuple[Approver, ...] = ("person", "caller")
_ASKED = Verification(tool="did-it-happen")
ACCEPTED = Acceptance(condition="output.ok")
"""What has to hold of some results that workers report."""
_LONG, _SHORT = CachePolicy(ttl_seconds=86_400.0), CachePolicy(ttl_seconds=20.0)


class Value(NamedTuple):
    """An output and its identity."""

    json: Json
    ref: OutputRef


def value_of(content: Json) -> Value:
    """Return an output with its identity."""
    text = json.dumps(content).encode()
    return Value(content, OutputRef(sha256=hashlib.sha256(text).hexdigest(), size_bytes=len(text)))


_OUTPUTS: list[Json] = [{"ok": True, "n": 2}, {"ok": False, "n": 0}, {"ok": True}, "text"]
VALUES = [value_of(each) for each in _OUTPUTS]
DECIDED = value_of({"ok": True, "n": 9})
"""What a person says the output was."""
VERIFIED = value_of({"ok": True, "n": 7})
"""What `verify` says it was."""


class Part(NamedTuple):
    """Part of a plan that is still being made."""

    tasks: tuple[TaskNode, ...]
    edges: tuple[TaskEdge, ...]


@dataclass(frozen=True, slots=True)
class Story:
    """What a schedule begins with."""

    dag: TaskDAG
    options: EngineOptions
    slots: int
    first: tuple[Recorded, ...]
    """The first entries of the journal."""
    reused: dict[TaskId, Value]
    """Outputs taken over from an earlier orchestration."""
    parts: list[Part]
    """What a planner hands out, part by part, when it runs; empty where the whole plan is there at first."""
    routes: Routes


def random_story(rng: random.Random) -> Story:
    """Return a graph and how it is run; sometimes with results of an earlier orchestration."""
    whole = random_dag(rng)
    is_planning = rng.random() < 0.2
    dag = TaskDAG("dag") if is_planning else whole
    routes = _routes(rng, whole)
    event = OrchestrationSubmitted(
        dag_sha256="",
        mode=rng.choice([*OrchestrationMode, OrchestrationMode.ADAPTIVE]),
        routes={task_id: routes.systems[task_id] for task_id in dag.nodes},
        others={} if is_planning else dict(routes.others),
        fallback_routes={} if is_planning else dict(routes.fallbacks),
        can_replan=rng.random() < 0.7,
        asks_caller=rng.random() < 0.5,
        is_planning=is_planning,
        defaults=TaskDefaults(max_retries=2, timeout_seconds=30.0),
        timeout_seconds=rng.choice([None, None, None, 60.0, 300.0]),
    )
    first = Recorded(orchestration_id=ID, seq=1, at_us=START, event=event)
    reused = _earlier(dag, rng) if rng.random() < 0.15 else {}
    return Story(
        dag=dag,
        options=EngineOptions(cancel_grace_seconds=3.0, max_replans=3),
        slots=rng.randint(1, 5),
        first=(first, *_reuse(dag, first, reused)),
        reused=reused,
        parts=parts_of(whole) if is_planning else [],
        routes=routes,
    )


def parts_of(dag: TaskDAG) -> list[Part]:
    """Return a DAG part by part, upstreams first; what lies inside a task comes with it."""
    tops = {task_id: task_id for task_id, node in dag.nodes.items() if node.parent is None}
    for task_id, node in dag.nodes.items():  # parents come before their parts
        if node.parent is not None:
            tops[task_id] = tops[node.parent]
    return [
        Part(
            tuple(node for task_id, node in dag.nodes.items() if tops[task_id] == top),
            tuple(edge for edge in dag.edges if tops[edge.target_task_id] == top),
        )
        for top in dict.fromkeys(tops.values())
    ]


def _routes(rng: random.Random, dag: TaskDAG) -> Routes:
    """Return where tasks go, and where when their first system, or they themselves, have failed."""
    odds = rng.choice([0.0, 0.0, 0.4, 1.0])
    agents = {task_id for task_id in dag.nodes if rng.random() < odds}
    second = AGENT if odds and rng.random() < 0.5 else OTHER
    return Routes(
        systems={task_id: AGENT if task_id in agents else SYSTEM for task_id in dag.nodes},
        others={
            task_id: (OTHER if task_id in agents else second,) for task_id in dag.nodes if rng.random() < 0.3
        },
        fallbacks={
            task_id: (SYSTEM, second) for task_id, node in dag.nodes.items() if node.fallback is not None
        },
    )


def random_dag(rng: random.Random) -> TaskDAG:
    """Return a DAG of 1 to 14 tasks."""
    names = [f"t{number}" for number in range(rng.randint(1, 14))]
    once, cached = rng.choice([0.0, 0.3, 0.7]), rng.choice([0.0, 0.4])
    odds = _Odds(rng.choice([0.0, 0.15, 0.4]), rng.choice([0.0, 0.4]), rng.choice([0.0, 0.0, 0.3]))
    inside = _parents(rng, names)
    nodes = [
        TaskNode(name, parent=inside[name])
        if name in inside.values()
        else replace(_random_node(rng, name, once, cached, odds), parent=inside[name])
        for name in names
    ]
    density = rng.random() * 0.6
    edges = [
        TaskEdge(
            source,
            target,
            data_requirements=["ok"] if rng.random() < 0.1 else [],
            is_optional=rng.random() < 0.3,
            condition=rng.choice(_CONDITIONS),
        )
        for source, target in combinations(names, 2)
        if inside[source] == inside[target] and rng.random() < density
    ]
    return graph(nodes, *edges)


class _Odds(NamedTuple):
    approval: float
    fallback: float
    items: float


def _parents(rng: random.Random, names: list[TaskId]) -> dict[TaskId, TaskId | None]:
    """Return what each task is a part of; parents come before their parts."""
    found: dict[TaskId, TaskId | None] = dict.fromkeys(names)
    if rng.random() < 0.6:
        return found
    chosen = sorted(rng.sample(names, min(len(names), rng.randint(1, 2))), key=names.index)
    for name in names:
        before = [each for each in chosen if names.index(each) < names.index(name)]
        if before and rng.random() < 0.6:
            found[name] = rng.choice(before)
    return found


def _random_node(rng: random.Random, name: TaskId, once: float, cached: float, odds: _Odds) -> TaskNode:
    is_idempotent = rng.random() >= once
    approval = rng.choice([*APPROVERS]) if rng.random() < odds.approval else None
    items: list[Json] | None = ["some list"] if rng.random() < odds.items else None
    return TaskNode(
        name,
        priority=TaskPriority(rng.randint(1, 5)),
        estimated_time_seconds=rng.choice([None, 1.0, 20.0]),
        max_retries=rng.choice([None, 0, 3]),
        timeout_seconds=rng.choice([None, 15.0]),
        heartbeat_timeout_seconds=rng.choice([None, None, None, 4.0]),
        idempotent=is_idempotent,
        verify=_ASKED if not is_idempotent and rng.random() < 0.5 else None,
        cache=rng.choice([_LONG, _SHORT])
        if is_idempotent and approval is None and rng.random() < cached
        else None,
        fallback=_random_fallback(rng, is_idempotent) if rng.random() < odds.fallback else None,
        approval=approval,
        foreach=items,
        acceptance=ACCEPTED if rng.random() < 0.2 else None,
        tool=rng.choice("xyz"),
    )


def _random_fallback(rng: random.Random, is_idempotent: bool) -> Fallback:
    inner = Fallback(tool="third", idempotent=is_idempotent) if rng.random() < 0.3 else None
    return Fallback(
        tool="second",
        max_retries=rng.choice([0, 1]),
        idempotent=is_idempotent and (inner is not None or rng.random() < 0.8),
        fallback=inner,
    )


def random_plan(rng: random.Random) -> TaskDAG:
    """Return an alternative plan; its tasks may fail too, and one may have parts."""
    names = ["p", "q", "r"][: rng.randint(1, 3)]
    nodes = [
        TaskNode(name, tool=rng.choice("stuvw"), max_retries=0, idempotent=rng.random() < 0.8)
        for name in names
    ]
    edges = [TaskEdge(one, other) for one, other in combinations(names, 2) if rng.random() < 0.7]
    if rng.random() < 0.2:
        nodes[0] = TaskNode("p")
        nodes += [TaskNode(f"p{part}", tool=rng.choice("stuvw"), parent="p") for part in range(2)]
        edges += [TaskEdge("p0", "p1")] * (rng.random() < 0.5)
    return graph(nodes, *edges, dag_id="plan")


def _earlier(dag: TaskDAG, rng: random.Random) -> dict[TaskId, Value]:
    """Return outputs of an earlier orchestration for some tasks, each with all that is upstream of it."""
    incoming = dag.incoming()
    found: dict[TaskId, Value] = {}
    for task_id in dag.topological_sort():
        if rng.random() < 0.7 and all(edge.source_task_id in found for edge in incoming[task_id]):
            found[task_id] = rng.choice(VALUES)
    return found


def _reuse(dag: TaskDAG, first: Recorded, reused: dict[TaskId, Value]) -> list[Recorded]:
    """Return the events by which a new orchestration takes results over, as a submission makes them."""
    if not reused:
        return []
    engine = Engine()
    engine.adopt(replay(ID, dag, [first]))
    results = tuple(
        Reusable(task_id=task_id, output=value.ref, value=value.json, source=f"earlier:{task_id}")
        for task_id, value in reused.items()
    )
    return engine.handle(ReuseResults(orchestration_id=ID, results=results), START).events


def gathered(state: State, task_id: TaskId, outputs: Mapping[TaskId, Value]) -> Json:
    """Return what the parts of a task add up to: those of a list item by item, else the last ones by id."""
    task = state.tasks[task_id]

    def output(name: TaskId) -> Json:
        is_there = state.tasks[name].status is TaskStatus.COMPLETED
        return outputs[name].json if is_there else None

    if task.items is not None:
        return [output(state.current(f"{task_id}[{index}]")) for index in range(task.items)]
    return {name: output(name) for name in sorted(task.children) if not state.tasks[name].outgoing}
