"""KGoT as the example starts it: the tests' stand-in, which needs no model, with a note of when it began and was done.

May import: examples.every_kind.ledger, stdlib. A KGoT of your own is named in `config.yaml` instead.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from examples.every_kind.ledger import work

STANDIN = Path(__file__).parents[2] / "tests" / "standins" / "kgot_standin.py"

if __name__ == "__main__":
    with work("question"):
        runpy.run_path(str(STANDIN), run_name="__main__")
