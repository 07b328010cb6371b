"""Pausing, cancelling, retrying and deciding from the command line, whichever process drives the orchestration."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from orchestration.clock import SystemClock
from tests.cli.support import CommandLine, running, started

LETTER = """
dag_id: letter
tasks:
  - task_id: bill
    system_preference: jobs
    tool: send
    idempotent: false
    arguments: {{path: "{folder}/outbox", text: bill}}
  - task_id: file
    depends_on: [bill]
    system_preference: jobs
    tool: note
    arguments: {{path: "{folder}/log", text: "filed ${{bill}}"}}
"""


def letter(cli: CommandLine) -> str:
    """Write a DAG whose first task must not be repeated and loses its connection; return its name."""
    cli.write("letter.yaml", LETTER.format(folder=cli.folder))
    return "letter.yaml"


def read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """Return the lines on a process's stderr up to the first one with `text` in it."""
    lines: list[str] = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line.rstrip("\n"))
        if text in line:
            return lines
    raise AssertionError(f"{text!r} was not told: {lines}")


def test_a_run_is_paused_and_resumed_from_elsewhere(cli: CommandLine) -> None:
    """Both are answered within a second; what runs finishes, nothing starts, and the run itself goes on waiting."""
    clock = SystemClock()
    with running(cli) as process:
        began = clock.monotonic()
        paused = cli.inside("pause", "halting-1", "--reason", "lunch")
        took = clock.monotonic() - began
        again = cli.inside("pause", "halting-1")
        status = cli.inside("status", "halting-1")
        (cli.folder / "go").touch()
        read_until(process, "wait: completed")
        still = cli.inside("status", "halting-1", "--json").document
        resumed = cli("resume", "halting-1")
        out, err = process.communicate(timeout=10)

    assert (paused.code, took < 1) == (0, True)
    assert paused.out == (
        "halting-1 is paused: 1 pending, 1 running, 1 completed. 1 task under way may finish.\n"
        "Next: advanced-orchestration resume halting-1\n"
    )
    assert again.code == 2
    assert again.err == (
        "error: Orchestration 'halting-1' is paused, so it can't be paused. Only running ones can.\n"
    )
    assert f"State:         paused, driven by process {process.pid} on " in status.out
    assert (still["state"], still["counts"]) == ("paused", {"ready": 1, "completed": 2})
    assert (resumed.code, process.returncode) == (0, 0)
    assert resumed.out.startswith("halting-1 completed: 3 completed")
    assert out.startswith("halting-1 completed: 3 completed")
    assert "resumed" in err
    assert (cli.folder / "log").read_text().split() == ["before", "after"]


def test_a_run_is_cancelled_from_elsewhere(cli: CommandLine) -> None:
    """The run ends with exit code 1 and the reason; the answer comes before everything has stopped."""
    with running(cli) as process:
        answer = cli.inside("cancel", "halting-1", "--reason", "the wrong day", "--json")
        out, err = process.communicate(timeout=30)
    status = cli.inside("status", "halting-1")
    again = cli.inside("cancel", "halting-1", "--json")

    assert answer.code == 0
    assert answer.document["action"] == "cancel"
    assert answer.document["status"]["state"] in {"cancelling", "cancelled"}
    assert process.returncode == 1
    assert "cancelling: the wrong day" in err
    assert "halting-1 cancelled: 1 completed, 2 cancelled" in out
    assert "  because: the wrong day\n" in out
    assert "Reason:        the wrong day\n" in status.out
    assert (again.code, again.document["error"]["code"]) == (2, "not_possible")
    assert again.document["error"]["message"].endswith("It can be read, or retried.")


def test_what_nobody_drives_is_controlled_where_it_is_asked(cli: CommandLine) -> None:
    """Even where the configuration of a system no longer works: nothing is run for it."""
    with running(cli) as process:
        process.kill()
        process.wait(timeout=10)
    cli.write("config.yaml", "systems: {jobs: {kind: function, functions: {note: 'cli_jobs:nowt'}}}\n")
    orphan = cli.inside("status", "halting-1")
    paused = cli.inside("pause", "halting-1")
    cancelled = cli.inside("cancel", "halting-1")

    assert "State:         running (orphaned)\n" in orphan.out
    assert "Cut off:       wait\n" in orphan.out
    assert (
        "The process that drove it is gone, and nobody will hear how the attempts it was running end; a command"
        in orphan.out
    )
    assert "It can't go on here: System 'jobs' can't run: systems.jobs.functions.note: " in orphan.out
    assert paused.code == 0
    assert paused.out.startswith("halting-1 is paused: ")
    assert cancelled.out.startswith("halting-1 is cancelled: 1 completed, 2 cancelled.\n")


