"""Promises of the measurements of a source tree."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestration.systems import codebase
from orchestration.systems.codebase import files as codebase_files
from orchestration.systems.codebase.report import SECTIONS

OF_A_PATH = sorted(
    name
    for name, function in codebase.FUNCTIONS.items()
    if next(iter(inspect.signature(function).parameters)) == "path"
)


def place(root: Path, name: str, content: str | bytes) -> None:
    """Write one file under its own name."""
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content.encode() if isinstance(content, str) else content)


def measure(name: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Run one measurement and return it as it looks after a journey through JSON."""
    found = json.loads(json.dumps(codebase.FUNCTIONS[name](*args, **kwargs), allow_nan=False))
    assert isinstance(found, dict)
    assert found["kind"] == name or found["kind"] == "report"
    assert found["summary"].endswith(".")
    return found


# --- Any tree -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_A_PATH)
def test_a_path_that_is_no_folder_is_refused(name: str, tmp_path: Path) -> None:
    """The error names the parameter, the value, what was found and a fix."""
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(
        ValueError, match=r"^path: '.*nowhere' is not a folder \(nothing there\)\. Fix: give the folder"
    ):
        codebase.FUNCTIONS[name](str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"^path: .* is not a folder \(a file\)\."):
        codebase.FUNCTIONS[name](str(file))


@pytest.mark.parametrize("name", OF_A_PATH)
def test_an_empty_folder_is_measured(name: str, tmp_path: Path) -> None:
    """Nothing to measure is a result, not an error."""
    measure(name, str(tmp_path))


@pytest.mark.parametrize("name", OF_A_PATH)
def test_a_tree_in_any_state_is_measured(name: str, tmp_path: Path) -> None:
    """Broken Python and TOML, wrong encodings, NUL bytes, deep nesting and dangling links do no harm."""
    place(tmp_path, "broken.py", "def f(:\n")
    place(tmp_path, "latin.py", "# -*- coding: latin-1 -*-\nname = 'caf\xe9'\n".encode("latin-1"))
    place(tmp_path, "undecodable.py", b"# TODO caf\xe9\nx = 1\n")
    place(tmp_path, "unknown_coding.py", b"# -*- coding: klingon -*-\n")
    place(tmp_path, "nul.py", b"x = 1\0\n")
    place(tmp_path, "escape.py", 'pattern = "\\d"\n')
    place(tmp_path, "deep.py", "x = " + "(" * 5000 + ")" * 5000)
    place(tmp_path, "long.py", "x = " + " + ".join(["1"] * 20_000))
    place(tmp_path, "pyproject.toml", "[project\n")
    place(tmp_path, "setup.cfg", "no section\n")
    place(tmp_path, "README.md", b"[caf\xe9](caf\xe9.md)\n")
    (tmp_path / "dangling.py").symlink_to(tmp_path / "gone.py")
    (tmp_path / "loop").symlink_to(tmp_path)

    measure(name, str(tmp_path))


def test_the_same_tree_gives_the_same_answer(tmp_path: Path) -> None:
    """Files are looked at in the order of their names, however the file system lists them."""
    for name in ("b", "a", "d", "c"):
        place(tmp_path, f"{name}.py", f"def {name}():\n    pass\n")

    first = [measure(name, str(tmp_path)) for name in OF_A_PATH]

    assert first == [measure(name, str(tmp_path)) for name in OF_A_PATH]
    assert [entry["function"] for entry in measure("longest_functions", str(tmp_path))["functions"]] == [
        *"abcd"
    ]


def test_what_tools_made_is_not_looked_at(tmp_path: Path) -> None:
    """Version control, caches, virtual environments under any name and fetched packages are left out."""
    place(tmp_path, "own.py", "x = 1\n")
    place(tmp_path, ".github/workflow.yml", "on: push\n")
    for folder in (".git", "__pycache__", "node_modules", "build", "pkg.egg-info", ".hidden"):
        place(tmp_path, f"{folder}/made.py", "x = 1\n")
    place(tmp_path, "my-env/pyvenv.cfg", "home = /usr\n")
    place(tmp_path, "my-env/lib/made.py", "x = 1\n")

    found = measure("file_inventory", str(tmp_path))

    assert [entry["path"] for entry in found["largest"]] == [".github/workflow.yml", "own.py"]


