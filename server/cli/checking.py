"""The commands that look after the installation: `systems`, `doctor` and `backup`.

May import: server.cli.*, config (late), orchestration (late), server.composition (late), stdlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.output import Output, clip
from server.cli.parser import FAILED, SUCCESS, Commands
from server.cli.session import load

if TYPE_CHECKING:
    from config.settings import Settings
    from config.systems_config import SystemSettings


def register(commands: Commands) -> None:
    """Add the commands."""
    parser = commands.add(
        "systems",
        systems,
        about="list the configured systems: where tasks run",
        example="advanced-orchestration systems --check",
        details="With --check each is asked whether it could run something now; exit code 1 when one could not.",
    )
    parser.add_argument("--check", action="store_true", help="connect to each and list its tools")

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
    found = [_described(name, spec) for name, spec in settings.systems.items()]
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

    A system whose functions can't be imported is told like one that does not answer.
    """
    import anyio

    from orchestration.errors import ConfigurationError
    from orchestration.systems.registry import SystemRegistry
    from server.composition import make_system

    made = {}
    found: dict[str, dict[str, Any]] = {}
    for name, spec in settings.systems.items():
        try:
            made[name] = make_system(name, spec)
        except ConfigurationError as error:
            found[name] = {"ok": False, "detail": "; ".join(str(problem) for problem in error.problems)}

    async def check() -> None:
        async with SystemRegistry(made) as registry:
            for name, health in (await registry.check_all(timeout_seconds=30.0)).items():
                found[name] = {"ok": health.ok, "detail": health.detail}
            for name, survey in (await registry.survey()).items():
                found[name]["tools"] = [
                    {"name": tool.name, "description": tool.description} for tool in survey.tools
                ]

    anyio.run(check)
    return found


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
        document["target"] = spec.target
    return document


def _show(found: list[dict[str, Any]], output: Output, *, is_checked: bool) -> None:
    headings = ["name", "kind", "tools"]
    if is_checked:
        headings[2:2] = ["health"]
    rows = []
    for each in found:
        tools = each.get("tools")
        told = each.get("target", "") if tools is None else ", ".join(tool["name"] for tool in tools)
        row = [each["name"], each["kind"], clip(told, 100)]
        if is_checked:
            row[2:2] = [
                ("ok" if each["ok"] else "FAIL")
                + (f": {clip(each['detail'], 100)}" if each["detail"] else "")
            ]
        rows.append(row)
    output.table(headings, rows, "No systems are configured; docs/configuration.md says how.")