RETRIED = """
dag_id: nightly
tasks:
  - {{task_id: done, system_preference: jobs, tool: note, arguments: {{path: "{folder}/log", text: done}}}}
  - {{task_id: bad, system_preference: jobs, tool: fail_until, arguments: {{path: "{folder}/mended"}}}}
  - {{task_id: worse, system_preference: jobs, tool: fail_until, arguments: {{path: "{folder}/mended2"}}}}
  - task_id: after
    depends_on: [bad]
    system_preference: jobs
    tool: note
    arguments: {{path: "{folder}/log", text: after}}
"""


def test_failed_tasks_are_retried_and_followed_to_the_end(cli: CommandLine) -> None:
    """Chosen ones or all; what completed stays as it is."""
    cli.write("nightly.yaml", RETRIED.format(folder=cli.folder))
    failed = cli.inside("run", "nightly.yaml")
    (cli.folder / "mended").touch()

    one = cli.inside("retry", "nightly-1", "--task", "bad", "--reason", "the disk was full")
    (cli.folder / "mended2").touch()
    rest = cli.inside("retry", "nightly-1", "--json")
    over = cli.inside("retry", "nightly-1")
    wrong = cli.inside("retry", "nightly-1", "--task", "dne")

    assert failed.code == 1
    assert "To run again what did not complete: advanced-orchestration retry nightly-1\n" in failed.out
    assert one.code == 1
    assert "nightly-1: runs again: bad, after\n" in one.err
    assert "nightly-1 failed: 3 completed, 1 failed" in one.out
    assert (rest.code, rest.document["counts"]) == (0, {"completed": 4})
    assert sorted((cli.folder / "log").read_text().split()) == ["after", "done"]
    assert over.code == 2
    assert over.err == (
        "error: Orchestration 'nightly-1' is completed, so it can't be retried. It can be read.\n"
    )
    assert wrong.code == 2


def test_a_retry_where_another_process_drives_says_who_and_what(cli: CommandLine) -> None:
    """It is carried out there, and not waited for."""
    cli.write("halting2.yaml", WAITING_AND_FAILING.format(folder=cli.folder))
    with started(cli, "run", "halting2.yaml") as process:
        read_until(process, "bad: failed")
        (cli.folder / "mended").touch()
        told = cli.inside("retry", "two-1")
        as_json = cli.inside("retry", "two-1", "--json")
        (cli.folder / "go").touch()
        out, _ = process.communicate(timeout=10)

    assert told.code == 0
    assert told.out.startswith(f"two-1: process {process.pid} on ")
    assert told.out.endswith(" drives it and runs again: bad.\nNext: advanced-orchestration status two-1\n")
    assert (as_json.code, as_json.document["error"]["code"]) == (2, "not_possible")
    assert process.returncode == 0
    assert out.startswith("two-1 completed: 2 completed")


WAITING_AND_FAILING = """
dag_id: two
tasks:
  - {{task_id: wait, system_preference: jobs, tool: wait_for, arguments: {{path: "{folder}/go"}}}}
  - {{task_id: bad, system_preference: jobs, tool: fail_until, arguments: {{path: "{folder}/mended"}}}}
"""


