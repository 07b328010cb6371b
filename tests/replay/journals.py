"""Makes the stored journals that every later version must fold to the same state.

    python -m tests.replay.journals [NAME…] [--again]    write those that are not there; --again: all anew

A journal file holds the DAG, the events as the database stores them, and the state they add up to. It is written once:
when a change of the program makes `test_journals.py` fail, the program is wrong, not the file. `earlier/` holds what
the first version wrote, `earlier/second/` the second and `earlier/third/` the third; what the present one decides may
differ, but those must fold as they did.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestration.dag import TaskDAG
from orchestration.dag_file import dag_from_json, dag_to_json
from orchestration.engine.engine import EngineOptions
from orchestration.engine.events import Recorded
from orchestration.engine.inputs import Reusable, ReuseResults, Routes, TaskDefaults
from orchestration.engine.outcomes import APPROVAL_VOID
from orchestration.engine.state import State
from orchestration.models import (
    CachePolicy,
    ErrorRecord,
    Fallback,
    OrchestrationMode,
    TaskEdge,
    TaskNode,
    TaskPriority,
    Verification,
)
from storage.codec import decode_events, encode_event
from tests.engine_kit import ONE_OUTPUT, SECOND, Bench, edge_of, graph, plain, plan
from tests.replay.claimed import claimed, held

FOLDER = Path(__file__).parent / "journals"


def diamond() -> Bench:
    """Data flow through a diamond, everything at the first attempt."""
    dag = graph(
        [TaskNode("extract", tool="run_query", priority=TaskPriority.HIGH, cost=0.5), *map(TaskNode, "bcd")],
        TaskEdge("extract", "b", ["path"]),
        "extract c",
        "b d",
        "c d",
    )
    bench = Bench(dag, context={"day": "2026-11-21"})
    bench.start()
    bench.now_us += 2 * SECOND
    bench.succeed("extract", {"path": "/x"}, cost=0.25)
    bench.now_us += SECOND
    bench.run_out()
    return bench


def branches() -> Bench:
    """Conditions of every kind: taken, not taken, broken, handled, rejoined."""
    dag = graph(
        "choose left right join broken warned mend",
        "choose left if output.side == 'left'",
        "choose right if output.side == 'right'",
        "left join?",
        "right join?",
        "choose broken if output.nothing > 1",
        "choose warned? if output.nothing > 1",
        "broken mend if status == 'failed'",
    )
    bench = Bench(dag)
    bench.start()
    bench.succeed("choose", {"side": "left"})
    bench.run_out()
    return bench


def retries() -> Bench:
    """Back-offs, a timeout that stops, one that has to be abandoned, a failure nobody tolerates."""
    dag = graph(
        [TaskNode("flaky"), TaskNode("slow", timeout_seconds=5.0, max_retries=1), TaskNode("after")],
        "slow after",
    )
    bench = Bench(dag, defaults=TaskDefaults(max_retries=2), options=EngineOptions(cancel_grace_seconds=1.0))
    bench.start()
    bench.fail("flaky", retryable=True, jitter=0.25)
    bench.wait(0.25)
    bench.fail("flaky", retryable=True, jitter=0.25, retry_after_seconds=2.0)
    bench.wait(2)
    bench.succeed("flaky")
    bench.wait(5)
    bench.stopped("slow", jitter=0.5)
    bench.wait(1)
    bench.wait(5)
    bench.wait(1)
    return bench


def interrupted() -> Bench:
    """Two crashes, one of them while paused."""
    bench = Bench(graph("a b c d", "a b", "b c", "b d?"), slots=2, mode=OrchestrationMode.SIMPLE)
    bench.start()
    bench.now_us += SECOND
    bench.succeed("a")
    bench.crash()
    bench.now_us += 7 * SECOND
    bench.start()
    bench.pause()
    bench.crash()
    bench.start()
    bench.resume()
    bench.run_out()
    return bench


def cancelled() -> Bench:
    """One stopped, one that came too late to be stopped, one abandoned, the rest never started."""
    bench = Bench(graph("a b c d", "a d"), options=EngineOptions(cancel_grace_seconds=2.0))
    bench.start()
    bench.cancel("not needed any more")
    bench.stopped("a")
    bench.succeed("b")
    bench.wait(2)
    return bench


def replanned() -> Bench:
    """An alternative, one of its own, one refused; paused descendants; a reference that follows."""
    bench = Bench(graph("a b c other", "a b", "b c"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.succeed("a", {"path": "/x"})
    bench.fail("b")
    second = TaskNode("y", tool="y", arguments={"from": "${x.path}", "root": "${a.path}"})
    bench.offer("b", graph([TaskNode("x", tool="x"), second], "x y"), routes={"x": "there", "y": "there"})
    bench.succeed("x~1", {"path": "/y"})
    bench.fail("y~1")
    bench.offer("y~1", plan("z"), reason="second thoughts")
    bench.fail("other")
    bench.refuse("other")
    bench.run_out()
    return bench


def unfinished() -> Bench:
    """One task of each status that is no outcome, in a paused orchestration."""
    dag = graph("done runs again ready pending stuck held", "runs pending", "stuck held")
    bench = Bench(dag, slots=10, mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.succeed("done")
    bench.fail("again", retryable=True, retry_after_seconds=100.0)
    bench.fail("stuck")
    bench.pause()
    bench.fail("ready", retryable=True, jitter=0.0)
    bench.wait(0)
    return bench


def once() -> Bench:
    """Tasks that must not be repeated: cut off, timed out, lost; decided by people and by `verify`."""
    check = Verification(tool="was_it_sent", arguments={"to": "${first}"})
    careful = {"idempotent": False, "max_retries": 3}
    dag = graph(
        [
            TaskNode("first"),
            TaskNode("sent", verify=check, **careful),  # type: ignore[arg-type]
            TaskNode("asked", verify=check, **careful),  # type: ignore[arg-type]
            TaskNode("slow", timeout_seconds=5.0, **careful),  # type: ignore[arg-type]
            TaskNode("lost", **careful),  # type: ignore[arg-type]
            TaskNode("again", **careful),  # type: ignore[arg-type]
            TaskNode("open", **careful),  # type: ignore[arg-type]
        ],
        "first sent",
        "first asked",
    )
    bench = Bench(dag, slots=10, timeout_seconds=3600.0)
    bench.start()
    bench.succeed("first", "me")
    bench.fail("lost", retryable=True, effect_open=True)
    bench.wait(5)
    bench.stopped("slow")
    bench.crash()
    bench.start()
    bench.verified("sent", "done", {"id": 1})
    bench.verified("asked", "unclear", reason="the log is gone")
    bench.decide("asked", "done", {"id": 2}, reason="saw it")
    bench.decide("slow", "failed")
    bench.decide("lost", "retry", by="caller")
    bench.succeed("lost")
    bench.decide("again", "retry")
    return bench


def retried() -> Bench:
    """A failed orchestration that is reopened: a new generation, what was skipped too, what completed stays."""
    bench = Bench(graph("a b c d", "a b", "b c", "b d?"))
    bench.start()
    bench.succeed("a")
    bench.fail("b")
    bench.succeed("d")
    bench.crash()
    bench.now_us += SECOND
    bench.retry("b", reason="the server is back")
    bench.start()
    bench.run_out()
    return bench


def reused() -> Bench:
    """Outputs from the cache and from an earlier orchestration."""
    dag = graph(
        [
            TaskNode("old"),
            TaskNode("hit", cache=CachePolicy(60.0)),
            TaskNode("miss", cache=CachePolicy(60.0)),
        ],
        "old hit",
        "old miss",
    )
    bench = Bench(dag)
    result = Reusable(task_id="old", output=ONE_OUTPUT, value={"n": 1}, source="earlier-1:old")
    bench.tell(ReuseResults(orchestration_id=bench.id, results=(result,)))
    bench.start()
    bench.hit("hit")
    bench.miss("miss")
    bench.run_out()
    return bench


def elsewhere() -> Bench:
    """Another system, then a fallback inside a fallback; one that fails for good, one that is retried."""
    routes = Routes(others={"a": ("second",)}, fallbacks={"a": ("spare", "last"), "b": ("spare",)})
    nested = Fallback(tool="two", arguments={"of": "${up.x}"}, cost=0.5, fallback=Fallback(tool="three"))
    dag = graph(
        [
            TaskNode("up"),
            TaskNode("a", tool="one", max_retries=0, fallback=nested),
            TaskNode("b", idempotent=False, fallback=Fallback(tool="other", description="otherwise")),
        ],
        "up a",
    )
    bench = Bench(dag, routes=routes)
    bench.start()
    bench.succeed("up", {"x": 1})
    bench.fail("a", retryable=True)
    bench.fail("a", retryable=True)
    bench.fail("b")
    bench.fail("b")
    bench.fail("a")
    bench.now_us += SECOND
    bench.succeed("a")
    bench.crash()
    bench.retry("b")
    bench.start()
    bench.fail("b")
    bench.succeed("b")
    return bench


def approved() -> Bench:
    """Agreed to, void, agreed to again; refused and handled; not to be described; one that still waits."""
    dag = graph(
        [
            TaskNode("a", approval="person", tool="publish"),
            TaskNode("b", approval="caller"),
            TaskNode("mend"),
            TaskNode("c", approval="person"),
            TaskNode("waits", approval="person"),
            TaskNode("after"),
        ],
        "b mend if status == 'failed'",
        "c after?",
    )
    bench = Bench(dag, slots=10)
    bench.start()
    bench.described("a", "d1", shown='{"to": "all"}')
    bench.approve("a", "d1", reason="go")
    bench.fail("a", code=APPROVAL_VOID)
    bench.described("a", "d2", shown='{"to": "some"}')
    bench.described("b")
    bench.described("c", error=ErrorRecord(code="missing_data", message="no key 'x'"))
    bench.now_us += SECOND
    bench.reject("b", by="caller", reason="not now")
    bench.approve("a", "d2")
    bench.described("waits", "d3", shown="what would run")
    bench.run_out()
    return bench


def asked() -> Bench:
    """Nobody has an alternative: an answer of each kind, and one question that is still open."""
    bench = Bench(
        graph("graft again did failed edited open last", "graft last"),
        slots=10,
        mode=OrchestrationMode.ADAPTIVE,
        can_replan=True,
        asks_caller=True,
        options=EngineOptions(max_replans=10),
    )
    bench.start()
    for name in ("graft", "again", "did", "failed", "edited", "open"):
        bench.fail(name)
        bench.refuse(name, "the planner had none")
    bench.offer("graft", plan("x y", "x y"), by="caller", reason="so", routes={"x": "there"})
    bench.decide("again", "retry", by="caller")
    bench.decide("did", "done", {"by": "hand"}, reason="did it")
    bench.decide("failed", "failed")
    bench.edit(changed=(TaskNode("edited", tool="better"),), by="caller")
    bench.run_out()
    return bench


def composed() -> Bench:
    """Lists and parents, one inside the other: done, failed over a part, retried, and one that has begun."""
    dag = graph(
        [
            TaskNode("u"),
            TaskNode("t", foreach="${u.items}", tool="fetch", arguments={"x": "${item}", "n": "${index}"}),
            TaskNode("none", foreach=[]),
            TaskNode("p"),
            TaskNode("a", parent="p"),
            TaskNode("inner", parent="p", foreach=["x", "y"], max_retries=0),
            TaskNode("handler"),
            TaskNode("q", description="has begun"),
            TaskNode("first", parent="q"),
            TaskNode("second", parent="q"),
        ],
        "u t",
        "t p",
        "a inner",
        "p handler if status == 'failed'",
        "first second",
    )
    bench = Bench(dag, slots=10)
    bench.start()
    bench.succeed("u", {"items": [1, 2]})
    bench.found("t", 2)
    bench.found("none", 0)
    bench.gathered("none", [])
    bench.now_us += SECOND
    bench.succeed("t[1]")
    bench.fail("t[0]")
    bench.retry("t[0]")
    bench.succeed("t[0]")
    bench.gathered("t", [1, 2])
    bench.succeed("a")
    bench.found("inner", 2)
    bench.succeed("inner[0]")
    bench.fail("inner[1]")
    bench.succeed("handler")
    bench.succeed("first")
    bench.pause()
    return bench


def edited() -> Bench:
    """Every kind of change: added, changed, removed, linked, unlinked, skipped, added again by an undo; replaced."""
    dag = graph(
        [TaskNode("a"), TaskNode("b"), TaskNode("c", approval="person"), TaskNode("d"), TaskNode("e")],
        "a b",
        "b d",
        "a e",
    )
    bench = Bench(dag, slots=1, mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.described("c", "d1")
    bench.succeed("a", {"n": 1})
    bench.edit(
        added=(TaskNode("audit", fallback=Fallback(tool="x")), TaskNode("never")),
        linked=(edge_of("a audit if output.n > 0"), edge_of("a never if output.n > 1"), edge_of("audit d?")),
        changed=(TaskNode("c", approval="person", tool="other"),),
        values={"a": {"n": 1}},
        routes=Routes(
            systems={"audit": "there"}, others={"audit": ("second",)}, fallbacks={"audit": ("spare",)}
        ),
        reason="an audit is wanted",
    )
    bench.edit(removed=("e",), unlinked=(("b", "d"),), by="caller")
    bench.edit(added=(TaskNode("e"),), linked=(edge_of("a e"),), undoes=2)
    bench.fail("b")
    bench.offer("b", plan("z"), reason="b broke")
    bench.edit(skipped=("c",), reason="not today")
    bench.run_out()
    return bench


def planned() -> Bench:
    """Tasks that run while the plan is made: conditions decided late, what waits for the whole, an alternative."""
    bench = Bench(graph(""), slots=10, is_planning=True, mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.grow("a b")
    bench.succeed("a", {"n": 1})
    bench.fail("b")
    bench.offer("b", plan("x"))
    bench.grow(
        [TaskNode("c"), TaskNode("d"), TaskNode("once", idempotent=False)],
        "a c if output.n > 0",
        "a d if output.n > 1",
        "b once",
        values={"a": {"n": 1}},
        routes=Routes(systems={"c": "here", "d": "here", "once": "here"}, others={"c": ("second",)}),
    )
    bench.now_us += SECOND
    bench.run_out()
    bench.end_plan()
    bench.run_out()
    return bench


def half_planned() -> Bench:
    """The rest of the plan can't be made: what ran stays, the rest is cancelled; and it is planned on after a retry."""
    bench = Bench(graph(""), is_planning=True)
    bench.start()
    bench.grow([TaskNode("a"), TaskNode("b"), TaskNode("c", approval="person")], "a b")
    bench.succeed("a")
    bench.end_plan("the model is gone")
    bench.stopped("b")
    bench.retry()
    return bench


