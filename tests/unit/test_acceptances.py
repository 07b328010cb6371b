"""What stands for a task has to hold what was asked of it, whatever else is asked of it."""

from __future__ import annotations

from orchestration.acceptances import both
from orchestration.models import Acceptance


def test_conditions_must_hold_together() -> None:
    made = both(Acceptance(condition="output.n > 3"), Acceptance(condition="true"))
    assert made is not None
    assert made.condition == "(output.n > 3) && (true)"


def test_schemas_must_fit_together() -> None:
    made = both(Acceptance(output_schema={"type": "object"}), Acceptance(output_schema={"required": ["n"]}))
    assert made is not None
    assert made.output_schema == {"allOf": [{"type": "object"}, {"required": ["n"]}]}


def test_the_first_tool_is_the_one_that_is_asked() -> None:
    strict = Acceptance(tool="check", arguments={"a": 1}, system_preference="local", timeout_seconds=5)
    made = both(strict, Acceptance(condition="true", tool="wave_through"))
    assert made == Acceptance(
        condition="true", tool="check", arguments={"a": 1}, system_preference="local", timeout_seconds=5
    )


def test_a_tool_comes_to_a_condition() -> None:
    made = both(Acceptance(condition="output.ok"), Acceptance(tool="check"))
    assert made == Acceptance(condition="output.ok", tool="check")


def test_nothing_adds_nothing() -> None:
    asked = Acceptance(condition="output.ok")
    assert both(None, None) is None
    assert both(asked, None) == both(None, asked) == both(asked, asked) == asked


def test_what_would_be_too_long_gives_up_what_came_later() -> None:
    made = both(Acceptance(condition="output.a" + " " * 1500), Acceptance(condition="output.b" + " " * 1500))
    assert made is not None
    assert made.condition == "output.a" + " " * 1500
