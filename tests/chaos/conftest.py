"""What the tests of this folder share: a place whose effects are counted, in this process, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.places import Place
from tests.chaos.work import EFFECTS


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return an empty place."""
    made = Place(tmp_path)
    monkeypatch.setenv(EFFECTS, str(made.effects))
    return made
