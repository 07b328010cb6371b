"""An output is read in parts that fit, cut at lines, without losing or repeating anything."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.errors import InvalidArgumentError
from orchestration.models import Json
from server.reading import LINE_SHOWN, ROOM, as_read, at_path, last_window, outline, search, shape, window

TABLE: Json = {"rows": [{"name": "a", "odd key": 1}, {"name": "b"}], "none": None, "0": "zero"}


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("as\nit is", "as\nit is"),
        ({"text": "what it wrote\n", "exit_code": 0}, "what it wrote\n"),
        ({"a": "ü"}, '{\n "a": "ü"\n}'),
        (None, "null"),
    ],
)
def test_an_output_is_read_as_text(output: Json, text: str) -> None:
    """A text as it is, what a command wrote, anything else as JSON."""
    assert as_read(output) == text


def test_a_window_ends_after_a_line_and_says_where_to_go_on() -> None:
    """Cut at a line only where that keeps most of what there is room for."""
    text = "first line\nsecond line\nthird line\n"

    shown = window(text, 0, 25)

    assert (shown.text, shown.next_offset, shown.total) == ("first line\nsecond line\n", 23, len(text))
    assert window(text, 23, 100).next_offset is None
    assert window("x" * 100, 0, 30).text == "x" * 30
    assert (window(text, 999, 10).text, window(text, 999, 10).next_offset) == ("", None)


def test_the_last_window_begins_with_a_line() -> None:
    """The end of a log, without half a line before it."""
    text = "first line\nsecond line\nthird line\n"

    assert last_window(text, 14).text == "third line\n"
    assert last_window(text, 1000).text == text
    assert last_window("x" * 100, 30).text == "x" * 30


@given(st.text(max_size=400), st.integers(min_value=1, max_value=60))
def test_windows_one_after_the_other_are_the_whole(text: str, max_chars: int) -> None:
    """Nothing is lost between them and nothing repeated, whatever the text and the size."""
    parts, offset = [], 0
    while True:
        shown = window(text, offset, max_chars)
        assert len(shown.text) <= max_chars
        parts.append(shown.text)
        if shown.next_offset is None:
            break
        assert shown.next_offset > offset
        offset = shown.next_offset

    assert "".join(parts) == text


@pytest.mark.parametrize("text", ["\x01" * 50_000, "\n" * 50_000, '"' * 50_000, "ü\\" * 30_000, "a" * 50_000])
def test_a_window_of_any_text_fits(text: str) -> None:
    """Escapes and marks count: a text of control characters takes six times its length as JSON."""
    for shown in (window(text, 0, 20_000), last_window(text, 20_000)):
        assert 0 < len(json.dumps(shown.text, ensure_ascii=False)) <= ROOM
        assert sum(len(line) + 3 for line in shown.text.split("\n")) <= ROOM


def test_a_search_gives_lines_with_their_numbers_in_any_case() -> None:
    """All that are found are counted; what does not fit is where the next search begins."""
    text = "\n".join(["Error: one", "fine", "an ERROR: two", "fine", "error: three"])

    found = search(text, "error", 0, 1000)
    first = search(text, "error", 0, 15)
    rest = search(text, "error", first.next_line or 0, 1000)

    assert found.text == "1: Error: one\n3: an ERROR: two\n5: error: three"
    assert (found.total, found.first, found.next_line) == (3, 1, None)
    assert (first.text, first.total, first.next_line) == ("1: Error: one", 3, 3)
    assert rest.text == "3: an ERROR: two\n5: error: three"
    assert (search(text, "nowhere", 0, 100).text, search(text, "nowhere", 0, 100).total) == ("", 0)


def test_of_a_long_line_what_stands_around_the_hit_is_shown() -> None:
    """A JSON document on one line may have megabytes."""
    found = search("a" * 5_000 + "needle" + "b" * 5_000, "needle", 0, 4_000)

    assert "needle" in found.text
    assert found.text.startswith("1: …a")
    assert found.text.endswith("b…")
    assert len(found.text) <= LINE_SHOWN + 10


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("rows[0].name", "a"),
        ("rows[1]", {"name": "b"}),
        ('rows[0]["odd key"]', 1),
        (".rows[1].name", "b"),
        ("none", None),
        ("0", "zero"),
    ],
)
def test_a_path_leads_to_a_value(path: str, value: Json) -> None:
    """Keys with dots between, indexes and odd keys in brackets."""
    assert at_path(TABLE, path) == value


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("rows[2].name", "expected a path that is there; at rows there is a list of 2 items."),
        ("row", "expected a path that is there; at the top there is an object with 3 keys: rows, none, 0."),
        ("rows[0].name.first", "at rows[0].name there is a text of 1 character in 1 line."),
        ("none.x", "at none there is null."),
        ("rows[-1]", 'expected a path such as rows[0].name. Fix: odd keys: ["odd key"].'),
        ("rows..name", "expected a path such as rows[0].name."),
        ('rows["\\ud800"]', "at rows there is a list of 2 items."),
    ],
)
def test_a_path_that_leads_nowhere_says_what_there_is(path: str, told: str) -> None:
    """So that the next try is right."""
    with pytest.raises(InvalidArgumentError) as caught:
        at_path(TABLE, path)

    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({}, "an empty object"),
        ({str(n): n for n in range(25)}, "an object with 25 keys: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, "),
        ([1], "a list of 1 item"),
        ("a\nb", "a text of 3 characters in 2 lines"),
        (True, "true"),
        (1.5, "the number 1.5"),
        (None, "null"),
    ],
)
def test_a_value_is_told_by_its_shape(value: Json, told: str) -> None:
    """What it is before what is in it."""
    assert shape(value).startswith(told)


def test_an_outline_has_a_line_per_key_or_the_first_items() -> None:
    """A text has none."""
    assert outline({"rows": [1, 2], "name": "x"}) == [
        "rows: a list of 2 items",
        "name: a text of 1 character in 1 line",
    ]
    assert outline([1, [2], {}, 4]) == ["[0]: the number 1", "[1]: a list of 1 item", "[2]: an empty object"]
    assert outline("text") == ()


def test_content_that_is_no_text_is_read_in_one_line() -> None:
    """Nobody wants to read a picture; its data is there under its path."""
    block: Json = {
        "type": "image",
        "mimeType": "image/png",
        "size": 5,
        "sha256": "2cf24dba5fb0a30e",
        "data": "aGVsbG8=",
    }
    output: Json = {"text": "see", "content": [block]}

    assert '"[image image/png, 5 bytes, sha256 2cf24dba5fb0]"' in as_read(output)
    assert as_read(at_path(output, "content[0].data")) == "aGVsbG8="
