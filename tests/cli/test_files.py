"""The commands that work on DAG files alone: validate, simulate, export."""

from __future__ import annotations

import json

from orchestration.dag_file import load_dag
from tests.cli.support import CommandLine


def test_validate_tells_the_shape(cli: CommandLine) -> None:
    """In JSON: sizes, width and critical path."""
    answer = cli("validate", "diamond.yaml", "--json")

    assert answer.code == 0
    assert answer.document == {
        "valid": True,
        "dag_id": "rauten-probe",
        "total_tasks": 4,
        "total_edges": 4,
        "width": 2,
        "critical_path": ["one", "three", "say"],
        "critical_path_seconds": 9.0,
        "warnings": [],
    }


def test_validate_lists_every_mistake(cli: CommandLine) -> None:
    """Exit code 2; in JSON each problem stands alone."""
    cli.write(
        "wrong.yaml",
        "dag_id: wrong\ntasks:\n  - {task_id: a, depends_on: [c], priorty: HIGH}\n  - {task_id: b, depends_on: [a]}\n",
    )

    answer = cli.inside("validate", "wrong.yaml")
    document = cli.inside("validate", "wrong.yaml", "--json").document

    assert answer.code == 2
    assert answer.err.startswith("error: The DAG has 2 mistakes:\n")
    assert document["error"]["code"] == "invalid_dag"
    assert any("'priority'" in problem["fix"] for problem in document["error"]["problems"])


def test_validate_warns_of_systems_that_are_not_configured(cli: CommandLine) -> None:
    """Not a mistake (another system may fit), but most likely a slip."""
    cli.write("slip.yaml", "dag_id: slip\ntasks: [{task_id: a, system_preference: job}]\n")

    answer = cli.inside("validate", "slip.yaml")

    assert answer.code == 0
    assert (
        "warning: no system 'job' is configured, which a would prefer; any that fits is taken. Did you mean 'jobs'?"
        in answer.out
    )


def test_a_missing_file_is_named(cli: CommandLine) -> None:
    """With what was expected."""
    answer = cli.inside("validate", "nothing.yaml")

    assert answer.code == 2
    assert "'nothing.yaml'; expected an existing DAG file" in answer.err


def test_simulate_gives_the_promised_numbers(cli: CommandLine) -> None:
    """Makespan, bound, critical path, cost, utilization and the schedule, by the real engine under virtual time."""
    answer = cli.inside("simulate", "diamond.yaml", "--workers", "2", "--json")

    found = answer.document
    assert answer.code == 0
    assert found["makespan_seconds"] == 9.0
    assert found["lower_bound_seconds"] == 9.0
    assert found["critical_path"] == ["one", "three", "say"]
    assert found["cost"] == 1.5
    assert found["utilization"] == 13 / 18
    assert found["schedule"][0] == {
        "task_id": "one",
        "start_seconds": 0.0,
        "finish_seconds": 2.0,
        "worker": 0,
    }
    assert len(found["schedule"]) == 4


def test_simulate_takes_true_durations(cli: CommandLine) -> None:
    """The estimates then only guide; an unknown task or a broken file is refused."""
    cli.write("true.json", json.dumps({"one": 1, "two": 1, "three": 1, "say": 1}))
    cli.write("unknown.json", json.dumps({"four": 1}))
    cli.write("broken.json", "{")

    assert (
        cli.inside("simulate", "diamond.yaml", "--durations", "true.json", "--json").document[
            "makespan_seconds"
        ]
        == 3.0
    )
    unknown, broken = (
        cli.inside("simulate", "diamond.yaml", "--durations", name)
        for name in ("unknown.json", "broken.json")
    )
    assert (unknown.code, broken.code) == (2, 2)
    assert "durations is 'four'; expected the id of a task in the DAG" in unknown.err
    assert "--durations is 'broken.json'; expected JSON" in broken.err


def test_simulate_in_words(cli: CommandLine) -> None:
    """A person sees the numbers and the first lines of the schedule."""
    answer = cli.inside("simulate", "diamond.yaml", "--mode", "simple")

    assert "Makespan:      13.0 s" in answer.out
    assert "Workers:       1 (simple)" in answer.out
    assert "START  FINISH  WORKER  TASK" in answer.out


def test_export_of_a_file_is_read_back_the_same(cli: CommandLine) -> None:
    """JSON and YAML round-trip; Mermaid and DOT draw."""
    original = load_dag(cli.folder / "diamond.yaml")

    for name in ("json", "yaml"):
        answer = cli.inside("export", "diamond.yaml", "--format", name)
        assert load_dag(cli.write(f"copy.{name}", answer.out)) == original

    assert cli.inside("export", "diamond.yaml", "--format", "mermaid").out.startswith("flowchart TD")
    assert "digraph" in cli.inside("export", "diamond.yaml", "--format", "dot").out
    assert cli.inside("export", "diamond.yaml", "--format", "dot", "--json").document["format"] == "dot"
