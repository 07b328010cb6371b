"""Which of several systems that can do a task should: by success, time, cost, health and load. Pure.

May import: stdlib.

The effort of a candidate is what one success is expected to take:

    effort = (seconds · (1 + load) + dollars · SECONDS_PER_DOLLAR) / chance of success
    score  = 1 / effort; 0 while it is not asked at all

* The chance is (8 + successes) / (10 + attempts): everyone is believed to be good until about ten attempts say
  otherwise, so that three observations don't shout.
* Seconds and dollars are means of earlier tasks, drawn towards the candidates' common mean by `PRIOR_TASKS` tasks;
  what was never measured counts as common.
* Load is the share of its limit that is running now.

The first in the configured order wins unless another is clearly better: noise is no reason to go elsewhere, and equal
candidates keep the order in which a person wrote them down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PRIOR_SUCCESSES, PRIOR_ATTEMPTS = 8.0, 10.0
PRIOR_TASKS = 5.0
OVERHEAD_SECONDS = 0.5
"""Added to every duration: who differs by milliseconds does not differ."""
SECONDS_PER_DOLLAR = 60.0
"""What a dollar weighs: a minute of waiting."""
CLEARLY_BETTER = 1.25
"""How many times the score of an earlier system a later one must have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A system that could do a task, with what is known of it."""

    system: str
    tool: str | None = None
    answered: int = 0
    """Of its latest attempts."""
    failed: int = 0
    completed: int = 0
    """Tasks the means go by."""
    mean_seconds: float | None = None
    mean_cost: float | None = None
    """In US dollars."""
    is_shut: bool = False
    """Whether it would refuse now, or could not be asked."""
    running: int = 0
    limit: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is anything to weigh it by."""
        return bool(self.answered or self.failed or self.completed or self.is_shut or self.running)


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """One candidate with its score."""

    system: str
    tool: str | None
    score: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Where a task goes, and why."""

    system: str
    tool: str | None
    reason: str
    considered: tuple[Considered, ...] = ()
    """All candidates, the chosen one first, then in the order in which they would take its place."""


def choose(candidates: Sequence[Candidate], first_reason: str, best_reason: str) -> Choice:
    """Return the choice among candidates, at least one.

    Args:
        candidates: In the configured order.
        first_reason: Why the first one is taken, where nothing speaks against it.
        best_reason: What all of them can do, where another one is taken or they were weighed.
    """
    left = _scored(candidates)
    ordered: list[Considered] = []
    while left:
        best = max(each.score for each in left)
        taken = next(each for each in left if each.score * CLEARLY_BETTER >= best)
        ordered.append(taken)
        left.remove(taken)
    chosen = ordered[0]
    reason = first_reason
    if len(candidates) > 1 and any(candidate.is_known for candidate in candidates):
        told = "; ".join(f"{each.system}: {each.why}" for each in ordered[:3])
        is_first = chosen.system == candidates[0].system
        rank = "comes first and no other is clearly better" if is_first else "does best"
        reason = f"of those {best_reason} it {rank} ({told})"
    return Choice(system=chosen.system, tool=chosen.tool, reason=reason, considered=tuple(ordered))


def _scored(candidates: Sequence[Candidate]) -> list[Considered]:
    times = [each.mean_seconds for each in candidates if each.mean_seconds is not None]
    costs = [each.mean_cost for each in candidates if each.mean_cost is not None]
    common_time = sum(times) / len(times) if times else 1.0
    common_cost = sum(costs) / len(costs) if costs else 0.0
    return [_score(each, common_time, common_cost) for each in candidates]


def _score(candidate: Candidate, common_time: float, common_cost: float) -> Considered:
    chance = (PRIOR_SUCCESSES + candidate.answered) / (PRIOR_ATTEMPTS + candidate.answered + candidate.failed)
    seconds = _drawn(candidate.mean_seconds, candidate.completed, common_time)
    cost = _drawn(candidate.mean_cost, candidate.completed, common_cost)
    load = candidate.running / candidate.limit if candidate.limit else 0.0
    effort = ((seconds + OVERHEAD_SECONDS) * (1 + load) + cost * SECONDS_PER_DOLLAR) / chance
    why = f"{chance:.0%} likely, about {seconds:.3g} s"
    if cost:
        why += f", ${cost:.3g}"
    if candidate.running:
        why += f", {candidate.running} running"
    if candidate.is_shut:
        why = "not asked now"
    return Considered(
        system=candidate.system,
        tool=candidate.tool,
        score=0.0 if candidate.is_shut else 1 / effort,
        why=why,
    )


def _drawn(mean: float | None, count: int, common: float) -> float:
    """Return a mean drawn towards the common one."""
    return common if mean is None else (mean * count + common * PRIOR_TASKS) / (count + PRIOR_TASKS)
