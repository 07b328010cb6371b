"""One thing `doctor` looked at.

May import: stdlib.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    fix: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "fix": self.fix}
