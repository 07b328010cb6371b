"""What an answer of the Alita manager agent means: the output of an attempt, or its failure.

May import: orchestration.errors, orchestration.systems.base, stdlib.

| answer | meaning | repeated |
| --- | --- | --- |
| 200 with a response | the output | |
| 200 with an empty response | `empty_answer`: it dropped what its model said, or the tools it tried failed | yes |
| 200 that is no such JSON | `invalid_output`; it worked, so what it did is left open | no |
| 429 | `rate_limited`, until `X-RateLimit-Reset` | yes |
| 503 | `system_unavailable`: the agent has not started up | yes |
| 500 | `server_error`; it answers so after 60 s, too, and then works on: left open | once |
| other 5xx | `bad_gateway`, from whatever stands before it: left open | yes |
| 400, 404, 413, every other one | `bad_request`, `not_found`, `request_too_large`, `http_error` | no |

Bodies may be JSON, HTML or plain text, whatever the status.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestration.errors import AttemptError, AttemptFailedError, SystemUnavailableError
from orchestration.systems.base import bounded

MAX_STEPS = 50
"""How many steps of an answer are kept, the last ones."""

MAX_STEP_CHARS = 2_000
"""Longest input or observation of a step; the middle of a longer one is left out."""

LONGEST_LIMIT_SECONDS = 900.0
"""The window of its rate limit: a later reset means that the clocks differ."""

_TAGS = re.compile(r"<(?:style|script)\b.*?</(?:style|script)>|<[^>]{0,1000}>", re.IGNORECASE | re.DOTALL)
_REFUSALS = {400: "bad_request", 404: "not_found", 413: "request_too_large"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def output_of(answer: Answer) -> dict[str, Any]:
    """Return the output of an attempt that was answered with 200.

    Raises:
        AttemptFailedError: The response is empty, or the body is not what the agent sends.
    """
    fields = _object_in(answer.body)
    response = None if fields is None else fields.get("response")
    if fields is None or not isinstance(response, str):
        raise AttemptFailedError(
            f"Alita answered with 200, but with no JSON object that has a text `response`: {_told(answer)!r}",
            "invalid_output",
            retryable=False,
            effect_open=True,
        )
    steps, left_out = _steps(fields.get("intermediateSteps"))
    failures = [failure for step in steps if (failure := _tool_failure(step)) is not None]
    if not response.strip():
        raise _empty(failures)
    metadata = fields.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    output: dict[str, Any] = {
        "response": response,
        "steps": [_bounded_step(step) for step in steps],
        "duration_seconds": _seconds(metadata.get("duration")),
        "request_id": _text_or_none(metadata.get("requestId")),
    }
    if left_out:
        output["steps_left_out"] = left_out
    if failures:
        output["tool_failures"] = failures
    return output


def failure_of(system: str, answer: Answer, *, attempt: int, now_seconds: float) -> AttemptError:
    """Return what an answer with another status than 200 means.

    Args:
        system: Name of the system, for the message.
        answer: The answer.
        attempt: Number of the attempt: what is worth one repetition is not worth two.
        now_seconds: Seconds since the epoch.
    """
    status, said = answer.status, _told(answer)
    told = f"Alita answered with {status}" + (f": {said}" if said else ".")
    if status == 429:
        wait = _wait_of(answer, now_seconds)
        text = f"{told} It takes 100 requests in 15 minutes from one address; free again in {wait:.0f} s."
        return AttemptFailedError(text, "rate_limited", retry_after_seconds=wait)
    if status == 503:
        return SystemUnavailableError(system, told)
    if status == 500:
        text = f"{told} (It gives up after 60 s, too, and may still be working.)"
        return AttemptFailedError(text, "server_error", retryable=attempt <= 1, effect_open=True)
    if status > 500:
        return AttemptFailedError(told, "bad_gateway", effect_open=True)
    return AttemptFailedError(told, _REFUSALS.get(status, "http_error"), retryable=False)


def _empty(failures: list[dict[str, Any]]) -> AttemptFailedError:
    if failures:
        shown = "; ".join(f"{failure['tool']}: {failure['error']}" for failure in failures)
        return AttemptFailedError(
            f"Alita gave no answer. Tools it tried failed: {bounded(shown, 1500)}", "empty_answer"
        )
    return AttemptFailedError(
        "Alita answered with an empty response, so nothing was done: it drops the answers of models that call tools in "
        "the modern way. Fix: give it a model it understands.",
        "empty_answer",
    )


def _steps(value: object) -> tuple[list[dict[str, Any]], int]:
    """Return the steps of an answer, the last `MAX_STEPS`, and how many were left out."""
    steps = [_step(item) for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
    return steps[-MAX_STEPS:], max(0, len(steps) - MAX_STEPS)


def _step(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step without what it said to itself (`log`, `messageLog`)."""
    action = item.get("action")
    action = action if isinstance(action, Mapping) else {}
    return {
        "tool": _text_or_none(action.get("tool")) or "unknown",
        "input": action.get("toolInput"),
        "observation": item.get("observation"),
    }


def _bounded_step(step: dict[str, Any]) -> dict[str, Any]:
    return {name: _bounded_value(value) for name, value in step.items()}


def _bounded_value(value: Any) -> Any:
    """Return a value as it is, or as shortened text where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value if len(text) <= MAX_STEP_CHARS else bounded(text, MAX_STEP_CHARS)


def _tool_failure(step: dict[str, Any]) -> dict[str, Any] | None:
    """Return which tool failed in a step and why; None where none did."""
    observation = step["observation"]
    fields = _object_in(observation) if isinstance(observation, str) else observation
    if not isinstance(fields, Mapping) or fields.get("success") is not False:
        return None
    reason = fields.get("error") or fields.get("message") or "it answered with success false"
    text = reason if isinstance(reason, str) else json.dumps(reason, ensure_ascii=False)
    return {"tool": bounded(step["tool"], 200), "error": bounded(text, 500)}


def _object_in(text: str | bytes) -> dict[str, Any] | None:
    """Return the JSON object a text is; None where it is none."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None
    return value if isinstance(value, dict) else None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _told(answer: Answer) -> str:
    """Return what a body says to people, shortened."""
    fields = _object_in(answer.body)
    if fields is not None:
        words = [fields.get("error"), fields.get("message"), fields.get("details")]
        told = [
            word if isinstance(word, str) else json.dumps(word, ensure_ascii=False) for word in words if word
        ]
        if told:
            return bounded(" – ".join(dict.fromkeys(told)), 500)
    text = answer.body[:20_000].decode("utf-8", "replace")
    if "<" in text:
        text = html.unescape(_TAGS.sub(" ", text))
    return bounded(" ".join(text.split()), 500)


def _wait_of(answer: Answer, now_seconds: float) -> float:
    """Return how long a rate limit still holds, 1 s to `LONGEST_LIMIT_SECONDS`; its window where it says nothing."""
    reset = _number(answer.headers.get("x-ratelimit-reset"))
    if reset is not None:
        return min(max(reset - now_seconds, 1.0), LONGEST_LIMIT_SECONDS)
    after = _number(answer.headers.get("retry-after"))
    return LONGEST_LIMIT_SECONDS if after is None else min(max(after, 1.0), LONGEST_LIMIT_SECONDS)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _seconds(milliseconds: object) -> float | None:
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        return None
    return round(milliseconds / 1000, 3) if 0 <= milliseconds < 1e12 else None


def _text_or_none(value: object) -> str | None:
    return bounded(value, 200) if isinstance(value, str) else None
