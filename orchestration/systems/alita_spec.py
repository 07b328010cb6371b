"""How the Alita manager agent is reached: the configuration of one `alita` system.

May import: orchestration.models, pydantic, stdlib.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from orchestration.models import PositiveSeconds


class AlitaSpec(BaseModel):
    """An Alita manager agent."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    base_url: str = "http://127.0.0.1:3000"
    """Its address, without `/agent/execute`."""
    description: str = (
        "Alita, a general agent: researches on the web, writes and runs code, makes the tools it lacks, and answers "
        "in words."
    )
    """What it is good at, for whoever plans."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """HTTP headers of every request; it has no authentication of its own, a proxy before it may have."""
    timeout_seconds: PositiveSeconds = 75.0
    """Longest wait for one answer; it gives up itself after 60 s. The task's own limit holds too."""
    connect_timeout_seconds: PositiveSeconds = 5.0
    """Longest wait for a connection."""
    max_response_bytes: Annotated[int, Field(ge=1)] = 16 * 1024 * 1024
    """An answer over this fails the attempt."""
    health_interval_seconds: Annotated[float, Field(ge=60, allow_inf_nan=False)] = 60.0
    """How long one look at its health counts; each is one of the 100 requests it takes in 15 minutes."""

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_good = False
        if not is_good or parts.query or parts.fragment or parts.username is not None:
            raise ValueError(
                "expected http://HOST:PORT or https://HOST, without a user name, `?` and `#`; "
                "what must stay secret goes into `headers`"
            )
        return value.rstrip("/")
