"""What a failure of an MCP call means: its code, whether repeating can help, and whether the tool may have run.

May import: orchestration.errors, orchestration.systems.base, stdlib.

* The tool's own error (`isError`) is a definite answer: `tool_error`, retried; but `invalid_arguments`, not retried,
  where the text says that the arguments don't fit, and `unknown_tool`, not retried, where the server has no such tool.
* So is a protocol error (JSON-RPC). Invalid parameters, unknown methods and missing capabilities are not retried.
* An answer that can't be used (`unusable`) is `invalid_output`, not retried: the tool has run, so what it did is left
  open.
* So is one that is over the size the server may send: `output_too_large`, not retried, for it would be again.
* What comes from the way to the server rather than from the server (`is_transport`) is no answer at all.
"""

from __future__ import annotations

import re

from orchestration.errors import AttemptFailedError
from orchestration.systems.base import bounded

_CONNECTION_CLOSED, _REQUEST_TIMEOUT = -32000, -32001
_PARSE_ERROR, _INVALID_REQUEST, _UNKNOWN_METHOD, _INVALID_PARAMS = -32700, -32600, -32601, -32602
_MISSING_CAPABILITY, _UNSUPPORTED_VERSION = -32021, -32022

_SESSION_GONE = "Session terminated"
_HTTP_TROUBLE = (_SESSION_GONE, "Server returned an error response", "Unexpected content type")
"""How the client words answers that came from HTTP, not from the server's own protocol."""

_NO_ANSWER = "server answered a request with 202"
"""How the client words that a request was taken and will never be answered."""

_TOO_LARGE = "answer too large"
_TOO_LARGE_EVENT = re.compile(r"event exceeded the \d+ byte limit")
"""How our own transports, and the client for an event of a stream, word that an answer is over the limit."""

_UNREADABLE = "the server's answer could not be read"
"""How our own transport words that an answer is no message of the protocol."""

_BAD_ARGUMENTS = re.compile(
    r"MCP error -32602|validation errors? for|input validation error|invalid arguments", re.IGNORECASE
)
_UNKNOWN_TOOL = re.compile(r"\bunknown tool\b|\btool \S+ not found\b", re.IGNORECASE)


def is_transport(code: int, message: str) -> bool:
    """Whether an error came from the way to the server rather than from the server."""
    return code in (_CONNECTION_CLOSED, _REQUEST_TIMEOUT, _PARSE_ERROR) or message.startswith(_HTTP_TROUBLE)


def is_session_gone(message: str) -> bool:
    """Whether an HTTP server refused a call because it was started anew since the session began."""
    return message.startswith(_SESSION_GONE)


def too_large(size: int | None, limit: int) -> str:
    """Return the words of an error for an answer over the limit."""
    how_much = f"it has {size:,} bytes" if size is not None else "it goes on"
    return f"{_TOO_LARGE}: {how_much}; at most {limit:,} bytes are allowed (max_answer_bytes)"


def is_too_large(message: str) -> bool:
    """Whether an error says that the answer was over the limit."""
    return _TOO_LARGE in message or _TOO_LARGE_EVENT.search(message) is not None


def unreadable(why: str) -> str:
    """Return the words of an error for an answer that is no message of the protocol."""
    return f"{_UNREADABLE}: {bounded(why, 300)}"


def answer_too_large(limit: int) -> AttemptFailedError:
    """Return the failure for an answer over the limit; the tool has run."""
    text = (
        f"The server's answer is over {limit:,} bytes. "
        "Fix: ask for less, or raise `max_answer_bytes` of the system."
    )
    return AttemptFailedError(text, "output_too_large", retryable=False, effect_open=True)


def protocol_error(code: int, message: str) -> AttemptFailedError:
    """Return the failure for a JSON-RPC error of the server."""
    if message.startswith(_UNREADABLE):
        return unusable(message)
    text = f"The server refused the call: {bounded(message)} ({code})"
    if code == _INVALID_PARAMS:
        kind = "unknown_tool" if _UNKNOWN_TOOL.search(message) else "invalid_arguments"
        return AttemptFailedError(text, kind, retryable=False)
    if code in (_MISSING_CAPABILITY, _UNSUPPORTED_VERSION, _INVALID_REQUEST, _UNKNOWN_METHOD):
        was_taken = message.startswith(_NO_ANSWER)
        return AttemptFailedError(text, "not_supported", retryable=False, effect_open=was_taken)
    return AttemptFailedError(text, "mcp_error")


def tool_error(tool: str, text: str) -> AttemptFailedError:
    """Return the failure for a result that says it is an error."""
    message = bounded(text) or f"Tool {tool!r} answered with an error and no text."
    if _UNKNOWN_TOOL.search(text):
        return AttemptFailedError(message, "unknown_tool", retryable=False)
    if _BAD_ARGUMENTS.search(text):
        return AttemptFailedError(message, "invalid_arguments", retryable=False)
    return AttemptFailedError(message, "tool_error")


def unusable(reason: str) -> AttemptFailedError:
    """Return the failure for an answer that breaks the protocol, or the tool's own schema."""
    text = f"The server's answer can't be used: {bounded(reason, 500)}"
    return AttemptFailedError(text, "invalid_output", retryable=False, effect_open=True)
