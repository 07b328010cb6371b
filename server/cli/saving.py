"""An output as files: the pictures and documents it holds, or the whole as text.

May import: orchestration.{errors, models}, orchestration.systems.content_blocks, stdlib.
"""

from __future__ import annotations

import json
from pathlib import Path

from orchestration.errors import InvalidArgumentError
from orchestration.models import Json
from orchestration.systems.content_blocks import blocks_in, bytes_of


def save_output(value: Json, path: Path) -> list[Path]:
    """Write an output into new files, and return them.

    Args:
        value: The output.
        path: The file; of several pictures or documents `NAME-1.EXT`, `NAME-2.EXT`, ….

    Raises:
        InvalidArgumentError: A file is there already, can't be written, or what it should hold is damaged.
    """
    blocks = blocks_in(value)
    if blocks:
        try:
            contents = [bytes_of(block) for block in blocks]
        except ValueError as exc:
            raise InvalidArgumentError("output", "…", "files that are whole", str(exc)) from exc
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2) + "\n"
        contents = [text.encode("utf-8", "surrogatepass")]
    names = (
        [path]
        if len(contents) == 1
        else [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, len(contents) + 1)]
    )
    taken = [name for name in names if name.exists()]
    if taken:
        raise InvalidArgumentError(
            "--save", str(taken[0]), "a file that is not there yet", "choose another name."
        )
    for name, content in zip(names, contents, strict=True):
        try:
            with name.open("xb") as file:
                file.write(content)
        except OSError as exc:
            expected = "a file that can be written"
            raise InvalidArgumentError("--save", str(name), expected, exc.strerror or str(exc)) from exc
    return names
