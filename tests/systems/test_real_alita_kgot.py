"""The same systems against a real Alita and a real KGoT, where environment variables name them.

    ALITA_URL=http://127.0.0.1:3000 pytest -m slow tests/systems/test_real_alita_kgot.py
    KGOT_COMMAND="kgot" KGOT_CONFIG_DIR=~/kgot pytest -m slow tests/systems/test_real_alita_kgot.py

KGoT also needs its Python executor, and `OPENAI_BASE_URL` where its models are not OpenAI's own; both variables are
passed on. A run costs what one question costs.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration.models import TaskNode
from orchestration.ports import AttemptResult, Progress
from orchestration.systems.alita import AlitaSpec, AlitaSystem
from orchestration.systems.kgot import KgotOptions, KgotSpec, KgotSystem
from tests.systems.support import a_request, running

QUESTION = "How much is 17 plus 25? Answer with the number alone."

needs_alita = pytest.mark.skipif(
    not os.environ.get("ALITA_URL"), reason="ALITA_URL names no running Alita manager agent"
)
needs_kgot = pytest.mark.skipif(
    not (os.environ.get("KGOT_COMMAND") and os.environ.get("KGOT_CONFIG_DIR")),
    reason="KGOT_COMMAND and KGOT_CONFIG_DIR name no KGoT with a configuration that works",
)
pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(1900)]


def alita() -> AlitaSystem:
    """Return the system the environment names."""
    return AlitaSystem(AlitaSpec(base_url=os.environ["ALITA_URL"]))


def kgot(tmp_path: Path) -> KgotSystem:
    """Return the system the environment names, at its cheapest."""
    passed_on = {name: os.environ[name] for name in ("OPENAI_BASE_URL",) if name in os.environ}
    return KgotSystem(
        KgotSpec(
            command=shlex.split(os.environ["KGOT_COMMAND"]),
            config_dir=Path(os.environ["KGOT_CONFIG_DIR"]).expanduser(),
            env=passed_on,
            python_executor_uri=os.environ.get("PYTHON_EXECUTOR_URI"),
            options=KgotOptions(iterations=1, num_next_steps_decision=1, max_final_solution_parsing=1),
            work_folder=tmp_path / "work",
        )
    )


@needs_alita
async def test_a_real_alita_is_healthy_and_answers() -> None:
    """It answers a question that any model can answer."""
    async with running(alita()) as system:
        health = await system.check()
        output: Any = await system.execute(a_request(task=TaskNode("t", description=QUESTION)))

    assert health.ok, health.detail
    assert output["response"].strip()
    assert output["request_id"]
    assert output["duration_seconds"] >= 0


@needs_alita
async def test_a_real_alita_answers_several_at_once_and_lets_go_of_one() -> None:
    """A closed connection takes nothing from the others."""
    answers: list[Any] = []
    async with running(alita()) as system:

        async def ask() -> None:
            answers.append(await system.execute(a_request(task=TaskNode("t", description=QUESTION))))

        async with anyio.create_task_group() as asking:
            for _ in range(2):
                asking.start_soon(ask)
            with anyio.move_on_after(0.05):
                await system.execute(a_request(task=TaskNode("t", description=QUESTION)))

    assert len(answers) == 2


@needs_kgot
async def test_a_real_kgot_is_healthy_and_solves(tmp_path: Path) -> None:
    """Its solution comes with progress, usage and cost, and no folder stays."""
    said: list[Progress] = []
    request = replace(a_request(task=TaskNode("t", description=QUESTION)), progress=said.append)
    async with running(kgot(tmp_path)) as system:
        health = await system.check()
        result = await system.execute(request)

    assert health.ok, health.detail
    assert isinstance(result, AttemptResult)
    output: Any = result.output
    assert output["solution"]
    assert output["usage"]["calls"] > 0
    assert result.cost is not None
    assert said
    assert left_in(tmp_path / "work") == []


@needs_kgot
@pytest.mark.parametrize("seconds", [1.0, 8.0])
async def test_a_real_kgot_is_ended_in_the_middle(tmp_path: Path, seconds: float) -> None:
    """While it starts and while it works: no folder stays."""
    async with running(kgot(tmp_path)) as system:
        with anyio.move_on_after(seconds):
            await system.execute(a_request(task=TaskNode("t", description=QUESTION)))

    assert left_in(tmp_path / "work") == []


def left_in(folder: Path) -> list[str]:
    """Return what a folder still holds."""
    return [path.name for path in folder.iterdir()]
