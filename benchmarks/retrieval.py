"""Measures how well and how fast tools are found: recall, mean reciprocal rank, milliseconds, tokens.

    python benchmarks/retrieval.py --data FOLDER [--embedder FOLDER] [--json]

The folder holds `NAME.tools.json`, lists of `{"id", "server", "tool", "description", "input_schema"?}`, and
`NAME.queries.json`, lists of `{"id", "query", "gold": [tool ids], "alt"?: {gold id: [equivalent ids]}}`; queries
belong to the tools of the same name, or of the name before the first `_`. Recall at k is the mean share of a query's
gold tools within the first k; the reciprocal rank is that of the first gold tool. The last line is the mean of the
sets, each counting the same, however many queries it has.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestration.systems.tool_index import ToolHit, ToolIndex
from orchestration.systems.tool_index_vectors import load_embedder

AT = (1, 3, 5, 10)
BUILDS = 5
"""Times an index is built; the median counts."""
LARGE = 6_000
"""Tools of the large index, over which speed alone is measured."""
TOLD_CHARS = 200
"""Of a description, where five tools are told instead of all."""


def told(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool of the data as an index takes it."""
    return {
        "server": tool["server"],
        "name": tool["tool"],
        "description": tool.get("description", ""),
        "input_schema": tool.get("input_schema"),
    }


def corpora(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the tools by name of the corpus."""
    paths = sorted(folder.glob("*.tools.json"))
    return {path.name.removesuffix(".tools.json"): json.loads(path.read_text("utf-8")) for path in paths}


def query_sets(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the queries by name of the set."""
    paths = sorted(folder.glob("*.queries.json"))
    return {path.name.removesuffix(".queries.json"): json.loads(path.read_text("utf-8")) for path in paths}


def build(tools: Sequence[Mapping[str, Any]], embedder: Any) -> tuple[ToolIndex, float]:
    """Return an index and the median of the milliseconds it takes to build one."""
    given = [told(tool) for tool in tools]
    took = []
    for _ in range(BUILDS):
        began = time.perf_counter()
        index = ToolIndex(embed=embedder).build(given)
        took.append((time.perf_counter() - began) * 1e3)
    return index, statistics.median(took)


def measure(index: ToolIndex, queries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the figures of one set."""
    recalls: dict[int, list[float]] = {k: [] for k in AT}
    ranks, took = [], []
    for query in queries:
        began = time.perf_counter()
        hits = index.search(query["query"], max(AT))
        took.append((time.perf_counter() - began) * 1e3)
        places = found_at([f"{hit.server}/{hit.name}" for hit in hits], query)
        for k in AT:
            recalls[k].append(sum(place < k for place in places) / len(query["gold"]))
        ranks.append(1 / (min(places) + 1) if places else 0.0)
    figures = {f"recall@{k}": statistics.fmean(values) for k, values in recalls.items()}
    return {**figures, "mrr": statistics.fmean(ranks), "ms": statistics.median(took)}


def found_at(ids: Sequence[str], query: Mapping[str, Any]) -> list[int]:
    """Return the place of each gold tool that was found; an equivalent one stands for it."""
    places = []
    for gold in query["gold"]:
        right = {gold, *query.get("alt", {}).get(gold, ())}
        place = next((at for at, each in enumerate(ids) if each in right), None)
        if place is not None:
            places.append(place)
    return places


def tokens_share(index: ToolIndex, tools: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> float:
    """Return what telling the five best tools costs beside telling all, in characters, which tokens go by."""
    everything = len(json.dumps([told(tool) for tool in tools], ensure_ascii=False))
    costs = (sum(map(_told_chars, index.search(text, 5))) for text in texts)
    return statistics.fmean(costs) / everything


def _told_chars(hit: ToolHit) -> int:
    entry = {"system": hit.server, "tool": hit.name, "does": hit.description[:TOLD_CHARS]}
    return len(json.dumps({**entry, "needs": hit.required}, ensure_ascii=False))


def speed(tools: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> float:
    """Return the median milliseconds of a query over these tools, everything looked at once before."""
    index = ToolIndex().build(map(told, tools))
    took = []
    for measured in (False, True):
        for text in texts:
            began = time.perf_counter()
            index.search(text)
            if measured:
                took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took)


def many(every: Mapping[str, Sequence[Mapping[str, Any]]], count: int) -> list[dict[str, Any]]:
    """Return `count` tools of all corpora, again under other servers' names where there are not enough."""
    found: list[dict[str, Any]] = []
    rounds = 0
    while len(found) < count:
        for name, tools in every.items():
            found += [{**tool, "server": f"{name}{rounds or ''}-{tool['server']}"} for tool in tools]
        rounds += 1
    return found[:count]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--embedder", type=Path, metavar="FOLDER", help="a model2vec model")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    every, sets = corpora(args.data), query_sets(args.data)
    if not sets:
        print(f"{args.data} has no *.queries.json.", file=sys.stderr)
        return 2
    embedder = load_embedder(args.embedder) if args.embedder else None
    indexes = {name: build(tools, embedder) for name, tools in every.items()}
    results, shares = {}, {}
    for name, queries in sets.items():
        corpus = name if name in every else name.partition("_")[0]
        index, _ = indexes[corpus]
        results[name] = measure(index, queries)
        shares[name] = tokens_share(index, every[corpus], [query["query"] for query in queries[:50]])
    keys = list(next(iter(results.values())))
    macro = {key: statistics.fmean(result[key] for result in results.values()) for key in keys}
    texts = [query["query"] for queries in sets.values() for query in queries[:25]]
    times = {f"{count} tools": speed(many(every, count), texts) for count in (500, LARGE)}
    builds = {f"{name} ({len(every[name])} tools)": took for name, (_, took) in indexes.items()}
    if args.json:
        print(
            json.dumps(
                {"sets": results, "macro": macro, "query_ms": times, "build_ms": builds, "told": shares}
            )
        )
        return 0
    _print(results, macro, shares)
    _print_times("a query, median", times)
    _print_times("building", builds)
    return 0


def _print(
    results: Mapping[str, Mapping[str, float]], macro: Mapping[str, float], shares: Mapping[str, float]
) -> None:
    show: Callable[[float], str] = "{:9.3f}".format
    print(f"{'':20}" + "".join(f"{key:>10}" for key in macro) + "   five told, of all")
    for name, result in results.items():
        print(f"{name:20}" + " ".join(["", *map(show, result.values())]) + f"{shares[name]:18.2%}")
    print(f"{'mean of the sets':20}" + " ".join(["", *map(show, macro.values())]))


def _print_times(what: str, times: Mapping[str, float]) -> None:
    print(f"{what}: " + ", ".join(f"{name} {took:.2f} ms" for name, took in times.items()))


if __name__ == "__main__":
    sys.exit(main())
