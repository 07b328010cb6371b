"""Makes the request of a declared operation and a task's arguments.

May import: orchestration.{errors, models}, orchestration.systems.{base, http_messages, http_parameters, http_spec},
stdlib.

A value stays inside the place that its template gives it. In the path it is one segment or part of one: everything
but letters, digits and `-._~` is percent-encoded, and a value is refused that some server could still read as more
than that: `.` and `..`, however often they are encoded, `/` and `\\` unless the declaration allows them, control
characters, nothing at all. In the query and a form it is one value of one name. In a body it is a JSON value.
No value becomes part of a header.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from urllib.parse import quote, unquote, urlsplit

from orchestration.errors import AttemptFailedError
from orchestration.models import Json, JsonObject
from orchestration.systems.base import bounded, invalid_arguments
from orchestration.systems.http_messages import DEFAULT_PORTS, HttpRequest, Origin
from orchestration.systems.http_parameters import (
    as_text,
    fill,
    fill_text,
    placeholders,
    unknown_argument,
    whole_placeholder,
)
from orchestration.systems.http_spec import HttpOperation, HttpSpec

USER_AGENT = "advanced-task-orchestration"

_DECODINGS = 3
"""How often a careless chain of servers might decode a path."""


def origin_of(spec: HttpSpec) -> Origin:
    """Return whom all requests of a service go to."""
    parts = urlsplit(spec.base_url)
    return Origin(parts.scheme, spec.host, parts.port or DEFAULT_PORTS[parts.scheme])


def render(
    spec: HttpSpec, operation: HttpOperation, tool: str, arguments: JsonObject, idempotency_key: str
) -> HttpRequest:
    """Return the request of an operation with a task's arguments put in.

    Raises:
        AttemptFailedError: `invalid_arguments`, with every mistake.
    """
    values, mistakes = _accepted(operation, arguments)
    target, body = "", None
    if not mistakes:
        try:
            target = urlsplit(spec.base_url).path + _path(operation, values) + _query(operation.query, values)
            body = _body(operation, values)
        except UnicodeEncodeError:
            mistakes = ["an argument holds characters that are no Unicode (half of a surrogate pair)"]
        except ValueError as exc:
            mistakes = [str(exc)]
    if mistakes:
        raise _refused(tool, operation, mistakes)
    return HttpRequest(
        method=operation.method,
        origin=origin_of(spec),
        target=target,
        headers=_own_headers(operation, body),
        declared_headers=_declared_headers(spec, operation, idempotency_key),
        body=body,
    )


def _refused(tool: str, operation: HttpOperation, mistakes: list[str]) -> AttemptFailedError:
    takes = ", ".join(operation.names) or ("anything" if operation.body == "arguments" else "no arguments")
    return invalid_arguments(
        f"Operation {tool!r} can't be asked for like this: {'; '.join(mistakes)}. It takes: {takes}."
    )


def _accepted(operation: HttpOperation, arguments: JsonObject) -> tuple[dict[str, Json], list[str]]:
    """Return the values of all arguments, and a sentence for each mistake."""
    names = operation.names
    others = [name for name in arguments if name not in names]
    mistakes = [] if operation.body == "arguments" else [unknown_argument(name, names) for name in others]
    values: dict[str, Json] = {}
    for name in [*names, *others]:
        try:
            values[name] = (
                operation.parameter(name).accept(name, arguments.get(name))
                if name in names
                else arguments[name]
            )
        except ValueError as exc:
            mistakes.append(str(exc))
    return values, mistakes


# --- Path, query, body --------------------------------------------------------------------------------------------


def _path(operation: HttpOperation, values: Mapping[str, Json]) -> str:
    return "/".join(_segment(template, operation, values) for template in operation.path.split("/"))


def _segment(template: str, operation: HttpOperation, values: Mapping[str, Json]) -> str:
    names = list(placeholders(template))
    if not names:
        return fill_text(template, {}).replace("{", "%7B").replace("}", "%7D")
    texts = {name: _path_text(name, values[name], operation.parameter(name).allow_slash) for name in names}
    segment = fill_text(template, {name: quote(text, safe="") for name, text in texts.items()})
    if not segment:
        raise ValueError(f"argument {names[0]!r} is empty, but stands alone between two `/` of the path")
    if _could_climb(segment):
        shown = bounded(unquote(segment), 120)
        raise ValueError(
            f"argument {names[0]!r} makes {shown!r} of a part of the path, which leads out of it"
        )
    return segment.replace("{", "%7B").replace("}", "%7D")


def _path_text(name: str, value: Json, allow_slash: bool) -> str:
    """Return a value as it may stand in the path, not yet encoded.

    Raises:
        ValueError: It can't stand there.
    """
    text = _scalar_text(name, value, "the path")
    if any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in text + _decoded(text)):
        raise ValueError(f"argument {name!r} holds control characters, which have no place in a path")
    if not allow_slash and any(slash in _decoded(text) for slash in "/\\"):
        raise ValueError(
            f"argument {name!r} is {bounded(text, 120)!r}: it stands in the path and holds a slash "
            "(the declaration may allow it: allow_slash)"
        )
    return text


def _could_climb(segment: str) -> bool:
    """Whether a part of a path could be read as `.` or `..` by a server that decodes it more often than it should."""
    for _ in range(_DECODINGS):
        segment = unquote(segment)
        pieces = segment.replace("\\", "/").split("/")
        if any(piece.partition(";")[0].strip() in (".", "..") for piece in pieces):
            return True
    return False


def _decoded(text: str) -> str:
    for _ in range(_DECODINGS - 1):
        text = unquote(text)
    return text


def _query(templates: Mapping[str, str | int | float | bool], values: Mapping[str, Json]) -> str:
    pairs = _urlencoded(templates, values, "the query")
    return f"?{pairs}" if pairs else ""


def _urlencoded(
    templates: Mapping[str, str | int | float | bool], values: Mapping[str, Json], place: str
) -> str:
    return "&".join(
        f"{quote(key, safe='')}={quote(text, safe='')}"
        for key, template in templates.items()
        for text in _texts(template, values, place)
    )


def _texts(template: str | int | float | bool, values: Mapping[str, Json], place: str) -> Iterator[str]:
    """Yield the values of one name of a query: none, one, or each item of a list."""
    if not isinstance(template, str):
        yield as_text(template)
        return
    name = whole_placeholder(template)
    if name is None:
        scalars = {name: _query_text(name, values[name], place) for name in placeholders(template)}
        yield fill_text(template, scalars)
        return
    value = values[name]
    for item in value if isinstance(value, list) else [value]:
        if item is not None:
            yield _query_text(name, item, place)


def _query_text(name: str, value: Json, place: str) -> str:
    text = "" if value is None else _scalar_text(name, value, place)
    if "\0" in text:
        raise ValueError(f"argument {name!r} holds a NUL character")
    return text


def _scalar_text(name: str, value: Json, place: str) -> str:
    if isinstance(value, list | dict):
        raise ValueError(
            f"argument {name!r} is {bounded(repr(value), 120)}; expected text, a number or true/false in {place}"
        )
    return as_text(value)


def _body(operation: HttpOperation, values: Mapping[str, Json]) -> bytes | None:
    """Return the body of a request.

    Raises:
        ValueError: It would be too long, or has no place in JSON.
    """
    if operation.form is not None:
        body = _urlencoded(operation.form, values, "a form").encode()
    elif operation.body is not None:
        value: Json
        if operation.body == "arguments":
            placed = set(operation.placeholders)
            value = {
                name: item
                for name, item in values.items()
                if name not in placed and not (item is None and name in operation.parameters)
            }
        else:
            value = fill(operation.body, values)
        body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    else:
        return None
    if len(body) > operation.max_request_bytes:
        raise ValueError(f"the body has {len(body)} bytes; the limit is {operation.max_request_bytes}")
    return body


# --- Headers ------------------------------------------------------------------------------------------------------


def _own_headers(operation: HttpOperation, body: bytes | None) -> dict[str, str]:
    headers = {
        "Accept": "application/json" if operation.output == "json" else "application/json, */*;q=0.5",
        "User-Agent": USER_AGENT,
    }
    if body is not None:
        of_form = operation.form is not None
        headers["Content-Type"] = "application/x-www-form-urlencoded" if of_form else "application/json"
    return headers


def _declared_headers(spec: HttpSpec, operation: HttpOperation, idempotency_key: str) -> dict[str, str]:
    """Return what is declared for the service and the operation, which wins; the idempotency key wins over both."""
    declared: dict[str, tuple[str, str]] = {}
    bearer = {} if spec.bearer_token is None else {"Authorization": f"Bearer {spec.bearer_token}"}
    for name, value in [*spec.headers.items(), *bearer.items(), *operation.headers.items()]:
        declared[name.lower()] = (name, value)
    header = operation.idempotency_header
    if header is not None and not operation.is_safe:
        declared[header.lower()] = (header, quote(idempotency_key, safe=":[]~-_."))
    return dict(declared.values())
