"""The systems there are, by name: opened when first needed, checked together, closed together.

May import: orchestration.{clock, errors, logs, ports, redaction}, orchestration.systems.{base, resilience,
routing_aids}, anyio, stdlib.

`async with registry:` owns one task group, in which systems may keep background tasks (a connection has one
owner task). It may be entered again and again, and by several callers at once, each from its own task:
systems stay open until the last one leaves. Background tasks live in the task group of one of those callers;
when that one leaves first, they move to another's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import anyio
import anyio.abc

from orchestration.clock import Clock, SystemClock
from orchestration.errors import InvalidArgumentError
from orchestration.logs import get_logger
from orchestration.ports import Health, System, ToolInfo
from orchestration.redaction import Redactor
from orchestration.systems.base import bounded, listed, nearest
from orchestration.systems.resilience import Resilience, SystemPolicy
from orchestration.systems.routing_aids import RoutingAids

CLOSE_SECONDS = 10.0
"""Longest wait for one system to close; what is not closed then is left behind and logged."""

HAND_OVER_SECONDS = 10.0
"""How long a caller that leaves before others waits for background work of theirs in its task group to end."""

CHECK_SECONDS = 10.0
"""Longest wait for a system's health, unless the caller says otherwise."""

SURVEY_SECONDS = 30.0
"""Longest wait for a system's tools: a server may have to be downloaded and started first."""

PATIENCE_SECONDS = 5.0
"""Longest wait for the tools of systems without which a caller can do."""

SILENT_SECONDS = 60.0
"""How long a system that did not list its tools in time is taken to have none: nobody waits for it meanwhile."""


@runtime_checkable
class NeedsTaskGroup(Protocol):
    """A system that keeps background tasks."""

    def attach(self, task_group: anyio.abc.TaskGroup | None) -> None:
        """Take the task group for background tasks; None: there is none any more.

        Tasks in an earlier group must end soon; they are cancelled after `HAND_OVER_SECONDS`.
        """
        ...


@runtime_checkable
class KeepsSecrets(Protocol):
    """A system that was given what nobody else is to see."""

    @property
    def secrets(self) -> Iterable[str]:
        """Return it: keys, tokens, passwords."""
        ...


@dataclass(frozen=True, slots=True)
class Survey:
    """What a system answered when it was asked for its tools."""

    tools: Sequence[ToolInfo] = ()
    error: str | None = None
    """Why it could not be asked."""


