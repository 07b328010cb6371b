"""A server drives, a command line and another server edit: one mechanism for every face, across processes."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from mcp import Client

from tests.acceptance.serving import Place, http_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

NAME = "interrupted-1"


async def test_what_a_server_drives_is_edited_from_two_other_processes(tmp_path: Path) -> None:
    """By a model through another server, by a person at the command line; the log has both, and it all runs."""
    place = Place(tmp_path)
    added = {
        "op": "add",
        "task": {
            "task_id": "fourth",
            "tool": "note",
            "arguments": {"path": str(tmp_path / "notes"), "line": "fourth"},
            "depends_on": ["third"],
        },
    }
    with anyio.fail_after(60):
        async with (
            http_server(place) as (driving, _),
            http_server(place) as (asking, _),
            Client(driving) as one,
            Client(asking) as two,
        ):
            await one.call_tool("execute_dag", {"dag": place.interrupted_dag()})
            await place.wait_for_line("second")
            by_model = await two.call_tool(
                "edit_dag", {"target": NAME, "operations": [added], "expected_revision": 1}
            )
            stale = await one.call_tool(
                "edit_dag", {"target": NAME, "operations": [added], "expected_revision": 1}
            )
            by_person = await place.ask(
                "edit", NAME, "--set", "fourth.priority=HIGH", "--reason", "it is late"
            )
            place.let_go()
            ended = await one.call_tool(
                "get_orchestration_status", {"orchestration_id": NAME, "wait_seconds": 20}
            )
            log = (await place.ask("edit", NAME, "--log"))["revisions"]

    assert (by_model.structured_content["outcome"], by_model.structured_content["revision"]) == ("applied", 2)
    assert stale.is_error
    assert (by_person["applied"], by_person["revision"]) == (True, 3)
    assert [(each["revision"], each["by"], each["reason"]) for each in log[1:]] == [
        (2, "caller", ""),
        (3, "person", "it is late"),
    ]
    assert ended.structured_content["counts"] == {"completed": 4}
    assert place.lines() == ["first", "second", "third", "fourth"]
