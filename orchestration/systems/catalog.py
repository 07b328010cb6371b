"""What all systems together can do, as they last told it, and the search over it.

May import: orchestration.{clock, models, ports}, orchestration.systems.{registry, tool_index}, anyio, stdlib.

Systems are asked when somebody first wants to know, all at once, and again when an answer is older than
`FRESH_SECONDS`, when a system counts up its `tools_version`, or after `changed(name)`. One that could not be asked is
just absent, with its reason, and is asked again after `RETRY_SECONDS`; what it told before is forgotten, for a tool
nobody can run fits nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import anyio
import anyio.to_thread

from orchestration.clock import Clock, SystemClock
from orchestration.models import JsonObject
from orchestration.ports import ToolInfo
from orchestration.systems.registry import Survey, SystemRegistry
from orchestration.systems.tool_index import ToolIndex

FRESH_SECONDS = 60.0
"""How long what a system told is taken as it is."""
RETRY_SECONDS = 10.0
"""How long a system that could not be asked is left alone."""
SURVEY_SECONDS = 10.0
"""Longest wait for a system to list its tools; one that is being downloaded is told without them."""


@runtime_checkable
class CountsToolChanges(Protocol):
    """A system that knows when its tools have become others."""

    @property
    def tools_version(self) -> int:
        """Goes up with every change it hears of."""
        ...


@dataclass(frozen=True, slots=True)
class FoundTool:
    """A tool that fits, with what is needed to call it."""

    system: str
    tool: str
    description: str
    required: tuple[str, ...]
    """Arguments that must be given."""
    score: float
    """From 0 to 1, beside the other answers of this search."""
    coverage: float
    """From 0 to 1: which share of what was asked the tool's own text speaks of."""
    input_schema: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class SystemOverview:
    """A system in a line."""

    name: str
    kind: str
    tools: int = 0
    error: str | None = None
    """Why it could not be asked for its tools."""


@dataclass(frozen=True, slots=True)
class _Answer:
    survey: Survey
    at: float
    revision: tuple[int, int]


class ToolCatalog:
    """The tools of a registry's systems, kept and searchable.

    Args:
        registry: The systems; entered by this for as long as it asks them.
        index: Where tools are found; one in memory when absent. It must be nobody else's.
        clock: Says how old an answer is.
        survey_seconds: Longest wait for one system.
    """

    def __init__(
        self,
        registry: SystemRegistry,
        *,
        index: ToolIndex | None = None,
        clock: Clock | None = None,
        survey_seconds: float = SURVEY_SECONDS,
    ) -> None:
        self._registry = registry
        self._index = index
        self._clock = clock or SystemClock()
        self._survey_seconds = survey_seconds
        self._answers: dict[str, _Answer] = {}
        self._is_tidy = index is None
        self._changes: dict[str, int] = {}
        self._using = threading.Lock()
        self._refreshing = anyio.Lock()

    async def search(self, text: str, limit: int = 5) -> list[FoundTool]:
        """Return the tools that fit a text best, best first; empty where none shares anything with it.

        Args:
            text: What is to be done, in any words.
            limit: Most tools.
        """
        await self.refresh()
        hits = await anyio.to_thread.run_sync(partial(self._searchable().search, text, limit))
        return [
            FoundTool(
                system=hit.server,
                tool=hit.name,
                description=hit.description,
                required=hit.required,
                score=hit.score,
                coverage=hit.coverage,
                input_schema=hit.input_schema,
            )
            for hit in hits
        ]

    async def overview(self) -> list[SystemOverview]:
        """Return every system in a line, in order."""
        await self.refresh()
        found = []
        for name in self._registry:
            survey = self._answers[name].survey
            kind = self._registry.get(name).kind
            found.append(SystemOverview(name, kind, len(survey.tools), survey.error))
        return found

    async def surveys(self) -> dict[str, Survey]:
        """Return what each system told, in order."""
        await self.refresh()
        return {name: self._answers[name].survey for name in self._registry}

    def changed(self, name: str) -> None:
        """Say that a system's tools are others now: it is asked again before the next answer."""
        self._changes[name] = self._changes.get(name, 0) + 1

    async def refresh(self) -> None:
        """Ask the systems whose answer is missing, old or said to be outdated; callers at once share the asking."""
        if self._is_tidy and not self._stale():
            return
        async with self._refreshing:
            stale = self._stale()
            if stale:
                revisions = {name: self._revision(name) for name in stale}
                async with self._registry:
                    told = await self._registry.survey(stale, timeout_seconds=self._survey_seconds)
                await anyio.to_thread.run_sync(partial(self._take, told))
                now = self._clock.elapsed()
                for name, survey in told.items():
                    self._answers[name] = _Answer(survey, now, revisions[name])
            if not self._is_tidy:
                await anyio.to_thread.run_sync(self._tidy)

    def _stale(self) -> list[str]:
        now = self._clock.elapsed()
        return [name for name in self._registry if self._is_stale(name, now)]

    def _is_stale(self, name: str, now: float) -> bool:
        answer = self._answers.get(name)
        if answer is None or self._revision(name) != answer.revision:
            return True
        keeps = FRESH_SECONDS if answer.survey.error is None else RETRY_SECONDS
        return now - answer.at >= keeps

    def _revision(self, name: str) -> tuple[int, int]:
        system = self._registry.get(name)
        own = system.tools_version if isinstance(system, CountsToolChanges) else 0
        return own, self._changes.get(name, 0)

    def _searchable(self) -> ToolIndex:
        """Return the index; one in memory is made when it is first needed, from whichever thread that is."""
        with self._using:
            if self._index is None:
                self._index = ToolIndex()
            return self._index

    def _take(self, told: dict[str, Survey]) -> None:
        index = self._searchable()
        for name, survey in told.items():
            if survey.tools:
                index.update(name, _as_told(survey.tools))
            else:
                index.remove(name)

    def _tidy(self) -> None:
        """Forget servers that a file of an earlier day still has."""
        index = self._searchable()
        for server in index.servers() - set(self._registry):
            index.remove(server)
        self._is_tidy = True


def _as_told(tools: Sequence[ToolInfo]) -> list[dict[str, object]]:
    return [
        {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
        for tool in tools
    ]
