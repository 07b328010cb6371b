"""How the router weighs several that can do a task, and when a description is plain enough to name a tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from orchestration.dag import TaskDAG
from orchestration.errors import StorageUnavailableError, UnroutableTaskError
from orchestration.models import ErrorRecord, TaskNode
from orchestration.ports import AttemptRequest, Health, System, ToolInfo
from orchestration.records import History
from orchestration.systems.function import FunctionSystem
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.router import Routing, route
from orchestration.systems.router_choice import Candidate, choose
from orchestration.systems.routing_aids import RoutingAids, arguments_fit, plainly_means


class Capable:
    """A system that needs no tool."""

    def __init__(self, kind: str, name: str = "") -> None:
        self.kind, self.name = kind, name or kind

    async def open(self) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to do."""

    async def list_tools(self) -> list[ToolInfo]:
        return []

    async def choose_tool(self, task: TaskNode) -> str | None:
        return None

    def takes_inputs(self, tool: str | None) -> bool:
        return True

    async def execute(self, request: AttemptRequest) -> object:
        return None

    async def check(self) -> Health:
        return Health(ok=True)


@dataclass
class Hit:
    """One found tool."""

    system: str
    tool: str


class Index:
    """A search that answers what it is given, and counts."""

    def __init__(self, *hits: Hit) -> None:
        self._hits = hits
        self.asked: list[str] = []

    async def search(self, text: str, limit: int = 5) -> Sequence[Hit]:
        self.asked.append(text)
        return self._hits[:limit]


async def routed(
    *tasks: TaskNode,
    systems: Mapping[str, System],
    aids: RoutingAids | None = None,
    allows_agent: bool = False,
    registry: SystemRegistry | None = None,
) -> Routing:
    """Return where tasks go."""
    dag = TaskDAG("d")
    for task in tasks:
        dag.add_task(task)
    async with registry or SystemRegistry(systems) as opened:
        return await route(dag, opened, aids=aids, allows_agent=allows_agent)


def winner(*candidates: Candidate) -> str:
    """Return who is chosen."""
    return choose(candidates, "first", "that can").system


def read_file(path: str) -> str:
    """Read a file."""
    return path


def read_folder(path: str) -> str:
    """Read a folder."""
    return path


BOTH = {"read_file": read_file, "read_folder": read_folder}


def test_equal_candidates_keep_the_configured_order() -> None:
    """Nothing known of either: the plain reason."""
    choice = choose([Candidate(system="b"), Candidate(system="a")], "it is the first", "that can")

    assert (choice.system, choice.reason) == ("b", "it is the first")
    assert [each.system for each in choice.considered] == ["b", "a"]


def test_three_observations_do_not_shout() -> None:
    """Three failures are not enough to go elsewhere; ten are."""
    assert winner(Candidate(system="a", failed=1), Candidate(system="b", answered=3)) == "a"
    assert winner(Candidate(system="a", failed=10), Candidate(system="b", answered=3)) == "b"


def test_what_is_clearly_quicker_or_cheaper_wins() -> None:
    """By its mean over enough tasks; a little quicker is not enough."""
    slow = Candidate(system="a", completed=50, mean_seconds=20.0)

    assert winner(slow, Candidate(system="b", completed=50, mean_seconds=2.0)) == "b"
    assert winner(slow, Candidate(system="b", completed=50, mean_seconds=19.0)) == "a"
    assert winner(
        Candidate(system="a", completed=50, mean_seconds=2.0, mean_cost=1.0),
        Candidate(system="b", completed=50, mean_seconds=2.0, mean_cost=0.01),
    ) == "b"  # fmt: skip


def test_load_and_an_open_breaker_count() -> None:
    """Who is not asked now comes last, and is still there when all are like that."""
    busy = Candidate(system="a", running=10, limit=10)
    shut = Candidate(system="a", is_shut=True)

    assert winner(busy, Candidate(system="b", limit=10)) == "b"
    assert winner(shut, Candidate(system="b", failed=20)) == "b"
    assert winner(shut, Candidate(system="b", is_shut=True)) == "a"


