"""Promises of the examples, kept by the real command in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CONFIG = EXAMPLES / "config.yaml"
PATIENCE_SECONDS = 60
"""Longest wait for a process; far beyond what any of them needs."""

NAMES = ("diamond", "conditional", "failing-optional", "fan-1000")


def command(*words: str, home: Path) -> list[str]:
    """Return the real command, over a database in `home`."""
    return [sys.executable, "-m", "server", *words, "--config", str(CONFIG), "--database", str(home / "o.db")]


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which nothing of this machine's user is seen."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("ADVANCED_ORCHESTRATION_")
    }
    return {**kept, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(home), "XDG_DATA_HOME": str(home)}


def start(*words: str, home: Path) -> subprocess.Popen[str]:
    """Start the command, without waiting for it."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command(*words, home=home), cwd=home, env=environment(home), **pipes)


def finish(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """Wait for the command and return its exit code and the JSON document it wrote."""
    written, _ = process.communicate(timeout=PATIENCE_SECONDS)
    document = json.loads(written)
    assert isinstance(document, dict)
    return process.returncode, document


def ask(*words: str, home: Path) -> dict[str, Any]:
    """Return what a command answers as JSON."""
    code, document = finish(start(*words, "--json", home=home))
    assert code == 0, document
    return document


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder for the database and everything the examples write."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="module")
def results(home: Path) -> dict[str, dict[str, Any]]:
    """Run four examples at once, each in a process of its own, over one database."""
    running = {name: start("run", str(EXAMPLES / f"{name}.yaml"), "--json", home=home) for name in NAMES}
    ended = {name: finish(process) for name, process in running.items()}
    assert {name: code for name, (code, _) in ended.items()} == dict.fromkeys(NAMES, 0)
    return {name: document for name, (_, document) in ended.items()}


def test_the_diamond_hands_values_along_its_edges(results: dict[str, dict[str, Any]]) -> None:
    """Both arms work on the one sample, and the join says both their values."""
    outputs = results["diamond"]["results"]

    expected = (
        f"mean {outputs['mean']['value']}, standard deviation {outputs['spread']['value']}, "
        f"from seed {outputs['sample']['seed']}\n"
    )
    assert outputs["report"] == {"text": expected, "exit_code": 0}
    assert outputs["mean"]["value"] == round(sum(outputs["sample"]["numbers"]) / 50, 3)


def test_the_branch_goes_one_way_only(results: dict[str, dict[str, Any]]) -> None:
    """The other way is skipped, leaves nothing, and the run is a success."""
    result = results["conditional"]

    assert result["success"] is True
    assert result["counts"] == {"completed": 3, "skipped": 1}
    assert result["results"]["announce"] == {"text": "published 1000 rows of quality 0.96"}


def test_a_tolerated_failure_is_listed_and_the_rest_goes_on(results: dict[str, dict[str, Any]]) -> None:
    """An optional edge waits but never blocks; a handler runs because of the failure."""
    result = results["failing-optional"]

    assert (result["success"], result["state"]) == (True, "completed")
    assert result["errors"]["enrich"]["message"].startswith("the enrichment service is closed")
    assert result["errors"]["enrich"]["attempt"] == 2
    assert result["results"]["report"] == {"text": "seed 7; enrichment: []"}
    assert result["results"]["note"]["text"].startswith("the enrichment failed")


def test_the_fan_adds_up_a_thousand_outputs(results: dict[str, dict[str, Any]], home: Path) -> None:
    """Every number of the sample reaches its task, and every square the sum."""
    numbers = ask("output", results["fan-1000"]["orchestration_id"], "sample", home=home)

    total = results["fan-1000"]["results"]["total"]

    drawn = numbers["numbers"]
    assert total == {
        "addends": 1000,
        "sum": pytest.approx(sum(number * number for number in drawn), abs=0.001),
    }


def test_what_ran_is_listed_and_exported(results: dict[str, dict[str, Any]], home: Path) -> None:
    """Another process sees all four, with their graphs as they ended."""
    listed = ask("list", home=home)["orchestrations"]
    drawn = start("export", results["conditional"]["orchestration_id"], "--format", "mermaid", home=home)
    text, _ = drawn.communicate(timeout=PATIENCE_SECONDS)

    assert sorted(entry["orchestration_id"] for entry in listed) == sorted(f"{name}-1" for name in NAMES)
    assert {entry["state"] for entry in listed} == {"completed"}
    assert text.startswith("flowchart TD\n")
    assert ":::skipped" in text


@pytest.mark.parametrize("name", [*NAMES, "effects", "once"])
def test_every_example_is_valid(name: str) -> None:
    """`validate` finds nothing wrong."""
    from orchestration import load_dag
    from orchestration.validation import validate

    assert validate(load_dag(EXAMPLES / f"{name}.yaml")) == []


def test_the_fan_is_what_its_script_writes() -> None:
    """The committed file and `make_fan.py` agree."""
    from examples.make_fan import fan

    assert (EXAMPLES / "fan-1000.yaml").read_text(encoding="utf-8") == fan(1000)


def test_the_library_examples_run() -> None:
    """The specification's examples work with plain objects as collaborators, one inside a controller included."""
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / "library.py")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert finished.stdout.count(" completed; last outputs: ") == 5
    assert "Success: True, " in finished.stdout
    assert "Ran in order: survey, decide, write" in finished.stdout


def test_after_kill_9_nothing_completed_runs_again(tmp_path: Path) -> None:
    """`resume --all` finishes at once what a killed process left; each task shown completed left one line only."""
    lines = tmp_path / ".demo" / "effects.txt"
    killed = start("run", str(EXAMPLES / "effects.yaml"), home=tmp_path)
    wait_for_lines(lines, 6, killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=PATIENCE_SECONDS)
    seen = ask("status", "effects-1", "--tasks", home=tmp_path)["tasks"]
    orphan = ask("status", "effects-1", home=tmp_path)

    resumed = ask("resume", "--all", home=tmp_path)["orchestrations"]

    completed = {task["task_id"] for task in seen if task["status"] == "completed"}
    attempts = [line.partition("#")[0] for line in lines.read_text(encoding="utf-8").splitlines()]
    assert (orphan["state"], orphan["orphaned"]) == ("running", True)
    assert 4 <= len(completed) < 32
    assert [entry["state"] for entry in resumed] == ["completed"]
    assert resumed[0]["counts"] == {"completed": 32}
    assert {Counter(attempts)[task_id] for task_id in completed} == {1}
    assert len(set(attempts)) == 32


def wait_for_lines(path: Path, least: int, writer: subprocess.Popen[str]) -> None:
    """Wait until a file that a running process appends to has that many lines."""
    for _ in range(PATIENCE_SECONDS * 100):
        if path.exists() and len(path.read_text(encoding="utf-8").splitlines()) >= least:
            return
        with pytest.raises(subprocess.TimeoutExpired):  # it must not end before
            writer.wait(timeout=0.01)
    pytest.fail(f"{path.name} has not got {least} lines")
