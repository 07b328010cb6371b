"""Answers are bounded, and cut only between lines."""

from __future__ import annotations

import json

import pytest

from orchestration.models import Json
from server.answers import (
    SHORT,
    as_text,
    clip,
    counts_line,
    cut_lines,
    middle_cut,
    plural,
    preview,
    seconds,
    take,
    tell,
)
from server.schemas import Answer, Call
from tests.server.conftest import text_of


def test_a_text_within_its_limit_is_only_put_on_one_line() -> None:
    """Line ends become spaces; nothing is lost."""
    assert clip("two\n  lines", 20) == "two lines"


def test_a_text_over_its_limit_ends_with_an_ellipsis_inside_the_limit() -> None:
    """The ellipsis counts."""
    assert clip("abcdefghij", 5) == "abcd…"


def test_lines_that_fit_are_all_shown() -> None:
    """Each line costs its length and a line end."""
    assert cut_lines(["aa", "bb"], 6, "elsewhere") == ["aa", "bb"]


def test_lines_that_do_not_fit_are_counted_with_a_handle() -> None:
    """What is left out is whole lines, and the last line says how many and where they are."""
    lines = [f"line {number}" for number in range(100)]

    kept = cut_lines(lines, 80, "orchestration://x")

    assert kept == [
        "line 0",
        "line 1",
        "line 2",
        "line 3",
        "line 4",
        "line 5",
        "… 94 more lines: orchestration://x",
    ]
    assert sum(len(line) + 1 for line in kept) <= 80


def test_one_line_left_out_is_said_in_the_singular() -> None:
    """Nothing is said about a place where there is none."""
    assert cut_lines(["short", "x" * 50], 25, "") == ["short", "… 1 more line"]


def test_items_are_taken_while_they_fit() -> None:
    """The first that does not fit ends the list: order is kept, nothing is skipped."""
    assert take([3, 3, 9, 1], size=lambda item: item, budget=7) == [3, 3]


def test_an_answer_begins_with_its_sentence_and_ends_with_what_is_next() -> None:
    """The calls of `next` are written as they are to be sent."""
    answer = Answer(message="All is well.", next=[Call(tool="get_metrics", arguments={"id": "x-1"})])

    result = tell(answer, ["state: completed"])

    assert text_of(result) == 'All is well.\nstate: completed\nnext: get_metrics({"id": "x-1"})'
    assert result.structured_content == {
        "message": "All is well.",
        "next": [{"tool": "get_metrics", "arguments": {"id": "x-1"}}],
    }


def test_an_answer_never_exceeds_its_limit_and_keeps_sentence_and_next() -> None:
    """Long lines in the middle give way."""
    answer = Answer(message="m" * 1_000, next=[Call(tool="get_metrics", arguments={})])

    text = text_of(tell(answer, ["x" * 100] * 100, rest="there"))

    assert len(text) <= SHORT
    assert text.startswith("mmm")
    assert text.endswith("more lines: there\nnext: get_metrics({})")


@pytest.mark.parametrize(
    ("value", "limit", "expected"),
    [
        ("short", 20, ("short", True)),
        ({"a": 1}, 20, ({"a": 1}, True)),
        ("first\nsecond\nthird", 15, ("first\nsecond…", False)),  # cut at the line end
        ("x" * 30, 10, ("x" * 10 + "…", False)),  # no line end to cut at
        (["a" * 10, "b" * 10], 14, ('[\n "aaaaaaaaaa…', False)),
    ],
)
def test_a_preview_is_the_value_or_its_first_part(
    value: Json, limit: int, expected: tuple[Json, bool]
) -> None:
    """A short value stays a value; of a long one the first lines are shown."""
    assert preview(value, limit) == expected


def test_a_value_in_a_line_is_text_or_json() -> None:
    """A text needs no quotes."""
    assert (as_text("a\nb"), as_text({"a": "ü"})) == ("a\nb", json.dumps({"a": "ü"}, ensure_ascii=False))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (90, "90 s"),
        (600, "10 min"),
        (9000, "2.5 h"),
        (1e300, "1.16e+295 days"),
    ],
)
def test_a_duration_is_told_in_the_unit_people_use(value: float, text: str) -> None:
    """Seconds up to two minutes, minutes up to two hours."""
    assert seconds(value) == text


def test_a_count_agrees_with_its_noun() -> None:
    """And thousands are grouped."""
    assert (plural(1, "task"), plural(2_000, "task")) == ("1 task", "2,000 tasks")


def test_no_counts_are_said_to_be_none() -> None:
    """An empty list of counts would look like a fault."""
    assert (counts_line({}), counts_line({"completed": 2, "failed": 1})) == (
        "counts: no tasks",
        "counts: completed 2, failed 1",
    )


def test_a_text_cut_in_the_middle_keeps_both_ends() -> None:
    """What is left out is counted; a short text is left as it is."""
    text = "begin" + "x" * 500 + "end"

    cut = middle_cut(text, 100)

    assert middle_cut("short", 100) == "short"
    assert len(cut) <= 100
    assert cut.startswith("begin")
    assert "\n… 448 characters …\n" in cut
    assert cut.endswith("end")
