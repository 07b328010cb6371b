"""What the documentation says of configuration and command line is what there is."""

from __future__ import annotations

from config.keys import CONFIG_VARIABLE, ENVIRONMENT
from tests.cli.support import ROOT
from tests.cli.test_usage import COMMANDS


def test_every_command_is_described() -> None:
    """`docs/cli.md` names each command where its options stand."""
    lines = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").splitlines()
    described = {line.split()[0] for line in lines if line.startswith("    ") and line.strip()}

    assert set(COMMANDS) <= described


def test_every_environment_variable_is_described() -> None:
    """`docs/configuration.md` has each in its table."""
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

    assert [name for name in [*ENVIRONMENT, CONFIG_VARIABLE] if f"`{name}`" not in text] == []
