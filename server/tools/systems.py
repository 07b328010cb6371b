"""The tool `list_systems`: where tasks can run, how each place does, and which tools fit what is to be done.

May import: orchestration, server.{answers, desk, schemas, tools.offer}, mcp types, pydantic, stdlib.

Names and descriptions of tools are what their servers say of themselves: data, told in one line each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from mcp_types import CallToolResult
from pydantic import Field

from orchestration.errors import InvalidArgumentError
from orchestration.ports import ToolInfo
from orchestration.systems.breaker import BreakerState
from orchestration.systems.catalog import SystemOverview
from orchestration.systems.health import SystemHealth
from server.answers import clip, plural, seconds, tell
from server.desk import DeskContext, desk
from server.schemas import Call, Name, SystemsAnswer, SystemView, ToolView
from server.tools.offer import catalog_of

SYSTEMS_SHOWN = 10
"""Of one page."""
TOOLS_SHOWN = 12
FITTING_SHOWN = 5
STORY_SHOWN = 5
"""Latest changes of one system."""
MOST_FOUND = 100
"""Fitting tools that can be paged through."""
ARGUMENTS_SHOWN = 8
DOES_CHARS = 160
_ERROR_CHARS = 160

_T = TypeVar("_T")


async def list_systems(
    ctx: DeskContext,
    query: Annotated[
        str,
        Field(max_length=2000, description="What is to be done, or a system's name; omit for all"),
    ] = "",
    cursor: Name = "",
) -> Annotated[CallToolResult, SystemsAnswer]:
    """List the systems tasks run on, with their health. With query: the tools that fit best, for a task's \
system_preference, tool and arguments; with a system's name: its tools and story."""
    offset = _offset(cursor)
    orchestrator = desk(ctx).orchestrator
    catalog = catalog_of(orchestrator)
    if not query:
        overview = await catalog.overview()
        views = [_view(each, orchestrator.systems.resilience.story(each.name)) for each in overview]
        return _tell_systems(views, offset)
    named = next((each for each in await catalog.overview() if each.name == query.strip()), None)
    if named is not None:
        story = orchestrator.systems.resilience.story(named.name)
        tools = (await catalog.surveys())[named.name].tools
        return _tell_system(_view(named, story, has_story=True), tools, offset)
    found = await catalog.search(query, min(offset + FITTING_SHOWN + 1, MOST_FOUND))
    fitting = [_tool(hit.system, hit.tool, hit.description, hit.input_schema) for hit in found]
    return _tell_fitting(query, fitting, offset, await catalog.overview())


def _offset(cursor: str) -> int:
    """Return where a page begins.

    Raises:
        InvalidArgumentError: The cursor is none of ours.
    """
    if not cursor:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 9):
        raise InvalidArgumentError("cursor", cursor, "the next_cursor of an answer", "Omit it to begin anew.")
    return int(cursor)


def _page(items: Sequence[_T], offset: int, size: int) -> tuple[list[_T], str | None]:
    """Return one page, and where the next one begins."""
    following = offset + size
    return list(items[offset:following]), str(following) if following < len(items) else None


# --- Systems ----------------------------------------------------------------------------------------------------------


def _tell_systems(views: Sequence[SystemView], offset: int) -> CallToolResult:
    shown, following = _page(views, offset, SYSTEMS_SHOWN)
    ill = sum(view.health != "ok" for view in views)
    told = f"{plural(len(views), 'system')}, {'all well' if not ill else f'{ill:,} not well'}"
    answer = SystemsAnswer(
        message=f"{told}; query finds the tools that fit." if views else "No system is configured here.",
        systems=shown,
        next_cursor=following,
        next=[Call(tool="list_systems", arguments={"cursor": following})] if following else [],
    )
    lines = [line for view in shown for line in _system_lines(view)]
    return tell(answer, lines, rest="list_systems with a system's name as query")


def _tell_system(view: SystemView, tools: Sequence[ToolInfo], offset: int) -> CallToolResult:
    page, following = _page(tools, offset, TOOLS_SHOWN)
    shown = [_tool(view.system, tool.name, tool.description, tool.input_schema) for tool in page]
    has = plural(len(tools), "tool") if tools else "no tools of its own"
    arguments = {"query": view.system, "cursor": following}
    answer = SystemsAnswer(
        message=f"System {view.system} ({view.kind}) has {has}.",
        systems=[view],
        tools=shown or None,
        next_cursor=following,
        next=[Call(tool="list_systems", arguments=arguments)] if following else [],
    )
    return tell(answer, [*_system_lines(view), *map(_tool_line, shown)], rest="the structured content")


def _view(overview: SystemOverview, health: SystemHealth, *, has_story: bool = False) -> SystemView:
    how, detail = _condition(overview, health)
    changes = health.last_changes if has_story or how != "ok" else ()
    return SystemView(
        system=overview.name,
        kind=overview.kind,
        tools=overview.tools,
        health=how,
        detail=clip(detail, _ERROR_CHARS) if detail else None,
        running=health.running or None,
        limit=health.limit,
        success_rate=None if health.success_rate is None else round(health.success_rate, 3),
        mean_seconds=None if health.mean_seconds is None else round(health.mean_seconds, 3),
        story=[clip(str(change), 200) for change in changes[-STORY_SHOWN:]] or None,
    )


def _condition(
    overview: SystemOverview, health: SystemHealth
) -> tuple[Literal["ok", "probing", "resting", "not_asked", "unreachable"], str]:
    """Return how a system is, and why."""
    if health.state is not BreakerState.CLOSED:
        why = health.opened_because or "it failed too often"
        if health.state is BreakerState.HALF_OPEN:
            return "probing", why
        when = (
            "" if health.next_probe_seconds is None else f"; next try in {seconds(health.next_probe_seconds)}"
        )
        return "not_asked", why + when
    if overview.error is not None:
        return "unreachable", f"can't be asked for its tools: {overview.error}"
    if health.rest_seconds:
        return "resting", f"too many requests; again in {seconds(health.rest_seconds)}"
    if health.open_tools:
        return "ok", f"not asked: {', '.join(f'{tool} ({why})' for tool, why in health.open_tools.items())}"
    return "ok", ""


def _system_lines(view: SystemView) -> list[str]:
    parts = [f"{view.kind}, {plural(view.tools, 'tool') if view.tools else 'any task'}", view.health]
    if view.success_rate is not None:
        parts.append(f"{view.success_rate:.0%} of the latest attempts went well")
    if view.mean_seconds is not None:
        parts.append(f"{seconds(view.mean_seconds)} each")
    if view.running:
        parts.append(f"{view.running:,} running" + (f" of {view.limit:,}" if view.limit is not None else ""))
    detail = f": {view.detail}" if view.detail else ""
    line = clip(f"- {view.system}: {' · '.join(parts)}{detail}", 300)
    return [line, *(f"  {change}" for change in view.story or ())]


# --- Tools ------------------------------------------------------------------------------------------------------------


def _tell_fitting(
    query: str, fitting: Sequence[ToolView], offset: int, overview: Sequence[SystemOverview]
) -> CallToolResult:
    shown, following = _page(fitting, offset, FITTING_SHOWN)
    silent = [each.name for each in overview if each.error is not None]
    takes_any = [each.name for each in overview if not each.tools and each.error is None]
    if shown:
        message = (
            f"{plural(len(shown), 'tool')} that {'fits' if len(shown) == 1 else 'fit'} best, best first."
        )
    else:
        message = "No tool shares a word with that."
    answer = SystemsAnswer(
        message=message,
        tools=shown,
        next_cursor=following,
        next=[Call(tool="list_systems", arguments={"query": query, "cursor": following})]
        if following and len(query) < DOES_CHARS
        else [],
    )
    lines = [_tool_line(tool) for tool in shown]
    if takes_any:
        lines.append(clip(f"Any task, by its description: {', '.join(takes_any)}"))
    if silent:
        lines.append(clip(f"Could not be asked for tools: {', '.join(silent)}"))
    return tell(answer, lines, rest="the structured content")


def _tool(system: str, name: str, description: str, schema: Mapping[str, Any] | None) -> ToolView:
    arguments = _arguments(schema)
    left = len(arguments) - ARGUMENTS_SHOWN
    return ToolView(
        system=system,
        tool=name,
        does=clip(description.strip().partition("\n")[0], DOES_CHARS) or None,
        arguments=dict(list(arguments.items())[:ARGUMENTS_SHOWN]) or None,
        more_arguments=left if left > 0 else None,
    )


def _arguments(schema: Mapping[str, Any] | None) -> dict[str, str]:
    """Return a tool's arguments with their types, those that must be given first."""
    properties = (schema or {}).get("properties")
    required = (schema or {}).get("required")
    if not isinstance(properties, Mapping):
        return {}
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    ordered = sorted(properties.items(), key=lambda entry: entry[0] not in needed)
    return {clip(str(name), 60) + ("" if name in needed else "?"): _kind(of) for name, of in ordered}


def _kind(schema: object) -> str:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    return clip(kind, 20) if isinstance(kind, str) else "any"


def _tool_line(tool: ToolView) -> str:
    told = ", ".join(f"{name}: {kind}" for name, kind in (tool.arguments or {}).items())
    more = ", …" if tool.more_arguments else ""
    does = f": {tool.does}" if tool.does else ""
    return clip(f"- {tool.system} · {tool.tool}({told}{more}){does}")
