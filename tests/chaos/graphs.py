"""Random graphs for the storm: short tasks of every kind that matters when processes die."""

from __future__ import annotations

import random
from itertools import combinations

from orchestration import TaskDAG, TaskEdge, TaskNode
from orchestration.models import CachePolicy, JsonObject, TaskId
from tests.chaos.places import ASKED

_KINDS = ["act"] * 5 + ["once"] * 3 + ["thread", "cached", "later", "alive", "breaks", "breaks once", "fails"]


def random_dag(rng: random.Random, dag_id: str) -> TaskDAG:
    """Return a graph of 6 to 16 tasks; what fails or breaks off is optional for what follows."""
    dag = TaskDAG(dag_id)
    names = [f"t{number}" for number in range(rng.randint(6, 16))]
    kinds = {name: rng.choice(_KINDS) for name in names}
    for name, kind in kinds.items():
        dag.add_task(_node(rng, name, kind))
    density = rng.uniform(0.1, 0.4)
    for source, target in combinations(names, 2):
        if rng.random() < density:
            dag.add_dependency(
                TaskEdge(source, target, is_optional=kinds[source] in {"fails", "breaks", "breaks once"})
            )
    return dag


def _node(rng: random.Random, name: TaskId, kind: str) -> TaskNode:
    times: JsonObject = {"before": rng.uniform(0, 0.4), "after": rng.uniform(0, 0.4)}
    match kind:
        case "once":
            is_asked = rng.random() < 0.5
            return TaskNode(
                name, tool="act", arguments=times, idempotent=False, verify=ASKED if is_asked else None
            )
        case "thread":
            return TaskNode(name, tool="act_on_a_thread", arguments=times)
        case "cached":
            return TaskNode(name, tool="act", arguments={"number": 7}, cache=CachePolicy(ttl_seconds=3_600.0))
        case "later":
            return TaskNode(name, tool="act_at_last", max_retries=3, backoff_factor=1.0)
        case "alive":
            return TaskNode(name, tool="act_with_signs_of_life", heartbeat_timeout_seconds=1.0, max_retries=5)
        case "breaks":
            return TaskNode(name, tool="act_and_break_off", max_retries=1)
        case "breaks once":
            return TaskNode(name, tool="act_and_break_off", idempotent=False)
        case "fails":
            return TaskNode(name, tool="fail")
        case _:
            return TaskNode(name, tool="act", arguments=times)
