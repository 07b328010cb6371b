"""Promises about the project itself: what is shipped, what the documents say, and that nothing of a machine leaks."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PATIENCE_SECONDS = 60


def run(*argv: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def read(name: str) -> str:
    """Return a file of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


# --- What is shipped ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    assert built.returncode == 0, built.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_contains_the_four_packages_whole(wheel: zipfile.ZipFile) -> None:
    """Every file of the packages is in it: defaults, playbooks, migrations and type marker beside the code."""
    packages = ("server", "orchestration", "storage", "config")
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert shipped == expected
    assert {
        "config/advanced_orchestration.yaml",
        "orchestration/planning/playbooks/codebase-report.yaml",
    } < shipped
    assert any(re.fullmatch(r"storage/migrations/\d{4}_\w+\.sql", name) for name in shipped)


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    """Name, licence, Python and the one command."""
    info = {
        name.rpartition("/")[2]: wheel.read(name).decode()
        for name in wheel.namelist()
        if ".dist-info/" in name
    }
    metadata = Parser().parsestr(info["METADATA"])

    assert metadata["Name"] == "advanced-task-orchestration"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Apache License" in info["LICENSE"]
    assert info["entry_points.txt"].split() == [
        *("[console_scripts]", "advanced-orchestration", "=", "server.__main__:main")
    ]


@pytest.mark.slow
def test_the_wheel_works_where_only_it_is_installed(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Unpacked away from the clone it plans and runs a goal, from its own playbooks and defaults."""
    wheel.extractall(tmp_path / "site")
    config = tmp_path / "config.yaml"
    config.write_text("sequential_thinking: in-process\n", encoding="utf-8")
    (tmp_path / "tree").mkdir()
    goal = (
        "run",
        "--goal",
        "Report on the health of this codebase",
        "--context",
        '{"path": "tree"}',
        "--json",
    )

    ran = run(
        *(sys.executable, "-P", "-m", "server", *goal, "--config", str(config), "--database", "o.db"),
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path / "site"),
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert '"success": true' in ran.stdout


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_names_exact_versions_and_nothing_else(name: str) -> None:
    """No index, no host, no path, no marker: the same on every machine."""
    lines = read(name).splitlines()

    assert lines == sorted(lines, key=lambda line: line.partition("==")[0])
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9-]*==[0-9][0-9a-z.+]*", line)] == []


def test_the_locks_agree_and_hold_every_dependency() -> None:
    """The development lock contains the other one, and both are up to date with pyproject.toml."""
    from orchestration.systems.codebase import declared_dependencies

    locks = {name: set(read(name).splitlines()) for name in ("requirements.lock", "requirements-dev.lock")}
    locked = {name: {line.partition("==")[0] for line in lines} for name, lines in locks.items()}
    declared = declared_dependencies(str(ROOT))["declared"]
    assert isinstance(declared, list)
    groups: dict[str, set[str]] = {}
    for entry in declared:
        assert isinstance(entry, dict)
        if entry["source"] == "pyproject.toml":
            groups.setdefault(str(entry["group"]), set()).add(str(entry["name"]))

    assert locks["requirements.lock"] <= locks["requirements-dev.lock"]
    assert groups["dependencies"] <= locked["requirements.lock"]
    assert groups["dev"] <= locked["requirements-dev.lock"]


def test_what_is_imported_is_declared_and_the_other_way_round() -> None:
    """The project passes its own measurement."""
    from orchestration.systems.codebase import declared_dependencies, dependency_check, imported_packages

    found = dependency_check(declared_dependencies(str(ROOT)), imported_packages(str(ROOT)))

    assert (found["undeclared"], found["unused"]) == ([], [])


def test_nothing_of_a_machine_leaks() -> None:
    """No home folder, no local index and no mirror stands in any committed file."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    leaks = r"/(root|work|Users|home/(?!me/)[a-z]+)/[A-Za-z.]|file:///opt|(pypi|npm|registry)[a-z.-]*\.(internal|local)\b"
    listed = run("git", "ls-files", "-z").stdout.split("\0")

    found = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name in listed
        if name and name != "tests/test_project.py" and (ROOT / name).is_file()
        for number, line in enumerate(read_or_empty(ROOT / name).splitlines(), start=1)
        if re.search(leaks, line)
    ]

    assert found == []


