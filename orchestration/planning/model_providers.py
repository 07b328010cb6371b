"""Makes pydantic-ai's object for the configured model: whose wire it speaks, at which address, with which key.

May import: orchestration.{errors, planning.model_options}, pydantic_ai (late), stdlib.

What can't be made is a mistake of the configuration, and its message never holds the key.
"""

from __future__ import annotations

import importlib.util
import inspect
from typing import TYPE_CHECKING, Any

from orchestration.errors import ConfigurationError, Problem
from orchestration.planning.model_options import ModelOptions

if TYPE_CHECKING:
    from pydantic_ai.models import Model

EXTRA = "pip install 'advanced-task-orchestration[model]'"

_SECRET_CHARS = 4
"""A shorter key is a placeholder, and blotting it out would garble messages."""

_COMPATIBLE = ("openai", "openai-chat")
"""Prefixes that mean OpenAI's own models; at another address they are spoken to by chat completions."""


def require_extra() -> None:
    """Make sure that what a configured model needs is installed, without importing it.

    Raises:
        ConfigurationError: It is not.
    """
    if importlib.util.find_spec("pydantic_ai") is None:
        message = "needs the package pydantic-ai-slim, which is not installed."
        raise ConfigurationError([Problem("model", message, f"{EXTRA}, or remove `model`.")])


def make_model(options: ModelOptions) -> Model:
    """Return the model; nothing is connected yet.

    Raises:
        ConfigurationError: There is no such provider, its library is not installed, or it has no key.
    """
    from pydantic_ai.exceptions import UserError

    try:
        return _infer_model(options)
    except ImportError as exc:
        raise misconfigured(options, str(exc)) from exc
    except (UserError, ValueError, TypeError) as exc:
        raise misconfigured(options, str(exc)) from exc


def _infer_model(options: ModelOptions) -> Model:
    from pydantic_ai.models import infer_model
    from pydantic_ai.providers import infer_provider_class

    key = None if options.api_key is None else options.api_key.get_secret_value()
    prefix, _, bare = options.name.partition(":")
    if options.base_url is not None and (not bare or prefix in _COMPATIBLE or not _is_provider(prefix)):
        return _compatible(options.name, options.base_url, key)

    def make_provider(name: str) -> Any:
        kind: Any = infer_provider_class(name)
        wanted = {"api_key": key, "base_url": options.base_url}
        given = {field: value for field, value in wanted.items() if value is not None}
        known = inspect.signature(kind.__init__).parameters
        unknown = [field for field in given if field not in known]
        if unknown:
            raise ValueError(f"provider {name!r} takes no {' and no '.join(unknown)}")
        return kind(**given)

    return infer_model(options.name, make_provider)


def _compatible(name: str, base_url: str, key: str | None) -> Model:
    """Return a model that is spoken to by OpenAI's chat completions."""
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    prefix, _, bare = name.partition(":")
    if bare and prefix in _COMPATIBLE:
        return OpenAIChatModel(bare, provider=OpenAIProvider(base_url=base_url, api_key=key or "none"))
    # The provider must not fall back to a key of OpenAI's in the environment: it is another's endpoint.
    return OpenAIChatModel(
        name, provider=OpenAICompatibleProvider("endpoint", base_url=base_url, api_key=key)
    )


def _is_provider(name: str) -> bool:
    from pydantic_ai.providers import infer_provider_class

    try:
        infer_provider_class(name)
    except ValueError:
        return False
    except ImportError:
        return True
    return True


def misconfigured(options: ModelOptions, reason: str) -> ConfigurationError:
    """Return a mistake of the configuration; its reason never holds the key."""
    if options.api_key is not None and len(options.api_key.get_secret_value()) >= _SECRET_CHARS:
        reason = reason.replace(options.api_key.get_secret_value(), "***")
    message = f"{options.name!r} can't be used: {one_line(reason).rstrip('.')}."
    fix = "correct `model`: a name such as anthropic:claude-sonnet-5-5 with its api_key, or a base_url; or remove it."
    return ConfigurationError([Problem("model.name", message, fix)])


def secrets(options: ModelOptions, model: Model) -> list[str]:
    """Return what must appear in no message: the configured key, and one the provider's library took elsewhere."""
    client = getattr(model, "client", None)
    found = [getattr(client, "api_key", None), getattr(client, "auth_token", None)]
    if options.api_key is not None:
        found.append(options.api_key.get_secret_value())
    return sorted(
        {text for text in found if isinstance(text, str) and len(text) >= _SECRET_CHARS},
        key=len,
        reverse=True,
    )


def one_line(text: str) -> str:
    """Return a text without its line breaks."""
    return " ".join(text.split())
