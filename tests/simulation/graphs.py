"""What a schedule is about, drawn at random: the DAG, how it is run, alternative plans, outputs.

A graph has up to fourteen tasks with every kind of edge. Some tasks must not be repeated, some of these can be asked
whether they happened, some may take an equal task's output, some must give signs of life.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from orchestration.dag import TaskDAG
from orchestration.engine.engine import Engine, EngineOptions
from orchestration.engine.events import OrchestrationSubmitted, Recorded
from orchestration.engine.inputs import OutputRef, Reusable, ReuseResults, TaskDefaults
from orchestration.engine.state import replay
from orchestration.models import (
    CachePolicy,
    Json,
    OrchestrationMode,
    TaskEdge,
    TaskId,
    TaskNode,
    TaskPriority,
    Verification,
)
from tests.engine_kit import START, graph

ID = "o"
"""The orchestration of a schedule."""
SYSTEM = "there"
"""Where its tasks run."""

_CONDITIONS = [None] * 6 + ["output.ok", "output.n > 1", "status == 'failed'"]
_ASKED = Verification(tool="did-it-happen")
_LONG, _SHORT = CachePolicy(ttl_seconds=86_400.0), CachePolicy(ttl_seconds=20.0)


class Value(NamedTuple):
    """An output and its identity."""

    json: Json
    ref: OutputRef


def _value(content: Json) -> Value:
    text = json.dumps(content).encode()
    return Value(content, OutputRef(sha256=hashlib.sha256(text).hexdigest(), size_bytes=len(text)))


_OUTPUTS: list[Json] = [{"ok": True, "n": 2}, {"ok": False, "n": 0}, {"ok": True}, "text"]
VALUES = [_value(each) for each in _OUTPUTS]
DECIDED = _value({"ok": True, "n": 9})
"""What a person says the output was."""
VERIFIED = _value({"ok": True, "n": 7})
"""What `verify` says it was."""


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


def random_story(rng: random.Random) -> Story:
    """Return a graph and how it is run; sometimes with results of an earlier orchestration."""
    dag = random_dag(rng)
    event = OrchestrationSubmitted(
        dag_sha256="",
        mode=rng.choice(list(OrchestrationMode)),
        routes=dict.fromkeys(dag.nodes, SYSTEM),
        can_replan=rng.random() < 0.7,
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
    )


def random_dag(rng: random.Random) -> TaskDAG:
    """Return a DAG of 1 to 14 tasks."""
    names = [f"t{number}" for number in range(rng.randint(1, 14))]
    once, cached = rng.choice([0.0, 0.3, 0.7]), rng.choice([0.0, 0.4])
    nodes = [_random_node(rng, name, once, cached) for name in names]
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
        if rng.random() < density
    ]
    return graph(nodes, *edges)


def _random_node(rng: random.Random, name: TaskId, once: float, cached: float) -> TaskNode:
    is_idempotent = rng.random() >= once
    return TaskNode(
        name,
        priority=TaskPriority(rng.randint(1, 5)),
        estimated_time_seconds=rng.choice([None, 1.0, 20.0]),
        max_retries=rng.choice([None, 0, 3]),
        timeout_seconds=rng.choice([None, 15.0]),
        heartbeat_timeout_seconds=rng.choice([None, None, None, 4.0]),
        idempotent=is_idempotent,
        verify=_ASKED if not is_idempotent and rng.random() < 0.5 else None,
        cache=rng.choice([_LONG, _SHORT]) if is_idempotent and rng.random() < cached else None,
        tool=rng.choice("xyz"),
    )


def random_plan(rng: random.Random) -> TaskDAG:
    """Return an alternative plan; its tasks may fail too."""
    names = ["p", "q", "r"][: rng.randint(1, 3)]
    nodes = [
        TaskNode(name, tool=rng.choice("stuvw"), max_retries=0, idempotent=rng.random() < 0.8)
        for name in names
    ]
    edges = [TaskEdge(one, other) for one, other in combinations(names, 2) if rng.random() < 0.7]
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
