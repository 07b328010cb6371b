"""What helps the router choose: what is known of earlier runs, and a search over tools by what they do.

May import: orchestration.{models, records}, stdlib.

A tool is taken by its description only where that is plainly what the task means. The order a search gives is a
guess, and its scores mean different things from index to index; so what can be checked must hold, too:

* the task's arguments fit the tool: every required one is there, none is unknown, none of another type;
* every word of the tool's name stands in the task's description (`read_file` for "Read the file notes.txt"), and it
  has at least two: `delete` or `list` alone is said of anything;
* the description forbids and excepts nothing ("do not", "without", "only"): which of its words that is about, nobody
  can tell by looking at words, and the one tool they name may be the one that is forbidden;
* no other tool of another name passes all of these.

Anything less goes to a system that understands descriptions, or is refused with a hint: a tool that almost fits does
something nobody asked for.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from orchestration.models import Json
from orchestration.records import History

LoadHistory: TypeAlias = Callable[
    [Sequence[tuple[str, str | None]]], Awaitable[Mapping[tuple[str, str | None], History]]
]
"""As `Storage.load_history`."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_FEWEST_WORDS = 2
"""Words a tool's name must have."""
_NEGATION = re.compile(
    r"(?<![a-z])(?:not|cannot|never|no|nor|none|nothing|nobody|neither|without|instead|rather\s+than|avoid\w*"
    r"|refrain\w*|except|unless|only|forbid\w*|prevent\w*|prohibit\w*|refus\w*|[a-z]+n['\u2019\u02bc\u2032`]t"
    r"|(?:do|does|did|is|are|was|were|has|have|had|wo|would|ca|could|must|should|need)nt)(?![a-z])",
    re.IGNORECASE,
)
"""Words after which, or before which, a description may mean the opposite of what its other words say."""


class FoundTool(Protocol):
    """One answer of a search."""

    @property
    def system(self) -> str:
        """The system that has it."""
        ...

    @property
    def tool(self) -> str:
        """Its name there."""
        ...


class FindTools(Protocol):
    """A search over the tools of all systems by what they do."""

    async def search(self, text: str, limit: int = 5) -> Sequence[FoundTool]:
        """Return the tools nearest in meaning, best first."""
        ...


@dataclass(slots=True)
class RoutingAids:
    """What a router has beside the systems themselves; each may be absent."""

    history: LoadHistory | None = None
    find_tools: FindTools | None = None


def plainly_means(description: str, tool: str, arguments: Mapping[str, Json], schema: object) -> bool:
    """Whether a task's description and arguments leave no doubt that a tool is meant.

    A description that forbids anything never does, nor does a name of one word.

    Args:
        description: The task's.
        tool: The tool's name.
        arguments: The task's.
        schema: JSON Schema of the tool's arguments.
    """
    words = words_of(tool)
    if len(words) < _FEWEST_WORDS or not words <= words_of(description) or _NEGATION.search(description):
        return False
    return arguments_fit(arguments, schema)


def arguments_fit(arguments: Mapping[str, Json], schema: object) -> bool:
    """Whether a tool could be called so: required arguments there, none unknown, none of another type.

    A text with a reference in it may become anything; a tool that does not say what it takes fits nothing.
    """
    if not isinstance(schema, Mapping):
        return False
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, Mapping) or not isinstance(required, Sequence):
        return False
    if any(name not in arguments for name in required):
        return False
    return all(name in properties and _is_typed(value, properties[name]) for name, value in arguments.items())


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text or identifier, small and without a plural's s."""
    return frozenset(
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in (found.lower() for found in _WORD.findall(text))
    )


def _is_typed(value: Json, schema: Any) -> bool:
    if isinstance(value, str) and "${" in value:
        return True
    declared = schema.get("type") if isinstance(schema, Mapping) else None
    names = [declared] if isinstance(declared, str) else declared if isinstance(declared, list) else []
    known = [_TYPES[name] for name in names if name in _TYPES]
    if not known or (value is None and "null" in names):
        return True
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, types) for types in known)
