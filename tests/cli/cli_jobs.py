"""Functions the tested command line runs."""

from __future__ import annotations

import base64
import hashlib
import time
from pathlib import Path


def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


def note(path: str, text: str) -> str:
    """Append a line to a file, so that anyone can count what really ran."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")
    return text


def wait_for(path: str) -> str:
    """Return once a file exists."""
    while not Path(path).exists():
        time.sleep(0.01)
    return path


def fail(message: str) -> None:
    """Raise something that repeating can't help."""
    raise TypeError(message)


def fail_until(path: str) -> str:
    """Fail for good until a file exists."""
    if not Path(path).exists():
        raise TypeError(f"{path} is not there")
    return path


def send(path: str, text: str) -> str:
    """Append a line to a file; the connection breaks before the answer, unless `path`.fine exists."""
    note(path, text)
    if not Path(f"{path}.fine").exists():
        raise ConnectionResetError("the line broke.")
    return text


def large(size: int) -> str:
    """Return a text of `size` characters."""
    return "x" * size


def noise(seed: str, size: int) -> str:
    """Return a text of `size` characters that no compression makes smaller by much."""
    return base64.b64encode(hashlib.shake_256(seed.encode()).digest(size)).decode()[:size]
