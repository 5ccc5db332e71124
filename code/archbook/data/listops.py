"""ListOps from its grammar, as the Long Range Arena draws it: nested operators on digits."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from archbook.checks import as_size

OPERATORS = ("MIN", "MAX", "MED", "SM")
PADDING, CLOSE = 0, 15
SYMBOLS = ("", *"0123456789", *(f"[{name}" for name in OPERATORS), "]")  # by token
VOCABULARY = len(SYMBOLS)
OPERATOR_RATE = 0.25  # of a node above the deepest level

Tree = int | tuple[str, tuple[Any, ...]]  # a digit, or an operator and its trees


@dataclass(frozen=True)
class ListOpsDesign:
    """Trees of at most max_depth levels and max_args children, of shortest < tokens < longest.

    LRA's long task is ListOpsDesign(10, 10, 500, 2000).
    """

    max_depth: int = 4
    max_args: int = 5
    shortest: int = 16
    longest: int = 64

    def __post_init__(self):
        for name in ("max_depth", "max_args", "shortest", "longest"):
            least = 2 if name == "max_args" else 1
            object.__setattr__(self, name, as_size(name, getattr(self, name), least))
        if self.longest < self.shortest + 2:
            raise ValueError(
                f"wanted a length between shortest and longest, given {self.shortest} and "
                f"{self.longest}"
            )


@dataclass(frozen=True)
class ListOpsSet:
    """Token numbers (0 is padding), the value of each expression, its outermost operator."""

    tokens: Int64[Tensor, "n longest"]
    labels: Int64[Tensor, " n"]
    roots: Int64[Tensor, " n"]

    @property
    def mask(self) -> Bool[Tensor, "n longest"]:
        return self.tokens != PADDING

    def part(self, first: int, last: int) -> "ListOpsSet":
        return ListOpsSet(*(x[first:last] for x in (self.tokens, self.labels, self.roots)))


def draw_tree(design: ListOpsDesign, rng: np.random.Generator, depth: int = 1) -> Tree:
    """A node: an operator with probability 0.25 above the deepest level, else a digit."""
    if depth >= design.max_depth or rng.random() >= OPERATOR_RATE:
        return int(rng.integers(10))
    name = OPERATORS[rng.integers(len(OPERATORS))]
    count = int(rng.integers(2, design.max_args + 1))
    return name, tuple(draw_tree(design, rng, depth + 1) for _ in range(count))


def value_of(tree: Tree) -> int:
    """MED truncates the mean of the two middle values; SM is the sum modulo ten."""
    if isinstance(tree, int):
        return tree
    name, children = tree
    values = sorted(value_of(child) for child in children)
    if name == "MIN":
        return values[0]
    if name == "MAX":
        return values[-1]
    if name == "MED":
        half = len(values) // 2
        return values[half] if len(values) % 2 else (values[half - 1] + values[half]) // 2
    return sum(values) % 10


def tokens_of(tree: Tree) -> Iterator[int]:
    """A digit, or an operator, its children and a closing bracket."""
    if isinstance(tree, int):
        yield tree + 1
        return
    name, children = tree
    yield 11 + OPERATORS.index(name)
    for child in children:
        yield from tokens_of(child)
    yield CLOSE


def text_of(tokens: Int64[Tensor, " seq"]) -> str:
    return " ".join(SYMBOLS[i] for i in tokens.tolist() if i != PADDING)


def listops(count: int, design: ListOpsDesign | None = None, seed: int = 0) -> ListOpsSet:
    """So many different expressions; a larger count begins with those of a smaller one.

    >>> from archbook.data.listops import text_of
    >>> examples = listops(3)
    >>> text_of(examples.tokens[0]), int(examples.labels[0])
    ('[MAX [SM [MIN 0 5 0 2 4 ] [MAX 1 0 ] 6 7 ] 3 3 6 7 ]', 7)
    """
    count = as_size("count", count)
    design = design or ListOpsDesign()
    rng = np.random.default_rng(seed)
    tokens = torch.zeros(count, design.longest - 1, dtype=torch.int64)
    labels, roots, seen = [], [], set()
    while len(labels) < count:
        tree = draw_tree(design, rng)
        if isinstance(tree, int):
            continue
        row = tuple(tokens_of(tree))
        if not design.shortest < len(row) < design.longest or row in seen:
            continue
        seen.add(row)
        tokens[len(labels), : len(row)] = torch.tensor(row)
        labels.append(value_of(tree))
        roots.append(row[0] - 11)
    return ListOpsSet(tokens, torch.tensor(labels), torch.tensor(roots))


def root_floor(train: ListOpsSet, test: ListOpsSet) -> float:
    """Percent right by the outermost operator alone: the commonest answer to each, in training."""
    right = 0
    for root in range(len(OPERATORS)):
        known = train.labels[train.roots == root]
        if len(known):
            answer = torch.bincount(known, minlength=10).argmax()
            right += int((test.labels[test.roots == root] == answer).sum())
    return 100 * right / len(test.labels)
