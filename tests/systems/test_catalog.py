"""What all systems together can do, kept as they told it and found by what is to be done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from orchestration.clock import SystemClock
from orchestration.ports import ToolInfo
from orchestration.systems.catalog import FRESH_SECONDS, RETRY_SECONDS, SystemOverview, ToolCatalog
from orchestration.systems.function import FunctionSystem
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.tool_index import ToolIndex

pytestmark = pytest.mark.anyio


class Told(FunctionSystem):
    """A system whose tools are those it is given, and that counts how often it is asked."""

    def __init__(self, name: str, **tools: str) -> None:
        super().__init__({}, name)
        self.tools = tools
        self.error: Exception | None = None
        self.asked = 0
        self.tools_version = 0

    async def list_tools(self) -> list[ToolInfo]:
        self.asked += 1
        await anyio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        schema = {"type": "object", "properties": {"path": {}}, "required": ["path"]}
        return [
            ToolInfo(name=name, description=about, input_schema=schema) for name, about in self.tools.items()
        ]


class Later(SystemClock):
    """A clock that a test sets forward."""

    def __init__(self) -> None:
        self.later = 0.0

    def elapsed(self) -> float:
        return self.later


def catalog_of(*systems: Told, clock: Later | None = None, index: ToolIndex | None = None) -> ToolCatalog:
    registry = SystemRegistry({system.name: system for system in systems})
    return ToolCatalog(registry, clock=clock or Later(), index=index)


@contextmanager
def asks(system: Told, times: int) -> Iterator[None]:
    before = system.asked
    yield
    assert system.asked - before == times


async def test_the_tools_of_all_systems_are_found_by_what_is_to_be_done() -> None:
    """With their system, what they do and what they need; systems need not be open for it."""
    catalog = catalog_of(
        Told("files", read_file="Read a file.", write_file="Write a file."),
        Told("mail", send="Send a message."),
    )

    found = await catalog.search("send him a message")

    assert [(each.system, each.tool, each.description, each.required) for each in found] == [
        ("mail", "send", "Send a message.", ("path",))
    ]
    assert await catalog.search("knit") == []
    assert await catalog.search("") == []


async def test_systems_are_asked_once_until_their_answer_is_old() -> None:
    """However many search meanwhile."""
    clock, files = Later(), Told("files", read_file="Read a file.")
    catalog = catalog_of(files, clock=clock)

    with asks(files, 1):
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(catalog.search, "read")
        await catalog.overview()
    clock.later += FRESH_SECONDS
    with asks(files, 1):
        await catalog.search("read")


async def test_a_system_that_says_its_tools_changed_is_asked_again() -> None:
    """By its own count, or because somebody says so; the others are not."""
    files, mail = Told("files", read_file="Read a file."), Told("mail", send="Send a message.")
    catalog = catalog_of(files, mail)
    await catalog.search("read")

    files.tools = {"knit": "Knit a scarf."}
    files.tools_version += 1
    with asks(files, 1), asks(mail, 0):
        assert [each.tool for each in await catalog.search("knit a scarf")] == ["knit"]
    assert "read_file" not in {each.tool for each in await catalog.search("read a file")}
    files.tools = {"sew": "Sew a button."}
    catalog.changed("files")
    with asks(files, 1), asks(mail, 0):
        assert [each.tool for each in await catalog.search("sew a button")] == ["sew"]


async def test_a_system_that_can_not_be_asked_is_absent_with_its_reason() -> None:
    """What it told before is not offered; soon it is asked again, the others are not."""
    clock, files, mail = (
        Later(),
        Told("files", read_file="Read a file."),
        Told("mail", send="Send a message."),
    )
    catalog = catalog_of(files, mail, clock=clock)
    await catalog.search("read")
    files.error = OSError("no route to host")
    catalog.changed("files")

    assert await catalog.search("read a file") == []
    assert await catalog.overview() == [
        SystemOverview("files", "function", 0, "no route to host"),
        SystemOverview("mail", "function", 1, None),
    ]
    files.error = None
    clock.later += RETRY_SECONDS
    with asks(mail, 0):
        assert [each.tool for each in await catalog.search("read a file")] == ["read_file"]


async def test_what_an_earlier_day_left_in_the_file_is_forgotten(tmp_path: Path) -> None:
    """A system that is configured no more has no tools here."""
    path = tmp_path / "tools.db"
    ToolIndex(path).build([{"server": "gone", "name": "read_file", "description": "Read a file."}]).close()
    index = ToolIndex(path)
    catalog = catalog_of(Told("files", load_file="Read a file."), index=index)

    assert [each.system for each in await catalog.search("read a file")] == ["files"]
    index.close()


async def test_without_systems_nothing_is_found() -> None:
    """And nothing is wrong."""
    catalog = catalog_of()

    assert await catalog.search("read") == []
    assert await catalog.overview() == []
