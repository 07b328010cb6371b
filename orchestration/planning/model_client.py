"""Talks to one language model through pydantic-ai: one streamed request at a time, within its budgets.

May import: orchestration.{errors, planning.model_options, planning.model_providers, planning.proposal}, anyio,
pydantic_ai (late), stdlib. Nothing but these imports pydantic_ai, which comes with the optional extra `model`.

Every fault becomes a `ModelTroubleError` whose reason may be shown: keys are blotted out, and what a provider says is
cut. What only a change of the configuration can mend is a `ConfigurationError` instead.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from orchestration.errors import ConfigurationError, SystemUnavailableError
from orchestration.planning.model_options import ModelOptions
from orchestration.planning.model_providers import make_model, misconfigured, one_line, require_extra, secrets
from orchestration.planning.proposal import Spending

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponseStreamEvent
    from pydantic_ai.models import Model, StreamedResponse

TOOL_NAME = "send_plan"

CHARS_PER_TOKEN = 4
"""Of English and JSON, about; used before a provider has counted, and where it tells nothing."""

_MOST_CHARS_PER_TOKEN = 12
"""An answer with more characters than this for each token it was allowed comes from a provider that keeps no limit."""

_SHOWN_CHARS = 300


class ModelTroubleError(SystemUnavailableError):
    """The model gave no usable answer.

    Args:
        system: The model's name.
        reason: Why not, for readers.
        effect_open: Unused: a question changes nothing.
        can_ask_again: Whether the same model may do better, told what was wrong.
    """

    code = "model_trouble"

    def __init__(
        self, system: str, reason: str, effect_open: bool = False, can_ask_again: bool = False
    ) -> None:
        super().__init__(system, reason, effect_open)
        self.args = (system, reason, effect_open, can_ask_again)
        self.can_ask_again = can_ask_again

    def __str__(self) -> str:
        return f"The language model {self.system!r} gave no plan: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One question to a model: instructions, data, and the shape of the answer."""

    instructions: str
    data: str
    schema: Mapping[str, Any]

    @property
    def tokens(self) -> int:
        """Return about how many tokens it takes."""
        return (len(self.instructions) + len(self.data) + len(str(self.schema))) // CHARS_PER_TOKEN


