"""Orchestrations from the command line: run, interrupt, resume, and everything that reads what is stored."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.support import INTERRUPTIBLE, CommandLine, running


def test_run_ends_with_a_summary_and_the_next_step(cli: CommandLine) -> None:
    """State, counts, time, efficiency; progress as plain lines on stderr."""
    answer = cli("run", "diamond.yaml")

    assert answer.code == 0
    assert answer.out.startswith("rauten-probe-1 completed: 4 completed in ")
    assert "parallel efficiency" in answer.out
    assert answer.out.endswith("Next: advanced-orchestration output rauten-probe-1 say\n")
    lines = answer.err.splitlines()
    assert lines[:2] == ["rauten-probe-1: 4 tasks", "one: started on jobs"]
    assert lines[-1].startswith("say: completed in ")


def test_everything_can_be_read_afterwards(cli: CommandLine) -> None:
    """The result, and then list, status, tasks, events, outputs, export and metrics from other processes."""
    ran = cli("run", "diamond.yaml", "--json", "--mode", "simple", "--context", '{"tag": "ü"}')
    result = ran.document
    identifier = result["orchestration_id"]

    assert (ran.code, result["success"], result["state"], result["mode"]) == (0, True, "completed", "simple")
    assert result["results"] == {
        "one": 2,
        "two": 4,
        "three": 4,
        "say": {"text": "größer: 4 4\n", "exit_code": 0},
    }
    assert {task["status"] for task in result["dag"]["tasks"]} == {"completed"}
    logged = [json.loads(line) for line in ran.err.splitlines()]
    assert [line["task_id"] for line in logged if line.get("operation") == "TASK_EXECUTION_START"] == [
        "one",
        "two",
        "three",
        "say",
    ]

    listed = cli.inside("list", "--json").document["orchestrations"]
    assert [each["orchestration_id"] for each in listed] == [identifier]
    status = cli.inside("status", identifier, "--json").document
    assert (status["state"], status["counts"], status["progress_percentage"]) == (
        "completed",
        {"completed": 4},
        100.0,
    )
    tasks = cli.inside("status", identifier, "--tasks", "--json").document["tasks"]
    assert next((task["task_id"], task["status"], task["attempt"]) for task in tasks) == (
        "one",
        "completed",
        1,
    )
    events = cli.inside("status", identifier, "--events", "--json").document["events"]
    assert [events[0]["type"], events[-1]["type"]] == ["orchestration_submitted", "orchestration_finished"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert cli.inside("output", identifier, "say").out == "größer: 4 4\n"
    assert cli.inside("output", identifier, "two", "--json").document == 4
    assert '"say"' in cli.inside("export", identifier, "--format", "dot").out
    metrics = cli.inside("metrics", "--json").document
    assert (metrics["total_orchestrations"], metrics["success_rate"]) == (1, 100.0)


def test_reading_in_words(cli: CommandLine) -> None:
    """Aligned columns and fields off a terminal."""
    cli.inside("run", "diamond.yaml")

    assert cli.inside("list").out.splitlines()[0].split() == [
        "ID",
        "STATE",
        "PROGRESS",
        "TASKS",
        "CREATED",
        "GOAL",
    ]
    assert cli.inside("status").out.startswith("Nothing is unfinished.")
    assert "Progress:      100 % of 4 tasks: 4 completed" in cli.inside("status", "rauten-probe-1").out
    assert cli.inside("status", "rauten-probe-1", "--tasks").out.splitlines()[0].split()[:3] == [
        "TASK",
        "STATUS",
        "ATTEMPT",
    ]
    assert "attempt_started" in cli.inside("status", "rauten-probe-1", "--events").out
    assert "Orchestrations:      1, 0 unfinished" in cli.inside("metrics").out


def test_a_failed_orchestration_says_why_and_exits_with_1(cli: CommandLine) -> None:
    """Every failed task with its reason; what depends on it is skipped."""
    cli.write(
        "failing.yaml",
        "dag_id: failing\ntasks:\n"
        "  - {task_id: bad, system_preference: jobs, tool: fail, arguments: {message: kaputt}}\n"
        "  - {task_id: next, system_preference: jobs, tool: double, arguments: {number: 1}, depends_on: [bad]}\n",
    )

    answer = cli.inside("run", "failing.yaml")
    status = cli.inside("status", "failing-1")

    assert answer.code == 1
    assert answer.out.startswith("failing-1 failed: 1 failed, 1 skipped in ")
    assert "  bad failed (type_error, attempt 1 on jobs): kaputt\n" in answer.out
    assert answer.out.endswith("Next: advanced-orchestration status failing-1 --tasks\n")
    assert "  bad failed (type_error): kaputt" in status.out


def test_a_large_output_is_named_instead_of_printed(cli: CommandLine) -> None:
    """The document of a run stays readable; the output command gives the whole."""
    cli.write(
        "large.yaml",
        "dag_id: large\ntasks:\n  - {task_id: big, system_preference: jobs, tool: large, arguments: {size: 70000}}\n",
    )

    result = cli.inside("run", "large.yaml", "--json").document

    assert result["results"] == {}
    assert result["large_results"]["big"] == {
        "bytes": 70_002,
        "read_with": "advanced-orchestration output large-1 big",
    }
    assert cli.inside("output", "large-1", "big").out == "x" * 70_000 + "\n"


def test_the_same_key_starts_the_same_work_once(cli: CommandLine) -> None:
    """Repeating a command after a lost answer does no harm; another DAG under the key is refused."""
    cli.write(
        "other.yaml",
        "dag_id: other\ntasks: [{task_id: a, system_preference: local, arguments: {text: hi}}]\n",
    )

    first = cli.inside("run", "diamond.yaml", "--key", "nightly", "--json").document
    again = cli.inside("run", "diamond.yaml", "--key", "nightly", "--json").document
    other = cli.inside("run", "other.yaml", "--key", "nightly", "--json")

    assert again["orchestration_id"] == first["orchestration_id"]
    assert other.code == 2
    assert other.document["error"]["code"] == "idempotency_conflict"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on_and_exits_with_3(
    cli: CommandLine, number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM end it in order; completed tasks never run again."""
    with running(cli) as process:
        process.send_signal(number)
        out, _ = process.communicate(timeout=10)
    (cli.folder / "go").touch()
    unfinished = cli.inside("status")
    resumed = cli("resume", "halting-1")

    assert process.returncode == 3
    assert out == (
        "Interrupted; what is done stays done. To go on: advanced-orchestration resume halting-1\n"
        "A running server (`serve`) on the same database may go on with it; to stop it for good: "
        "advanced-orchestration pause halting-1 or advanced-orchestration cancel halting-1\n"
    )
    assert "halting-1  running (orphaned)  33 %" in unfinished.out
    assert resumed.code == 0
    assert resumed.out.startswith("halting-1 completed: 3 completed")
    assert (cli.folder / "log").read_text().split() == ["before", "after"]