def test_a_tree_over_the_limit_is_cut_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that saw only part of the tree is not taken for the whole."""
    monkeypatch.setattr(codebase_files, "MAX_FILES", 2)
    for name in "abc":
        place(tmp_path, f"{name}.py", "x = 1\n")

    found = measure("lines_by_language", str(tmp_path))

    assert found["is_truncated"] is True
    assert found["languages"][0]["files"] == 2
    assert found["summary"].endswith("Only the first 2 files were looked at.")


def test_a_huge_file_is_counted_but_not_read(tmp_path: Path) -> None:
    """Data beside the code does not slow a report down."""
    place(tmp_path, "data.json", b"1" * (codebase_files.MAX_FILE_BYTES + 1))

    assert measure("lines_by_language", str(tmp_path))["unread_files"] == 1
    assert measure("file_inventory", str(tmp_path))["total_bytes"] == codebase_files.MAX_FILE_BYTES + 1


def test_few_syntax_trees_are_kept() -> None:
    """Measurements side by side share a tree, and memory stays bounded whatever the size of the codebase."""
    sources = [f"x = {number}\n".encode() for number in range(codebase_files.MAX_TREES_KEPT + 1)]

    trees = [codebase_files.parse_python(source) for source in sources]

    assert codebase_files.parse_python(sources[-1]) is trees[-1]
    assert codebase_files.parse_python(sources[0]) is not trees[0]
    large = b"x = 1\n" * (codebase_files.MAX_KEPT_BYTES // 4)
    assert codebase_files.parse_python(large) is not codebase_files.parse_python(large)


@pytest.mark.parametrize("top", [0, 1001])
def test_a_list_of_no_sensible_length_is_refused(top: int, tmp_path: Path) -> None:
    """`top` has bounds, and the error says which."""
    with pytest.raises(
        ValueError, match=rf"^top: {top} is out of range\. Fix: give a number from 1 to 1000\.$"
    ):
        codebase.longest_functions(str(tmp_path), top)


# --- Size ---------------------------------------------------------------------------------------------------


def test_lines_are_counted_per_language(tmp_path: Path) -> None:
    """A language is told by the ending, or by the whole name of a file that has none."""
    place(tmp_path, "a.py", "x = 1\n\ny = 2\n")
    place(tmp_path, "b.pyi", "x: int\n")
    place(tmp_path, "Makefile", "all:\n")
    place(tmp_path, "photo.png", b"\x89PNG\0")

    found = measure("lines_by_language", str(tmp_path))

    assert found["languages"] == [
        {"language": "Python", "files": 2, "lines": 4, "blank_lines": 1},
        {"language": "Makefile", "files": 1, "lines": 1, "blank_lines": 0},
    ]
    assert found["summary"] == "5 lines in 2 languages; Python is 80 % of them."


def test_the_inventory_counts_endings_and_names_the_largest(tmp_path: Path) -> None:
    """Every file counts, known or not."""
    place(tmp_path, "a.py", "x\n")
    place(tmp_path, "sub/b.bin", "123456")

    found = measure("file_inventory", str(tmp_path), top=1)

    assert (found["total_files"], found["total_folders"], found["total_bytes"]) == (2, 2, 8)
    assert found["largest"] == [{"path": "sub/b.bin", "size_bytes": 6}]


# --- Imports ------------------------------------------------------------------------------------------------


def test_the_import_graph_follows_every_form_of_import(tmp_path: Path) -> None:
    """Absolute, relative, of a module, of a name in it, and of a package."""
    place(tmp_path, "pkg/__init__.py", "")
    place(tmp_path, "pkg/a.py", "import pkg.b\nfrom pkg import c\nfrom pkg.d import name\n")
    place(tmp_path, "pkg/b.py", "from . import c\nfrom .sub import deep\nfrom .sub.deep import x\n")
    place(tmp_path, "pkg/c.py", "import os, json\n")
    place(tmp_path, "pkg/d.py", "try:\n    from . import c as other\nexcept ImportError:\n    pass\n")
    place(tmp_path, "pkg/sub/__init__.py", "from .. import d\n")
    place(tmp_path, "pkg/sub/deep.py", "")

    found = measure("import_graph", str(tmp_path))

    assert found["imports"] == {
        "pkg": [],
        "pkg.a": ["pkg.b", "pkg.c", "pkg.d"],
        "pkg.b": ["pkg.c", "pkg.sub.deep"],
        "pkg.c": [],
        "pkg.d": ["pkg.c"],
        "pkg.sub": ["pkg.d"],
        "pkg.sub.deep": [],
    }
    assert found["most_imported"][0] == {"module": "pkg.c", "importers": 3}


def test_a_source_folder_is_no_part_of_a_module_name(tmp_path: Path) -> None:
    """The `src` layout gives the names that imports use."""
    place(tmp_path, "src/pkg/__init__.py", "")
    place(tmp_path, "src/pkg/a.py", "import single\n")
    place(tmp_path, "src/single.py", "")

    assert measure("import_graph", str(tmp_path))["imports"]["pkg.a"] == ["single"]


def test_an_import_that_waits_makes_no_cycle(tmp_path: Path) -> None:
    """Inside functions and under TYPE_CHECKING nothing is imported while the module loads."""
    place(tmp_path, "a.py", "import b\n")
    place(
        tmp_path,
        "b.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\n\ndef f():\n    import a\n",
    )

    graph = measure("import_graph", str(tmp_path))

    assert graph["deferred_imports"] == 2
    assert measure("import_cycles", graph)["total_cycles"] == 0


def test_each_circle_of_imports_is_found_once_with_a_way_round_it() -> None:
    """One circle per group of modules that reach each other, shortest first."""
    graph = {
        "a": ["b"],
        "b": ["c"],
        "c": ["a", "d"],
        "d": ["e"],
        "e": ["d"],
        "f": ["a", "f"],
        "g": ["missing"],
    }

    found = measure("import_cycles", graph)

    assert found["cycles"] == [
        {"modules": 1, "cycle": "f → f"},
        {"modules": 2, "cycle": "d → e → d"},
        {"modules": 3, "cycle": "a → b → c → a"},
    ]
    assert found["summary"] == "3 circles of imports."


def test_a_chain_of_any_length_is_searched_for_cycles() -> None:
    """The search keeps its own stack, so the interpreter's limit is no limit."""
    chain: dict[str, Any] = {f"m{number}": [f"m{number + 1}"] for number in range(5000)}
    chain["m5000"] = ["m0"]

    assert measure("import_cycles", chain)["cycles"][0]["modules"] == 5001


