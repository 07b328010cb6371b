"""What an argument can't do: the child sees exactly the item that was meant, or nothing is started."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.errors import AttemptFailedError
from orchestration.systems.command import CommandParameter, CommandSpec, CommandSystem
from tests.systems.support import a_request, failure_of

ECHO = "import json, os, sys; print(json.dumps([os.fsencode(a).decode('utf-8') for a in sys.argv[1:]]))"
"""A program that writes its arguments as it sees them."""

HOSTILE = [
    "; touch /tmp/x",
    "| sh",
    "&& id",
    "`id`",
    "$(id)",
    "${IFS}id",
    "> /dev/null",
    "a\nb",
    "a\r\nb",
    "\t",
    " ",
    "",
    "'",
    '"',
    "\\",
    "\\0",
    "%s%n%x",
    "%00",
    "*",
    "?[a-z]",
    "!!",
    "#",
    "~root",
    "$HOME",
    "$PATH",
    "%PATH%",
    "{other}",
    "{{other}}",
    "{value}",
    "{",
    "}",
    "{0}",
    "{0.__class__}",
    "{value!r:>1000}",
    "${other}",
    "${task.output}",
    "../../etc/passwd",
    "..\\..\\x",
    "file:///etc/passwd",
    "\u202egnp.exe",
    "\u200b",
    "\ufeff",
    "a\u0301",
    "\u2010-rf",
    "\u2212rf",
    "\uff0drf",
    "\uff1b id",
    "\U0001f4a3",
    "\x1b]0;owned\x07",
    "\x7f",
    "\x85",
    "\u2028",
]
"""Each of these means something to somebody: a shell, a formatter, a terminal, a reader."""

DASHES = ["-", "--", "-rf", "--help", "-c", "--output=/etc/passwd", "-\n"]

SPEC = CommandSpec(
    argv=[sys.executable, "-I", "-S", "-c", ECHO, "{value}", "x={value}", "{other}", "{{value}}"],
    parameters={"other": CommandParameter(default="o")},
)
"""The program gets the value alone and behind a beginning, another one, and a name in braces."""


async def seen(spec: CommandSpec, **arguments: Any) -> list[str]:
    """Return the arguments as the program saw them."""
    output: Any = await CommandSystem({"c": spec}).execute(a_request("c", arguments))
    items: list[str] = json.loads(output["text"])
    return items


def rendered(value: Any, **parameter: Any) -> list[str] | None:
    """Return what a value becomes in argv; None where it is refused."""
    spec = CommandSpec(
        argv=["p", "{value}", "x={value}"], parameters={"value": CommandParameter(**parameter)}
    )
    try:
        return spec.render("c", {"value": value})
    except AttemptFailedError as exc:
        return None if (exc.code, exc.retryable) == ("invalid_arguments", False) else [exc.code]


@pytest.mark.anyio
async def test_every_hostile_text_arrives_as_one_item_unchanged() -> None:
    """All of them in one call, beside each other."""
    names = [f"v{number}" for number in range(len(HOSTILE))]
    argv = [sys.executable, "-I", "-S", "-c", ECHO, *(f"{{{name}}}" for name in names)]

    items = await seen(CommandSpec(argv=argv), **dict(zip(names, HOSTILE, strict=True)))

    assert items == HOSTILE


@pytest.mark.anyio
async def test_a_placeholder_in_a_value_stays_text() -> None:
    """Values are put in once: what one of them holds is not looked at again."""
    items = await seen(SPEC, value="{other} {value} {{value}}", other="{value}")

    assert items == ["{other} {value} {{value}}", "x={other} {value} {{value}}", "{value}", "{value}"]


@pytest.mark.anyio
@pytest.mark.parametrize("value", DASHES)
async def test_an_option_can_not_be_slipped_in(value: str) -> None:
    """Refused where it would stand alone; behind `--` or a beginning it is text."""
    alone = CommandSpec(argv=["no-such-program", "{value}"])
    behind = CommandSpec(argv=[sys.executable, "-I", "-S", "-c", ECHO, "x={value}", "--", "{value}"])

    error = await failure_of(CommandSystem({"c": alone}), a_request("c", {"value": value}))

    assert error.code == "invalid_arguments"
    assert await seen(behind, value=value) == [f"x={value}", "--", value]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("a\0b", "NUL"),
        ("\ud800", "half a character"),
        ("a\udcff", "half a character"),
        ("x" * 40_000, "has 40000 characters"),
        ("é" * 32_768 * 2, "characters"),
        ([], "not a list or object"),
        ({"value": "x"}, "not a list or object"),
        (["a; id"], "not a list or object"),
        (None, "is missing"),
        pytest.param(10**5000, "has 16610 bits", id="a very long number"),
    ],
)
def test_what_no_argument_can_hold_is_refused(value: Any, reason: str) -> None:
    """Before anything is started."""
    with pytest.raises(AttemptFailedError, match=reason) as caught:
        SPEC.render("c", {"value": value})

    assert (caught.value.code, caught.value.retryable) == ("invalid_arguments", False)
    assert len(str(caught.value)) < 1000


def test_an_item_the_kernel_would_not_take_is_refused() -> None:
    """Characters are not bytes, and an item may hold several values."""
    with pytest.raises(AttemptFailedError, match=r"item 1 of argv has 131072 bytes; the limit is 131071"):
        CommandSpec(argv=["p", "{a}{b}"]).render("c", {"a": "é" * 32_768, "b": "é" * 32_768})


@pytest.mark.anyio
async def test_arguments_that_are_too_long_together_are_refused() -> None:
    """And repeating would not help."""
    names = [f"v{number}" for number in range(60)]
    spec = CommandSpec(
        argv=["true", *(f"{{{name}}}" for name in names)],
        parameters={name: CommandParameter(max_length=131_000) for name in names},
    )

    error = await failure_of(CommandSystem({"c": spec}), a_request("c", dict.fromkeys(names, "x" * 131_000)))

    assert (error.code, error.retryable) == ("invalid_arguments", False)
    assert "its arguments are too long together" in str(error)


@pytest.mark.parametrize(
    "name", ["argv", "cwd", "env", "Value", "value ", "0", "__class__", "value\0", "-x", ""]
)
def test_an_argument_nobody_declared_is_refused(name: str) -> None:
    """Nothing of the declaration can be reached by a name."""
    with pytest.raises(AttemptFailedError, match="there is no argument"):
        SPEC.render("c", {"value": "x", name: "x"})


@given(st.text())
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_is_that_item_or_refused(value: str) -> None:
    """No third way."""
    argv = rendered(value)

    refused = "\0" in value or value.startswith("-") or any("\ud800" <= c <= "\udfff" for c in value)
    assert argv == (None if refused else ["p", value, f"x={value}"])


@given(st.one_of(st.integers(), st.floats(), st.text(), st.booleans()))
@settings(max_examples=100)
def test_a_whole_number_within_bounds_is_digits_or_refused(value: Any) -> None:
    """Whatever it was written as."""
    argv = rendered(value, type="integer", min=0, max=99)

    assert argv is None or (argv[1].isascii() and argv[1].isdigit() and 0 <= int(argv[1]) <= 99)


PARTS = st.lists(
    st.sampled_from(["..", ".", "", "sub", "out", "in", "loop", "x", "~", "*", "…", "-rf"]), max_size=8
)


@given(parts=PARTS, is_absolute=st.booleans())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_path_never_leaves_its_root(tmp_path: Path, parts: list[str], is_absolute: bool) -> None:
    """Whatever dots and links it is made of."""
    root = tmp_path / "root"
    if not root.exists():
        (root / "sub").mkdir(parents=True)
        (root / "out").symlink_to(tmp_path)
        (root / "in").symlink_to(root / "sub")
        (root / "loop").symlink_to("loop")
    value = ("/" if is_absolute else "") + "/".join(parts)

    argv = rendered(value, type="path", root=root)

    if argv is not None:
        assert Path(argv[1]).resolve() == Path(argv[1])
        assert Path(argv[1]).is_relative_to(root)
