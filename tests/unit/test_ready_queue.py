"""In which order ready tasks come out."""

from __future__ import annotations

from orchestration.engine.ready_queue import Key, RankedQueue, StrictQueue
from orchestration.engine.state import State, replay
from orchestration.models import OrchestrationMode, TaskId, TaskStatus
from tests.engine_kit import Bench, graph, submitted


def fresh(tasks: str, *edges: str) -> State:
    dag = graph(tasks, *edges)
    return replay("o", dag, [submitted(dag)])


def anything(_system: str) -> bool:
    """Say that every system takes more."""
    return True


def drained(queue: RankedQueue, state: State) -> list[TaskId]:
    """Take every task out as the scheduler does: by starting it."""
    order = []
    while (head := queue.head(anything)) is not None:
        order.append(head[1])
        state.tasks[head[1]].status = TaskStatus.RUNNING
    return order


def ranked(state: State, keys: dict[TaskId, Key]) -> RankedQueue:
    queue = RankedQueue(state, keys)
    for task_id, task in state.tasks.items():
        if task.status is TaskStatus.READY:
            queue.push(task_id)
    return queue


def test_the_smallest_key_comes_first_and_ties_by_place_in_the_dag() -> None:
    """Whatever the order in which they became ready."""
    state = fresh("a b c d")
    queue = RankedQueue(state, {"a": (0, 0), "b": (-1, 0), "c": (0, 0), "d": (0, -1)})
    for task_id in ("c", "d", "a", "b"):
        queue.push(task_id)

    assert drained(queue, state) == ["b", "d", "a", "c"]


def test_a_task_stays_at_the_head_until_it_is_started() -> None:
    """Looking takes nothing out."""
    state = fresh("a b")
    queue = ranked(state, {})

    assert [queue.head(anything), queue.head(anything)] == [((0.0, 0.0), "a")] * 2


def test_a_task_that_is_not_ready_any_more_is_passed_over() -> None:
    """Cancelled, or started by way of another entry."""
    state = fresh("a b")
    queue = ranked(state, {})
    queue.push("a")
    state.tasks["a"].status = TaskStatus.CANCELLED

    assert drained(queue, state) == ["b"]


def test_a_task_can_come_back() -> None:
    """After a back-off it is pushed again."""
    state = fresh("a")
    queue = ranked(state, {})
    first = drained(queue, state)
    state.tasks["a"].status = TaskStatus.READY

    queue.push("a")

    assert (first, drained(queue, state)) == (["a"], ["a"])


def test_an_empty_queue_has_no_head() -> None:
    """None, not an error."""
    assert RankedQueue(fresh("a"), {}).head(anything) is None


def test_reranking_orders_what_is_there_and_what_comes() -> None:
    """New keys count at once; a task without one keeps its old one."""
    state = fresh("a b c d")
    queue = RankedQueue(state, {"a": (1, 0), "b": (2, 0), "c": (3, 0)})
    for task_id in ("a", "b", "c"):
        queue.push(task_id)

    queue.rerank({"c": (0, 0), "a": (5, 0), "d": (4, 0)})
    queue.push("d")

    assert drained(queue, state) == ["c", "b", "d", "a"]


# SIMPLE mode runs one at a time, "in strict topological order (ties by insertion): a task that waits holds its place".


def simple(tasks: str, *edges: str, slots: int = 5) -> Bench:
    bench = Bench(graph(tasks, *edges), mode=OrchestrationMode.SIMPLE, slots=slots)
    bench.start()
    return bench


def test_strict_order_is_topological_with_ties_by_insertion() -> None:
    """The same order as `topological_sort`, however long the paths are."""
    bench = simple("c b a d", "a b", "b d")

    bench.run_out()

    assert bench.starts() == [f"{task_id}#1" for task_id in bench.dag.topological_sort()]
    assert bench.starts() == ["c#1", "a#1", "b#1", "d#1"]


def test_strict_order_runs_one_at_a_time_however_many_slots_there_are() -> None:
    """Slots are a limit, not a wish."""
    bench = simple("a b c", slots=10)

    assert bench.statuses() == {"a": "running", "b": "ready", "c": "ready"}


def test_a_task_that_waits_for_its_back_off_holds_its_place() -> None:
    """The next one does not overtake it."""
    bench = simple("a b")

    bench.fail("a", retryable=True)
    waiting = bench.statuses()
    bench.wait(0.5)
    bench.run_out()

    assert waiting == {"a": "retrying", "b": "ready"}
    assert bench.starts() == ["a#1", "a#2", "b#1"]


def test_a_skipped_task_gives_its_place_up() -> None:
    """The order goes on behind it."""
    bench = simple("a b c", "a b")

    bench.fail("a")

    assert bench.statuses() == {"a": "failed", "b": "skipped", "c": "running"}


def test_strict_order_goes_on_in_the_middle_after_a_crash() -> None:
    """What is settled is passed over."""
    bench = simple("a b c")
    bench.succeed("a")
    bench.crash()

    bench.start()
    bench.run_out()

    assert bench.starts() == ["b#2", "c#1"]


def test_a_strict_queue_whose_tasks_are_all_settled_has_no_head() -> None:
    """Nothing is left."""
    state = fresh("a")
    queue = StrictQueue(state)
    state.tasks["a"].status = TaskStatus.COMPLETED

    assert queue.head(anything) is None


def test_the_head_of_a_strict_queue_has_its_tasks_key() -> None:
    """So that it can be compared with other orchestrations' heads."""
    state = fresh("a b")
    queue = StrictQueue(state)

    queue.rerank({"a": (-3.0, -2.0), "b": (-9.0, -9.0)})

    assert queue.head(anything) == ((-3.0, -2.0), "a")
