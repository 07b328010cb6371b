"""Writes `fan-1000.yaml`: one task, a thousand that each take one of its numbers, one that adds up.

python examples/make_fan.py [WIDTH] > examples/fan-1000.yaml
"""

from __future__ import annotations

import sys

HEAD = """\
# A fan of {width:,} tasks, written by make_fan.py.
#
#   advanced-orchestration run examples/fan-{width}.yaml --config examples/config.yaml
#   advanced-orchestration output fan-{width}-1 total

dag_id: fan-{width}
goal: Add up {width:,} squares
defaults: {{system_preference: jobs}}
tasks:
  - {{task_id: sample, tool: draw_numbers, arguments: {{amount: {width}}}}}
"""
TASK = (
    "  - {{task_id: square-{number}, tool: square, depends_on: [sample], "
    "arguments: {{number: '${{sample.numbers[{index}]}}'}}}}\n"
)
TAIL = "  - {{task_id: total, tool: add_up, depends_on: [{names}]}}\n"


def fan(width: int) -> str:
    """Return the file's text."""
    numbers = range(1, width + 1)
    tasks = "".join(TASK.format(number=number, index=number - 1) for number in numbers)
    names = ", ".join(f"square-{number}" for number in numbers)
    return HEAD.format(width=width) + tasks + TAIL.format(names=names)


if __name__ == "__main__":
    sys.stdout.write(fan(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
