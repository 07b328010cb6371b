"""What a configuration holds that must be neither stored nor shown: the values that must not come back from anywhere.

May import: config.systems_config, orchestration.redaction, stdlib.

Secrets reach a configuration through `${NAME}`. So every such value counts as one, unless it is plainly something
else: a variable that everybody has, a number, a word, a place that exists, an address without a password. Besides
them, whatever is declared under a name that tells of a secret, and such variables of this program's own environment:
functions run inside it and can read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from config.systems_config import (
    AlitaSettings,
    CommandSettings,
    FunctionSettings,
    HttpSettings,
    KgotSettings,
    McpSettings,
    SystemSettings,
)
from orchestration.redaction import SHORTEST, header_secrets, secret_values, tells_of_secret

_PUBLIC_NAMES = re.compile(
    r"HOME|USER|LOGNAME|USERNAME|SHELL|TERM|PATH|PWD|OLDPWD|LANG|LC_\w+|TZ|HOSTNAME|TMPDIR|TEMP|TMP|XDG_\w+"
    r"|DESKTOP_SESSION|SESSION_MANAGER|DBUS_\w+"
)
"""Variables that say where a program runs, which its outputs may repeat."""


def secrets_of(
    used: Iterable[Mapping[str, str]],
    systems: Iterable[SystemSettings],
    environ: Mapping[str, str],
    others: Iterable[str],
) -> tuple[str, ...]:
    """Return the secrets, each once.

    Args:
        used: For each file that was read, the variables that were put in, with their values.
        systems: The systems that are declared, those of other programs' files too.
        environ: This program's environment.
        others: What is known to be one.
    """
    found = [*others]
    for variables in used:
        found += (value for name, value in variables.items() if _is_secret(name, value))
    found += (
        value for name, value in environ.items() if tells_of_secret(name) and not _is_plain(name, value)
    )
    for spec in systems:
        found += _declared(spec)
    return tuple(dict.fromkeys(value for value in found if len(value) >= SHORTEST))


def _declared(spec: SystemSettings) -> Iterator[str]:
    """Yield what a system is given under names that tell of secrets."""
    match spec:
        case CommandSettings():
            for command in spec.commands.values():
                yield from secret_values(command.env)
        case FunctionSettings():
            yield from secret_values(spec.env)
        case McpSettings() | KgotSettings():
            yield from spec.secrets
        case HttpSettings():
            yield spec.bearer_token or ""
            for headers in (spec.headers, *(operation.headers for operation in spec.operations.values())):
                yield from header_secrets(headers)
        case AlitaSettings():
            yield from header_secrets(spec.headers)
        case _:
            pass


def _is_secret(name: str, value: str) -> bool:
    """Whether the value of a variable that was put in counts as one."""
    return tells_of_secret(name) or not _is_plain(name, value)


def _is_plain(name: str, value: str) -> bool:
    """Whether a value is plainly no secret."""
    if _PUBLIC_NAMES.fullmatch(name) or re.fullmatch(r"[A-Za-z]+|[-+.\d]+", value):
        return True
    if value.startswith(("/", "~/")):
        try:
            return Path(value).expanduser().exists()
        except (OSError, RuntimeError, ValueError):
            return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    is_address = parts.scheme in {"http", "https"} and bool(parts.hostname)
    return is_address and "@" not in parts.netloc and not parts.query and not parts.fragment
