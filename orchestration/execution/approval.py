"""What somebody agrees to when a task wants approval: its identity, and what they are shown.

May import: orchestration.{errors, models, ports}, orchestration.engine.outcomes, orchestration.systems.fingerprints,
stdlib.
"""

from __future__ import annotations

import hashlib
import json

from orchestration.engine.outcomes import APPROVAL_VOID
from orchestration.errors import AttemptFailedError
from orchestration.models import Json
from orchestration.ports import AttemptRequest, System
from orchestration.systems.fingerprints import fingerprint_of

_SHOWN_CHARS = 20_000
"""What is longer is cut, and says so; who agrees to that agrees to what the hash stands for."""

_DESCRIPTION_CHARS = 500


def digest_of(system: System, request: AttemptRequest) -> str:
    """Return the identity of what would run: SHA-256 in hexadecimal.

    Over the system with its declaration, the tool, the description, the arguments with their references put in, and the
    inputs: everything a system goes by that this task has for itself.
    """
    parts: list[Json] = [
        system.name,
        fingerprint_of(system, request.tool),
        request.tool,
        request.task.description,
        request.arguments,
        dict(request.inputs),
    ]
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def shown_for_approval(system: System, request: AttemptRequest) -> str:
    """Return what would run, for whoever agrees to it; what is too long is cut, and says so."""
    parts: dict[str, Json] = {"system": system.name}
    if request.tool is not None:
        parts["tool"] = request.tool
    parts["arguments"] = request.arguments
    if request.inputs:
        parts["inputs"] = dict(request.inputs)
    if request.task.description:  # last and short: nothing may push what would be done out of sight
        parts["description"] = request.task.description[:_DESCRIPTION_CHARS]
    text = json.dumps(parts, ensure_ascii=False)
    more = len(text) - _SHOWN_CHARS
    return text if more <= 0 else f"{text[:_SHOWN_CHARS]}… ({more:,} more characters)"


def refuse_other_than_approved(system: System, request: AttemptRequest, approved: str | None) -> None:
    """Refuse an attempt that is not exactly what was agreed to: it is asked about again.

    Raises:
        AttemptFailedError: It is something else.
    """
    if approved is None or digest_of(system, request) != approved:
        message = "What would run is not what was agreed to: the system's declaration or an input has changed since."
        raise AttemptFailedError(message, APPROVAL_VOID, retryable=False)
