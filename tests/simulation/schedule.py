"""One schedule, made of a seed: processes that contend for an orchestration, people who ask, and what happens to both.

Time is virtual: a heap of what is to happen, and each process's own clocks beside it. At every named point a process
may die, be suspended for longer than its lease, or just be slow; the others go on meanwhile. The schedule ends when
the orchestration has ended, nobody asks for more, and everything that was under way outside is over.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any

from orchestration.engine.inputs import (
    AlternativeFound,
    Approve,
    Cancel,
    DeadlineReached,
    Decide,
    EditPlan,
    Input,
    Pause,
    PlanEnded,
    PlanGrown,
    Resume,
    Retry,
    Routes,
)
from orchestration.engine.state import State
from orchestration.execution.requests import Request
from orchestration.models import AGENT, Json, OrchestrationStatus, TaskId, TaskStatus
from orchestration.ports import DriverIdentity, Lease
from tests.engine_kit import SECOND, START
from tests.simulation.driver import Process
from tests.simulation.edits import random_change, random_mistake
from tests.simulation.ending import check_end
from tests.simulation.graphs import DECIDED, ID, SYSTEM, Value, random_plan, random_story
from tests.simulation.outside import Outside
from tests.simulation.promises import Promises
from tests.simulation.store import Control, Store
from tests.simulation.surroundings import Point
from tests.simulation.workers import Workforce

MAX_STEPS = 20_000
"""Happenings after which a schedule counts as stuck; the longest ones need some thousands."""
_MOST_CRASHES, _MOST_SUSPENSIONS, _MOST_WISHES = 15, 6, 12


class Schedule:
    """One story.

    Args:
        seed: Says everything.
        is_told: Whether to tell it, event by event.
    """

    def __init__(self, seed: int, *, is_told: bool = False) -> None:
        self.seed = seed
        self.is_told = is_told
        self.rng = random.Random(seed)
        self.now_us = START
        self.story = random_story(self.rng)
        self.outside = Outside(self.rng, self)
        self.promises = Promises(list(self.story.dag.nodes.values()), self.outside.has_happened)
        self.store = self.promises.store = Store(self.story, self.promises.record, self.promises.folded)
        self.store.begin()
        self.workforce = Workforce(self.rng, self, self.store, self.outside, self._hear_workers)
        self.promises.has_acted = self.workforce.has_acted
        self.outside.on_not_done = self.workforce.give_up
        self.lease_seconds = self.rng.choice([3.0, 9.0, 15.0])
        self.processes: list[Process] = []
        self.crashes: Counter[Point] = Counter()
        self.suspensions = 0
        self.takeovers = 0
        self.stale_starts = 0
        self.declaration = 0
        self.crashed_in: Counter[str] = Counter()
        """What was being committed, or had just been, when processes died."""
        self.steps = 0
        self.retries_left = 2
        self._p_crash = self.rng.choice([0.0, 0.01, 0.05])
        self._p_suspend = self.rng.choice([0.0, 0.0, 0.02])
        self._p_slow = self.rng.choice([0.0, 0.2])
        self._p_fault = self.rng.choice([0.0, 0.0, 0.01])
        self._person_seconds = self.rng.choice([0.0, 20.0, 60.0])
        self._sees_deaths = self.rng.random() < 0.6
        """Whether all processes are on one host, where a death is seen at once."""
        self._heap: list[tuple[int, int, bool, Callable[..., object], tuple[Any, ...]]] = []
        self._order = 0
        self._under_way = 0
        """What the end waits for."""
        self._count = 0
        self._wishes = 0

    # The story

    def run(self) -> Schedule:
        """Go on until all is over; then check what must hold."""
        for _ in range(self.rng.choice([1, 2, 2, 3])):
            self._add_process()
        self.every(20.0, self._help)
        if AGENT in {*self.story.routes.systems.values(), *chain(*self.story.routes.others.values())} or any(
            AGENT in found for found in self.story.routes.fallbacks.values()
        ):
            for number in range(self.rng.randint(1, 4)):
                self.every(self.rng.random(), self._look_for_work, f"worker {number}")
        if self._person_seconds:
            self.every(self.rng.random() * self._person_seconds, self._be_asked)
        while not self.is_over or self._under_way or self._asks_for_more():
            self.steps += 1
            assert self.steps < MAX_STEPS, "it never ends"
            self._next()
        check_end(self)
        return self

    def _next(self) -> None:
        """Let the next thing happen: something in the heap, or a process's own deadline."""
        due = self._soonest()
        if due is not None and (not self._heap or due[0] <= self._heap[0][0]):
            self.now_us = max(self.now_us, due[0])
            due[1].hear(DeadlineReached())
            return
        at_us, _, is_awaited, what, arguments = heapq.heappop(self._heap)
        self.now_us = max(self.now_us, at_us)
        self._under_way -= is_awaited
        what(*arguments)

    def _soonest(self) -> tuple[int, Process] | None:
        """Return when, in true time, the soonest deadline of a process comes that waits for one."""
        found: tuple[int, Process] | None = None
        for process in self.processes:
            if (
                process.is_waiting
                and process.is_driving
                and not process.mail
                and process.asleep_until is None
            ):
                due_us = process.engine.next_deadline_us()
                if due_us is not None and (found is None or due_us - process.offset_us < found[0]):
                    found = (due_us - process.offset_us, process)
        return found

    def later(self, seconds: float, what: Callable[..., object], *arguments: object) -> None:
        """Have `what` called so many seconds from now."""
        self._under_way += 1
        self._enter(seconds, True, what, arguments)

    def every(self, seconds: float, what: Callable[..., object], *arguments: object) -> None:
        """The same for what enters itself anew: the end does not wait for it."""
        self._enter(seconds, False, what, arguments)

    def _enter(
        self, seconds: float, is_awaited: bool, what: Callable[..., object], arguments: tuple[object, ...]
    ) -> None:
        self._order += 1
        at_us = self.now_us + round(max(0.0, seconds) * SECOND)
        heapq.heappush(self._heap, (at_us, self._order, is_awaited, what, arguments))

    @property
    def is_over(self) -> bool:
        return self.store.folded.status.is_terminal and not any(each.is_driving for each in self.processes)

    # Processes

    def _add_process(self) -> Process:
        self._count += 1
        process = Process(self, self._count)
        process.offset_us = round(self.rng.uniform(-2, 2) * SECOND)
        self.processes.append(process)
        self.every(0.0, self._look, process)
        self.every(self.lease_seconds / 3, self._beat, process)
        return process

    def _look(self, process: Process) -> None:
        """Look for something to take over, as `serve` does: what is paused waits for a person."""
        if process.is_dead:
            return
        status = self.store.folded.status
        if process.steps is None and process.asleep_until is None and not status.is_terminal:
            holder = self.store.holder
            is_orphan = (
                holder is None
                or holder == process.identity
                or (process.may_take(holder, self.store.view_of(holder)))
            )
            if is_orphan and status is not OrchestrationStatus.PAUSED:
                self._begin(process)
        self.every(self.lease_seconds / 3 * self.rng.uniform(0.5, 1.5), self._look, process)

    def _begin(self, process: Process, control: Control | None = None) -> None:
        """Have a process take over."""
        self.takeovers += self.store.holder is not None and self.store.holder != process.identity
        process.steps = process.drive(control)
        self._go_on(process)

    def _beat(self, process: Process) -> None:
        """Give a heartbeat, and look into the inbox; a driver that is suspended does neither."""
        if process.is_dead:
            return
        if process.asleep_until is None and process.is_driving:
            if process.beat():
                process.look_at_controls()
            elif process.is_waiting:
                self._go_on(process)
        self.every(self.lease_seconds / 3, self._beat, process)

    def wake(self, process: Process) -> None:
        """Something came in for a process that waits."""
        process.is_waiting = False
        self.later(0.0, self._go_on, process)

    def _go_on(self, process: Process) -> None:
        """Let a process do what it does until it waits, is slow, is suspended, or dies."""
        if process.is_dead or process.steps is None:
            return
        process.is_waiting = False
        for point in process.steps:
            if point is Point.WAITING:
                process.is_waiting = True
                return
            if not self.meet(process, point):
                return
        process.steps = None

    def meet(self, process: Process, point: Point) -> bool:
        """Decide what a process meets at a point; False when it does not go on at once."""
        draw = self.rng.random()
        crashes, p_crash = self.crashes.total(), self._p_crash
        if point in {Point.AFTER_LEASE, Point.TAKEOVER_BEFORE, Point.TAKEOVER_AFTER, Point.RELEASE}:
            p_crash *= 3
        if draw < p_crash and crashes < _MOST_CRASHES:
            self._die(process, point)
            return False
        draw -= p_crash
        if 0 <= draw < self._p_suspend and self.suspensions < _MOST_SUSPENSIONS:
            self._suspend(process, point)
            return False
        draw -= self._p_suspend
        if 0 <= draw < self._p_slow and point is not Point.EFFECT:
            self.later(self.rng.random() * 2, self._go_on, process)
            return False
        return True

    def _die(self, process: Process, point: Point) -> None:
        self.crashes[point] += 1
        self.crashed_in.update(process.under_way)
        self.say(f"p{process.number} dies: {point}")
        process.is_dead = True
        process.is_waiting = False
        if process.lease is not None:
            self.outside.lose(process.lease.token, is_dead=True)
            process.lease = None
        process.steps = None
        self.processes.remove(process)
        self.later(self.rng.random() * 20, self._add_process)

    def _suspend(self, process: Process, point: Point) -> None:
        """Let a process stand still, sometimes with its clocks, mostly for longer than its lease."""
        self.suspensions += 1
        seconds = self.rng.random() * 3 * self.lease_seconds
        is_frozen = self.rng.random() < 0.5
        self.say(
            f"p{process.number} is suspended for {seconds:.1f} s{' with its clocks' * is_frozen}: {point}"
        )
        process.asleep_until = self.now_us + round(seconds * SECOND)
        self.later(seconds, self._wake_up, process, self.now_us if is_frozen else None, point)

    def _wake_up(self, process: Process, since_us: int | None, point: Point) -> None:
        if process.is_dead:
            return
        self.say(f"p{process.number} wakes up")
        process.asleep_until = None
        if since_us is not None:
            process.frozen_us += self.now_us - since_us
            process.offset_us -= self.now_us - since_us
        if point is not Point.EFFECT or process.mail:
            self._go_on(process)

    def is_dead_here(self, holder: DriverIdentity) -> bool:
        """Whether a holder's death can be seen from where the asking process is."""
        return self._sees_deaths and all(each.identity != holder for each in self.processes)

    def fault(self) -> str:
        """Return whether a commit fails before it is stored, after it, or not."""
        if not self._p_fault or self.rng.random() >= self._p_fault:
            return ""
        return self.rng.choice(["before", "after"])

    def answer_later(self, process: Process, answer: Input, value: Value | None) -> None:
        self.later(self.rng.random(), process.hear, answer, value)

    # A plan that is still being made

    def grow_plan(self, process: Process) -> None:
        """Hand out the next part of the plan, after a while; or its end."""
        self.later(self.rng.random() * 4, self._hand_out, process, process.lease)

    def _hand_out(self, process: Process, lease: Lease | None) -> None:
        if process.is_dead or process.lease is not lease:
            return  # whoever drives now has a planner of its own
        state = process.state
        if process.asleep_until is None and state.status is OrchestrationStatus.PLANNING:
            rest = [part for part in self.story.parts if part.tasks[0].task_id not in state.tasks]
            is_broken = self.rng.random() < 0.03
            if not rest or is_broken:
                process.hear(
                    PlanEnded(orchestration_id=ID, error="the planner is gone" if is_broken else None)
                )
                return
            names = {node.task_id for node in rest[0].tasks}
            routes = self.story.routes
            part = PlanGrown(
                orchestration_id=ID,
                tasks=rest[0].tasks,
                edges=rest[0].edges,
                routes=Routes(
                    systems={each: routes.systems[each] for each in names},
                    others={each: found for each, found in routes.others.items() if each in names},
                    fallbacks={each: found for each, found in routes.fallbacks.items() if each in names},
                ),
                values=self._values(state),
            )
            process.hear(part)
        self.grow_plan(process)

    def _values(self, state: State) -> dict[TaskId, Json]:
        """Return the stored outputs of what has completed."""
        return {
            task_id: self.store.outputs[task_id].json
            for task_id, task in state.tasks.items()
            if task.status is TaskStatus.COMPLETED and task_id in self.store.outputs
        }

    # Workers

    def _look_for_work(self, worker: str) -> None:
        """A worker looks for something to do, again and again."""
        self.every(self.workforce.look(worker), self._look_for_work, worker)

    def _hear_workers(self) -> None:
        """Something was claimed or reported: whoever drives notices, some time later."""
        for process in self.processes:
            self.later(self.rng.random() * 0.3, process.look_at_controls)

    # People

    def _be_asked(self) -> None:
        """Somebody asks for something, whether it fits or not; or turns a clock."""
        tasks = list(self.store.folded.tasks)
        draw = self.rng.random()
        if self.is_over or self._wishes == _MOST_WISHES:
            return  # who never tires would hide what can't go on by itself
        self._wishes += 1
        if draw < 0.2:
            if self.processes:
                process = self.rng.choice(self.processes)
                process.offset_us += round(self.rng.uniform(-60, 60) * SECOND)
                self.say(f"p{process.number}'s clock is off by {process.offset_us / SECOND:.1f} s")
        elif draw < 0.35:
            self.ask(Pause(orchestration_id=ID))
        elif draw < 0.6:
            self.ask(Resume(orchestration_id=ID))
        elif draw < 0.65:
            self.ask(Cancel(orchestration_id=ID))
        elif draw < 0.72:
            chosen = tuple(self.rng.sample(tasks, min(1, len(tasks)))) if self.rng.random() < 0.5 else ()
            self.ask(Retry(orchestration_id=ID, task_ids=chosen))
        elif draw < 0.90:
            self._edit()
        elif draw < 0.92:
            self.declaration += 1
            self.say("the system's declaration changes")
        elif tasks and draw < 0.95:
            self._answer_approval(self.rng.choice(tasks))
        elif tasks:
            self._decide_about(self.rng.choice(tasks))
        self.every(self.rng.random() * 2 * self._person_seconds, self._be_asked)

    def _decide_about(self, task_id: str) -> None:
        decision = self.rng.choice(["retry", "retry", "done", "failed"])
        is_done = decision == "done"
        self.ask(
            Decide(
                orchestration_id=ID,
                task_id=task_id,
                decision=decision,  # type: ignore[arg-type]  # one of the three
                output=DECIDED.ref if is_done else None,
                value=DECIDED.json if is_done else None,
            )
        )

    def _answer_approval(self, task_id: TaskId) -> None:
        task = self.store.folded.tasks[task_id]
        self.ask(
            Approve(
                orchestration_id=ID,
                task_id=task_id,
                is_approved=self.rng.random() < 0.85,
                digest=self.rng.choice([None, task.asked_digest, "something else"]),
                by=self.rng.choice(["person", "person", "caller"]),
            )
        )

    def _edit(self) -> None:
        """Change the plan as it is, mostly in a way that is valid now."""
        state = self.store.folded
        is_wrong = self.rng.random() < 0.15
        change = random_mistake(self.rng, state) if is_wrong else random_change(self.rng, state, SYSTEM)
        if change is not None:
            self.ask(
                EditPlan(
                    orchestration_id=ID,
                    expected_revision=state.revision - (self.rng.random() < 0.05),
                    change=change,
                    values=self._values(state),
                    by="caller",
                )
            )

    def _answer_question(self, task_id: TaskId) -> None:
        """Say how to go on with a task nobody has an alternative for."""
        if self.rng.random() < 0.5:
            self._decide_about(task_id)
            return
        dag = random_plan(self.rng)
        self.ask(
            AlternativeFound(
                orchestration_id=ID,
                task_id=task_id,
                dag=dag,
                routes=Routes(systems=dict.fromkeys(dag.nodes, SYSTEM)),
                delivers="p",
                by="caller",
                expected_revision=self.store.folded.revision,
            )
        )

    def ask(self, item: Request) -> None:
        """Ask a process for something: it carries it out where nobody drives, else leaves it in the inbox."""
        self.say(f"a person asks: {item!r:.160}")
        receivers = [each for each in self.processes if each.steps is None and each.asleep_until is None]
        receiver = self.rng.choice(receivers) if receivers else None
        holder = self.store.holder
        is_free = holder is None or (
            receiver is not None and receiver.may_take(holder, self.store.view_of(holder))
        )
        control = Control(item, is_stored=not is_free)
        if control.is_stored:
            self.store.controls.append(control)
            for process in self.processes:
                self.later(self.rng.random() * 0.3, process.look_at_controls)
            self.later(10.0, self._follow_up, control)
        elif receiver is not None:
            self.store.controls.append(control)
            self._begin(receiver, control)

    def _follow_up(self, control: Control) -> None:
        """Take a request back whose driver has gone, and ask whoever is there now."""
        holder = self.store.holder
        has_left = holder is None or self.is_dead_here(holder) or self.store.folded.status.is_terminal
        if has_left and control.is_open:
            control.is_withdrawn = True
            if not self.store.folded.status.is_terminal:
                self.ask(control.item)

    def _help(self) -> None:
        """Do what only a person can: resume, decide, start a process."""
        state = self.store.folded
        if not self.processes:
            self._add_process()
        elif state.status is OrchestrationStatus.PAUSED:
            self.ask(Resume(orchestration_id=ID))
        else:
            unknown = [
                task_id
                for task_id, task in state.tasks.items()
                if task.status is TaskStatus.UNKNOWN and (task.node.verify is None or task.is_unclear)
            ]
            awaited = [
                task_id
                for task_id, task in state.tasks.items()
                if task.status is TaskStatus.AWAITING_APPROVAL
            ]
            asked = [task_id for task_id, task in state.tasks.items() if task.is_asked]
            if unknown:
                self._decide_about(self.rng.choice(unknown))
            if awaited:
                self._answer_approval(self.rng.choice(awaited))
            if asked:
                self._answer_question(self.rng.choice(asked))
        self.every(5.0 + self.rng.random() * 15, self._help)

    def _asks_for_more(self) -> bool:
        """Ask for a retry of what has failed, at times."""
        may_retry = self.store.folded.status in {OrchestrationStatus.FAILED, OrchestrationStatus.CANCELLED}
        if not may_retry or not self.retries_left or self.rng.random() < 0.6:
            return False
        self.retries_left -= 1
        self.ask(Retry(orchestration_id=ID))
        return True

    def say(self, text: str) -> None:
        """Tell what happens."""
        if self.is_told:
            sys.stdout.write(f"{(self.now_us - START) / SECOND:10.3f}  {text}\n")
