"""What the factory refuses: wrong arguments are named where they are given, not where they are used."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration import InvalidArgumentError, create_advanced_task_orchestrator


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"max_concurrent_tasks": "x"}, "max_concurrent_tasks is 'x'; expected a whole number, 1 to 10,000."),
        ({"max_concurrent_tasks": 1.5}, "max_concurrent_tasks is 1.5; expected a whole number, 1 to 10,000."),
        ({"max_concurrent_tasks": True}, "max_concurrent_tasks is True; expected a whole number"),
        ({"max_concurrent_tasks": 10_001}, "max_concurrent_tasks is 10001; expected a whole number"),
        ({"settings": {"max_retries": 1}}, "settings is {'max_retries': 1}; expected OrchestratorOptions."),
        ({"systems": 5}, "systems is 5; expected systems by name."),
        ({"systems": {"python": len}}, "systems['python'] is <built-in function len>; expected a system"),
        ({"state_manager": 5}, "state_manager is 5; expected a storage"),
        ({"unified_controller": 5}, "unified_controller is 'int'; expected an object with a method"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(arguments: dict[str, Any], told: str) -> None:
    """Each refusal says the argument, the value and what was expected."""
    with pytest.raises(InvalidArgumentError) as caught:
        create_advanced_task_orchestrator(**arguments)

    assert str(caught.value).startswith(told)
