"""The example of an effect that must not happen twice, killed in its middle by real signals."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.examples.test_examples import (
    EXAMPLES,
    PATIENCE_SECONDS,
    ask,
    finish,
    start,
    wait_for_lines,
)

pytestmark = pytest.mark.slow


def example(home: Path, seconds: int) -> Path:
    """Return a copy of the example in which the outbox has a letter after that many seconds instead of three."""
    text = (EXAMPLES / "once.yaml").read_text(encoding="utf-8")
    assert text.count("seconds: 3") == 2
    path = home / "once.yaml"
    path.write_text(text.replace("seconds: 3", f"seconds: {seconds}"), encoding="utf-8")
    return path


def kill_when_started(home: Path, outbox_lines: int, seconds: int = 1) -> None:
    """Run the example, and kill it once both letters are on their way and so many of them are in the outbox."""
    running = start("run", str(example(home, seconds)), home=home)
    read_until(running, 2, "started on local")
    if outbox_lines:
        wait_for_lines(home / ".demo" / "outbox.txt", outbox_lines, running)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=PATIENCE_SECONDS)


def read_until(process: subprocess.Popen[str], times: int, text: str) -> list[str]:
    """Return the lines a process tells until `text` was in so many of them."""
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line.rstrip("\n"))
        times -= text in line
        if not times:
            return lines
    pytest.fail(f"{text!r} was not told: {lines}")


def outbox(home: Path) -> list[str]:
    """Return the letters that were posted."""
    path = home / ".demo" / "outbox.txt"
    return sorted(path.read_text(encoding="utf-8").splitlines()) if path.exists() else []


@pytest.mark.parametrize(
    ("decision", "code", "state", "invoices"),
    [("done", 0, "completed", 1), ("retry", 0, "completed", 2), ("failed", 1, "failed", 1)],
)
def test_each_decision_works_after_a_kill_in_the_middle(
    tmp_path: Path, decision: str, code: int, state: str, invoices: int
) -> None:
    """Both letters are posted when it is killed. `verify` finds the reminder; of the invoice somebody decides."""
    kill_when_started(tmp_path, outbox_lines=2)
    orphan = ask("status", "once-1", home=tmp_path)

    resumed = start("resume", "once-1", home=tmp_path)
    lines = read_until(resumed, 1, "decide once-1 invoice failed")
    told = start("status", "once-1", home=tmp_path).communicate(timeout=PATIENCE_SECONDS)[0]
    waiting = ask("status", "once-1", home=tmp_path)
    decided = ask("decide", "once-1", "invoice", decision, home=tmp_path)
    out, _ = resumed.communicate(timeout=PATIENCE_SECONDS)

    assert (orphan["state"], orphan["orphaned"], orphan["counts"]["running"]) == ("running", True, 2)
    assert any("invoice waits for a decision: The process that ran attempt 1" in line for line in lines)
    assert not any("decide once-1 reminder" in line for line in lines), "`verify` is asked first"
    assert waiting["waiting_for_decision"].keys() == {"invoice"}
    for word in ("done", "retry", "failed"):
        assert f"advanced-orchestration decide once-1 invoice {word} --config" in told
    assert decided["status"]["counts"].get("unknown") is None
    assert resumed.returncode == code
    assert out.startswith(f"once-1 {state}: ")
    assert outbox(tmp_path) == ["invoice 17"] * invoices + ["reminder of invoice 17"]


def test_what_did_not_happen_is_found_out_and_done_once(tmp_path: Path) -> None:
    """Killed before anything was posted: the killed process's commands are ended, the reminder is posted by itself."""
    kill_when_started(tmp_path, outbox_lines=0, seconds=3)

    resumed = start("resume", "once-1", home=tmp_path)
    read_until(resumed, 1, "decide once-1 invoice failed")
    ask("decide", "once-1", "invoice", "retry", home=tmp_path)
    out, err = resumed.communicate(timeout=PATIENCE_SECONDS)

    assert resumed.returncode == 0, out + err
    assert "reminder: decided by verify: retry" in err
    assert outbox(tmp_path) == ["invoice 17", "reminder of invoice 17"]


def test_undisturbed_it_posts_each_letter_once(tmp_path: Path) -> None:
    """Nothing is asked where nothing went wrong."""
    code, result = finish(start("run", str(example(tmp_path, 1)), "--json", home=tmp_path))

    assert (code, result["counts"]) == (0, {"completed": 4})
    assert result["results"]["file"] == {"text": "invoice 17 is on its way"}
    assert outbox(tmp_path) == ["invoice 17", "reminder of invoice 17"]
