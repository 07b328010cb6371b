"""A Sequential Thinking MCP server inside this process, with the one tool of the published one.

May import: mcp (late: it takes a third of a second), pydantic, stdlib.

It keeps the contract of `@modelcontextprotocol/server-sequential-thinking`: the same tool, parameters, answer
and refusals, which one suite checks on both. Like that one it stores and counts thoughts; it makes none.
The low-level server class is used because the high-level one sets up the logging of the whole process when it
is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, ValidationError
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

TOOL_NAME = "sequentialthinking"

_DESCRIPTION = (
    "Takes one step of thinking and keeps count. Send thoughts in order; a thought may revise an earlier "
    "one (isRevision, revisesThought) or start a branch (branchFromThought, branchId). totalThoughts is an "
    "estimate and may change; set nextThoughtNeeded to false with the last thought."
)


def _truth(value: object) -> object:
    """Take a boolean, or the words true and false in any case, as clients send them."""
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    if isinstance(value, bool):
        return value
    raise ValueError('expected a boolean, or "true" or "false"')


_Truth = Annotated[bool, BeforeValidator(_truth)]
_Number = Annotated[int, Field(ge=1, le=2**53 - 1)]


class ThoughtArguments(BaseModel):
    """What the tool takes; unknown fields are ignored, as the other server does."""

    model_config = ConfigDict(
        alias_generator=to_camel, frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    thought: StrictStr
    """The current step of thinking."""
    next_thought_needed: _Truth
    """Whether another thought follows."""
    thought_number: _Number
    """Number of this thought; may go past the total."""
    total_thoughts: _Number
    """Present estimate of the thoughts needed."""
    is_revision: _Truth = False
    """Whether this revises earlier thinking."""
    revises_thought: _Number | None = None
    """Which thought is reconsidered."""
    branch_from_thought: _Number | None = None
    """Where a branch starts."""
    branch_id: StrictStr | None = None
    """Name of the branch."""
    needs_more_thoughts: _Truth = False
    """Whether the estimate turned out too low."""


@dataclass(slots=True)
class ThoughtHistory:
    """The thoughts of one plan, in the order they came."""

    thoughts: list[ThoughtArguments] = field(default_factory=list)
    branches: dict[str, list[ThoughtArguments]] = field(default_factory=dict)

    def take(self, thought: ThoughtArguments) -> dict[str, Any]:
        """Keep a thought and return the tool's answer; a branch counts only with its name and its start."""
        self.thoughts.append(thought)
        if thought.branch_id and thought.branch_from_thought:
            self.branches.setdefault(thought.branch_id, []).append(thought)
        return {
            "thoughtNumber": thought.thought_number,
            "totalThoughts": max(thought.total_thoughts, thought.thought_number),
            "nextThoughtNeeded": thought.next_thought_needed,
            "branches": list(self.branches),
            "thoughtHistoryLength": len(self.thoughts),
        }


_OUTPUT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "thoughtNumber": {"type": "number"},
        "totalThoughts": {"type": "number"},
        "nextThoughtNeeded": {"type": "boolean"},
        "branches": {"type": "array", "items": {"type": "string"}},
        "thoughtHistoryLength": {"type": "number"},
    },
    "required": ["thoughtNumber", "totalThoughts", "nextThoughtNeeded", "branches", "thoughtHistoryLength"],
    "additionalProperties": False,
}


def make_thinking_server(history: ThoughtHistory | None = None) -> Server[Any]:
    """Return a server with a history of its own, as each process of the other server has.

    Args:
        history: Where the thoughts are kept; a new one when absent.
    """
    import json

    import mcp_types as types
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server

    kept = ThoughtHistory() if history is None else history
    tool = types.Tool(
        name=TOOL_NAME,
        title="Sequential Thinking",
        description=_DESCRIPTION,
        input_schema=ThoughtArguments.model_json_schema(by_alias=True),
        output_schema=dict(_OUTPUT_SCHEMA),
        annotations=types.ToolAnnotations(
            read_only_hint=True, destructive_hint=False, idempotent_hint=False, open_world_hint=False
        ),
    )

    async def list_tools(
        _context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[tool])

    async def call_tool(
        _context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name != TOOL_NAME:
            return refusal(f"Tool {params.name} not found")
        try:
            thought = ThoughtArguments.model_validate(params.arguments or {}, by_alias=True, by_name=False)
        except ValidationError as exc:
            mistakes = "; ".join(
                f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}"
                for mistake in exc.errors(include_url=False)
            )
            return refusal(f"Input validation error: Invalid arguments for tool {TOOL_NAME}: {mistakes}")
        answer = kept.take(thought)
        text = types.TextContent(type="text", text=json.dumps(answer, indent=2))
        return types.CallToolResult(content=[text], structured_content=answer)

    def refusal(reason: str) -> types.CallToolResult:
        text = types.TextContent(type="text", text=f"MCP error -32602: {reason}")
        return types.CallToolResult(content=[text], is_error=True)

    return Server("sequential-thinking", on_list_tools=list_tools, on_call_tool=call_tool)
