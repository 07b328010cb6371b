"""Runs whole orchestrations under virtual time with crashes at any commit; a seed says everything.

    python -m tests.simulation.crash_schedules --seed 7            one schedule, told event by event
    python -m tests.simulation.crash_schedules --count 2000        many, with schedules per second

What is simulated: tasks that succeed, fail, hang, answer late; a planner; pauses, resumes and cancels by people; and
a process that dies. The journal is kept in whole decisions, as the coordinator commits them: a crash loses every
decision that had not been committed, and the effects of those that had. What has been committed is all the next
driver knows. The world goes on: an attempt of a dead driver may still end, and its work counts as done twice only if
nobody had committed its result.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
import time
from dataclasses import dataclass, field
from itertools import combinations

from orchestration.dag import TaskDAG
from orchestration.engine.effects import (
    AbandonAttempt,
    AnnounceFinished,
    Effect,
    RequestAlternative,
    StartAttempt,
    StopAttempt,
)
from orchestration.engine.engine import Decision, Engine, EngineOptions
from orchestration.engine.events import AttemptStarted, AttemptSucceeded, Recorded
from orchestration.engine.inputs import (
    AlternativeFound,
    Cancel,
    DeadlineReached,
    Input,
    NoAlternative,
    Pause,
    ReportCancelled,
    ReportFailure,
    ReportSuccess,
    Resume,
    TakeOver,
    TaskDefaults,
)
from orchestration.engine.state import State, replay
from orchestration.errors import NotPossibleError
from orchestration.models import (
    SETTLED,
    ErrorRecord,
    OrchestrationMode,
    OrchestrationStatus,
    TaskEdge,
    TaskId,
    TaskNode,
    TaskPriority,
    TaskStatus,
)
from tests.engine_kit import ONE_OUTPUT, SECOND, START, assert_same, graph, new_engine, submitted

MAX_STEPS = 5_000
"""Inputs after which a schedule counts as stuck; the longest ones need some hundreds."""
_CONDITIONS = [None] * 6 + ["output.ok", "output.n > 1", "status == 'failed'"]
_ID = "o"


def random_dag(rng: random.Random) -> TaskDAG:
    """Return a DAG of 1 to 14 tasks with every kind of edge."""
    names = [f"t{number}" for number in range(rng.randint(1, 14))]
    nodes = [
        TaskNode(
            name,
            priority=TaskPriority(rng.randint(1, 5)),
            estimated_time_seconds=rng.choice([None, 1.0, 20.0]),
            max_retries=rng.choice([None, 0, 3]),
            timeout_seconds=rng.choice([None, 15.0]),
            tool=rng.choice("xyz"),
        )
        for name in names
    ]
    density = rng.random() * 0.6
    edges = [
        TaskEdge(
            source,
            target,
            data_requirements=["ok"] if rng.random() < 0.1 else [],
            is_optional=rng.random() < 0.3,
            condition=rng.choice(_CONDITIONS),
        )
        for source, target in combinations(names, 2)
        if rng.random() < density
    ]
    return graph(nodes, *edges)


def random_plan(rng: random.Random) -> TaskDAG:
    """Return an alternative plan; its tasks may fail too."""
    names = ["p", "q", "r"][: rng.randint(1, 3)]
    nodes = [TaskNode(name, tool=rng.choice("stuvw"), max_retries=0) for name in names]
    edges = [TaskEdge(one, other) for one, other in combinations(names, 2) if rng.random() < 0.7]
    return graph(nodes, *edges, dag_id="plan")


@dataclass
class Schedule:
    """One story, made of a seed."""

    seed: int
    is_told: bool = False
    rng: random.Random = field(init=False)
    now_us: int = START
    crashes: int = 0
    steps: int = 0
    engine: Engine = field(init=False)
    state: State = field(init=False)
    committed: list[Recorded] = field(default_factory=list)
    """The durable journal."""
    uncommitted: list[Decision] = field(default_factory=list)
    """Decisions of the batch that is being gathered."""
    world: list[tuple[int, int, Input]] = field(default_factory=list)
    """What will be reported: when, order, what."""
    live: dict[TaskId, int] = field(default_factory=dict)
    """Attempts the present driver runs."""
    done: dict[TaskId, int] = field(default_factory=dict)
    """Tasks whose completion is committed, by attempt."""
    started: dict[TaskId, int] = field(default_factory=dict)
    """Latest committed attempt."""
    announced: OrchestrationStatus | None = None

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.dag = random_dag(self.rng)
        self.slots = self.rng.randint(1, 5)
        self.options = EngineOptions(cancel_grace_seconds=3.0, max_replans=3)
        self.batch = self.rng.randint(1, 4)
        self.p_crash = self.rng.choice([0.0, 0.05, 0.2])
        self.p_person = self.rng.choice([0.0, 0.05])
        first = submitted(
            self.dag,
            _ID,
            mode=self.rng.choice(list(OrchestrationMode)),
            can_replan=self.rng.random() < 0.7,
            defaults=TaskDefaults(max_retries=2, timeout_seconds=30.0),
        )
        self.committed.append(first)

    # The story

    def run(self) -> Schedule:
        """Go on until the end is announced, crash by crash; then check what must hold."""
        self.take_over()
        while self.announced is None:
            self.steps += 1
            assert self.steps < MAX_STEPS, "it never ends"
            if self.crashes < 20 and self.rng.random() < self.p_crash:
                self.crash()
            elif self.rng.random() < self.p_person:
                self.ask()
            else:
                self.go_on()
        self.check_end()
        return self

    def take_over(self) -> None:
        """Begin with what is durable, as a new process does."""
        self.state = replay(_ID, self.dag, self.committed)
        self.engine = new_engine(self.slots, options=self.options)
        self.engine.adopt(self.state)
        self.live = {}
        self.world = [
            item for item in self.world if not isinstance(item[2], AlternativeFound | NoAlternative)
        ]
        if self.state.status.is_terminal:  # the end was committed; the announcement died with the process
            self.announced = self.state.status
            return
        self.tell(TakeOver(orchestration_id=_ID))
        self.commit()

    def crash(self) -> None:
        """Die: before the batch is committed, after it, or after it with some effects let out."""
        self.crashes += 1
        self.say(f"crash {self.crashes}")
        if self.rng.random() < 0.5:
            self.commit(let_out=self.rng.random() < 0.5)
        self.uncommitted = []
        self.now_us += round(self.rng.random() * 40 * SECOND)
        if self.announced is None:
            self.take_over()

    def ask(self) -> None:
        """Pause, resume or cancel, as people do."""
        kinds: list[type[Pause | Resume | Cancel]] = [Pause, Resume, Resume, Cancel]
        self.tell(self.rng.choice(kinds)(orchestration_id=_ID))

    def go_on(self) -> None:
        """Let the next thing happen: a report, a deadline, or a resume when only a person can help."""
        due = self.engine.next_deadline_us()
        if self.world and (due is None or self.world[0][0] <= due):
            at_us, _, item = heapq.heappop(self.world)
            self.now_us = max(self.now_us, at_us)
            if isinstance(item, ReportSuccess | ReportFailure | ReportCancelled):
                self.forget(item.task_id, item.attempt)
            self.tell(item)
        elif due is not None:
            self.now_us = max(self.now_us, due)
            self.tell(DeadlineReached())
        elif self.uncommitted:
            self.commit()
        elif self.state.status is OrchestrationStatus.PAUSED:
            self.tell(Resume(orchestration_id=_ID))
        else:
            raise AssertionError("nothing can ever happen any more")

    # The coordinator

    def tell(self, item: Input) -> None:
        """Hand the engine an input and add what came of it to the batch."""
        self.say(f"{item!r:.200}")
        try:
            decision = self.engine.handle(item, self.now_us)
        except NotPossibleError:
            return
        self.uncommitted.append(decision)
        self.engine.check_invariants()
        if len(self.uncommitted) >= self.batch:
            self.commit()

    def commit(self, *, let_out: bool = True) -> None:
        """Make the batch durable, then carry out its effects."""
        batch, self.uncommitted = self.uncommitted, []
        for decision in batch:
            for entry in decision.events:
                self.committed.append(entry)
                self.say(f"    {entry.seq} {entry.event!r:.200}")
                self.check_event(entry)
        if let_out:
            for decision in batch:
                for effect in decision.effects:
                    self.perform(effect)

    def perform(self, effect: Effect) -> None:
        """Carry out an effect in the simulated world."""
        match effect:
            case StartAttempt():
                assert effect.task_id not in self.live, f"two live attempts of {effect.task_id}"
                assert effect.task_id not in self.done, f"{effect.task_id} was completed and runs again"
                self.live[effect.task_id] = effect.attempt
                if self.rng.random() > 0.08:  # the rest hangs until it is stopped
                    self.later(self.rng.random() * 20, self.outcome(effect))
            case StopAttempt():
                if self.rng.random() < 0.7:
                    self.later(
                        self.rng.random() * 2,
                        ReportCancelled(
                            orchestration_id=_ID, task_id=effect.task_id, attempt=effect.attempt, jitter=0.5
                        ),
                    )
            case AbandonAttempt():
                self.forget(effect.task_id, effect.attempt)
            case RequestAlternative():
                found: Input = NoAlternative(orchestration_id=_ID, task_id=effect.task_id, reason="none")
                if self.rng.random() < 0.7:
                    dag = random_plan(self.rng)
                    found = AlternativeFound(
                        orchestration_id=_ID,
                        task_id=effect.task_id,
                        dag=dag,
                        routes=dict.fromkeys(dag.nodes, "there"),
                        delivers=self.rng.choice([None, "p"]),
                    )
                self.later(self.rng.random() * 30, found)
            case AnnounceFinished():
                self.announced = effect.outcome

    def forget(self, task_id: TaskId, attempt: int) -> None:
        """An attempt is over, or nobody here knows it any more."""
        if self.live.get(task_id) == attempt:
            del self.live[task_id]

    def outcome(self, effect: StartAttempt) -> Input:
        """Return how an attempt will end."""
        name = {"orchestration_id": _ID, "task_id": effect.task_id, "attempt": effect.attempt}
        draw = self.rng.random()
        if draw < 0.72:
            value = self.rng.choice([{"ok": True, "n": 2}, {"ok": False, "n": 0}, {"ok": True}, "text"])
            return ReportSuccess(**name, output=ONE_OUTPUT, value=value)  # type: ignore[arg-type]
        error = ErrorRecord(
            code="broken",
            message="it broke",
            retryable=draw < 0.95,
            retry_after_seconds=self.rng.choice([None, None, 5.0]),
        )
        return ReportFailure(**name, error=error, jitter=self.rng.random())  # type: ignore[arg-type]

    def later(self, seconds: float, item: Input) -> None:
        heapq.heappush(self.world, (self.now_us + round(seconds * SECOND), self.rng.getrandbits(40), item))

    # What must hold

    def check_event(self, entry: Recorded) -> None:
        """Check an event against everything committed before it."""
        event = entry.event
        assert entry.seq == len(self.committed)
        assert entry.at_us >= self.committed[-2].at_us if len(self.committed) > 1 else True
        match event:
            case AttemptStarted():
                assert event.task_id not in self.done, f"{event.task_id} was completed and started again"
                assert event.attempt == self.started.get(event.task_id, 0) + 1
                self.started[event.task_id] = event.attempt
                for edge in self.state.tasks[event.task_id].incoming:
                    source = self.state.tasks[edge.source]
                    assert source.status in SETTLED, "started before its upstream settled"
                    if source.status is TaskStatus.COMPLETED:
                        assert edge.source in self.done, "started before its upstream's result was committed"
            case AttemptSucceeded():
                assert event.task_id not in self.done, f"{event.task_id} completed twice"
                assert event.attempt == self.started[event.task_id]
                self.done[event.task_id] = event.attempt
            case _:
                pass

    def check_end(self) -> None:
        """Check the whole story."""
        final = replay(_ID, self.dag, self.committed)
        assert_same(final, replay(_ID, self.dag, self.committed[: final.last_seq]))
        if not self.uncommitted and self.state.last_seq == final.last_seq:
            assert_same(self.state, final)
        assert final.status is self.announced
        assert final.unsettled == 0
        assert {
            task_id for task_id, task in final.tasks.items() if task.status is TaskStatus.COMPLETED
        } == set(self.done)
        assert all(
            replay(_ID, self.dag, self.committed[:length]).last_seq == length
            for length in self.rng.sample(range(1, final.last_seq + 1), k=min(3, final.last_seq))
        )

    def say(self, text: str) -> None:
        if self.is_told:
            sys.stdout.write(f"{(self.now_us - START) / SECOND:10.3f}  {text}\n")


class ScheduleFailedError(AssertionError):
    """A schedule broke a promise; the message holds the command that repeats it."""

    def __init__(self, seed: int, reason: BaseException) -> None:
        super().__init__(
            f"seed {seed}: {type(reason).__name__}: {reason}\n"
            f"Repeat: .venv/bin/python -m tests.simulation.crash_schedules --seed {seed}"
        )


def run_many(first: int, count: int) -> tuple[int, float]:
    """Run `count` schedules; return how many crashes they had and schedules per second.

    Raises:
        ScheduleFailedError: One broke a promise.
    """
    crashes = 0
    begun = time.perf_counter()
    for seed in range(first, first + count):
        try:
            crashes += Schedule(seed).run().crashes
        except Exception as exc:
            raise ScheduleFailedError(seed, exc) from exc
    return crashes, count / (time.perf_counter() - begun)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.crash_schedules")
    parser.add_argument("--seed", type=int, help="run this one schedule and tell it event by event")
    parser.add_argument("--count", type=int, default=1_000, help="how many schedules to run")
    parser.add_argument("--first", type=int, default=0, help="seed of the first of them")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        told = Schedule(arguments.seed, is_told=True).run()
        assert told.announced is not None
        sys.stdout.write(f"seed {arguments.seed}: {told.announced.value} after {told.crashes} crashes\n")
        return
    crashes, rate = run_many(arguments.first, arguments.count)
    sys.stdout.write(f"{arguments.count} schedules, {crashes} crashes, {rate:.0f} schedules/s\n")


if __name__ == "__main__":
    main()
