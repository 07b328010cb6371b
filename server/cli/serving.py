"""The command `serve`: the MCP server over stdio or HTTP.

May import: server.cli.*, server.app (late), stdlib.
"""

from __future__ import annotations

import argparse

from server.cli.output import Output
from server.cli.parser import SUCCESS, Commands, whole_number
from server.cli.session import load


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "serve",
        serve,
        about="run the MCP server",
        example="advanced-orchestration serve\nadvanced-orchestration serve --transport http --port 8765",
        details="Over stdio for a client that starts it; over Streamable HTTP for clients on this machine. As long as\n"
        "it runs, it goes on with what loses its driver, and lets go of what was kept long enough.",
    )
    parser.add_argument(
        "--transport", choices=("stdio", "http"), default="stdio", help="stdio is the default"
    )
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address; 127.0.0.1 is the default")
    parser.add_argument(
        "--port", type=whole_number(0, 65_535), default=8765, help="8765 is the default; 0 takes a free one"
    )
    parser.add_argument(
        "--profile",
        choices=("full", "core", "worker"),
        default="full",
        help="which tools it has: all of them; those to plan, run, watch and control; those of an agent that does "
        "tasks others started",
    )


def serve(args: argparse.Namespace, output: Output) -> int:
    """Serve until the client leaves or the process is told to end."""

    settings = load(args, output)
    from orchestration.logs import prepare
    from server import app

    prepare()
    app.serve(settings, args.transport, args.host, args.port, args.profile)
    return SUCCESS
