"""Whether graphs of tasks that others drew go in as a caller's plan and come out the same, and how long that takes.

    python benchmarks/taskgraphs.py PATH [--json]

PATH is a folder of JSON files, or one of them: a list of `{"id", "request", "tasks": [{"id", "tool", "description"}],
"edges": [[before, after]]}`. Each graph is sent as `decompose_goal(goal, tasks=…)` by a real MCP client to the real
server, both in this process, with the state in a file of its own. It counts when the stored plan has the same tasks,
tools and edges, and when `execute_dag` refuses it because nobody has its tools; one whose tasks name no tools is
started with them offered to agents, and cancelled. Graphs of files called `*.invalid.json` must be refused, with the
task that depends on itself named.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp import Client
from mcp_types import CallToolResult, TextContent

from orchestration import FunctionSystem, create_advanced_task_orchestrator
from orchestration.dag import TaskDAG
from orchestration.dag_file import dag_from_json
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server.app import build_server
from storage import SqliteStorage


@dataclass(slots=True)
class Score:
    """How the graphs of one file fared."""

    graphs: int = 0
    same: int = 0
    """Valid graphs that came out as they went in and were not executed; invalid ones that were refused."""
    seconds: list[float] = field(default_factory=list)
    """Of each call that plans."""
    failures: list[str] = field(default_factory=list)


def nothing() -> None:
    """Do nothing: the one tool there is, so that the router has a system to ask."""


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Client, AdvancedTaskOrchestrator]]:
    """Open a server on a fresh database, and a client of it."""
    orchestrator = create_advanced_task_orchestrator(
        systems={"python": FunctionSystem({"nothing": nothing})},
        state_manager=SqliteStorage(folder / "state.db"),
    )

    @asynccontextmanager
    async def lend() -> AsyncIterator[AdvancedTaskOrchestrator]:
        async with orchestrator:
            yield orchestrator

    async with Client(build_server(lend)) as client:
        yield client, orchestrator


def as_draft(graph: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a graph as tasks with dependencies."""
    before: dict[str, list[str]] = {}
    for source, target in graph["edges"]:
        before.setdefault(target, []).append(source)
    return [
        {
            "task_id": task["id"],
            "tool": task.get("tool"),
            "description": task["description"],
            "depends_on": before.get(task["id"], []),
        }
        for task in graph["tasks"]
    ]


def differences(graph: dict[str, Any], dag: TaskDAG) -> list[str]:
    """Return in what a plan differs from the graph it was made of."""
    sent = {task["id"]: (task.get("tool"), task["description"]) for task in graph["tasks"]}
    came = {task_id: (node.tool, node.description) for task_id, node in dag.nodes.items()}
    edges = {(source, target) for source, target in graph["edges"]}
    joined = {(edge.source_task_id, edge.target_task_id) for edge in dag.edges}
    return [
        *(
            f"task {task_id}"
            for task_id in sent.keys() | came.keys()
            if sent.get(task_id) != came.get(task_id)
        ),
        *(f"edge {source} → {target}" for source, target in sorted(edges ^ joined)),
        *(["order of tasks"] if list(sent) != list(came) else []),
        *(["an edge there twice"] if len(joined) < len(dag.edges) else []),
    ]


async def try_graph(
    graph: dict[str, Any], client: Client, orchestrator: AdvancedTaskOrchestrator, score: Score
) -> None:
    """Send one valid graph and compare what is stored."""
    planned = await plan(graph, client, score)
    answer = planned.structured_content or {}
    has_tools = any(task.get("tool") for task in graph["tasks"])
    if planned.is_error or answer.get("state") != ("needs_systems" if has_tools else "planned"):
        score.failures.append(f"{graph['id']}: {text_of(planned)}")
        return
    record = await orchestrator.storage.load_plan(answer["plan_id"])
    wrong = differences(graph, dag_from_json(record.dag_json))
    run = await client.call_tool("execute_dag", {"plan_id": answer["plan_id"]})
    if has_tools and (not run.is_error or "code: unroutable_task" not in text_of(run)):
        wrong.append("it was executed")
    if not has_tools:
        started = (run.structured_content or {}).get("orchestration_id", "")
        cancel = {"orchestration_id": started, "action": "cancel"}
        if run.is_error or (await client.call_tool("control_orchestration", cancel)).is_error:
            wrong.append("it was not offered")
    if wrong:
        score.failures.append(f"{graph['id']}: {', '.join(wrong)}")
    else:
        score.same += 1


async def try_invalid(graph: dict[str, Any], client: Client, score: Score) -> None:
    """Send a graph with a task that depends on itself; it must be refused with that task named."""
    planned = await plan(graph, client, score)
    named = [source for source, target in graph["edges"] if source == target]
    if planned.is_error and named and f"joins task {named[0]!r} to itself" in text_of(planned):
        score.same += 1
    else:
        score.failures.append(f"{graph['id']}: {text_of(planned)}")


async def plan(graph: dict[str, Any], client: Client, score: Score) -> CallToolResult:
    """Send a graph; the time is kept."""
    score.graphs += 1
    start = time.perf_counter()
    result = await client.call_tool("decompose_goal", {"goal": graph["request"], "tasks": as_draft(graph)})
    score.seconds.append(time.perf_counter() - start)
    return result


def text_of(result: CallToolResult) -> str:
    """Return the text a tool answered with."""
    return "\n".join(content.text for content in result.content if isinstance(content, TextContent))


async def score_files(paths: Sequence[Path]) -> dict[str, Score]:
    """Send the graphs of every file."""
    scores: dict[str, Score] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder)) as (client, orchestrator):
            for path in paths:
                score = scores[path.name] = Score()
                for graph in json.loads(path.read_text(encoding="utf-8")):
                    if path.name.endswith(".invalid.json"):
                        await try_invalid(graph, client, score)
                    else:
                        await try_graph(graph, client, orchestrator, score)
    return scores


def main(arguments: Sequence[str] | None = None) -> int:
    """Send the graphs and print how they fared; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, help="a folder of JSON files, or one of them")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    paths = sorted(options.path.glob("*.json")) if options.path.is_dir() else [options.path]
    if not paths or not all(path.is_file() for path in paths):
        parser.error(f"there is no JSON file at {options.path}")
    scores = asyncio.run(score_files(paths))
    rows = {
        name: {
            "graphs": score.graphs,
            "same": score.same,
            "failures": len(score.failures),
            "median_ms_per_plan": round(1000 * statistics.median(score.seconds or [0.0]), 1),
            "max_ms_per_plan": round(1000 * max(score.seconds, default=0.0), 1),
        }
        for name, score in scores.items()
    }
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print(f"{'file':<24} {'graphs':>6} {'same':>6} {'failures':>8} {'ms/plan':>8} {'max ms':>8}")
        for name, row in rows.items():
            print(
                f"{name:<24} {row['graphs']:>6} {row['same']:>6} {row['failures']:>8} "
                f"{row['median_ms_per_plan']:>8} {row['max_ms_per_plan']:>8}"
            )
    for name, score in scores.items():
        for failure in score.failures:
            print(f"{name}: {failure}", file=sys.stderr)
    return 1 if any(score.failures for score in scores.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
