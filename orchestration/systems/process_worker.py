"""What a worker process does: it takes calls from the program that started it, makes them, and sends back what came.

May import: stdlib.

Run as a script by `process_pool.py`, never imported there: `process_worker.py CONNECTION LIFELINE`, the numbers of two
open files. The first is a `multiprocessing` connection that carries the messages; what the other end writes is trusted
as much as this program itself, for it is this program. The second is the reading end of a pipe nobody writes to: it
ends when the program that started the worker ends, however it ends, and then the kernel kills the worker's whole
process group, also while a function is busy in C and lets no other thread run.

The messages, pickled tuples: in comes first `("hello", …)`, then `("call", …)`, one at a time; out go `("ready",)`,
`("beat",)` and `("progress", done, total, message)` while a function runs, and at its end `("result", value)` or
`("error", chain)`, or `("unpicklable", what, why)`.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import pickle
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

MAX_CAUSES = 10
"""How many causes of an exception are told."""

MAX_TRACEBACK_CHARS = 8_000
"""Longest account of where an exception came from."""

_main: dict[str, str | None] = {}
"""How the main module of the program is found, should a call name something in it."""


def main(connection_number: int, lifeline: int) -> None:
    """Take calls until the other end is closed."""
    for number in (connection_number, lifeline):
        os.set_inheritable(number, False)
    _die_with_parent(lifeline)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # it is a log here, and a worker may end at any time
    connection = Connection(connection_number)
    try:
        _, path, main_module, memory_bytes, max_bytes = pickle.loads(connection.recv_bytes())  # noqa: S301  (from our parent)
        sys.path[:] = path
        _main.update(main_module)
        if memory_bytes is not None:
            _limit_memory(memory_bytes)
        connection.send_bytes(pickle.dumps(("ready",)))
        while True:
            data = connection.recv_bytes()
            signs = _Signs(connection)
            answer = _answer(signs, data, max_bytes)
            signs.end()
            connection.send_bytes(answer)
            del data, answer  # neither must live on while the worker is idle
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # nobody wants anything any more


def _die_with_parent(lifeline: int) -> None:
    """Have this process group killed when the lifeline ends.

    By the kernel where it can be asked to (Linux), else by a thread, which has to wait for its turn.
    """
    import fcntl
    import select

    try:
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)  # type: ignore[attr-defined,unused-ignore]
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)  # type: ignore[attr-defined,unused-ignore]
    except (AttributeError, OSError):
        threading.Thread(target=_watch, args=(lifeline,), daemon=True).start()
        return
    if select.select([lifeline], [], [], 0)[0]:  # it ended before the kernel was asked
        os.killpg(0, signal.SIGKILL)


def _watch(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def _limit_memory(memory_bytes: int) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class _Signs:
    """The signs of life of one call; from any thread, and none any more once the call has ended."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = threading.Lock()
        self._is_over = False

    def heartbeat(self) -> None:
        """Say that the work goes on."""
        self._send(("beat",))

    def progress(self, done: float | None = None, total: float | None = None, message: str = "") -> None:
        """Say how far it has come."""
        done = None if done is None else float(done)
        total = None if total is None else float(total)
        self._send(("progress", done, total, str(message)))

    def end(self) -> None:
        """Say nothing any more."""
        with self._turn:
            self._is_over = True

    def _send(self, message: tuple[Any, ...]) -> None:
        data = pickle.dumps(message)
        with self._turn:
            if not self._is_over:
                self._connection.send_bytes(data)


def _answer(signs: _Signs, data: bytes, max_bytes: int) -> bytes:
    """Make one call and return the message about its end, of so many bytes at most."""
    try:
        _, target, function, variables, places, positional, keywords = _Unpickler(io.BytesIO(data)).load()
        if target:
            function = _imported(target)
    except Exception as exc:  # noqa: BLE001  (unpickling runs anybody's code)
        return pickle.dumps(("unpicklable", "arguments", f"{type(exc).__name__}: {exc}"))
    os.environ.update(variables)
    for place, kind in places.items():
        arguments = positional if isinstance(place, int) else keywords
        arguments[place] = signs.heartbeat if kind == "heartbeat" else signs.progress
    try:
        value = _call(function, positional, keywords)
    except BaseException as exc:  # noqa: BLE001  (handed to the caller, whatever it is)
        return pickle.dumps(("error", _chain(exc)))
    try:
        answer = pickle.dumps(("result", value), pickle.HIGHEST_PROTOCOL)
    except MemoryError as exc:
        return pickle.dumps(("error", _chain(exc)))
    except Exception as exc:  # noqa: BLE001  (so does pickling)
        why = f"{type(exc).__name__}: {exc}"
        return _unpicklable(value, why)
    if len(answer) > max_bytes:
        return _unpicklable(value, f"it has {len(answer):,} bytes; at most {max_bytes:,} are allowed")
    return answer


def _unpicklable(value: Any, why: str) -> bytes:
    return pickle.dumps(("unpicklable", f"result, of type {type(value).__qualname__},", why))


def _call(function: Callable[..., Any], positional: list[Any], keywords: dict[str, Any]) -> Any:
    """Return what a function gives: a generator run to its end, a coroutine awaited."""
    value = function(*positional, **keywords)
    if inspect.isgenerator(value):
        return list(value)
    if not inspect.isawaitable(value):
        return value
    import anyio

    async def result() -> Any:
        return await value

    return anyio.run(result)


def _imported(target: str) -> Any:
    module, _, attribute = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


class _Unpickler(pickle.Unpickler):
    """Finds what is in the main module of the program, too: this process has another one."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle names."""
        if module == "__main__":
            _load_main()
        return super().find_class(module, name)


def _load_main() -> None:
    """Run the program's main module once, under a name with which it does not start the program again."""
    import runpy

    if _main.get("loaded"):
        return
    module = types.ModuleType("__mp_main__")
    if name := _main.get("name"):
        found = runpy.run_module(name, run_name="__mp_main__", alter_sys=True)
    elif path := _main.get("path"):
        found = runpy.run_path(path, run_name="__mp_main__")
    else:
        raise AttributeError("it is defined in a main module that is no file")
    module.__dict__.update(found)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    _main["loaded"] = "yes"


def _chain(exc: BaseException | None) -> list[dict[str, Any]]:
    """Return an exception and its explicit causes in a form the other end can always read."""
    told: list[dict[str, Any]] = []
    while exc is not None and len(told) < MAX_CAUSES:
        where = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__, chain=False))
        told.append(
            {
                "pickled": _pickled(exc),
                "classes": [(c.__module__, c.__qualname__) for c in type(exc).__mro__],
                "words": _words(exc),
                "fields": {
                    name: value
                    for name, value in vars(exc).items()
                    if value is None or type(value) in (str, int, float, bool)
                },
                "where": where[-MAX_TRACEBACK_CHARS:],
            }
        )
        exc = exc.__cause__
    return told


def _pickled(exc: BaseException) -> bytes | None:
    """Return an exception as bytes; None where it does not come back out of them as what it was."""
    with contextlib.suppress(Exception):
        data = pickle.dumps(exc)
        if type(pickle.loads(data)) is type(exc):  # noqa: S301  (made in the line above)
            return data
    return None


def _words(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:  # noqa: BLE001  (an exception's `__str__` is anybody's code)
        return ""


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
