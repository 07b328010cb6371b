"""The form of a playbook: its fields, and what each means. How it becomes a DAG is in `playbook_expansion.py`.

May import: orchestration.models, pydantic, stdlib.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from orchestration.models import JsonObject, TaskEdge

_CONFIG = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, populate_by_name=True)

_SEPARATOR = re.compile(r"[,;\n]\s*(?:and\s)?|\s+(?:and|&)\s+", re.IGNORECASE)

_Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,59}$")]
_ParameterName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
_SubtaskId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,59}$")]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]


def _compilable(pattern: str) -> str:
    import regex

    try:
        regex.compile(pattern)
    except regex.error as exc:
        raise ValueError(f"expected a regular expression; {exc}") from None
    return pattern


def _as_pattern(value: object) -> object:
    """Let a pattern stand alone where nothing but it is to be said."""
    return {"pattern": value} if isinstance(value, str) else value


class GoalPattern(BaseModel):
    """A regular expression that finds a parameter's value in the goal, in any case."""

    model_config = _CONFIG

    pattern: Annotated[str, AfterValidator(_compilable)]
    """Its group `value`, else its first group, is the value; without a group, the text it matches."""
    value: JsonValue = None
    """The value instead, where the pattern only says that there is one, or where its group is empty."""


class Parameter(BaseModel):
    """One thing a playbook wants to know; taken from the context, else from the goal, else the default."""

    model_config = _CONFIG

    description: str = ""
    type: Literal["any", "list"] = "any"
    """`list`: a text is taken apart at commas, semicolons, line breaks and "and"; anything else is its only item."""
    default: JsonValue = ""
    context: list[str] = Field(default_factory=list)
    """Other keys of the context that hold it, beside its own name."""
    from_goal: list[Annotated[GoalPattern, BeforeValidator(_as_pattern)]] = Field(default_factory=list)
    """Tried in order; the first that matches gives the value."""
    required: bool = False
    """Without it the playbook does not fit."""

    def typed(self, value: JsonValue) -> JsonValue:
        """Return a value as the parameter's type has it; an empty one stays as it is."""
        if self.type == "any" or isinstance(value, list) or value in (None, ""):
            return value
        if not isinstance(value, str):
            return [value]
        return [item for part in _SEPARATOR.split(value) if (item := part.strip())]


class Subtask(BaseModel):
    """One step: a task, with its fields, or another playbook in its place."""

    model_config = ConfigDict(
        extra="allow", frozen=True, use_attribute_docstrings=True, populate_by_name=True
    )

    task_id: _SubtaskId
    title: str | None = None
    """A few words for people; kept in the task's metadata."""
    depends_on: list[str] = Field(default_factory=list)
    when: str | None = None
    """A parameter; where its value is empty or false the step is left out.

    What depends on it then depends on what it depended on.
    """
    playbook: str | None = None
    """Name of the playbook whose subtasks take the step's place, their ids behind the step's own and a `-`."""
    with_: JsonObject = Field(default_factory=dict, alias="with")
    """The other playbook's parameters."""

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Subtask:
        if self.playbook is None and self.with_:
            raise ValueError("`with` goes with `playbook`; expected the playbook's name")
        if self.playbook is not None and self.task_fields():
            raise ValueError(
                f"a step that is a playbook has no {', '.join(self.task_fields())}; expected none"
            )
        return self

    def task_fields(self) -> dict[str, Any]:
        """Return the fields of the task, as written; the DAG's own validation checks them."""
        return dict(self.model_extra or {})

    def texts(self) -> dict[str, Any]:
        """Return everything in which `{{parameter}}` may stand."""
        return {**self.task_fields(), "with": self.with_, "title": self.title}


class Playbook(BaseModel):
    """A recipe: the goals it is for, what it wants to know, and the steps."""

    model_config = _CONFIG

    name: _Name
    title: _Text
    description: str = ""
    goals: list[_Text] = Field(default_factory=list)
    """Example goals. Without any, the playbook is found by no goal and serves others only."""
    words: dict[str, list[str]] = Field(default_factory=dict)
    """Words that mean the same here: one used in `goals`, and those a goal may use instead."""
    unless: list[_Text] = Field(default_factory=list)
    """Words in a goal that mean it is about something else."""
    systems: list[str] = Field(default_factory=list)
    """Systems it can't do without; where one is not configured, the playbook does not fit."""
    parameters: dict[_ParameterName, Parameter] = Field(default_factory=dict)
    subtasks: Annotated[list[Subtask], Field(min_length=1, max_length=1000)]
    edges: list[TaskEdge] = Field(default_factory=list)
    """Edges that say more than `depends_on`; one for the same pair replaces it."""

    @model_validator(mode="after")
    def _goal_is_taken(self) -> Playbook:
        if "goal" in self.parameters:
            raise ValueError("the parameter `goal` is always there; expected another name")
        return self
