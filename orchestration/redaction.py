"""Keeps secrets out of what is stored and shown: known values are replaced by `[secret]`, wherever they come back.

May import: orchestration.models (types only), stdlib.

Least knowledge: nothing is guessed from the look of a text. What is known are the values a configuration took from the
environment, and those declared under names that tell of secrets; of each also the forms in which programs repeat it:
percent-encoded, escaped as JSON, HTML or a Python literal, and within base64. What a system encrypts, splits or
translates can't be recognised, nor can the rest of a secret that somebody cut in two.

Everything is looked through, an output of 64 MiB too, so looking must not depend on how many secrets there are. For
each of the first `_DEPTH` bytes of a secret a table says which groups of secrets have that byte there. A text is
translated by each table, shifted, and the results are combined as whole numbers, a page at a time: a byte that is not
zero then is a place where a secret may begin, and only there it is looked for. (Searches of many strings by vector
instructions work like this; a large number is the vector that Python has.)
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote, urlsplit

if TYPE_CHECKING:
    from orchestration.models import Json

BLOT = "[secret]"
"""Stands where a secret was."""

SHORTEST = 6
"""Characters of a secret; a shorter value would be found in any text, and replacing it would garble messages."""

_DEPTH = 6
"""Bytes that are compared before a place is looked at; every form of a secret has as many."""

_GROUPS = 8
"""Groups of secrets: the bits of a byte."""

_PAGE_BYTES = 32 * 1024
"""What is looked through at once: it stays in the processor's cache."""

_LONG_LINE = 16
"""Characters of a line that is a secret on its own where the whole has several, as keys in PEM files have."""

_SECRET_NAME = re.compile(
    r"KEY(?!BOARD|MAP|SYM|WORD)|TOKEN(?!IZ|S$|S_)|SECRET|PASSWORD|PASSWD|PASSPHRASE|AUTH(?!OR(?!I[SZ]))|COOKIE"
    r"|CREDENTIAL|SESSION|SIGNATURE"
    r"|(^|[_-])(PAT|PASS|PW|DSN)($|[_-])|[_-]PWD($|[_-])",
    re.IGNORECASE,
)


def tells_of_secret(name: str) -> bool:
    """Whether the name of a variable, a header or a parameter says that its value is nobody else's business."""
    return _SECRET_NAME.search(name) is not None


def secret_values(named: Mapping[str, str]) -> Iterator[str]:
    """Yield the values whose names tell of secrets."""
    return (value for name, value in named.items() if tells_of_secret(name))


