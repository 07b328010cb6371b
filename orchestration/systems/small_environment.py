"""The few environment variables that a process we start inherits from us.

May import: stdlib.
"""

from __future__ import annotations

import os

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TERM")
"""What programs need to find their way; secrets of the server stay out."""


def inherited_environment() -> dict[str, str]:
    """Return those of the variables that are set."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}
