"""Runs tasks on an Alita manager agent, by `POST /agent/execute`.

May import: orchestration.{clock, errors, models, ports, redaction}, orchestration.systems.{alita_answers, alita_spec,
base, task_text}, httpx2 (late), anyio, stdlib.

What the agent does differently from what one would expect, and what follows:

* Its model is shown only the last item of `context`, never `message`, and some values of either end the whole server:
  the task's text is sent as both, always as a text and a list.
* It can't be told to stop and knows no idempotency key: cancelling closes the connection, and an attempt whose
  connection was lost, or that ran out of its time, leaves open what was done. `sessionId`, which keeps no memory, is
  the idempotency key, so that its logs show which requests are attempts of one task.
* It takes 100 requests in 15 minutes, health included: its health is asked for at most once a minute.
* `/health` says nothing of the model behind it, and `/status` is "degraded" in ordinary use: a look at its health says
  that it answers, and how the last task went.
* It gives no sign of life before its answer: a task's `heartbeat_timeout_seconds` must be longer than it may take.

It takes every task, by its description; the one tool it lists, `ask_alita`, is there to be found. What answers mean
is in `alita_answers.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from orchestration.clock import Clock, SystemClock
from orchestration.errors import (
    AttemptError,
    AttemptFailedError,
    AttemptTimeoutError,
    SystemUnavailableError,
)
from orchestration.models import TaskNode
from orchestration.ports import AttemptRequest, Health, ToolInfo
from orchestration.redaction import header_secrets
from orchestration.systems.alita_answers import Answer, failure_of, output_of
from orchestration.systems.alita_spec import AlitaSpec
from orchestration.systems.base import bounded, short_hash, words_of
from orchestration.systems.task_text import TextLimits, task_text

if TYPE_CHECKING:
    from httpx2 import AsyncClient

__all__ = ["OWN_TOOL", "AlitaSpec", "AlitaSystem"]

OWN_TOOL = "ask_alita"
"""The tool it lists; a task may name it, or any other, or none."""

HEALTH_SECONDS = 5.0
"""Longest wait for its health."""

QUESTION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "question": {
            "type": "string",
            "description": "What to do or answer, in full sentences; the task's description when absent.",
        }
    },
    "additionalProperties": True,
}
"""The arguments of `ask_alita`; whatever else a task has goes along as data."""


class AlitaSystem:
    """A system made of one Alita manager agent.

    Args:
        spec: How it is reached.
        name: The system's name.
        clock: Tells how long a rate limit holds and how old a look at its health is.
    """

    kind = "alita"
    serves = frozenset({"alita"})
    """Preferences it takes besides its own name."""

    def __init__(self, spec: AlitaSpec, name: str = "alita", *, clock: Clock | None = None) -> None:
        self.name = name
        self._spec = spec
        self._clock = clock or SystemClock()
        self._client: AsyncClient | None = None
        self._health: tuple[float, Health] | None = None
        """When its health was last asked for, and what it was."""
        self._asking = anyio.Lock()
        self._last_failure = ""
        """How the last task failed; empty when it went well, or there was none."""

    async def open(self) -> None:
        """Nothing yet: the first request connects."""
        self._asking = anyio.Lock()

    async def aclose(self) -> None:
        """Let go of the connections; idempotent."""
        client, self._client = self._client, None
        self._health = None
        if client is not None:
            await client.aclose()

    async def list_tools(self) -> list[ToolInfo]:
        """Return the one thing it does."""
        return [ToolInfo(name=OWN_TOOL, description=self._spec.description, input_schema=QUESTION_SCHEMA)]

    @property
    def secrets(self) -> list[str]:
        """Return the values of headers that nobody else is to see."""
        return [*header_secrets(self._spec.headers)]

    async def choose_tool(self, task: TaskNode) -> str | None:
        """Return the tool the task names, which is told to the agent; it needs none."""
        return task.tool

    def balanced_as(self, request: AttemptRequest) -> str:  # noqa: ARG002  (the port's signature)
        """Return the name a load balancer knows its instances by; what it chooses takes the place of `base_url`."""
        return self.kind

    def takes_inputs(self, tool: str | None) -> bool:  # noqa: ARG002  (the port's signature)
        """Inputs are part of the text."""
        return True

    def fingerprint(self, tool: str | None) -> str:  # noqa: ARG002  (one agent, whatever the tool)
        """Return what changes when another agent is reached; headers and limits don't count."""
        return short_hash([self.kind, self._spec.base_url])

    async def execute(self, request: AttemptRequest) -> dict[str, Any]:
        """Hand the task over, and return the response with the steps that led to it.

        Returns:
            `response`, `steps` (each `tool`, `input`, `observation`), `duration_seconds`, `request_id`, and where
            there are any `tool_failures` and `steps_left_out`.

        Raises:
            AttemptFailedError: It answered with a failure (`alita_answers.py` lists them), or nothing usable.
            AttemptTimeoutError: It gave no answer in the declared time.
            SystemUnavailableError: It can't be reached, or closed the connection before it answered.
        """
        text = task_text(request, OWN_TOOL, request.arguments, TextLimits())
        body = {
            "message": text,
            "context": [{"role": "user", "content": text}],
            "sessionId": request.idempotency_key,
        }
        address = (request.endpoint or self._spec.base_url).rstrip("/")
        try:
            answer = await self._ask("POST", f"{address}/agent/execute", self._spec.timeout_seconds, body)
            request.heartbeat()
            if answer.status != 200:
                raise failure_of(
                    self.name, answer, attempt=request.attempt, now_seconds=self._clock.now_us() / 1e6
                )
            output = output_of(answer)
        except AttemptError as exc:
            self._last_failure = bounded(str(exc), 200)
            raise
        self._last_failure = ""
        return output

    async def check(self) -> Health:
        """Say whether it answers: asked for at most once in `health_interval_seconds`, however often this is called."""
        async with self._asking:
            now = self._clock.monotonic()
            if self._health is not None and now - self._health[0] < self._spec.health_interval_seconds:
                return self._with_last_failure(self._health[1])
            try:
                answer = await self._ask("GET", f"{self._spec.base_url}/health", HEALTH_SECONDS)
            except AttemptError as exc:  # asked again next time: what is not reached counts no request
                return Health(ok=False, detail=bounded(str(exc), 300))
            health = self._health_in(answer)
            self._health = (now, health)
            return self._with_last_failure(health)

    def _health_in(self, answer: Answer) -> Health:
        if answer.status == 200:
            return Health(
                ok=True, detail=f"answers at {self._spec.base_url} (this says nothing of its model)"
            )
        failure = failure_of(self.name, answer, attempt=1, now_seconds=self._clock.now_us() / 1e6)
        return Health(ok=False, detail=bounded(str(failure), 300))

    def _with_last_failure(self, health: Health) -> Health:
        if not self._last_failure:
            return health
        return Health(ok=health.ok, detail=f"{health.detail}; the last task failed: {self._last_failure}")

    async def _ask(
        self, method: str, url: str, timeout_seconds: float, body: dict[str, Any] | None = None
    ) -> Answer:
        """Send a request and read its whole answer.

        Raises:
            AttemptFailedError: The answer is larger than declared.
            AttemptTimeoutError: There was none in time.
            SystemUnavailableError: There was nobody to ask, or the connection was lost.
        """
        import httpx2

        try:
            with anyio.fail_after(timeout_seconds):
                return await self._read(method, url, body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as exc:
            reason = f"no connection to {url}: {_reason(exc)}"
            raise SystemUnavailableError(self.name, reason) from exc
        except (TimeoutError, httpx2.TimeoutException) as exc:
            raise AttemptTimeoutError(
                f"Alita gave no answer within {timeout_seconds:g} s. It may still be working."
            ) from exc
        except (httpx2.HTTPError, OSError) as exc:
            reason = f"{url} closed the connection before it answered: {_reason(exc)}"
            raise SystemUnavailableError(self.name, reason, effect_open=True) from exc

    async def _read(self, method: str, url: str, body: dict[str, Any] | None) -> Answer:
        received = bytearray()
        limit = self._spec.max_response_bytes
        async with self._connected().stream(method, url, json=body) as response:
            # Leaving the loop would leave the client's own generators half way, which trio complains of; a cancellation
            # comes from inside them and ends them in order.
            with anyio.CancelScope() as reading:
                async for chunk in response.aiter_bytes():
                    received += chunk
                    if len(received) > limit:
                        reading.cancel()
        if len(received) > limit:
            raise AttemptFailedError(
                f"Alita's answer is larger than {limit} bytes. Fix: ask for less, or raise max_response_bytes.",
                "output_too_large",
                retryable=False,
                effect_open=True,
            )
        return Answer(status=response.status_code, headers=response.headers, body=bytes(received))

    def _connected(self) -> AsyncClient:
        if self._client is None:
            import httpx2

            self._client = httpx2.AsyncClient(
                headers=self._spec.headers,
                timeout=httpx2.Timeout(None, connect=self._spec.connect_timeout_seconds),
                # A connection that is kept may be closed just when it is used again, and then nobody knows whether the
                # request was read. Tasks take seconds, connections less than a millisecond.
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
                trust_env=False,  # a proxy of the environment is not part of the declaration
            )
        return self._client


def _reason(exc: BaseException) -> str:
    return bounded(words_of(exc) or type(exc).__name__, 300)
