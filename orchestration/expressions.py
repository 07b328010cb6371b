"""Conditions (CEL) and `${task.output}` references: parsed when a DAG is validated, evaluated without `eval`.

May import: orchestration.{errors, models}, cel (late), stdlib.
"""
from __future__ import annotations
from collections.abc import Mapping
from dataclasses import dataclass
from orchestration.models import Json, TaskId

@dataclass(frozen=True, slots=True)
class Reference:
    task_id: TaskId
    path: tuple[str | int, ...]
    text: str

class Condition:
    source: str
    names_status: bool
    def holds(self, *, output: Json, status: str, context: Mapping[str, Json]) -> bool: raise NotImplementedError

def compile_condition(source: str) -> Condition: raise NotImplementedError
def references_in(value: Json) -> tuple[Reference, ...]: raise NotImplementedError
def resolve_references(value: Json, outputs: Mapping[TaskId, Json]) -> Json: raise NotImplementedError
