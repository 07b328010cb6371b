"""What a condition names and how much work it can be: a reading of CEL's tokens, without evaluating anything.

May import: stdlib.

The CEL library parses and evaluates; it says neither where an unknown name stands nor how long an evaluation
may take. `read` finds every variable, function and macro with its place; `Reading.steps` bounds the work of
one evaluation from the sizes of the values it touches.

What makes work grow, as measured: a macro (`all`, `map`, …) runs its body once per element; `map` and
`filter` copy their list at every element; every `+` copies its left side; a constant path copies each value
on its way; `matches` compiles its pattern anew each time. The bound is a polynomial: an element's size is a
variable inside a macro's body, and leaving the macro puts the size of the whole list in its place (`Σ s^k ≤
S^k`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})
FUNCTIONS = frozenset(
    {
        "bool",
        "bytes",
        "double",
        "duration",
        "dyn",
        "has",
        "int",
        "size",
        "string",
        "timestamp",
        "type",
        "uint",
    }
)
"""What can be called as `f(x)`."""
METHODS = frozenset(
    """contains endsWith matches size startsWith getDate getDayOfMonth getDayOfWeek getDayOfYear getFullYear
    getHours getMilliseconds getMinutes getMonth getSeconds""".split()  # noqa: SIM905
)
"""What can be called as `x.f()`, besides the macros."""
TYPE_NAMES = frozenset(
    "bool bytes double duration int list map null_type string timestamp type uint".split()  # noqa: SIM905
)
"""Names that stand for types, as in `type(output) == int`."""
_KEYWORDS = frozenset({"true", "false", "null", "in"})
_CLOSES = {")": "(", "]": "[", "}": "{"}
_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)
      | (?P<text>(?:[bB]?[rR]|[rR][bB])(?:\"\"\".*?\"\"\"|'''.*?'''|"[^"\n]*"|'[^'\n]*')
            | [bB]?(?:\"\"\"(?:\\.|.)*?\"\"\"|'''(?:\\.|.)*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
      | (?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?[uU]?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)

_MANY = 8
"""Uses of variables that an evaluation may copy without anybody counting."""
_ADDITION = 0
"""The item that a `+` makes; work otherwise."""
_MAX_PATTERN_STEPS = 1_500_000
"""The library gives up on a pattern over 10 MB, after some 150 ms."""
_REPETITION = re.compile(r"\{([0-9]{1,6})?(?:,([0-9]{1,6})?)?\}")

Polynomial: TypeAlias = dict[tuple[int, ...], int]
"""Coefficient per monomial; a monomial is the exponent of the element's size per macro, outermost first."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the source."""

    kind: str
    """`text`, `number`, `name` or `other`."""
    text: str
    column: int
    """Counted from 1, over the whole source."""


@dataclass(frozen=True, slots=True)
class Use:
    """A place where the expression names something."""

    name: str
    column: int
    path: tuple[str | int, ...] = ()
    """The constant keys and indexes that follow a variable: `output.rows[0]` → `("rows", 0)`."""


@dataclass(slots=True)
class _Macro:
    """A macro call: its list, and what its body does per element."""

    name: str
    variable: str
    receiver: list[_Item]
    body: list[_Item] = field(default_factory=list)


_Item: TypeAlias = "tuple[int, int | Use | str | _Macro]"
"""Its first token's index, and what it is: constant work, a free variable, a macro's depth as text, a macro."""
SizeOf: TypeAlias = Callable[[Use], tuple[int, int]]
"""At a use of a free variable: how many values there are, and the steps to reach them."""


@dataclass(slots=True)
class Reading:
    """What an expression is made of."""

    variables: list[Use] = field(default_factory=list)
    """Free variables: those no macro binds."""
    calls: list[Use] = field(default_factory=list)
    """Functions called as `f(x)`."""
    methods: list[Use] = field(default_factory=list)
    """Functions called as `x.f()`, macros excepted."""
    macro_depth: int = 0
    """How deep macros nest."""
    can_be_long: bool = False
    """Whether an evaluation can take more than a few steps per value it is given."""
    items: list[_Item] = field(default_factory=list)

    def steps(self, size_of: SizeOf) -> int:
        """Return an upper bound on the elementary steps of one evaluation."""
        return sum(_measure(self.items, 0, size_of)[1].values())


