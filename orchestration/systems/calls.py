"""Calls code that is not ours, coroutine functions on the event loop and others on threads, so that nothing it raises
can end more than the attempt.

May import: orchestration.errors, orchestration.systems.{base, threads}, anyio, stdlib.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from orchestration.errors import AttemptFailedError
from orchestration.systems.base import snake_case, words_of
from orchestration.systems.threads import DaemonThreads

_REACHED = float("-inf")


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a callable gives a coroutine: a coroutine function, or an object that is called as one."""
    own_call = type(function).__call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(own_call)


async def call_user(
    name: str, call: Callable[[], Any], function: Callable[..., Any], threads: DaemonThreads
) -> Any:
    """Return what `call` gives, awaited if it can be.

    Args:
        name: What the function is called in errors.
        call: The function with its arguments.
        function: The function itself, which says where it runs.
        threads: Where blocking functions run.

    Raises:
        AttemptFailedError: It raised something that is no ordinary exception.
    """
    if is_async(function):
        return await await_user(name, call())
    result = await threads.run(functools.partial(_guarded, name, call))
    return await await_user(name, result) if inspect.isawaitable(result) else result


def _guarded(name: str, call: Callable[[], Any]) -> Any:
    """Make a blocking call; whatever it raises leaves as an ordinary exception.

    A generator is run to its end here, where it can hold up and end nothing but this thread.
    """
    try:
        result = call()
        return list(result) if inspect.isgenerator(result) else result
    except StopIteration as exc:
        raise _stray(name, exc) from exc
    except Exception:
        raise
    except BaseException as exc:
        raise _stray(name, exc) from exc


async def await_user(name: str, awaitable: Awaitable[Any]) -> Any:
    """Await a coroutine; all it raises but a real cancellation leaves as an ordinary exception.

    Raises:
        AttemptFailedError: It raised something that is no ordinary exception.
    """
    try:
        return await awaitable
    except Exception:
        raise
    except GeneratorExit as exc:
        # Thrown into this coroutine, which is being closed, it comes from no deeper frame: that one has ended before.
        if exc.__traceback__ is None or exc.__traceback__.tb_next is None:
            raise
        raise _stray(name, exc) from exc
    except anyio.get_cancelled_exc_class() as exc:
        if anyio.current_effective_deadline() == _REACHED:
            raise
        # Nobody cancelled this attempt: something the function awaits was cancelled.
        raise AttemptFailedError(
            f"{name} was cancelled from inside.", "cancelled_inside", effect_open=True
        ) from exc
    except BaseException as exc:
        raise _stray(name, exc) from exc


def _stray(name: str, exc: BaseException) -> AttemptFailedError:
    """Return the failure that stands for an exception which would end more than the attempt."""
    words = words_of(exc)
    said = f": {words}" if words else ""
    code = snake_case(type(exc).__name__)
    return AttemptFailedError(f"{name} raised {type(exc).__name__}{said}.", code, retryable=False)
