"""An agent that does tasks for others: it claims one over MCP, does it, reports, and asks for the next.

    python -m examples.every_kind.agent NAME --config FILE --database FILE

It starts `serve --profile worker` as its MCP server, as any MCP client would, and goes on until it is ended. A language
model would read the brief here; this one has a rule instead.

May import: examples.every_kind.ledger, mcp, anyio, stdlib.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from typing import Any

import anyio
from mcp import Client, StdioServerParameters

from examples.every_kind.ledger import work

WAIT_SECONDS = 20
"""How long one question waits for work."""


async def serve_others(name: str, server: StdioServerParameters) -> None:
    """Claim and do one task after the other, for ever."""
    async with Client(server) as client:
        while True:
            asked = {"worker": name, "skills": ["travel"], "wait_seconds": WAIT_SECONDS}
            answer = (await client.call_tool("claim_task", asked)).structured_content or {}
            if answer.get("claim"):
                await do_task(client, name, answer)


async def do_task(client: Client, name: str, claimed: dict[str, Any]) -> None:
    """Do one task and report it done."""
    await client.call_tool(
        "report_task", {"claim": claimed["claim"], "status": "progress", "summary": "reading"}
    )

    def judge() -> dict[str, Any]:
        with work(claimed["task"]):
            is_known = "umbrella" in claimed["brief"] or "rain" in claimed["brief"]
        remark = "It will rain, and it is planned for." if is_known else "Nothing is said about the weather."
        return {"approved": is_known, "remark": remark, "reviewer": name}

    output = await anyio.to_thread.run_sync(judge, abandon_on_cancel=True)
    done = {"claim": claimed["claim"], "status": "done", "output": output, "summary": output["remark"]}
    await client.call_tool("report_task", done)


def main() -> None:
    """Read the command line and work."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--config", required=True)
    parser.add_argument("--database", required=True)
    options = parser.parse_args()
    words = ["-m", "server", "serve", "--profile", "worker"]
    words += ["--config", options.config, "--database", options.database, "--log-level", "ERROR"]
    server = StdioServerParameters(command=sys.executable, args=words, env=dict(os.environ))
    with suppress(KeyboardInterrupt):  # told to end: what it has not reported is offered again
        anyio.run(serve_others, options.name, server)


if __name__ == "__main__":
    main()
