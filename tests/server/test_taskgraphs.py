"""Graphs as others draw them go in as a caller's plan and come out the same: `benchmarks/taskgraphs.py` says so."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def _graph(name: str, tools: list[str | None], edges: list[tuple[int, int]]) -> dict[str, Any]:
    return {
        "id": name,
        "request": f"Do what {name} is about",
        "tasks": [
            {"id": f"t{number}", "tool": tool, "description": f"Step {number} of {name}"}
            for number, tool in enumerate(tools, 1)
        ],
        "edges": [[f"t{source}", f"t{target}"] for source, target in edges],
    }


VALID = [
    _graph("a chain", ["Find_User", "List-Posts", "sum"], [(1, 2), (2, 3)]),
    _graph("a diamond", ["find", "left", "right", "join"], [(1, 2), (1, 3), (2, 4), (3, 4)]),
    _graph("a fan", ["Farm/Crop planning/getAdvice", "Farm/prices"], []),
    _graph("a single step", [None], []),
    _graph("steps without tools", [None, None, None], [(1, 3), (2, 3)]),
    _graph("a shortcut", ["a", "b", "c"], [(1, 2), (2, 3), (1, 3)]),
    _graph("edges against the order", ["last", "first"], [(2, 1)]),
]
INVALID = [_graph("a loop", ["price", "tax"], [(2, 2)])]


@pytest.fixture(scope="module")
def taskgraphs() -> ModuleType:
    """The benchmark, which is a script and not part of any package."""
    spec = importlib.util.spec_from_file_location("taskgraphs", ROOT / "benchmarks" / "taskgraphs.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_graph_comes_out_as_it_went_in(
    taskgraphs: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Chains, fans, diamonds, single steps, with and without tools; none is executed, for nobody has the tools."""
    (tmp_path / "drawn.json").write_text(json.dumps(VALID), encoding="utf-8")
    (tmp_path / "drawn.invalid.json").write_text(json.dumps(INVALID), encoding="utf-8")

    code = taskgraphs.main([str(tmp_path), "--json"])

    told = capsys.readouterr()
    assert (code, told.err) == (0, "")
    rows = json.loads(told.out)
    assert {name: (row["graphs"], row["same"], row["failures"]) for name, row in rows.items()} == {
        "drawn.json": (7, 7, 0),
        "drawn.invalid.json": (1, 1, 0),
    }


def test_a_graph_that_is_not_taken_is_told(
    taskgraphs: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its id, with what was answered; the script fails."""
    path = tmp_path / "drawn.json"
    path.write_text(json.dumps(INVALID + VALID[:1]), encoding="utf-8")

    code = taskgraphs.main([str(path)])

    told = capsys.readouterr()
    assert code == 1
    assert told.out.splitlines()[1].split()[:4] == ["drawn.json", "2", "1", "1"]
    assert "a loop" in told.err
    assert "joins task 't2' to itself" in told.err
