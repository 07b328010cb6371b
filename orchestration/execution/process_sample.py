"""How much memory and processor time this process has used.

May import: stdlib.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path


def sample_process() -> dict[str, float]:
    """Return `memory_mb` (resident now; the peak where the platform tells no more) and `cpu_seconds` so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        memory_bytes = pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        memory_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "memory_mb": round(memory_bytes / 1024**2, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
    }
