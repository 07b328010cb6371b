"""Secrets planted wherever a configuration can hold them, and parts that give them away wherever they can speak.

The parts are real: processes, sockets, the command line, an MCP client. Afterwards every byte that the program stored
or wrote is searched.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from config.settings import load_settings
from server.app import build_server
from server.composition import open_orchestrator
from tests.cli.support import ROOT, CommandLine
from tests.standins.support import KEY, KGOT, TOOL_KEY, kgot_configuration, python_executor
from tests.systems.http_service import HttpService, Received, Reply, a_json

HERE = Path(__file__).parent
LEAKY = HERE / "leaky_program.py"

SECRETS = {
    "COMMAND_TOKEN": 'p"c&md/plantedOne1 ünd\\more',
    "MULTILINE_KEY": "-----BEGIN KEY-----\nplantedLineOfAKey2+/aaaa\nplantedLineOfAKey3+/bbbb\n-----END KEY-----",
    "MCP_VARIABLE": "plantedMcpEnv4&5",
    "MCP_PASSWORD": "planted-mcp-password6",
    "MCP_HEADER": "plantedMcpHeader7",
    "MCP_QUERY": "plantedMcpQuery8",
    "HTTP_TOKEN": "plantedHttpBearer9/+x",
    "HTTP_HEADER": "plantedHttpHeader10",
    "HTTP_NUMBER_TOKEN": "918273645546372",
    "ALITA_TOKEN": "plantedAlita11",
    "KGOT_KEY": "plantedKgot12",
    "MODEL_KEY": "plantedModel13",
    "FILE_TOKEN": "plantedFile14",
    "DATABASE_URL": "postgres://user:plantedUrl15%2F@db.internal/x",
    "SERVER_API_KEY": "plantedServer16",
}
"""What is planted, by the variable it comes in."""

LITERALS = {"literal": "plantedLiteral17", "file": "plantedFileLiteral18", "kgot": KEY, "kgot tool": TOOL_KEY}
"""What stands in files as it is."""

CORES = [
    "plantedOne1",
    "plantedLineOfAKey2",
    "plantedLineOfAKey3",
    "plantedUrl15",
    "918273645546372",
    *(
        text
        for text in [*SECRETS.values(), *LITERALS.values()]
        if text.isascii() and len(text) < 30 and text[0] == "p"
    ),
]
"""What is searched for: of each secret the part that no quoting changes."""


def config(folder: Path, service: str, executor: str) -> str:
    """Return a configuration with a secret wherever one can stand."""
    python, leaky = sys.executable, str(LEAKY)
    user = service.replace("http://", "http://user:${MCP_PASSWORD}@")
    return json.dumps(
        {
            "advanced_orchestration": {"log_level": "DEBUG"},
            "mcp_servers_file": "servers.json",
            "sequential_thinking": "in-process",
            "model": {
                "name": "some-model",
                "base_url": f"{service}/v1",
                "api_key": "${MODEL_KEY}",
                "max_retries": 0,
            },
            "systems": {
                "local": {
                    "kind": "command",
                    "commands": {
                        mode: {
                            "argv": [python, "-I", leaky, mode, "${DATABASE_URL}"],
                            "output": "json" if mode == "json" else "text",
                            "env": {
                                "GIVEN_TOKEN": "${COMMAND_TOKEN}",
                                "GIVEN": "${MULTILINE_KEY}",
                                "GIVEN_PASSWORD": LITERALS["literal"],
                            },
                        }
                        for mode in ("out", "json", "err", "flood")
                    },
                },
                "inside": {
                    "kind": "function",
                    "functions": {
                        "leak": "safety_jobs:leak",
                        "leak_in_an_error": "safety_jobs:leak_in_an_error",
                    },
                },
                "stdio": {
                    "kind": "mcp",
                    "command": python,
                    "args": ["-I", leaky, "mcp", "--token=${MCP_VARIABLE}"],
                    "env": {"GIVEN": "${MCP_VARIABLE}"},
                },
                "far": {
                    "kind": "mcp",
                    "url": f"{user}/mcp?key=${{MCP_QUERY}}",
                    "headers": {"X-Given": "${MCP_HEADER}"},
                    "connect_timeout_seconds": 5,
                },
                "rest": {
                    "kind": "http",
                    "base_url": f"{service}/rest",
                    "bearer_token": "${HTTP_TOKEN}",
                    "headers": {"X-Given": "${HTTP_HEADER}", "X-Number": "${HTTP_NUMBER_TOKEN}"},
                    "operations": {
                        "echo": {"path": "/echo"},
                        "text": {"path": "/text", "output": "text"},
                        "refuse": {"path": "/refuse"},
                        "move": {"path": "/move"},
                        "break": {"path": "/break"},
                    },
                },
                "alita": {
                    "kind": "alita",
                    "base_url": service,
                    "headers": {"Authorization": "Basic ${ALITA_TOKEN}"},
                },
                "kgot": {
                    "kind": "kgot",
                    "command": [python, "-I", "-S", str(KGOT)],
                    "config_dir": str(folder / "configuration"),
                    "work_folder": str(folder / "work"),
                    "python_executor_uri": f"{executor}/run",
                    "env": {"KGOT_STANDIN": "leak", "GIVEN_KEY": "${KGOT_KEY}"},
                },
            },
        }
    )


def servers_file() -> str:
    """Return a file of MCP servers as other programs write it."""
    server = {
        "command": sys.executable,
        "args": ["-I", str(LEAKY), "mcp", "${FILE_TOKEN}"],
        "env": {"GIVEN_KEY": "${env:FILE_TOKEN}", "GIVEN_TOKEN": LITERALS["file"]},
    }
    return json.dumps({"mcpServers": {"filed": server}})


TASKS = [
    *(("local", tool) for tool in ("out", "json", "err", "flood")),
    *(("inside", tool) for tool in ("leak", "leak_in_an_error")),
    *(("stdio", tool) for tool in ("tell", "refuse", "break", "structured")),
    *(("filed", tool) for tool in ("tell", "refuse")),
    ("far", "tell"),
    *(("rest", tool) for tool in ("echo", "text", "refuse", "move", "break")),
    ("alita", None),
    ("kgot", None),
]
"""What runs, and each of it gives something away."""


def dag(name: str) -> str:
    """Return a DAG in which everything speaks."""
    tasks: list[dict[str, Any]] = [
        {
            "task_id": f"{system}-{tool or 'ask'}",
            "description": "Say what you know",
            "system_preference": system,
            "max_retries": 0,
            **({} if tool is None else {"tool": tool}),
        }
        for system, tool in TASKS
    ]
    # What one was told is handed on to another; what is wrong with it is told as well.
    tasks.append(
        {
            "task_id": "passed-on",
            "system_preference": "inside",
            "tool": "leak",
            "arguments": {"value": "${local-out.text}"},
            "depends_on": ["local-out"],
            "max_retries": 0,
        }
    )
    tasks.append(
        {
            "task_id": "checked",
            "system_preference": "local",
            "tool": "out",
            "max_retries": 0,
            "acceptance": {"tool": "err", "system_preference": "local"},
        }
    )
    return json.dumps({"dag_id": name, "tasks": tasks})


def echo(received: Received) -> Reply:
    """Give a request's headers, path and body back, as the path wants it."""
    said = {"path": received.target, "headers": received.headers, "body": received.body.decode()}
    match received.target.partition("?")[0]:
        case "/rest/echo":
            number = int(received.headers["x-number"])
            return a_json({**said, "number": number, received.headers["authorization"]: 1})
        case "/rest/text":
            return Reply(repr(said).encode(), 200, {"Content-Type": "text/plain"})
        case "/rest/move":
            return Reply(
                b"", 302, {"Location": f"https://elsewhere.test/?t={received.headers['authorization'][7:]}"}
            )
        case "/rest/break":
            return Reply(repr(said).encode() + b"{", 200, {"Content-Type": "application/json"})
        case "/agent/execute":
            return a_json({"error": "Internal server error", "message": json.dumps(said)}, 500)
        case "/health":
            return a_json({"status": json.dumps(said)}, 503)
        case _:
            return a_json({"error": {"message": json.dumps(said), "code": "unauthorized"}}, 401)