def read(source: str) -> Reading:
    """Read an expression that the CEL library accepts. For others the answer is as good as can be."""
    return _Reader(list(_tokens(source))).read()


def _tokens(source: str) -> Iterator[Token]:
    for match in _TOKEN.finditer(source):
        if match.lastgroup not in ("skip", None):
            yield Token(str(match.lastgroup), match.group(), match.start() + 1)


class _Reader:
    """One pass over the tokens with a stack of the macros that are open."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.opens = self._match_brackets()
        self.reading = Reading()
        self.macros: list[tuple[int, _Macro]] = []
        """Open macros, each with the index of its closing bracket."""

    def _match_brackets(self) -> dict[int, int]:
        """Map each bracket's index to its partner's."""
        pairs: dict[int, int] = {}
        stack: list[int] = []
        for index, token in enumerate(self.tokens):
            if token.kind != "other":
                continue
            if token.text in "([{":
                stack.append(index)
            elif token.text in _CLOSES and stack:
                opened = stack.pop()
                pairs[opened], pairs[index] = index, opened
        return pairs

    def read(self) -> Reading:
        index = 0
        while index < len(self.tokens):
            while self.macros and index >= self.macros[-1][0]:
                self.macros.pop()
            token = self.tokens[index]
            if token.kind == "name" and token.text not in _KEYWORDS:
                index = self._name(index, token)
            else:
                is_addition = token.kind == "other" and token.text == "+"
                self.reading.can_be_long |= is_addition
                self._add(index, _ADDITION if is_addition else 1)
                index += 1
        self.reading.can_be_long |= self.reading.macro_depth > 0 or len(self.reading.variables) > _MANY
        return self.reading

    def _name(self, index: int, token: Token) -> int:
        """Take in the name at `index`; return where to go on."""
        is_member = self._is(index - 1, ".") and index > 1 and self._ends_operand(self.tokens[index - 2])
        if self._is(index + 1, "("):
            binds = self._kind(index + 2) == "name" and self._is(index + 3, ",")
            if is_member and binds and token.text in MACROS:
                return self._open_macro(index)
            use = Use(token.text, token.column)
            (self.reading.methods if is_member else self.reading.calls).append(use)
            if token.text == "matches":
                self._add(index, _pattern_steps(self._only_argument(index + 1)))
                self.reading.can_be_long = True
        elif not is_member:
            self._variable(index, token)
            return index + 1
        self._add(index, 1)
        return index + 1

    def _variable(self, index: int, token: Token) -> None:
        for depth in range(len(self.macros), 0, -1):
            if self.macros[depth - 1][1].variable == token.text:
                self._add(index, str(depth - 1))
                return
        dot = "." if self._is(index - 1, ".") else ""  # a rooted name, which the library does not know
        use = Use(dot + token.text, token.column, self._path(index + 1))
        self.reading.variables.append(use)
        self._add(index, use)

    def _open_macro(self, index: int) -> int:
        """Open the macro whose name stands at `index`; return the index of its body."""
        start = self._receiver_start(index - 2)
        into = self._items()
        cut = next((at for at, (position, _) in enumerate(into) if position >= start), len(into))
        macro = _Macro(self.tokens[index].text, self.tokens[index + 2].text, into[cut:])
        into[cut:] = [(start, macro)]
        self.macros.append((self.opens.get(index + 1, len(self.tokens)), macro))
        self.reading.macro_depth = max(self.reading.macro_depth, len(self.macros))
        return index + 4

    def _receiver_start(self, index: int) -> int:
        """Return where the operand that ends at `index` begins."""
        while index > 0:
            token = self.tokens[index]
            if token.kind == "other" and token.text in _CLOSES:
                index = self.opens.get(index, 0)
                before = self.tokens[index - 1] if index else None
                if before and self._ends_operand(before):
                    index -= 1
                    continue
            if not self._is(index - 1, "."):
                return index
            index -= 2
        return 0

    @staticmethod
    def _ends_operand(token: Token) -> bool:
        if token.kind == "other":
            return token.text in _CLOSES
        return not (token.kind == "name" and token.text == "in")

    def _path(self, index: int) -> tuple[str | int, ...]:
        path: list[str | int] = []
        while True:
            if self._is(index, ".") and self._kind(index + 1) == "name" and not self._is(index + 2, "("):
                path.append(self.tokens[index + 1].text)
                index += 2
                continue
            key = (
                _constant_key(self.tokens[index + 1])
                if self._is(index, "[") and self._is(index + 2, "]")
                else None
            )
            if key is None:
                return tuple(path)
            path.append(key)
            index += 3

    def _only_argument(self, index: int) -> Token | None:
        """Return the argument of the call whose bracket opens at `index`, if it is a single token."""
        return self.tokens[index + 1] if self._is(index + 2, ")") else None

    def _items(self) -> list[_Item]:
        return self.macros[-1][1].body if self.macros else self.reading.items

    def _add(self, index: int, what: int | Use | str) -> None:
        self._items().append((index, what))

    def _is(self, index: int, text: str) -> bool:
        if not 0 <= index < len(self.tokens):
            return False
        return self.tokens[index].kind == "other" and self.tokens[index].text == text

    def _kind(self, index: int) -> str:
        return self.tokens[index].kind if index < len(self.tokens) else ""


def _constant_key(token: Token) -> str | int | None:
    """Return the key a plain literal stands for; None for any other token."""
    if token.kind == "number" and token.text.isdecimal():
        return int(token.text)
    is_plain = token.kind == "text" and token.text[0] in "\"'" and "\\" not in token.text
    return token.text[1:-1] if is_plain and not token.text.startswith(('"""', "'''")) else None


