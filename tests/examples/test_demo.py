"""Promises of `make demo`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def demo(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the demo in a folder of its own, without a thinking process."""
    config = home / "config.yaml"
    config.write_text("sequential_thinking: in-process\n", encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "server.demo", *words],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ADVANCED_ORCHESTRATION_CONFIG": str(config)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a small codebase with something to report."""
    root = tmp_path_factory.mktemp("tree")
    (root / "a.py").write_text(
        '"""A."""\nimport b\n\n\ndef f(x):\n    # TODO: shorten\n    return x\n', encoding="utf-8"
    )
    (root / "b.py").write_text("import a\n", encoding="utf-8")
    (root / "README.md").write_text("[lost](nowhere.md)\n", encoding="utf-8")
    return root


def test_the_demo_reports_on_a_codebase_and_on_its_own_run(tree: Path, tmp_path: Path) -> None:
    """What the tasks found, a graph, timings and efficiency; the last lines say where it is and what is next."""
    ran = demo(tmp_path, "--path", str(tree))

    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = (tmp_path / ".demo" / "report.md").read_text(encoding="utf-8")
    for found in ("| a → b → a | 2 |", "| README.md | 1 | nowhere.md |", "| a.py | 6 | TODO | shorten |"):
        assert found in report
    section = report.partition("## This run")[2]
    tasks = re.findall(r"^    t\d+\[.*:::completed$", section, flags=re.MULTILINE)
    assert len(tasks) >= 10
    assert "flowchart TD" in section
    assert re.search(r"\| Parallel efficiency: [^|]* \| \d+ % \|", section)
    assert len(re.findall(r"\| completed \|$", section, flags=re.MULTILINE)) == len(tasks)
    assert "Report:   .demo/report.md\nDatabase: .demo/orchestrations.db\nTry next:\n" in ran.stdout


def test_what_the_demo_says_to_try_next_works(tree: Path, tmp_path: Path) -> None:
    """A second run replaces the report; each command it names answers."""
    demo(tmp_path, "--path", str(tree))
    ran = demo(tmp_path, "--path", str(tree))

    named = re.findall(r"^  \.venv/bin/advanced-orchestration (.*)$", ran.stdout, flags=re.MULTILINE)
    readable = [words.split() for words in named if not words.startswith("run ")]

    assert "-2`" in (tmp_path / ".demo" / "report.md").read_text(encoding="utf-8")
    assert len(readable) == 4
    for words in readable:
        answer = subprocess.run(
            [sys.executable, "-m", "server", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (answer.returncode, answer.stderr) == (0, "")
        assert answer.stdout


def test_a_repository_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The error names the value and the fix, and nothing is made."""
    ran = demo(tmp_path, "--path", "nowhere")

    assert ran.returncode == 2
    assert ran.stderr == "error: 'nowhere' is not a folder. Fix: make demo REPO=path/to/a/codebase\n"
    assert not (tmp_path / ".demo").exists()