class SystemRegistry:
    """The systems of one orchestrator, in the order in which the router tries them.

    Args:
        systems: Systems by name; the name here is the one tasks use.
        policies: What is declared about how some of them may be asked, by name.
        clock: Measures how they do; the machine's own when absent.
        secrets: What must not come back from any of them, besides what they were given themselves.
    """

    def __init__(
        self,
        systems: Mapping[str, System],
        *,
        policies: Mapping[str, SystemPolicy] | None = None,
        clock: Clock | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        self._systems = dict(systems)
        kept = [each for each in self._systems.values() if isinstance(each, KeepsSecrets)]
        self.redactor = Redactor([*secrets, *(secret for each in kept for secret in each.secrets)])
        """Takes secrets out of what comes from them."""
        self.resilience = Resilience(clock or SystemClock(), policies)
        """How they do; kept for as long as the registry lives, open or not."""
        self.aids = RoutingAids()
        """What helps to choose among them; whoever puts an orchestrator together fills it."""
        for name, system in self._systems.items():
            self.resilience.watch(name, system.kind)
        self._log = get_logger()
        self._entered: dict[int, list[anyio.abc.TaskGroup]] = {}
        """Task groups by the id of the task that entered them."""
        self._owner: anyio.abc.TaskGroup | None = None
        self._ready: dict[str, System] = {}
        self._locks: dict[str, anyio.Lock] = {}
        self._silent: dict[str, tuple[float, Survey]] = {}
        """Systems that did not answer in time when they were asked last, with when that was."""
        self._slow: dict[str, tuple[float, Survey]] = {}
        """The same of systems for which nobody waited longer, for others were enough."""

    def __contains__(self, name: object) -> bool:
        return name in self._systems

    def __iter__(self) -> Iterator[str]:
        return iter(self._systems)

    def __len__(self) -> int:
        return len(self._systems)

    @property
    def names(self) -> list[str]:
        """Return the names of all systems, in order."""
        return list(self._systems)

    def get(self, name: str) -> System:
        """Return a system, opened or not.

        Raises:
            InvalidArgumentError: There is no such system; lists those there are.
        """
        system = self._systems.get(name)
        if system is None:
            near = nearest(name, self._systems)
            expected = (
                f"a configured system: {listed(self._systems)}"
                if self._systems
                else "a system, but there are none"
            )
            fix = (
                f"did you mean {near[0]!r}?"
                if near
                else "configure it under `systems`, or pass it in `systems=`."
            )
            raise InvalidArgumentError("system", name, expected, fix)
        return system

    def describe(self) -> list[dict[str, str]]:
        """Return name and kind of each system, in order, without asking any."""
        return [{"name": name, "kind": system.kind} for name, system in self._systems.items()]

    # Lifetime

    async def __aenter__(self) -> SystemRegistry:
        task_group = anyio.create_task_group()
        await task_group.__aenter__()
        self._entered.setdefault(anyio.get_current_task().id, []).append(task_group)
        if self._owner is None:
            self._attach(task_group)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        task_id = anyio.get_current_task().id
        task_group = self._entered[task_id].pop()
        if not self._entered[task_id]:
            del self._entered[task_id]
        if self._owner is task_group:
            if self._entered:
                self._attach(next(iter(self._entered.values()))[-1])
            else:
                with anyio.CancelScope(shield=True):
                    await self._close()
                task_group.cancel_scope.cancel()  # only what could not be closed in time is left there
        task_group.cancel_scope.deadline = anyio.current_time() + HAND_OVER_SECONDS
        if isinstance(exc, anyio.get_cancelled_exc_class()):
            return await task_group.__aexit__(exc_type, exc, traceback)
        await task_group.__aexit__(
            None, None, None
        )  # the caller's own exception is not to come out in a group
        return None

    def _attach(self, task_group: anyio.abc.TaskGroup | None) -> None:
        self._owner = task_group
        for system in self._systems.values():
            if isinstance(system, NeedsTaskGroup):
                system.attach(task_group)

    async def _close(self) -> None:
        """Close all open systems at once; none of them can hold the others up or fail the caller."""
        ready, self._ready = self._ready, {}
        self._locks = {}
        async with anyio.create_task_group() as closing:
            for name, system in ready.items():
                closing.start_soon(self._close_one, name, system)
        self._attach(None)

    async def _close_one(self, name: str, system: System) -> None:
        reason = f"it took longer than {CLOSE_SECONDS:g} s"
        with anyio.move_on_after(CLOSE_SECONDS):
            try:
                await system.aclose()
            except Exception as exc:  # noqa: BLE001  (a system that can't close must not keep the others open)
                reason = f"{type(exc).__name__}: {exc}"
            else:
                return
        self._log.warning(
            "System could not be closed", operation="SYSTEM_CLOSE_FAILED", system=name, reason=reason
        )

    async def ready(self, name: str) -> System:
        """Return a system, opened once before its first use.

        Raises:
            InvalidArgumentError: There is no such system.
        """
        system = self._ready.get(name)
        if system is not None:
            return system
        system = self.get(name)
        if self._owner is None:
            raise RuntimeError("The systems are closed. Fix: use them inside `async with registry:`.")
        async with self._locks.setdefault(name, anyio.Lock()):
            if name not in self._ready:
                await system.open()
                self._ready[name] = system
        return system

    # Questions to all

    async def survey(
        self,
        names: Sequence[str] | None = None,
        *,
        timeout_seconds: float = SURVEY_SECONDS,
        is_enough: Callable[[Mapping[str, Survey]], bool] | None = None,
    ) -> dict[str, Survey]:
        """Ask systems for their tools, all at once; one that can't be asked says why.

        One that has just kept everybody waiting to the end is not asked again for `SILENT_SECONDS`; one that took
        longer than `PATIENCE_SECONDS` when others were enough is asked meanwhile only where they are not.

        Args:
            names: Which; all when absent.
            timeout_seconds: Longest wait for each.
            is_enough: Whether these answers will do: then nobody waits for the others beyond `PATIENCE_SECONDS`.
        """
        asked = list(self._systems if names is None else names)
        found: dict[str, Survey] = {}
        slow: dict[str, Survey] = {}
        if is_enough is not None:
            slow = {name: self._slow[name][1] for name in asked if _is_recent(self._slow.get(name))}
            await self._survey(
                [name for name in asked if name not in slow], found, timeout_seconds, is_enough
            )
            if slow and is_enough(found):
                return {name: found.get(name) or slow[name] for name in asked}
        await self._survey([name for name in asked if name not in found], found, timeout_seconds, is_enough)
        return {name: found[name] for name in asked}

    async def _survey(
        self,
        names: Sequence[str],
        found: dict[str, Survey],
        timeout_seconds: float,
        is_enough: Callable[[Mapping[str, Survey]], bool] | None,
    ) -> None:
        """Add the answers of some systems to those found."""
        patience_ends = anyio.current_time() + PATIENCE_SECONDS

        def stop_if_enough() -> None:
            has_waited = anyio.current_time() >= patience_ends
            if found.keys() >= set(names) or (is_enough is not None and has_waited and is_enough(found)):
                asking.cancel_scope.cancel()  # the wait for the end of our patience, and for whoever is silent

        async def ask(name: str) -> None:
            found[name] = await self._ask(name, timeout_seconds)
            stop_if_enough()

        async with anyio.create_task_group() as asking:
            for name in names:
                asking.start_soon(ask, name)
            if is_enough is not None and names:
                await anyio.sleep_until(patience_ends)
                stop_if_enough()
        for name in names:
            if name not in found:
                found[name] = Survey(error=f"no answer within {PATIENCE_SECONDS:g} s")
                self._slow[name] = (anyio.current_time(), found[name])

    async def _ask(self, name: str, timeout_seconds: float) -> Survey:
        """Ask one system for its tools, unless it has just kept everybody waiting."""
        silent = self._silent.get(name)
        if silent is not None and _is_recent(silent):
            return silent[1]
        survey = Survey(error=f"no answer within {timeout_seconds:g} s")
        with anyio.move_on_after(timeout_seconds) as limit:
            try:
                survey = Survey(tools=self._without_secrets(await (await self.ready(name)).list_tools()))
            except Exception as exc:  # noqa: BLE001  (one system's fault must not hide the others)
                words = self.redactor.text(str(exc) or type(exc).__name__)
                survey = Survey(error=bounded(words, 500))
        if limit.cancelled_caught:
            self._silent[name] = (anyio.current_time(), survey)
        else:
            self._silent.pop(name, None)
            self._slow.pop(name, None)
        return survey

    async def check_all(self, *, timeout_seconds: float = CHECK_SECONDS) -> dict[str, Health]:
        """Return every system's health, asked all at once, in order of the systems."""
        found: dict[str, Health] = {}

        async def check(name: str) -> None:
            health = Health(ok=False, detail=f"no answer within {timeout_seconds:g} s")
            with anyio.move_on_after(timeout_seconds):
                try:
                    told = await (await self.ready(name)).check()
                    health = replace(told, detail=self.redactor.text(told.detail))
                except Exception as exc:  # noqa: BLE001  (a check that raises is an answer, too)
                    words = self.redactor.text(f"{type(exc).__name__}: {exc}")
                    health = Health(ok=False, detail=bounded(words, 300))
            found[name] = health

        async with anyio.create_task_group() as checking:
            for name in self._systems:
                checking.start_soon(check, name)
        return {name: found[name] for name in self._systems}

    def _without_secrets(self, tools: Sequence[ToolInfo]) -> Sequence[ToolInfo]:
        """Return what a system says of its tools without what must not come back from it."""
        redactor = self.redactor
        if not redactor:
            return tools
        return [_told(tool, redactor) for tool in tools]


def _is_recent(answer: tuple[float, Survey] | None) -> bool:
    return answer is not None and anyio.current_time() - answer[0] < SILENT_SECONDS


def _told(tool: ToolInfo, redactor: Redactor) -> ToolInfo:
    whole = json.dumps([tool.name, tool.description, tool.input_schema], ensure_ascii=False, default=str)
    if not redactor.finds(whole.encode("utf-8", "surrogatepass")):
        return tool
    schema: Any = None if tool.input_schema is None else redactor.json(dict(tool.input_schema))
    return replace(
        tool,
        name=redactor.text(tool.name),
        description=redactor.text(tool.description),
        input_schema=schema,
    )
