"""Reads the body of an answer: counts it as it comes and as it is when decompressed, and stops at the limit.

May import: orchestration.systems.http_messages, stdlib.

A small body can be the compressed form of a huge one; it is decompressed in pieces, none of which goes further than
the limit.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from orchestration.systems.http_messages import ExchangeError

_WINDOW_BITS: Mapping[str, int] = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_DEFLATE = -15


class BodyReader:
    """Takes the pieces of one body.

    Args:
        headers: Of the answer, names in small letters.
        limit: Longest body, before and after decompression.

    Raises:
        ExchangeError: It is compressed in a way nobody asked for.
    """

    def __init__(self, headers: Mapping[str, str], limit: int) -> None:
        self._announced = headers.get("content-length", "")
        self._limit = limit
        self._received = 0
        self._body = bytearray()
        self._encoding = headers.get("content-encoding", "").strip().lower()
        if self._encoding in ("", "identity"):
            self._encoding = ""
        elif self._encoding not in _WINDOW_BITS:
            raise ExchangeError(
                "unusable", f"the answer is encoded as {self._encoding[:50]!r}; expected gzip or deflate"
            )
        self._inflater = self._new_inflater()

    def check_announced_length(self) -> None:
        """Refuse a body that is said to be too long, before any of it is read.

        Raises:
            ExchangeError: It is.
        """
        if (
            self._announced.isascii()
            and self._announced.isdigit()
            and int(self._announced[:20]) > self._limit
        ):
            raise self._too_large()

    def feed(self, data: bytes) -> None:
        """Take a piece as it came.

        Raises:
            ExchangeError: The body is too long, or not compressed as it says.
        """
        self._received += len(data)
        if self._received > self._limit:
            raise self._too_large()
        if not self._encoding:
            self._body += data
            return
        try:
            self._inflate(data)
        except zlib.error as exc:
            raise ExchangeError("unusable", f"the answer is no {self._encoding}: {exc}") from None

    def finish(self) -> bytes:
        """Return the whole body.

        Raises:
            ExchangeError: It ends in the middle of what is compressed.
        """
        if self._encoding and self._received and not self._inflater.eof:
            raise ExchangeError("lost", f"the answer ends in the middle of its {self._encoding}")
        return bytes(self._body)

    def _inflate(self, data: bytes) -> None:
        while data:
            if self._inflater.eof:
                if not data.strip(b"\0"):  # padding
                    return
                self._inflater = self._new_inflater()
            data = self._inflate_some(data)
            if len(self._body) > self._limit:
                raise self._too_large()

    def _inflate_some(self, data: bytes) -> bytes:
        """Decompress up to the limit and one byte more, and return what is left to be decompressed."""
        room = self._limit - len(self._body) + 1
        try:
            self._body += self._inflater.decompress(data, room)
        except zlib.error:
            if self._encoding != "deflate" or self._body or self._received != len(data):
                raise
            self._inflater = zlib.decompressobj(_RAW_DEFLATE)  # what many servers mean by deflate
            self._body += self._inflater.decompress(data, room)
        return self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail

    def _new_inflater(self) -> zlib._Decompress:
        return zlib.decompressobj(_WINDOW_BITS.get(self._encoding, _RAW_DEFLATE))

    def _too_large(self) -> ExchangeError:
        return ExchangeError("too_large", f"the answer has more than {self._limit} bytes")