def header_secrets(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield the values of HTTP headers whose names tell of secrets, and what stands behind the scheme in each."""
    for value in secret_values(headers):
        yield value
        yield value.rpartition(" ")[2]


class Redactor:
    """Replaces secrets in texts and JSON values. Shows to nobody what it replaces.

    Args:
        secrets: The values; of an address with a password, of an `Authorization` header and of a text of several lines
            also the part that is secret by itself.
    """

    __slots__ = ("_pattern", "_secrets", "_starts", "_tables")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = frozenset(
            part for secret in secrets for part in _parts(secret) if len(part) >= SHORTEST
        )
        forms = sorted({form for secret in self._secrets for form in _forms(secret)})
        self._tables = _tables(forms)
        self._starts = frozenset(form[:_DEPTH] for form in forms)
        longest_first = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, longest_first)))

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def __repr__(self) -> str:
        return f"Redactor({len(self._secrets)} secrets)"

    @property
    def secrets(self) -> frozenset[str]:
        """Return what is replaced, as it was given, for another redactor."""
        return self._secrets

    def text(self, text: str) -> str:
        """Return a text without the secrets."""
        if not self._secrets or len(text) < SHORTEST:
            return text
        data = text.encode("utf-8", "surrogatepass")
        found = list(self._found(data))
        if not found:
            return text
        kept: list[bytes] = []
        end = 0
        for start, stop in found:
            kept += [data[end:start], BLOT.encode()]
            end = stop
        kept.append(data[end:])
        return b"".join(kept).decode("utf-8", "surrogatepass")

    def finds(self, data: bytes) -> bool:
        """Whether a secret stands in `data`, UTF-8 text such as a value's JSON."""
        return bool(self._secrets) and next(self._found(data), None) is not None

    def json(self, value: Json) -> Json:
        """Return a JSON value without the secrets, in the keys of its objects neither."""
        if not self._secrets:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self._object(value)
        if isinstance(value, list):
            return [self.json(item) for item in value]
        if isinstance(value, int | float) and self.text(told := json.dumps(value)) != told:
            return BLOT  # a secret of digits, read as a number
        return value

    def _object(self, value: Mapping[str, Json]) -> Json:
        """Return an object; keys that become alike are numbered."""
        found: dict[str, Json] = {}
        for key, item in value.items():
            plain = name = self.text(key)
            number = 1
            while name in found or (name != key and name in value):
                number += 1
                name = f"{plain} {number}"
            found[name] = self.json(item)
        return found

    def _found(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield where secrets begin and end, in order and apart; of those that begin together the longest."""
        end = 0
        for place in self._candidates(data):
            if place >= end and (match := self._pattern.match(data, place)) is not None:
                end = match.end()
                yield place, end

    def _candidates(self, data: bytes) -> Iterator[int]:
        """Yield the places whose next bytes are the first ones of a secret."""
        for start in range(0, len(data) - _DEPTH + 1, _PAGE_BYTES):
            page = data[start : start + _PAGE_BYTES + _DEPTH - 1]
            groups = -1
            for shift, table in enumerate(self._tables):
                groups &= int.from_bytes(page[shift:].translate(table), "little")
                if not groups:
                    break
            else:
                marks = groups.to_bytes(len(page), "little")
                for mark in re.finditer(b"[^\0]", marks):
                    place = start + mark.start()
                    if data[place : place + _DEPTH] in self._starts:
                        yield place


def _tables(forms: list[bytes]) -> list[bytes]:
    """Return for each of the first bytes which groups have it there; forms that begin alike share a group."""
    tables = [bytearray(256) for _ in range(_DEPTH)]
    for index, form in enumerate(forms):
        group = 1 << (index * _GROUPS // len(forms))
        for table, byte in zip(tables, form, strict=False):
            table[byte] |= group
    return [bytes(table) for table in tables]


def _parts(secret: str) -> Iterator[str]:
    """Yield a secret and what is one by itself in it."""
    yield secret
    yield secret.strip()
    if "://" in secret:
        yield from _credentials(secret)
    scheme, _, rest = secret.strip().partition(" ")
    if rest and scheme.lower() in {"bearer", "basic", "token", "apikey"}:
        yield rest.strip()
        if scheme.lower() == "basic":
            yield _decoded(rest).partition(":")[2]
    if "\n" in secret:
        lines = [line.strip() for line in secret.splitlines()]
        yield from (line for line in lines if len(line) >= _LONG_LINE and not line.startswith("-----"))


def _credentials(address: str) -> Iterator[str]:
    """Yield what in an address lets one in: the password, or where there is none the user's name."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return
    text = parts.password or parts.username or ""
    yield text
    yield unquote(text)


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def _forms(secret: str) -> Iterator[bytes]:
    """Yield the bytes by which a secret is recognised, at least `_DEPTH` of them."""
    percent = {
        quote(secret, safe="", errors="surrogatepass"),
        quote(secret, errors="surrogatepass"),
        quote_plus(secret, errors="surrogatepass"),
    }
    told = {
        secret,
        *percent,
        *(re.sub(r"%..", lambda found: found[0].lower(), text) for text in percent),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        html.escape(secret),
    }
    yield from (text.encode("utf-8", "surrogatepass") for text in told)
    data = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        # Three bytes make four characters, so it matters how many stand before; the characters at the edges hold
        # bits of the neighbours, too.
        plain = base64.b64encode(bytes(before) + data)[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
        yield from {plain, plain.translate(bytes.maketrans(b"+/", b"-_"))}


NOTHING_SECRET = Redactor()
"""Replaces nothing."""
