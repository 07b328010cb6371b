"""What can happen around approvals, composites, questions, edits and plans still being made: more rules of the machine.

`test_engine_machine.py` has the rest, and runs them all together.
"""

from __future__ import annotations

import random
from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from orchestration.dag import TaskDAG
from orchestration.engine.inputs import (
    AlternativeFound,
    ApprovalDescribed,
    Approve,
    CacheAnswer,
    Decide,
    DecisionKind,
    EditPlan,
    GraphChange,
    ItemsFound,
    OutputsGathered,
    PlanEnded,
    PlanGrown,
    ReportFailure,
    Routes,
)
from orchestration.engine.outcomes import APPROVAL_VOID
from orchestration.models import ErrorRecord, Json, OrchestrationStatus, TaskId, TaskStatus
from tests.engine_kit import ONE_OUTPUT
from tests.simulation.edits import random_change, random_mistake
from tests.stateful.engine_player import EnginePlayer
from tests.stateful.engine_world import OUTPUTS, Driven, alternatives

BROKEN = ErrorRecord(code="missing_data", message="there is none")
EDITABLE = {OrchestrationStatus.RUNNING, OrchestrationStatus.PAUSED}


class PlanMoves(EnginePlayer):
    """Answers, agreements, changes of the plan."""

    # Approvals

    @precondition(lambda self: self.asked("descriptions"))
    @rule(data=st.data(), is_broken=st.sampled_from([False, False, False, True]))
    def describe(self, data: st.DataObject, is_broken: bool) -> None:
        self.describe_one(*self.one(data, self.asked("descriptions")), is_broken=is_broken)

    def describe_one(self, driven: Driven, task_id: TaskId, *, is_broken: bool = False) -> None:
        generation, digest = driven.descriptions.pop(task_id)
        self.tell(
            ApprovalDescribed(
                orchestration_id=driven.name,
                task_id=task_id,
                generation=generation,
                digest=digest,
                shown=digest,
                error=BROKEN if is_broken else None,
            )
        )

    @precondition(lambda self: self.awaiting)
    @rule(
        data=st.data(),
        is_approved=st.sampled_from([True, True, False]),
        by=st.sampled_from(["person", "caller"]),
        names=st.sampled_from(["what is asked", "nothing", "something else"]),
    )
    def answer_approval(self, data: st.DataObject, is_approved: bool, by: str, names: str) -> None:
        driven, task_id = self.one(data, self.awaiting)
        task = driven.state.tasks[task_id]
        digest = {"what is asked": task.asked_digest, "nothing": None, "something else": "other"}[names]
        may = names != "something else" and (by == "person" or task.node.approval == "caller")
        assert self.agree(driven, task_id, is_approved=is_approved, by=by, digest=digest) == may

    def agree(
        self,
        driven: Driven,
        task_id: TaskId,
        *,
        is_approved: bool = True,
        by: str = "person",
        digest: str | None = None,
    ) -> bool:
        return self.tell(
            Approve(
                orchestration_id=driven.name, task_id=task_id, is_approved=is_approved, digest=digest, by=by
            )
        )

    @rule(data=st.data())
    def approve_what_is_not_asked(self, data: st.DataObject) -> None:
        driven, task_id = self.any_task(data) if self.has_tasks else (None, "")
        if driven is not None and driven.state.tasks[task_id].status is not TaskStatus.AWAITING_APPROVAL:
            assert not self.agree(driven, task_id)

    @precondition(lambda self: any(self.is_agreed(*found) for found in self.running))
    @rule(data=st.data())
    def meet_something_else_than_was_agreed_to(self, data: st.DataObject) -> None:
        driven, task_id = self.one(data, [found for found in self.running if self.is_agreed(*found)])
        attempt = driven.live[task_id]
        driven.forget(task_id)
        error = ErrorRecord(code=APPROVAL_VOID, message="something else", attempt=attempt)
        self.tell(ReportFailure(orchestration_id=driven.name, task_id=task_id, attempt=attempt, error=error))

    def is_agreed(self, driven: Driven, task_id: TaskId) -> bool:
        return driven.state.tasks[task_id].node.approval is not None and task_id not in driven.stopping

    # Composites

    @precondition(lambda self: self.asked("lists"))
    @rule(data=st.data(), count=st.sampled_from([0, 1, 2, 3, None]))
    def find_items(self, data: st.DataObject, count: int | None) -> None:
        self.find(*self.one(data, self.asked("lists")), count)

    def find(self, driven: Driven, task_id: TaskId, count: int | None) -> None:
        self.tell(
            ItemsFound(
                orchestration_id=driven.name,
                task_id=task_id,
                generation=driven.lists.pop(task_id),
                count=count or 0,
                error=BROKEN if count is None else None,
            )
        )

    @precondition(lambda self: self.asked("gathers"))
    @rule(data=st.data(), value=st.sampled_from(OUTPUTS), is_too_large=st.sampled_from([False, False, True]))
    def gather(self, data: st.DataObject, value: Json, is_too_large: bool) -> None:
        self.gather_one(*self.one(data, self.asked("gathers")), value=value, is_too_large=is_too_large)

    def gather_one(
        self, driven: Driven, task_id: TaskId, *, value: Json = None, is_too_large: bool = False
    ) -> None:
        driven.values[task_id] = value
        self.tell(
            OutputsGathered(
                orchestration_id=driven.name,
                task_id=task_id,
                generation=driven.gathers.pop(task_id),
                output=None if is_too_large else ONE_OUTPUT,
                value=value,
                error=BROKEN if is_too_large else None,
            )
        )

    # Answers nobody waits for

    @precondition(lambda self: self.has_tasks)
    @rule(data=st.data(), kind=st.sampled_from(["cache", "list", "outputs", "approval"]))
    def answer_what_is_not_asked(self, data: st.DataObject, kind: str) -> None:
        """An answer about an earlier generation, or to no question at all: nothing may come of it."""
        driven, task_id = self.any_task(data)
        task = driven.state.tasks[task_id]
        names = {"cache": "lookups", "list": "lists", "outputs": "gathers", "approval": "descriptions"}
        generation = task.generation
        if task_id in getattr(driven, names[kind]):
            generation -= 1
        name: dict[str, Any] = {
            "orchestration_id": driven.name, "task_id": task_id, "generation": generation
        }  # fmt: skip
        before = len(driven.journal)
        is_held = task_id in driven.state.held
        match kind:
            case "cache" if not is_held:
                self.tell(CacheAnswer(**name, output=ONE_OUTPUT, source="earlier:there"))
            case "list" if not is_held:
                self.tell(ItemsFound(**name, count=2))
            case "outputs" if task_id not in driven.gathers:
                self.tell(OutputsGathered(**name, output=ONE_OUTPUT))
            case "approval" if not is_held:
                self.tell(ApprovalDescribed(**name, digest="stale", shown="stale"))
        assert len(driven.journal) == before, "an answer nobody waits for changed something"

    # Questions to whoever submitted it

    @precondition(lambda self: self.asked("asks"))
    @rule(
        data=st.data(), decision=st.sampled_from(["retry", "done", "failed"]), value=st.sampled_from(OUTPUTS)
    )
    def answer_question(self, data: st.DataObject, decision: DecisionKind, value: Json) -> None:
        self.decide_question(*self.one(data, self.asked("asks")), decision, value)

    def decide_question(
        self, driven: Driven, task_id: TaskId, decision: DecisionKind, value: Json = None
    ) -> None:
        if decision == "done":
            driven.values[task_id] = value
        item = Decide(
            orchestration_id=driven.name,
            task_id=task_id,
            decision=decision,
            by="caller",
            output=ONE_OUTPUT,
            value=value,
        )
        assert self.tell(item)

    @precondition(lambda self: self.replanning)
    @rule(data=st.data(), offered=alternatives(), is_old=st.sampled_from([False, False, True]))
    def offer_as_caller(
        self, data: st.DataObject, offered: tuple[TaskDAG, TaskId | None], is_old: bool
    ) -> None:
        driven, task_id = self.one(data, self.replanning)
        dag, delivers = offered
        is_taken = self.tell(
            AlternativeFound(
                orchestration_id=driven.name,
                task_id=task_id,
                dag=dag,
                routes=Routes(systems=dict.fromkeys(dag.nodes, "there")),
                delivers=delivers,
                by="caller",
                expected_revision=driven.state.revision - is_old,
            )
        )
        assert not (is_taken and is_old), "an answer to an old revision was taken"
        if is_taken:
            driven.questions.discard(task_id)
            assert driven.state.tasks[task_id].status is TaskStatus.SUPERSEDED

    @property
    def replanning(self) -> list[tuple[Driven, TaskId]]:
        return [
            (driven, task_id)
            for driven in self.all.values()
            for task_id, task in driven.state.tasks.items()
            if task.status is TaskStatus.REPLANNING
        ]

    # Edits

    @rule(data=st.data(), seed=st.integers(0, 2**32))
    def edit(self, data: st.DataObject, seed: int) -> None:
        driven = self.any_one(data)
        change = random_change(random.Random(seed), driven.state, "there")
        if change is not None:
            may = driven.state.status in EDITABLE
            assert self.change(driven, change) == may

    @rule(data=st.data(), seed=st.integers(0, 2**32), is_old=st.booleans())
    def edit_badly(self, data: st.DataObject, seed: int, is_old: bool) -> None:
        driven = self.any_one(data)
        draw = random_change(random.Random(seed), driven.state, "there") if is_old else None
        change = draw or random_mistake(random.Random(seed), driven.state)
        if change is not None:
            assert not self.change(driven, change, revision=driven.state.revision - (draw is not None))

    def change(self, driven: Driven, change: GraphChange, revision: int | None = None) -> bool:
        return self.tell(
            EditPlan(
                orchestration_id=driven.name,
                expected_revision=driven.state.revision if revision is None else revision,
                change=change,
                values=self.values_of(driven),
                by="caller",
            )
        )

    def values_of(self, driven: Driven) -> dict[TaskId, Json]:
        """Return every stored output."""
        return {
            task_id: driven.values.get(task_id)
            for task_id, task in driven.state.tasks.items()
            if task.status is TaskStatus.COMPLETED
        }

    # Plans still being made

    @property
    def growing(self) -> list[Driven]:
        return [driven for driven in self.all.values() if driven.is_grown]

    @precondition(lambda self: any(driven.rest for driven in self.growing))
    @rule(data=st.data())
    def grow(self, data: st.DataObject) -> None:
        self.grow_one(data.draw(st.sampled_from([driven for driven in self.growing if driven.rest])))

    def grow_one(self, driven: Driven) -> None:
        tasks, edges = driven.rest[0]
        names = {node.task_id for node in tasks}
        routes = Routes(
            systems=dict.fromkeys(names, "here"),
            others={each: others for each, others in driven.routes.others.items() if each in names},
            fallbacks={each: systems for each, systems in driven.routes.fallbacks.items() if each in names},
        )
        part = PlanGrown(
            orchestration_id=driven.name,
            tasks=tasks,
            edges=edges,
            routes=routes,
            values=self.values_of(driven),
        )
        may = driven.state.status is OrchestrationStatus.PLANNING
        assert self.tell(part) == may
        if may:
            driven.rest.pop(0)
            assert not self.tell(part), "the same part was taken in twice"
        else:
            driven.is_grown = False

    @precondition(lambda self: self.growing)
    @rule(data=st.data(), how=st.sampled_from(["whole", "failed"]))
    def end_plan(self, data: st.DataObject, how: Literal["whole", "failed"]) -> None:
        driven = data.draw(st.sampled_from(self.growing))
        if how == "whole":
            while driven.rest and driven.is_grown:
                self.grow_one(driven)
        self.end_plan_of(driven, "the model is gone" if how == "failed" else None)

    def end_plan_of(self, driven: Driven, error: str | None = None) -> None:
        driven.is_grown = False
        self.tell(PlanEnded(orchestration_id=driven.name, error=error))
        assert driven.state.status is not OrchestrationStatus.PLANNING

    # To the end

    def answer_kindly(self) -> bool:
        """Answer one open question so that everything goes on; False when there is none."""
        if found := self.asked("lists"):
            self.find(*found[0], 1)
        elif found := self.asked("gathers"):
            self.gather_one(*found[0])
        elif found := self.asked("descriptions"):
            self.describe_one(*found[0])
        elif self.awaiting:
            self.agree(*self.awaiting[0])
        elif found := self.asked("asks"):
            self.decide_question(*found[0], "failed")
        elif self.growing and self.growing[0].rest:
            self.grow_one(self.growing[0])
        elif self.growing:
            self.end_plan_of(self.growing[0])
        else:
            return False
        return True

    @property
    def has_tasks(self) -> bool:
        return all(driven.state.tasks for driven in self.all.values())
