"""kill -9 around each commit: nothing acknowledged is lost, nothing completed runs again."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import anyio
import pytest

from orchestration import create_advanced_task_orchestrator
from storage import SqliteStorage

pytestmark = pytest.mark.anyio

VICTIM = Path(__file__).with_name("victim.py")


@pytest.fixture(scope="module")
def victim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("victim", VICTIM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 4, 6])
async def test_a_process_killed_around_a_commit_is_taken_over_without_repeating_what_is_done(
    tmp_path: Path, victim: ModuleType, when: str, at: int
) -> None:
    """Effects are counted outside the database; a task whose completion was stored has exactly one."""
    database, effects = tmp_path / "state.db", tmp_path / "effects"
    effects.touch()

    with anyio.fail_after(60):
        ended = await anyio.run_process(
            [sys.executable, str(VICTIM), str(database), str(effects), when, str(at)], check=False
        )
    orchestrator = create_advanced_task_orchestrator(
        systems={"python": victim.marker(effects)},
        state_manager=SqliteStorage(database),
        max_concurrent_tasks=2,
    )
    async with orchestrator:
        before = await orchestrator.load_status("victim-1")
        done = {row.task_id for row in await orchestrator.load_tasks("victim-1", statuses=["completed"])}
        taken = await orchestrator.resume_all()
        result = await orchestrator.wait("victim-1")

    assert ended.returncode == -signal.SIGKILL
    assert before["orphaned"] is True
    assert taken == ["victim-1"]
    assert result["success"] is True
    counts = Counter(effects.read_text().split())
    assert set(counts) == set(victim.build().nodes)
    assert {task_id: counts[task_id] for task_id in done} == dict.fromkeys(done, 1)
    assert max(counts.values()) <= 2
