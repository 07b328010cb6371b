"""The command `edit`: plans and running orchestrations are shown and changed from the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.support import CommandLine, running


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def audit(cli: CommandLine) -> str:
    """Return an operation that adds a task after the last one."""
    arguments = {"path": str(cli.folder / "log"), "text": "audit"}
    task = {
        "task_id": "audit",
        "system": "jobs",
        "tool": "note",
        "depends_on": ["after"],
        "arguments": arguments,
    }
    return json.dumps({"op": "add", "task": task})


def test_a_running_orchestration_is_shown_with_its_revision_and_log(cli: CommandLine) -> None:
    """What to look at before an edit; in words and as JSON."""
    with running(cli) as process:
        shown = cli.inside("edit", "halting-1")
        document = cli.inside("edit", "halting-1", "--json").document
        (cli.folder / "go").touch()
        process.communicate(timeout=10)

    assert shown.code == 0
    told = lines(shown.out)
    assert told[0] == "halting-1: revision 1, 3 tasks"
    assert told[1].split() == ["TASK", "STATUS", "PRIORITY", "AFTER", "DESCRIPTION"]
    assert [line.split()[:2] for line in told[2:5]] == [
        ["before", "completed"],
        ["wait", "running"],
        ["after", "pending"],
    ]
    assert told[6].split() == ["REVISION", "BY", "AT", "WHAT", "WHY"]
    assert "what it began with" in told[7]
    assert (document["kind"], document["revision"], len(document["dag"]["tasks"])) == ("orchestration", 1, 3)


def test_a_run_in_another_process_is_edited_and_ends_so(cli: CommandLine) -> None:
    """Tried first, then done; the process that drives carries it out."""
    with running(cli) as process:
        tried = cli.inside(
            "edit", "halting-1", "--op", audit(cli), "--set", "after.max_retries=2", "--dry-run"
        )
        done = cli.inside(
            "edit",
            "halting-1",
            "--op",
            audit(cli),
            "--set",
            "after.max_retries=2",
            "--reason",
            "the auditors",
        )
        log = cli.inside("edit", "halting-1", "--log", "--json").document["revisions"]
        (cli.folder / "go").touch()
        process.communicate(timeout=10)

    assert (tried.code, done.code, process.returncode) == (0, 0, 0)
    assert lines(tried.out) == [
        "Nothing was changed yet. halting-1 has revision 1. It would:",
        "  added: audit",
        "  changed: after (max_retries)",
        "  linked: after → audit",
        "note: Fields read under their own names: system as system_preference.",
        "Left then: 3 tasks, about 3.0 s.",
    ]
    assert lines(done.out)[0] == "halting-1 has revision 2 now: added audit, changed after."
    assert lines(done.out)[-1] == "Next: advanced-orchestration status halting-1"
    assert [(each["revision"], each["by"], each["reason"]) for each in log] == [
        (1, "submission", ""),
        (2, "person", "the auditors"),
    ]
    assert (cli.folder / "log").read_text().split() == ["before", "after", "audit"]


def test_an_edit_for_another_revision_is_refused(cli: CommandLine) -> None:
    """`--expect` is for scripts; nothing was changed, and the exit code says so."""
    with running(cli) as process:
        first = cli.inside("edit", "halting-1", "--set", "after.priority=HIGH", "--expect", "1")
        late = cli.inside("edit", "halting-1", "--set", "after.priority=LOW", "--expect", "1")
        as_json = cli.inside("edit", "halting-1", "--set", "after.priority=LOW", "--expect", "1", "--json")
        (cli.folder / "go").touch()
        process.communicate(timeout=10)

    assert (first.code, late.code, as_json.code) == (0, 2, 2)
    assert late.err.startswith(
        "error: expected_revision is 1, but 'halting-1' has revision 2 by now; nothing was"
    )
    assert as_json.document["error"]["code"] == "revision_conflict"


def test_every_refusal_is_told(cli: CommandLine) -> None:
    """Which operation, which task, its status, what to do; on stderr, with exit code 2."""
    with running(cli) as process:
        words = ("edit", "halting-1", "--set", "before.max_retries=1", "--set", "wait.timeout_seconds=5")
        refused = cli.inside(*words)
        tried = cli.inside(*words, "--dry-run")
        document = cli.inside(*words, "--json").document
        (cli.folder / "go").touch()
        process.communicate(timeout=10)

    assert (refused.code, tried.code) == (2, 2)
    assert refused.err.splitlines() == [
        "error: The edit has 2 mistakes:",
        (
            "  operations[0]: set before: task 'before' (completed) can't be changed: what has ended is frozen. "
            "Fix: Add "
            "another task, or change what comes after it."
        ),
        (
            "  operations[1]: set wait: task 'wait' (running, attempt 1) can't be changed. Fix: Cancel the "
            "orchestration, or "
            "wait for the attempt to end."
        ),
    ]
    assert tried.out.splitlines()[0] == "It would be refused for 2 reasons. halting-1 has revision 1."
    assert [problem["path"] for problem in document["error"]["problems"]] == [
        "operations[0]",
        "operations[1]",
    ]


def test_a_stored_plan_is_edited_from_a_file_and_undone(cli: CommandLine) -> None:
    """A list of operations in YAML; options are carried out in the order they are given."""
    plan = cli.inside("decompose", "Extract the orders. Load the orders.", "--json").document
    plan_id, (first, second) = plan["plan_id"], [task["task_id"] for task in plan["dag"]["tasks"]]
    cli.write(
        "changes.yaml",
        f"- {{op: set, task_id: {second}, priority: HIGH}}\n- {{op: remove, task_id: {first}}}\n",
    )

    edited = cli.inside("edit", plan_id, "--file", "changes.yaml", "--set", f"{second}.description=Load all")
    shown = cli.inside("edit", plan_id)
    undone = cli.inside("edit", plan_id, "--undo", "1", "--json").document

    assert edited.code == 0
    assert lines(edited.out)[0] == f"{plan_id} has revision 2 now: changed {second}, removed {first}."
    assert lines(edited.out)[-1] == f"Next: advanced-orchestration run --plan {plan_id}"
    assert lines(shown.out)[2].split() == [second, "auto", "HIGH", "Load", "all"]
    assert (undone["revision"], undone["undoes"], undone["added"]) == (3, 1, [first])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("--set", "load"),
            "argument --set: is 'load'; expected TASK.FIELD=VALUE, for example load.timeout_seconds=600",
        ),
        (("--op", "{"), "argument --op: is '{'; expected JSON"),
        (("--undo", "0"), "argument --undo: is '0'; expected a whole number of at least 1"),
        (("--file", "nowhere.yaml"), "--file is 'nowhere.yaml'; expected a file that can be read"),
        (("--set", "load.priority=HIGH"), "There is no orchestration 'nobody-1'."),
        ((), "There is no orchestration 'nobody-1'."),
    ],
)
def test_what_makes_no_sense_is_refused_with_exit_code_2(
    cli: CommandLine, words: tuple[str, ...], told: str
) -> None:
    """Before anything is changed."""
    answer = cli.inside("edit", "nobody-1", *words)

    assert answer.code == 2
    assert told in answer.err


def test_a_pipe_is_not_waited_for(cli: CommandLine, tmp_path: Path) -> None:
    """Neither for operations nor for a playbook."""
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)

    edited = cli.inside("edit", "nobody-1", "--file", str(pipe))
    checked = cli.inside("playbooks", "--check", str(pipe))

    assert (edited.code, checked.code) == (2, 2)
    assert "expected a plain file" in edited.err
    assert "is no plain file" in checked.err + checked.out


def test_the_help_shows_every_operation(cli: CommandLine) -> None:
    """A person need not look anywhere else."""
    answer = cli("edit", "--help")

    assert answer.code == 0
    for name in ("add", "set", "remove", "link", "unlink", "skip", "priority", "replace"):
        assert f'{{"op": "{name}"' in answer.out
