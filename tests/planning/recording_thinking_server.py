"""A Sequential Thinking server over stdio that writes down what it is sent: `python -m … FOLDER [DIES_AFTER]`.

Each process writes a file of its own, `PID.jsonl`: a line when it starts, one per thought, and one with the branches
when its input ends.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.server.stdio import stdio_server

from orchestration.planning.thinking_server import ThoughtArguments, ThoughtHistory, make_thinking_server

ROOT = Path(__file__).resolve().parents[2]


class WrittenHistory(ThoughtHistory):
    """A history that is written to a file as it grows."""

    file: Path
    dies_after: int

    def take(self, thought: ThoughtArguments) -> dict[str, Any]:
        """Write a thought down and answer; die on the one that was named."""
        write(self.file, thought.model_dump(by_alias=True, exclude_unset=True))
        if len(self.thoughts) + 1 == self.dies_after:
            os._exit(1)
        return super().take(thought)


def write(file: Path, line: object) -> None:
    """Append one line of JSON."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def command(folder: Path, dies_after: int = 0) -> tuple[str, ...]:
    """Return what starts such a server."""
    return (sys.executable, "-m", "tests.planning.recording_thinking_server", str(folder), str(dies_after))


def environment() -> dict[str, str]:
    """Return the variables with which it finds this package."""
    return {"PYTHONPATH": os.pathsep.join(path for path in (str(ROOT), *sys.path) if path)}


def recorded(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """Return what each process that was ready wrote, by its id, in the order they were started."""
    files = sorted(folder.glob("*.jsonl"), key=lambda file: file.stat().st_ctime_ns)
    lines = {
        int(file.stem): [json.loads(line) for line in file.read_text().splitlines()]
        for file in files
        if file.stat().st_size
    }
    return dict(sorted(lines.items(), key=lambda item: float(item[1][0]["started"])))


def thoughts(folder: Path) -> list[list[dict[str, Any]]]:
    """Return the thoughts each process was sent; none of those that were sent none."""
    return [
        found
        for lines in recorded(folder).values()
        if (found := [line for line in lines if "thought" in line])
    ]


async def main() -> None:
    """Serve until the input ends."""
    file = Path(sys.argv[1]) / f"{os.getpid()}.jsonl"
    history = WrittenHistory()
    history.file, history.dies_after = file, int(sys.argv[2])
    server = make_thinking_server(history)
    write(file, {"started": anyio.current_time()})
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())
    write(file, {"branches": list(history.branches)})


if __name__ == "__main__":
    anyio.run(main)