def test_a_graph_that_is_none_is_refused() -> None:
    """The error shows what was found where a list was expected."""
    with pytest.raises(
        ValueError, match=r"^graph: 'a' has 3 where a list of module names was expected\. Fix: give"
    ):
        codebase.import_cycles({"a": 3})


# --- Functions ----------------------------------------------------------------------------------------------

CONTORTED = '''\
class Outer:
    def method(self, items):
        """Text."""
        for item in items:                          # 2
            if item and item.ok or item.late:       # 3, two more for and/or: 5
                continue
        try:
            return [x for x in items if x]          # comprehension and its if: 7
        except ValueError:                          # 8
            pass
        match items:
            case []:                                # 9
                pass
            case _:
                pass
        def inner():
            return 1 if items else 2
        return inner

async def short():
    return None
'''


def test_complexity_counts_the_ways_through_a_function(tmp_path: Path) -> None:
    """One plus each decision; a function inside another counts for itself."""
    place(tmp_path, "a.py", CONTORTED)

    found = measure("complex_functions", str(tmp_path))

    assert [(entry["function"], entry["complexity"]) for entry in found["functions"]] == [
        ("Outer.method", 9),
        ("Outer.method.inner", 2),
        ("short", 1),
    ]


def test_the_longest_functions_are_named_with_place_and_lines(tmp_path: Path) -> None:
    """Tests are left out: they are long for other reasons."""
    place(tmp_path, "a.py", CONTORTED)
    place(tmp_path, "tests/test_a.py", "def test_x():\n" + "    pass\n" * 99)

    found = measure("longest_functions", str(tmp_path), top=1)

    assert found["functions"] == [
        {"function": "Outer.method", "path": "a.py", "line": 2, "lines": 17, "complexity": 9}
    ]
    assert found["total_functions"] == 3


# --- Notes, tests, docs -------------------------------------------------------------------------------------