@pytest.mark.parametrize(
    ("words", "outbox", "log", "code"),
    [
        (("done", "--output", '"by hand"'), ["bill"], ["filed", "by", "hand"], 0),
        (("retry",), ["bill", "bill"], ["filed", "bill"], 0),
        (("failed", "--reason", "the customer has left"), ["bill"], [], 1),
    ],
)
def test_a_run_tells_what_waits_for_a_decision_and_goes_on_once_it_is_made(
    cli: CommandLine, words: tuple[str, ...], outbox: list[str], log: list[str], code: int
) -> None:
    """The commands it shows are the ones that work; it waits meanwhile, and `status` says the same."""
    with started(cli, "run", letter(cli)) as process:
        lines = read_until(process, "decide letter-1 bill failed")
        (cli.folder / "outbox.fine").touch()
        status = cli.inside("status", "letter-1")
        listed = cli.inside("list")
        decided = cli.inside("decide", "letter-1", "bill", *words)
        out, err = process.communicate(timeout=10)

    question = [
        "bill waits for a decision: the line broke. Whether its effect happened is not known.",
        "  it happened:              advanced-orchestration decide letter-1 bill done",
        "  it did not, run it again: advanced-orchestration decide letter-1 bill retry",
        "  it did not, give it up:   advanced-orchestration decide letter-1 bill failed",
    ]
    assert lines[-4:] == question
    assert "\n".join(question) in status.out
    assert f"State:         running (1 to decide), driven by process {process.pid} on " in status.out
    assert "letter-1  running (1 to decide)  0 %" in listed.out
    assert decided.code == 0
    assert decided.out.startswith(f"bill is decided: {words[0]}. letter-1 is ")
    assert f"bill: decided by person: {words[0]}" in err
    assert process.returncode == code
    assert (cli.folder / "outbox").read_text().split() == outbox
    noted = (cli.folder / "log").read_text().split() if log else []
    assert noted == log
    assert out.startswith("letter-1 completed" if code == 0 else "letter-1 failed: 1 failed, 1 skipped")


def test_a_killed_run_is_decided_about_while_nobody_drives_it(cli: CommandLine) -> None:
    """The decision is stored at once, and `resume` goes on from it."""
    with started(cli, "run", letter(cli)) as process:
        read_until(process, "decide letter-1 bill failed")
        process.kill()
        process.wait(timeout=10)
    decided = cli.inside("decide", "letter-1", "bill", "done", "--output", '{"n": 1}', "--json")
    resumed = cli.inside("resume", "letter-1")

    assert decided.code == 0
    assert decided.document["status"]["counts"] == {"ready": 1, "completed": 1}
    assert decided.document["status"]["orphaned"] is True
    assert resumed.code == 0
    assert (cli.folder / "log").read_text() == 'filed {"n":1}\n'


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("bill", "done", "--output", "sent"), "argument --output: is 'sent'; expected JSON ("),
        (("bill", "retry", "--output", "1"), "output is 1; expected nothing. Fix: only the decision `done`"),
        (("bill", "maybe"), "argument decision: invalid choice: 'maybe'"),
        (
            ("file", "done"),
            "Task 'file' is pending, so it can't be decided. These wait for a decision: bill.",
        ),
        (("fle", "done"), "Orchestration 'letter-1' has no task 'fle'. It has: bill, file."),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused_and_changes_nothing(
    cli: CommandLine, words: tuple[str, ...], told: str
) -> None:
    """Exit code 2, and the task waits on."""
    with started(cli, "run", letter(cli)) as process:
        read_until(process, "decide letter-1 bill failed")
        before = cli.inside("status", "letter-1", "--json").document["last_seq"]
        answer = cli.inside("decide", "letter-1", *words)
        after = cli.inside("status", "letter-1", "--json").document

    assert answer.code == 2
    assert told in answer.err
    assert (after["last_seq"], after["counts"]["unknown"]) == (before, 1)


def test_a_request_a_stopped_process_has_not_answered_is_stored(cli: CommandLine) -> None:
    """Exit code 3; once the process goes on it carries the request out."""
    config = (cli.folder / "config.yaml").read_text()
    cli.write("config.yaml", f"{config}storage: {{control_wait_seconds: 0.3}}\n")
    with running(cli) as process:
        os.kill(process.pid, signal.SIGSTOP)
        pending = cli.inside("pause", "halting-1", "--json")
        words = cli.inside("pause", "halting-1")
        os.kill(process.pid, signal.SIGCONT)
        for _ in range(500):
            if cli.inside("status", "halting-1", "--json").document["state"] == "paused":
                break
        else:
            pytest.fail("it was not paused")

    assert (pending.code, words.code) == (3, 3)
    assert pending.document["error"]["code"] == "control_pending"
    assert f"The request for 'halting-1' is stored, but process {process.pid} on " in words.err


