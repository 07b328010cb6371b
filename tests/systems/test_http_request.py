"""Hostile arguments: whatever a task sends stays inside the place that a declaration gives it."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestration.errors import AttemptFailedError
from orchestration.systems.http import HttpSpec
from orchestration.systems.http_messages import HttpRequest
from orchestration.systems.http_request import render

KEY = "night-1:t:1"


def rendered(operation: dict[str, Any], arguments: dict[str, Any], **fields: Any) -> HttpRequest:
    """Return the request of one operation."""
    spec = HttpSpec.model_validate(
        {"base_url": "https://api.example.com/v1", "operations": {"op": operation}, **fields}
    )
    return render(spec, spec.operations["op"], "op", arguments, KEY)


def refusal(operation: dict[str, Any], arguments: dict[str, Any]) -> str:
    """Return the words with which arguments are refused."""
    with pytest.raises(AttemptFailedError) as caught:
        rendered(operation, arguments)
    assert (caught.value.code, caught.value.retryable, caught.value.effect_open) == (
        "invalid_arguments",
        False,
        False,
    )
    return str(caught.value)


SHOW: dict[str, Any] = {"path": "/users/{user}/show", "query": {"q": "{q}", "fixed": "yes"}}


@given(user=st.text(), q=st.text())
@example(user="..", q="a&admin=1#x")
@example(user="a/../../admin", q="x\r\nHost: evil")
@example(user="@evil.example", q="?q=2")
@example(user="a?b#c;d", q="%0d%0a")
def test_no_text_changes_more_than_its_own_value(user: str, q: str) -> None:
    """Host, scheme, method, headers and the structure of path and query stay as declared, or it is refused."""
    try:
        request = rendered(SHOW, {"user": user, "q": q})
    except AttemptFailedError as exc:
        if exc.code != "invalid_arguments":
            raise
        return

    path, _, query = request.target.partition("?")
    assert str(request.origin) == "https://api.example.com"
    assert request.declared_headers == {}
    assert sorted(request.headers) == ["Accept", "User-Agent"]
    assert re.fullmatch(r"/v1/users/[A-Za-z0-9%._~-]+/show", path)
    assert unquote(path) == f"/v1/users/{user}/show"
    assert parse_qsl(query, keep_blank_values=True) == [("q", q), ("fixed", "yes")]


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_a_value_in_a_body_is_that_value(value: Any) -> None:
    """Whatever it holds: quotes and braces never become structure, and placeholders in it are not filled."""
    operation = {"method": "POST", "body": {"a": ["{v}"], "b": 1}, "parameters": {"v": {"required": False}}}
    try:
        request = rendered(operation, {"v": value})
    except AttemptFailedError as exc:
        if "surrogate" not in str(exc):
            raise
        return

    assert json.loads(request.body or b"") == {"a": [] if value is None else [value], "b": 1}


@pytest.mark.parametrize(
    "user",
    [
        *(".", "..", "%2e%2e", "%252e%252E", "..;x=1", " .. ", "..%00"),
        *("../admin", "a/b", "a\\b", "..\\..", "%2fetc", "a%5Cb", "..%2f..%2fadmin"),
        *("a\r\nX: y", "a\nb", "a\0b", "a\x7fb", "a\x85b", "", "\ud800"),
    ],
)
def test_what_could_leave_its_place_in_a_path_is_refused(user: str) -> None:
    """Also what only a server that decodes twice, or takes a backslash for a slash, would misunderstand."""
    assert "argument" in refusal(SHOW, {"user": user, "q": "x"})


@pytest.mark.parametrize("user", ["..", "a/../b", "a/%2e%2e/b", "..\\b", "/.."])
def test_slashes_that_are_allowed_lead_nowhere_either(user: str) -> None:
    """`allow_slash` makes one segment of a value with slashes."""
    operation = {"path": "/files/{f}", "parameters": {"f": {"allow_slash": True}}}

    assert rendered(operation, {"f": "group/project"}).target == "/v1/files/group%2Fproject"
    assert "leads out of it" in refusal(operation, {"f": user})


def test_parts_of_a_segment_can_not_make_dots_together() -> None:
    """Each is harmless; the segment is what counts."""
    assert "leads out of it" in refusal({"path": "/{a}{b}/x"}, {"a": ".", "b": "."})
    assert rendered({"path": "/{a}.{b}"}, {"a": "x", "b": "json"}).target == "/v1/x.json"


@pytest.mark.parametrize(
    ("operation", "arguments", "said"),
    [
        (SHOW, {"user": "a", "q": "b", "qq": "c"}, "there is no argument 'qq' (did you mean 'q'?)"),
        (SHOW, {"user": "a"}, "argument 'q' is missing"),
        (SHOW, {"user": ["a"], "q": "b"}, "expected text, a number or true/false in the path"),
        (SHOW, {"user": "a", "q": {"b": 1}}, "expected text, a number or true/false in the query"),
        (SHOW, {"user": "a", "q": ["b", ["c"]]}, "expected text, a number or true/false in the query"),
        (SHOW, {"user": "a", "q": "a\0b"}, "argument 'q' holds a NUL character"),
        (SHOW, {"user": "a" * 40_000, "q": "b"}, "argument 'user' has 40000 characters; the limit is 32768"),
        (SHOW, {"user": "a", "q": "b", "Host": "evil"}, "there is no argument 'Host'"),
        (
            {"method": "POST", "body": "arguments", "max_request_bytes": 10},
            {"a": "x" * 9},
            "the body has 17 bytes",
        ),
    ],
)
def test_a_refusal_names_the_argument_and_what_was_expected(
    operation: dict[str, Any], arguments: dict[str, Any], said: str
) -> None:
    """For whoever wrote the task, often a language model."""
    assert said in refusal(operation, arguments)


@pytest.mark.parametrize(
    ("parameter", "value", "said"),
    [
        ({"type": "integer"}, 1.5, "expected a whole number"),
        ({"type": "integer"}, True, "expected a whole number"),
        ({"type": "integer"}, "9" * 5_000, "expected a whole number"),
        ({"type": "number"}, "nan", "expected a number"),
        ({"type": "number"}, float("inf"), "expected a number that JSON has"),
        ({"type": "string"}, 1, "expected text"),
        ({"type": "boolean"}, "true", "expected true or false"),
        ({"type": "array"}, {}, "expected a list"),
        ({"type": "object"}, [], "expected an object"),
        ({"choices": [1, "a"]}, True, "expected one of 1, 'a'"),
        ({"minimum": 1, "maximum": 5}, 0, "expected at least 1"),
        ({"minimum": 1, "maximum": 5}, 6, "expected at most 5"),
        ({"pattern": "[a-z]+"}, "ab\n", "expected text that matches '[a-z]+'"),
        ({"max_length": 3}, [1, 2], "has 5 characters; the limit is 3"),
    ],
)
def test_a_parameter_is_typed_and_bounded(parameter: dict[str, Any], value: Any, said: str) -> None:
    """Numbers written as text are numbers; nothing else changes its type."""
    operation = {"method": "POST", "body": "{v}", "parameters": {"v": parameter}}

    assert said in refusal(operation, {"v": value})
    assert rendered({**operation, "parameters": {"v": {"type": "integer"}}}, {"v": "7"}).body == b"7"
