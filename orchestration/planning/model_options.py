"""What is said about the language model that plans: which one, where, and what it may cost.

May import: pydantic, stdlib. Nothing of a provider is imported here: the settings are read by every command.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr


def _no_bool(value: object) -> object:
    """Refuse true and false, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("expected an address such as https://host/v1")
    if parts.username or parts.password or parts.query:
        raise ValueError("expected an address without user, password or query; the key belongs into api_key")
    return value


Number: TypeAlias = Annotated[float, BeforeValidator(_no_bool)]
WholeNumber: TypeAlias = Annotated[int, BeforeValidator(_no_bool)]


class ModelOptions(BaseModel):
    """A language model as a planner, and the bounds of one plan. Shows its key to nobody."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """`provider:model`, as pydantic-ai writes it; with `base_url` the bare name that the endpoint knows will do."""
    base_url: Annotated[str, AfterValidator(_address)] | None = None
    """Another address than the provider's own; for a bare name, of an endpoint with OpenAI's chat completions."""
    api_key: SecretStr | None = None
    """The key; when absent, the environment variable that the provider's own library reads."""
    temperature: Annotated[Number, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    """0 to 2; the model's own when absent (some take none)."""
    timeout_seconds: Annotated[Number, Field(gt=0, le=86_400, allow_inf_nan=False)] = 180.0
    """Longest time for the model's part in one plan, mending and decomposing further included."""
    request_timeout_seconds: Annotated[Number, Field(gt=0, le=86_400, allow_inf_nan=False)] = 120.0
    """Longest time from one request to the last word of its answer."""
    max_retries: Annotated[WholeNumber, Field(ge=0, le=10)] = 2
    """Times a request is sent again that failed for a passing reason before an answer began."""
    max_input_tokens: Annotated[WholeNumber, Field(ge=1)] = 200_000
    """Tokens of all requests for one plan."""
    max_output_tokens: Annotated[WholeNumber, Field(ge=1)] = 16_000
    """Tokens of all answers for one plan; some models refuse a request that allows more than they can give."""
    max_cost: Annotated[Number, Field(gt=0, allow_inf_nan=False)] | None = None
    """US dollars for one plan, by the provider's list price; None: no limit. A model without a known price is not
    asked then.
    """
    max_repairs: Annotated[WholeNumber, Field(ge=0, le=10)] = 2
    """Times an answer that can't be used is sent back with its mistakes."""
    max_thoughts: Annotated[WholeNumber, Field(ge=1, le=100)] = 12
    """Thoughts of one answer that are kept."""
    start_early: bool = False
    """Whether tasks may start while the rest of the plan is still being made."""
