"""Runs tasks as declared operations of an HTTP service (`http_spec.py`).

May import: orchestration.{clock, errors, models, ports, redaction}, orchestration.systems.{base, http_answers,
http_client, http_messages, http_parameters, http_request, http_spec}, pydantic, stdlib.

A task chooses an operation and fills its placeholders (`http_request.py`); addresses are judged when connections are
made (`http_addresses.py`, `http_client.py`); what an answer means is in `http_answers.py`. Cancelling closes the
connection of the request: a service that cares notices, and HTTP has no better way to tell it.

Secrets stand in declared headers. A service that sends one of them back would put it into the output, the journal
and a language model's context, so they are taken out of everything that comes from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from orchestration.clock import Clock, SystemClock
from orchestration.errors import AttemptError, AttemptFailedError, InvalidArgumentError
from orchestration.models import Json, JsonObject, TaskNode
from orchestration.ports import AttemptRequest, Health, ToolInfo
from orchestration.redaction import Redactor, header_secrets
from orchestration.systems.base import bounded, pick_tool, short_hash
from orchestration.systems.http_answers import failure_of_exchange, output_of
from orchestration.systems.http_messages import ExchangeError
from orchestration.systems.http_parameters import HttpParameter
from orchestration.systems.http_request import origin_of, render
from orchestration.systems.http_spec import HttpOperation, HttpSpec

if TYPE_CHECKING:
    from orchestration.systems.http_client import HttpClient

__all__ = ["HttpOperation", "HttpParameter", "HttpSpec", "HttpSystem"]

_NOT_DONE: Any = {
    **dict.fromkeys(("description", "timeout_seconds", "max_request_bytes", "max_response_bytes"), True),
    "parameters": {"__all__": {"description", "max_length"}},
    "headers": True,
}
"""What of a declaration says nothing of what the operation does; headers are told by their names."""


class HttpSystem:
    """A system made of one HTTP service.

    Args:
        service: How it is reached, and what it may be asked for.
        name: The system's name.
        clock: Tells the time that `Retry-After` dates are compared to.
    """

    kind = "http"

    def __init__(self, service: HttpSpec, name: str = "http", *, clock: Clock | None = None) -> None:
        self.name = name
        self._spec = service
        self._clock = clock or SystemClock()
        self._client: HttpClient | None = None
        self.secrets = frozenset(_secrets(service))
        """What must not come back from the service."""
        self._redactor = Redactor(self.secrets)

    async def open(self) -> None:
        """Nothing yet: connections are made when they are first needed."""

    async def aclose(self) -> None:
        """Close all connections; requests under way fail as unavailable."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def list_tools(self) -> list[ToolInfo]:
        """Return the declared operations."""
        return [
            ToolInfo(name=tool, description=operation.description, input_schema=operation.json_schema())
            for tool, operation in self._spec.operations.items()
        ]

    async def choose_tool(self, task: TaskNode) -> str:
        """Return the operation the task names, else the one called like the task, else the only one.

        Raises:
            InvalidArgumentError: There is none to choose; lists the operations there are.
        """
        return pick_tool(self.name, task.tool, task.task_id, self._spec.operations)

    def takes_inputs(self, tool: str | None) -> bool:  # noqa: ARG002  (the port's signature)
        """Operations take only their arguments; `${…}` puts upstream values there."""
        return False

    def fingerprint(self, tool: str | None) -> str:
        """Return what changes when an operation comes to ask something else; empty where there is no such operation.

        Without a tool it stands for all of them. Limits, descriptions and the values of headers are left out.
        """
        spec = self._spec
        if tool is not None and tool not in spec.operations:
            return ""
        wanted = spec.operations if tool is None else {tool: spec.operations[tool]}
        return short_hash(
            {
                "base_url": spec.base_url,
                "headers": _names(spec.headers),
                "operations": {name: _declaration(operation) for name, operation in wanted.items()},
            }
        )

    async def check(self) -> Health:
        """Ask for the declared health operation; without one, make a connection."""
        spec = self._spec
        try:
            if spec.health is None:
                await self._connected().connect(origin_of(spec))
                return Health(ok=True, detail=f"{origin_of(spec)} takes connections")
            await self._ask(spec.health, spec.operations[spec.health], {}, "", lambda: None)
        except (AttemptError, ExchangeError) as exc:
            return Health(ok=False, detail=bounded(str(exc), 300))
        return Health(ok=True, detail=f"{spec.health!r} answers at {origin_of(spec)}")

    async def execute(self, request: AttemptRequest) -> object:
        """Ask for the operation and return its output.

        Raises:
            AttemptFailedError: The arguments don't fit, the service answered with a failure (`http_404`, …), or its
                answer can't be used (`invalid_output`, `output_too_large`, `redirect_refused`).
            AttemptTimeoutError: No whole answer came in time.
            SystemUnavailableError: The service can't be reached, or was lost before the answer ended.
        """
        operations = self._spec.operations
        try:
            tool = pick_tool(self.name, request.tool or request.task.tool, request.task.task_id, operations)
        except InvalidArgumentError as exc:
            raise AttemptFailedError(str(exc), "unknown_tool", retryable=False) from None
        return await self._ask(
            tool, operations[tool], request.arguments, request.idempotency_key, request.heartbeat
        )

    async def _ask(
        self,
        tool: str,
        operation: HttpOperation,
        arguments: JsonObject,
        idempotency_key: str,
        heartbeat: Callable[[], None],
    ) -> object:
        sent = render(self._spec, operation, tool, arguments, idempotency_key)
        try:
            answer = await self._connected().send(
                sent,
                timeout_seconds=operation.timeout_seconds,
                max_response_bytes=operation.max_response_bytes,
                heartbeat=heartbeat,
            )
        except ExchangeError as exc:
            raise failure_of_exchange(self.name, tool, sent.url, operation, exc) from exc
        output: Any = output_of(tool, operation, answer, self._redactor.text, self._clock.now_us())
        # A value is searched once it is read: a secret of digits may be a number in it.
        return self._redactor.json(output) if self._redactor.finds(answer.body) else output

    def _connected(self) -> HttpClient:
        if self._client is None:
            from orchestration.systems.http_client import ClientOptions, HttpClient

            spec = self._spec
            self._client = HttpClient(
                ClientOptions(
                    configured=origin_of(spec),
                    allow_redirects=spec.allow_redirects,
                    allow_private_addresses=spec.allow_private_addresses,
                    verify_tls=spec.verify_tls,
                    ca_file=spec.ca_file,
                    max_connections=spec.max_connections,
                    connect_timeout_seconds=spec.connect_timeout_seconds,
                )
            )
        return self._client


def _declaration(operation: HttpOperation) -> JsonObject:
    """Return what an operation asks for; of its headers only the names, for the values may be secrets."""
    declared: JsonObject = operation.model_dump(mode="json", exclude=_NOT_DONE, exclude_defaults=True)
    return declared | {"headers": _names(operation.headers)}


def _names(headers: Iterable[str]) -> Json:
    return [*sorted(name.lower() for name in headers)]


def _secrets(spec: HttpSpec) -> Iterator[str]:
    """Yield the values of headers whose names tell of secrets."""
    if spec.bearer_token is not None:
        yield spec.bearer_token
    for headers in (spec.headers, *(operation.headers for operation in spec.operations.values())):
        yield from header_secrets(headers)
