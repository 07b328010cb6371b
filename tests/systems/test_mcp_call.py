"""What is known of a call that was never answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from orchestration.systems.mcp_call import Call, note_request, note_response

pytestmark = pytest.mark.anyio

SENT = "http11.send_request_headers.started"
FAILED = "connection.connect_tcp.failed"


@dataclass
class Request:
    """As the hooks see it."""

    method: str = "POST"
    extensions: dict[str, Any] = field(default_factory=dict)


@dataclass
class Response:
    """As the hooks see it."""

    request: Request
    status_code: int


async def requested(*happened: str | int, method: str = "POST") -> None:
    """Make a request to which things happen: events of the connection, and a status."""
    request = Request(method)
    await note_request(request)
    for what in happened:
        if isinstance(what, int):
            await note_response(Response(request, what))
        elif "trace" in request.extensions:
            await request.extensions["trace"](what, {})


@pytest.mark.parametrize(
    ("requests", "did_nothing"),
    [
        ([], False),
        ([(FAILED,)], True),
        ([(SENT,)], False),
        ([(SENT, 200)], False),
        ([(SENT, 401)], True),
        ([(SENT, 429)], True),
        ([(SENT, 408)], False),
        ([(SENT, 500)], False),
        ([(SENT, 503)], False),
        ([(SENT, 400), (SENT, 200)], False),
        ([(SENT, 200), (FAILED,)], False),
        ([(SENT, 400), (FAILED,)], True),
    ],
)
async def test_a_call_did_nothing_only_if_none_of_its_requests_can_have(
    requests: list[tuple[str | int, ...]], did_nothing: bool
) -> None:
    """Never sent, or refused by status; over stdio nothing is known."""
    client: Any = object()
    call = Call(client)

    with call.followed():
        for happened in requests:
            await requested(*happened)

    assert call.did_nothing is did_nothing


async def test_listening_on_after_a_loss_says_nothing_of_the_call() -> None:
    """The call was sent; that nobody could be reached to hear its answer does not unsend it."""
    client: Any = object()
    call = Call(client)

    with call.followed():
        await requested(SENT, 200)
        await requested(FAILED, method="GET")

    assert not call.did_nothing
    assert len(call.posts) == 1


async def test_requests_outside_of_calls_are_nobodys() -> None:
    """What the client asks on its own account is not followed."""
    client: Any = object()
    call = Call(client)
    with call.followed():
        pass

    await requested(SENT, 500)

    assert call.posts == []
