"""What an edit comes to: the graph afterwards and the change that leads there; or every refusal at once.

May import: orchestration.{dag, errors, models, options, validation}, orchestration.edits.{bench, changes, checks,
graph, operations}, orchestration.engine.{events, graph, inputs, state}, stdlib.

Pure: the same subject and operations give the same answer, and nothing is changed by asking. A plan's edit and a
running orchestration's are made by the same steps; of a run it is asked besides what it still allows.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestration.dag import TaskDAG
from orchestration.edits.bench import Workbench
from orchestration.edits.changes import difference, is_empty, told_of
from orchestration.edits.checks import CALLER, ChangeCheck
from orchestration.edits.graph import Alternative, Away, Trace
from orchestration.edits.operations import Operation, read_operations
from orchestration.engine.events import PlanEdited, PlanRevised, Recorded
from orchestration.engine.graph import present_graph
from orchestration.engine.inputs import GraphChange, Routes
from orchestration.engine.state import State
from orchestration.errors import InvalidDagError, Problem, ProblemsError
from orchestration.models import TaskId, TaskStatus
from orchestration.options import Limits
from orchestration.validation import normalized, validate

_DEFAULT_LIMITS = Limits()
_INDEX = re.compile(r"operations\[(\d+)\]")


class EditRefusedError(ProblemsError):
    """An edit can't be made; `problems` lists every refusal, and nothing was changed."""

    code = "edit_refused"
    subject = "The edit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is to be edited."""

    target: str
    """Its id."""
    dag: TaskDAG
    """As it is."""
    state: State | None = None
    """Of an orchestration: how far it came. None for a plan."""
    database: str | None = None
    """Where it is stored, for the command a person types; None where no other process finds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """What an edit comes to."""

    dag: TaskDAG
    """The graph afterwards; worth something only without problems."""
    change: GraphChange = field(default_factory=GraphChange)
    alternative: Alternative | None = None
    """In place of a change: what takes the place of a task that failed and asks."""
    reason: str = ""
    """What the operations themselves say about why."""
    undoes: int | None = None
    notes: tuple[str, ...] = ()
    """How what was sent was read."""
    problems: tuple[Problem, ...] = ()
    """Every refusal."""
    trace: Trace = field(default_factory=Trace)
    routes: Routes = field(default_factory=Routes)
    """Where new and changed tasks run; found out later."""

    @property
    def told(self) -> str:
        """What it changes, in a few words."""
        if self.alternative is not None:
            return f"replaced {self.alternative.task_id} by {', '.join(self.alternative.dag.nodes)}"
        told = told_of(self.change)
        return told if self.undoes is None else f"went back to revision {self.undoes}: {told}"

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be changed."""
        return self.alternative is None and is_empty(self.change)


def subject_of(state: State) -> Subject:
    """Return an orchestration as the subject of an edit."""
    return Subject(target=state.orchestration_id, dag=present_graph(state), state=state)


def edit_graph(
    subject: Subject, operations: object, *, by: str = "person", limits: Limits = _DEFAULT_LIMITS
) -> Edited:
    """Carry operations out on a graph; problems are returned, not raised.

    Args:
        subject: What is edited.
        operations: As they were sent.
        by: Who wants it; `caller` is a model, which may not do everything a person may.
        limits: Bounds on the graph.
    """
    wanted, problems = read_operations(operations)
    statuses = None
    if subject.state is not None:
        statuses = {task_id: task.status for task_id, task in subject.state.tasks.items()}
    bench = Workbench(subject.dag, away=_away(subject.state), statuses=statuses, limits=limits)
    bench.carry_out(wanted)
    problems += bench.problems
    if bench.alternative is not None:
        problems += _beside(bench.alternative, wanted)
        return Edited(
            dag=subject.dag,
            alternative=bench.alternative,
            notes=tuple(bench.notes),
            problems=tuple(problems),
            trace=bench.trace,
        )
    reasons = dict.fromkeys(reason for reason in bench.skipped.values() if reason)
    return _checked(
        subject,
        bench.graph(),
        tuple(bench.skipped),
        bench.trace,
        by=by,
        limits=limits,
        problems=problems,
        notes=bench.notes,
        reason="; ".join(reasons),
        whole="operations",
    )


