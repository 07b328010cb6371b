"""A pool of worker processes as a `concurrent.futures.Executor`."""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestration.errors import AttemptFailedError, InvalidArgumentError
from orchestration.ports import Progress
from orchestration.systems import worker_process
from orchestration.systems.open_effects import leaves_effect_open
from orchestration.systems.process_pool import ProcessOptions, ProcessPool
from orchestration.systems.signs import Heartbeat, ProgressReport, RemoteFunction
from tests.systems import worker_functions as functions
from tests.systems.support import is_alive, pids_in

Pools = Callable[..., ProcessPool]


@pytest.fixture
def a_pool() -> Iterator[Pools]:
    """Make pools, and end them."""
    pools: list[ProcessPool] = []

    def make(**options: Any) -> ProcessPool:
        pools.append(ProcessPool(ProcessOptions(**{"workers": 1, **options})))
        return pools[-1]

    yield make
    for pool in pools:
        pool.stop()
        assert pool.worker_pids == []


def holds_soon(holds: Callable[[], Any]) -> bool:
    """Whether something comes to hold within five seconds."""
    pause = threading.Event()
    return any(bool(holds()) or pause.wait(0.01) for _ in range(500))


def failure(future: concurrent.futures.Future[Any]) -> AttemptFailedError:
    error = future.exception(5)
    assert isinstance(error, AttemptFailedError)
    return error


def test_a_call_runs_in_another_process_that_stays_for_the_next(a_pool: Pools) -> None:
    """Workers are started when they are needed, and are warm afterwards."""
    pool = a_pool()
    assert pool.worker_pids == []

    first, second = (pool.submit(functions.pid).result(5) for _ in range(2))

    assert first == second != os.getpid()
    assert pool.worker_pids == [first]
    assert list(pool.map(functions.add, [1, 2])) == [3, 4]


def test_what_a_function_gives_later_is_there_when_the_call_returns(a_pool: Pools) -> None:
    """A generator has been run to its end, a coroutine awaited."""
    pool = a_pool()
    outputs: list[Any] = [
        pool.submit(functions.count_up).result(5),
        pool.submit(functions.add_async, 1, b=1).result(5),
    ]

    assert outputs == [[1, 2, 3], 2]


@pytest.mark.parametrize(
    ("function", "how"),
    [(functions.exit_at_once, "exit code 3"), (functions.crash, "SIGSEGV"), (functions.be_killed, "SIGKILL")],
)
def test_a_worker_that_dies_takes_one_call_with_it(
    a_pool: Pools, function: Callable[[], None], how: str, tmp_path: Path
) -> None:
    """The call beside it goes on, and the next one gets a new worker."""
    pool = a_pool(workers=2)
    beside = pool.submit(functions.ignore_sigterm, str(tmp_path / "pid"))
    assert holds_soon((tmp_path / "pid").exists)

    error = failure(pool.submit(function))

    assert (error.code, error.retryable, error.effect_open) == ("worker_died", True, True)
    assert str(error) == f"The worker process died in the middle of the call ({how})."
    assert pool.submit(functions.add, 1).result(5) == 3
    assert not beside.done()
    os.kill(pids_in(tmp_path / "pid")[0], signal.SIGKILL)
    assert failure(beside).code == "worker_died"


def test_what_a_dead_worker_has_started_is_ended(a_pool: Pools, tmp_path: Path) -> None:
    """Also what left its process group: the next attempt must not meet it."""
    failure(a_pool().submit(functions.leave_and_die, str(tmp_path / "pids")))

    assert not any(is_alive(pid) for pid in pids_in(tmp_path / "pids"))


