"""The command `playbooks`: lists the recipes there are, shows one, checks files.

May import: server.cli.*, orchestration (late), config (late), stdlib. It opens no database and no system.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.output import Output, clip, plural, seconds
from server.cli.parser import BAD_INPUT, SUCCESS, Commands, text
from server.cli.session import hint, load

if TYPE_CHECKING:
    from config.settings import Settings
    from orchestration.errors import Problem
    from orchestration.planning.playbook import PlaybookLibrary
    from orchestration.planning.playbook_model import Parameter, Playbook, Subtask


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "playbooks",
        playbooks,
        about="list the playbooks, show one, or check files",
        example="advanced-orchestration playbooks\n"
        "advanced-orchestration playbooks release\n"
        "advanced-orchestration playbooks --check my-playbooks/",
        details="A playbook is a recipe for a kind of goal; docs/playbooks.md says how to write one. A check\n"
        "lists every mistake with its file and line, and ends with 2 if there is one.",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        type=text("the name of a playbook"),
        help="the one to show; all are listed when absent",
    )
    choice.add_argument(
        "--check",
        type=Path,
        metavar="PATH",
        help="check this file, or every .yaml and .yml file of this folder",
    )


def playbooks(args: argparse.Namespace, output: Output) -> int:
    """List, show or check."""
    settings = load(args, output)
    if args.check is not None:
        return _check(args, settings, output)
    from orchestration.planning.playbook import load_playbooks

    library = load_playbooks(settings.playbook_folders)
    if args.name is not None:
        return _show(args, library, settings, output)
    if output.is_json:
        output.document(
            {"playbooks": [_summary(playbook, library, settings) for playbook in library.playbooks.values()]}
        )
        return SUCCESS
    output.table(
        ("name", "usable", "systems", "parameters", "title"),
        [
            (
                playbook.name,
                _usable(playbook, settings),
                ", ".join(playbook.systems) or "any",
                ", ".join(
                    f"{name}*" if parameter.required else name
                    for name, parameter in playbook.parameters.items()
                ),
                playbook.title,
            )
            for playbook in library.playbooks.values()
        ],
    )
    if any(each.required for playbook in library.playbooks.values() for each in playbook.parameters.values()):
        output.line("* A goal or the context must give it.")
    output.line(f"Next: {hint(args, 'playbooks', next(iter(library.playbooks)))}")
    return SUCCESS


# --- One of them ----------------------------------------------------------------------------------------------------


def _show(args: argparse.Namespace, library: PlaybookLibrary, settings: Settings, output: Output) -> int:
    from orchestration.errors import InvalidArgumentError
    from orchestration.problems import nearest

    playbook = library.playbooks.get(args.name)
    if playbook is None:
        near = nearest(args.name, library.playbooks)
        expected = f"one of {', '.join(library.playbooks)}"
        raise InvalidArgumentError("name", args.name, expected, f"write {near!r}" if near else "choose one")
    if output.is_json:
        output.document(
            {
                **_summary(playbook, library, settings),
                "description": playbook.description,
                "goals": playbook.goals,
                "unless": playbook.unless,
                "steps": [_step_document(step, library) for step in playbook.subtasks],
                "edges": [edge for step in playbook.subtasks for edge in _edges_into(step, playbook)],
            }
        )
        return SUCCESS
    output.fields(
        {
            "Name": playbook.name,
            "Title": playbook.title,
            "For": playbook.description or None,
            "File": library.paths[playbook.name],
            "Systems": ", ".join(playbook.systems) or "any",
            "Usable": _usable(playbook, settings),
        }
    )
    _show_parameters(playbook, output)
    output.line()
    output.line("Steps:")
    for line in _tree(playbook, library):
        output.line(line)
    output.line()
    if playbook.goals:
        output.line("Goals it is for:")
        for goal in playbook.goals:
            output.line(f"  {goal}")
        output.line(f"Next: {hint(args, 'decompose', playbook.goals[0])}")
    else:
        output.line("No goal leads to it; other playbooks name it.")
    return SUCCESS


def _show_parameters(playbook: Playbook, output: Output) -> None:
    output.line()
    output.table(
        ("parameter", "from the context as", "default", "meaning"),
        [
            (
                name,
                ", ".join((name, *parameter.context)),
                "(required)" if parameter.required else clip(_told_default(parameter), 60),
                parameter.description + (" (also found in the goal)" if parameter.from_goal else ""),
            )
            for name, parameter in playbook.parameters.items()
        ],
        "It has no parameters.",
    )


def _tree(playbook: Playbook, library: PlaybookLibrary, depth: int = 1) -> Iterator[str]:
    """Yield a line per step: parts under their parent, the steps of another playbook under the step it stands for."""
    parts: dict[str | None, list[Subtask]] = {}
    for step in playbook.subtasks:
        parts.setdefault(step.task_fields().get("parent"), []).append(step)

    def lines(steps: Sequence[Subtask], depth: int) -> Iterator[str]:
        for step in steps:
            yield f"{'  ' * depth}{_told_step(step, playbook)}"
            yield from lines(parts.get(step.task_id, ()), depth + 1)
            if step.playbook is not None:
                yield from _tree(library.playbooks[step.playbook], library, depth + 1)

    yield from lines(parts.get(None, ()), depth)


def _told_step(step: Subtask, playbook: Playbook) -> str:
    fields = step.task_fields()
    waits = []
    for edge in _edges_into(step, playbook):
        notes = [
            *(["optional"] if edge["is_optional"] else []),
            *([f"if {edge['condition']}"] if edge["condition"] else []),
        ]
        waits.append(edge["source"] + (f" ({'; '.join(notes)})" if notes else ""))
    estimate = fields.get("estimated_time_seconds")
    told = [
        f"after {', '.join(waits)}" if waits else "",
        f"when {step.when}" if step.when else "",
        f"playbook {step.playbook}" if step.playbook else "",
        f"for each of {fields['foreach']}" if fields.get("foreach") else "",
        f"approval: {fields['approval']}" if fields.get("approval") else "",
        "never repeated on its own" if fields.get("idempotent") is False else "",
        "has a fallback" if fields.get("fallback") else "",
        seconds(estimate) if isinstance(estimate, int | float) else "",
    ]
    more = "; ".join(part for part in told if part)
    title = step.title or clip(str(fields.get("description", "")), 60)
    return ": ".join(part for part in (step.task_id, title) if part) + (f" [{more}]" if more else "")


def _edges_into(step: Subtask, playbook: Playbook) -> list[dict[str, Any]]:
    """Return the edges that lead to a step: its `depends_on`, and those that say more."""
    found: dict[str, dict[str, Any]] = {}
    for source in step.depends_on:
        found[source] = {"source": source, "target": step.task_id, "is_optional": False, "condition": None}
    for edge in playbook.edges:
        if edge.target_task_id == step.task_id:
            found[edge.source_task_id] = {
                "source": edge.source_task_id,
                "target": step.task_id,
                "is_optional": edge.is_optional,
                "condition": edge.condition,
            }
    return list(found.values())


# --- As data --------------------------------------------------------------------------------------------------------


def _summary(playbook: Playbook, library: PlaybookLibrary, settings: Settings) -> dict[str, Any]:
    missing = _missing(playbook, settings)
    return {
        "name": playbook.name,
        "title": playbook.title,
        "parameters": [
            {
                "name": name,
                "type": parameter.type,
                "description": parameter.description,
                "required": parameter.required,
                "default": parameter.default,
                "context": [name, *parameter.context],
                "found_in_goal": bool(parameter.from_goal),
            }
            for name, parameter in playbook.parameters.items()
        ],
        "systems": playbook.systems,
        "usable": not missing,
        "missing_systems": missing,
        "total_steps": len(playbook.subtasks),
        "source": library.paths[playbook.name],
    }


def _step_document(step: Subtask, library: PlaybookLibrary) -> dict[str, Any]:
    document = {
        "task_id": step.task_id,
        "title": step.title,
        "depends_on": step.depends_on,
        **({"when": step.when} if step.when else {}),
        **step.task_fields(),
    }
    if step.playbook is not None:
        named = library.playbooks[step.playbook]
        document |= {
            "playbook": step.playbook,
            "with": step.with_,
            "steps": [_step_document(each, library) for each in named.subtasks],
        }
    return document


def _missing(playbook: Playbook, settings: Settings) -> list[str]:
    return [system for system in playbook.systems if system not in settings.systems]


def _usable(playbook: Playbook, settings: Settings) -> str:
    missing = _missing(playbook, settings)
    return f"no: {', '.join(missing)} not configured" if missing else "yes"


def _told_default(parameter: Parameter) -> str:
    from orchestration.planning.playbook_expansion import as_text

    return as_text(parameter.default)


# --- Checking -------------------------------------------------------------------------------------------------------


def _check(args: argparse.Namespace, settings: Settings, output: Output) -> int:
    from orchestration.planning.playbook import check_playbooks

    checked = check_playbooks(args.check, settings.playbook_folders)
    if output.is_json:
        output.document(
            {
                "valid": not checked.problems,
                "playbooks": list(checked.names),
                "problems": [_problem_document(problem) for problem in checked.problems],
            }
        )
        return BAD_INPUT if checked.problems else SUCCESS
    for problem in checked.problems:
        output.line(str(problem))
    if checked.problems:
        output.note(f"error: {plural(len(checked.problems), 'mistake')} in {args.check}.")
        return BAD_INPUT
    verb = "is" if len(checked.names) == 1 else "are"
    output.line(
        f"{args.check}: {plural(len(checked.names), 'playbook')} {verb} sound: {', '.join(checked.names)}."
    )
    return SUCCESS


def _problem_document(problem: Problem) -> dict[str, Any]:
    """Return a problem with file, line and place apart."""
    import re

    found = re.fullmatch(r"(?P<file>.*?):(?P<line>\d+): (?P<path>.*)", problem.path)
    return {
        "file": found["file"] if found else problem.path,
        "line": int(found["line"]) if found else None,
        "path": found["path"] if found else None,
        "message": problem.message,
        "fix": problem.fix,
    }