def test_only_comments_that_open_with_a_mark_are_notes(tmp_path: Path) -> None:
    """Text that merely mentions the words is none, nor is a string in Python."""
    place(tmp_path, "a.py", "# TODO(kim): tidy\nx = '# TODO no'\n# see the TODO list\ny = 1  # FIXME\n")
    place(tmp_path, "b.js", "/* HACK: works */\n// a TODO list\n")
    place(tmp_path, "c.md", "# TODO\n")

    found = measure("open_todos", str(tmp_path))

    assert found["todos"] == [
        {"path": "a.py", "line": 1, "marker": "TODO", "text": "tidy"},
        {"path": "a.py", "line": 4, "marker": "FIXME", "text": ""},
        {"path": "b.js", "line": 1, "marker": "HACK", "text": "works"},
    ]
    assert found["summary"] == "3 open notes: 1 FIXME, 1 HACK, 1 TODO."


def test_tests_are_counted_per_folder_beside_the_code(tmp_path: Path) -> None:
    """Functions at the top and in classes count; helpers do not."""
    place(tmp_path, "code.py", "x = 1\ny = 2\n")
    place(tmp_path, "tests/conftest.py", "def helper():\n    pass\n")
    place(
        tmp_path, "tests/unit/test_a.py", "def test_a(): ...\nclass TestB:\n    async def test_b(self): ...\n"
    )

    found = measure("test_inventory", str(tmp_path))

    assert (found["total_tests"], found["test_files"], found["source_files"]) == (2, 2, 1)
    assert [folder["folder"] for folder in found["folders"]] == ["tests", "tests/unit"]
    assert found["tests_per_line"] == 2.5


def test_links_that_lead_nowhere_are_found_with_their_line(tmp_path: Path) -> None:
    """Relative targets must exist; other places, headings and code are left alone."""
    place(
        tmp_path,
        "docs/a.md",
        "[good](b.md) [anchor](#x) [web](https://example.org/none.md) ![gone](gone.png)\n"
        "`[code](none.md)` [root](/README.md) [part](b.md#part) [spaced](<c d.md>) [coded](c%20d.md)\n"
        "```\n[fenced](none.md)\n```\n"
        "[up](../none.md 'title')\n\n[ref]: missing.md\n[paren](f(1).md)\n",
    )
    place(tmp_path, "docs/b.md", "")
    place(tmp_path, "docs/c d.md", "")
    place(tmp_path, "docs/f(1).md", "")
    place(tmp_path, "README.md", "[folder](docs/)\n")

    found = measure("documentation_links", str(tmp_path))

    assert found["broken"] == [
        {"path": "docs/a.md", "line": 1, "target": "gone.png"},
        {"path": "docs/a.md", "line": 6, "target": "../none.md"},
        {"path": "docs/a.md", "line": 8, "target": "missing.md"},
    ]
    assert found["summary"] == "10 relative links in 5 documents; 3 lead nowhere."


def test_public_names_without_a_docstring_are_listed(tmp_path: Path) -> None:
    """Private names and tests need none; an empty module has nothing to explain."""
    place(
        tmp_path,
        "a.py",
        '"""Doc."""\ndef f():\n    """Doc."""\ndef g(): ...\ndef _h(): ...\nclass C:\n    def m(self): ...\n',
    )
    place(tmp_path, "tests/test_a.py", "def test_x(): ...\n")

    found = measure("docstring_coverage", str(tmp_path))

    assert [entry["name"] for entry in found["missing"]] == ["g", "C", "C.m"]
    assert (found["documented_names"], found["total_names"], found["percent"]) == (2, 5, 40.0)


# --- Dependencies -------------------------------------------------------------------------------------------

PYPROJECT = """\
[project]
dependencies = ["PyYAML>=6", "rich", "Typing_Extensions; python_version<'3.12'", "never-used[extra]>=1"]
[project.optional-dependencies]
fast = ["uvloop"]
[dependency-groups]
dev = ["pytest", {include-group = "lint"}]
"""


