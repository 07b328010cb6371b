"""The commands that look after the installation: `systems`, `doctor` and `backup`.

May import: server.cli.*, config (late), orchestration (late), server.composition (late), stdlib.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.output import Output, clip
from server.cli.parser import FAILED, SUCCESS, Commands, text
from server.cli.session import load

if TYPE_CHECKING:
    from config.settings import Settings
    from config.systems_config import SystemSettings
    from orchestration.ports import System

FOUND_SHOWN = 10
"""Tools that `systems --find` shows."""

DETAIL_CHARS = 300
"""Most of what a system says of its health that is shown."""

UNUSABLE_CHARS = 500
"""Most of why a system can't run that is shown."""


def register(commands: Commands) -> None:
    """Add the commands."""
    parser = commands.add(
        "systems",
        systems,
        about="list the configured systems: where tasks run",
        example='advanced-orchestration systems --check\nadvanced-orchestration systems --find "read a file"',
        details="With --check each is asked whether it could run something now; exit code 1 when one could not. With "
        "--find every system is asked for its tools, and those that fit are shown, best first.",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="connect to each and list its tools")
    how.add_argument(
        "--find", type=text("what is to be done"), metavar="TEXT", help="find the tools that fit a task"
    )

    parser = commands.add(
        "doctor",
        doctor,
        about="check the installation, the configuration, the database and the systems",
        example="advanced-orchestration doctor\nadvanced-orchestration doctor --mend",
        details="Without --mend it changes nothing. Exit code 1 when something needs attention.",
    )
    parser.add_argument(
        "--mend", action="store_true", help="put right in the database what can be without losing anything"
    )

    parser = commands.add(
        "backup",
        backup,
        about="write a consistent copy of the database, while others go on using it",
        example="advanced-orchestration backup nightly-2026-11-21.db",
        details="The copy is a database of its own: --database takes it. A file that exists is never overwritten.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the new file")


def systems(args: argparse.Namespace, output: Output) -> int:
    """List the systems, and check them where asked."""
    settings = load(args, output)
    if args.find is not None:
        return _find(settings, args.find, output)
    found = [_described(name, spec) for name, spec in settings.systems.items()]
    found += [
        {"name": name, "kind": each.kind, "unusable": each.reason}
        for name, each in settings.unusable_systems.items()
    ]
    if args.check:
        checked = check_systems(settings)
        found = [{**each, **checked[each["name"]]} for each in found]
    if output.is_json:
        output.document({"systems": found})
    else:
        _show(found, output, is_checked=args.check)
    return FAILED if any(each.get("ok") is False for each in found) else SUCCESS


def doctor(args: argparse.Namespace, output: Output) -> int:
    """Check everything there is to check."""
    from server.cli.diagnosis import diagnose

    findings = diagnose(args)
    is_well = all(finding.ok for finding in findings)
    if output.is_json:
        output.document({"ok": is_well, "checks": [finding.document() for finding in findings]})
        return SUCCESS if is_well else FAILED
    for finding in findings:
        output.line(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.detail}")
        if finding.fix:
            output.line(f"      Fix: {finding.fix}")
    return SUCCESS if is_well else FAILED


def backup(args: argparse.Namespace, output: Output) -> int:
    """Copy the database."""
    from server.cli.condition import back_up

    settings = load(args, output)
    size = back_up(settings, args.file)
    if output.is_json:
        output.document({"database": str(settings.database), "backup": str(args.file), "bytes": size})
    else:
        output.line(f"{args.file}: a copy of {settings.database}, {size / 1024 / 1024:.1f} MiB.")
    return SUCCESS


def check_systems(settings: Settings) -> dict[str, dict[str, Any]]:
    """Ask every system whether it could run something now, and for its tools; all at once.

    One that can't run as it is declared is told like one that does not answer.
    """
    import anyio

    from orchestration.systems.registry import SystemRegistry

    made = _make(settings)
    found: dict[str, dict[str, Any]] = {}

    async def check() -> None:
        async with SystemRegistry(made, secrets=settings.secrets) as registry:
            for name, health in (await registry.check_all(timeout_seconds=30.0)).items():
                found[name] = {"ok": health.ok, "detail": _detail(made[name], health.detail)}
            for name, survey in (await registry.survey()).items():
                if survey.error is not None and found[name]["ok"]:
                    why = clip(f"can't list its tools: {survey.error}", DETAIL_CHARS)
                    found[name] |= {"ok": False, "detail": why}
                found[name]["tools"] = [
                    {"name": tool.name, "description": tool.description} for tool in survey.tools
                ]

    anyio.run(check)
    return found


