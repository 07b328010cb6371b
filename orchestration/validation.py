"""Everything that can be wrong with a DAG as a whole, found at once; and the form in which it is run.

May import: orchestration.{dag, errors, expressions, hierarchy_rules, models, options, problems, task_rules}, stdlib.

The time is linear in tasks and edges, but for one thing: whether a reference names an ancestor that is no
direct upstream. Those questions are answered together, by one pass over the graph per few thousand of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from orchestration.dag import TaskDAG, find_cycles, sorted_prefix
from orchestration.errors import ConditionError, InvalidDagError, Problem, ReferenceResolutionError
from orchestration.expressions import ITEM_NAMES, RESULT_NAME, compile_condition, references_in
from orchestration.hierarchy_rules import HierarchyRules
from orchestration.models import Fallback, TaskEdge, TaskId, TaskNode, TaskStatus
from orchestration.options import Limits
from orchestration.problems import nearest, shown
from orchestration.task_rules import Text, has_texts, is_plain, json_problems, task_problems, texts_of

_DEFAULT_LIMITS = Limits()
_MAX_DAG_ID_CHARS = 200
_MAX_HINTS = 20
"""Unknown ids for which the nearest right one is looked up; a hopeless input would take minutes."""
_REACHABILITY_BITS = 64 * 1024 * 1024 * 8
"""Memory one pass over the graph may take for its sets of ancestors."""


def validate(dag: TaskDAG, limits: Limits = _DEFAULT_LIMITS, *, is_live: bool = False) -> list[Problem]:
    """Return every mistake in a DAG: edges, tasks, then what only shows in the whole. Empty: it can be run.

    A task is named as `tasks[ID]`, an edge as `edges[SOURCE→TARGET]`. Tasks in or behind a cycle are checked
    for references to tasks that are not upstream once the cycle is gone.

    Args:
        dag: The graph.
        limits: How large it may be.
        is_live: Whether it is the present graph of an orchestration, with tasks that only a run makes: those of
            alternative plans (`~n`) and of lists (`[n]`).
    """
    return _Check(dag, limits, is_live=is_live).run()


def normalized(dag: TaskDAG, limits: Limits = _DEFAULT_LIMITS, *, is_live: bool = False) -> TaskDAG:
    """Return a copy of a DAG as it is run: every task pending, and an edge for each reference.

    Naming an ancestor that is no direct upstream adds a required edge from it. Where it is an ancestor of a task the
    referring one is a part of, the edge leads to that one: edges stay on one level.

    Raises:
        InvalidDagError: The DAG has mistakes; all are listed.
    """
    check = _Check(dag, limits, is_live=is_live)
    problems = check.run()
    if problems:
        raise InvalidDagError(problems)
    twin = dag.copy()
    for task_id, node in dag.nodes.items():
        # A node that is made anew has arguments and metadata of its own, whatever the caller does to the given ones.
        if (
            node.status is not TaskStatus.PENDING
            or node.arguments
            or node.metadata
            or node.fallback
            or node.foreach
        ):
            twin.nodes[task_id] = replace(node, status=TaskStatus.PENDING, fallback=_own(node.fallback))
    twin.edges.extend(TaskEdge(source, target) for source, target in check.distant)
    return twin


def _own(fallback: Fallback | None) -> Fallback | None:
    """Return a fallback that shares no arguments with the given one."""
    return None if fallback is None else replace(fallback, fallback=_own(fallback.fallback))


def edge_path(edge: TaskEdge) -> str:
    """Return how problems name an edge."""
    return f"edges[{edge.source_task_id}→{edge.target_task_id}]"


class _Check:
    """One validation: the DAG, and what was found so far."""

    def __init__(self, dag: TaskDAG, limits: Limits, *, is_live: bool) -> None:
        self.dag = dag
        self.limits = limits
        self.is_live = is_live
        has_parents = any(node.parent is not None for node in dag.nodes.values())
        self.levels = HierarchyRules(dag, limits) if has_parents else None
        """None where all tasks are on one level."""
        self.problems: list[Problem] = []
        self.hints = 0
        self.links: list[tuple[int, int]] = []
        """Sound edges, by the positions of their ends."""
        self.position = {task_id: index for index, task_id in enumerate(dag.nodes)}
        self.pairs: set[tuple[TaskId, TaskId]] = set()
        self.questions: dict[tuple[TaskId, TaskId], tuple[str, str]] = {}
        """Referenced and referring task (or the task around that one), where no edge joins them → path and text."""
        self.distant: list[tuple[TaskId, TaskId]] = []
        """Those of them that are ancestor and descendant."""

    def run(self) -> list[Problem]:
        """Find everything; fills `problems` and `distant`."""
        self._sizes()
        if self.problems:
            return self.problems
        self._identity()
        if self.levels is not None:
            self.problems += self.levels.problems(self._hint)
        for edge in self.dag.edges:
            self._edge(edge)
        for task_id, node in self.dag.nodes.items():
            self._task(task_id, node)
        order = sorted_prefix(len(self.position), self.links)
        if len(order) < len(self.position):
            self._cycles(order)
        self._ancestors(order)
        if self.levels is not None and not self.problems:
            too_many = self.levels.flattening_problem()
            self.problems += [too_many] if too_many else []
        return self.problems

    def _report(self, path: str, message: str, fix: str = "") -> None:
        self.problems.append(Problem(path, message, fix))

    def _sizes(self) -> None:
        tasks, edges = len(self.dag.nodes), len(self.dag.edges)
        if tasks == 0:
            self._report("tasks", "is empty; expected at least one task.", "Add a task.")
        for path, count, limit in (
            ("tasks", tasks, self.limits.max_tasks),
            ("edges", edges, self.limits.max_edges),
        ):
            if count > limit:
                self._report(path, f"has {count:,} entries; at most {limit:,} are allowed.", "Split the DAG.")

    def _identity(self) -> None:
        dag_id = self.dag.dag_id
        if not dag_id.strip() or len(dag_id) > _MAX_DAG_ID_CHARS or not dag_id.isprintable():
            self._report(
                "dag_id",
                f"is {shown(dag_id)}; expected 1 to {_MAX_DAG_ID_CHARS} printable characters.",
                "Write a short speaking name, like nightly-report.",
            )
        limit = self.dag.timeout_seconds
        is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
        if limit is not None and not (is_number and 0 < limit < float("inf")):
            self._report(
                "timeout_seconds", f"is {shown(limit)}; expected a number of seconds greater than 0."
            )
        self.problems += json_problems("goal", self.dag.goal)
        self.problems += json_problems("metadata", self.dag.metadata)

    def _edge(self, edge: TaskEdge) -> None:
        source, target = edge.source_task_id, edge.target_task_id
        known = True
        for name, end in (("source_task_id", source), ("target_task_id", target)):
            if end not in self.position:
                known = False
                self._report(
                    f"{edge_path(edge)}.{name}",
                    f"names task {end!r}, which is not in the DAG.",
                    self._hint(end),
                )
        if edge.condition is not None:
            self._condition(edge, edge.condition)
        if not known:
            return
        if source == target:
            self._report(edge_path(edge), f"joins task {source!r} to itself.", "Remove the edge.")
        elif (source, target) in self.pairs:
            self._report(
                edge_path(edge),
                "is there twice.",
                "Keep one edge per pair; join two conditions with `||` or `&&`.",
            )
        elif self.levels is not None and (crossing := self.levels.edge_problem(edge, edge_path(edge))):
            self.problems.append(crossing)
        else:
            self.pairs.add((source, target))
            self.links.append((self.position[source], self.position[target]))

    def _hint(self, task_id: TaskId) -> str:
        self.hints += 1
        near = nearest(task_id, self.position) if self.hints <= _MAX_HINTS else None
        return f"Did you mean {near!r}?" if near else "Add the task, or write the id of one that is there."

    def _condition(self, edge: TaskEdge, source: str) -> None:
        try:
            compile_condition(source)
        except ConditionError as exc:
            self._report(f"{edge_path(edge)}.condition", f"{shown(source)}: {exc.reason}")

    def _task(self, task_id: TaskId, node: TaskNode) -> None:
        path = f"tasks[{task_id}]"
        if node.task_id != task_id:
            self._report(
                path, f"holds the task {node.task_id!r}; expected the task {task_id!r}.", "Use add_task."
            )
        if is_plain(node):
            return
        self.problems += task_problems(node, path, self.limits, is_live=self.is_live)
        if has_texts(node):
            for text in texts_of(node, path):
                self._references(task_id, text)

    def _references(self, task_id: TaskId, text: Text) -> None:
        try:
            references = references_in(text.value)
        except ReferenceResolutionError as exc:
            self._report(text.path, f"{shown(exc.source)}: {exc.reason}")
            return
        for reference in references:
            named = reference.task_id
            if (text.has_item and named in ITEM_NAMES) or (text.has_result and named == RESULT_NAME):
                continue
            if named not in self.position:
                is_item = named in ITEM_NAMES
                fix = "Only a task with `foreach` has one: add it." if is_item else self._hint(named)
                self._report(
                    text.path, f"{reference.text} names task {named!r}, which is not in the DAG.", fix
                )
            elif named == task_id:
                self._report(text.path, f"{reference.text} names the task itself.", "Name an upstream task.")
            else:
                self._upstream(named, task_id, text.path, reference.text)

    def _upstream(self, named: TaskId, task_id: TaskId, path: str, reference: str) -> None:
        """Note the question whether a named task is upstream of the referring one, or of a task around it."""
        if self.levels is not None:
            task_id, wrong = self.levels.anchor(named, task_id)
            if wrong is not None:
                self._report(path, f"{reference} {wrong.message}", wrong.fix)
                return
        if (named, task_id) not in self.pairs:
            self.questions.setdefault((named, task_id), (path, reference))

    def _cycles(self, order: Sequence[int]) -> None:
        ids = list(self.position)
        for cycle in find_cycles(len(ids), self.links, order):
            names = [ids[index] for index in cycle]
            told = [*names[:20], "…"] if len(names) > 20 else names
            self._report(
                "edges",
                f"form a cycle: {' → '.join((*told, names[0]))}.",
                f"Remove one of these edges, for example {names[-1]} → {names[0]}.",
            )

    def _ancestors(self, order: Sequence[int]) -> None:
        """Answer `questions`: which of them join an ancestor and a descendant."""
        sorted_positions = set(order)
        asked = [
            (source, target) for source, target in self.questions if self.position[target] in sorted_positions
        ]
        pairs = [(self.position[source], self.position[target]) for source, target in asked]
        graph = (len(self.position), self.links, order)
        true = set(_ancestral(*graph, pairs))
        wrong = [(target, source) for source, target in pairs if (source, target) not in true]
        reverse = set(_ancestral(*graph, wrong))
        for question, (upper, lower) in zip(asked, pairs, strict=True):
            if (upper, lower) in true:
                self.distant.append(question)
                continue
            source, target = question
            path, text = self.questions[question]
            self._report(
                path,
                f"{text} names task {source!r}, which is not upstream of {target!r}.",
                f"{source!r} runs after {target!r}: turn the edges between them round, or drop the reference."
                if (lower, upper) in reverse
                else f"Add {source!r} to depends_on of {target!r}.",
            )


def _ancestral(
    count: int, links: Sequence[tuple[int, int]], order: Sequence[int], pairs: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield the pairs whose first is an ancestor of its second.

    A few thousand distinct firsts are looked at together: each gets a bit, and one pass in topological order
    hands the bits downstream.
    """
    if not pairs:
        return
    upstream: list[list[int]] = [[] for _ in range(count)]
    for source, target in links:
        upstream[target].append(source)
    asked: dict[int, list[int]] = {}
    for source, target in pairs:
        asked.setdefault(source, []).append(target)
    sources = list(asked)
    batch = max(64, _REACHABILITY_BITS // count)
    for start in range(0, len(sources), batch):
        chosen = sources[start : start + batch]
        own = {source: 1 << bit for bit, source in enumerate(chosen)}
        above = [0] * count
        for index in order:
            bits = 0
            for source in upstream[index]:
                bits |= above[source]
            above[index] = bits | own.get(index, 0)
        for source in chosen:
            yield from ((source, target) for target in asked[source] if above[target] & own[source])
