"""Whether what an attempt or a worker delivered counts: reported is not verified.

May import: orchestration.{errors, expressions, json_schemas, models, ports}, orchestration.engine.{state, task_state},
orchestration.execution.preparation, orchestration.systems.*, anyio, stdlib.

A condition, a schema and a tool, in this order, as far as a task's `acceptance` has them; the first that does not hold
says why. What keeps a check from being made (its system is down) is a failure like any other, and is retried with it.
"""

from __future__ import annotations

from dataclasses import replace

import anyio

from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.errors import AttemptError, AttemptFailedError, ConditionError
from orchestration.execution.preparation import Preparation
from orchestration.expressions import COMPLETED, compile_condition
from orchestration.json_schemas import schema_fault
from orchestration.models import Acceptance, Json
from orchestration.systems.base import bounded, words_of
from orchestration.systems.registry import SystemRegistry

NOT_ACCEPTED = "not_accepted"
"""Code of an attempt whose result does not hold what the task's `acceptance` asks."""

_SHOWN_CHARS = 500


class AcceptanceCheck:
    """Looks at results.

    Args:
        systems: Where the tools are.
        preparation: Makes what they are told.
    """

    def __init__(self, systems: SystemRegistry, preparation: Preparation) -> None:
        self._systems = systems
        self._preparation = preparation

    async def check(self, state: State, task: TaskState, output: Json) -> None:
        """Look at a result; a task without `acceptance` takes any.

        Raises:
            AttemptFailedError: It is not accepted (`not_accepted`).
            AttemptError: It can't be looked at now.
        """
        asked = task.node.acceptance
        if asked is None:
            return
        if asked.condition is not None:
            _hold(asked.condition, state, output)
        if asked.output_schema is not None:
            fault = await schema_fault(asked.output_schema, output)
            if fault is not None:
                raise _not_accepted(f"it does not fit the schema: {fault}")
        if asked.tool is not None:
            await self._ask(asked, asked.tool, state, task, output)

    async def _ask(self, asked: Acceptance, tool: str, state: State, task: TaskState, output: Json) -> None:
        name = asked.system_preference or task.system
        node = replace(
            task.node,
            tool=tool,
            arguments=asked.arguments,
            description=f"Only look at the result, and change nothing: is it right? {task.node.description}",
            system_preference=name,
            timeout_seconds=asked.timeout_seconds,
        )
        try:
            with anyio.fail_after(asked.timeout_seconds):
                system = await self._systems.ready(name)
                request = await self._preparation.request(state, task, system, node, output=output)
                await system.execute(request)
        except TimeoutError:
            message = f"{tool!r} did not say within {asked.timeout_seconds:g} s whether the result is right."
            raise AttemptFailedError(message, "acceptance_timeout") from None
        except AttemptError as exc:
            if exc.retryable and exc.code == "system_unavailable":
                raise
            raise _not_accepted(f"{tool}: {bounded(words_of(exc), _SHOWN_CHARS)}") from exc
        except Exception as exc:
            words = words_of(exc) or type(exc).__name__
            raise _not_accepted(f"{tool}: {bounded(words, _SHOWN_CHARS)}") from exc


def _hold(condition: str, state: State, output: Json) -> None:
    try:
        holds = compile_condition(condition).holds(output=output, status=COMPLETED, context=state.context)
    except ConditionError as exc:
        raise _not_accepted(str(exc)) from exc
    if not holds:
        raise _not_accepted(f"`{condition}` does not hold")


def _not_accepted(because: str) -> AttemptFailedError:
    message = f"The result is not accepted: {because.removesuffix('.')}."
    return AttemptFailedError(message, NOT_ACCEPTED, retryable=True)
