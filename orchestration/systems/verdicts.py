"""What the failure of an attempt says about the system it ran on, if anything.

May import: orchestration.models, stdlib. Pure.

* `system_unavailable`: nobody could be reached, or the connection was lost. Speaks of the system.
* `timeout`, a status of 500 and above, a connection closed in the middle of an answer, and whatever else may be
  retried and leaves open whether the work was done: somebody was there and did not cope. Speaks of the tool, for its
  neighbours may do well; of the system where it has no tools.
* `rate_limited`, `http_429`: it copes, and says so. An answer; the rest it asks for (`asks_for_rest`, as does a 503
  that says for how long) is kept elsewhere.
* Everything else is an answer: a tool's own error, an exit code, a refusal of the arguments by the other side. That a
  task went wrong does not make its system a bad one.
* Arguments that were never sent say nothing, nor does a cancellation.

What runs in this process, or as its child, has no other side that could be overloaded: there only
`system_unavailable`, which such a system must say itself, counts. A function that is slow is the caller's own.
"""

from __future__ import annotations

import re
from enum import StrEnum

from orchestration.models import ErrorRecord

CIRCUIT_OPEN = "circuit_open"
"""Code of an attempt that a breaker refused."""

TOO_MANY_REQUESTS = frozenset({"rate_limited", "http_429"})
"""Codes of an answer "too many requests": of what speaks its own words, and of what tells the status as it came."""

_UNAVAILABLE_UNTIL = "http_503"
"""Code of an answer that asks for a rest where it says for how long; else it is a fault like any other."""

OWN_KINDS = frozenset({"function", "command", "agent"})
"""Kinds that run here, or wait for whoever is here."""

_SERVER_FAULT = re.compile(r"(?:http_?|status_?)?5\d\d|server_error|bad_gateway|gateway_timeout")
"""Codes that mean a status of 500 and above."""

_NEVER_SENT = frozenset({"invalid_arguments", "arguments_too_large", "cancelled", CIRCUIT_OPEN})


class Verdict(StrEnum):
    """What the end of an attempt says."""

    ANSWERED = "answered"
    TOOL_FAULT = "tool_fault"
    SYSTEM_FAULT = "system_fault"
    NEUTRAL = "neutral"


def is_own(kind: str) -> bool:
    """Whether systems of a kind run here."""
    return kind in OWN_KINDS


def asks_for_rest(error: ErrorRecord) -> bool:
    """Whether a failure is the system's wish to be left alone for a while, however its kind puts it."""
    if error.code in TOO_MANY_REQUESTS:
        return True
    return error.code == _UNAVAILABLE_UNTIL and error.retryable and error.retry_after_seconds is not None


def verdict_on(error: ErrorRecord, *, is_own: bool) -> Verdict:
    """Return what a failure says about its system.

    Args:
        error: The failure.
        is_own: Whether the system runs here.
    """
    if error.code == "system_unavailable":
        return Verdict.SYSTEM_FAULT
    if error.code in _NEVER_SENT:
        return Verdict.NEUTRAL
    if is_own or error.code in TOO_MANY_REQUESTS:
        return Verdict.ANSWERED
    is_cut_off = error.retryable and error.effect_open
    if error.code == "timeout" or is_cut_off or _SERVER_FAULT.fullmatch(error.code):
        return Verdict.TOOL_FAULT
    return Verdict.ANSWERED
