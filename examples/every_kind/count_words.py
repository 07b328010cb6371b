"""The command of the example: counts the words of a file and prints the count as JSON.

    python -m examples.every_kind.count_words FILE

May import: examples.every_kind.ledger, stdlib.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from examples.every_kind.ledger import work


def main() -> None:
    """Count, and print what came out."""
    with work("words"):
        words = len(Path(sys.argv[1]).read_text(encoding="utf-8").split())
    print(json.dumps({"words": words}))


if __name__ == "__main__":
    main()
