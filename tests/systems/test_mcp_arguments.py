"""Arguments are checked before the call, and a stranger's schema decides nothing it could be hostile about."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.systems.mcp_arguments import refusal

SCHEMA = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "count": {"type": "integer", "minimum": 1},
        "deep": {"type": "object", "properties": {"on": {"type": "boolean"}}},
        "mode": {"enum": ["fast", "slow", 3]},
    },
    "required": ["path"],
    "additionalProperties": False,
}

BOMB = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/d0"}},
    "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {}},
}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "'path' is a required property"),
        ({"path": 5}, "`path`: 5 is not of type 'string'"),
        ({"path": "a", "count": "many"}, "`count`: 'many' is not of type 'integer'"),
        ({"path": "a", "count": 0}, "`count`: 0 is less than the minimum of 1"),
        ({"path": "a", "deep": {"on": 3}}, "`deep.on`: 3 is not of type 'boolean'"),
        ({"path": "a", "mode": "quick"}, "`mode`: 'quick' is not one of"),
        ({"path": "a", "pth": 1}, "('pth' was unexpected)"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_their_field(arguments: dict[str, Any], words: str) -> None:
    """With the parameters there are; repeating can't help, and nothing has run."""
    error = refusal("read", SCHEMA, arguments)

    assert error is not None
    assert (error.code, error.retryable, error.effect_open) == ("invalid_arguments", False, False)
    assert words in str(error)
    assert "Expected path (string, required), count (integer), deep (object), mode." in str(error)


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": "a"},
        {"path": "a", "count": "3"},
        {"path": "a", "deep": {"on": "true"}},
        {"path": "a", "deep": '{"on": true}'},
        {"path": "a", "mode": "FAST"},
        {"path": "a", "mode": "3"},
    ],
)
def test_what_many_servers_take_is_let_through(arguments: dict[str, Any]) -> None:
    """Numbers and truth values as text, names in capitals."""
    assert refusal("read", SCHEMA, arguments) is None


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {},
        {"properties": 5, "required": "a"},
        {"properties": {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}},
        {"properties": {"a": {"$ref": "file:///etc/passwd"}}},
        {"properties": {"a": {"pattern": "^(a+)+$"}}},
        {"properties": {}, "patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
        {"properties": {"a": {"$ref": "#/properties/a"}}},
        {"properties": {"a": {"description": "x" * 100_000, "type": "null"}}},
        BOMB,
    ],
)
@pytest.mark.timeout(10)
def test_a_schema_nobody_should_follow_refuses_nothing(schema: Any) -> None:
    """Nothing is fetched, no expression is run, nothing takes long: the server will check."""
    assert refusal("t", schema, {"a": "a" * 40 + "!"}) is None
