"""One storm over one database: its processes, what is done to them, and what is found when it is over."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from orchestration.models import OrchestrationId, OrchestrationStatus, TaskStatus
from orchestration.ports import OrchestrationRecord
from storage import SqliteStorage
from tests.chaos.checking import Verdict, check
from tests.chaos.graphs import random_dag
from tests.chaos.places import Place
from tests.chaos.work import configuration, traces

LEASE_SECONDS = 1.0
_CALM_AFTER_SECONDS = 8.0
"""When nothing more is done to anybody: everything must come to its end by itself, with people's help."""
_COMMAND_LINE = 0.3
"""How many of the drivers are the real command line; it takes a while to start."""
_NEVER = ("InvalidTransitionError", "HistoryMismatchError", "AssertionError", "CorruptRecordError")
"""What nobody must ever say."""
_REFUSALS = tuple(
    f"refused: {name}"
    for name in ("NotPossibleError", "RefusedByDriverError", "LeaseHeldError", "TaskNotFoundError")
)
_EVENTS = {
    "pause": "orchestration_paused",
    "resume": "orchestration_resumed",
    "cancel": "cancel_requested",
    "retry": "retry_requested",
    "decide": "decided by a person",
}


@dataclass(slots=True)
class Live:
    """A process of the storm."""

    process: anyio.abc.Process
    role: str
    continues_at: float | None = None
    """When it is continued, while it is stopped."""
    action: str = ""
    """What it asks for."""