def undo_to(
    subject: Subject,
    earlier: TaskDAG,
    revision: int,
    *,
    by: str = "person",
    limits: Limits = _DEFAULT_LIMITS,
    since: Iterable[Recorded] = (),
) -> Edited:
    """Go back to the graph of an earlier revision, as far as its tasks have not begun; problems are returned.

    Args:
        subject: What is edited.
        earlier: The graph then.
        revision: Its number.
        by: Who wants it.
        limits: Bounds on the graph.
        since: What an orchestration's journal holds after that revision was the present one.
    """
    problems: list[Problem] = []
    state = subject.state
    if state is not None:
        for recorded in since:
            event = recorded.event
            if isinstance(event, PlanEdited):
                for task_id in event.skipped:
                    told = f"task {task_id!r} was skipped by revision {event.revision}, and what was skipped has ended."
                    problems.append(
                        Problem("undo_to", told, f"Go back to revision {event.revision} at most.")
                    )
            elif isinstance(event, PlanRevised) and event.revision > revision:
                attempt = state.tasks[event.task_id].attempt
                told = (
                    f"task {event.task_id!r} has begun (attempt {attempt}); revision {event.revision} replaced it by "
                    f"{event.delivers!r} when it had failed."
                )
                problems.append(Problem("undo_to", told, f"Go back to revision {event.revision} at most."))
    return _checked(
        subject,
        earlier.copy(),
        (),
        Trace(),
        by=by,
        limits=limits,
        problems=problems,
        notes=[],
        reason="",
        whole="undo_to",
        undoes=revision,
    )


def _checked(
    subject: Subject,
    after: TaskDAG,
    skipped: tuple[TaskId, ...],
    trace: Trace,
    *,
    by: str,
    limits: Limits,
    problems: list[Problem],
    notes: Sequence[str],
    reason: str,
    whole: str,
    undoes: int | None = None,
) -> Edited:
    """Ask everything that is to be asked about a graph somebody wants."""
    is_sound_so_far = not problems
    words = ["advanced-orchestration", "edit", subject.target]
    words += [] if subject.database is None else ["--database", subject.database]
    words += [] if undoes is None else ["--undo", str(undoes)]
    command = shlex.join(words)
    change = difference(subject.dag, after, skipped)
    notes = list(notes)
    if is_sound_so_far:
        check = ChangeCheck(subject.dag, change, trace, whole=whole, command=command)
        try:
            graph = normalized(after, limits, is_live=subject.state is not None)
        except InvalidDagError as exc:
            known = set(validate(subject.dag, limits, is_live=subject.state is not None))
            problems += check.of_graph([problem for problem in exc.problems if problem not in known])
        else:
            fresh = graph.edges[len(after.edges) :]
            pairs = [(edge.source_task_id, edge.target_task_id) for edge in fresh]
            problems += check.came_back(pairs)
            if pairs:
                joined = ", ".join(f"{source} → {target}" for source, target in pairs[:5])
                more = f" and {len(pairs) - 5} more" if len(pairs) > 5 else ""
                notes.append(f"Dependencies added because arguments name the task: {joined}{more}.")
            after = graph
            change = difference(subject.dag, after, skipped)
    check = ChangeCheck(subject.dag, change, trace, whole=whole, command=command)
    if subject.state is not None:
        problems += check.of_run(subject.state)
    if by == CALLER:
        problems += check.of_caller(None if problems else after)
    return Edited(
        dag=after,
        change=change,
        reason=reason,
        undoes=undoes,
        notes=tuple(notes),
        problems=in_order(problems),
        trace=trace,
    )


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return problems by their operations, each once."""

    def index(problem: Problem) -> int:
        found = _INDEX.match(problem.path)
        return int(found[1]) if found is not None else -1

    return tuple(sorted(dict.fromkeys(problems), key=index))


def _beside(alternative: Alternative, operations: Sequence[Operation]) -> list[Problem]:
    """Refuse what is to be done together with an answer to a question."""
    path = alternative.operation.path
    return [
        Problem(
            each.path,
            f"{each.told}: stands beside {path}, which answers what task {alternative.task_id!r} asks.",
            "Send the answer alone, and this with the next revision.",
        )
        for each in operations
        if each is not alternative.operation
    ]


def _away(state: State | None) -> Mapping[TaskId, Away]:
    """Return what became of the tasks that are not in an orchestration's graph."""
    found: dict[TaskId, Away] = {}
    for task_id, task in state.tasks.items() if state is not None else ():
        if task.index is not None:
            parent = task.node.parent
            instead = f"Edit {parent!r}, before it begins."
            found[task_id] = Away(
                f"is the child of {parent!r} for one item and can't be edited itself", instead
            )
        elif task.status is TaskStatus.SUPERSEDED and state is not None:
            now = state.current(task_id)
            if now == task_id:
                told = task.note or "was removed"
                told = told if told.startswith("was ") else f"was {told}"
                found[task_id] = Away(
                    told, "Add it again if it is to run.", may_return=task_id in state.removed
                )
            else:
                found[task_id] = Away(f"was replaced by {now!r}", f"Write {now!r}.")
    return found
