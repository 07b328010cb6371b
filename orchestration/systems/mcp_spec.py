"""How an MCP server is reached, and its limits: the configuration of one `mcp` system.

May import: orchestration.{models, redaction}, pydantic, stdlib.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestration.models import PositiveSeconds
from orchestration.redaction import SHORTEST, Redactor, secret_values, tells_of_secret

_PLAIN_HEADERS = frozenset({"accept", "accept-language", "content-type", "user-agent", "x-mcp-readonly"})
"""Headers that hold no secret, in lower case."""

MIB = 1024 * 1024


class McpServerSpec(BaseModel):
    """An MCP server: a command that speaks over stdin and stdout, or the address of one that speaks Streamable HTTP."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    command: str | None = Field(default=None, min_length=1)
    """The program to start. Either this or `url`."""
    args: list[str] = Field(default_factory=list, repr=False)
    """Its arguments."""
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    """Environment variables besides `HOME`, `LOGNAME`, `PATH`, `SHELL`, `TERM` and `USER`, which it inherits."""
    cwd: Path | None = None
    """Folder it runs in; this program's own when absent."""
    url: str | None = Field(default=None, repr=False)
    """Address of a Streamable HTTP endpoint, usually ending in `/mcp`."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """HTTP headers of every request, such as `Authorization`."""
    connect_timeout_seconds: PositiveSeconds = 30.0
    """Longest wait until the server has started and listed its tools."""
    timeout_seconds: PositiveSeconds | None = None
    """Longest call of a tool, not counting the wait for its turn; as long as the task may take when absent."""
    max_concurrent: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Calls at once; further ones wait for their turn. No limit when absent."""
    idle_seconds: PositiveSeconds = 600.0
    """After this long without a call the connection is closed, and a server process ended, until it is needed again."""
    max_answer_bytes: Annotated[int, Field(ge=1024, le=1024 * MIB)] = 64 * MIB
    """Largest message the server may send; a larger answer fails its call and takes no memory."""

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> McpServerSpec:
        if (self.command is None) == (self.url is None):
            raise ValueError("expected exactly one of `command` (stdio) and `url` (Streamable HTTP)")
        if self.url is not None:
            try:
                parts = urlsplit(self.url)
                is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
            except ValueError:
                is_address = False
            if not is_address:
                raise ValueError(f"url is {self.target!r}; expected http://… or https://…")
            if self.args or self.env or self.cwd is not None:
                raise ValueError("`args`, `env` and `cwd` go with `command`, not with `url`")
        elif self.headers:
            raise ValueError("`headers` go with `url`, not with `command`")
        return self

    @property
    def target(self) -> str:
        """Return what is reached, for messages; without arguments, headers and query, which may hold secrets."""
        if self.url is None:
            return self.command or ""
        bare = re.sub(r"(?<=//)[^/?#]*@", "", self.url)
        return re.split(r"[?#]", bare, maxsplit=1)[0]

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the values nobody else is to see, longest first."""
        found = {*secret_values(self.env), *_secret_arguments(self.args)}
        for name, value in self.headers.items():
            if name.lower() not in _PLAIN_HEADERS:
                found |= {value, value.rpartition(" ")[2]}
        if self.url is not None:
            parts = urlsplit(self.url)
            found |= {value for _, value in parse_qsl(parts.query)}
            found |= {parts.password or "", parts.query}
        return tuple(sorted((each for each in found if len(each) >= SHORTEST), key=len, reverse=True))

    def without_secrets(self, text: str) -> str:
        """Return what a server or the way to it said, without the secrets it was given."""
        return self._redactor.text(text)

    @cached_property
    def _redactor(self) -> Redactor:
        return Redactor(self.secrets)


def _secret_arguments(args: Sequence[str]) -> Iterator[str]:
    """Yield the values of options whose names tell of secrets: `--token=…`, `--api-key …`."""
    for index, item in enumerate(args):
        name, _, value = item.partition("=")
        if item.startswith("-") and tells_of_secret(name):
            yield value or "".join(args[index + 1 : index + 2])
