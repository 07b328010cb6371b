"""What is declared about how a system may be asked, and what is told about how it does.

May import: orchestration.{clock, errors}, orchestration.systems.breaker, stdlib. Plain records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestration.clock import to_iso
from orchestration.errors import InvalidArgumentError
from orchestration.systems.breaker import BreakerOptions, BreakerState


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many requests in so long."""

    requests: int
    per_seconds: float

    def __post_init__(self) -> None:
        """Refuse a rate that lets nothing through, or is none."""
        if self.requests < 1:
            raise InvalidArgumentError("rate.requests", self.requests, "a whole number, 1 or more")
        if not 0 < self.per_seconds < float("inf"):
            raise InvalidArgumentError("rate.per_seconds", self.per_seconds, "a number of seconds above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemPolicy:
    """What is declared about how a system may be asked."""

    max_concurrent: int | None = None
    """Most attempts at once. None: of other people's systems what is found out, else any number."""
    rate: Rate | None = None
    """Attempts that may start."""
    breaker: BreakerOptions = field(default_factory=BreakerOptions)

    def __post_init__(self) -> None:
        """Refuse a limit that lets nothing through."""
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise InvalidArgumentError("max_concurrent", self.max_concurrent, "a whole number, 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line of a system's story."""

    at_us: int
    told: str

    def __str__(self) -> str:
        return f"{to_iso(self.at_us)} {self.told}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How the latest attempts of a system or tool went, as seen by this process."""

    answered: int = 0
    failed: int = 0
    """For whatever reason, but for arguments that did not fit."""
    mean_seconds: float | None = None
    """Of those that were answered."""

    @property
    def success_rate(self) -> float | None:
        """Return the share that was answered, 0 to 1; None before any has ended."""
        count = self.answered + self.failed
        return self.answered / count if count else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemHealth:
    """How a system does now."""

    state: BreakerState = BreakerState.CLOSED
    limit: int | None = None
    """Most attempts at once; None: any number."""
    running: int = 0
    success_rate: float | None = None
    """Of its latest attempts, 0 to 1; None before any has ended."""
    mean_seconds: float | None = None
    """Of its latest answers."""
    opened_because: str | None = None
    """Why it is not asked; None while it is."""
    next_probe_seconds: float | None = None
    """When it is tried again; None while it is asked."""
    rest_seconds: float | None = None
    """How long it is left alone because it said "too many requests"."""
    rate: Rate | None = None
    """As declared."""
    open_tools: Mapping[str, str] | None = None
    """Why, of each tool that is not asked while the system is."""
    last_changes: tuple[Change, ...] = ()
    """The story, oldest first."""
