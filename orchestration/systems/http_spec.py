"""What an HTTP service looks like: the configuration of one `http` system, and of each declared operation.

May import: orchestration.models, orchestration.systems.{http_addresses, http_parameters}, pydantic, stdlib.

Least power, as with commands: a task chooses a declared operation and fills its placeholders, nothing else. Host,
scheme, method, the structure of the path, the names of the query and every header are the declaration's. Secrets
stand in `headers` or `bearer_token` only, which are not shown; an address that holds one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from orchestration.models import Json, PositiveSeconds
from orchestration.systems.http_addresses import literal_address, may_connect
from orchestration.systems.http_parameters import ANYTHING, HttpParameter, placeholders

DEFAULT_MAX_RESPONSE_BYTES = 1024 * 1024
"""Of an answer, after decompression; more than a result should be, less than what hurts."""

SAFE_METHODS = frozenset({"GET", "HEAD"})
"""Methods that only ask; whatever becomes of such a request, it leaves nothing open."""

_MODEL = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?\.?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_PATH = re.compile(r"/[A-Za-z0-9/:@!$&'()*+,;=._~%{}-]*")

_OWN_HEADERS = frozenset(
    {
        *(
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "upgrade",
        ),
        *("expect", "accept-encoding", "proxy-authorization", "proxy-connection", "content-encoding"),
    }
)
"""Headers that say how a message is carried; they are the client's."""


def check_headers(headers: Mapping[str, str]) -> None:
    """Check declared headers.

    Raises:
        ValueError: A name or a value can't be sent, or a header is not the declaration's to set; shows no value.
    """
    seen: set[str] = set()
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"header {name!r} is no header name; expected letters, digits and `-`")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of header {name!r} holds characters other than printable ASCII")
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"header {name!r} is set by the client itself; leave it out")
        if name.lower() in seen:
            raise ValueError(
                f"header {name!r} is given twice; names differ by more than upper and lower case"
            )
        seen.add(name.lower())


