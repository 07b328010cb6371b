"""`systems --find`: the tools that fit a task, in a terminal and as JSON."""

from __future__ import annotations

from tests.cli.support import CommandLine

CONFIG = """
systems:
  local:
    kind: command
    commands:
      count_lines: {argv: [wc, -l, "{path}"], description: Count the lines of a file.}
      greet: {argv: [echo, hello], description: Greet somebody.}
  broken: {kind: function, functions: {go: 'no_such_module:go'}}
sequential_thinking: in-process
"""


def test_the_tools_that_fit_are_shown_best_first(cli: CommandLine) -> None:
    """With what they need; a system that can't be asked is a note beside the answer."""
    cli.write("config.yaml", CONFIG)

    shown = cli.inside("systems", "--find", "How many lines has this file?")
    document = cli.inside("systems", "--find", "How many lines has this file?", "--json").document

    assert shown.code == 0
    assert shown.out.splitlines()[0].split() == ["SYSTEM", "TOOL", "SCORE", "NEEDS", "DOES"]
    assert shown.out.splitlines()[1].split()[:2] == ["local", "count_lines"]
    assert "System broken could not be asked for its tools" in shown.err
    best = document["tools"][0]
    assert (best["system"], best["tool"], best["required"]) == ("local", "count_lines", ["path"])
    assert list(document["not_asked"]) == ["broken"]


def test_nothing_that_fits_is_an_answer(cli: CommandLine) -> None:
    """And an empty text, or both ways at once, is a mistake."""
    cli.write("config.yaml", CONFIG)

    nothing = cli.inside("systems", "--find", "zymurgy")

    assert (nothing.code, nothing.out) == (0, "No tool shares a word with that.\n")
    assert cli.inside("systems", "--find", "").code == 2
    assert cli.inside("systems", "--find", "x", "--check").code == 2
