"""Conditions and references: what they mean, and that nothing they are given can hang or mislead."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.cel_syntax import read
from orchestration.errors import ConditionError, ReferenceResolutionError
from orchestration.expressions import (
    MAX_CONDITION_CHARS,
    Reference,
    compile_condition,
    edge_delivers,
    has_references,
    references_in,
    resolve_references,
    whole_reference,
)
from orchestration.models import Json


def holds(source: str, output: Json = None, status: str = "completed", **context: Json) -> bool:
    """Evaluate a condition."""
    return compile_condition(source).holds(output=output, status=status, context=context)


# --- Conditions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "output", "expected"),
    [
        ("output.rows > 0", {"rows": 3}, True),
        ("output.rows > 0", {"rows": 0.5}, True),  # an int literal against a float
        ("output.rows > 0", {"rows": 0}, False),
        ("output.score >= 0.5", {"score": 1}, True),  # a float literal against an int
        ("output.rows == 1.0", {"rows": 1}, True),
        ("output.rows in [1.0, 2]", {"rows": 2}, True),
        ("output.big > 9223372036854775807", {"big": 2**70}, True),
        ("has(output.x)", {}, False),
        ("has(output.x) && output.x > 1", {}, False),
        ("output.x == null", {"x": None}, True),
        ("output == null", None, True),
        ('output["a key"] == "äö"', {"a key": "äö"}, True),
        ("output[0].name == 'a'", [{"name": "a"}], True),
        ("size(output) == 2", [1, 2], True),
        ("'b' in output", {"b": 1}, True),
        ("output.rows.all(r, r.ok)", {"rows": [{"ok": True}, {"ok": False}]}, False),
        ("output.rows.exists(r, r > context.least)", {"rows": [1, 5]}, True),
        ("output.filter(x, x > 1).map(x, x * 2) == [4, 6]", [1, 2, 3], True),
        ("output.matches('^a+$')", "aaa", True),
        ("output.startsWith('a') && !output.endsWith('b')", "ac", True),
        ("type(output) == list", [], True),
        ("context.least == 3 // a comment: status", None, True),
    ],
)
def test_a_condition_sees_json_as_a_reader_would(source: str, output: Json, *, expected: bool) -> None:
    """Numbers compare whatever their kind; keys, lists, macros and tests for presence work."""
    assert holds(source, output, least=3) is expected


def test_a_condition_knows_whether_it_names_the_status() -> None:
    """Only the variable counts: not a field of that name, not a text, not a comment, not a macro's variable."""
    assert compile_condition('status == "failed"').names_status
    assert compile_condition("[1].all(x, status == 'failed')").names_status
    for source in (
        'output.status == "failed"',
        'output == "status"',
        "true // status",
        "output.all(status, status > 1)",
        "output['status'] == 1",
        "output == r'\\' && output == 'status'",
    ):
        assert not compile_condition(source).names_status, source


