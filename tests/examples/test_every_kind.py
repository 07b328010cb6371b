"""One graph with a task for every kind of system, in which each process in turn is killed in the middle of its task.

Runs where the MCP filesystem server is installed: on the PATH, or where `MCP_FILESYSTEM` names it. Everything is a
process of its own; what was done is counted in the files they leave, not in what the orchestrator says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from examples.every_kind.ledger import noted
from examples.every_kind.stage import HERE, ORCHESTRATION, VICTIMS, Stage, find_filesystem

PATIENCE_SECONDS = 60
"""Longest wait for a run; far beyond what any of them takes."""

NOTING = ("words", "trip", "forecast", "pack", "question", "review", "report", "publish")
"""The tasks whose work leaves notes; of the others the MCP server and Alita do, in their way."""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Give a stage on which everything that serves is up; afterwards nothing of it may be left."""
    try:
        filesystem = find_filesystem()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    with Stage(tmp_path, filesystem) as stage:
        stage.start()
        yield stage
    for _ in range(PATIENCE_SECONDS * 20):
        if not (left := processes_of(tmp_path)):
            return
        sleep(0.05)  # nothing tells when processes of processes have ended
    pytest.fail(f"these are left: {left}")


def processes_of(home: Path) -> list[str]:
    """Return the command lines of the processes that were started for a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has just ended
        if entry.parent.name != str(os.getpid()) and any(str(home) in word for word in words):
            found.append(" ".join(words))
    return found


def finish(stage: Stage) -> dict[str, dict[str, Any]]:
    """Wait for the driver, which must succeed, and return the tasks by id."""
    assert stage.driver is not None
    assert stage.driver.wait(timeout=PATIENCE_SECONDS) == 0
    return tasks_of(stage)


def tasks_of(stage: Stage) -> dict[str, dict[str, Any]]:
    """Return the tasks as any process sees them, by id."""
    tasks = stage.ask("status", ORCHESTRATION, "--tasks")["tasks"]
    return {task["task_id"]: task for task in tasks}


def count(stage: Stage, what: str) -> dict[str, int]:
    """Return how often each task noted something."""
    return {task: len(noted(stage.home, task, what)) for task in NOTING}


def asked_of_alita(stage: Stage) -> int:
    """Return how often Alita was given a task, by all of its processes."""
    return len((stage.home / "alita" / "started").read_text(encoding="utf-8").split())


def published(stage: Stage) -> list[str]:
    """Return the reports that were published."""
    return [path.read_text(encoding="utf-8") for path in sorted((stage.home / "published").iterdir())]


def test_the_plan_is_valid_and_has_a_task_for_every_kind() -> None:
    """`validate` finds nothing wrong, and each configured system has something to do."""
    from config.settings import load_settings
    from config.systems_config import KINDS
    from orchestration import load_dag
    from orchestration.validation import validate

    values = ("HOME", "CLONE", "PYTHON", "FILESYSTEM", "WEATHER", "ALITA")
    names = {f"EVERY_KIND_{name}": "http://127.0.0.1:1" for name in values}
    settings = load_settings(HERE / "config.yaml", names)
    dag = load_dag(HERE / "plan.yaml")

    preferences = {str(node.system_preference) for node in dag.nodes.values()}
    assert validate(dag) == []
    assert preferences <= settings.systems.keys()
    assert {settings.systems[name].kind for name in preferences} == KINDS.keys()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    """The example empties its folder at the start, so it must be its own."""
    kept = tmp_path / "notes" / "mine.md"
    kept.parent.mkdir()
    kept.write_text("mine", encoding="utf-8")

    with Stage(tmp_path, "unused") as stage, pytest.raises(FileExistsError, match="name another folder"):
        stage.start()

    assert kept.read_text(encoding="utf-8") == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


@pytest.mark.slow
def test_undisturbed_each_task_runs_once(stage: Stage) -> None:
    """What each kind delivers arrives in the report, which is saved and published once."""
    stage.run()
    stage.start_agent("ada")
    tasks = finish(stage)

    report = (stage.home / "notes" / "report.md").read_text(encoding="utf-8")
    assert {task["attempt"] for task in tasks.values()} == {1}
    assert count(stage, "began") == count(stage, "done") == dict.fromkeys(NOTING, 1)
    assert report.startswith("# Bergen, for 4\n\nWeather: rain, 9 degrees.\n")
    assert "Reviewed by ada: It will rain, and it is planned for.\n" in report
    assert len(published(stage)) == 1
    assert "Take along: 8 sandwiches, 4 bottles, 2 umbrellas, 4 jackets." in published(stage)[0]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [victim for victim in VICTIMS if victim != "driver"])
def test_whoever_does_a_task_may_be_killed_in_its_middle(stage: Stage, victim: str) -> None:
    """That task alone is done again; what comes after it runs once, and every effect is there once."""
    stage.hold(victim)
    stage.run()
    stage.start_agent("ada")
    stage.kill(victim)
    stage.revive(victim)
    tasks = finish(stage)

    attempts = {task_id: task["attempt"] for task_id, task in tasks.items()}
    again = attempts.pop(victim)
    assert {task["status"] for task in tasks.values()} == {"completed"}
    assert again >= 2
    assert set(attempts.values()) == {1}
    assert count(stage, "began") == {task: 1 + (task == victim) for task in NOTING}
    assert count(stage, "done") == dict.fromkeys(NOTING, 1)
    assert asked_of_alita(stage) == 1 + (victim == "draft")
    assert len(published(stage)) == 1
    if victim == "publish":  # the effect had happened: it was found by its key, and not made again
        assert stage.ask("output", ORCHESTRATION, "publish")["is_new"] is False


@pytest.mark.slow
def test_whoever_drives_may_be_killed_and_is_resumed(stage: Stage) -> None:
    """What had completed never runs again; what was under way is ended, and done again."""
    stage.hold("driver")
    stage.run()
    stage.wait_until_done("pack")
    stage.kill("driver")
    before = tasks_of(stage)
    stage.revive("driver")
    stage.start_agent("ada")
    after = finish(stage)

    completed = {task_id for task_id, task in before.items() if task["status"] == "completed"}
    assert before["words"]["status"] == "running"
    assert completed >= {"notes", "trip", "forecast"}
    assert {after[task_id]["attempt"] for task_id in completed} == {1}
    assert {task["status"] for task in after.values()} == {"completed"}
    assert after["words"]["attempt"] == 2
    assert count(stage, "began")["words"] == 2
    assert count(stage, "done")["words"] == 1, "the command that the killed driver had started was ended"
    assert {count(stage, "done")[task_id] for task_id in completed & set(NOTING)} == {1}
    assert len(published(stage)) == 1


@pytest.mark.slow
def test_an_agents_own_server_goes_on_where_the_driver_is_killed(stage: Stage) -> None:
    """Nobody resumes: the claim holds while whoever drives is replaced, and what was reported counts."""
    stage.hold("review")
    stage.run()
    stage.start_agent("ada")
    (reviewer,) = stage.wait_until_begun("review")
    stage.kill_driver()
    stage.let_go("review")
    stage.wait_until_done("publish")
    for _ in range(PATIENCE_SECONDS):  # the last answer is on its way; each question takes its time
        if stage.ask("status", ORCHESTRATION)["state"] != "running":
            break

    tasks = tasks_of(stage)
    assert {task["status"] for task in tasks.values()} == {"completed"}
    assert {task["attempt"] for task in tasks.values()} == {1}
    assert noted(stage.home, "review", "done") == [reviewer]
    assert count(stage, "done") == dict.fromkeys(NOTING, 1)
    assert len(published(stage)) == 1
