"""The file of MCP servers that other programs keep, taken as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from config.mcp_servers import McpServers, read_mcp_servers
from config.settings import Settings, load_settings
from orchestration.errors import ConfigurationError, Problem


def read(
    path: Path,
    content: Any,
    environ: dict[str, str] | None = None,
    taken: tuple[str, ...] = (),
) -> McpServers:
    """Read a file with this content: text as it is, else the entries of `mcpServers`."""
    text = content if isinstance(content, str) else json.dumps({"mcpServers": content})
    path.write_text(text, encoding="utf-8")
    problems: list[Problem] = []
    found = read_mcp_servers(path, environ or {}, taken=taken, place="c.yaml:1: f", problems=problems)
    assert problems == []
    return found


def problem(path: Path, text: str | None = None) -> str:
    """Return what is said of a file that can't be read."""
    if text is not None:
        path.write_text(text, encoding="utf-8")
    problems: list[Problem] = []
    read_mcp_servers(path, {}, taken=(), place="c.yaml:1: f", problems=problems)
    (only,) = problems
    return str(only).replace(f"{path.parent}/", "")


def settings(home: Path, yaml: str, environ: dict[str, str] | None = None) -> Settings:
    """Return the settings a configuration file gives."""
    config = home / "my.yaml"
    config.write_text(yaml)
    return load_settings(config, environ or {}, {"storage.database": str(home / "state.db")})


CLAUDE = {
    "files": {"command": "npx", "args": ["-y", "server-filesystem", "/data"], "env": {"DEBUG": "1"}},
    "remote": {"type": "http", "url": "https://host/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}},
}

VS_CODE = """{
  // as the editor writes it
  "inputs": [],
  "servers": {
    "files": {"type": "stdio", "command": "npx", "args": ["-y", "server-filesystem", "/data"], /* here */
              "env": {"DEBUG": "1"}, },
    "remote": {"type": "http", "url": "https://host/mcp", "headers": {"Authorization": "Bearer ${env:TOKEN}"}},
  },
}
"""


@pytest.mark.parametrize("content", [CLAUDE, VS_CODE, json.dumps({"mcp": {"servers": CLAUDE}})])
def test_the_block_is_taken_as_the_programs_write_it(tmp_path: Path, content: Any) -> None:
    """With comments and trailing commas, under each of the names they use."""
    found = read(tmp_path / "mcp.json", content, {"TOKEN": "hush-hush"})

    files, remote = found.servers["files"], found.servers["remote"]
    assert (files.command, files.args, files.env) == (
        "npx",
        ["-y", "server-filesystem", "/data"],
        {"DEBUG": "1"},
    )
    assert (remote.url, remote.headers) == ("https://host/mcp", {"Authorization": "Bearer hush-hush"})
    assert (found.unusable, found.warnings) == ({}, [])


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (
            {"command": "a", "env": {"KEY": "${NOT_SET}"}},
            "environment variable NOT_SET, which env.KEY names, is not set. Fix: set NOT_SET and start again.",
        ),
        ({"command": "a", "args": ["${input:key}"]}, "args[0] has '${input:key}', which only the program"),
        ({}, "it has neither `command` nor `url`; expected one of them."),
        ({"command": "a", "url": "http://x"}, "it has both `command` and `url`; expected one of them."),
        (
            {"type": "sse", "url": "http://x/sse"},
            "its type is 'sse' (the transport that Streamable HTTP has replaced)",
        ),
        ({"type": "http"}, "its type is 'http', and `url` is missing. Fix: add it."),
        ({"command": ["a"]}, "command is a list; expected a text."),
        ({"command": "a", "args": "b"}, "args is a text; expected a list of texts."),
        ({"command": "a", "env": {"KEY": {"hush": 1}}}, "env.KEY is an object; expected a text."),
        (
            {"url": "ftp://user:hush@host/x?key=hush"},
            "url is 'ftp://host/x'; expected http://… or https://….",
        ),
        ({"command": "a\0b"}, "command holds a NUL character; no program takes that."),
        ({"command": "a", "idle_seconds": "hush"}, "idle_seconds: Input should be a valid number"),
        (5, "it is a number; expected an object with `command` or `url`."),
    ],
)
def test_a_bad_entry_spoils_itself_alone_and_says_why(tmp_path: Path, entry: Any, reason: str) -> None:
    """Without any value of it: a file like this is full of tokens."""
    found = read(tmp_path / "mcp.json", {"bad": entry, "good": {"command": "b"}})

    assert list(found.servers) == ["good"]
    assert reason in found.unusable["bad"].reason
    assert found.unusable["bad"].kind == "mcp"
    assert "hush" not in found.unusable["bad"].reason


def test_what_means_nothing_here_is_noted_and_the_rest_taken(tmp_path: Path) -> None:
    """Other programs have keys of their own; numbers and truth values count as text."""
    entry = {
        "command": "a",
        "args": [8080, True, "${PLACE:-here}"],
        "env": {"N": 1, "NONE": None},
        "autoApprove": ["x"],
        "timeout": 60,
        "envFile": ".env",
        "description": "for people",
        "timeout_seconds": 5,
    }
    found = read(tmp_path / "mcp.json", {"a": entry})

    spec = found.servers["a"]
    assert (spec.args, spec.env, spec.timeout_seconds) == (["8080", "true", "here"], {"N": "1"}, 5.0)
    assert [each.partition("'a': ")[2] for each in found.warnings] == [
        "`envFile` is not read; set its variables in the environment and name them in `env`.",
        "not used here: autoApprove, timeout.",
    ]