def test_a_choice_says_what_was_weighed() -> None:
    """In words and as data."""
    choice = choose(
        [
            Candidate(system="a", completed=45, mean_seconds=20.0),
            Candidate(system="b", answered=40, completed=45, mean_seconds=2.0, running=1, limit=20),
        ],
        "first",
        "with the tool 'x'",
    )

    assert choice.reason == (
        "of those with the tool 'x' it does best (b: 96% likely, about 2.9 s, 1 running; a: 80% likely, about 19.1 s)"
    )
    assert choice.considered[0].score > choice.considered[1].score > 0


SCHEMA = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}},
    "required": ["path"],
}


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        ({"path": "a"}, True),
        ({"path": "${list.first}", "limit": "${count.n}"}, True),
        ({}, False),
        ({"path": 3}, False),
        ({"path": "a", "limit": True}, False),
        ({"path": "a", "depth": 1}, False),
    ],
)
def test_arguments_that_do_not_fit_are_seen(arguments: dict[str, object], fits: bool) -> None:
    """Missing, unknown, of another type; a reference may become anything."""
    assert arguments_fit(arguments, SCHEMA) is fits  # type: ignore[arg-type]


def test_a_tool_is_meant_only_where_its_whole_name_is_said() -> None:
    """And one that does not say what it takes fits nothing."""
    assert plainly_means("Read the files of today", "readFile", {"path": "a"}, SCHEMA)
    assert not plainly_means("Write the file", "read_file", {"path": "a"}, SCHEMA)
    assert not plainly_means("Read the file", "read_file", {"path": "a"}, None)
    assert not plainly_means("List everything", "list", {}, {"properties": {}})
    assert not plainly_means("Delete the file", "delete", {"path": "a"}, SCHEMA), (
        "one word is said of anything"
    )


@pytest.mark.parametrize(
    "description",
    [
        "Do not delete the file; tell me how large it is",
        "Don't delete the file",
        "DON\u2019T delete the file",
        "dont delete the file",
        "You mustn't delete this file",
        "Never delete a file",
        "Look at the file without deleting it, or: delete file",
        "There must be no delete of the file",
        "Read the file instead of a delete",
        "Move the file rather  than delete it",
        "Avoid anything that may delete the file",
        "Only look at the file that they want to delete",
        "Delete every file except this one",
        "delete_file is what you must not_call",
    ],
)
def test_a_description_that_forbids_anything_means_no_tool(description: str) -> None:
    """The tool whose name it says may be the one that is forbidden."""
    assert plainly_means("Please delete the file; note which one", "delete_file", {"path": "a"}, SCHEMA)
    assert not plainly_means(description, "delete_file", {"path": "a"}, SCHEMA)


@pytest.mark.anyio
async def test_a_plainly_described_tool_is_found() -> None:
    """Before a system that runs anything; each description is searched once."""
    index = Index(Hit("files", "read_file"), Hit("files", "read_folder"))
    tasks = [
        TaskNode(f"t{number}", description="Read the file", arguments={"path": "a"}) for number in range(3)
    ]

    routing = await routed(
        *tasks,
        systems={"kgot": Capable("kgot"), "files": FunctionSystem(BOTH)},
        aids=RoutingAids(find_tools=index),
    )

    assert (routing.routes["t0"], routing.tools["t0"]) == ("files", "read_file")
    assert routing.reasons["t0"] == "its tool 'read_file' is what the description and the arguments mean"
    assert index.asked == ["Read the file"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("description", "arguments"),
    [
        ("Read the file", {}),  # it needs a path
        ("Look at it", {"path": "a"}),
        ("Read the file or the folder", {"path": "a"}),  # both are meant
    ],
)
async def test_a_vaguely_fitting_tool_is_never_run(description: str, arguments: dict[str, str]) -> None:
    """Nothing is better than a guess: refused where nothing runs descriptions."""
    index = Index(Hit("files", "read_file"), Hit("files", "read_folder"))

    with pytest.raises(UnroutableTaskError):
        await routed(
            TaskNode("t", description=description, arguments=dict(arguments)),
            systems={"files": FunctionSystem(BOTH)},
            aids=RoutingAids(find_tools=index),
        )