def _make(settings: Settings) -> dict[str, System]:
    """Return the systems; what an import prints is no part of the answer."""
    from server.composition import make_systems

    with redirect_stdout(sys.stderr):
        return make_systems(settings)


def _detail(system: System, detail: str) -> str:
    """Return what a system says of itself in one line: of a server that floods, no more than its beginning.

    Why one can't run as it is declared are our own words, already bounded, and end with what to do.
    """
    from orchestration.systems.unusable import UnusableSystem

    return clip(detail, len(detail) if isinstance(system, UnusableSystem) else DETAIL_CHARS)


def _find(settings: Settings, wanted: str, output: Output) -> int:
    """Show the tools that fit a task, and which systems could not be asked."""
    import anyio

    from orchestration.systems.catalog import FoundTool, SystemOverview, ToolCatalog
    from orchestration.systems.registry import SURVEY_SECONDS, SystemRegistry

    made = _make(settings)

    async def find() -> tuple[list[FoundTool], list[SystemOverview]]:
        async with SystemRegistry(made, secrets=settings.secrets) as registry:
            catalog = ToolCatalog(registry, survey_seconds=SURVEY_SECONDS)
            return await catalog.search(wanted, FOUND_SHOWN), await catalog.overview()

    found, overview = anyio.run(find)
    broken = {each.name: each.error for each in overview if each.error is not None}
    if output.is_json:
        tools = [
            {
                "system": each.system,
                "tool": each.tool,
                "score": each.score,
                "description": each.description,
                "required": list(each.required),
            }
            for each in found
        ]
        output.document({"tools": tools, "not_asked": broken})
        return SUCCESS
    rows = [
        [clip(each.system), clip(each.tool), f"{each.score:.2f}", clip(", ".join(each.required), 60),
         clip(each.description, 100)]
        for each in found
    ]  # fmt: skip
    output.table(["system", "tool", "score", "needs", "does"], rows, "No tool shares a word with that.")
    for name, why in broken.items():
        output.note(f"System {name} could not be asked for its tools: {clip(why)}")
    return SUCCESS


def _described(name: str, spec: SystemSettings) -> dict[str, Any]:
    """Return what the configuration says of a system, without what may be secret."""
    from config.systems_config import CommandSettings, FunctionSettings

    document: dict[str, Any] = {"name": name, "kind": spec.kind}
    if isinstance(spec, CommandSettings):
        document["tools"] = [
            {"name": tool, "description": each.description} for tool, each in spec.commands.items()
        ]
    elif isinstance(spec, FunctionSettings):
        document["tools"] = [{"name": tool, "description": target} for tool, target in spec.functions.items()]
    else:
        document["target"] = _target(spec)
    return document


def _target(spec: SystemSettings) -> str:
    """Return what a system reaches, without what may be secret."""
    from config.systems_config import AlitaSettings, HttpSettings, KgotSettings, McpSettings

    match spec:
        case McpSettings():
            return spec.target
        case HttpSettings() | AlitaSettings():
            return spec.base_url
        case KgotSettings():
            return spec.command[0]
        case _:
            return "whoever calls claim_task"


def _show(found: list[dict[str, Any]], output: Output, *, is_checked: bool) -> None:
    headings = ["name", "kind", "tools"]
    if is_checked:
        headings[2:2] = ["health"]
    rows = []
    for each in found:
        tools = each.get("tools")
        told = each.get("target", "") if tools is None else ", ".join(tool["name"] for tool in tools)
        if "unusable" in each and not is_checked:
            row = [each["name"], clip(each["kind"]), f"can't run: {clip(each['unusable'], UNUSABLE_CHARS)}"]
        else:
            row = [each["name"], clip(each["kind"]), clip(told, 100)]
        if is_checked:
            row[2:2] = [("ok" if each["ok"] else "FAIL") + (f": {each['detail']}" if each["detail"] else "")]
        rows.append(row)
    output.table(headings, rows, "No systems are configured; docs/configuration.md says how.")
