"""Which tasks are equal enough to share an output: the key of the result cache.

May import: orchestration.{models, ports}, orchestration.systems.fingerprints, stdlib.
"""

from __future__ import annotations

import hashlib
import json

from orchestration.models import Json
from orchestration.ports import AttemptRequest, System
from orchestration.systems.fingerprints import SEE_ARGUMENTS_ONLY, fingerprint_of


def cache_key(system: System, request: AttemptRequest) -> str:
    """Return the key under which an attempt's output is kept: SHA-256 in hexadecimal.

    Equal are: the system with its declaration, the tool, the arguments with their references put in, the inputs, and
    the context, which functions and controllers see. A system that sees more of a task (a controller, one of the
    caller's own) compares its words, its preference and its complexity, too.
    """
    task = request.task
    words: list[Json] = []
    if system.kind not in SEE_ARGUMENTS_ONLY:
        words = [task.description, request.goal, request.preference, task.complexity_score]
    parts = [
        system.name,
        fingerprint_of(system, request.tool),
        request.tool,
        request.arguments,
        dict(request.inputs),
        dict(request.context),
        words,
    ]
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
