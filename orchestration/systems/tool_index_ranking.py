"""Ranks the candidates of a search again, with more care than a full-text index can take: pure arithmetic.

May import: orchestration.systems.tool_text, stdlib.

Three views of one candidate, each relative to the best candidate's, are added up:

* *whole*: BM25 over the weighted fields, with less regard for length than the index has: a thorough description is
  no fault of a tool;
* *clause*: the best such sum over the clauses of the question, so that the second thing a sentence asks for finds its
  tool beside the first;
* *names*: which share of the trigrams of the tool's and its server's name the question has, which sees through
  compounds, inflections and misspellings.

The numbers were compared in coarse steps on four of the eight public sets that `benchmarks/retrieval.py` reads, with
the other four watched beside them; neighbouring values do about as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NAME, SERVER, DESCRIPTION, PARAMETERS = 4.0, 1.5, 1.0, 0.5
"""How much a word says by the field it stands in."""
SATURATION = 2.0
"""BM25's k1: how much a word that comes again still adds."""
LENGTH_REGARD = 0.3
"""BM25's b: 0 ignores how long a tool's text is, 1 divides by it."""
CLAUSE_WEIGHT = 1.0
NAME_WEIGHT = 0.6
SERVER_WEIGHT = 0.3
BEST = 1 + CLAUSE_WEIGHT + NAME_WEIGHT + SERVER_WEIGHT
"""The sum of a candidate that is best in every view."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One tool in numbers."""

    weights: Mapping[str, float]
    """By stem: how often it comes, each time weighted by its field."""
    length: int
    """Words in all fields."""
    name: frozenset[str]
    server: frozenset[str]
    """Trigrams."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for, in numbers."""

    rarity: Mapping[str, float]
    """By stem that some tool has: its inverse document frequency."""
    unknown: float
    """The weight of the stems no tool has."""
    clauses: Sequence[Sequence[str]]
    """The stems of each clause."""
    trigrams: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rated:
    """How a candidate did."""

    score: float
    """From 0 to 1, relative to the other candidates."""
    coverage: float
    """From 0 to 1, absolute: which share of the question's words, weighted by rarity, the tool's text has."""


def rarity(total: int, having: int) -> float:
    """Return BM25's inverse document frequency of a word that `having` of `total` tools have."""
    return math.log(1 + (total - having + 0.5) / (having + 0.5))


def rate(question: Question, candidates: Mapping[int, Profile], average_length: float) -> dict[int, Rated]:
    """Return how each candidate did."""
    shares = {key: _shares(question, profile, average_length) for key, profile in candidates.items()}
    wholes = {key: sum(share.values()) for key, share in shares.items()}
    whole_best = max(wholes.values(), default=0.0) or 1.0
    by_clause = _by_clause(question.clauses, shares)
    weight = sum(question.rarity.values()) + question.unknown or 1.0
    return {
        key: Rated(
            score=(
                wholes[key] / whole_best
                + CLAUSE_WEIGHT * by_clause[key]
                + NAME_WEIGHT * share_of(profile.name, question.trigrams)
                + SERVER_WEIGHT * share_of(profile.server, question.trigrams)
            )
            / BEST,
            coverage=sum(question.rarity[stem] for stem in shares[key]) / weight,
        )
        for key, profile in candidates.items()
    }


def share_of(part: frozenset[str], whole: frozenset[str]) -> float:
    """Return which share of a set another one has; 0 of an empty one."""
    return len(part & whole) / len(part) if part else 0.0


def _shares(question: Question, profile: Profile, average_length: float) -> dict[str, float]:
    """Return what each word of the question adds to a candidate."""
    weights = profile.weights
    norm = SATURATION * (1 - LENGTH_REGARD + LENGTH_REGARD * profile.length / average_length)
    return {
        stem: rare * (SATURATION + 1) * weight / (weight + norm)
        for stem, rare in question.rarity.items()
        if (weight := weights.get(stem)) is not None
    }


def _by_clause(
    clauses: Sequence[Sequence[str]], shares: Mapping[int, Mapping[str, float]]
) -> dict[int, float]:
    """Return each candidate's best place in a clause: 1 is best in the clause that says most.

    A clause that says little counts less, by the square root of what its best candidate has of the best of all.
    """
    places: dict[str, list[int]] = {}
    for place, clause in enumerate(clauses):
        for stem in clause:
            places.setdefault(stem, []).append(place)
    sums: list[dict[int, float]] = [{} for _ in clauses]
    for key, share in shares.items():
        for stem, part in share.items():
            for place in places.get(stem, ()):
                by_key = sums[place]
                by_key[key] = by_key.get(key, 0.0) + part
    tops = [max(by_key.values(), default=0.0) for by_key in sums]
    highest = max(tops, default=0.0)
    best = dict.fromkeys(shares, 0.0)
    for by_key, top in zip(sums, tops, strict=True):
        if top <= 0:
            continue
        factor = math.sqrt(top / highest) / top
        for key, total in by_key.items():
            best[key] = max(best[key], total * factor)
    return best
