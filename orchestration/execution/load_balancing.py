"""Asks the caller's `load_balancer` where an attempt should go, and tells it how that went.

May import: orchestration.{clock, ports}, orchestration.execution.{collaborator, courier, monitoring}, anyio, stdlib.

Only for systems that have a choice: those with a method `balanced_as(request)`, which answers with the name the load
balancer knows the instances by (`alita`, `kgot`), or None. The attempt waits `SELECT_SECONDS` at the most and then goes
to the system's own address, as it does when the answer is None or nothing that can be read. Where it is answered in
time, the endpoint is part of the request.

Each instance that was handed out is told of exactly once, by `record_request_completion(id, response_time_ms, success,
error=…)`: also when the attempt was cancelled, and when the answer came too late to be used. Only one that comes after
the orchestrator has been closed is lost. An instance without an id can't be told of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.abc

from orchestration.clock import Clock
from orchestration.execution.collaborator import UNHEARD, Collaborator, in_words, member, plain
from orchestration.execution.courier import Courier
from orchestration.execution.monitoring import ASKED_EVERY_SECONDS
from orchestration.ports import AttemptRequest, System

SELECT_SECONDS = 0.5
"""Longest wait of an attempt for an instance."""

MAX_QUESTIONS = 64
"""Questions under way at once; attempts beyond them go on without one."""

MAX_OWED = 500
"""Completions that may wait to be told; while there are more, no further instance is asked for."""

MAX_ENDPOINT_CHARS = 2_000

SELECT = "select_instance"
COMPLETE = "record_request_completion"
STATUS = "get_load_balancing_status"

TOO_LATE = "not used: the answer came too late"
NOT_AVAILABLE = "not used: it is not available"


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance that was handed out."""

    instance_id: str
    endpoint: str | None
    is_available: bool


@dataclass(slots=True)
class _Question:
    """An attempt's question, which may be left before it is answered."""

    done: anyio.Event
    instance: Instance | None = None
    is_left: bool = False


class LoadBalancing:
    """What is known of a load balancer; outlives the sessions.

    Args:
        collaborator: The load balancer.
        clock: Says when it is to be asked again how it stands.
    """

    def __init__(self, collaborator: Collaborator, clock: Clock) -> None:
        self.collaborator = collaborator
        self._clock = clock
        self._under_way = 0
        self._asked_at = -math.inf
        self._status: Any = None

    async def choose(
        self, group: anyio.abc.TaskGroup, courier: Courier, system: System, request: AttemptRequest
    ) -> Instance | None:
        """Return the instance an attempt should go to; None when it goes where it would anyway."""
        name = _balanced_as(system, request)
        if name is None or self.collaborator.is_resting or self._under_way >= MAX_QUESTIONS:
            return None
        if len(courier) >= MAX_OWED or self.collaborator.method(SELECT) is None:
            return None
        question = _Question(anyio.Event())
        self._under_way += 1
        group.start_soon(self._answer, courier, name, question)
        try:
            with anyio.move_on_after(SELECT_SECONDS):
                await question.done.wait()
        except BaseException:
            if question.instance is not None:  # answered in the moment of the cancellation
                self._give_back(courier, question.instance, TOO_LATE)
            raise
        finally:
            question.is_left = True
        if not question.done.is_set():
            self.collaborator.fault(SELECT, f"no answer within {SELECT_SECONDS:g} s")
        instance = question.instance
        if instance is not None and not instance.is_available:
            self._give_back(courier, instance, NOT_AVAILABLE)
            return None
        return instance

    def complete(self, courier: Courier, instance: Instance, seconds: float, error: str | None) -> None:
        """Have the load balancer told how the attempt went."""
        named = {"error": error}
        courier.tell(COMPLETE, instance.instance_id, seconds * 1000, error is None, named=named, is_owed=True)
        now = self._clock.monotonic()
        if now - self._asked_at >= ASKED_EVERY_SECONDS:
            self._asked_at = now
            courier.tell(STATUS, take=self._take_status)

    def told(self) -> dict[str, Any]:
        """Return how its calls went, and what it said last of itself, for the metrics."""
        told = self.collaborator.told()
        return told if self._status is None else {**told, "status": self._status}

    def _give_back(self, courier: Courier, instance: Instance, reason: str) -> None:
        courier.tell(COMPLETE, instance.instance_id, 0.0, False, named={"error": reason}, is_owed=True)

    async def _answer(self, courier: Courier, name: str, question: _Question) -> None:
        """Ask, for as long as it takes: who hands an instance out late is told that it was not used."""
        try:
            answer = await self.collaborator.ask(SELECT, name, pool="questions")
            instance = _instance(answer)
            if question.is_left:
                if instance is not None:
                    self._give_back(courier, instance, TOO_LATE)
                return
            question.instance = instance
            if instance is not None or answer is None:
                self.collaborator.heard(SELECT)
            elif answer is not UNHEARD:
                found = f"answered with {type(answer).__name__}, expected an instance or None"
                self.collaborator.fault(SELECT, found)
        except Exception as exc:  # noqa: BLE001  (a collaborator's fault never fails an orchestration)
            if not question.is_left:  # else its silence was counted already
                self.collaborator.fault(SELECT, in_words(exc))
        finally:
            self._under_way -= 1
            question.done.set()

    def _take_status(self, answer: object) -> None:
        self._status = plain(answer)


def pointed_at(request: AttemptRequest, instance: Instance | None) -> AttemptRequest:
    """Return a request that names the instance's endpoint."""
    if instance is None or instance.endpoint is None:
        return request
    return replace(request, endpoint=instance.endpoint)


def _balanced_as(system: System, request: AttemptRequest) -> str | None:
    """Return the name a load balancer knows a system's instances by; None where there is nothing to choose."""
    balanced_as = getattr(system, "balanced_as", None)
    name: str | None = balanced_as(request) if callable(balanced_as) else None
    return name


def _instance(answer: object) -> Instance | None:
    """Return an answer as an instance; None where it is none."""
    instance_id = member(answer, "instance_id")
    if not isinstance(instance_id, str) or not instance_id:
        return None
    return Instance(
        instance_id, _address(member(answer, "endpoint")), member(answer, "is_available") is not False
    )


def _address(value: object) -> str | None:
    """Return an endpoint that is an address of HTTP; None for anything else."""
    if not isinstance(value, str) or len(value) > MAX_ENDPOINT_CHARS or not value.isprintable():
        return None
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return None
    return value if is_address else None
