"""What a call takes along to an engine that makes it elsewhere: ways to say that it goes on, and how it is found there.

May import: orchestration.ports, anyio (late), stdlib.

Engines (`engines.py`) that know these classes put the real thing in their place over there. Pickled by anybody else
they fall silent: a function that says how far it has come works everywhere, and is heard where that is possible.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from orchestration.ports import Progress


class Heartbeat:
    """Says, when called, that the work goes on."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat

    def __call__(self) -> None:
        """Say it."""
        self._beat()

    def __reduce__(self) -> tuple[Any, ...]:
        return (Heartbeat, (_unheard,))


class ProgressReport:
    """Says, when called, how far the work has come: `progress(3, 10, "reading")`."""

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self._report = report

    def __call__(self, done: float | None = None, total: float | None = None, message: str = "") -> None:
        """Say it, in units of its own."""
        self._report(
            Progress(
                done=None if done is None else float(done),
                total=None if total is None else float(total),
                message=str(message),
            )
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (ProgressReport, (_unheard,))


class RemoteFunction:
    """A function as it is made to run elsewhere: whatever it gives is there when the call returns.

    A generator is run to its end, a coroutine awaited in an event loop of its own.

    Args:
        function: The function; found by its import string when absent.
        target: Its import string, `package.module:function`; without one the function itself is pickled.
        variables: Environment variables a worker process sets before the call.
    """

    def __init__(
        self,
        function: Callable[..., Any] | None,
        target: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.target = target
        self.variables = dict(variables or {})
        self._function = function

    @property
    def function(self) -> Callable[..., Any]:
        """Return the function itself."""
        if self._function is None:
            assert self.target is not None
            module, _, attribute = self.target.partition(":")
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
            self._function = found
        return self._function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make the call."""
        value = self.function(*args, **kwargs)
        if inspect.isgenerator(value):
            return list(value)
        if not inspect.isawaitable(value):
            return value
        import anyio

        async def result() -> Any:
            return await value

        return anyio.run(result)

    def __reduce__(self) -> tuple[Any, ...]:
        return (RemoteFunction, (None if self.target else self._function, self.target))


def _unheard(*_: object) -> None:
    """Say nothing: whoever would listen is in another process."""
