"""The command `playbooks`: what recipes there are, what is in one, and what is wrong with those one writes."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tests.cli.support import ROOT, CommandLine

SOUND = """\
    name: tea
    title: Make tea
    goals: [Brew a pot of tea]
    systems: [kettle]
    parameters:
      kind: {required: true, description: Which tea, context: [sort]}
      guests: {type: list, default: [Anna], from_goal: ['for (?P<value>.+)']}
    subtasks:
      - {task_id: boil, title: Boil water, estimated_time_seconds: 120}
      - {task_id: steep, title: "Steep {{kind}}", depends_on: [boil], fallback: {description: Use a bag}}
      - {task_id: warm-cups, title: Warm the cups}
      - {task_id: rinse, title: Rinse them, parent: warm-cups}
      - {task_id: serve, playbook: service, with: {to: "{{guests}}"}, depends_on: [steep, warm-cups], when: guests}
      - {task_id: apologise, approval: person, idempotent: false}
    edges:
      - {source_task_id: steep, target_task_id: apologise, condition: 'status == "failed"'}
    """
SERVICE = """\
    name: service
    title: Serve something
    parameters: {to: {type: list, required: true}}
    subtasks:
      - {task_id: pour, title: Pour, foreach: "{{to}}", arguments: {guest: "${item}"}}
    """


@pytest.fixture
def folder(cli: CommandLine) -> Path:
    """A folder of playbooks that the configuration names."""
    place = cli.folder / "recipes"
    place.mkdir()
    (place / "tea.yaml").write_text(dedent(SOUND))
    (place / "service.yaml").write_text(dedent(SERVICE))
    config = cli.folder / "config.yaml"
    config.write_text(config.read_text() + "playbook_folders: [recipes]\n")
    return place


def test_all_playbooks_are_listed_with_whether_they_can_be_used(cli: CommandLine, folder: Path) -> None:
    """A system that is not configured is named; a parameter somebody must give is marked."""
    answer = cli("playbooks")
    rows = {line.split()[0]: line for line in answer.out.splitlines()}

    assert answer.code == 0
    assert answer.err == ""
    assert {
        *("NAME", "codebase-report", "data-pipeline", "release", "research-report", "web-application", "tea"),
        "service",
    } <= set(rows)
    assert "no: kettle not configured" in rows["tea"]
    assert "kind*, guests" in rows["tea"]
    assert rows["release"].split()[1:3] == ["yes", "any"]
    assert "* A goal or the context must give it." in answer.out


def test_the_list_is_one_document_for_programs(cli: CommandLine, folder: Path) -> None:
    """With parameters, systems, usability and the source of each."""
    document = cli("playbooks", "--json").document
    tea = next(each for each in document["playbooks"] if each["name"] == "tea")

    assert tea == {
        "name": "tea",
        "title": "Make tea",
        "parameters": [
            {
                "name": "kind",
                "type": "any",
                "description": "Which tea",
                "required": True,
                "default": "",
                "context": ["kind", "sort"],
                "found_in_goal": False,
            },
            {
                "name": "guests",
                "type": "list",
                "description": "",
                "required": False,
                "default": ["Anna"],
                "context": ["guests"],
                "found_in_goal": True,
            },
        ],
        "systems": ["kettle"],
        "usable": False,
        "missing_systems": ["kettle"],
        "total_steps": 6,
        "source": str(folder / "tea.yaml"),
    }


def test_one_playbook_is_shown_with_its_steps_as_a_tree(cli: CommandLine, folder: Path) -> None:
    """Parts stand under their task, the steps of another playbook under the step it stands for."""
    answer = cli("playbooks", "tea")
    steps = answer.out.split("Steps:\n")[1].split("\n\n")[0]

    assert answer.code == 0
    assert f"File:    {folder / 'tea.yaml'}" in answer.out
    assert (
        steps
        == dedent("""\
          boil: Boil water [2 min 00 s]
          steep: Steep {{kind}} [after boil; has a fallback]
          warm-cups: Warm the cups
            rinse: Rinse them
          serve [after steep, warm-cups; when guests; playbook service]
            pour: Pour [for each of {{to}}]
          apologise [after steep (if status == "failed"); approval: person; never repeated on its own]""")
        .replace("\n", "\n  ")
        .join(["  ", ""])
    )
    assert "decompose 'Brew a pot of tea'" in answer.out


def test_one_playbook_is_one_document_for_programs(cli: CommandLine, folder: Path) -> None:
    """Steps as they are written, nested ones inside, and every edge."""
    document = cli("playbooks", "tea", "--json").document
    steps = {step["task_id"]: step for step in document["steps"]}

    assert steps["serve"]["steps"][0]["foreach"] == "{{to}}"
    assert steps["serve"]["with"] == {"to": "{{guests}}"}
    assert steps["apologise"]["approval"] == "person"
    assert {"source": "boil", "target": "steep", "is_optional": False, "condition": None} in document["edges"]
    assert document["edges"][-1]["condition"] == 'status == "failed"'
    assert document["goals"] == ["Brew a pot of tea"]


def test_every_shipped_playbook_can_be_shown(cli: CommandLine) -> None:
    """Each has a file that is there."""
    for each in cli.inside("playbooks", "--json").document["playbooks"]:
        shown = cli.inside("playbooks", each["name"])

        assert shown.code == 0
        assert Path(each["source"]).is_file()
        assert each["source"] in shown.out


def test_a_playbook_there_is_not_is_answered_with_the_nearest(cli: CommandLine) -> None:
    """Exit code 2."""
    answer = cli("playbooks", "releas")

    assert (answer.code, answer.out) == (2, "")
    assert "write 'release'" in answer.err


def test_sound_files_are_told_so(cli: CommandLine, folder: Path) -> None:
    """A folder, and a file that names one beside it."""
    whole = cli("playbooks", "--check", "recipes")
    one = cli("playbooks", "--check", "recipes/tea.yaml", "--json")

    assert (whole.code, whole.out) == (0, "recipes: 2 playbooks are sound: service, tea.\n")
    assert one.document == {"valid": True, "playbooks": ["tea"], "problems": []}


def test_every_mistake_is_told_with_file_and_line(cli: CommandLine) -> None:
    """An unknown parameter, an unknown key, a circle, a bad reference, a bad form: of all files, and exit code 2."""
    place = cli.folder / "drafts"
    place.mkdir()
    (place / "form.yaml").write_text("name: form\ntitel: Form\nsubtasks: [{task_id: a}]\n")
    (place / "names.yaml").write_text(
        dedent("""\
        name: names
        title: Names
        parameters: {version: {}}
        subtasks:
          - task_id: a
            description: Look at {{Version}}
            retries: 3
          - task_id: b
            depends_on: [c]
          - task_id: c
            depends_on: [b]
        """)
    )
    (place / "reference.yaml").write_text(
        dedent("""\
        name: reference
        title: Reference
        subtasks:
          - task_id: a
            arguments:
              x: ${b.y}
        """)
    )
    (place / "syntax.yaml").write_text("name: syntax\ntitle: [\n")

    answer = cli("playbooks", "--check", "drafts")
    document = cli("playbooks", "--check", "drafts", "--json")

    assert answer.code == document.code == 2
    assert answer.err == "error: 7 mistakes in drafts.\n"
    lines = answer.out.splitlines()
    assert lines[:3] == [
        "drafts/form.yaml:1: title: is missing.",
        "drafts/form.yaml:2: titel: is an unknown key. Fix: Write 'title'.",
        (
            "drafts/names.yaml:6: subtasks[0].description: names the parameter 'Version', which there is not. "
            "Fix: Write 'version'."
        ),
    ]
    assert lines[3].startswith("drafts/names.yaml:7: subtasks[0].retries: is an unknown key. Fix: ")
    assert lines[4:6] == [
        "drafts/names.yaml:8: subtasks[1]: closes a circle: b → c → b. Fix: Remove one of these dependencies.",
        (
            "drafts/reference.yaml:6: subtasks[0].arguments.x: ${b.y} names task 'b', which is not in the DAG. "
            "Fix: Add the task, or write the id of one that is there."
        ),
    ]
    assert lines[6].startswith("drafts/syntax.yaml:3: column 1: ")
    assert document.document["valid"] is False
    assert document.document["problems"][1] == {
        "file": "drafts/form.yaml",
        "line": 2,
        "path": "titel",
        "message": "is an unknown key.",
        "fix": "Write 'title'.",
    }


def test_mistakes_of_other_files_are_not_told(cli: CommandLine, folder: Path) -> None:
    """Checking one file is about that file; one beside it that is broken can't be named, though."""
    (folder / "broken.yaml").write_text("name: broken\n")
    (folder / "service.yaml").write_text("name: service\n")

    answer = cli.inside("playbooks", "--check", "recipes/tea.yaml")

    assert answer.code == 2
    assert answer.out == (
        "recipes/tea.yaml:13: subtasks[4].playbook: names the playbook 'service', which there is not. "
        "Fix: There are: codebase-report, data-pipeline, release, research-report, web-application, tea.\n"
    )


