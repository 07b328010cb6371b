"""Outputs on their way: made JSON when they are reported, kept at hand while dependents may need them.

May import: orchestration.{errors, models, options, ports, redaction}, orchestration.engine.inputs, pydantic_core,
stdlib.

Downstream tasks always get a fresh copy parsed from the JSON text, so that a task can't change what another one sees
and the value is the same live and after a restart.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable

from pydantic_core import PydanticSerializationError, to_jsonable_python

from orchestration.engine.inputs import OutputRef
from orchestration.errors import AttemptFailedError
from orchestration.models import Json, OrchestrationId, TaskId
from orchestration.options import Limits
from orchestration.ports import Storage, StoredOutput
from orchestration.redaction import NOTHING_SECRET, Redactor

_NULL = b"null"
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def encode_output(
    task_id: TaskId, value: object, limits: Limits, redactor: Redactor = NOTHING_SECRET
) -> tuple[Json, OutputRef, StoredOutput]:
    """Return a reported output as the JSON value that conditions see, its identity, and what storage keeps.

    Secrets that `redactor` knows are in none of the three.

    Raises:
        AttemptFailedError: It can't be made JSON (`output_not_json`) or is too large (`output_too_large`); not
            retryable.
    """
    jsonable: Json
    if value is None:
        jsonable, text = None, _NULL
    else:
        try:
            jsonable = value if isinstance(value, str | bool | int) else to_jsonable_python(value)
            text = _ENCODER.encode(jsonable).encode("utf-8")
            if redactor.finds(text):
                jsonable = redactor.json(jsonable)
                text = _ENCODER.encode(jsonable).encode("utf-8")
        except (PydanticSerializationError, ValueError, TypeError, RecursionError) as exc:
            message = f"The output, of type {type(value).__name__}, can't be JSON: {exc}. NaN can't either."
            raise AttemptFailedError(message, "output_not_json", retryable=False) from exc
    if len(text) > limits.max_output_bytes:
        message = (
            f"The output has {len(text):,} bytes as JSON; at most {limits.max_output_bytes:,} are allowed. "
            "Fix: write it to a file and return the path."
        )
        raise AttemptFailedError(message, "output_too_large", retryable=False)
    return jsonable, *_identified(task_id, text, limits)


def stored_output(task_id: TaskId, text: bytes, limits: Limits) -> tuple[Json, OutputRef, StoredOutput]:
    """Return an output that is JSON text already as `encode_output` does."""
    return json.loads(text), *_identified(task_id, text, limits)


def _identified(task_id: TaskId, text: bytes, limits: Limits) -> tuple[OutputRef, StoredOutput]:
    """Return an output's identity and what storage keeps of it."""
    sha256 = hashlib.sha256(text).hexdigest()
    stored = StoredOutput(
        task_id=task_id, sha256=sha256, text=text, inline=len(text) <= limits.inline_output_bytes
    )
    return OutputRef(sha256=sha256, size_bytes=len(text)), stored


class OutputCache:
    """Recent outputs as JSON text, up to a number of bytes; what has gone is read from storage again.

    Args:
        storage: Where outputs are when they are not here.
        max_bytes: Most text to keep at hand.
    """

    def __init__(self, storage: Storage, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._storage = storage
        self._max_bytes = max_bytes
        self._bytes = 0
        self._texts: OrderedDict[tuple[OrchestrationId, TaskId], bytes] = OrderedDict()

    def put(self, orchestration_id: OrchestrationId, task_id: TaskId, text: bytes) -> None:
        """Keep an output, and let the oldest go where there are too many."""
        key = (orchestration_id, task_id)
        self._bytes += len(text) - len(self._texts.pop(key, b""))
        self._texts[key] = text
        while self._bytes > self._max_bytes and len(self._texts) > 1:
            self._bytes -= len(self._texts.popitem(last=False)[1])

    def forget(self, orchestration_id: OrchestrationId, task_ids: Iterable[TaskId]) -> None:
        """Let go of the outputs of an orchestration that has ended."""
        for task_id in task_ids:
            self._bytes -= len(self._texts.pop((orchestration_id, task_id), b""))

    async def load(self, orchestration_id: OrchestrationId, task_ids: Iterable[TaskId]) -> dict[TaskId, Json]:
        """Return fresh copies of the outputs of those tasks that have one."""
        texts: dict[TaskId, bytes] = {}
        missing: list[TaskId] = []
        for task_id in task_ids:
            text = self._texts.get((orchestration_id, task_id))
            if text is None:
                missing.append(task_id)
            else:
                texts[task_id] = text
        if missing:
            for task_id, text in (await self._storage.load_outputs(orchestration_id, missing)).items():
                texts[task_id] = text
                self.put(orchestration_id, task_id, text)
        return {task_id: json.loads(text) for task_id, text in texts.items()}
