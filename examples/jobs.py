"""The functions the examples run, declared in `config.yaml`.

May import: anyio, stdlib. Ordinary Python: nothing here knows about orchestration. Parameters named `inputs` and
`attempt_id` are filled in by the system that calls them.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping
from pathlib import Path

import anyio


def draw_numbers(amount: int, seed: int = 7) -> dict[str, object]:
    """Return that many numbers between 0 and 100, the same ones for the same seed."""
    source = random.Random(seed)
    return {"numbers": [round(source.uniform(0, 100), 2) for _ in range(amount)], "seed": seed}


def mean(numbers: list[float]) -> dict[str, float]:
    """Return the mean."""
    return {"value": round(statistics.fmean(numbers), 3)}


def spread(numbers: list[float]) -> dict[str, float]:
    """Return the standard deviation."""
    return {"value": round(statistics.stdev(numbers), 3)}


def inspect_delivery(rows: int, damaged: int) -> dict[str, object]:
    """Judge a delivery of rows."""
    return {"rows": rows, "quality": round(1 - damaged / rows, 3)}


def describe(text: str) -> dict[str, str]:
    """Return a text, to be seen in a result."""
    return {"text": text}


def refuse(reason: str) -> None:
    """Fail, every time."""
    raise RuntimeError(reason)


def square(number: float) -> float:
    """Return the square."""
    return number * number


def add_up(inputs: Mapping[str, float]) -> dict[str, float]:
    """Return the sum of what every upstream task delivered."""
    return {"addends": len(inputs), "sum": round(math.fsum(inputs.values()), 4)}


async def write_line(file: str, attempt_id: str, seconds: float = 0.0) -> dict[str, str]:
    """Work for a while, then append the attempt's id to a file: an effect on the world that anyone can count."""
    await anyio.sleep(seconds)
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as lines:  # noqa: ASYNC230 — one short line to a local file
        lines.write(f"{attempt_id}\n")
    return {"wrote": attempt_id}
