"""The functions of the example: ordinary Python, run on threads or in worker processes as `config.yaml` says.

May import: examples.every_kind.ledger, stdlib.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from examples.every_kind.ledger import work


def read_trip(text: str) -> dict[str, Any]:
    """Return what a note says in lines like `City: Bergen`."""
    with work("trip"):
        said = dict(line.split(": ", 1) for line in text.splitlines() if line.count(": ") == 1)
    return {"city": said["City"], "people": int(said["People"]), "hours": int(said["Hours"])}


def packing_list(sky: str, degrees: float, people: int, hours: int) -> dict[str, Any]:
    """Return what to take along."""
    with work("pack"):
        things = {"sandwiches": people * max(1, hours // 3), "bottles": people}
        if sky == "rain":
            things["umbrellas"] = (people + 1) // 2
        if degrees < 12:
            things["jackets"] = people
    return {"things": things, "pieces": sum(things.values())}


def write_report(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return the report: what every task upstream has to say, in one text."""
    with work("report"):
        trip, weather = inputs["trip"], inputs["forecast"]
        lines = [
            f"# {trip['city']}, for {trip['people']}",
            "",
            f"Weather: {weather['sky']}, {weather['degrees']} degrees.",
            f"Take along: {', '.join(f'{count} {thing}' for thing, count in inputs['pack']['things'].items())}.",
            f"The notes had {inputs['words']['words']} words.",
            f"Drafted by Alita: {len(inputs['draft']['response'])} characters.",
            f"Answered by KGoT: {len(inputs['question']['solution'])} characters.",
            f"Reviewed by {inputs['review']['reviewer']}: {inputs['review']['remark']}",
        ]
    return {"text": "\n".join(lines) + "\n"}
