"""The documents callers read have exactly the keys that `docs/library.md` promises."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration import AdvancedTaskOrchestrator, TaskDAG, TaskNode

pytestmark = pytest.mark.anyio

Make = Callable[..., AdvancedTaskOrchestrator]
PAGE = Path(__file__).parents[2] / "docs" / "library.md"


def promised(heading: str, *, table: int = 0) -> set[str]:
    """Return the names in the first column of a table under a heading."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n?)+", section, re.MULTILINE)
    rows = tables[table].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}


async def test_results_have_the_promised_keys(make: Make) -> None:
    """Result, performance metrics, status and metrics: no key missing, none undocumented."""

    async def work() -> None: ...

    dag = TaskDAG("d")
    dag.add_task(TaskNode(task_id="a", tool="work"))
    orchestrator = make({"work": work})

    result = await orchestrator.execute_dag(dag)
    status = orchestrator.get_orchestration_status("d-1")
    metrics = orchestrator.get_performance_metrics()

    assert set(result) == promised("Result") - {"plan"}
    assert set(result["performance_metrics"]) == promised("Result", table=1)
    assert set(status) == promised("Status")
    section = PAGE.read_text(encoding="utf-8").split("\n## Metrics\n")[1].split("\n## ")[0]
    assert all(f"`{key}`" in section for key in metrics)