class HttpOperation(BaseModel):
    """One declared operation of a service."""

    model_config = _MODEL

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: str = "/"
    """Begins with `/` and follows the path of `base_url`; `{name}` where an argument goes."""
    query: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Names and templates; one that is nothing but a placeholder repeats its name for each item of a list."""
    body: Json = None
    """A JSON template, or `arguments`: an object of all arguments that stand nowhere else."""
    form: dict[str, str | int | float | bool] | None = None
    """Instead of `body`: templates sent as an HTML form is."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """Headers besides the service's own; they hold no placeholders."""
    parameters: dict[str, HttpParameter] = Field(default_factory=dict)
    """Details of arguments; a placeholder not named here takes every value that fits where it stands."""
    description: str = ""
    """What it does, for people and language models."""
    timeout_seconds: PositiveSeconds = 60.0
    """Time limit from the first byte sent to the last one read; the task's own limit holds too."""
    max_request_bytes: Annotated[int, Field(ge=1)] = 16 * 1024 * 1024
    """Longest body that is sent."""
    max_response_bytes: Annotated[int, Field(ge=1, le=64 * 1024 * 1024)] = DEFAULT_MAX_RESPONSE_BYTES
    """An answer over this, after decompression, ends the request and fails the attempt; nothing is cut silently."""
    output: Literal["auto", "json", "text"] = "auto"
    """`json`: the value of the answer. `text`: `{"status": …, "text": …}`. `auto`: as the answer calls itself."""
    success: list[Annotated[int, Field(ge=200, le=599)]] | None = None
    """Status codes that mean success; 200 to 299 when absent."""
    idempotency_header: str | None = "Idempotency-Key"
    """Header that carries the task's idempotency key, except with GET and HEAD; `null` for none."""

    @field_validator("method", mode="before")
    @classmethod
    def _in_capitals(cls, method: object) -> object:
        return method.upper() if isinstance(method, str) else method

    @field_validator("path")
    @classmethod
    def _keeps_its_structure(cls, path: str) -> str:
        if not _PATH.fullmatch(path):
            raise ValueError(
                "expected `/` and then segments, without `?` (use `query`), `#`, spaces or "
                "letters outside ASCII (write them as %XX)"
            )
        if re.search(r"%(?![0-9A-Fa-f]{2})", path):
            raise ValueError(
                f"path is {path!r}: `%` begins an escape of two hexadecimal digits; write it as %25"
            )
        if any(unquote(segment) in (".", "..") for segment in path.split("/")):
            raise ValueError("expected no segment `.` or `..`")
        return path

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, headers: dict[str, str]) -> dict[str, str]:
        check_headers(headers)
        return headers

    @field_validator("idempotency_header")
    @classmethod
    def _is_a_header(cls, name: str | None) -> str | None:
        check_headers({} if name is None else {name: ""})
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> HttpOperation:
        if self.has_body and (
            self.method in SAFE_METHODS or (self.body is not None and self.form is not None)
        ):
            raise ValueError(
                f"{self.method} has no body; use `query`"
                if self.method in SAFE_METHODS
                else "expected `body` or `form`, not both"
            )
        for name in self.parameters:
            if name not in self.placeholders and self.body != "arguments":
                shown = ", ".join(self.placeholders) or "none"
                raise ValueError(
                    f"parameters.{name} stands nowhere in path, query or body; placeholders are: {shown}"
                )
        for name in placeholders(self.path):
            if self.parameter(name).type in ("array", "object"):
                raise ValueError(f"parameters.{name} stands in the path; expected the type of a single value")
            if (
                name in self.parameters
                and not self.parameters[name].required
                and self.parameters[name].default is None
            ):
                raise ValueError(
                    f"parameters.{name} stands in the path; it must be required or have a default"
                )
        return self

    @property
    def has_body(self) -> bool:
        """Whether a request has one."""
        return self.body is not None or self.form is not None

    @property
    def is_safe(self) -> bool:
        """Whether it only asks, so that nothing can be left open."""
        return self.method in SAFE_METHODS

    @property
    def placeholders(self) -> list[str]:
        """Return the names of the placeholders, in order."""
        body = None if self.body == "arguments" else self.body
        found = placeholders([self.path, dict(self.query), body, dict(self.form or {})])
        return list(dict.fromkeys(found))

    @property
    def names(self) -> list[str]:
        """Return the names of the arguments it knows: placeholders, and what else is declared of the body."""
        return list(dict.fromkeys([*self.placeholders, *self.parameters]))

    def parameter(self, name: str) -> HttpParameter:
        """Return what is declared about an argument."""
        return self.parameters.get(name, ANYTHING)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the arguments."""
        properties = {name: self.parameter(name).schema_of() for name in self.names}
        required = [name for name in self.names if self.parameter(name).is_required]
        schema: dict[str, Any] = {
            "type": "object",
            "properties": properties,
            "additionalProperties": self.body == "arguments",
        }
        return {**schema, "required": required} if required else schema


class HttpSpec(BaseModel):
    """An HTTP service and the operations that tasks may ask it for."""

    model_config = _MODEL

    base_url: str
    """`https://host/path` that the paths of all operations follow."""
    operations: Annotated[dict[str, HttpOperation], Field(min_length=1)]
    """Tool name → the operation."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """Headers of every request."""
    bearer_token: str | None = Field(default=None, repr=False)
    """Sent as `Authorization: Bearer …`; take it from the environment: `${NAME}`."""
    health: str | None = None
    """The operation that says whether the service works; without one, only a connection is made."""
    allow_redirects: bool = False
    """Whether redirects are followed, five at the most; to another origin without the declared headers."""
    allow_private_addresses: bool = False
    """Whether the host may turn out to be of this machine or a private network. Not needed where `base_url` itself
    names such an address or `localhost`."""
    verify_tls: bool = True
    """Whether the service has to prove who it is."""
    ca_file: Path | None = None
    """PEM file of the only authorities that are trusted, instead of those of the system."""
    max_connections: Annotated[int, Field(ge=1, le=1000)] = 20
    """Connections at once; further requests wait."""
    connect_timeout_seconds: PositiveSeconds = 10.0
    """Longest wait for a connection."""

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, base_url: str) -> str:
        try:
            parts = urlsplit(base_url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise ValueError("expected an address like https://host/path") from None
        if "@" in parts.netloc:
            raise ValueError("base_url holds a user or password; put `Authorization` into `headers`")
        if parts.query or parts.fragment or "?" in base_url or "#" in base_url:
            raise ValueError("base_url has a query or fragment; put it into `query` of the operations")
        if parts.scheme not in ("http", "https") or port == 0:
            raise ValueError("expected http://… or https://…")
        if not (_HOST.fullmatch(host) or literal_address(host) is not None):
            raise ValueError(f"base_url: {host!r} is no host; write IDNs as xn--…")
        if (
            "{" in parts.path
            or not _PATH.fullmatch(parts.path or "/")
            or ".." in unquote(parts.path).split("/")
        ):
            raise ValueError("expected a path of plain segments, without placeholders")
        return base_url.rstrip("/")

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, headers: dict[str, str]) -> dict[str, str]:
        check_headers(headers)
        return headers

    @field_validator("bearer_token")
    @classmethod
    def _is_a_token(cls, token: str | None) -> str | None:
        if token is not None and not re.fullmatch(r"[\x21-\x7e]+", token):
            raise ValueError("bearer_token is empty, or holds spaces or characters that no token has")
        return token

    @model_validator(mode="after")
    def _fits_together(self) -> HttpSpec:
        if self.bearer_token is not None and "authorization" in {name.lower() for name in self.headers}:
            raise ValueError("expected `bearer_token` or the header `Authorization`, not both")
        if self.health is not None:
            operation = self.operations.get(self.health)
            if operation is None:
                shown = ", ".join(self.operations)
                raise ValueError(f"health is {self.health!r}; expected the name of an operation: {shown}")
            if not operation.is_safe or operation.json_schema().get("required"):
                raise ValueError(
                    f"health is {self.health!r}; expected a GET or HEAD without required arguments"
                )
        if not self.verify_tls and self.ca_file is not None:
            raise ValueError("`ca_file` has no meaning with `verify_tls: false`")
        literal = literal_address(self.host)
        if literal is not None and not may_connect(literal, allow_private=True, named=literal):
            raise ValueError(f"base_url names {self.host!r}, which no connection can be made to")
        return self

    @property
    def host(self) -> str:
        """Return the host of `base_url`."""
        return urlsplit(self.base_url).hostname or ""