class Tempest:
    """One storm.

    Args:
        folder: An empty folder.
        rng: Draws what is planned.
    """

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.place = Place(folder, LEASE_SECONDS)
        self.rng = rng
        self.kills = 0
        self.suspensions = 0
        self.takeovers = 0
        self.fenced = 0
        self.requests = 0
        self.verdict = Verdict()
        self.violations: list[str] = []
        self.last_seen = ""
        self._storage = SqliteStorage(self.place.database)
        self._live: list[Live] = []
        self._all: list[Live] = []
        self._kills_left = rng.randint(2, 9)
        self._stops_left = rng.choice([0, 1, 2, 3])
        self._wishes_left = rng.choice([0, 2, 4])
        self._began = time.perf_counter()

    # The story

    async def rage(self) -> None:
        """Start everything, do harm for a while, then let it come to its end and look."""
        config = self.place.folder / "config.yaml"
        config.write_text(configuration(LEASE_SECONDS), encoding="utf-8")
        files = [
            self.place.write(random_dag(self.rng, name))
            for name in ["one", "two"][: self.rng.choice([1, 1, 2])]
        ]
        await self._storage.open()
        try:
            async with AsyncExitStack() as processes:
                for file in files:
                    await self._start(processes, "run", file)
                for _ in range(2):
                    await self._start(processes, "serve")
                while not await self._is_over(len(files)):
                    await self._harm()
                    await self._restart(processes, files)
                    await self._help(processes)
                    await anyio.sleep(self.rng.uniform(0.02, 0.2))
            await self._judge()
        finally:
            await self._storage.aclose()

    async def _is_over(self, expected: int) -> bool:
        records = await self._records()
        self.last_seen = "; ".join(
            " ".join(
                [
                    f"{record.orchestration_id} {record.summary.state}, held by {record.holder}:",
                    *(f"{count} {status}" for status, count in record.summary.counts.items()),
                ]
            )
            for record in records
        )
        return len(records) == expected and all(record.summary.state.is_terminal for record in records)

    async def _records(self) -> list[OrchestrationRecord]:
        return await self._storage.list_orchestrations()

    @property
    def _is_calm(self) -> bool:
        return time.perf_counter() - self._began > _CALM_AFTER_SECONDS

    # Processes

    async def _start(self, processes: AsyncExitStack, role: str, *more: str) -> None:
        """Start a process of a role, of the library or of the command line."""
        words = self.place.words(role, *more)
        if self.rng.random() < _COMMAND_LINE:
            options = ["--config", str(self.place.folder / "config.yaml")]
            options += ["--database", str(self.place.database), "--log-level", "INFO"]
            command = {
                "run": ["run", *more, "--json"],
                "resume": ["resume", "--all", "--json"],
                "serve": ["serve"],
            }
            words = [sys.executable, "-m", "server", *command[role], *options]
        await self._run(processes, role, words)

    async def _run(self, processes: AsyncExitStack, role: str, words: list[str], action: str = "") -> None:
        process = await processes.enter_async_context(self.place.process(words, has_input=role == "serve"))
        live = Live(process, role, action=action)
        self._live.append(live)
        self._all.append(live)

    async def _restart(self, processes: AsyncExitStack, files: list[str]) -> None:
        """Forget who has ended; start what is missing."""
        self._live = [live for live in self._live if live.process.returncode is None]
        roles = Counter(live.role for live in self._live)
        if roles["serve"] < 2 and (self._is_calm or self.rng.random() < 0.3):
            await self._start(processes, "serve")
        if not roles["resume"] and not self._is_calm and self.rng.random() < 0.02:
            await self._start(processes, "resume")
        known = {record.dag_id for record in await self._records()}
        if not roles["run"]:  # whoever was killed before it had submitted anything is run again
            for file in files:
                if Path(file).stem not in known:
                    await self._start(processes, "run", file)

    async def _harm(self) -> None:
        """Kill, stop or continue somebody."""
        now = time.perf_counter()
        for live in self._live:
            if live.continues_at is not None and (now >= live.continues_at or self._is_calm):
                live.continues_at = None
                self._signal(live, signal.SIGCONT)
        if self._is_calm or not self._live:
            return
        victim = await self._victim()
        draw = self.rng.random()
        if draw < 0.12 and self._kills_left:
            self._kills_left -= 1
            self.kills += self._signal(victim, signal.SIGKILL)
            await victim.process.wait()
        elif draw < 0.18 and self._stops_left and victim.continues_at is None and victim.role != "ask":
            self._stops_left -= 1
            self.suspensions += self._signal(victim, signal.SIGSTOP)
            victim.continues_at = now + self.rng.uniform(1.5, 3.0) * LEASE_SECONDS

    async def _victim(self) -> Live:
        """Choose somebody: mostly who drives, at times anybody."""
        pids = {record.holder.pid for record in await self._records() if record.holder is not None}
        drivers = [live for live in self._live if live.process.pid in pids]
        return self.rng.choice(drivers if drivers and self.rng.random() < 0.7 else self._live)

    def _signal(self, live: Live, number: signal.Signals) -> bool:
        """Send a signal; False when the process had ended by itself."""
        if live.process.returncode is not None:
            return False
        try:
            live.process.send_signal(number)
        except ProcessLookupError:
            return False
        return True

    # People

    async def _help(self, processes: AsyncExitStack) -> None:
        """Ask for what only a person can say; at times for something nobody needs."""
        if sum(live.role == "ask" for live in self._live) >= 2:
            return
        for record in await self._records():
            identifier, state = record.orchestration_id, record.summary.state
            if state.is_terminal:
                continue
            if state is OrchestrationStatus.PAUSED and (self._is_calm or self.rng.random() < 0.2):
                await self._ask(processes, "resume", identifier)
            elif record.summary.counts.get(TaskStatus.UNKNOWN) and self.rng.random() < 0.3:
                await self._decide(processes, identifier)
            elif self._wishes_left and not self._is_calm and self.rng.random() < 0.15:
                self._wishes_left -= 1
                action = self.rng.choice(["pause"] * 4 + ["resume"] * 2 + ["retry"] * 4 + ["cancel"])
                await self._ask(processes, action, identifier)

    async def _decide(self, processes: AsyncExitStack, identifier: OrchestrationId) -> None:
        """Decide about a task, mostly by what is outside."""
        rows = await self._storage.load_tasks(identifier, statuses=[TaskStatus.UNKNOWN])
        if not rows:
            return
        task_id = self.rng.choice(rows).task_id
        has_happened = any(f"#{identifier}:{task_id}:" in line for line in traces(self.place.effects))
        decision = "done" if has_happened else "retry"
        if self.rng.random() < 0.2:
            decision = self.rng.choice(["done", "failed"])
        await self._ask(processes, "decide", identifier, task_id, decision)

    async def _ask(self, processes: AsyncExitStack, *words: str) -> None:
        self.requests += 1
        asking = [sys.executable, "-m", "tests.chaos.asking", str(self.place.database), *words]
        await self._run(processes, "ask", [*asking, "--lease", str(LEASE_SECONDS)], action=words[0])

    # What is found

    async def _judge(self) -> None:
        """Compare the effects with the journal, and the requests with what came of them."""
        self.verdict = await check(self._storage, self.place.effects)
        self.violations = self.verdict.violations
        for record in await self._records():
            self.takeovers += record.token - 1
        for live in self._all:
            said = self.place.told(live.process)
            self.fenced += said.count("ORCHESTRATION_FENCED")
            self.violations += [
                f"{live.role} said {word}: {said[-1_500:]}" for word in _NEVER if word in said
            ]
        self.violations += self._misdone()

    def _misdone(self) -> list[str]:
        """Return which requests were not carried out exactly once.

        Who was killed said nothing, and may have had it done.
        """
        done, unheard = Counter(self._answered()), Counter[str]()
        for live in self._all:
            if live.role == "ask":
                told = [line for line in self.place.told(live.process).splitlines() if '"outcome"' in line]
                answer: dict[str, Any] = json.loads(told[0]) if told else {"outcome": "", "is_stored": False}
                if answer["outcome"] == "done" and not answer["is_stored"]:
                    done[live.action] += 1
                elif not answer["outcome"].startswith(("done", "pending", *_REFUSALS)):
                    unheard[live.action] += 1
        misdone: list[str] = []
        for action, event in _EVENTS.items():
            least = (
                0 if action == "resume" else done[action]
            )  # there may be nothing to resume but the driving
            if not least <= self.verdict.events[event] <= done[action] + unheard[action]:
                misdone.append(
                    f"{action}: done {done[action]} times, and perhaps {unheard[action]} more, but "
                    f"{self.verdict.events[event]} times in the journal"
                )
        return misdone

    def _answered(self) -> list[str]:
        """Return the actions of the stored requests that were carried out."""
        with closing(sqlite3.connect(self.place.database)) as database:
            rows = database.execute("SELECT request, answer FROM control WHERE answer IS NOT NULL").fetchall()
        return [json.loads(request)["action"] for request, answer in rows if json.loads(answer)["is_done"]]
