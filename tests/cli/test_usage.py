"""How the command line is used: help, mistakes, output for people and programs, what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from server.cli.parser import build_parser
from tests.cli.support import ROOT, CommandLine

COMMANDS = (
    "serve",
    "run",
    "resume",
    "pause",
    "cancel",
    "retry",
    "decide",
    "approve",
    "reject",
    "decompose",
    "validate",
    "simulate",
    "list",
    "status",
    "output",
    "export",
    "metrics",
    "systems",
    "doctor",
    "backup",
    "edit",
    "playbooks",
)


MORE_WORDS = {"output": ("say",), "decide": ("say", "done"), "approve": ("say",), "reject": ("say",)}
"""What some commands need beside the id of an orchestration."""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What can be typed is shown, and the options of every command are there."""
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([command, "--help"])

    help_text = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"example:\n  advanced-orchestration {command}" in help_text
    for option in ("--config", "--database", "--json"):
        assert option in help_text


def test_help_and_validate_import_nothing_heavy(cli: CommandLine) -> None:
    """Start-up time is a feature: pydantic waits for work, the MCP SDK and CEL for those who need them."""
    script = (
        "import sys; from server.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(sorted({'mcp', 'cel', 'pydantic', 'structlog', 'rich', 'sqlite3', 'uvicorn'} & set(sys.modules)))"
    )

    def imported(*words: str) -> str:
        argv = [sys.executable, "-c", script, *words]
        ended = subprocess.run(
            argv, cwd=cli.folder, env=cli.environ, capture_output=True, text=True, check=True
        )
        return ended.stdout.splitlines()[-1]

    assert imported("--help") == "[]"
    assert imported("validate", "diamond.yaml") == "['pydantic']"


def test_a_misspelled_command_is_answered_with_the_right_one(cli: CommandLine) -> None:
    """Exit code 2, usage and error on stderr, nothing on stdout."""
    answer = cli("rum")

    assert answer.code == 2
    assert answer.out == ""
    assert "Did you mean 'run'?" in answer.err


def test_with_json_even_a_usage_error_is_one_document(cli: CommandLine) -> None:
    """A program that reads stdout always finds exactly one document there."""
    answer = cli("simulate", "diamond.yaml", "--workers", "0", "--json")

    assert answer.code == 2
    assert answer.document == {
        "error": {
            "code": "usage",
            "message": "argument --workers: is '0'; expected a whole number from 1 to 100000",
        }
    }


def test_mistakes_in_the_configuration_are_told_one_a_line(cli: CommandLine) -> None:
    """Exit code 2; the same in JSON, with each problem's place and fix."""
    config = cli.write(
        "config.yaml",
        "systems:\n  x: {kind: alita, base_ulr: x}\nadvanced_orchestration: {log_level: loud}\n",
    )

    answer = cli.inside("list")
    document = cli.inside("list", "--json").document

    assert answer.code == 2
    assert answer.err == (
        "error: The configuration has 2 mistakes:\n"
        f"  {config}:2: systems.x.base_ulr: unknown key 'base_ulr'. Fix: write 'base_url'.\n"
        f"  {config}:3: advanced_orchestration.log_level: is 'loud'; "
        "expected 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'.\n"
    )
    assert document["error"]["code"] == "invalid_configuration"
    assert document["error"]["problems"][0] == {
        "path": f"{config}:2: systems.x.base_ulr",
        "message": "unknown key 'base_ulr'.",
        "fix": "write 'base_url'.",
    }


def test_a_namesake_package_is_told_apart(cli: CommandLine) -> None:
    """Plain package names may collide; then one clear sentence, before anything foreign is used."""
    (cli.folder / "config").mkdir()
    cli.write("config/__init__.py", "raise RuntimeError('the foreign package was imported')")

    answer = cli("list", environ={"PYTHONPATH": f"{cli.folder}:{ROOT}"})
    document = cli("list", "--json", environ={"PYTHONPATH": f"{cli.folder}:{ROOT}"}).document

    assert answer.code == 2
    assert answer.err == f"error: {document['error']['message']}\n"
    assert document["error"]["code"] == "foreign_package"
    assert document["error"]["message"].startswith(
        f"Python finds the one in {cli.folder.resolve() / 'config'} for the package `config`, "
        f"but this program needs its own in {ROOT / 'config'}"
    )
    assert "Fix: install this program by itself" in document["error"]["message"]


def test_a_reader_that_goes_away_is_no_error(cli: CommandLine) -> None:
    """`| head -1` ends quietly, with the command's own exit code."""
    tasks = [{"task_id": f"t{number}"} for number in range(5000)]
    cli.write("many.json", json.dumps({"dag_id": "many", "tasks": tasks}))
    shell = f"{sys.executable} -m server export many.json --format yaml | head -1; echo ${{PIPESTATUS[0]}}"

    ended = subprocess.run(
        ["bash", "-c", shell], cwd=cli.folder, env=cli.environ, capture_output=True, text=True, check=True
    )

    assert ended.stdout.splitlines() == ["dag_id: many", "0"]
    assert ended.stderr == ""


@pytest.mark.parametrize("words", [("list",), ("list", "--json")])
def test_an_answer_that_can_not_be_written_is_an_error(cli: CommandLine, words: tuple[str, ...]) -> None:
    """A full disk under stdout ends in one line on stderr and exit code 1, not in a traceback."""
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            cli.argv(*words),
            cwd=cli.folder,
            env=cli.environ,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )

    assert ended.returncode == 1
    assert ended.stderr.decode() == "error: the answer can't be written (No space left on device).\n"


