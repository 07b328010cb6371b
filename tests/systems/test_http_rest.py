"""A service that asks to be left alone is, until it said: answers 429 and 503 of a real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestration.systems.base import error_record
from orchestration.systems.breaker import BreakerState
from orchestration.systems.health import SystemHealth
from orchestration.systems.resilience import Resilience
from tests.systems import http_service as service_parts
from tests.systems.http_kit import error_of
from tests.systems.http_service import HttpService, Reply
from tests.systems.test_resilience import Hands

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Both event loops: the client is written for anyio."""
    return str(request.param)


@pytest.fixture(scope="module")
def service() -> Iterator[HttpService]:
    with service_parts.http_service() as service:
        yield service


async def story_after(service: HttpService, reply: Reply) -> SystemHealth:
    """Return how a service does after one answer."""
    service.answers["/"] = reply
    resilience = Resilience(Hands())
    ticket = resilience.admit("svc", "http", "op")
    ticket.ended(error_record(await error_of(service), "svc", 1))
    return resilience.story("svc")


@pytest.mark.parametrize(
    ("status", "headers", "rest"),
    [
        (429, {"Retry-After": "7"}, 7.0),
        (429, {}, 1.0),
        (503, {"Retry-After": "9"}, 9.0),
        (503, {}, None),
        (500, {"Retry-After": "9"}, None),
    ],
)
async def test_a_service_is_left_alone_for_as_long_as_it_asks(
    service: HttpService, status: int, headers: dict[str, str], rest: float | None
) -> None:
    """Nothing goes there meanwhile; that it copes badly without saying how long is its breaker's affair."""
    story = await story_after(service, Reply(b"slow down", status, headers))

    assert story.rest_seconds == rest
    assert story.state is BreakerState.CLOSED
    if rest is not None:
        change = story.last_changes[0]
        why = "too many requests" if status == 429 else "it is not available"
        assert f"gets nothing for {rest:g} s: {why}" in change.told
