"""Whether two states are the same, quickly: it is asked after every commit of every schedule."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from tests.engine_kit import assert_same

_UNCOMPARED = {"newly_ready", "newly_dead", "newly_closed", "touched", "held", "_story"}
"""Attributes of a state that are no part of the fold."""


def fields_of(state: State) -> object:
    """Return everything a state knows, copied as deeply as anything in it can change."""
    return (
        {
            name: _plain(value)
            for name, value in vars(state).items()
            if name not in _UNCOMPARED and name != "tasks"
        },
        {
            task_id: [*map(_plain, _FIELDS(task)), *(edge.delivers for edge in task.incoming)]
            for task_id, task in state.tasks.items()
        },
    )


_FIELDS = attrgetter(*(name for name in TaskState.__slots__ if name not in ("incoming", "outgoing")))
_COPIES: dict[type, Callable[[Any], object]] = {dict: dict, list: list, set: set}


def _plain(value: object) -> object:
    copy = _COPIES.get(type(value))
    return value if copy is None else copy(value)


def compare(live: State, folded: State) -> None:
    """Fail unless a driver's state is what the journal adds up to."""
    other = vars(folded)
    for name, value in vars(live).items():
        if name not in _UNCOMPARED and name != "dag" and value != other[name]:
            assert_same(live, folded)
            raise AssertionError(f"{name} differs: {value!r} and {other[name]!r}")