def _measure(items: list[_Item], depth: int, cost_of: SizeOf) -> tuple[Polynomial, Polynomial]:
    """Return the size of what `items` make and the steps to make it, in the sizes of the macros' elements."""
    size: Polynomial = {}
    steps: Polynomial = {}
    one = (0,) * depth
    additions = 0
    for _, item in items:
        match item:
            case _Macro():
                made, taken = _measure_macro(item, depth, cost_of)
                _add(size, made)
                _add(steps, taken)
            case Use():
                made_here, taken_here = cost_of(item)
                _add(size, {one: made_here})
                _add(steps, {one: taken_here})
            case str():
                at = int(item)
                unit = (*one[:at], 1, *one[at + 1 :])
                _add(size, {unit: 1})
                _add(steps, {unit: 1})
            case _:
                additions += item == _ADDITION
                _add(size, {one: 1})
                _add(steps, {one: max(item, 1)})
    if additions:
        _add(steps, {monomial: count * additions for monomial, count in size.items()})
    return size, steps


def _measure_macro(macro: _Macro, depth: int, cost_of: SizeOf) -> tuple[Polynomial, Polynomial]:
    elements, steps = _measure(macro.receiver, depth, cost_of)
    body_size, body_steps = _measure(macro.body, depth + 1, cost_of)
    _add(steps, _over_all(body_steps, elements))
    if macro.name not in ("map", "filter"):
        return {(0,) * depth: 1}, steps
    made = elements if macro.name == "filter" else _over_all(body_size, elements)
    _add(steps, _product(made, elements))
    return made, steps


def _over_all(per_element: Polynomial, elements: Polynomial) -> Polynomial:
    """Sum over the elements of a list of the given size: the innermost variable goes."""
    total: Polynomial = {}
    for (*outer, power), count in per_element.items():
        term: Polynomial = {tuple(outer): count}
        for _ in range(max(power, 1)):
            term = _product(term, elements)
        _add(total, term)
    return total


def _add(total: Polynomial, more: Polynomial) -> None:
    for monomial, count in more.items():
        total[monomial] = total.get(monomial, 0) + count


def _product(left: Polynomial, right: Polynomial) -> Polynomial:
    product: Polynomial = {}
    for one, count in left.items():
        for other, factor in right.items():
            monomial = tuple(a + b for a, b in zip(one, other, strict=True))
            product[monomial] = product.get(monomial, 0) + count * factor
    return product


def _pattern_steps(pattern: Token | None) -> int:
    """Return what compiling a regular expression costs: classes of Unicode letters and repetition make it large."""
    if pattern is None or pattern.kind != "text":
        return _MAX_PATTERN_STEPS
    steps = 200 + 50 * len(pattern.text) + 2_000 * pattern.text.count("\\")
    for low, high in _REPETITION.findall(pattern.text):
        steps *= max(int(low or 1), int(high or 1), 1)
        if steps > _MAX_PATTERN_STEPS:
            break
    return min(steps, _MAX_PATTERN_STEPS)
