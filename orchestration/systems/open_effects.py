"""Says of an exception whether it leaves open what happened: the work may have been done although no answer came.

May import: orchestration.errors, anyio, stdlib.

A definite answer closes the question: a tool's own error, an exit code, bad arguments, an exception of somebody's own
function. Open is what ended *between* asking and answering: a timeout, a lost connection, an end in the middle of an
answer, a cancellation. A connection that could not even be made is definite: nothing was asked.

* An `AttemptError` says so itself (`effect_open`); the other errors of `orchestration.errors` come from this program,
  not from the work, and are definite.
* Exceptions of the standard library and of anyio are told by class.
* Those of HTTP libraries and clients made with them are told by the names of their classes, so that none need be
  imported, and by their explicit cause: `raise ChargeError(…) from ReadTimeout` knows no more than the `ReadTimeout`.

In doubt the answer is open. It only matters to a task that must not run twice, and there a question too many is
better than an effect too many.
"""

from __future__ import annotations

import subprocess

import anyio

from orchestration.errors import AttemptError, OrchestrationError

LEAVE_OPEN: tuple[type[BaseException], ...] = (
    TimeoutError,
    ConnectionError,
    EOFError,
    subprocess.TimeoutExpired,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    anyio.IncompleteRead,
)
"""Exceptions that come between asking and answering."""

NAMES_LEFT_OPEN = frozenset(
    {
        *("Timeout", "TimeoutException", "TimeoutError", "APITimeoutError"),
        *("NetworkError", "RemoteProtocolError", "ProtocolError", "ChunkedEncodingError", "IncompleteRead"),
        *("ConnectionError", "APIConnectionError", "ClientConnectionError", "ClientPayloadError"),
    }
)
"""The same, by the names that HTTP libraries (httpx, requests, urllib3, aiohttp, http.client) and their users give."""

NEVER_ASKED: tuple[type[BaseException], ...] = (ConnectionRefusedError,)
"""Exceptions that mean that there was nobody to ask."""

NAMES_NEVER_ASKED = frozenset(
    {
        *("ConnectError", "ConnectTimeout", "ConnectTimeoutError", "ConnectionTimeoutError", "PoolTimeout"),
        *("LocalProtocolError", "NewConnectionError", "NameResolutionError", "ClientConnectorError"),
    }
)
"""The same, by the names that HTTP libraries use."""

MAX_CAUSES = 10
"""How many causes of causes are looked at."""


def leaves_effect_open(exc: BaseException) -> bool:
    """Whether the work may have been done although it ended with `exc`; of a group, one open member is enough."""
    return _leaves_open(exc, MAX_CAUSES)


def _leaves_open(exc: BaseException, causes: int) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return any(_leaves_open(member, causes) for member in exc.exceptions)
    known = _known(exc)
    if known is not None:
        return known
    return exc.__cause__ is not None and causes > 0 and _leaves_open(exc.__cause__, causes - 1)


def _known(exc: BaseException) -> bool | None:
    """Return what an exception's own class says; None where only its cause can tell."""
    if isinstance(exc, AttemptError):
        return exc.effect_open
    if isinstance(exc, OrchestrationError):
        return False
    if not isinstance(
        exc, Exception
    ):  # a cancellation cuts off; SystemExit and KeyboardInterrupt are raised at will
        return not isinstance(exc, SystemExit | KeyboardInterrupt)
    names = {base.__name__ for base in type(exc).__mro__}
    if isinstance(exc, NEVER_ASKED) or names & NAMES_NEVER_ASKED:
        return False
    if isinstance(exc, LEAVE_OPEN) or names & NAMES_LEFT_OPEN:
        return True
    return None