def read_or_empty(path: Path) -> str:
    """Return a file's text; nothing for a binary one."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


# --- What the documents say ---------------------------------------------------------------------------------


def test_every_link_in_the_documents_leads_somewhere() -> None:
    """The project passes its own measurement."""
    from orchestration.systems.codebase import documentation_links

    assert documentation_links(str(ROOT))["broken"] == []


def test_every_document_the_code_names_is_there() -> None:
    """A docstring that sends its reader to `docs/…` sends them to a file."""
    named = {
        match
        for package in ("orchestration", "storage", "config", "server", "benchmarks")
        for path in (ROOT / package).rglob("*.py")
        for match in re.findall(r"docs/[\w.-]+\.(?:md|json)", path.read_text(encoding="utf-8"))
    }

    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_the_state_machine_page_is_current() -> None:
    """The page is what the transition tables say."""
    from orchestration.engine.transitions import to_markdown

    assert read("docs/state-machine.md") == to_markdown()


def shown_commands() -> Iterator[tuple[str, str]]:
    """Yield every command line that a document, an example or the demo shows, with where it stands."""
    places = [*DOCUMENTS, *sorted((ROOT / "examples").glob("*.yaml"))]
    for path in places:
        for line in path.read_text(encoding="utf-8").splitlines():
            shown = re.match(r"(?:#|\$|`)?\s*(advanced-orchestration [a-z].*)", line.strip())
            if shown:
                yield path.name, re.sub(r"\s(?:#\s.*|&)$|`.*$", "", shown[1]).strip()


@pytest.mark.parametrize(("document", "command"), sorted(set(shown_commands())))
def test_every_command_in_the_documents_is_one(document: str, command: str) -> None:
    """What a reader copies, the command line understands, and the examples it names exist."""
    from server.cli.parser import parse

    words = shlex.split(command)[1:]

    assert parse(words).command == words[0]
    assert [word for word in words if word.startswith("examples/") and not (ROOT / word).exists()] == []


def test_every_make_target_in_the_documents_is_one() -> None:
    """`make …` in README and CONTRIBUTING names a target."""
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), flags=re.MULTILINE))

    shown = {
        word
        for path in DOCUMENTS
        for word in re.findall(r"(?:^|`)\s*make ([a-z-]+)", path.read_text("utf-8"), re.MULTILINE)
    }

    assert shown >= {"demo", "test", "check"}
    assert shown - targets == set()


def test_readmes_library_example_runs(tmp_path: Path) -> None:
    """It prints what its reader expects."""
    example = re.search(r"```python\n(.*?)```", read("README.md"), flags=re.DOTALL)
    assert example is not None

    ran = run(sys.executable, "-W", "error", "-c", example[1], cwd=tmp_path, PYTHONPATH=str(ROOT))

    assert (ran.stdout, ran.stderr) == ("True 13.0\n", "")
    assert (tmp_path / "sums.db").exists()


def blocks(path: Path) -> Iterator[str]:
    """Yield each block of code in a document, fenced or indented."""
    text = path.read_text(encoding="utf-8")
    yield from re.findall(r"^```ya?ml\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    yield from (
        textwrap.dedent(block) for block in re.findall(r"(?:^(?: {4}.*)?\n)+", text, flags=re.MULTILINE)
    )


def shown(key: str) -> list[tuple[str, str]]:
    """Return the blocks with a line that begins like that, with the documents they stand in."""
    start = re.compile(rf"^{key}", flags=re.MULTILINE)
    return [(path.name, block) for path in DOCUMENTS for block in blocks(path) if start.search(block)]


@pytest.mark.parametrize(("document", "block"), shown("dag_id: "), ids=lambda value: value[:20].strip())
def test_a_dag_in_a_document_is_valid(document: str, block: str) -> None:
    """Whoever copies it can run it, given the systems."""
    from orchestration import load_dag

    assert load_dag(block + "\n").nodes, document


@pytest.mark.parametrize(("document", "block"), shown("systems:$"), ids=lambda value: value[:20].strip())
def test_a_configuration_in_a_document_is_accepted(document: str, block: str, tmp_path: Path) -> None:
    """Every key and kind of system shown is one."""
    from config.settings import load_settings

    file = tmp_path / "config.yaml"
    file.write_text(block, encoding="utf-8")

    assert load_settings(file, {"TOKEN": "t"}).systems, document


def test_the_main_documents_show_a_dag_and_a_configuration() -> None:
    """The two tests above have something to look at."""
    assert {"README.md", "dag-file.md"} <= {document for document, _ in shown("dag_id: ")}
    assert {"README.md", "configuration.md"} <= {document for document, _ in shown("systems:$")}


def test_every_variable_in_the_documents_is_one() -> None:
    """The table of variables is the program's own list."""
    from config.keys import CONFIG_VARIABLE, ENVIRONMENT, GIVEN_VARIABLES

    shown = set(re.findall(r"ADVANCED_ORCHESTRATION_[A-Z_]+", read("docs/configuration.md")))

    assert shown == {*ENVIRONMENT, CONFIG_VARIABLE, *GIVEN_VARIABLES}


# --- Building -----------------------------------------------------------------------------------------------


def test_make_help_lists_every_target() -> None:
    """What `.PHONY` names is explained, and nothing else."""
    phony = re.search(r"^\.PHONY: (.*)$", read("Makefile"), flags=re.MULTILINE)
    assert phony is not None

    listed = re.findall(r"^  make ([a-z-]+) ", run("make", "help").stdout, flags=re.MULTILINE)

    assert sorted(["help", *(name for name in listed if name != "help")]) == sorted(phony[1].split())


def test_a_machine_without_python_is_told_so(tmp_path: Path) -> None:
    """`make` names the version it needs and how to name an interpreter."""
    for name in ("Makefile", "requirements-dev.lock", "pyproject.toml"):
        (tmp_path / name).write_text(read(name), encoding="utf-8")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "touch", "rm"):
        (tools / name).symlink_to(f"/bin/{name}")
    (tools / "make").symlink_to(run("sh", "-c", "command -v make").stdout.strip())

    made = run(str(tools / "make"), ".venv/.ready", cwd=tmp_path, PATH=str(tools))

    assert made.returncode == 2
    assert (
        "No Python of at least 3.11 was found. Install one, or name it: make PYTHON=/path/to/python3.13 …"
        in made.stderr
    )
    assert not (tmp_path / ".venv").exists()


def test_a_program_may_use_cel_itself() -> None:
    """The extension is loaded once for both, whoever comes first."""
    ours = "from orchestration.expressions import compile_condition; compile_condition('output.rows > 0')"
    theirs = "import cel; assert cel.compile('1 + 1').execute({}) == 2"

    for code in (f"{ours}; {theirs}", f"{theirs}; {ours}"):
        ran = run(sys.executable, "-c", code)
        assert ran.returncode == 0, ran.stderr