MAKERS: dict[str, Callable[[], Bench]] = {
    maker.__name__: maker
    for maker in (
        diamond,
        branches,
        retries,
        interrupted,
        cancelled,
        replanned,
        unfinished,
        once,
        retried,
        reused,
        elsewhere,
        approved,
        asked,
        composed,
        edited,
        planned,
        half_planned,
        claimed,
        held,
    )
}


def document(bench: Bench) -> dict[str, Any]:
    """Return a journal file's content."""
    return {
        "dag": json.loads(dag_to_json(bench.dag)),
        "events": [
            {"seq": entry.seq, "at_us": entry.at_us, "event": json.loads(encode_event(entry.event))}
            for entry in bench.journal
        ],
        "state": described(bench.state),
    }


def read(path: Path) -> tuple[TaskDAG, list[Recorded], dict[str, Any]]:
    """Return what a journal file holds: the DAG, the events, the state they must add up to."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    rows = [(entry["seq"], entry["at_us"], json.dumps(entry["event"])) for entry in stored["events"]]
    return dag_from_json(json.dumps(stored["dag"]).encode()), decode_events("o", rows), stored["state"]


def described(state: State) -> dict[str, Any]:
    """Return what a state must be for every later version: what users, dependents and drivers see of it."""
    return {
        "status": state.status.value,
        "revision": state.revision,
        "counts": {status.value: count for status, count in sorted(state.counts.items()) if count},
        "composites": {status.value: count for status, count in sorted(state.composites.items()) if count},
        "is_whole": state.is_whole,
        "attempts": state.attempts,
        "work_us": state.work_us,
        "cost": state.cost,
        "warnings": list(state.warnings),
        "replacement": dict(state.replacement),
        "first_started_at_us": state.first_started_at_us,
        "last_settled_at_us": state.last_settled_at_us,
        "finished_at_us": state.finished_at_us,
        "deadline_us": state.deadline_us,
        "tasks": {
            task_id: {
                "status": task.status.value,
                "system": task.system,
                "attempt": task.attempt,
                "generation": task.generation,
                "failures": task.failures,
                "duration_us": task.duration_us,
                "started_at_us": task.started_at_us,
                "finished_at_us": task.finished_at_us,
                "due_at_us": task.due_at_us,
                "error": plain(task.error),
                "output": plain(task.output),
                "is_reused": task.is_reused,
                "is_unclear": task.is_unclear,
                "note": task.note,
                "node": {
                    name: value for name, value in plain(task.node).items() if value not in (None, "", {}, [])
                },
                "others": list(task.others),
                "fallbacks": task.fallbacks,
                "asked_digest": task.asked_digest,
                "approved_digest": task.approved_digest,
                "is_asked": task.is_asked,
                "is_composite": task.is_composite,
                "is_expanded": task.is_expanded,
                "children": list(task.children),
                "open_children": task.open_children,
                "items": task.items,
                "index": task.index,
                "claim": [task.offers, task.claim, task.worker, plain(task.reported), list(task.failed_by)],
                "incoming": sorted([edge.source, edge.delivers] for edge in task.incoming),
            }
            for task_id, task in state.tasks.items()
        },
    }


def main() -> None:
    """Write the journals asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.replay.journals")
    parser.add_argument("names", nargs="*", default=list(MAKERS), help="which; all by default")
    parser.add_argument("--again", action="store_true", help="overwrite those that are there")
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name in arguments.names:
        path = FOLDER / f"{name}.json"
        if path.exists() and not arguments.again:
            sys.stdout.write(f"{path.name} is there already\n")
            continue
        bench = MAKERS[name]()
        path.write_text(json.dumps(document(bench), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        sys.stdout.write(f"{path.name}: {len(bench.journal)} events, {bench.state.status.value}\n")


if __name__ == "__main__":
    main()
