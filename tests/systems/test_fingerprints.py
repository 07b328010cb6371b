"""What an orchestration needs, and what is missing of it elsewhere."""

from __future__ import annotations

import json
from typing import Any

from orchestration.ports import System
from orchestration.systems.command import CommandSpec, CommandSystem
from orchestration.systems.controller import ControllerSystem
from orchestration.systems.fingerprints import fingerprint_of, missing_of, needs_of
from orchestration.systems.function import FunctionSystem
from orchestration.systems.mcp import McpServerSpec, McpSystem
from orchestration.systems.registry import SystemRegistry

SECRET = "hush-hush"


class Plain:
    """A system somebody wrote before there were fingerprints."""

    kind = "plain"


class Controller:
    async def execute_task(self, context: object) -> None: ...


class OtherController:
    async def execute_task(self, context: object) -> None: ...


def build(argv: str = "make", **more: CommandSpec) -> CommandSystem:
    """Return a system of commands."""
    return CommandSystem({"build": CommandSpec(argv=[argv], env={"TOKEN": SECRET}), **more})


def registry(**systems: Any) -> SystemRegistry:
    """Return systems by name."""
    return SystemRegistry(systems)


def needs_here(**systems: Any) -> dict[str, dict[str, str]]:
    """Return what a task of each system needs: a tool `build` of `local`, none of the others."""
    tools = {name: "build" if name == "local" else None for name in systems}
    return needs_of({name: name for name in systems}, tools, registry(**systems))


def test_needs_are_told_by_system_and_tool() -> None:
    """Many tasks of one tool need it once; a task without a tool needs the system as a whole."""
    local, agent = build(test=CommandSpec(argv=["pytest"])), ControllerSystem(Controller())
    routes = {"a": "local", "b": "local", "c": "local", "d": "agent"}
    tools = {"a": "build", "b": "build", "c": "test", "d": None}

    needs = needs_of(routes, tools, registry(local=local, agent=agent))

    assert needs == {
        "local": {"build": local.fingerprint("build"), "test": local.fingerprint("test")},
        "agent": {"": agent.fingerprint(None)},
    }
    assert all(len(found) == 16 for tools in needs.values() for found in tools.values())


def test_a_system_without_fingerprints_is_known_by_its_kind() -> None:
    """It can be taken over by whoever has one of the same kind and name."""
    plain: Any = Plain()

    assert fingerprint_of(plain, "anything") == "plain"
    assert missing_of(needs_here(old=plain), registry(old=Plain())) == []


def test_nothing_is_missing_where_the_same_is_configured() -> None:
    """Other objects of the same make, with other systems beside them."""
    server = McpServerSpec(command="files", args=["--token", SECRET])
    needs = needs_here(
        local=build(),
        files=McpSystem(server),
        agent=ControllerSystem(Controller()),
        python=FunctionSystem({}),
    )

    here = registry(
        more=FunctionSystem({}),
        python=FunctionSystem({}),
        agent=ControllerSystem(Controller()),
        files=McpSystem(server),
        local=build(),
    )

    assert missing_of(needs, here) == []
    assert SECRET not in json.dumps(needs)


def test_each_system_that_can_not_do_it_here_gets_a_sentence() -> None:
    """Not configured, without the tool, or with other ways: each in one line."""
    agent: System = ControllerSystem(Controller())
    needs = needs_of(
        {"a": "local", "b": "local", "c": "gone", "d": "agent"},
        {"a": "build", "b": "test"},
        registry(local=build(test=CommandSpec(argv=["pytest"])), gone=FunctionSystem({}), agent=agent),
    )

    here = registry(local=build("ninja"), agent=ControllerSystem(OtherController()))

    assert missing_of(needs, here) == [
        "System 'local' has no test here and is configured differently here: build.",
        "System 'gone' is not configured here.",
        "System 'agent' is configured differently here.",
    ]