def test_what_is_not_to_run_is_passed_over_with_a_word(tmp_path: Path) -> None:
    """Switched off, declared by us, or this program itself."""
    entries = {
        "off": {"command": "a", "disabled": True},
        "files": {"command": "a"},
        "me": {"command": "uvx", "args": ["--from", "advanced-task-orchestration[all]", "serve"]},
        "me-too": {"command": "/opt/bin/advanced-orchestration", "args": ["serve"]},
    }
    found = read(tmp_path / "mcp.json", entries, taken=("files",))

    assert (found.servers, found.unusable) == ({}, {})
    assert [each.partition(": ")[2] for each in found.warnings] == [
        "'off' is not used: it is switched off there.",
        "'files' is not used: `systems` declares 'files', too. Fix: rename one of them to use both.",
        "'me' is not used: it is this program, which would orchestrate itself.",
        "'me-too' is not used: it is this program, which would orchestrate itself.",
    ]


@pytest.mark.parametrize(
    ("switch", "word"),
    [
        ({"disabled": "true"}, " (`disabled` is 'true'; write true without quotes)"),
        ({"disabled": "Yes"}, " (`disabled` is 'Yes'; write true without quotes)"),
        ({"disabled": 1}, " (`disabled` is 1; write true without quotes)"),
        ({"enabled": "false"}, " (`enabled` is 'false'; write false without quotes)"),
        ({"enabled": False}, ""),
    ],
)
def test_what_is_switched_off_in_other_words_is_off(tmp_path: Path, switch: Any, word: str) -> None:
    """A server that runs against somebody's will is the worse mistake."""
    found = read(
        tmp_path / "mcp.json",
        {"off": {"command": "a", **switch}, "on": {"command": "a", "disabled": "false"}},
    )

    assert list(found.servers) == ["on"]
    assert found.unusable == {}
    assert [each.partition(": ")[2] for each in found.warnings] == [
        f"'off' is not used: it is switched off there{word}."
    ]


def test_names_that_are_none_become_names_and_it_is_said(tmp_path: Path) -> None:
    """None takes another's; reserved words neither."""
    names = ["My Files!", "My-Files", "auto", "日本", "a b", "a/b"]
    found = read(tmp_path / "mcp.json", {name: {"command": "x"} for name in names})

    assert list(found.servers) == ["My-Files-2", "My-Files", "auto-mcp", "server", "a-b", "a-b-2"]
    assert (
        f"{tmp_path / 'mcp.json'}: 'My Files!' is no name of a system; tasks call it 'My-Files-2'."
        in found.warnings
    )
    assert len(found.warnings) == 5


def test_a_name_that_stands_twice_is_said(tmp_path: Path) -> None:
    """The last one is used, as by the programs that write it."""
    text = '{"mcpServers": {"a": {"command": "x"}, "a": {"command": "y"}}}'
    found = read(tmp_path / "mcp.json", text)

    assert found.servers["a"].command == "y"
    assert found.warnings == [f"{tmp_path / 'mcp.json'}: 'a' stands twice; the last one is used."]


def test_a_file_that_can_not_be_read_is_a_mistake_with_its_place(tmp_path: Path) -> None:
    """Missing, a folder, broken, or something else."""
    path = tmp_path / "mcp.json"

    assert (
        problem(path) == "c.yaml:1: f: there is no file 'mcp.json'. Fix: check the path, or remove the key."
    )
    assert problem(path, '{"mcpServers": {\n  "a": {"command": oops}}}') == (
        "mcp.json:2:20: broken JSON: Expecting value. Fix: correct it there."
    )
    assert "has no servers: expected an object with `mcpServers`" in problem(path, "[]")
    assert "is nested too deeply" in problem(path, "[" * 200_000)
    path.write_bytes(b"\xff{}")
    assert "is not UTF-8 text (byte 0)" in problem(path)
    assert "is a folder; expected a JSON file." in problem(tmp_path)


def test_the_key_names_a_file_beside_the_configuration(tmp_path: Path) -> None:
    """Its systems come after those of `systems`, which win; bad ones are kept with their reason."""
    entries = {"a": {"command": "x"}, "b": {"command": "y"}, "c": {"command": "${NOT_SET}"}}
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": entries}))

    found = settings(tmp_path, "mcp_servers_file: mcp.json\nsystems: {a: {kind: mcp, command: mine}}\n")

    commands = [(name, getattr(spec, "command", None)) for name, spec in found.systems.items()]
    assert commands[-2:] == [("a", "mine"), ("b", "y")]
    assert "NOT_SET" in found.unusable_systems["c"].reason
    assert any("`systems` declares 'a', too" in each for each in found.warnings)


def test_the_file_may_be_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is this user's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "servers.json").write_text(json.dumps({"mcpServers": {"b": {"command": "~/bin/b"}}}))

    found = settings(tmp_path, "mcp_servers_file: ~/servers.json\n")

    spec: Any = found.systems["b"]
    assert spec.command == f"{tmp_path}/bin/b"


def test_a_wrong_value_of_the_key_is_told(tmp_path: Path) -> None:
    """With its place."""
    with pytest.raises(ConfigurationError) as caught:
        settings(tmp_path, "mcp_servers_file: [a]\n")

    assert "my.yaml:1: mcp_servers_file: is ['a']; expected the path of a JSON file." in str(caught.value)