def test_results_of_an_earlier_run_are_used_again(cli: CommandLine) -> None:
    """Where a task and all before it are as they were; what was edited runs, and what comes after it."""
    first = cli.inside("run", "diamond.yaml", "--json").document
    text = (cli.folder / "diamond.yaml").read_text(encoding="utf-8")
    edited = text.replace(
        'arguments: {number: "${one}"}\n    estimated_time_seconds: 6',
        "arguments: {number: 5}\n    estimated_time_seconds: 6",
    )
    cli.write("edited.yaml", edited)

    again = cli.inside("run", "edited.yaml", "--reuse", first["orchestration_id"])
    unknown = cli.inside("run", "edited.yaml", "--reuse", "no-1", "--json")

    assert again.code == 0
    assert "one: completed by the reused output of rauten-probe-1:one\n" in again.err
    assert "two: completed by the reused output of rauten-probe-1:two\n" in again.err
    assert "one: started" not in again.err
    assert "three: started on jobs\n" in again.err
    assert cli.inside("output", "rauten-probe-2", "say").out == "größer: 4 10\n"
    assert (unknown.code, unknown.document["error"]["code"]) == (2, "orchestration_not_found")
    assert [each["orchestration_id"] for each in cli.inside("list", "--json").document["orchestrations"]] == [
        "rauten-probe-2",
        "rauten-probe-1",
    ]


def test_every_request_is_one_document_with_json(cli: CommandLine) -> None:
    """An unknown orchestration is refused by each in the same way."""
    for words in (
        ("pause", "no-1"),
        ("cancel", "no-1"),
        ("retry", "no-1"),
        ("decide", "no-1", "a", "done"),
        ("resume", "no-1"),
    ):
        answer = cli.inside(*words, "--json")

        assert answer.code == 2
        assert json.loads(answer.out)["error"]["code"] == "orchestration_not_found"
    assert Path(cli.folder / "state.db").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("decide", "letter-1", "caf\udce9", "done"),
        pytest.param(("decide", "letter-1", "bill", "done", "--output", '"\\ud800"'), marks=pytest.mark.slow),
        ("decide", "letter-1", "bill", "done", "--output", "[" * 100_000),
        pytest.param(("retry", "letter-1", "--task", "caf\udce9"), marks=pytest.mark.slow),
    ],
)
def test_what_no_database_can_hold_is_refused_by_whoever_drives(
    cli: CommandLine, words: tuple[str, ...]
) -> None:
    """A broken id, half a character, endless nesting: exit code 2, and the run waits on."""
    with started(cli, "run", letter(cli)) as process:
        read_until(process, "decide letter-1 bill failed")
        answer = cli.inside(*words, "--json")
        after = cli.inside("status", "letter-1", "--json").document

    assert answer.code == 2, answer
    assert answer.document["error"]["code"] in {"task_not_found", "invalid_argument", "usage"}
    assert after["counts"]["unknown"] == 1
    assert process.returncode is not None


def test_a_reason_of_broken_bytes_is_kept_as_an_escape(cli: CommandLine) -> None:
    """It is words, not a name: nothing is refused for it."""
    with running(cli) as process:
        answer = cli.inside("cancel", "halting-1", "--reason", "caf\udce9", "--json")
        process.communicate(timeout=30)
    status = cli.inside("status", "halting-1", "--json")

    assert answer.code == 0
    assert status.document["reason"] == "caf\\udce9"


def test_what_an_import_prints_does_not_come_into_an_answer(cli: CommandLine) -> None:
    """To say why an orphan can't go on here, its functions are looked at."""
    with running(cli) as process:
        process.kill()
        process.wait(timeout=10)
    cli.write("noisy.py", "print('noise')\n\ndef note(): ...\n")
    cli.write("config.yaml", "systems: {jobs: {kind: function, functions: {note: 'noisy:note'}}}\n")

    answer = cli("status", "halting-1", "--json")

    assert "noise" in answer.err
    assert answer.document["missing_systems"] == [
        "System 'jobs' has no wait_for here and is configured differently here: note."
    ]