def test_declarations_are_read_from_every_usual_file(tmp_path: Path) -> None:
    """pyproject.toml, setup.cfg and requirements files; names as indexes compare them."""
    place(tmp_path, "pyproject.toml", PYPROJECT)
    place(tmp_path, "setup.cfg", "[options]\ninstall_requires =\n    attrs>=20\n")
    place(
        tmp_path, "requirements.txt", "# comment\n-r other.txt\nhttpx==1  # why\ngit+https://example.org/x\n"
    )

    found = measure("declared_dependencies", str(tmp_path))

    assert found["names"] == [
        *("attrs", "httpx", "never-used", "pytest", "pyyaml", "rich", "typing-extensions", "uvloop")
    ]
    assert found["runtime_names"] == ["attrs", "httpx", "never-used", "pyyaml", "rich", "typing-extensions"]


def test_poetry_declarations_are_read(tmp_path: Path) -> None:
    """Poetry's own tables count, Python itself does not."""
    place(
        tmp_path,
        "pyproject.toml",
        "[tool.poetry.dependencies]\npython='^3.11'\nrich='*'\n[tool.poetry.group.dev.dependencies]\nmypy='*'\n",
    )

    assert measure("declared_dependencies", str(tmp_path))["names"] == ["mypy", "rich"]


