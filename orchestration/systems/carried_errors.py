"""Makes exceptions again that were raised in another process.

May import: stdlib.

What is an exception by its class decides whether an attempt is retried and what it leaves open, so the class has to
come back. An exception that pickles comes back as it was, with its causes. One that does not (a constructor with
arguments of its own, a class made inside a function, a module that is only there) is stood in for by one of the same
name and words, whose bases are those of its classes that are known here.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping, Sequence
from typing import Any

NOTE = "In the worker process:\n"
"""What the account of where it was raised begins with; a note of the exception, no part of its words."""


def rebuilt(chain: Sequence[Mapping[str, Any]]) -> BaseException:
    """Return an exception with its causes, from what `process_worker` tells about them."""
    first: BaseException | None = None
    last: BaseException | None = None
    for told in chain:
        exc = _rebuilt(told)
        if last is None:
            first = exc
        else:
            last.__cause__ = exc
        last = exc
    assert first is not None
    return first


def _rebuilt(told: Mapping[str, Any]) -> BaseException:
    exc: BaseException | None = None
    if told["pickled"] is not None:
        try:
            exc = pickle.loads(told["pickled"])  # noqa: S301  (written by a function this program chose to run)
        except Exception:  # noqa: BLE001  (a constructor is anybody's code)
            exc = None
    if not isinstance(exc, BaseException):
        exc = _stand_in(told)
    exc.add_note(NOTE + told["where"])
    return exc


def _stand_in(told: Mapping[str, Any]) -> BaseException:
    """Return an exception that goes by the same name, says the same, and is caught by the classes known here."""
    unknown: list[str] = []
    base: type[BaseException] = Exception
    for module, name in told["classes"]:
        known = getattr(sys.modules.get(module), name, None)
        if isinstance(known, type) and issubclass(known, BaseException) and _is_plain(known):
            base = known
            break
        unknown.append(name.rpartition(".")[2])
    words = told["words"]
    for name in reversed(unknown or [base.__name__]):
        base = type(name, (base,), {"__str__": lambda _: words})
    exc = base.__new__(base, words)
    exc.args = (words,)
    vars(exc).update(told["fields"])
    return exc


def _is_plain(known: type[BaseException]) -> bool:
    """Whether an exception of this class can be made without its constructor's arguments."""
    try:
        known.__new__(known, "")
    except Exception:  # noqa: BLE001  (a constructor is anybody's code)
        return False
    return True
