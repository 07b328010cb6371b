"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import CommandLine

CONFIG = """
systems:
  jobs:
    kind: function
    functions:
      double: "cli_jobs:double"
      note: "cli_jobs:note"
      wait_for: "cli_jobs:wait_for"
      fail: "cli_jobs:fail"
      fail_until: "cli_jobs:fail_until"
      send: "cli_jobs:send"
      large: "cli_jobs:large"
      noise: "cli_jobs:noise"
  local: {kind: command, commands: {say: {argv: [echo, "{text}"]}}}
sequential_thinking: in-process
"""

DIAMOND = """
dag_id: rauten-probe
goal: Zahlen verdoppeln
tasks:
  - task_id: one
    system_preference: jobs
    tool: double
    arguments: {number: 1}
    estimated_time_seconds: 2
  - task_id: two
    depends_on: [one]
    system_preference: jobs
    tool: double
    arguments: {number: "${one}"}
    estimated_time_seconds: 4
  - task_id: three
    depends_on: [one]
    system_preference: jobs
    tool: double
    arguments: {number: "${one}"}
    estimated_time_seconds: 6
    cost: 1.5
  - task_id: say
    depends_on: [two, three]
    system_preference: local
    tool: say
    arguments: {text: "größer: ${two} ${three}"}
    estimated_time_seconds: 1
"""


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """The command line in a folder of its own, with a configuration and a DAG file in it."""
    command_line = CommandLine(tmp_path)
    command_line.write("config.yaml", CONFIG)
    command_line.write("diamond.yaml", DIAMOND)
    return command_line
