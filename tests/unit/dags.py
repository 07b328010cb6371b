"""DAGs for tests: small ones by a short notation, random ones by Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from orchestration.dag import TaskDAG
from orchestration.models import (
    Approver,
    CachePolicy,
    Fallback,
    Json,
    TaskEdge,
    TaskNode,
    TaskPriority,
    TaskStatus,
    Verification,
)


def dag_of(*edges: str, tasks: str = "", **durations: float) -> TaskDAG:
    """Make a DAG of edges like `a>b`; tasks in order of appearance, those in `tasks` first."""
    dag = TaskDAG("test")
    ends = [tuple(edge.split(">")) for edge in edges]
    for task_id in dict.fromkeys([*tasks.split(), *(end for pair in ends for end in pair)]):
        dag.add_task(TaskNode(task_id, estimated_time_seconds=durations.get(task_id)))
    for source, target in ends:
        dag.add_dependency(TaskEdge(source, target))
    return dag


TEXTS = st.text(
    st.characters(exclude_categories=["Cs"])
    | st.sampled_from("\x00\x07\t\r\n\x85\ufeff\u2028 '\"#&*!|>%@`{}[],:?-~"),
    max_size=12,
) | st.sampled_from(
    [
        "no",
        "yes",
        "null",
        "~",
        "1e5",
        "0x1F",
        "0o7",
        "010",
        "1_000",
        "2026-11-21",
        "12:30",
        ".inf",
        "-.5",
        "<<",
        "=",
        "",
    ]
)
"""Texts that files trip over."""

VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def any_dags(draw: st.DrawFn, *, literal: bool = False) -> TaskDAG:
    """Draw a sound DAG that uses every field but `parent`; `literal` keeps `${` out of the arguments."""
    count = draw(st.integers(1, 6))
    dag = TaskDAG(
        draw(st.sampled_from(["d", "nightly-report", "no", "1e3"])), draw(TEXTS), metadata=draw(_objects())
    )
    ids = draw(st.permutations([f"t{number}" for number in range(count - 1)] + ["no"]))
    for task_id in ids:
        arguments = draw(_objects())
        idempotent = draw(st.booleans())
        approval: Approver | None = draw(st.sampled_from([None, "person", "caller"]))
        dag.add_task(
            TaskNode(
                task_id,
                description=draw(TEXTS),
                system_preference=draw(st.sampled_from(["auto", "kgot", "on"])),
                priority=draw(st.sampled_from(TaskPriority)),
                status=draw(st.sampled_from(TaskStatus)),
                estimated_time_seconds=draw(st.none() | st.floats(0, 1e9)),
                complexity_score=draw(st.none() | st.floats(0, 10)),
                resource_requirements=draw(st.dictionaries(TEXTS, st.floats(0, 1e6), max_size=2)),
                tool=draw(st.none() | st.sampled_from(["run", "null", "1"])),
                arguments=arguments if "${" not in repr(arguments) else {},
                max_retries=draw(st.none() | st.integers(0, 100)),
                backoff_factor=draw(st.none() | st.floats(1, 100)),
                timeout_seconds=draw(st.none() | st.floats(0.001, 1e6)),
                heartbeat_timeout_seconds=draw(st.none() | st.floats(0.001, 1e6)),
                idempotent=idempotent,
                verify=draw(st.none() | st.just(Verification("ask", {"a": 1}))) if not idempotent else None,
                cache=draw(st.none() | st.just(CachePolicy(60))) if idempotent and not approval else None,
                fallback=draw(_fallbacks(idempotent=idempotent)),
                approval=approval,
                foreach=draw(st.none() | st.lists(VALUES.filter(_is_literal), max_size=3)),
                cost=draw(st.none() | st.floats(0, 1e6)),
                metadata=draw(_objects()),
            )
        )
    order = draw(st.permutations(ids))
    pairs = [(order[low], order[high]) for high in range(count) for low in range(high)]
    for source, target in draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []:
        dag.add_dependency(
            TaskEdge(
                source,
                target,
                data_requirements=draw(st.lists(TEXTS.filter(bool), max_size=2)),
                is_optional=draw(st.booleans()),
                condition=draw(st.sampled_from([None, "output.rows > 0", 'status == "failed"'])),
            )
            if draw(st.booleans())
            else TaskEdge(source, target)
        )
    return dag


def _is_literal(value: Json) -> bool:
    return "${" not in repr(value)


@st.composite
def _fallbacks(draw: st.DrawFn, *, idempotent: bool, left: int = 3) -> Fallback | None:
    if not left or draw(st.booleans()):
        return None
    idempotent = idempotent and draw(st.booleans())
    return Fallback(
        description=draw(TEXTS),
        system_preference=draw(st.sampled_from(["auto", "kgot"])),
        tool=draw(st.none() | st.sampled_from(["run", "null"])),
        arguments=draw(_objects().filter(_is_literal)),
        max_retries=draw(st.integers(0, 3)),
        timeout_seconds=draw(st.none() | st.floats(0.001, 1e6)),
        idempotent=idempotent,
        verify=draw(st.none() | st.just(Verification("ask"))) if not idempotent else None,
        fallback=draw(_fallbacks(idempotent=idempotent, left=left - 1)),
    )


def _objects() -> st.SearchStrategy[dict[str, Json]]:
    return st.dictionaries(TEXTS, VALUES, max_size=3)


@st.composite
def links(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """Draw a directed graph, cycles and self-edges allowed: its number of vertices and its edges."""
    count = draw(st.integers(1, 9))
    vertices = st.integers(0, count - 1)
    return count, draw(st.lists(st.tuples(vertices, vertices), max_size=16))
