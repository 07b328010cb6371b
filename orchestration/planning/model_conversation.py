"""One question to a model until its answer can be used: thoughts are heard as they come, mistakes are sent back.

May import: orchestration.{errors, logs, models}, orchestration.planning.{model_client, model_json, model_options,
model_prompts, proposal, thoughts}, stdlib.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestration.errors import Problem
from orchestration.logs import get_logger
from orchestration.models import as_unicode
from orchestration.planning.model_client import ModelClient, ModelTroubleError, Prompt, open_client
from orchestration.planning.model_json import ItemReader, read_object
from orchestration.planning.model_options import ModelOptions
from orchestration.planning.model_prompts import answer_schema, data_block, load_prompt
from orchestration.planning.proposal import Draft, Spending, ThoughtTrail
from orchestration.planning.thoughts import MAX_THOUGHT_CHARS

_TOLD_PROBLEMS = 20
_log = get_logger()

HearTask = Callable[[Any], Awaitable[None]]


async def _hear_nothing(task: Any) -> None:
    """Wait for the whole answer."""


@dataclass(kw_only=True)
class Question:
    """What is asked, and what makes an answer usable."""

    prompt: str
    """Name of the prompt file."""
    max_tasks: int
    data: Mapping[str, Any]
    check: Callable[[Mapping[str, Any]], Awaitable[list[Problem]]]
    """Returns what is wrong with a whole answer."""
    hear_task: HearTask = _hear_nothing
    """Told of each task as soon as it is whole."""
    begin: Callable[[], None] = lambda: None
    """Called before each request."""
    existing: Callable[[], Sequence[Draft]] = lambda: ()
    """Tasks that are fixed by now."""
    is_alternative: bool = False


async def converse(
    options: ModelOptions, question: Question, trail: ThoughtTrail, spending: Spending
) -> Mapping[str, Any]:
    """Ask until an answer passes the question's check, at most `max_repairs` times more than once.

    Raises:
        ModelTroubleError: No answer could be used, or none came.
        ConfigurationError: The model can't be used as it is configured.
    """
    async with open_client(options, spending) as client:
        problems: list[Problem] = []
        previous: Any = None
        for turn in range(options.max_repairs + 1):
            is_last = turn == options.max_repairs
            question.begin()
            listener = _Listener(trail, options.max_thoughts, question.hear_task)
            try:
                answer = await _answer(client, _prompt(question, options, previous, problems), listener)
                problems = await question.check(answer)
                if not problems:
                    return answer
                problems = [
                    Problem(client.blotted(each.path), client.blotted(each.message), client.blotted(each.fix))
                    for each in problems
                ]
                previous = answer.get("tasks")
            except ModelTroubleError as trouble:
                if is_last or not trouble.can_ask_again:
                    raise
                problems, previous = [Problem("answer", f"{trouble.reason}.")], None
            if not is_last:
                _log.info(
                    "The model is asked to mend its answer",
                    operation="MODEL_ASKED_AGAIN",
                    model=options.name,
                    reason=str(problems[0]),
                )
                await trail.think(
                    f"The answer can't be used; the model is asked to mend it: {_few(problems)}",
                    revises=listener.latest,
                )
    times = f"after {options.max_repairs} mendings " if options.max_repairs else ""
    raise ModelTroubleError(options.name, f"{times}its plan still has mistakes: {_few(problems, 3)}")


async def _answer(client: ModelClient, prompt: Prompt, listener: _Listener) -> Mapping[str, Any]:
    """Return a whole answer as an object.

    Raises:
        ModelTroubleError: There is none, or it is none; the latter may be asked for again.
    """
    text = await client.ask(prompt, listener.hear)
    try:
        answer = read_object(text)
    except ValueError as exc:
        raise client.trouble(f"its answer can't be read: {exc}", can_ask_again=True) from exc
    await listener.hear_rest(answer)
    return answer


def _prompt(question: Question, options: ModelOptions, previous: Any, problems: Sequence[Problem]) -> Prompt:
    """Return the question; after an answer that can't be used, with that answer and what is wrong with it.

    The earlier answer goes as data, too: what a provider accepts as the history of a conversation differs, above all
    for answers that are broken.
    """
    file = load_prompt(question.prompt)
    data = dict(question.data)
    if existing := question.existing():
        data["existing"] = existing
    lead = "Answer for this:"
    if problems:
        lead = load_prompt("mend").text
        data["problems"] = [str(problem) for problem in problems[:_TOLD_PROBLEMS]]
        if previous is not None:
            data["previous"] = previous
    return Prompt(
        instructions=file.filled(max_tasks=question.max_tasks, max_thoughts=options.max_thoughts),
        data=f"{lead}\n\n{data_block(data)}",
        schema=answer_schema(is_alternative=question.is_alternative),
    )


@dataclass(slots=True)
class _Listener:
    """Hears one answer: hands thoughts to the trail and tasks to whoever wants them, each once."""

    _trail: ThoughtTrail
    _max_thoughts: int
    _hear_task: HearTask
    latest: int | None = None
    """Number of the latest thought in the trail."""
    _reader: ItemReader = field(default_factory=ItemReader)
    _numbers: list[int] = field(default_factory=list)
    """Numbers in the trail of the answer's own thoughts."""
    _tasks: int = 0
    _left_out: int = 0

    async def hear(self, piece: str) -> None:
        """Take a piece of the answer."""
        for name, item in self._reader.feed(piece):
            await self._take(name, item)

    async def hear_rest(self, answer: Mapping[str, Any]) -> None:
        """Take what did not come bit by bit: an answer that came as text."""
        heard = {"thoughts": len(self._numbers) + self._left_out, "tasks": self._tasks}
        for name, count in heard.items():
            items = answer.get(name)
            if not count and isinstance(items, list):
                for item in items:
                    await self._take(name, item)
        if self._left_out:
            self._trail.notes.append(
                f"{self._left_out} of the model's thoughts were left out, for max_thoughts is {self._max_thoughts}."
            )

    async def _take(self, name: str, item: Any) -> None:
        if name == "tasks":
            self._tasks += 1
            await self._hear_task(item)
        elif name == "thoughts":
            await self._think(item)

    async def _think(self, item: Any) -> None:
        fields = item if isinstance(item, Mapping) else {"text": item}
        text = fields.get("text", fields.get("thought"))
        if not isinstance(text, str) or not text.strip() or len(self._numbers) >= self._max_thoughts:
            self._left_out += 1
            return
        branch = fields.get("branch")
        branch_from = self._earlier(fields.get("branch_from"))
        self._trail.expected += 1
        self.latest = await self._trail.think(
            as_unicode(text.strip()[:MAX_THOUGHT_CHARS]),
            revises=self._earlier(fields.get("revises")),
            branch=as_unicode(branch[:100]) if isinstance(branch, str) and branch else None,
            branch_from=branch_from,
        )
        self._numbers.append(self.latest)

    def _earlier(self, number: Any) -> int | None:
        """Return the number in the trail of an earlier thought of the answer, which counts its own from 1."""
        is_number = isinstance(number, int) and not isinstance(number, bool)
        return self._numbers[number - 1] if is_number and 1 <= number <= len(self._numbers) else None


def _few(problems: Sequence[Problem], count: int = 5) -> str:
    told = " ".join(str(problem) for problem in problems[:count])
    more = f" … and {len(problems) - count} more." if len(problems) > count else ""
    return f"{told}{more}"
