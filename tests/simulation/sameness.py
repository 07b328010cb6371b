"""Whether two states are the same, quickly: it is asked after every commit of every schedule."""

from __future__ import annotations

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
            task_id: [
                _plain(getattr(task, name))
                for name in TaskState.__slots__
                if name not in ("incoming", "outgoing")
            ]
            + [edge.delivers for edge in task.incoming]
            for task_id, task in state.tasks.items()
        },
    )


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, list):
        return list(value)
    return set(value) if isinstance(value, set) else value


def compare(live: State, folded: State) -> None:
    """Fail unless a driver's state is what the journal adds up to."""
    other = vars(folded)
    for name, value in vars(live).items():
        if name not in _UNCOMPARED and name != "dag" and value != other[name]:
            assert_same(live, folded)
            raise AssertionError(f"{name} differs: {value!r} and {other[name]!r}")