@pytest.mark.parametrize(
    ("condition", "status", "expected"),
    [
        (None, "completed", True),
        (None, "failed", False),
        (None, "skipped", False),
        ("output.ok", "completed", True),
        ("output.ok", "failed", False),  # never evaluated: there is no output
        ("output.no", "completed", False),
        ('status == "failed"', "failed", True),
        ('status == "failed"', "completed", False),
        ('status in ["failed", "skipped"]', "skipped", True),
    ],
)
def test_an_edge_delivers_by_the_rules(condition: str | None, status: str, *, expected: bool) -> None:
    """No condition: completed. One that does not name the status: completed, and it holds. Else it alone."""
    output: Json = {"ok": True, "no": False} if status == "completed" else None

    assert edge_delivers(condition, output=output, status=status, context={}) is expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 +", "'1 +': column 4: mismatched input '<EOF>'"),
        ("output.a ==\n= 1", "line 2, column 1: token recognition error at: '= '"),
        ("", "is empty; expected a CEL expression. Fix: leave the condition out."),
        ("output.n == 99999999999999999999", "column 13: invalid int literal"),
        ("true &&\n  nope", "line 2, column 3: unknown variable 'nope'"),
        ("rows > 0", "column 1: unknown variable 'rows'; there are output, status, context."),
        ("true || outptu.x", ("column 9: unknown variable 'outptu'; there are output, status, context. "
         "Did you mean 'output'?")),
        (".output == 1", "column 2: unknown variable '.output'; there are output, status, context."),
        ("output.all(x, y > 1)", "column 15: unknown variable 'y'"),
        ("output.all(x, x > 1) && x", "column 25: unknown variable 'x'"),
        ("now() > 1", "column 1: unknown function 'now'; there are bool, "),
        ("output.start_with('a')", "column 8: unknown method 'start_with'; there are all, "),
        ("math.greatest(1, 2) == 2", "column 1: unknown variable 'math'"),
        ("status.exists(a, status.exists(b, status.exists(c, status.exists(d, a == d))))",
         "nests macros 4 deep; at most 3 are allowed."),
        ('[["a"]]' + ".map(x, x + x)" * 30 + " == []", "could take more than 20,000,000 steps whatever"),
        ("true" + " " * MAX_CONDITION_CHARS, "has 2,004 characters; at most 2,000 are allowed."),
    ],
)  # fmt: skip
def test_a_wrong_condition_is_refused_when_it_is_compiled(source: str, message: str) -> None:
    """Syntax, unknown names and what could not end are found without any output, with the column."""
    with pytest.raises(ConditionError) as caught:
        compile_condition(source)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("output.rows", {"rows": 3}, "answered 3; expected true or false. Fix: compare it: `output.rows > 0`."),
        ("output.rows > 0", {}, "the value has no key 'rows'. Fix: guard it, as in `has(output.key) && …`."),
        ("output.rows > 0", None, ("an operation does not fit its values' types (null is no number; int and "
         "double do not add up). Fix: check for null, convert with double(), int() or string().")),
        ("output.rows * 2 > 1", {"rows": 0.5}, "int and double do not add up"),
        ("output[3] == 1", [1], "index out of bounds: 3"),
        ("1 / output == 1", 0, "division by zero"),
        ("output + 1 > 0", 2**63 - 1, "overflow"),
        ("output.matches('(')", "a", "not a valid regex"),
        ("int(output) == 1", "x", "Function 'int' error"),
        ("output == 'a'", "\ud800", "Failed to convert"),
    ],
)  # fmt: skip
def test_a_condition_that_raises_says_why(source: str, output: Json, message: str) -> None:
    """Every fault of an evaluation is a ConditionError in words a reader can act on."""
    with pytest.raises(ConditionError) as caught:
        holds(source, output)

    assert message in str(caught.value)
    assert caught.value.code == "condition_error"


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("output.all(x, output.all(y, output.all(z, x == y)))", list(range(1000))),
        ("output.map(x, output).size() > 0", list(range(1000))),
        ("output.map(x, x).size() > 0", list(range(20_000))),
        ("output.x.all(x, output.x[0] == 0)", {"x": list(range(20_000))}),
        ("size(" + "+".join(["output"] * 100) + ") > 0", list(range(10_000))),
        (r"output.all(x, x.matches('(\\w{50}){9}') || true)", ["a"] * 100),
        ("output.p.all(x, x.matches(output.q) || true)", {"p": ["a"] * 100, "q": "(\\w{50}){9}"}),
        ("output.map(x, [x, x, x, x]).map(x, x + x).map(x, x + x + x).size() > 0", list(range(300))),
    ],
)
def test_a_condition_that_would_take_minutes_is_refused_before_it_runs(source: str, output: Json) -> None:
    """Nested macros, copied lists and costly patterns are counted; the evaluation never begins."""
    with pytest.raises(ConditionError) as caught:
        holds(source, output)

    assert "steps on this output; at most 20,000,000 are allowed. Fix: prefer" in str(caught.value)


def test_ordinary_work_over_a_large_output_is_allowed() -> None:
    """Linear conditions over tens of thousands of rows pass."""
    rows: list[Json] = [{"value": number, "name": "row", "ok": True} for number in range(30_000)]

    assert holds("output.rows.all(r, r.ok && r.value >= 0)", {"rows": rows, "least": 0})
    assert holds("output.rows.exists(r, r.value > output.least)", {"rows": rows, "least": 5})
    assert holds("output.map(x, x + 1).exists(x, x == 5)", list(range(2_000)))


_NAMES = st.sampled_from(
    ["output", "status", "context", "output.status", "context.a.b", "x.y", "'status'", '"a"']
)


@given(st.recursive(
    _NAMES,
    lambda inner: st.one_of(
        st.builds("({} == {})".format, inner, inner),
        st.builds("{}.map(x, {})".format, st.sampled_from(["output", "[status]", "context.rows"]), inner),
        st.builds("[{}, {}].all(y, {} in [y])".format, inner, inner, inner),
        st.builds("size({}) > 1".format, inner),
    ),
    max_leaves=6,
))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_reading_finds_the_same_names_as_the_library(source: str) -> None:
    """Our reading of the tokens and the library's parser agree on the variables of an expression."""
    from orchestration.expressions import _cel

    theirs = set(_cel().compile(source).variables()) - {"x", "y"}

    assert {use.name for use in read(source).variables} - {"x", "y"} == theirs