@pytest.mark.parametrize(("name", "told"), [("nowhere.yaml", "can't be read"), ("empty", "has no playbook")])
def test_what_is_no_playbook_is_refused(cli: CommandLine, name: str, told: str) -> None:
    """A mistyped path is not a sound playbook."""
    (cli.folder / "empty").mkdir()

    answer = cli.inside("playbooks", "--check", name)

    assert answer.code == 2
    assert answer.out.startswith(f"{name}: {told}")


def test_a_broken_folder_of_the_configuration_is_told_when_listing(cli: CommandLine, folder: Path) -> None:
    """With file and line, as everywhere."""
    (folder / "tea.yaml").write_text("name: tea\n")

    answer = cli.inside("playbooks")

    assert answer.code == 2
    assert "tea.yaml:1: title: is missing." in answer.err


def test_a_name_and_a_check_exclude_each_other(cli: CommandLine) -> None:
    """Exit code 2."""
    assert cli.inside("playbooks", "release", "--check", "x").code == 2


def test_what_the_documentation_shows_is_sound_and_plans(cli: CommandLine) -> None:
    """The worked example of `docs/playbooks.md`: its two files are checked, listed and found by its goal."""
    page = (ROOT / "docs" / "playbooks.md").read_text(encoding="utf-8")
    example = page.split("## A worked example")[1].split("\n## ")[0]
    files = [block.split("```")[0] for block in example.split("```yaml\n")[1:]]
    place = cli.folder / "playbooks"
    place.mkdir()
    for text in files:
        name = text.splitlines()[0].removeprefix("# ")
        (place / name).write_text(text)
    config = cli.folder / "config.yaml"
    config.write_text(config.read_text() + "playbook_folders: [playbooks]\n")

    checked = cli("playbooks", "--check", "playbooks")
    plan = cli(
        "decompose",
        "Write the release notes for version 2.0",
        "--context",
        '{"reviewers": "Anna and Ben"}',
        "--json",
    ).document

    assert checked.out == "playbooks: 2 playbooks are sound: announcement, release-notes.\n"
    assert plan["planner"] == "playbook:release-notes"
    assert [task["task_id"] for task in plan["dag"]["tasks"]] == [
        *("changes", "notes", "review", "merge", "nothing-changed", "announce-write", "announce-post"),
    ]
    tasks = {task["task_id"]: task for task in plan["dag"]["tasks"]}
    assert tasks["review"]["foreach"] == ["Anna", "Ben"]
    assert tasks["announce-post"]["approval"] == "person"
    assert tasks["announce-post"]["arguments"] == {"channel": "blog", "text": "${announce-write}"}
