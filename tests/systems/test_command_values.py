"""What may stand in place of one placeholder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from orchestration.systems.command import CommandParameter, CommandSpec, CommandSystem
from orchestration.systems.command_values import text_of
from tests.systems.support import a_request, failure_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a file, a folder, and links that stay inside, lead outside and go in a circle."""
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_text("x")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "root-2").mkdir()
    (folder / "inside").symlink_to("sub")
    (folder / "outside").symlink_to(tmp_path)
    (folder / "circle").symlink_to("circle")
    return folder


def a_path(root: Path, **fields: Any) -> CommandParameter:
    return CommandParameter(type="path", root=root, **fields)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("file", "file"),
        ("sub/../file", "file"),
        ("inside/new", "sub/new"),
        ("not there", "not there"),
        (".", ""),
        ("-rf", "-rf"),
        ("~/x", "~/x"),
        ("$HOME", "$HOME"),
    ],
)
def test_a_path_inside_its_root_becomes_the_resolved_path(root: Path, value: str, expected: str) -> None:
    """A relative value starts at the root; nothing in it is expanded."""
    assert text_of("x", value, a_path(root)) == str(root / expected)
    assert text_of("x", str(root / value), a_path(root)) == str(root / expected)


@pytest.mark.parametrize(
    "value",
    [
        "..",
        "../secret",
        "sub/../../secret",
        "outside/secret",
        "outside",
        "/etc/passwd",
        "../root-2",
        "../root-2/x",
    ],
)
def test_a_path_that_leads_outside_is_refused(root: Path, value: str) -> None:
    """By dots, by a link, as an absolute path, or into a folder whose name only begins the same."""
    with pytest.raises(
        ValueError, match=r"^argument 'x' is '.*', which leads outside; expected a path inside '.*/root'$"
    ):
        text_of("x", value, a_path(root))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "expected a path without control characters"),
        ("a\nb", "expected a path without control characters"),
        ("a\x1b[2J", "expected a path without control characters"),
        ("a\0b", "holds a NUL character"),
        ("circle", "a circle of symbolic links"),
        ("x" * 300, "which can't be looked at: File name too long"),
        (7, "is 7; expected a path"),
        ("\udc80", "holds half a character"),
    ],
)
def test_what_is_no_path_is_refused(root: Path, value: Any, expected: str) -> None:
    """With the reason."""
    with pytest.raises(ValueError, match=expected):
        text_of("x", value, a_path(root))


def test_a_path_that_must_exist_has_to(root: Path) -> None:
    """A folder does as well as a file."""
    assert text_of("x", "file", a_path(root, must_exist=True)) == str(root / "file")
    assert text_of("x", "sub", a_path(root, must_exist=True)) == str(root / "sub")
    for missing in ("new", "file/below"):
        with pytest.raises(ValueError, match="expected something that exists, and there is no"):
            text_of("x", missing, a_path(root, must_exist=True))


def test_a_missing_root_is_told(tmp_path: Path) -> None:
    """It is a mistake of the declaration, not of the value."""
    with pytest.raises(ValueError, match=r"there is no folder '.*/gone' \(its `root`\)"):
        text_of("x", "file", a_path(tmp_path / "gone"))


def test_a_root_that_is_a_link_is_what_it_leads_to(root: Path, tmp_path: Path) -> None:
    """Both sides are resolved before they are compared."""
    (tmp_path / "link").symlink_to(root)

    assert text_of("x", "file", a_path(tmp_path / "link")) == str(root / "file")


@pytest.mark.parametrize(
    ("fields", "value", "expected"),
    [
        ({"type": "integer", "min": 1}, 0, "argument 'x' is 0; expected at least 1"),
        ({"type": "integer", "max": 5}, "6", "argument 'x' is 6; expected at most 5"),
        ({"type": "number", "max": 0.5}, 0.75, "argument 'x' is 0.75; expected at most 0.5"),
        ({"type": "number"}, "nan", "argument 'x' is 'nan'; expected a number"),
        ({"type": "number"}, float("inf"), "argument 'x' is inf; expected a number"),
        ({"type": "number"}, "1e999", "argument 'x' is '1e999'; expected a number"),
        ({"type": "integer"}, "1_000", "argument 'x' is '1_000'; expected a whole number"),
        ({"type": "integer"}, "１２", "argument 'x' is '１２'; expected a whole number"),
        ({"type": "integer"}, "5\n", r"argument 'x' is '5\\n'; expected a whole number"),
        (
            {"type": "string", "pattern": "[a-z]+"},
            "a\n",
            r"argument 'x' is 'a\\n'; expected text that matches '\[a-z\]\+' as a whole",
        ),
    ],
)
def test_a_value_out_of_bounds_is_refused(fields: dict[str, Any], value: Any, expected: str) -> None:
    """With the field, the value and what was expected."""
    with pytest.raises(ValueError, match=f"^{expected}$"):
        text_of("x", value, CommandParameter(**fields))


