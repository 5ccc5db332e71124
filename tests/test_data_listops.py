"""ListOps: values by a second reader of the text, the grammar's rates, lengths, and the floor."""

import statistics

import numpy as np
import pytest
import torch

from archbook.data.listops import (
    ListOpsDesign,
    ListOpsSet,
    draw_tree,
    listops,
    root_floor,
    text_of,
    value_of,
)

SET = listops(400)


def read(text: str) -> int:
    """The value of a written expression, by a stack."""
    stack: list = []
    for sign in text.split():
        if sign != "]":
            stack.append(sign if sign.startswith("[") else int(sign))
            continue
        values = []
        while not isinstance(stack[-1], str):
            values.append(stack.pop())
        name = stack.pop()[1:]
        rules = {"MIN": min, "MAX": max, "MED": statistics.median, "SM": sum}
        stack.append(int(rules[name](values)) % 10)
    (value,) = stack
    return value


def test_values_are_those_of_the_written_expression():
    for tokens, label in zip(SET.tokens, SET.labels, strict=True):
        assert read(text_of(tokens)) == label


def test_a_median_of_two_is_cut_to_an_integer():
    assert value_of(("MED", (1, 2))) == 1
    assert value_of(("MED", (9, 4, 3, 2))) == 3
    assert value_of(("SM", (9, 4, 8))) == 1


def test_lengths_lie_between_the_bounds():
    design = ListOpsDesign(shortest=8, longest=12)
    lengths = listops(60, design).mask.sum(1)
    assert lengths.min() == 9
    assert lengths.max() == 11


def test_trees_follow_the_grammar():
    """A quarter of the nodes above the deepest level are operators, of two to five children."""
    rng, operators, nodes, sizes = np.random.default_rng(0), 0, 0, []

    def walk(tree, depth):
        nonlocal operators, nodes
        assert depth <= 4
        if depth < 4:
            nodes += 1
            operators += not isinstance(tree, int)
        else:
            assert isinstance(tree, int)
        if not isinstance(tree, int):
            sizes.append(len(tree[1]))
            for child in tree[1]:
                walk(child, depth + 1)

    for _ in range(5000):
        walk(draw_tree(ListOpsDesign(), rng), 1)
    assert operators / nodes == pytest.approx(0.25, abs=0.02)
    assert set(sizes) == {2, 3, 4, 5}


def test_no_expression_comes_twice():
    design = ListOpsDesign(max_depth=2, max_args=2, shortest=3, longest=5)
    found = listops(350, design)  # of the 400 that there are
    assert len(found.tokens.unique(dim=0)) == 350


def test_more_expressions_begin_with_the_fewer():
    assert torch.equal(listops(50).tokens, SET.tokens[:50])
    assert not torch.equal(listops(50, seed=1).tokens, SET.tokens[:50])


def test_the_floor_knows_the_training_answers_alone():
    def made(labels, roots):
        return ListOpsSet(torch.zeros(len(labels), 1), torch.tensor(labels), torch.tensor(roots))

    train, test = made([0, 0, 5, 9], [0, 0, 0, 1]), made([5, 5, 9, 3], [0, 0, 1, 1])
    assert root_floor(train, test) == 25  # 0 and 9; the test's own answers would give 75


@pytest.mark.slow
def test_the_floor_of_short_expressions_is_far_above_chance():
    drawn = listops(3000, seed=5)
    assert 20 < root_floor(drawn.part(0, 2000), drawn.part(2000, 3000)) < 32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: listops(0), "count to be at least 1, given 0"),
        (lambda: ListOpsDesign(max_depth=0), "max_depth to be at least 1, given 0"),
        (lambda: ListOpsDesign(max_args=1), "wanted max_args to be at least 2, given 1"),
        (lambda: ListOpsDesign(shortest=8, longest=9), "given 8 and 9"),
    ],
)
def test_a_design_without_expressions_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_of_long_expressions_a_root_min_is_0_and_a_root_max_9_in_little_more_than_half():
    """The shares that the exercise on the Arena's floor names, fewer expressions drawn."""
    drawn = listops(1000, ListOpsDesign(10, 10, 500, 2000), seed=0)
    shares = [
        (drawn.labels[drawn.roots == root] == answer).float().mean().item()
        for root, answer in enumerate((0, 9, 4))
    ]
    assert shares == pytest.approx([0.55, 0.56, 0.22], abs=0.08)
    sums = torch.bincount(drawn.labels[drawn.roots == 3], minlength=10)
    assert sums.max() / sums.sum() < 0.2
