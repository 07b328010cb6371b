"""Agreeing from the command line: shown first, asked on a terminal, bound to what was shown, whoever drives."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from tests.cli.support import CommandLine, started

BILL = """
dag_id: bill
goal: Pay the bill
tasks:
  - task_id: price
    system_preference: jobs
    tool: double
    arguments: {{number: 21}}
  - task_id: pay
    description: Pay what it costs
    depends_on: [price]
    system_preference: jobs
    tool: note
    approval: {who}
    arguments: {{path: "{folder}/paid", text: "amount-${{price}}"}}
"""


def bill(cli: CommandLine, who: str = "person") -> str:
    """Write a DAG whose second task needs a yes; return its name."""
    cli.write("bill.yaml", BILL.format(folder=cli.folder, who=who))
    return "bill.yaml"


def read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """Return the lines on a process's stderr up to the first one with `text` in it."""
    lines: list[str] = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line.rstrip("\n"))
        if text in line:
            return lines
    raise AssertionError(f"{text!r} was not told: {lines}")


def test_a_run_tells_what_waits_and_goes_on_with_the_yes(cli: CommandLine) -> None:
    """The commands it names are the ones that work, from another terminal."""
    with started(cli, "run", bill(cli)) as process:
        lines = read_until(process, "refuse:")
        status = cli.inside("status", "bill-1")
        listed = cli.inside("list")
        approved = cli.inside("approve", "bill-1", "pay", "--reason", "it is due")
        out, err = process.communicate(timeout=20)

    told = "\n".join(lines)
    assert "pay waits for your yes; it would run exactly this:" in told
    assert f'"path": "{cli.folder}/paid", "text": "amount-42"' in told
    assert "  agree:  advanced-orchestration approve bill-1 pay" in lines
    assert "  refuse: advanced-orchestration reject bill-1 pay" in lines
    assert "State:         running (1 to approve), driven by" in status.out
    assert "pay waits for your yes; it would run exactly this:\n  | " in status.out
    assert "running (1 to approve)" in listed.out
    assert approved.code == 0
    assert (
        "Task:         pay\nWhat for:     Pay what it costs\nWho may agree: a person\n"
        in approved.out.replace("Task:          ", "Task:         ").replace(
            "What for:      ", "What for:     "
        )
    )
    assert '"text": "amount-42"' in approved.out
    assert "pay is approved. bill-1 is " in approved.out
    assert process.returncode == 0
    assert "pay: approved by person (it is due)" in err
    assert out.startswith("bill-1 completed: 2 completed")
    assert (cli.folder / "paid").read_text().split() == ["amount-42"]


def test_a_refusal_fails_the_task_with_its_reason(cli: CommandLine) -> None:
    """And the run ends with it."""
    with started(cli, "run", bill(cli)) as process:
        read_until(process, "refuse:")
        answer = cli.inside("reject", "bill-1", "pay", "--reason", "paid in cash", "--json")
        out, _ = process.communicate(timeout=20)

    assert answer.code == 0
    assert (answer.document["action"], answer.document["orchestration_id"]) == ("reject", "bill-1")
    assert process.returncode == 1
    assert "pay failed (rejected): person did not agree to it: paid in cash" in out
    assert not (cli.folder / "paid").exists()


def test_a_yes_is_bound_to_the_digest_that_was_seen(cli: CommandLine) -> None:
    """The beginning of it is enough; another one agrees to nothing."""
    with started(cli, "run", bill(cli, "caller")) as process:
        read_until(process, "refuse:")
        shown = cli.inside("status", "bill-1", "--view", "approvals")
        document = cli.inside("status", "bill-1", "--view", "approvals", "--json").document
        digest = document["approvals"][0]["digest"]
        wrong = cli.inside("approve", "bill-1", "pay", "--digest", "0123456789ab")
        short = cli.inside("approve", "bill-1", "pay", "--digest", digest[:4])
        right = cli.inside("approve", "bill-1", "pay", "--digest", digest[:12], "--json")
        process.communicate(timeout=20)

    assert "pay waits for a yes from the calling agent or you; it would run exactly this:" in shown.out
    assert f"  digest: {digest[:12]}\n" in shown.out
    assert (wrong.code, short.code, right.code) == (2, 2, 0)
    assert (
        f"--digest is '0123456789ab'; expected the digest of what 'pay' would run now, {digest[:12]}"
        in wrong.err
    )
    assert (document["approvals"][0]["who"], process.returncode) == ("caller", 0)


@pytest.mark.parametrize(("typed", "is_paid"), [("n\n", False), ("y\n", True)])
def test_on_a_terminal_it_asks_first(cli: CommandLine, typed: str, is_paid: bool) -> None:
    """What would run is on the screen, and no answer is a no."""
    bill(cli)
    with started(cli, "run", "bill.yaml") as process:
        read_until(process, "refuse:")
        terminal, its_end = pty.openpty()
        answering = subprocess.Popen(
            [sys.executable, "-m", "server", "approve", "bill-1", "pay"],
            cwd=cli.folder,
            env=cli.environ,
            stdin=its_end,
            stdout=its_end,
            stderr=subprocess.PIPE,
        )
        os.close(its_end)
        screen = b""
        while b"Agree? [y/N]" not in screen:
            screen += os.read(terminal, 4096)
        os.write(terminal, typed.encode())
        while True:
            try:
                part = os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            screen += part
        answering.communicate(timeout=20)
        os.close(terminal)
        if is_paid:
            process.communicate(timeout=20)
        status = cli.inside("status", "bill-1", "--json").document

    assert b'"text": "amount-42"' in screen
    assert (answering.returncode, status["state"]) == ((0, "completed") if is_paid else (2, "running"))
    assert (b"Nothing was changed." in screen) is not is_paid
    assert (cli.folder / "paid").exists() is is_paid


def test_what_waits_for_nobody_is_refused_with_what_does(cli: CommandLine) -> None:
    """A wrong task, an unknown one, an orchestration that has ended."""
    with started(cli, "run", bill(cli)) as process:
        read_until(process, "refuse:")
        wrong = cli.inside("approve", "bill-1", "price")
        unknown = cli.inside("reject", "bill-1", "prize", "--json")
        nowhere = cli.inside("approve", "bill-9", "pay")
        cli.inside("cancel", "bill-1")
        process.communicate(timeout=20)
    ended = cli.inside("approve", "bill-1", "pay")

    assert (wrong.code, unknown.code, nowhere.code, ended.code) == (2, 2, 2, 2)
    assert "These wait for approval: pay." in wrong.err
    assert "has no task 'prize'" in unknown.document["error"]["message"]
    assert "There is no orchestration 'bill-9'." in nowhere.err
    assert "is cancelled" in ended.err


def test_a_yes_needs_no_working_system(cli: CommandLine) -> None:
    """What nobody drives is agreed to here, even where a system's configuration no longer works."""
    with started(cli, "run", bill(cli)) as process:
        read_until(process, "refuse:")
        process.kill()
        process.wait(timeout=10)
    cli.write("broken.yaml", "systems: {jobs: {kind: function, functions: {note: 'cli_jobs:nowt'}}}\n")
    approved = cli.inside("approve", "bill-1", "pay", "--config", str(cli.folder / "broken.yaml"))
    doctor = cli.inside("doctor", "--json")
    resumed = cli("resume", "bill-1")

    assert approved.code == 0
    assert "resume bill-1" in approved.out
    assert "decisions" not in {finding["check"] for finding in doctor.document.get("findings", [])}
    assert (resumed.code, (cli.folder / "paid").read_text().split()) == (0, ["amount-42"])