@dataclass
class Remains:
    """What is left of a run: files and what was written, by where it was found."""

    found: dict[str, bytes] = field(default_factory=dict)
    cli: CommandLine | None = None

    def keep(self, place: str, *texts: str | bytes) -> None:
        """Keep what was found at a place."""
        data = b"\n".join(
            text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text for text in texts
        )
        self.found[place] = self.found.get(place, b"") + data

    def places_of(self, needle: bytes) -> list[str]:
        """Return where something stands."""
        return [place for place, data in self.found.items() if needle in data]


@pytest.fixture(scope="module")
def remains(tmp_path_factory: pytest.TempPathFactory) -> Remains:
    """What is left after everything ran: through the command line, and through the MCP server."""
    folder = tmp_path_factory.mktemp("planted")
    service = HttpService()
    service.answers["*"] = echo
    patch = pytest.MonkeyPatch()
    for name, value in SECRETS.items():
        patch.setenv(name, value)
    patch.syspath_prepend(str(HERE))
    with python_executor() as executor:
        cli = PlantedCommandLine(folder)
        kgot_configuration(folder / "configuration")
        cli.write("config.yaml", config(folder, service.url, executor))
        cli.write("servers.json", servers_file())
        cli.write("all.json", dag("all"))
        remains = Remains(cli=cli)
        ask_by_command_line(cli, remains)
        anyio.run(ask_by_mcp, cli, remains)
        read_files(folder, remains)
    service.close()
    patch.undo()
    return remains