def test_an_interrupted_run_is_one_document_too(cli: CommandLine) -> None:
    """With --json the way to go on is a field."""
    with running(cli, "--json") as process:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=10)

    assert process.returncode == 3
    assert json.loads(out) == {
        "error": {
            "code": "interrupted",
            "message": "Interrupted; what is done stays done. "
            "Fix: `advanced-orchestration resume halting-1` goes on. "
            "A running server (`serve`) on the same database may go on with it; to stop it for good: "
            "advanced-orchestration pause halting-1 or advanced-orchestration cancel halting-1.",
        },
        "orchestration_ids": ["halting-1"],
        "resume_with": "advanced-orchestration resume halting-1",
    }


def test_a_run_whose_database_is_gone_says_why_in_its_document(cli: CommandLine) -> None:
    """A program that reads the JSON alone learns the cause, not only that the run was interrupted."""
    with running(cli, "--json") as process:
        (cli.folder / "state.db").unlink()
        (cli.folder / "go").touch()
        out, _ = process.communicate(timeout=10)

    assert process.returncode == 3
    cause = json.loads(out)["error"]["cause"]
    assert cause["code"] == "storage_unavailable"
    assert "its file was deleted or replaced while it was in use" in cause["message"]
    assert cause["retryable"] is True


def test_an_early_interrupt_is_one_document_with_json(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before a command has begun its work leaves one JSON document, too."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("server.cli.looking.load", interrupted)

    answer = cli.inside("list", "--json")

    assert answer.code == 130
    assert answer.document == {"error": {"code": "interrupted", "message": "Interrupted by the user."}}


def test_a_killed_run_goes_on_with_resume_all(cli: CommandLine) -> None:
    """kill -9 in the middle; at once afterwards `resume --all` finishes it, and nothing completed runs again."""
    with running(cli) as process:
        busy = cli("resume", "halting-1")
        process.kill()
        process.wait(timeout=10)
    (cli.folder / "go").touch()
    doctor = cli.inside("doctor", "--json")
    resumed = cli("resume", "--all", "--json")
    again = cli.inside("resume", "--all")
    over = cli.inside("resume", "halting-1")

    assert busy.code == 2
    assert f"is driven by process {process.pid} on" in busy.err
    assert any(
        check["name"] == "orchestrations" and not check["ok"] and "halting-1" in check["detail"]
        for check in doctor.document["checks"]
    )
    assert resumed.code == 0
    assert [each["state"] for each in resumed.document["orchestrations"]] == ["completed"]
    assert (cli.folder / "log").read_text().split() == ["before", "after"]
    assert (again.code, again.out) == (0, "Nothing was left unfinished.\n")
    assert over.code == 2
    assert "Orchestration 'halting-1' is completed, so it can't be resumed." in over.err


def test_progress_is_live_on_a_terminal(cli: CommandLine) -> None:
    """A display that is redrawn while it runs and gone at the end, then the summary."""
    main, terminal = pty.openpty()
    (cli.folder / "go").touch()
    cli.write("halting.yaml", INTERRUPTIBLE.format(folder=cli.folder))
    process = subprocess.Popen(
        cli.argv("run", "halting.yaml"),
        cwd=cli.folder,
        env={**cli.environ, "TERM": "xterm", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    seen = b""
    try:
        while part := os.read(main, 65536):
            seen += part
    except OSError:
        pass  # Linux tells the end of a pseudo-terminal that way
    finally:
        os.close(main)
        code = process.wait(timeout=10)

    shown = seen.decode()
    assert code == 0
    assert "3/3" in shown
    assert "\x1b[?25l" in shown, "the cursor is hidden while the display is up"
    assert "halting-1 completed: 3 completed" in shown
    assert "\x1b[3" not in shown, "NO_COLOR is respected"


def test_a_goal_is_planned_and_a_plan_can_be_run(cli: CommandLine) -> None:
    """`decompose` writes a file and stores the plan; either can be run."""
    (cli.folder / "code").mkdir()
    cli.write("code/a.py", "import os\n")
    goal = "Report on the health of this Python codebase"

    made = cli.inside("decompose", goal, "--context", '{"path": "code"}', "-o", "plan.yaml", "--json")
    from_file = cli.inside("validate", "plan.yaml")
    ran = cli.inside("run", "--plan", made.document["plan_id"], "--json")

    assert made.code == 0
    assert made.document["planner"] == "playbook:codebase-report"
    assert made.document["thinking_server"] == "in-process"
    assert made.document["thoughts"]
    assert made.document["problems"] == []
    assert from_file.code == 0
    assert (ran.code, ran.document["state"]) == (0, "completed")
    assert ran.document["plan"]["planner"] == "playbook:codebase-report"


def test_a_goal_nothing_can_run_is_refused_with_the_reasons(cli: CommandLine) -> None:
    """Nothing starts; `decompose` stores the plan and lists the same problems."""
    refused = cli.inside("run", "--goal", "Paint the fence.", "--json")
    planned = cli.inside("decompose", "Paint the fence.")

    assert refused.code == 2
    assert refused.document["error"]["code"] == "unroutable_task"
    assert planned.code == 0
    assert "problem: tasks[0].tool: nothing can run task 'paint-the-fence'" in planned.out
    assert cli.inside("list", "--json").document == {"orchestrations": []}


def test_a_callable_that_cannot_be_imported_stops_a_run_but_no_reading(cli: CommandLine) -> None:
    """The mistake is told before anything starts; `list` and `status` go on answering."""
    cli.inside("run", "diamond.yaml")
    cli.write("config.yaml", "systems: {jobs: {kind: function, functions: {double: 'cli_jobs:dubble'}}}\n")

    ran, read = cli.inside("run", "diamond.yaml"), cli.inside("status", "rauten-probe-1")

    assert ran.code == 2
    assert "systems.jobs.functions.double: 'cli_jobs:dubble'" in ran.err
    assert read.code == 0


def test_a_database_of_a_newer_version_is_refused_untouched(cli: CommandLine) -> None:
    """Exit code 2 and a clear sentence."""
    import sqlite3

    cli.inside("run", "diamond.yaml")
    path = cli.folder / "state.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 9999")
    database.close()

    answer = cli.inside("list", "--json")

    assert answer.code == 2
    assert answer.document["error"]["code"] == "schema_version"


def test_a_relative_database_counts_from_the_current_folder(cli: CommandLine) -> None:
    """As every path on a command line does."""
    answer = cli.inside("run", "diamond.yaml", "--database", "sub/my state.db")

    assert answer.code == 0
    assert answer.out.endswith("output rauten-probe-1 say --database 'sub/my state.db'\n")
    assert (cli.folder / "sub" / "my state.db").is_file()
    assert Path("sub").exists() is False


def test_a_disk_that_fills_up_interrupts_and_loses_nothing(cli: CommandLine) -> None:
    """Exit code 3 with the reason; with room again, `resume` finishes what was begun."""
    task = "  - {{task_id: t{n}, system_preference: jobs, tool: noise, arguments: {{seed: t{n}, size: 50000}}}}\n"
    cli.write("many.yaml", "dag_id: many\ntasks:\n" + "".join(task.format(n=n) for n in range(100)))
    limited = ["bash", "-c", 'ulimit -f 2000; exec "$@"', "bash", *cli.argv("run", "many.yaml")]

    ended = subprocess.run(
        limited, cwd=cli.folder, env=cli.environ, capture_output=True, text=True, timeout=60, check=False
    )
    resumed = cli.inside("resume", "many-1")

    assert ended.returncode == 3
    assert "error: Database" in ended.stderr
    assert "Fix: check the disk (full, failing, unmounted, or a network drive?) and repeat." in ended.stderr
    assert "To go on: advanced-orchestration resume many-1\n" in ended.stdout
    assert resumed.code == 0
    assert resumed.out.startswith("many-1 completed: 100 completed")