def test_a_declaration_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A broken file is not taken for one that declares nothing."""
    place(tmp_path, "pyproject.toml", "[project\n")

    assert measure("declared_dependencies", str(tmp_path))["unreadable"] == ["pyproject.toml"]


def test_declared_and_imported_are_compared(tmp_path: Path) -> None:
    """What is imported under another name, by the standard library or by the tree itself is told apart."""
    place(tmp_path, "pyproject.toml", PYPROJECT)
    place(tmp_path, "pkg/__init__.py", "")
    place(
        tmp_path,
        "pkg/a.py",
        "import os, yaml, pkg.b\nimport numpy as np\nfrom . import b\nimport_module('rich.table')\n",
    )
    place(tmp_path, "scripts/run.py", "import neighbour\nimport typing_extensions\n")
    place(tmp_path, "scripts/neighbour.py", "")

    imported = measure("imported_packages", str(tmp_path))
    found = measure("dependency_check", measure("declared_dependencies", str(tmp_path)), imported)

    assert imported["names"] == ["numpy", "rich", "typing_extensions", "yaml"]
    assert (found["undeclared"], found["unused"]) == (["numpy"], ["never-used"])
    assert found["summary"] == "1 import not declared; 1 package never imported."


def test_names_alone_are_compared_too() -> None:
    """Lists do instead of whole results; anything else is refused by name."""
    assert measure("dependency_check", ["PyYAML"], ["yaml"])["summary"].startswith(
        "Everything imported is declared"
    )
    with pytest.raises(
        ValueError, match=r"^declared: expected a list of names, or a result with 'names', but got 3\."
    ):
        codebase.dependency_check(3, [])  # type: ignore[arg-type]


# --- History ------------------------------------------------------------------------------------------------


def git(root: Path, *arguments: str) -> None:
    """Run git as nobody in particular."""
    identity = ("-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(
        ["git", *identity, "-C", str(root), *arguments], check=True, capture_output=True, timeout=30
    )


def test_churn_counts_commits_and_lines_per_file(tmp_path: Path) -> None:
    """The most changed file comes first, under its real name."""
    git(tmp_path, "init", "-q")
    for text in ("1\n", "1\n2\n"):
        place(tmp_path, "ä b.txt", text)
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-q", "-m", "change")

    found = measure("git_churn", str(tmp_path))

    assert found["files"] == [{"path": "ä b.txt", "commits": 2, "added_lines": 2, "removed_lines": 0}]
    assert found["summary"] == "2 commits by 1 author in 365 days: +2 and −0 lines in 1 file."


def test_a_tree_without_history_says_why(tmp_path: Path) -> None:
    """No repository is a result with its reason."""
    found = measure("git_churn", str(tmp_path))

    assert found["is_available"] is False
    assert found["summary"].startswith("No history: not a git repository")


def test_a_machine_without_git_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is made without the history then."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert measure("git_churn", str(tmp_path))["summary"] == "No history: git is missing."


def test_a_repository_cannot_make_git_run_its_programs(tmp_path: Path) -> None:
    """The measured tree's configuration names programs; none of them runs."""
    place(tmp_path, "trap.sh", f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    (tmp_path / "trap.sh").chmod(0o755)
    git(tmp_path, "init", "-q")
    place(tmp_path, "a.txt", "1\n")
    place(tmp_path, ".gitattributes", "*.txt diff=trap\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "change")
    trap = str(tmp_path / "trap.sh")
    for name in (
        "core.fsmonitor",
        "core.pager",
        "diff.external",
        "diff.trap.command",
        "diff.trap.textconv",
        "gpg.program",
    ):
        git(tmp_path, "config", name, trap)
    git(tmp_path, "config", "log.showSignature", "true")

    found = measure("git_churn", str(tmp_path))

    assert found["commits"] == 1
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("days", [0, 36_501])
def test_a_senseless_span_is_refused(days: int, tmp_path: Path) -> None:
    """`days` has bounds, and the error says which."""
    with pytest.raises(
        ValueError, match=rf"^days: {days} is out of range\. Fix: give a number from 1 to 36500\.$"
    ):
        codebase.git_churn(str(tmp_path), days)


# --- Report -------------------------------------------------------------------------------------------------


def test_every_measurement_has_a_section(tmp_path: Path) -> None:
    """No function is left without a form in the report."""
    assert set(SECTIONS) == set(codebase.FUNCTIONS) - {"render_report", "write_report"}


def test_a_report_joins_what_arrives_in_a_fixed_order(tmp_path: Path) -> None:
    """Inputs and named sections are joined; the order is the report's, not theirs."""
    place(tmp_path, "a.py", "def f():\n    pass\n")
    size = measure("lines_by_language", str(tmp_path))
    long = measure("longest_functions", str(tmp_path))

    markdown = measure("render_report", "Health", str(tmp_path), {"z": size}, {"a": long})["markdown"]

    assert markdown.startswith("<!-- codebase report -->\n# Health\n")
    assert f"Tree: `{tmp_path.name}`" in markdown
    assert str(tmp_path) not in markdown
    assert markdown.index("## Size") < markdown.index("## Longest functions")
    assert "- **Size:** 2 lines in 1 language; Python is 100 % of them." in markdown
    assert "| f | a.py | 1 | 2 |" in markdown


def test_a_measurement_of_an_unknown_kind_is_shown_with_its_figures() -> None:
    """A further function needs no change here to appear."""
    markdown = measure("render_report", "T", sections=[{"summary": "Fine.", "warnings": 3}])["markdown"]

    assert "## 0\n\nFine.\n\n- warnings: 3\n" in markdown


def test_a_measured_tree_cannot_put_markup_into_the_report(tmp_path: Path) -> None:
    """Names from the tree are shown as they are."""
    place(tmp_path, "a.py", "# TODO: <script>x</script> | [link](http://example.org)\n")

    markdown = measure("render_report", "T", sections=[measure("open_todos", str(tmp_path))])["markdown"]

    assert "\\<script>x\\</script> \\| \\[link](http://example.org)" in markdown


def test_a_report_is_written_over_nothing_but_a_report(tmp_path: Path) -> None:
    """Another file of that name stays as it is, and only Markdown is written."""
    report = tmp_path / "new" / "report.md"
    notes = tmp_path / "notes.md"
    notes.write_text("mine\n")

    for title in ("First", "Second"):
        assert measure("write_report", title, str(report))["output"] == str(report)

    assert "# Second" in report.read_text()
    with pytest.raises(
        ValueError, match=r"^output: '.*notes\.md' exists and is no report\. Fix: choose another name\.$"
    ):
        codebase.write_report("T", str(notes))
    with pytest.raises(
        ValueError, match=r"^output: '.*x\.py' does not end with \.md\. Fix: name a Markdown file\.$"
    ):
        codebase.write_report("T", str(tmp_path / "x.py"))
    assert notes.read_text() == "mine\n"


@pytest.mark.parametrize("part", ["orchestration/engine", pytest.param(".", marks=pytest.mark.slow)])
def test_this_repository_is_measured_by_every_function(part: str) -> None:
    """What the demo does works on a real tree."""
    root = str(Path(__file__).parents[2] / part)

    found = {name: measure(name, root) for name in OF_A_PATH}

    assert found["lines_by_language"]["languages"][0]["language"] == "Python"
    assert measure("import_cycles", found["import_graph"])["total_cycles"] == 0
    assert shutil.which("git") is None or "is_available" in found["git_churn"]
