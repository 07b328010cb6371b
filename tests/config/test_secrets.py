"""Which values of a configuration count as secret: they are in no output, error or log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.settings import Settings, load_settings


def loaded(folder: Path, text: str, **environ: str) -> Settings:
    """Return the settings of a file."""
    (folder / "c.yaml").write_text(text, encoding="utf-8")
    return load_settings(folder / "c.yaml", environ)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("X", "a-value-of-some-kind", True),
        ("X", "postgres://me:hidden-one@host/db", True),
        ("X", "https://me:hidden-one@host/", True),
        ("X", "https://host/path?key=hidden-one", True),
        ("X", "/no/such/place/1f2e", True),
        ("API_KEY", "production", True),
        ("API_KEY", "123456789", True),
        ("X", "short", False),
        ("X", "production", False),
        ("X", "123456789", False),
        ("X", "https://host:8443/path", False),
        ("X", "/", False),
        ("X", str(Path(__file__).parent), False),
        ("HOME", "/home/somebody-else", False),
        ("LC_ALL", "de_DE.UTF-8", False),
    ],
)
def test_what_is_taken_from_the_environment_is_secret_unless_it_is_plainly_not(
    tmp_path: Path, name: str, value: str, expected: bool
) -> None:
    """A word, a number, a place, an address without a password: replacing those would garble outputs."""
    text = f"systems: {{local: {{kind: command, commands: {{c: {{argv: [echo, '${{{name}}}']}}}}}}}}"

    settings = loaded(tmp_path, text, **{name: value})

    assert (value in settings.secrets) is expected


def test_what_stands_under_a_telling_name_is_secret(tmp_path: Path) -> None:
    """Wherever a kind of system takes secrets, also when they stand there as they are."""
    (tmp_path / "servers.json").write_text(
        json.dumps(
            {"mcpServers": {"filed": {"command": "x", "env": {"API_TOKEN": "secret-of-a-file", "A": "${B}"}}}}
        )
    )
    text = """
mcp_servers_file: servers.json
model: {name: "x:y", api_key: secret-of-the-model}
sequential_thinking: {command: x, env: {API_KEY: secret-of-thinking}}
systems:
  c: {kind: command, commands: {c: {argv: [x], env: {TOKEN: secret-of-a-command, PLAIN: plain-value-1}}}}
  f: {kind: function, engine: process, functions: {f: "os:getpid"}, env: {MY_PASSWORD: secret-of-a-worker}}
  m: {kind: mcp, command: x, args: ["--api-key", secret-of-an-option], env: {A_KEY: secret-of-a-server}}
  u: {kind: mcp, url: "https://me:secret-of-an-address@host/mcp", headers: {Authorization: Bearer secret-of-a-header}}
  h:
    kind: http
    base_url: https://host
    bearer_token: secret-of-a-bearer
    operations: {o: {path: /, headers: {X-Api-Key: secret-of-an-operation, Accept: text/plain}}}
  a: {kind: alita, headers: {Cookie: secret-of-alita}}
"""

    settings = loaded(
        tmp_path, text, B="secret-of-a-variable", SERVER_TOKEN="secret-of-the-server-1", C="no-secret-1"
    )

    found = {
        *("secret-of-a-file", "secret-of-the-model", "secret-of-thinking", "secret-of-a-command"),
        *("secret-of-a-worker", "secret-of-an-option", "secret-of-a-server", "secret-of-an-address"),
        *("secret-of-a-header", "secret-of-a-bearer", "secret-of-an-operation", "secret-of-alita"),
        *("secret-of-a-variable", "secret-of-the-server-1"),
    }
    assert found - set(settings.secrets) == set()
    assert {"plain-value-1", "no-secret-1", "text/plain"} & set(settings.secrets) == set()


def test_settings_do_not_show_their_secrets(tmp_path: Path) -> None:
    """Neither printed nor written down."""
    text = "systems: {local: {kind: command, commands: {c: {argv: [echo, '${X}'], env: {Y: '${X}'}}}}}"

    settings = loaded(tmp_path, text, X="a-value-of-some-kind")

    assert "a-value" not in repr(settings)
    assert "secrets" not in settings.model_dump()