@pytest.mark.anyio
async def test_alita_and_kgot_are_preferred_with_the_other_to_go_on_with() -> None:
    """Where repeating is safe."""
    routing = await routed(
        TaskNode("a", system_preference="alita"),
        TaskNode("k", system_preference="KGoT"),
        TaskNode("once", system_preference="kgot", idempotent=False),
        TaskNode("both", system_preference="hybrid"),
        systems={"helper": Capable("alita"), "graph": Capable("kgot")},
    )

    assert routing.routes == {"a": "helper", "k": "graph", "once": "graph", "both": "helper"}
    assert routing.others == {"a": ("graph",), "k": ("helper",), "both": ("graph",)}
    assert routing.reasons["a"] == "it serves 'alita'"
    assert routing.warnings == []


@pytest.mark.anyio
async def test_the_past_decides_among_systems_with_the_same_tool() -> None:
    """Asked for once, only about those among which there is a choice; a broken storage changes nothing."""
    asked: list[Sequence[tuple[str, str | None]]] = []

    async def history(kinds: Sequence[tuple[str, str | None]]) -> dict[tuple[str, str | None], History]:
        asked.append(kinds)
        return {
            ("one", "read_file"): History(count=40, mean_seconds=30.0),
            ("two", "read_file"): History(count=40, mean_seconds=1.0),
        }

    async def broken(kinds: Sequence[tuple[str, str | None]]) -> dict[tuple[str, str | None], History]:
        raise StorageUnavailableError("x", "gone")

    systems = {"one": FunctionSystem({"read_file": read_file}), "two": FunctionSystem(BOTH)}
    tasks = [TaskNode("read_file"), TaskNode("t", tool="read_folder")]
    weighed = await routed(*tasks, systems=systems, aids=RoutingAids(history=history))
    plain = await routed(*tasks, systems=systems, aids=RoutingAids(history=broken))

    assert asked == [[("one", "read_file"), ("two", "read_file")]]
    assert weighed.routes["read_file"] == "two"
    assert weighed.others["read_file"] == ("one",)
    assert [each.system for each in weighed.choices["read_file"].considered] == ["two", "one"]
    assert plain.routes["read_file"] == "one"


@pytest.mark.anyio
async def test_a_system_whose_breaker_is_open_is_passed_by() -> None:
    """While another one can do it."""
    registry = SystemRegistry(
        {"one": FunctionSystem({"read_file": read_file}), "two": FunctionSystem({"read_file": read_file})}
    )
    for _ in range(5):
        ticket = registry.resilience.admit("one", "function", "read_file")
        ticket.ended(ErrorRecord(code="system_unavailable", message="off", retryable=True))

    routing = await routed(TaskNode("read_file"), systems={}, registry=registry)

    assert routing.routes == {"read_file": "two"}
    assert routing.others == {"read_file": ("one",)}
    assert "it does best (two: 80% likely" in routing.reasons["read_file"]
    assert "one: not asked now" in routing.reasons["read_file"]


@pytest.mark.anyio
async def test_the_calling_agent_is_the_last_resort_where_it_may_be_asked() -> None:
    """Else the task is refused; where a task names it, it goes there always."""
    systems: dict[str, System] = {
        "python": FunctionSystem({"read_file": read_file}),
        "agent": Capable("agent"),
    }

    routing = await routed(TaskNode("think"), TaskNode("read_file"), systems=systems, allows_agent=True)
    named = await routed(TaskNode("think", system_preference="agent"), systems=systems)

    assert routing.routes == {"think": "agent", "read_file": "python"}
    assert routing.reasons["think"] == "nothing else can do it, so it is offered to the calling agent"
    assert named.routes == {"think": "agent"}
    with pytest.raises(UnroutableTaskError):
        await routed(TaskNode("think"), systems=systems)