class ModelClient:
    """An open connection to a model, for one plan's questions.

    Args:
        options: Which model, and the bounds.
        model: pydantic-ai's own object for it.
        spending: What the plan has used up; every question adds to it.
    """

    def __init__(self, options: ModelOptions, model: Model, spending: Spending) -> None:
        self._options = options
        self._model = model
        self._spending = spending
        self._secrets = secrets(options, model)

    async def ask(self, prompt: Prompt, hear: Callable[[str], Awaitable[None]]) -> str:
        """Ask once and return the answer's JSON: arguments of the tool, else the text that came in their place.

        Args:
            prompt: The question.
            hear: Told each piece of the arguments as it arrives.

        Raises:
            ModelTroubleError: There is no answer, or no more may be asked.
        """
        options, spending = self._options, self._spending
        now = anyio.current_time()
        if spending.deadline is None:
            spending.deadline = now + options.timeout_seconds
        left = spending.deadline - now
        allowed = self._allowed_output(prompt)
        spending.requests += 1
        try:
            with anyio.fail_after(min(left, options.request_timeout_seconds)):
                return await self._ask(prompt, allowed, hear)
        except TimeoutError as exc:
            if left <= options.request_timeout_seconds:
                raise self.trouble(
                    f"the plan was not made within timeout_seconds ({options.timeout_seconds:g})"
                ) from exc
            seconds = f"{options.request_timeout_seconds:g}"
            raise self.trouble(f"no whole answer came within request_timeout_seconds ({seconds})") from exc

    def _allowed_output(self, prompt: Prompt) -> int:
        """Return how many tokens the answer may have, by the budgets."""
        options, spending = self._options, self._spending
        asked = spending.input_tokens + prompt.tokens
        if asked > options.max_input_tokens:
            raise self.trouble(
                f"over budget: the next request would bring the input to about {asked:,} tokens, and "
                f"max_input_tokens is {options.max_input_tokens:,}"
            )
        allowed = options.max_output_tokens - spending.output_tokens
        if allowed < 1:
            raise self.trouble(
                f"over budget: the answers took {spending.output_tokens:,} tokens, and max_output_tokens is "
                f"{options.max_output_tokens:,}"
            )
        if options.max_cost is None:
            return allowed
        price = self.price(prompt.tokens, 0)
        unit = self.price(0, 1000)
        if price is None or unit is None:
            raise self.trouble(
                "no price is known for it, so max_cost can't be kept; remove max_cost, and bound the tokens"
            )
        left = options.max_cost - (spending.cost or 0.0) - price
        affordable = int(left / unit * 1000) if unit else allowed
        if affordable < 1:
            raise self.trouble(
                f"over budget: ${spending.cost or 0.0:.4f} are spent, the next request costs more than what is left of "
                f"max_cost (${options.max_cost:g})"
            )
        return min(allowed, affordable)

    async def _ask(self, prompt: Prompt, allowed: int, hear: Callable[[str], Awaitable[None]]) -> str:
        from pydantic_ai.direct import model_request_stream
        from pydantic_ai.exceptions import AgentRunError, UserError
        from pydantic_ai.messages import ModelRequest, SystemPromptPart, UserPromptPart
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.settings import ModelSettings
        from pydantic_ai.tools import ToolDefinition

        settings = ModelSettings(max_tokens=allowed, max_retries=self._options.max_retries)
        if self._options.temperature is not None:
            settings["temperature"] = self._options.temperature
        tool = ToolDefinition(
            name=TOOL_NAME,
            parameters_json_schema=dict(prompt.schema),
            description="Send what was asked for.",
            strict=False,
            kind="output",
        )
        question = ModelRequest(parts=[SystemPromptPart(prompt.instructions), UserPromptPart(prompt.data)])
        heard = _Heard(hear, allowed * _MOST_CHARS_PER_TOKEN)
        try:
            async with model_request_stream(
                self._model,
                [question],
                model_settings=settings,
                model_request_parameters=ModelRequestParameters(
                    output_mode="tool", output_tools=[tool], allow_text_output=False
                ),
                instrument=False,
            ) as response:
                try:
                    async for event in response:
                        await heard.take(event)
                finally:
                    self._count(response, prompt, heard)
                self._judge(response, heard, allowed)
        except (ModelTroubleError, ConfigurationError):
            raise
        except (AgentRunError, UserError) as exc:
            raise self._told(exc) from exc
        except Exception as exc:  # a provider's library may raise anything; the plan is made without it then
            raise self.trouble(f"{type(exc).__name__}: {one_line(str(exc))}") from exc
        return heard.arguments or heard.text

    def _count(self, response: StreamedResponse, prompt: Prompt, heard: _Heard) -> None:
        """Add what an answer took, whole or not."""
        usage, spending = response.usage, self._spending
        is_told = bool(usage.input_tokens or usage.output_tokens)
        taken_in = usage.input_tokens if is_told else prompt.tokens
        given_out = usage.output_tokens if is_told else len(heard.arguments + heard.text) // CHARS_PER_TOKEN
        spending.is_estimated |= not is_told
        spending.input_tokens += taken_in
        spending.output_tokens += given_out
        price = self.price(taken_in, given_out)
        if price is not None:
            spending.cost = (spending.cost or 0.0) + price

    def _judge(self, response: StreamedResponse, heard: _Heard, allowed: int) -> None:
        """Refuse an answer that was not meant as one, or is not whole."""
        details = response.provider_details or {}
        if response.finish_reason == "content_filter":
            said = details.get("refusal") or heard.text
            raise self.trouble(f"it refused{f': {said}' if said else ' (content filter)'}")
        if response.finish_reason == "length":
            raise self.trouble(
                f"its answer was cut at {allowed:,} tokens; max_output_tokens is {self._options.max_output_tokens:,}",
                can_ask_again=True,
            )
        if heard.is_over_long:
            raise self.trouble(f"its answer has over {heard.limit:,} characters", can_ask_again=True)

    def price(self, input_tokens: int, output_tokens: int) -> float | None:
        """Return the list price in US dollars; None where none is known."""
        from pydantic_ai.messages import ModelResponse
        from pydantic_ai.usage import RequestUsage

        usage = RequestUsage(input_tokens=input_tokens, output_tokens=output_tokens)
        answer = ModelResponse(
            parts=[],
            usage=usage,
            model_name=self._model.model_name,
            provider_name=self._model.system,
            provider_url=getattr(self._model, "base_url", None),
        )
        try:
            return float(answer.cost().total_price)
        except (LookupError, ValueError):
            return None

    def _told(self, exc: Exception) -> Exception:
        """Return what a fault of the request is called here."""
        from pydantic_ai.exceptions import (
            ModelAPIError,
            ModelConnectionError,
            ModelHTTPError,
            UnexpectedModelBehavior,
            UserError,
        )

        if isinstance(exc, UserError):
            return misconfigured(self._options, self.blotted(str(exc)))
        if isinstance(exc, ModelHTTPError):
            said = _said(exc.body)
            reason = f"its provider answered {exc.status_code}{f': {said}' if said else ''}"
            return self.trouble(reason, can_ask_again=exc.in_stream)
        if isinstance(exc, ModelConnectionError):
            cause = exc.__cause__ or exc
            return self.trouble(f"the connection failed ({one_line(str(cause))})", can_ask_again=True)
        if isinstance(exc, (ModelAPIError, UnexpectedModelBehavior)):
            return self.trouble(one_line(str(exc)), can_ask_again=True)
        return self.trouble(one_line(str(exc)))

    def trouble(self, reason: str, *, can_ask_again: bool = False) -> ModelTroubleError:
        """Return what is wrong with an answer, or with getting one, as it may be shown."""
        blotted = self.blotted(reason)
        cut = blotted if len(blotted) <= _SHOWN_CHARS else blotted[: _SHOWN_CHARS - 1] + "…"
        return ModelTroubleError(self._options.name, cut, can_ask_again=can_ask_again)

    def blotted(self, text: str) -> str:
        """Return a text without the key."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class _Heard:
    """An answer as far as it has come."""

    def __init__(self, hear: Callable[[str], Awaitable[None]], limit: int) -> None:
        self._hear = hear
        self.limit = limit
        self.arguments = ""
        self.text = ""
        self._index: int | None = None
        """Of the part that is the first call of the tool; whatever else is called is not heard."""

    @property
    def is_over_long(self) -> bool:
        return len(self.arguments) + len(self.text) > self.limit

    async def take(self, event: ModelResponseStreamEvent) -> None:
        from pydantic_ai.exceptions import UnexpectedModelBehavior
        from pydantic_ai.messages import (
            PartDeltaEvent,
            PartStartEvent,
            TextPart,
            TextPartDelta,
            ToolCallPart,
            ToolCallPartDelta,
        )

        if isinstance(event, PartStartEvent):
            if isinstance(event.part, TextPart):
                self.text += event.part.content
            elif isinstance(event.part, ToolCallPart) and self._index is None:
                self._index = event.index
                await self._more(event.part.args)
        elif isinstance(event, PartDeltaEvent):
            if isinstance(event.delta, TextPartDelta):
                self.text += event.delta.content_delta
            elif isinstance(event.delta, ToolCallPartDelta) and event.index == self._index:
                await self._more(event.delta.args_delta)
        if self.is_over_long:
            raise UnexpectedModelBehavior(f"its answer has over {self.limit:,} characters")

    async def _more(self, piece: str | Mapping[str, Any] | None) -> None:
        """Take a piece of the arguments; some providers send them as an object, and whole."""
        if piece is not None and not isinstance(piece, str):
            piece = json.dumps(piece)
        if piece:
            self.arguments += piece
            await self._hear(piece)


@asynccontextmanager
async def open_client(options: ModelOptions, spending: Spending) -> AsyncIterator[ModelClient]:
    """Open a model for one plan's questions.

    Raises:
        ConfigurationError: What the model needs is not installed, or there is no such provider, or no key.
    """
    require_extra()
    model = make_model(options)
    async with model:
        yield ModelClient(options, model, spending)


def _said(body: object) -> str:
    """Return the message in a provider's error, wherever it keeps it."""
    if isinstance(body, Mapping):
        for key in ("error", "message", "detail"):
            if body.get(key):
                return _said(body[key])
        return ""
    return one_line(str(body)) if isinstance(body, str) else ""
