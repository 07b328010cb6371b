"""Which exceptions leave open whether the work was done."""

from __future__ import annotations

import http.client
import socket
import subprocess

import anyio
import httpx2
import pytest

from orchestration.errors import (
    AttemptCancelledError,
    AttemptFailedError,
    AttemptTimeoutError,
    OrchestrationNotFoundError,
    SystemUnavailableError,
)
from orchestration.systems.base import error_record
from orchestration.systems.open_effects import MAX_CAUSES, leaves_effect_open


class ChargeError(Exception):
    """What a client of somebody's raises."""


class APITimeoutError(ChargeError):
    """The same, where its name says enough."""


class NewConnectionError(ConnectionError):
    """Named like urllib3's: there was nobody to connect to."""


class Cancelled(BaseException):
    """What cuts a call off in an event loop."""


def caused(exc: Exception, cause: BaseException) -> Exception:
    """Return an exception as `raise exc from cause` leaves it."""
    exc.__cause__ = cause
    return exc


@pytest.mark.parametrize(
    ("exc", "is_open"),
    [
        # A system's own word counts.
        (AttemptFailedError("no luck"), False),
        (AttemptFailedError("cut off", "command_failed", effect_open=True), True),
        (AttemptTimeoutError(), True),
        (AttemptCancelledError(), True),
        (SystemUnavailableError("files", "nobody there"), False),
        (SystemUnavailableError("files", "lost", effect_open=True), True),
        (OrchestrationNotFoundError("x-1"), False),
        # Between asking and answering.
        (TimeoutError(), True),
        (TimeoutError("timed out"), True),
        (subprocess.TimeoutExpired("x", 1), True),
        (ConnectionResetError(), True),
        (ConnectionAbortedError(), True),
        (BrokenPipeError(), True),
        (ConnectionError("lost"), True),
        (EOFError(), True),
        (http.client.IncompleteRead(b""), True),
        (http.client.RemoteDisconnected("no answer"), True),
        (anyio.BrokenResourceError(), True),
        (anyio.EndOfStream(), True),
        (anyio.IncompleteRead(), True),
        (Cancelled(), True),
        # Nobody was asked.
        (ConnectionRefusedError(), False),
        (socket.gaierror(-2, "unknown host"), False),
        (NewConnectionError(), False),
        # An answer, though no good one.
        (ValueError("no number"), False),
        (KeyError("rows"), False),
        (TypeError("unsupported"), False),
        (FileNotFoundError("x"), False),
        (SystemExit(2), False),
        (KeyboardInterrupt(), False),
        # HTTP libraries, told by the names of their classes.
        (httpx2.ReadTimeout("slow"), True),
        (httpx2.WriteTimeout("slow"), True),
        (httpx2.ReadError("lost"), True),
        (httpx2.RemoteProtocolError("server disconnected"), True),
        (httpx2.ConnectTimeout("slow"), False),
        (httpx2.ConnectError("refused"), False),
        (httpx2.PoolTimeout("busy"), False),
        (httpx2.UnsupportedProtocol("x://"), False),
        (APITimeoutError(), True),
        # Wrapped: the cause tells where the class does not.
        (caused(ChargeError(), httpx2.ReadTimeout("slow")), True),
        (caused(ChargeError(), httpx2.ConnectError("refused")), False),
        (caused(ChargeError(), caused(ValueError(), TimeoutError())), True),
        (caused(AttemptFailedError("undone"), TimeoutError()), False),
        (caused(ChargeError(), ExceptionGroup("two", [ValueError(), TimeoutError()])), True),
        # Groups: one open member is enough.
        (ExceptionGroup("one", [TimeoutError()]), True),
        (ExceptionGroup("two", [ValueError(), ConnectionResetError()]), True),
        (ExceptionGroup("two", [ValueError(), KeyError("x")]), False),
    ],
    ids=repr,
)
def test_an_exception_says_whether_it_leaves_the_effect_open(exc: BaseException, is_open: bool) -> None:
    """What came between asking and answering does; a definite answer, or nobody to ask, does not."""
    assert leaves_effect_open(exc) is is_open
    assert error_record(exc, "files", 1).effect_open is is_open


def test_causes_that_go_in_a_circle_end() -> None:
    """Whatever somebody did to an exception, the question has an answer."""
    first, second = ValueError(), KeyError()
    caused(first, second)
    caused(second, first)

    assert MAX_CAUSES < 100
    assert leaves_effect_open(first) is False