class PlantedCommandLine(CommandLine):
    """The command line, with the secrets in its environment."""

    @property
    def environ(self) -> dict[str, str]:
        path = os.pathsep.join((str(ROOT), str(HERE)))
        return {**super().environ, **SECRETS, "PYTHONPATH": path}


COMMANDS = (
    "run all.json",
    "run all.json --json",
    "status",
    "status all-1",
    "status all-1 --json",
    *(f"status all-1 --view {view}" for view in ("tasks", "events", "plan", "graph")),
    *(f"status all-1 --view {view} --json" for view in ("tasks", "events", "plan", "graph")),
    *(f"status all-1 --view why --task {system}-{tool or 'ask'}" for system, tool in TASKS),
    *(f"output all-1 {system}-{tool or 'ask'}" for system, tool in TASKS),
    "output all-1 passed-on --json",
    "output all-1 checked",
    *(f"export all-1 --format {name}" for name in ("yaml", "json", "mermaid", "dot")),
    "metrics --json",
    "list --json",
    "simulate all.json --json",
    "systems --json",
    "systems --check",
    "systems --check --json",
    "systems --find say --json",
    "decompose --goal plan",
    "decompose plan --json",
    "edit all-1",
    "doctor --json",
    "backup copy.db",
    "status all-9",
)


def ask_by_command_line(cli: CommandLine, remains: Remains) -> None:
    """Have every command say what it can."""
    for line in COMMANDS:
        answer = cli.inside(*line.split(), "--log-level", "DEBUG")
        remains.keep(line, answer.out, answer.err)
    answer = cli(
        "run", "all.json", "--log-level", "DEBUG"
    )  # a process: its own logging, its children's stderr
    remains.keep("a process", answer.out, answer.err)
    cli.write(
        "bad.json",
        config(cli.folder, "${HTTP_TOKEN}", "x").replace('"kind": "mcp"', '"kind": "${HTTP_TOKEN}"'),
    )
    answer = cli.inside("doctor", "--config", str(cli.folder / "bad.json"))
    remains.keep("a wrong configuration", answer.out, answer.err)


