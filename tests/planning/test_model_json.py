"""A JSON object is read while it is written: each element as soon as it is whole, and none before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.planning.model_json import ItemReader, read_object


def read(text: str, cut: int) -> list[tuple[str, Any]]:
    reader = ItemReader()
    return [item for place in range(0, len(text), cut) for item in reader.feed(text[place : place + cut])]


def test_an_element_is_found_with_its_last_character() -> None:
    """Neither earlier nor with the next one."""
    reader = ItemReader()

    assert reader.feed('{"thoughts": ["one", {"text": "tw') == [("thoughts", "one")]
    assert reader.feed('o"') == []
    assert reader.feed("}") == [("thoughts", {"text": "two"})]
    assert reader.feed('], "tasks": [{"task_id": "a", "depends_on": ["x", "y"]}') == [
        ("tasks", {"task_id": "a", "depends_on": ["x", "y"]})
    ]


def test_what_looks_like_structure_inside_a_text_is_text() -> None:
    """Braces, brackets, quotes and backslashes."""
    task = {"description": 'a "quoted" ] } , \\ { [ "tasks": ['}

    assert read(json.dumps({"tasks": [task]}), 1) == [("tasks", task)]


@pytest.mark.parametrize("text", ["", "prose", "[1]", '{"tasks": [}', '"x"', '{"a": ["b"}, "tasks": ["c"]'])
def test_what_is_no_object_gives_nothing_more(text: str) -> None:
    """And raises nothing: whoever has the whole text says what is wrong."""
    assert [name for name, _ in read(text, 3) if name == "tasks"] == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(
    document=st.dictionaries(st.text(max_size=5), st.lists(VALUES, max_size=4) | VALUES, max_size=4),
    cut=st.integers(1, 9),
    is_ascii=st.booleans(),
)
def test_however_it_is_cut_the_elements_are_the_same(
    document: dict[str, Any], cut: int, is_ascii: bool
) -> None:
    """Every text, object and list that is an element of a member that is a list, in order."""
    text = json.dumps(document, ensure_ascii=is_ascii)

    expected = [
        (name, item)
        for name, items in document.items()
        if isinstance(items, list)
        for item in items
        if isinstance(item, str | dict | list)
    ]

    assert read(text, cut) == expected


@pytest.mark.parametrize("text", ['{"a": 1}', '\n {"a": 1} ', '```json\n{"a": 1}\n```'])
def test_an_object_is_read_alone_or_in_a_fence(text: str) -> None:
    """Models like fences."""
    assert read_object(text) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I would begin with the oven.", "it is prose, and no call of `send_plan`"),
        ("", "it is empty"),
        ("[]", "it is a list; expected an object"),
        ('{"a": [', "it is no valid JSON (Expecting value at character 8 of 7)"),
        ("{" * 100_000, "it is no valid JSON"),
        ('{"a":' * 100_000, "it nests too deeply"),
    ],
)
def test_what_is_no_object_is_told(text: str, reason: str) -> None:
    """In words for whoever wrote it."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        read_object(text)

    assert str(refused.value).startswith(reason)
