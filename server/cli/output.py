"""What a command writes: one JSON document or text on stdout, notes for people on stderr.

May import: server.cli.*, orchestration.{plain_text, redaction}, rich (late, on a terminal only), stdlib.

What is shown came from systems, models and callers, too. On its way out it loses the secrets of the configuration, and
what would steer a terminal is told as an escape.

A reader that goes away (`| head`) ends nothing and is told nothing: from then on stdout is mute, and the
command finishes with its own exit code.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from orchestration.plain_text import printable_json, printable_line, printable_text
from orchestration.redaction import NOTHING_SECRET

_WIDE_COLUMN = 60
"""A column wider than this may be cut on a terminal that is too narrow."""


class Output:
    """Where a command's answer goes.

    Args:
        is_json: Whether the answer is one JSON document.
    """

    def __init__(self, *, is_json: bool = False) -> None:
        self.is_json = is_json
        self.redactor = NOTHING_SECRET
        """Takes out what must not be shown; known once the configuration was read."""
        self.is_cut = False
        """Whether a part of the answer could not be written although someone wants it."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A file name may hold bytes no encoding has; a message about it must not fail for that.
                stream.reconfigure(errors="backslashreplace")

    def document(self, value: Any) -> None:
        """Write the answer as JSON: indented for a person's eyes, on one line for a program."""
        indent = 2 if sys.stdout.isatty() else None
        self._write(printable_json(json.dumps(value, ensure_ascii=False, indent=indent, default=str)))

    def line(self, text: str = "") -> None:
        """Write a line of the answer for people."""
        self._write(printable_text(text))

    def raw(self, text: str) -> None:
        """Write a text as it is, but for a terminal; a line break is added where it ends without one."""
        text = text.removesuffix("\n")
        self._write(printable_text(text) if sys.stdout.isatty() else text)

    def note(self, text: str) -> None:
        """Write a line on stderr: something worth knowing that is not the answer."""
        try:
            print(self.redactor.text(printable_text(text)), file=sys.stderr, flush=True)
        except OSError:  # nobody reads it, or it can't be written: there is nowhere left to say so
            _silence(sys.stderr)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[object]], empty: str = "") -> None:
        """Write rows under headings: a drawn table on a terminal, aligned columns elsewhere.

        Args:
            headings: One per column.
            rows: The cells; None is shown empty.
            empty: The line to write instead when there are no rows.
        """
        if not rows:
            if empty:
                self.line(empty)
            return
        cells = [["" if cell is None else self._cell(str(cell)) for cell in row] for row in rows]
        if sys.stdout.isatty():
            self._draw(headings, cells)
            return
        widths = [max(len(row[column]) for row in (headings, *cells)) for column in range(len(headings))]
        for row in ([heading.upper() for heading in headings], *cells):
            self.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def fields(self, pairs: Mapping[str, object]) -> None:
        """Write names and values, one pair a line; what is None is left out."""
        shown = {name: value for name, value in pairs.items() if value is not None}
        width = max((len(name) for name in shown), default=0) + 1
        for name, value in shown.items():
            self.line(f"{name + ':':<{width}} {value}")

    def _cell(self, text: str) -> str:
        return printable_line(self.redactor.text(text))

    def _draw(self, headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for column, heading in enumerate(headings):
            # Ids are there to be copied: only the last column, a description, gives way on a narrow terminal.
            widest = max(len(row[column]) for row in (headings, *cells))
            is_last = column == len(headings) - 1
            table.add_column(heading, no_wrap=True, min_width=0 if is_last else min(widest, _WIDE_COLUMN))
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        try:
            Console().print(table)
            sys.stdout.flush()
        except OSError as error:
            self._lose(error)

    def _write(self, text: str) -> None:
        try:
            print(self.redactor.text(text), flush=True)
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Say no more on stdout. A reader that has gone is no error; a full disk is."""
        _silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            self.is_cut = True
            self.note(f"error: the answer can't be written ({error.strerror or error}).")


def _silence(stream: TextIO) -> None:
    """Lead a stream nobody reads any more to nowhere, so that neither we nor the interpreter's end stumble
    over it.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def seconds(value: float | None) -> str:
    """Return a duration for people: `40 ms`, `12.3 s`, `3 min 20 s`, `2 h 05 min`."""
    if value is None:
        return ""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def percent(value: float | None) -> str:
    """Return a share in [0, 1] for people."""
    return "" if value is None else f"{value * 100:.0f} %"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def counts(found: Mapping[str, int]) -> str:
    """Return counts per status on one line."""
    return ", ".join(f"{count:,} {status}" for status, count in found.items() if count) or "no tasks"


def clip(text: str, limit: int = 200) -> str:
    """Return `text` on one line, in at most `limit` characters and without what a terminal would obey."""
    line = " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
