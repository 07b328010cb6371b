"""Systems that can't run as they are declared: each says so, everywhere alike, and everything else goes on."""

from __future__ import annotations

import json
import sys

from tests.cli.support import CommandLine

CONFIG = """
systems:
  typo: {kind: ftp, host: example.org}
  twice: {kind: function, functions: {getpid: "os:getpid"}}
  twice: {kind: function, functions: {getppid: "os:getppid"}}
  secret: {kind: http, base_url: "http://localhost:9", bearer_token: "${NOBODY_SET_THIS}", operations: {o: {path: /}}}
  gone: {kind: function, functions: {go: "no_such_module:go", pid: "os:getpidd"}}
  fine: {kind: function, functions: {cwd: "os:getcwd"}}
sequential_thinking: in-process
"""

FAULTS = {
    "typo": ("ftp", "'ftp' is no kind of system. Fix: the kinds are command, "),
    "twice": ("function", "stands on line 4 already. Fix: keep one."),
    "secret": ("http", "environment variable NOBODY_SET_THIS is not set. Fix: set NOBODY_SET_THIS"),
    "gone": (
        "function",
        "there is no module 'no_such_module'. Fix: install it, or put its folder on PYTHONPATH.",
    ),
}

DAG = """
dag_id: mixed
tasks:
  - {task_id: cwd, system_preference: fine}
  - {task_id: bad, system_preference: gone, tool: go}
  - {task_id: worse, system_preference: typo}
"""


def test_systems_lists_them_and_check_and_doctor_fail_them_with_the_same_words(cli: CommandLine) -> None:
    """A list without them would hide what `run` will say."""
    cli.write("config.yaml", CONFIG)

    listed = {each["name"]: each for each in cli.inside("systems", "--json").document["systems"]}
    shown = cli.inside("systems")
    checked = cli.inside("systems", "--check", "--json")
    doctor = cli.inside("doctor", "--json")
    table = cli.inside("systems", "--check")

    checks = {each["name"]: each for each in checked.document["systems"]}
    findings = {each["name"]: each for each in doctor.document["checks"]}
    assert (shown.code, checked.code, doctor.code) == (0, 1, 1)
    for name, (kind, reason) in FAULTS.items():
        assert checks[name]["kind"] == kind
        assert checks[name]["ok"] is findings[f"system {name}"]["ok"] is False
        assert reason in checks[name]["detail"]
        assert checks[name]["detail"] == findings[f"system {name}"]["detail"]
        assert f"FAIL: {checks[name]['detail']}" in table.out
        if name != "gone":  # nothing is imported for a list
            assert listed[name]["unusable"] == checks[name]["detail"]
            assert f"can't run: {listed[name]['unusable']}" in shown.out
    assert checks["fine"]["ok"]
    assert [each["name"] for each in doctor.document["checks"]].count("system typo") == 1
    assert findings["configuration"]["detail"].startswith(str(cli.folder)), (
        "it is told once, with the systems"
    )


def test_everything_else_goes_on(cli: CommandLine) -> None:
    """Tasks of the other systems run; tasks that name one of them fail with its reason; it is warned of at once."""
    cli.write("config.yaml", CONFIG)
    cli.write("mixed.yaml", DAG)

    answer = cli.inside("run", "mixed.yaml", "--json")

    result = answer.document
    assert answer.code == 1
    assert result["results"] == {"cwd": str(cli.folder)}
    assert "no module 'no_such_module'" in result["errors"]["bad"]["message"]
    assert "'ftp' is no kind of system" in result["errors"]["worse"]["message"]
    assert "warning: System 'typo' can't run: " in answer.err
    assert "System 'gone' can't run: " in answer.err


def test_a_server_that_floods_is_told_in_one_bounded_line(cli: CommandLine) -> None:
    """Whoever looks after the installation must be able to read the other findings."""
    flood = cli.write(
        "flood.py", "import sys\nfor n in range(400): print('rubbish', n, '=' * 200, flush=True)\n"
    )
    server = {"kind": "mcp", "command": sys.executable, "args": [str(flood)]}
    cli.write("config.yaml", json.dumps({"systems": {"flood": server}, "sequential_thinking": "in-process"}))

    found = {each["name"]: each for each in cli.inside("doctor", "--json").document["checks"]}["system flood"]

    assert not found["ok"]
    assert len(found["detail"]) <= 300
    assert found["detail"].isprintable()