GARBAGE = {
    "text": b"garbage\n" * 100,
    "a-length-and-no-message": b"\x00\x00\x00\x07garbage",
    "another-message": (data := pickle.dumps("garbage")) and len(data).to_bytes(4, "big") + data,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_worker_that_writes_garbage_to_its_pipe_is_ended(a_pool: Pools, garbage: bytes) -> None:
    """What it did is open; the next call gets a new worker."""
    pool = a_pool()
    first = pool.submit(functions.pid).result(5)

    error = failure(pool.submit(functions.write_everywhere, garbage))

    assert (error.code, error.effect_open) == ("worker_died", True)
    assert "wrote to the pipe of its answers what is no answer (it begins" in str(error)
    assert "garbage" in str(error)
    assert not is_alive(first)
    assert pool.submit(functions.add, 1).result(5) == 3


def test_a_worker_that_begins_a_message_and_never_ends_it_can_be_cancelled(
    a_pool: Pools, tmp_path: Path
) -> None:
    """Nobody waits for the rest."""
    pool = a_pool()
    future = pool.submit(functions.write_everywhere, b"\x00\x10\x00\x00half", str(tmp_path / "pid"))
    assert holds_soon((tmp_path / "pid").exists)

    future.cancel()

    assert isinstance(future.exception(5), concurrent.futures.CancelledError)
    assert not is_alive(pids_in(tmp_path / "pid")[0])
    assert pool.submit(functions.add, 1).result(5) == 3


def test_a_call_whose_worker_does_not_read_it_can_be_cancelled(a_pool: Pools) -> None:
    """It is more than the pipe holds, and the worker stands still."""
    pool = a_pool(kill_grace_seconds=0.05)
    pid = pool.submit(functions.pid).result(5)
    os.kill(pid, signal.SIGSTOP)
    future = pool.submit(functions.show, {"text": "x" * 4_000_000})
    assert holds_soon(future.running)

    future.cancel()

    assert isinstance(future.exception(5), concurrent.futures.CancelledError)
    assert not is_alive(pid)
    assert pool.submit(functions.add, 1).result(5) == 3


def test_large_values_go_both_ways(a_pool: Pools) -> None:
    """Far more than the pipe holds at once."""
    sent = {"text": "x" * 4_000_000}

    assert a_pool().submit(functions.show, sent).result(10) == sent


def test_a_result_that_is_too_large_is_told_with_its_size(
    a_pool: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker says so itself, and goes on."""
    monkeypatch.setattr(worker_process, "MAX_MESSAGE_BYTES", 100_000)
    pool = a_pool()
    first = pool.submit(functions.pid).result(5)

    error = failure(pool.submit(functions.show, {"text": "x" * 100_000}))

    assert (error.code, error.retryable, error.effect_open) == ("unpicklable_result", False, True)
    assert "bytes; at most 100,000 are allowed" in str(error)
    assert pool.submit(functions.pid).result(5) == first


def test_cancelling_a_running_call_ends_the_work(a_pool: Pools, tmp_path: Path) -> None:
    """The future is done when the worker and all it started have ended, inside its group and outside."""
    pool = a_pool()
    future = pool.submit(functions.wait_with_child, str(tmp_path / "pids"))
    assert holds_soon((tmp_path / "pids").exists)

    assert future.cancel()

    assert isinstance(future.exception(5), concurrent.futures.CancelledError)
    assert len(pids_in(tmp_path / "pids")) == 3
    assert not any(is_alive(pid) for pid in pids_in(tmp_path / "pids"))
    assert not future.cancel()
    assert pool.submit(functions.add, 1).result(5) == 3


def test_a_worker_that_ignores_sigterm_is_killed_after_the_grace(a_pool: Pools, tmp_path: Path) -> None:
    """Nobody can refuse to end."""
    future = a_pool(kill_grace_seconds=0.05).submit(functions.ignore_sigterm, str(tmp_path / "pid"))
    assert holds_soon((tmp_path / "pid").exists)

    future.cancel()

    assert isinstance(future.exception(5), concurrent.futures.CancelledError)
    assert not is_alive(pids_in(tmp_path / "pid")[0])


def test_a_call_that_waits_for_a_worker_is_cancelled_without_one(a_pool: Pools, tmp_path: Path) -> None:
    """It never begins, and the one before it is not disturbed."""
    pool = a_pool()
    running = pool.submit(functions.wait_with_child, str(tmp_path / "pids"))
    waiting = pool.submit(functions.add, 1)
    assert holds_soon((tmp_path / "pids").exists)

    assert waiting.cancel()

    assert waiting.cancelled()
    assert running.running()


def test_an_exception_comes_back_as_it_was_with_its_origin_as_a_note(a_pool: Pools) -> None:
    """Its class decides about retries, so it has to be the same."""
    pool = a_pool()

    error = failure(pool.submit(functions.refuse))
    other = pool.submit(functions.lose).exception(5)

    assert (error.message, error.code, error.retryable, error.retry_after_seconds, error.effect_open) == (
        "too many",
        "rate_limited",
        True,
        7.0,
        True,
    )
    assert "in refuse" in error.__notes__[0]
    assert type(other).__name__ == "SystemUnavailableError"
    assert leaves_effect_open(other)  # type: ignore[arg-type]


def test_an_exception_that_does_not_pickle_is_stood_in_for(a_pool: Pools) -> None:
    """By the same name and words, and caught by the classes that are known here."""
    pool = a_pool()

    odd = pool.submit(functions.raise_odd).exception(5)
    local = pool.submit(functions.raise_local_timeout).exception(5)

    assert isinstance(odd, functions.OddError)
    assert (type(odd).__name__, str(odd), odd.code_number) == ("OddError", "5: no paper", 5)
    assert isinstance(local, TimeoutError)
    assert (type(local).__name__, str(local)) == ("LocalTimeoutError", "a while")


def test_the_causes_of_an_exception_come_with_it(a_pool: Pools) -> None:
    """They may tell that it leaves open what happened."""
    error = a_pool().submit(functions.raise_odd_after_network_error).exception(5)

    assert isinstance(error, functions.OddError)
    assert isinstance(error.__cause__, functions.NetworkError)
    assert leaves_effect_open(error)


def test_what_does_not_pickle_is_told_and_never_retried(a_pool: Pools) -> None:
    """The arguments before anything is done; the result when it is."""
    pool = a_pool()

    argument = failure(pool.submit(functions.take, threading.Lock()))
    result = failure(pool.submit(functions.give_lock))
    function = failure(pool.submit(lambda: 1))

    assert (argument.code, argument.retryable, argument.effect_open) == (
        "unpicklable_arguments",
        False,
        False,
    )
    assert (result.code, result.retryable, result.effect_open) == ("unpicklable_result", False, True)
    assert function.code == "unpicklable_arguments"
    assert str(result).startswith("The result, of type lock, can't be handed to another process (TypeError: ")
    assert "Fix: use values that pickle" in str(argument)


def test_signs_of_life_come_through_and_end_with_their_call(a_pool: Pools) -> None:
    """A heartbeat and how far the work has come, by position and by name."""
    pool = a_pool()
    beats: list[int] = []
    seen: list[Progress] = []

    pool.submit(functions.beat, Heartbeat(lambda: beats.append(1))).result(5)
    output = pool.submit(functions.read_three, progress=ProgressReport(seen.append)).result(5)

    assert (beats, output) == ([1], "read")
    assert seen == [Progress(done=1.0, total=3.0, message="one"), Progress(done=3.0, total=3.0)]


def test_a_function_with_an_import_string_is_found_by_it(a_pool: Pools) -> None:
    """Whatever stands for it here: a wrapper may have no name of its own."""
    remote = RemoteFunction(lambda: None, "tests.systems.worker_functions:environment", {"GIVEN": "1"})

    assert a_pool().submit(remote).result(5)["GIVEN"] == "1"


def test_a_worker_is_replaced_after_its_number_of_calls(a_pool: Pools) -> None:
    """Should functions leak memory or files."""
    pool = a_pool(max_tasks_per_worker=2)

    pids = [pool.submit(functions.pid).result(5) for _ in range(4)]

    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_an_idle_worker_ends_and_the_next_call_gets_another(a_pool: Pools) -> None:
    """Nothing stays for nothing."""
    pool = a_pool(idle_seconds=0.01)
    first = pool.submit(functions.pid).result(5)

    assert holds_soon(lambda: not is_alive(first))
    assert pool.submit(functions.pid).result(5) != first


def test_a_worker_that_died_while_it_was_idle_is_not_noticed(a_pool: Pools) -> None:
    """It never had the call, so the call goes to another one."""
    pool = a_pool()
    first = pool.submit(functions.pid).result(5)
    os.kill(first, signal.SIGKILL)
    assert holds_soon(lambda: not is_alive(first))

    assert pool.submit(functions.pid).result(5) != first


def test_a_worker_over_its_memory_fails_its_call_alone(a_pool: Pools) -> None:
    """With the limit named; repeating could not help."""
    pool = a_pool(memory_mb=400)

    error = failure(pool.submit(functions.grow, 1000))

    assert (error.code, error.retryable) == ("resource_limit", False)
    assert str(error).startswith("The worker process went over its limit memory_mb: 400.")
    assert pool.submit(functions.grow, 1).result(5) == 1024 * 1024


def test_standard_output_of_functions_goes_to_standard_error(
    a_pool: Pools, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ours may be a protocol; and there is nothing to read."""
    pool = a_pool()

    pool.submit(functions.print_much).result(5)

    assert pool.submit(functions.read_stdin).result(5) == ""
    pool.stop()
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == "to standard output\nto descriptor 1\n"


def test_a_pool_that_was_shut_down_takes_no_calls(a_pool: Pools) -> None:
    """Those it has are made; stopping drops them, too."""
    pool = a_pool()
    last = pool.submit(functions.add, 1)

    pool.shutdown()

    assert last.result(0) == 3
    with pytest.raises(RuntimeError, match="processes has been shut down"):
        pool.submit(functions.add, 1)


@pytest.mark.parametrize("name", ["workers", "max_tasks_per_worker", "memory_mb"])
def test_options_out_of_range_are_refused(name: str) -> None:
    """By name."""
    with pytest.raises(InvalidArgumentError, match=f"{name}.*expected a whole number of at least 1"):
        ProcessOptions(**{name: 0})  # type: ignore[arg-type]


HOST = """
import sys
from orchestration.systems.process_pool import ProcessOptions, ProcessPool

class Own(Exception):
    pass

def own(value):
    raise Own(value)

if __name__ == "__main__":
    from tests.systems import worker_functions
    pool = ProcessPool(ProcessOptions(workers=1))
    try:
        pool.submit(own, 5).result()
    except Own as exc:
        print(exc.args, flush=True)
    pool.submit(worker_functions.wait_with_child, sys.argv[1]).result()
"""


def test_workers_end_with_this_process_also_when_it_is_killed(tmp_path: Path) -> None:
    """And what they have in their group; functions of the main module are found, and it is not started again."""
    script, pids = tmp_path / "host.py", tmp_path / "pids"
    script.write_text(HOST)
    search = os.pathsep.join(path for path in sys.path if path)
    host = subprocess.Popen(
        [sys.executable, str(script), str(pids)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": search},
    )
    assert host.stdout is not None
    with host.stdout:
        assert host.stdout.readline() == "(5,)\n"
        assert holds_soon(pids.exists)

        host.kill()
        host.wait(5)

    worker, in_group, left_group = pids_in(pids)
    try:
        assert holds_soon(lambda: not is_alive(worker) and not is_alive(in_group))
    finally:
        os.kill(left_group, signal.SIGKILL)