async def ask_by_mcp(cli: CommandLine, remains: Remains) -> None:
    """Have every tool say what it can."""
    environ = {**cli.environ, "HOME": str(cli.folder)}
    settings = load_settings(None, environ)
    remains.keep("settings", repr(settings), settings.model_dump_json(exclude={"systems", "model"}))
    server = build_server(lambda: open_orchestrator(settings))
    asked: list[tuple[str, dict[str, Any]]] = [
        ("list_systems", {}),
        ("list_systems", {"query": "say"}),
        ("execute_dag", {"dag": json.loads(dag("mcp")), "wait_seconds": 20}),
        *(
            ("get_orchestration_status", {"orchestration_id": "mcp-1", "view": view})
            for view in ("summary", "events")
        ),
        *(
            (
                "get_orchestration_status",
                {"orchestration_id": "mcp-1", "view": "tasks", "task": f"{system}-{tool or 'ask'}"},
            )
            for system, tool in TASKS
        ),
        *(
            ("read_output", {"reference": f"mcp-1/{system}-{tool or 'ask'}", "part": "head"})
            for system, tool in TASKS
        ),
        ("decompose_goal", {"goal": "plan"}),
        ("get_metrics", {}),
    ]
    with anyio.fail_after(60):
        async with Client(server) as client:
            for tool, arguments in asked:
                result = await client.call_tool(tool, arguments)
                remains.keep(f"{tool} {json.dumps(arguments)[:200]}", result.model_dump_json())
            for resource in (await client.list_resources()).resources:
                read = await client.read_resource(str(resource.uri))
                remains.keep(f"resource {resource.uri}", read.model_dump_json())


def read_files(folder: Path, remains: Remains) -> None:
    """Keep every file but the configuration, and every value of the databases, unpacked."""
    written = {"config.yaml", "bad.json", "servers.json", "config_llms.json", "config_tools.json"}
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in written:
            remains.keep(f"file {path.name}", path.read_bytes())
    for name in ("state.db", "copy.db"):
        with sqlite3.connect(folder / name) as database:
            tables = [
                row[0] for row in database.execute("select name from sqlite_master where type = 'table'")
            ]
            for table in tables:
                for row in database.execute(f'select * from "{table}"'):
                    remains.keep(f"{name} {table}", *(unpacked(value) for value in row))


def unpacked(value: object) -> bytes:
    """Return a stored value as bytes, unpacked where it was packed."""
    if not isinstance(value, bytes):
        return str(value).encode()
    try:
        return zlib.decompress(value)
    except zlib.error:
        return value


def in_base64(text: str) -> list[bytes]:
    """Return what stands in base64 for a text, wherever it begins."""
    data = text.encode()
    return [
        base64.b64encode(bytes(before) + data)[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
        for before in range(3)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES, ids=lambda core: f"secret-{CORES.index(core)}")
def test_a_planted_secret_is_found_nowhere(remains: Remains, core: str) -> None:
    """Not in the database, its log or its copy, not in an answer, an error, a log line or an exported graph."""
    assert remains.places_of(core.encode()) == []
    for form in in_base64(core):
        assert remains.places_of(form) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("local-out", "[secret]"),
        ("local-json", "[secret]"),
        ("inside-leak", '"SERVER_API_KEY": "[secret]"'),
        ("stdio-tell", "[secret]"),
        ("stdio-structured", "[secret]"),
        ("filed-tell", "[secret]"),
        ("rest-echo", '"authorization": "Bearer [secret]"'),
        ("rest-text", "[secret]"),
        ("kgot-ask", "the key is [secret]"),
    ],
)
def test_what_gave_it_away_was_heard(remains: Remains, task: str, said: str) -> None:
    """The parts did speak: their outputs are there, with a mark where the secret was."""
    assert said.encode() in remains.found[f"output all-1 {task}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    ["local-err", "local-flood", "inside-leak_in_an_error", "stdio-refuse", "stdio-break", "rest-refuse"],
)
def test_what_failed_with_it_is_told_without_it(remains: Remains, task: str) -> None:
    """An error keeps its other words."""
    assert b"[secret]" in remains.found[f"status all-1 --view why --task {task}"]
