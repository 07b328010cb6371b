"""Schemas that somebody else wrote: they are right about values, and can do no harm."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from orchestration import json_schemas
from orchestration.json_schemas import check_schema, schema_fault

pytestmark = pytest.mark.anyio

BACK_AND_FORTH = "^(a+)+$"
ENDLESS = "a" * 40 + "!"


@pytest.mark.parametrize(
    ("schema", "value", "told"),
    [
        ({"type": "object", "required": ["n"]}, {}, "'n' is a required property"),
        ({"properties": {"n": {"minimum": 3}}}, {"n": 1}, "n: 1 is less than the minimum of 3"),
        (
            {"additionalProperties": False, "properties": {"a": {}}},
            {"a": 1, "b": 2},
            "further properties: 'b'",
        ),
        ({"additionalProperties": {"type": "string"}}, {"b": 2}, "b: 2 is not of type 'string'"),
        ({"patternProperties": {"^x": {"type": "string"}}}, {"x1": 2}, "x1: 2 is not of type 'string'"),
        (
            {"patternProperties": {"^x": {}}, "additionalProperties": False},
            {"y": 2},
            "further properties: 'y'",
        ),
        ({"pattern": "^b"}, "abc", "does not match"),
        ({"uniqueItems": True}, [1, {"a": 1}, {"a": 1}], "not all different"),
        ({"$ref": "https://example.org/elsewhere"}, 1, "can't be applied"),
        ({"$ref": "#"}, 1, "can't be applied"),
    ],
)
async def test_what_does_not_fit_is_told_with_its_place(
    schema: dict[str, Any], value: Any, told: str
) -> None:
    assert told in (await schema_fault(schema, value) or "")


async def test_what_fits_passes() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "patternProperties": {"^x": {"type": "string"}},
        "additionalProperties": False,
    }
    assert await schema_fault(schema, {"n": 1, "x1": "a"}) is None
    assert await schema_fault({"uniqueItems": True}, [1, 2, [1], [2]]) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"patternProperties": {BACK_AND_FORTH: {}}, "additionalProperties": False},
        {"propertyNames": {"pattern": BACK_AND_FORTH}},
    ],
)
async def test_an_expression_that_goes_back_and_forth_for_ever_ends(schema: dict[str, Any]) -> None:
    with anyio.fail_after(10):
        assert await schema_fault(schema, {ENDLESS: 1}) is not None


def test_what_could_not_be_checked_safely_is_refused_beforehand() -> None:
    refused = check_schema({"patternProperties": {BACK_AND_FORTH: {}}, "unevaluatedProperties": False})
    assert refused is not None
    assert "unevaluatedProperties" in refused
    assert check_schema({"type": 5}) is not None
    assert check_schema({"unevaluatedProperties": False, "properties": {"a": {}}}) is None


async def test_a_schema_that_asks_for_endless_work_is_given_up_with_its_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_schemas, "CHECK_SECONDS", 0.2)
    schema: dict[str, Any] = {"$defs": {"d0": {"type": "null"}}, "$ref": "#/$defs/d40"}
    for depth in range(1, 41):
        below = {"$ref": f"#/$defs/d{depth - 1}"}
        schema["$defs"][f"d{depth}"] = {"anyOf": [below, below]}
    ended: list[threading.Event] = []
    real = json_schemas._fault

    def watched(schema: Any, value: Any, event: threading.Event) -> str | None:
        done = threading.Event()
        ended.append(done)
        try:
            return real(schema, value, event)
        finally:
            done.set()

    monkeypatch.setattr(json_schemas, "_fault", watched)
    with anyio.fail_after(10):
        assert await schema_fault(schema, 1) == "it could not be checked within 0.2 s"
        assert await anyio.to_thread.run_sync(ended[0].wait, 5), (
            "the check goes on although nobody waits for it"
        )
