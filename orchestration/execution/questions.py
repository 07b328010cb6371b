"""Answers what the engine asks about a task beside its attempts, with the data an attempt would have.

May import: orchestration.{claim_records, clock, errors, models, options, ports, systems}, orchestration.engine.*,
orchestration.execution.{acceptance, approval, attempts, briefs, cache_key, outputs, preparation, verification}, anyio,
stdlib.

Whether an equal task's output is in the cache; whether an attempt nobody knows the end of did its work; what exactly
somebody is to agree to; how many items a list has; what the parts of a task add up to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

import anyio

from orchestration.claim_records import Offer
from orchestration.clock import Clock
from orchestration.engine.effects import (
    AskVerification,
    CheckAcceptance,
    DescribeApproval,
    DescribeOffer,
    FindItems,
    GatherOutputs,
    LookAtClaim,
    LookUpResult,
    TaskQuestion,
)
from orchestration.engine.inputs import (
    AcceptanceAnswer,
    ApprovalDescribed,
    CacheAnswer,
    ClaimLooked,
    ItemsFound,
    OfferDescribed,
    OutputsGathered,
    VerifyAnswer,
)
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.errors import ClaimNotFoundError, StorageError
from orchestration.execution.acceptance import AcceptanceCheck
from orchestration.execution.approval import digest_of, refuse_other_than_approved, shown_for_approval
from orchestration.execution.attempts import Reported
from orchestration.execution.briefs import brief_of
from orchestration.execution.cache_key import cache_key
from orchestration.execution.outputs import encode_output, stored_output
from orchestration.execution.preparation import Preparation
from orchestration.execution.verification import read_answer
from orchestration.models import Json, TaskId, copy_json
from orchestration.options import Limits
from orchestration.ports import Storage
from orchestration.systems.agent import LEASE_SECONDS
from orchestration.systems.base import bounded, error_record, words_of
from orchestration.systems.registry import SystemRegistry

_LOOK_AGAIN_US = 1_000_000
"""When to look again at a claim whose end is on its way here, or that could not be looked at."""


class QuestionDesk:
    """Answers the engine's questions about tasks.

    Args:
        systems: Where tasks run.
        storage: Where the cache is.
        preparation: Makes what systems are told.
        limits: Sizes of outputs and lists.
        clock: Says how old a cached output is, and whether a claim has run out.
        acceptance: Looks at what workers report done.
        draw: Draws a number in [0, 1): the jitter of a claim that came to nothing.
    """

    def __init__(
        self,
        systems: SystemRegistry,
        storage: Storage,
        preparation: Preparation,
        limits: Limits,
        clock: Clock,
        acceptance: AcceptanceCheck,
        draw: Callable[[], float],
    ) -> None:
        self._systems = systems
        self._storage = storage
        self._preparation = preparation
        self._limits = limits
        self._clock = clock
        self._acceptance = acceptance
        self._draw = draw

    async def answer(self, state: State, effect: TaskQuestion) -> Reported:
        """Return the answer to a question; whatever goes wrong is in it. Only cancellation is raised."""
        match effect:
            case AskVerification():
                return await self._verify(state, effect)
            case LookUpResult():
                return await self._look_up(state, effect)
            case DescribeApproval():
                return await self._describe(state, effect)
            case FindItems():
                return await self._count_items(state, effect)
            case GatherOutputs():
                return await self._gather(state, effect)
            case DescribeOffer():
                return await self._offer(state, effect)
            case LookAtClaim():
                return await self._look_at_claim(effect)
            case CheckAcceptance():
                return await self._accept(state, effect)
            case _:
                assert_never(effect)

    async def _look_up(self, state: State, effect: LookUpResult) -> Reported:
        """Answer whether an equal task's output can be used; whatever goes wrong means that it can't."""
        task = state.tasks[effect.task_id]
        nothing = Reported(
            CacheAnswer(
                orchestration_id=effect.orchestration_id, task_id=effect.task_id, generation=effect.generation
            )
        )
        try:
            system = await self._systems.ready(task.system)
            request = await self._preparation.request(state, task, system)
            now_us = self._clock.now_us()
            found = await self._storage.load_cached(cache_key(system, request), now_us=now_us)
        except Exception:  # noqa: BLE001  the attempt itself will meet the fault, and report it
            return nothing
        assert task.node.cache is not None, "asked only for tasks that may be cached"
        if found is None or found.stored_at_us + task.node.cache.ttl_seconds * 1_000_000 <= now_us:
            return nothing
        value, output, stored = stored_output(effect.task_id, found.text, self._limits)
        try:  # whoever stored it may have asked less of it
            await self._acceptance.check(state, task, copy_json(value))
        except Exception:  # noqa: BLE001  what is not accepted is made anew
            return nothing
        return Reported(
            CacheAnswer(
                orchestration_id=effect.orchestration_id,
                task_id=effect.task_id,
                output=output,
                value=value,
                source=found.source,
                generation=effect.generation,
            ),
            stored,
        )

    async def _verify(self, state: State, effect: AskVerification) -> Reported:
        """Ask a task's `verify` what became of its latest attempt; what goes wrong or is not accepted is `unclear`."""
        task = state.tasks[effect.task_id]
        asked = task.node.verify
        assert asked is not None, "asked only where there is something to ask"
        name = asked.system_preference or task.system
        answer = VerifyAnswer(
            orchestration_id=effect.orchestration_id,
            task_id=effect.task_id,
            attempt=effect.attempt,
            answer="unclear",
        )
        question = f"Only find out, and change nothing: did this happen, and with what output? {task.node.description}"
        node = replace(task.node, tool=asked.tool, arguments=asked.arguments, description=question)
        try:
            with anyio.fail_after(asked.timeout_seconds):
                system = await self._systems.ready(name)
                request = await self._preparation.request(state, task, system, node)
                request = replace(request, timeout_seconds=asked.timeout_seconds)
                told = read_answer(await system.execute(request))
            if told.answer != "done":
                return Reported(
                    replace(answer, answer=told.answer, reason=self._systems.redactor.text(told.reason))
                )
            value, output, stored = encode_output(
                effect.task_id, told.output, self._limits, self._systems.redactor
            )
            await self._acceptance.check(state, task, copy_json(value))
        except TimeoutError:
            return Reported(replace(answer, reason=f"no answer within {asked.timeout_seconds:g} s"))
        except Exception as exc:  # noqa: BLE001  whatever a check raises, it could not say
            return Reported(
                replace(
                    answer,
                    reason=bounded(self._systems.redactor.text(words_of(exc) or type(exc).__name__), 500),
                )
            )
        return Reported(
            replace(
                answer,
                answer="done",
                reason=self._systems.redactor.text(told.reason),
                output=output,
                value=value,
            ),
            stored,
        )

    async def _describe(self, state: State, effect: DescribeApproval) -> Reported:
        """Answer what exactly would run."""
        task = state.tasks[effect.task_id]
        answer = ApprovalDescribed(
            orchestration_id=effect.orchestration_id, task_id=effect.task_id, generation=effect.generation
        )
        try:
            system = await self._systems.ready(task.system)
            request = await self._preparation.request(state, task, system)
            digest, shown = (
                digest_of(system, request),
                self._systems.redactor.text(shown_for_approval(system, request)),
            )
        except Exception as exc:  # noqa: BLE001  whatever keeps it from being prepared would keep it from running
            error = error_record(exc, task.system, task.attempt, self._systems.redactor)
            return Reported(replace(answer, error=replace(error, attempt=None, effect_open=False)))
        return Reported(replace(answer, digest=digest, shown=shown))

    async def _offer(self, state: State, effect: DescribeOffer) -> Reported:
        """Write down what a worker will be told."""
        task = state.tasks[effect.task_id]
        node = task.node
        answer = OfferDescribed(
            orchestration_id=effect.orchestration_id,
            task_id=effect.task_id,
            generation=effect.generation,
            number=effect.number,
        )
        try:
            system = await self._systems.ready(task.system)
            request = await self._preparation.request(state, task, system)
            if node.approval is not None:
                refuse_other_than_approved(system, request, task.approved_digest)
            configured: float = getattr(system, "lease_seconds", LEASE_SECONDS)
            lease = node.heartbeat_timeout_seconds or configured
            upstreams = {edge.edge.source_task_id: edge.source for edge in task.incoming}
            brief = brief_of(request, lease_seconds=lease, upstreams=upstreams)
        except Exception as exc:  # noqa: BLE001  whatever keeps it from being prepared would keep it from being done
            error = error_record(exc, task.system, task.attempt, self._systems.redactor)
            return Reported(replace(answer, error=replace(error, attempt=None, effect_open=False)))
        offer = Offer(
            task_id=effect.task_id,
            number=effect.number,
            attempt=task.attempt + 1,
            lease_seconds=lease,
            skills=tuple(node.skills),
            priority=node.priority.value,
            brief=brief,
            offered_at_us=self._clock.now_us(),
            failed_by=task.failed_by,
        )
        return Reported(replace(answer, lease_seconds=lease), offer=offer)

    async def _look_at_claim(self, effect: LookAtClaim) -> Reported:
        """Let a claim run out if it should; where that can't be found out, look again soon."""
        answer = ClaimLooked(
            orchestration_id=effect.orchestration_id,
            task_id=effect.task_id,
            claim=effect.claim,
            is_expired=False,
            jitter=self._draw(),
        )
        now_us = self._clock.now_us()
        soon = replace(answer, again_at_us=now_us + _LOOK_AGAIN_US)
        try:
            claim = await self._storage.expire_claim(effect.claim, now_us=now_us)
        except ClaimNotFoundError:  # its row went with an offer that is not there any more
            return Reported(replace(answer, is_expired=True))
        except StorageError:
            return Reported(soon)
        if claim.state in {"expired", "revoked"}:
            return Reported(replace(answer, is_expired=True))
        if claim.state == "active":
            return Reported(replace(answer, again_at_us=claim.expires_at_us))
        return Reported(soon)  # its end was reported: that is on its way here

    async def _accept(self, state: State, effect: CheckAcceptance) -> Reported:
        """Answer whether what a worker reported done counts."""
        task = state.tasks[effect.task_id]
        answer = AcceptanceAnswer(
            orchestration_id=effect.orchestration_id,
            task_id=effect.task_id,
            attempt=effect.attempt,
            output=effect.output,
            jitter=self._draw(),
        )
        try:
            found = await self._preparation.outputs.load(effect.orchestration_id, [effect.task_id])
            value = found.get(effect.task_id)
            await self._acceptance.check(state, task, copy_json(value))
        except Exception as exc:  # noqa: BLE001  what can't be looked at is not accepted
            error = error_record(exc, task.system, effect.attempt, self._systems.redactor)
            return Reported(
                replace(answer, error=replace(error, effect_open=True))
            )  # it says that it was done
        return Reported(replace(answer, value=value))

    async def _count_items(self, state: State, effect: FindItems) -> Reported:
        """Answer how many children a `foreach` gets."""
        task = state.tasks[effect.task_id]
        answer = ItemsFound(
            orchestration_id=effect.orchestration_id, task_id=effect.task_id, generation=effect.generation
        )
        try:
            count = await self._preparation.count_items(state, task)
        except Exception as exc:  # noqa: BLE001  a list that can't be had is the task's failure
            error = replace(
                error_record(exc, task.system, task.attempt, self._systems.redactor),
                attempt=None,
                effect_open=False,
            )
            return Reported(replace(answer, error=error))
        return Reported(replace(answer, count=count))

    async def _gather(self, state: State, effect: GatherOutputs) -> Reported:
        """Answer what a task's parts add up to: a list by item; the only last part's output, or all of theirs by id."""
        task = state.tasks[effect.task_id]
        answer = OutputsGathered(
            orchestration_id=effect.orchestration_id, task_id=effect.task_id, generation=effect.generation
        )
        try:
            value = await self._gathered(state, task)
            jsonable, output, stored = encode_output(
                effect.task_id, value, self._limits, self._systems.redactor
            )
        except Exception as exc:  # noqa: BLE001  an output that can't be made is the task's failure
            error = replace(
                error_record(exc, task.system, task.attempt, self._systems.redactor),
                attempt=None,
                effect_open=False,
            )
            return Reported(replace(answer, error=error))
        return Reported(replace(answer, output=output, value=jsonable), stored)

    async def _gathered(self, state: State, task: TaskState) -> Json:
        name = task.node.task_id
        if task.node.foreach is not None:
            ids = [state.current(f"{name}[{index}]") for index in range(task.items or 0)]
            found = await self._preparation.outputs.load(state.orchestration_id, set(ids))
            return [found.get(task_id) for task_id in ids]
        leaves = _leaves(state, task)
        found = await self._preparation.outputs.load(state.orchestration_id, set(leaves))
        if len(leaves) == 1:
            return found.get(leaves[0])
        first: dict[TaskId, TaskId] = {}
        for task_id in state.replacement:  # in the order they were replaced: the oldest name is the plan's
            first.setdefault(state.current(task_id), task_id)
        return {first.get(task_id, task_id): found.get(task_id) for task_id in leaves}


def _leaves(state: State, task: TaskState) -> list[TaskId]:
    """Return the parts of a task that no other part waits for, but for those an alternative has besides its own end."""
    ends = set(state.replacement.values())
    return [
        task_id
        for task_id in task.children
        if not state.tasks[task_id].outgoing and (task_id in ends or not state.tasks[task_id].tried)
    ]
