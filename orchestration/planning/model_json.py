"""Reads a JSON object while it is still being written: each element of its lists as soon as it is whole.

May import: stdlib.
"""

from __future__ import annotations

import json
from typing import Any

_SPACE = " \t\r\n"


class ItemReader:
    """Finds the whole elements of the lists that are members of the object a text begins with.

    Only elements that are texts, objects or lists are found; what is no JSON ends the search, for whoever has the whole
    text says better what is wrong with it.
    """

    def __init__(self) -> None:
        self.text = ""
        """Everything that was fed."""
        self._place = 0
        self._stack: list[str] = []
        self._string_from: int | None = None
        self._is_escaped = False
        self._key = ""
        self._item_from: int | None = None
        self._is_over = False

    def feed(self, chunk: str) -> list[tuple[str, Any]]:
        """Take the next piece of the text, and return what has become whole with it: member name and element."""
        self.text += chunk
        found: list[tuple[str, Any]] = []
        while self._place < len(self.text) and not self._is_over:
            place, char = self._place, self.text[self._place]
            self._place += 1
            if self._string_from is not None:
                self._in_string(place, char, found)
            elif char == '"':
                self._begin(place)
                self._string_from = place
            elif char in "{[":
                self._begin(place)
                self._stack.append(char)
            elif char in "}]":
                self._close(place, char, found)
            elif not self._stack and char not in _SPACE:
                self._is_over = True  # no object
        return found

    def _begin(self, place: int) -> None:
        if len(self._stack) == 2 and self._stack[1] == "[":
            self._item_from = place

    def _in_string(self, place: int, char: str, found: list[tuple[str, Any]]) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif char == "\\":
            self._is_escaped = True
        elif char == '"':
            begin, self._string_from = self._string_from, None
            if len(self._stack) == 1:  # a member's name, or its value, which the next name replaces
                self._key = self.text[begin : place + 1]
            elif len(self._stack) == 2:
                self._end(place, found)

    def _close(self, place: int, char: str, found: list[tuple[str, Any]]) -> None:
        if not self._stack or self._stack.pop() != {"}": "{", "]": "["}[char]:
            self._is_over = True
        elif len(self._stack) == 2:
            self._end(place, found)
        elif not self._stack:
            self._is_over = True

    def _end(self, place: int, found: list[tuple[str, Any]]) -> None:
        if self._item_from is None or self._stack != ["{", "["]:
            return
        try:
            found.append((json.loads(self._key), json.loads(self.text[self._item_from : place + 1])))
        except (ValueError, RecursionError):
            self._is_over = True
        self._item_from = None


def read_object(text: str) -> dict[str, Any]:
    """Return the object a text holds, alone or in a fenced block.

    Raises:
        ValueError: It holds none; says where it breaks off or goes wrong, in words for whoever wrote it.
    """
    plain = text.strip()
    if plain.startswith("```") and plain.endswith("```") and "\n" in plain:
        plain = plain[plain.index("\n") : -3].strip()
    if plain.startswith("["):
        raise ValueError("it is a list; expected an object")
    if not plain.startswith("{"):
        raise ValueError("it is prose, and no call of `send_plan`" if plain else "it is empty")
    try:
        found = json.loads(plain)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    except json.JSONDecodeError as exc:
        raise ValueError(
            f"it is no valid JSON ({exc.msg} at character {exc.pos + 1} of {len(plain)})"
        ) from None
    assert isinstance(found, dict)
    return found