@pytest.mark.parametrize(
    ("fields", "value", "expected"),
    [
        ({"type": "integer", "min": 1, "max": 5}, 5, "5"),
        ({"type": "integer"}, "12", "12"),
        ({"type": "integer"}, 3.0, "3"),
        ({"type": "number", "min": -1.5}, "-1.5", "-1.5"),
        ({"type": "string", "pattern": "a|ab"}, "ab", "ab"),
    ],
)
def test_a_value_within_its_bounds_is_taken(fields: dict[str, Any], value: Any, expected: str) -> None:
    """The bounds themselves belong to it."""
    assert text_of("x", value, CommandParameter(**fields)) == expected


def test_a_pattern_that_takes_for_ever_refuses_the_value() -> None:
    """What an LLM sends can't hold up the server."""
    parameter = CommandParameter(type="string", pattern=r"(\w|\w\w)+$(?<=!)")

    with pytest.raises(ValueError, match=r"could not be checked within 0\.25 s"):
        text_of("x", "a" * 60, parameter)


def test_a_number_with_too_many_digits_is_refused() -> None:
    """Python itself would decline to write it out."""
    with pytest.raises(ValueError, match=r"argument 'x' has 16610 bits; expected a number of at most 4096"):
        text_of("x", 10**5000, CommandParameter(type="integer"))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"type": "path"}, "a path needs a `root`"),
        ({"root": "/srv"}, "`root` and `must_exist` go with `type: path`"),
        ({"type": "string", "must_exist": True}, "`root` and `must_exist` go with `type: path`"),
        ({"type": "string", "min": 1}, "`min` and `max` go with `type: integer`"),
        ({"type": "integer", "min": 2, "max": 1}, "`min` is 2, more than `max`, 1"),
        ({"pattern": "a"}, "`pattern` goes with `type: string`"),
        ({"type": "string", "pattern": "("}, r"`pattern` is '\(', which is no regular expression"),
        (
            {"type": "integer", "min": 2, "default": 1},
            "`default` could never be used: argument 'default' is 1",
        ),
    ],
)
def test_details_that_do_not_fit_the_type_are_refused(fields: dict[str, Any], expected: str) -> None:
    """When the configuration is read, not when a task comes."""
    with pytest.raises(ValidationError, match=expected):
        CommandParameter(**fields)


def test_the_schema_tells_the_bounds(root: Path) -> None:
    """So that whoever fills it in can keep to them."""
    parameters = {
        "n": CommandParameter(type="integer", min=1, max=5),
        "s": CommandParameter(type="string", pattern="a|b"),
        "p": a_path(root),
    }
    schema = CommandSpec(argv=["x", "{n}", "{s}", "{p}"], parameters=parameters).json_schema()

    jsonschema.validate({"n": 5, "s": "b", "p": "file"}, schema)
    for wrong in ({"n": 6}, {"n": 0}, {"s": "ab"}, {"p": 7}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"n": 1, "s": "a", "p": "file", **wrong}, schema)
    assert schema["properties"]["p"]["description"] == f"A path inside {root}."


@pytest.mark.anyio
async def test_a_command_is_given_the_resolved_path(root: Path) -> None:
    """What was checked is what is used; a refusal names the command."""
    system = CommandSystem({"c": CommandSpec(argv=["echo", "{p}"], parameters={"p": a_path(root)})})

    output: Any = await system.execute(a_request("c", {"p": "inside/../sub"}))
    error = await failure_of(system, a_request("c", {"p": "outside/secret"}))

    assert output["text"] == f"{root / 'sub'}\n"
    assert (error.code, error.retryable) == ("invalid_arguments", False)
    assert str(error).startswith(
        "Command 'c' can't be run like this: argument 'p' is 'outside/secret', which leads"
    )


@pytest.mark.anyio
async def test_a_check_names_a_missing_root(tmp_path: Path) -> None:
    """Before the first task needs it."""
    spec = CommandSpec(argv=["echo", "{p}"], parameters={"p": a_path(tmp_path / "gone")})

    health = await CommandSystem({"c": spec}).check()

    assert (health.ok, health.detail) == (
        False,
        f"missing: folder '{tmp_path / 'gone'}' (command 'c', root of 'p')",
    )
