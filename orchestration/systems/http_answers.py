"""What an HTTP answer means: the output of a task, or its failure with whether repeating can help.

May import: orchestration.{errors, models}, orchestration.systems.{base, http_messages, http_spec}, stdlib.

* 408, 425, 429, 500, 502, 503, 504 and 520 to 529 may be repeated; `Retry-After`, else the reset time of a rate limit,
  says when. Every other status is definite. The code is `http_STATUS`.
* After GET and HEAD nothing is open. After other methods it is open when no whole answer came, when the answer can't
  be used, and where a 5xx tells of trouble in the middle of the work (500, 502, 504 and the proxies' own); 503 and
  4xx say that the work was not begun.
* The words of an answer are data. They are cut, freed of control characters and of the secrets that were sent.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Mapping
from email.message import Message
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NoReturn

from orchestration.errors import AttemptError, AttemptFailedError, AttemptTimeoutError, SystemUnavailableError
from orchestration.models import as_unicode
from orchestration.systems.base import bounded
from orchestration.systems.http_messages import ExchangeError, HttpAnswer
from orchestration.systems.http_spec import HttpOperation

RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 530)})
"""From 520 on: what a large proxy says of a service it can't reach."""
DEFINITE_5XX = frozenset({501, 503, 505})
"""Of those that tell of trouble on the service's side, the ones that say that the work was not begun."""

MAX_RETRY_AFTER_SECONDS = 86_400.0
"""Longest wait that is passed on; who asks for more asks for the impossible."""

_SHOWN_CHARS = 500
_EPOCH_FROM = 1_000_000_000
"""A reset time from here on is a moment, below it a number of seconds; both are in use."""
_RESET_HEADERS = ("x-ratelimit-reset", "ratelimit-reset", "x-rate-limit-reset")

