"""Functions that the tests of safety run inside the program."""

from __future__ import annotations

import os
from typing import Any


def leak() -> dict[str, Any]:
    """Return what this process has in its environment."""
    return dict(os.environ)


def leak_in_an_error() -> None:
    """Fail with what this process has in its environment."""
    raise ValueError(f"could not sign in with {os.environ['SERVER_API_KEY']}")


def repeat(value: Any) -> Any:
    """Return the argument."""
    return value


def fail(message: str) -> None:
    """Fail with a message, for good."""
    raise NotImplementedError(message)
