"""Whatever was just decided when a process dies, the next one comes to the same plan: at every place of a story."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from orchestration.engine.effects import ContinuePlan, RequestAlternative, StartAttempt
from orchestration.engine.graph import present_graph
from orchestration.models import Fallback, OrchestrationMode, OrchestrationStatus, TaskId, TaskNode
from tests.engine_kit import Bench, edge_of, graph, plan

Step = Callable[[Bench], object]


class Story:
    """A sequence of steps, each of one decision; and what the world would do whenever it is asked.

    Args:
        begin: Makes the orchestration.
        steps: What happens, in order.
        parts: What a planner hands out, part by part: tasks and edges.
    """

    def __init__(
        self, begin: Callable[[], Bench], *steps: Step, parts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ) -> None:
        self.begin = begin
        self.steps = steps
        self.parts = parts

    def played(self, steps: int) -> Bench:
        """Return the orchestration after so many steps."""
        bench = self.begin()
        for step in self.steps[:steps]:
            step(bench)
        return bench

    def finish(self, bench: Bench) -> None:
        """Let the world answer as it would have: the same parts of the plan, the same alternative for `b`."""
        for _ in range(200):
            if bench.wanted(RequestAlternative):
                bench.offer("b", plan("x y", "x y"))
            elif bench.wanted(ContinuePlan) or bench.outcome is OrchestrationStatus.PLANNING:
                rest = [part for part in self.parts if part[0].split()[0] not in bench.state.tasks]
                if rest:
                    bench.grow(rest[0][0], *rest[0][1])
                else:
                    bench.end_plan()
            elif bench.outcome is OrchestrationStatus.PAUSED:
                bench.resume()
            elif "b" in bench.running:
                bench.fail("b")
            elif bench.running:
                bench.succeed(bench.running[0])
            elif not bench.answer_one(items=2):
                break
        assert bench.outcome.is_terminal, f"it does not end: {bench.statuses()}"


def adaptive(*tasks: TaskNode | TaskId, edges: tuple[str, ...] = ()) -> Bench:
    nodes = [TaskNode(each) if isinstance(each, str) else each for each in tasks]
    bench = Bench(graph(nodes, *edges), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    return bench


def growing() -> Bench:
    bench = Bench(graph(""), is_planning=True, mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    return bench


STORIES = {
    "a splice": Story(
        partial(adaptive, "a", "b", "c", "d", edges=("a b", "b c", "c d")),
        lambda bench: bench.succeed("a"),
        lambda bench: bench.fail("b"),
        lambda bench: bench.offer("b", plan("x y", "x y")),
        lambda bench: bench.succeed("x~1"),
        lambda bench: bench.succeed("y~1"),
        lambda bench: bench.succeed("c"),
    ),
    "a revision before its dependents start": Story(
        partial(adaptive, "a", "b", "c", edges=("a c",)),
        lambda bench: bench.pause(),
        lambda bench: bench.fail("b"),
        lambda bench: bench.offer("b", plan("x y", "x y"), by="person"),
        lambda bench: bench.resume(),
        lambda bench: bench.succeed("a"),
        lambda bench: bench.succeed("x~1"),
    ),
    "a plan that is being made": Story(
        growing,
        lambda bench: bench.grow("a"),
        lambda bench: bench.grow("b", "a b"),
        lambda bench: bench.succeed("a"),
        lambda bench: bench.grow("c d", "b c", "a d"),
        lambda bench: bench.fail("b"),
        lambda bench: bench.offer("b", plan("x y", "x y")),
        lambda bench: bench.grow("e", "b e", "d e"),
        lambda bench: bench.end_plan(),
        parts=(("a", ()), ("b", ("a b",)), ("c d", ("b c", "a d")), ("e", ("b e", "d e"))),
    ),
    "lists and parents": Story(
        partial(
            adaptive,
            "u",
            TaskNode("t", foreach=[1]),
            TaskNode("p"),
            TaskNode("q", parent="p", approval="person", fallback=Fallback(tool="f")),
            TaskNode("r", parent="p"),
            "z",
            edges=("u t", "t p", "q r", "p z"),
        ),
        lambda bench: bench.succeed("u"),
        lambda bench: bench.found("t", 2),
        lambda bench: bench.succeed("t[1]"),
        lambda bench: bench.succeed("t[0]"),
        lambda bench: bench.gathered("t"),
        lambda bench: bench.described("q"),
        lambda bench: bench.approve("q"),
        lambda bench: bench.fail("q"),
        lambda bench: bench.described("q", "d2"),
        lambda bench: bench.approve("q"),
        lambda bench: bench.succeed("q"),
        lambda bench: bench.succeed("r"),
        lambda bench: bench.gathered("p"),
    ),
}
"""Each with all its steps, one decision apiece."""

PLACES = [(name, steps) for name, story in STORIES.items() for steps in range(len(story.steps) + 1)]


@pytest.mark.parametrize(("name", "steps"), PLACES, ids=[f"{name} {steps}" for name, steps in PLACES])
def test_whoever_takes_over_comes_to_the_same_plan(name: str, steps: int) -> None:
    """The same tasks and edges, the same outcomes; what was completed is not begun again."""
    story = STORIES[name]
    whole = story.played(len(story.steps))
    story.finish(whole)
    bench = story.played(steps)
    done = [each for each, status in bench.statuses().items() if status == "completed"]
    before = bench.history()

    bench.crash()
    bench.start()
    story.finish(bench)

    wanted, found = present_graph(whole.state), present_graph(bench.state)
    assert found.nodes == wanted.nodes
    assert set(map(str, found.edges)) == set(map(str, wanted.edges))
    assert bench.statuses() == whole.statuses()
    assert bench.outcome is OrchestrationStatus.COMPLETED
    again = [start.task_id for start in bench.of(StartAttempt)]
    assert not set(again) & set(done), "what was done is done again"
    assert bench.history()[: len(before)] == before


def test_an_edit_that_was_made_for_the_plan_before_the_crash_still_fits_after_it() -> None:
    """The revision is in the journal, whoever drives."""
    bench = adaptive("a", "b", edges=("a b",))
    bench.edit(added=(TaskNode("n"),), linked=(edge_of("a n"),))
    bench.crash()

    bench.edit(removed=("b",), expected=2)
    bench.start()
    bench.run_out()

    assert sorted(bench.history()) == ["a#1", "a#2", "n#1"]
    assert bench.state.revision == 3
