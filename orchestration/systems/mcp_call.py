"""One call on its way to an MCP server, and what becomes known of it there.

May import: mcp (types only), stdlib.

The client tells a call that failed on its way only that the connection is gone. Over HTTP more can be known, and it
matters: a request that found nobody listening, or that was refused with a 4xx status, did nothing; one that was sent
and never answered may have done all. The client passes the caller's context variables on to the HTTP request, so the
hooks here, which see every request, know whose it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp import Client

CLIENT_ERRORS = range(400, 500)
"""HTTP statuses of a request that was refused."""

REQUEST_TIMEOUT = 408
"""The one of them that may come from whoever stands in front of a server that goes on working."""

_current: ContextVar[Call | None] = ContextVar("mcp_call", default=None)

_POST = "advanced_orchestration.post"
"""Where a request carries what is known of it."""


@dataclass(slots=True)
class Post:
    """One HTTP request of a call."""

    was_sent: bool = False
    was_refused: bool = False

    async def trace(self, event: str, info: dict[str, Any]) -> None:  # noqa: ARG002  (the library's signature)
        """Take what the HTTP library says it is doing."""
        if event.endswith(".send_request_headers.started"):
            self.was_sent = True


@dataclass(slots=True)
class Call:
    """A call under way."""

    client: Client
    posts: list[Post] = field(default_factory=list)
    """Its requests; none over stdio. There may be several: a server may ask back."""

    @property
    def did_nothing(self) -> bool:
        """Whether it is known that it had no effect, although no answer of the server's own protocol came."""
        return bool(self.posts) and all(post.was_refused or not post.was_sent for post in self.posts)

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """Let the hooks know that what is requested meanwhile belongs to this call."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


async def note_request(request: Any) -> None:
    """Have a request of a call watched; a hook of the HTTP client. One that only listens on (GET) does nothing."""
    call = _current.get()
    if call is not None and request.method == "POST":
        post = Post()
        call.posts.append(post)
        request.extensions[_POST] = post
        request.extensions["trace"] = post.trace


async def note_response(response: Any) -> None:
    """Note whether a request was refused; a hook of the HTTP client."""
    post = response.request.extensions.get(_POST)
    if post is not None:
        status = response.status_code
        post.was_refused = status in CLIENT_ERRORS and status != REQUEST_TIMEOUT