def test_the_command_line_of_the_cel_package_is_never_imported() -> None:
    """Compiling a condition loads the extension module alone: start-up time is a feature."""
    code = (
        "import sys; from orchestration.expressions import compile_condition as c; "
        "assert c('output.a > 1').holds(output={'a': 2}, status='completed', context={}); "
        "assert not {'cel.cli', 'typer', 'prompt_toolkit'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- References ---------------------------------------------------------------------------------------------


OUTPUTS: dict[str, Json] = {
    "extract": {
        "path": "/data",
        "rows": [{"n": 1}, {"n": 2.5}],
        "none": None,
        "a-b": {"c_d": True},
        "0": "zero",
    },
    "list~2": [10, 20],
    "word": "hello",
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${extract.path}", "/data"),
        ("${extract.rows[1].n}", 2.5),
        ("${extract.rows}", [{"n": 1}, {"n": 2.5}]),
        ("${extract.a-b.c_d}", True),
        ("${extract.0}", "zero"),
        ("${extract.none}", None),
        ("${list~2[1]}", 20),
        ("${word}", "hello"),
        ("${ word }", "hello"),
        ("say ${word}!", "say hello!"),
        ("n=${extract.rows[0].n} all=${extract.rows} ok=${extract.a-b.c_d} none=${extract.none}",
         'n=1 all=[{"n":1},{"n":2.5}] ok=true none=null'),
        ("${word}${word}", "hellohello"),
        ("costs $${word} $5 and {x}", "costs ${word} $5 and {x}"),
        ("$${", "${"),
        ("${gone}", None),
        ("${gone.path[0]}", None),
        ("a ${gone.path} b", "a  b"),
        ({"deep": [{"er": "${word}"}, "${gone}"]}, {"deep": [{"er": "hello"}, None]}),
        ({"plain": [1, None, True, "text"]}, {"plain": [1, None, True, "text"]}),
    ],
)  # fmt: skip
def test_references_are_replaced(value: Json, expected: Json) -> None:
    """A whole string keeps the type, a text takes text, what delivered nothing is null or empty."""
    assert resolve_references(value, OUTPUTS) == expected


def test_a_replaced_value_is_never_read_again() -> None:
    """An output that looks like a reference stays what it is: data can't reach other outputs."""
    assert resolve_references("${a} and ${a}", {"a": "${b}", "b": "secret"}) == "${b} and ${b}"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("${extract.rws}", ("'${extract.rws}': the output of task 'extract' has no 'rws' at extract; "
         "there is an object with path, rows, none, a-b, 0.")),
        ("x ${extract.rows[7].n}", "has no 7 at extract.rows; there is a list of 2."),
        ("${extract.path.x}", "has no 'x' at extract.path; there is '/data'."),
        ("${extract.rows.n}", "has no 'n' at extract.rows; there is a list of 2."),
        ("${extract.path[0]}", "has no 0 at extract.path; there is '/data'."),
        ("${word.x}", "the output of task 'word' has no 'x' at word; there is 'hello'."),
        ("${}", ("column 1: no reference can be read here; expected `${task.key[0]}`. Fix: write `$${` for a "
         "literal `${`.")),
        ("ab ${a b}", "column 4: no reference"),
        ("${a.}", "no reference"),
        ("${a[x]}", "no reference"),
        ("${a", "no reference"),
        ({"${word}": 1}, "a reference can't stand in a key. Fix: put it into a value."),
    ],
)  # fmt: skip
def test_a_reference_that_leads_nowhere_is_refused(value: Json, message: str) -> None:
    """The error names the task, how far the path went and what is there."""
    with pytest.raises(ReferenceResolutionError) as caught:
        resolve_references(value, OUTPUTS)

    assert message in str(caught.value)


def test_a_text_may_be_one_whole_reference() -> None:
    """With nothing around it; what is malformed raises as ever."""
    assert whole_reference("${a.b[0]}") == Reference("a", ("b", 0), "${a.b[0]}")
    assert whole_reference("${ a }") == Reference("a", (), "${ a }")
    assert [whole_reference(text) for text in ("", "a", " ${a}", "${a}${b}", "$${a}")] == [None] * 5
    with pytest.raises(ReferenceResolutionError):
        whole_reference("${")


def test_references_are_listed_with_their_paths() -> None:
    """Every reference of a value is found, in order, the escaped ones not."""
    found = references_in({"a": "${x.y[0]} $${no} ${z~1}", "b": ["${x}"]})

    assert [(one.task_id, one.path, one.text) for one in found] == [
        ("x", ("y", 0), "${x.y[0]}"),
        ("z~1", (), "${z~1}"),
        ("x", (), "${x}"),
    ]
    assert has_references({"a": ["${x}"]})
    assert not has_references({"a": ["$x", 1, None, {"b": "{}"}]})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from("ab$ {}.[]"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def _escaped(value: Json) -> Json:
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return value


@given(_JSON)
@settings(max_examples=100, deadline=None)
def test_any_value_can_be_written_down_literally(value: Json) -> None:
    """Writing `$${` for `${` gives exactly the value back."""
    assert resolve_references(_escaped(value), {}) == value
