"""Text of others made safe to show: what would steer a terminal, or hide from a reader, is told as an escape.

May import: stdlib.

An output, an error, a tool's description may hold anything: an escape sequence that rewrites the screen, sets the
clipboard or makes a link, a mark that turns the reading direction round, letters nobody sees and a language model reads
all the same. None of them is of use to a reader, and each has been used to deceive one.
"""

from __future__ import annotations

import json
import re

_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, those of eight bits too
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # line ends nobody expects, and the reading direction
    "\ufff9-\ufffb\ud800-\udfff"  # annotations; halves of pairs, which are no text
    "\U000e0000-\U000e007f\U000e0100-\U000e01ef"  # letters without a shape
)
_IN_A_LINE = re.compile(f"[\n{_UNSEEN}]")
_IN_A_TEXT = re.compile(f"[{_UNSEEN}]")


def printable_line(line: str) -> str:
    """Return a line of text that is one line and does nothing; tabs stay."""
    return _IN_A_LINE.sub(_escape, line)


def printable_text(text: str) -> str:
    """Return a text that does nothing; tabs and line breaks stay."""
    return _IN_A_TEXT.sub(_escape, text)


def printable_json(document: str) -> str:
    """Return a JSON document that does nothing and means the same."""
    return _IN_A_TEXT.sub(lambda found: json.dumps(found[0])[1:-1], document)


def _escape(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]
