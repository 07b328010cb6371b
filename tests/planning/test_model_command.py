"""The command line with a configured language model: a file, a key from the environment, a provider over HTTP."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from storage import SqliteStorage
from tests.planning.model_server import Answer, ModelServer, model_server, plan

pytestmark = pytest.mark.anyio

KEY = "sk-live-0123456789"
CONFIG = """
model: {{name: own-model, base_url: "{url}", api_key: "${{MODEL_KEY}}", max_retries: 0}}
sequential_thinking: in-process
systems:
  local: {{kind: command, commands: {{hello: {{argv: [echo, hello]}}}}}}
"""
HELLO = {"task_id": "hello", "description": "Say hello", "system_preference": "local", "tool": "hello"}


async def run(server: ModelServer, folder: Path, *words: str, config: str = CONFIG) -> tuple[int, Any, str]:
    """Run a command and return its exit code, its answer and what it said besides."""
    file = folder / "config.yaml"
    file.write_text(config.format(url=server.url), encoding="utf-8")
    argv = [sys.executable, "-m", "server", *words, "--json", "--config", str(file)]
    with anyio.fail_after(60):
        ran = await anyio.run_process(
            [*argv, "--database", str(folder / "o.db")], env={**os.environ, "MODEL_KEY": KEY}, check=False
        )
    return ran.returncode, json.loads(ran.stdout), ran.stderr.decode()


async def test_a_goal_is_planned_by_the_model_and_run(tmp_path: Path) -> None:
    """On the configured system, whose tools the model was told."""
    async with model_server(plan([HELLO], ["A greeting will do."])) as server:
        code, answer, _ = await run(server, tmp_path, "run", "--goal", "Greet the world")

    assert (code, answer["success"]) == (0, True)
    assert server.keys == [f"Bearer {KEY}"]
    told = {
        system["system"]: [tool["tool"] for tool in system["tools"]] for system in server.data()["systems"]
    }
    assert told["local"] == ["hello"]
    assert "codebase" in told


async def test_a_plan_says_who_made_it_and_what_it_took(tmp_path: Path) -> None:
    """With the model's thoughts."""
    async with model_server(plan([HELLO], ["A greeting will do."])) as server:
        code, answer, _ = await run(server, tmp_path, "decompose", "Greet the world")

    assert (code, answer["planner"]) == (0, "model:own-model")
    assert "A greeting will do." in json.dumps(answer)
    assert "The model took 1 request" in json.dumps(answer)


async def test_an_outage_is_said_and_the_key_is_not(tmp_path: Path) -> None:
    """The next planner makes the plan."""
    answer = Answer(status=401, error="Incorrect API key provided:", repeats_error_key=True)

    async with model_server(answer) as server:
        code, told, said = await run(server, tmp_path, "decompose", "Greet the world")

    assert (code, told["planner"]) == (0, "sentences")
    assert "was passed over: its provider answered 401: Incorrect API key provided: ***" in json.dumps(told)
    assert KEY not in json.dumps(told) + said


async def test_a_goal_is_run_while_it_is_planned(tmp_path: Path) -> None:
    """Where the configuration wants it; the orchestration says how its tasks came."""
    again = {**HELLO, "task_id": "again", "depends_on": ["hello"]}
    async with model_server(plan([HELLO, again])) as server:
        early = CONFIG.replace("max_retries: 0", "max_retries: 0, start_early: true")
        code, answer, _ = await run(server, tmp_path, "run", "--goal", "Greet the world", config=early)
        _, story, _ = await run(
            server, tmp_path, "status", answer["orchestration_id"], "--view", "plan", config=early
        )
    events = [
        recorded.event.type
        for recorded in await SqliteStorage(tmp_path / "o.db").read_events(answer["orchestration_id"])
    ]

    assert (code, answer["success"]) == (0, True)
    assert list(answer["results"]) == ["hello", "again"]
    assert (events.count("plan_extended"), events.count("plan_completed")) == (2, 1)
    assert "model:own-model" in json.dumps(story)
