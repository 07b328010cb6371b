"""Runs the example: `python -m examples.every_kind.run [--kill TASK]`, in a clone.

May import: examples.every_kind.{ledger, stage}, stdlib. Starts everything on free ports, runs the plan through the real
command line, kills one process in the middle of its task where that is asked for, and says what happened.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from examples.every_kind.ledger import noted
from examples.every_kind.stage import ORCHESTRATION, PATIENCE_SECONDS, VICTIMS, Stage, find_filesystem

FOLDER = Path(".demo") / "every-kind"
"""Where everything is left; the whole of it may be deleted."""


def main() -> int:
    """Run the example and return the exit code of what drove it."""
    about = "\n".join(f"  {task:10} {what}" for task, what in VICTIMS.items())
    parser = argparse.ArgumentParser(
        prog="python -m examples.every_kind.run",
        description="Runs one graph with a task for every kind of system. What --kill can end:\n\n" + about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--kill", choices=VICTIMS, metavar="TASK", help="kill the process that does this task"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where everything is left; {FOLDER}")
    options = parser.parse_args()
    try:
        with Stage(options.folder, find_filesystem(options.folder.absolute() / "node")) as stage:
            return show(stage, options.kill)
    except (FileNotFoundError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def show(stage: Stage, victim: str | None) -> int:
    """Run the plan on a stage, and tell what happened."""
    stage.start()
    if victim is not None:
        stage.hold(victim)
    stage.run()
    # The server of an agent that is there would go on with what a killed driver left, before anybody can `resume`.
    if victim != "driver":
        stage.start_agent("ada")
    if victim is not None:
        stage.kill(victim)
        print(f"--- killed {VICTIMS[victim]}", file=sys.stderr)
        stage.revive(victim)
    if victim == "driver":
        stage.start_agent("ada")
    assert stage.driver is not None
    code = stage.driver.wait(timeout=4 * PATIENCE_SECONDS)
    tell(stage)
    return code


def tell(stage: Stage) -> None:
    """Print how each task went, what was counted outside, and the report."""
    print(f"\n{'task':10} {'system':10} {'attempts':>8} {'begun':>6} {'done':>5}")
    for task in stage.ask("status", ORCHESTRATION, "--tasks")["tasks"]:
        name = task["task_id"]
        begun, done = (len(noted(stage.home, name, what)) or "" for what in ("began", "done"))
        print(f"{name:10} {task['system'] or '':10} {task['attempt'] or 0:8} {begun:>6} {done:>5}")
    report = stage.home / "notes" / "report.md"
    if report.exists():
        print(f"\n{report.read_text(encoding='utf-8')}")
    print(
        f"Published {len(list((stage.home / 'published').iterdir()))} report; everything is in {stage.home}"
    )


if __name__ == "__main__":
    sys.exit(main())
