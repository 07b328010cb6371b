"""What is sent to an HTTP service, what comes back, and what went wrong in between: plain records.

May import: stdlib.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom a request goes to; what is meant for one origin is not meant for another."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Return host and port as they stand in the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if DEFAULT_PORTS.get(self.scheme) == self.port else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One request, ready to be sent."""

    method: str
    origin: Origin
    target: str
    """Path and query, percent-encoded."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What says how the request is to be read; shown to whatever origin it ends up at."""
    declared_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What was declared for this origin, secrets among it; never sent to another."""
    body: bytes | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Return its address without the query, which may hold anything; for messages."""
        return f"{self.origin}{self.target.partition('?')[0]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """One answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    """By their names in small letters; of one that is repeated, all values, joined by commas."""
    body: bytes = field(repr=False)
    """After decompression."""
    has_acted: bool = False
    """Whether an earlier answer, a redirect, says that the effect has happened."""


Trouble: TypeAlias = Literal["address", "unreachable", "lost", "timeout", "too_large", "unusable", "redirect"]


class ExchangeError(Exception):
    """A request got no answer that could be read.

    Args:
        trouble: What went wrong, in one word.
        reason: The same for readers.
        was_sent: Whether any of a request that may change something had been sent by then.
    """

    def __init__(self, trouble: Trouble, reason: str, was_sent: bool = False) -> None:
        super().__init__(trouble, reason, was_sent)
        self.trouble: Trouble = trouble
        self.reason = reason
        self.was_sent = was_sent

    def __str__(self) -> str:
        return self.reason
