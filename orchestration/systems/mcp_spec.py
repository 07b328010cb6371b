"""How an MCP server is reached: the configuration of one `mcp` system.

May import: orchestration.models, pydantic, stdlib.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestration.models import PositiveSeconds


class McpServerSpec(BaseModel):
    """An MCP server: a command that speaks over stdin and stdout, or the address of one that speaks Streamable HTTP."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    command: str | None = Field(default=None, min_length=1)
    """The program to start. Either this or `url`."""
    args: list[str] = Field(default_factory=list)
    """Its arguments."""
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    """Environment variables besides `HOME`, `LOGNAME`, `PATH`, `SHELL`, `TERM` and `USER`, which it inherits."""
    cwd: Path | None = None
    """Folder it runs in; this program's own when absent."""
    url: str | None = None
    """Address of a Streamable HTTP endpoint, usually ending in `/mcp`."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """HTTP headers of every request, such as `Authorization`."""
    connect_timeout_seconds: PositiveSeconds = 30.0
    """Longest wait until the server has started and listed its tools."""

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> McpServerSpec:
        if (self.command is None) == (self.url is None):
            raise ValueError("expected exactly one of `command` (stdio) and `url` (Streamable HTTP)")
        if self.url is not None:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.netloc:
                raise ValueError(f"url is {self.url!r}; expected http://… or https://…")
            if self.args or self.env or self.cwd is not None:
                raise ValueError("`args`, `env` and `cwd` go with `command`, not with `url`")
        elif self.headers:
            raise ValueError("`headers` go with `url`, not with `command`")
        return self

    @property
    def target(self) -> str:
        """Return what is reached, for messages; without arguments and headers, which may hold secrets."""
        return self.url or self.command or ""