@pytest.mark.parametrize(
    "command", ["status", "resume", "export", "output", "pause", "cancel", "retry", "decide"]
)
def test_an_id_that_is_no_unicode_is_an_unknown_one(cli: CommandLine, command: str) -> None:
    """An id of broken bytes is refused like any other that does not exist."""
    assert cli.inside("run", "diamond.yaml", "--json").code == 0
    broken = "caf\udce9"

    answer = cli.inside(command, broken, *MORE_WORDS.get(command, ()), "--json")

    assert answer.code == 2
    assert answer.document["error"]["code"] == "orchestration_not_found"


def test_a_number_beyond_every_database_is_beyond_the_end(cli: CommandLine) -> None:
    """Passing over more than there can be answers with nothing."""
    ran = cli.inside("run", "diamond.yaml", "--json").document["orchestration_id"]
    beyond = str(10**30)

    assert cli.inside("list", "--offset", beyond, "--json").document == {"orchestrations": []}
    assert cli.inside("status", ran, "--events", "--after", beyond, "--json").document["events"] == []


def test_output_off_a_terminal_is_plain(cli: CommandLine) -> None:
    """No colours and no drawing in a pipe; unicode and relative paths as they were given."""
    (cli.folder / "größe").mkdir()
    cli.write("größe/план.yaml", (cli.folder / "diamond.yaml").read_text(encoding="utf-8"))

    answer = cli("validate", "größe/план.yaml")

    assert answer.code == 0
    assert answer.out.startswith(
        "größe/план.yaml: DAG 'rauten-probe' is valid: 4 tasks, 4 edges, at most 2 at once.\n"
    )
    assert "\x1b" not in answer.out + answer.err


def test_serve_refuses_to_be_reached_from_elsewhere(cli: CommandLine) -> None:
    """There is no authentication yet."""
    answer = cli.inside("serve", "--transport", "http", "--host", "0.0.0.0", "--json")

    assert answer.code == 2
    assert (
        "expected a loopback address, because there is no authentication yet"
        in answer.document["error"]["message"]
    )


def test_the_version_is_told(cli: CommandLine) -> None:
    """For bug reports."""
    answer = cli("--version")

    assert answer.code == 0
    assert answer.out.startswith("advanced-orchestration ")


def test_reading_creates_no_database(cli: CommandLine) -> None:
    """A typo in a path makes no file; the answer says that there is nothing."""
    answer = cli.inside("list", "--database", "nowhere/else.db")

    assert answer.code == 0
    assert answer.out == "There are no orchestrations in nowhere/else.db.\n"
    assert not (cli.folder / "nowhere").exists()


def test_an_unknown_orchestration_is_refused_with_the_way_to_find_one(cli: CommandLine) -> None:
    """Every reading command says the same."""
    for words in (
        ["status", "no-1"],
        ["output", "no-1", "a"],
        ["export", "no-1"],
        ["status", "no-1", "--events"],
    ):
        answer = cli.inside(*words)

        assert answer.code == 2
        assert answer.err.startswith("error: There is no orchestration 'no-1'. Fix: list them")


def test_an_odd_environment_variable_is_mentioned(cli: CommandLine) -> None:
    """On stderr, so that JSON on stdout stays alone."""
    answer = cli("list", "--json", environ={"ADVANCED_ORCHESTRATION_RETRY": "1"})

    assert answer.document == {"orchestrations": []}
    assert answer.err.startswith("warning: Environment variable ADVANCED_ORCHESTRATION_RETRY means nothing")


def test_doctor_and_systems_say_what_is_missing(cli: CommandLine) -> None:
    """A program that is not there and a function that can't be imported are findings, not crashes."""
    cli.write(
        "config.yaml",
        "systems:\n"
        "  absent: {kind: command, commands: {go: {argv: [no-such-program-anywhere]}}}\n"
        "  broken: {kind: function, functions: {go: 'no_such_module:go'}}\n"
        "sequential_thinking: in-process\n",
    )

    doctor = cli.inside("doctor", "--json")
    systems = cli.inside("systems", "--check")

    checks = {check["name"]: check for check in doctor.document["checks"]}
    assert (doctor.code, systems.code) == (1, 1)
    assert checks["system absent"]["detail"] == "missing: program 'no-such-program-anywhere' (command 'go')"
    assert "no_such_module" in checks["system broken"]["detail"]
    assert checks["system codebase"]["ok"]
    assert checks["program"]["ok"]
    assert checks["disk space"]["ok"]
    assert checks["database"]["detail"].endswith("does not exist yet; it is made when first needed")
    assert checks["sequential thinking"]["detail"] == "in-process, as configured"
    assert "FAIL: missing: program 'no-such-program-anywhere'" in systems.out


def test_doctor_lists_mistakes_of_the_configuration(cli: CommandLine, tmp_path: Path) -> None:
    """The tool for finding mistakes must not stop at the first."""
    config = cli.write("config.yaml", "mcp_servers_file: x\n")

    answer = cli.inside("doctor")

    assert answer.code == 1
    assert f"FAIL  configuration: {config}:1: mcp_servers_file: there is no file" in answer.out
    assert "FAIL  the rest: was not checked, because the configuration has mistakes" in answer.out
    assert not list(tmp_path.glob("*.db"))


def test_doctor_looks_into_a_broken_database(cli: CommandLine) -> None:
    """A file that is no database is told as it is, and left alone."""
    path = cli.write("state.db", "this is no database " * 500)
    before = path.read_bytes()

    answer = cli.inside("doctor", "--json")

    checks = {check["name"]: check for check in answer.document["checks"]}
    assert answer.code == 1
    assert not checks["database"]["ok"]
    assert path.read_bytes() == before