_JSON_TYPE = re.compile(r"application/(.+\+)?json|text/json")
_TEXT_TYPE = re.compile(
    r"text/.*|application/(.+\+)?(xml|yaml)|application/(x-)?(javascript|ndjson|www-form-urlencoded)"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_NO_CHARSETS = frozenset(
    {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}
)
"""Codecs of Python that no text on the wire is written in."""


def output_of(
    tool: str, operation: HttpOperation, answer: HttpAnswer, hide: Callable[[str], str], now_us: int
) -> object:
    """Return the output that an answer stands for.

    Args:
        tool: Name of the operation.
        operation: Its declaration.
        answer: What the service answered.
        hide: Takes the secrets out of a text.
        now_us: The time, to which a moment to try again at is compared.

    Raises:
        AttemptFailedError: It tells of a failure, or is not what was declared.
    """
    if not _is_success(operation, answer.status):
        raise _failure(tool, operation, answer, hide, now_us)
    try:
        return _value(operation, answer, hide)
    except (ValueError, RecursionError) as exc:
        why = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        raise AttemptFailedError(
            f"The answer to operation {tool!r} can't be used: {hide(why)}",
            "invalid_output",
            retryable=False,
            effect_open=not operation.is_safe,
        ) from None


def failure_of_exchange(
    system: str, tool: str, url: str, operation: HttpOperation, exc: ExchangeError
) -> AttemptError:
    """Return the failure of an attempt that got no whole answer."""
    where = f"operation {tool!r} ({operation.method} {bounded(url, 300)})"
    match exc.trouble:
        case "unreachable":
            return SystemUnavailableError(system, exc.reason, effect_open=exc.was_sent)
        case "lost":
            return SystemUnavailableError(system, f"{exc.reason}, in {where}", effect_open=exc.was_sent)
        case "timeout":
            timeout = AttemptTimeoutError(f"There was {exc.reason}, in {where}.")
            timeout.effect_open = exc.was_sent
            return timeout
        case "address":
            text = (
                f"In {where} no connection is made: {exc.reason}. Fix: correct base_url, or allow it with "
                "allow_private_addresses."
            )
            return AttemptFailedError(text, "address_refused", retryable=False, effect_open=exc.was_sent)
        case "too_large":
            text = f"In {where} {exc.reason} and was cut off. Fix: ask for less, or raise max_response_bytes."
            return AttemptFailedError(text, "output_too_large", retryable=False, effect_open=exc.was_sent)
        case "redirect":
            text = f"In {where} {exc.reason}."
            return AttemptFailedError(text, "redirect_refused", retryable=False, effect_open=exc.was_sent)
        case "unusable":
            text = f"In {where} {exc.reason}."
            return AttemptFailedError(text, "invalid_output", retryable=False, effect_open=exc.was_sent)


def retry_after_seconds(headers: Mapping[str, str], now_us: int) -> float | None:
    """Return how long a service asks to be left alone; None when it does not say, or nothing that can be read."""
    said = headers.get("retry-after", "").strip()
    if said:
        seconds = _number(said)
        if seconds is None:
            at, now = _moment(said), _moment(headers.get("date", ""))
            seconds = None if at is None else at - (now_us / 1_000_000 if now is None else now)
        if seconds is not None:
            return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
    for name in _RESET_HEADERS:
        reset = _number(headers.get(name, ""))
        if reset is not None and reset >= 0:
            seconds = reset - now_us / 1_000_000 if reset >= _EPOCH_FROM else reset
            return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
    return None


# --- Failures -----------------------------------------------------------------------------------------------------


def _is_success(operation: HttpOperation, status: int) -> bool:
    return 200 <= status <= 299 if operation.success is None else status in operation.success


def _failure(
    tool: str, operation: HttpOperation, answer: HttpAnswer, hide: Callable[[str], str], now_us: int
) -> AttemptFailedError:
    status = answer.status
    is_redirect = status in (301, 302, 303, 307, 308)
    retryable = status in RETRYABLE
    is_open = answer.has_acted or (
        not operation.is_safe
        and (status in (301, 302, 303) or (status >= 500 and status not in DEFINITE_5XX) or status < 300)
    )
    said = hide(_shown(answer))
    text = f"Operation {tool!r} was answered {status}{_phrase(status)}" + (f": {said}" if said else ".")
    if is_redirect:
        text += " Fix: correct base_url or path, or set allow_redirects."
    elif status in (401, 403):
        text += " Fix: check the credentials in `headers` or `bearer_token`."
    return AttemptFailedError(
        text,
        "redirect_refused" if is_redirect else f"http_{status}",
        retryable=retryable,
        retry_after_seconds=retry_after_seconds(answer.headers, now_us) if retryable else None,
        effect_open=is_open,
    )


def _phrase(status: int) -> str:
    """Return the standard's words for a status; the service's own are not needed to know what it means."""
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _shown(answer: HttpAnswer) -> str:
    """Return what an answer says, as one line of text."""
    if answer.status in (301, 302, 303, 307, 308):
        return f"it leads to {_clean(answer.headers.get('location', 'nowhere'))}."
    try:
        return _clean(_text(answer))
    except ValueError:
        return f"{len(answer.body)} bytes that are no text"


def _clean(text: str) -> str:
    return as_unicode(bounded(_CONTROL.sub(" ", text[: 20 * _SHOWN_CHARS]).strip(), _SHOWN_CHARS))


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*\d{1,18}(\.\d{1,9})?\s*", text, re.ASCII) else None


def _moment(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


# --- Values -------------------------------------------------------------------------------------------------------


def _value(operation: HttpOperation, answer: HttpAnswer, hide: Callable[[str], str]) -> object:
    """Return the value of an answer.

    Raises:
        ValueError: It is not what was declared, or what it calls itself; says how.
    """
    kind = _media_type(answer)
    if operation.output == "text":
        return {"status": answer.status, "text": hide(_text(answer))}
    if not answer.body and (answer.status in (204, 205) or operation.output == "auto"):
        return None
    if operation.output == "json" or _JSON_TYPE.fullmatch(kind):
        return _json(answer, hide)
    if not kind or _TEXT_TYPE.fullmatch(kind):
        try:
            return {"status": answer.status, "text": hide(_text(answer))}
        except ValueError:
            if kind:
                raise
    return {"status": answer.status, "mimeType": kind or "application/octet-stream", "size": len(answer.body)}


def _json(answer: HttpAnswer, hide: Callable[[str], str]) -> object:
    text = _text(answer).removeprefix("\ufeff")
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except ValueError as exc:
        raise ValueError(
            f"it is no JSON ({bounded(str(exc), 200)}): {bounded(_clean(hide(text)), 200)!r}"
        ) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{bounded(digits, 40)} is too large a number")
    return number


def _media_type(answer: HttpAnswer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def _text(answer: HttpAnswer) -> str:
    """Return a body as text.

    Raises:
        ValueError: It is none, or in a charset nobody knows.
    """
    charset = _charset(answer)
    try:
        return answer.body.decode(charset)
    except UnicodeError:
        raise ValueError(f"it is no text in {charset}: {answer.body[:30]!r}") from None


def _charset(answer: HttpAnswer) -> str:
    message = Message()
    message["content-type"] = _CONTROL.sub(" ", answer.headers.get("content-type", ""))
    said = message.get_param("charset", "utf-8")
    name = said if isinstance(said, str) else "utf-8"
    try:
        codec = codecs.lookup(name)
        if codec.name in _NO_CHARSETS:
            raise LookupError(name)
        b" ".decode(name, "replace")  # raises for codecs that make no text
    except (LookupError, ValueError):
        raise ValueError(f"its charset {bounded(name, 50)!r} is unknown") from None
    return name
