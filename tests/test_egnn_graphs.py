"""Edge lists: against all pairs one by one, in blocks of any size, far from the origin."""

import numpy as np
import pytest
import torch
from drawing import normal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from archbook.egnn import complete_edges, graphs, nearest_edges, radius_edges

NAN = float("nan")


def slow_complete(sizes: list[int]) -> list[tuple[int, int]]:
    """(sender, receiver) pairs, by receiver, then by sender."""
    first, pairs = 0, []
    for size in sizes:
        nodes = range(first, first + size)
        pairs += [(j, i) for i in nodes for j in nodes if i != j]
        first += size
    return pairs


def distances(x: Tensor, i: int) -> list[tuple[float, int]]:
    return [(float((x[i] - x[j]).norm()), j) for j in range(len(x)) if j != i]


def slow_radius(x: Tensor, radius: float) -> list[tuple[int, int]]:
    return [(j, i) for i in range(len(x)) for d, j in distances(x, i) if d <= radius]


def slow_nearest(x: Tensor, k: int) -> list[tuple[int, int]]:
    return [(j, i) for i in range(len(x)) for _, j in sorted(distances(x, i))[:k]]


def pairs(edges: Tensor) -> list[tuple[int, int]]:
    assert edges.dtype == torch.int64
    assert edges.shape[0] == 2
    return [(j, i) for j, i in edges.T.tolist()]


@pytest.fixture(params=[1, 7, 2**22])
def block(request, monkeypatch) -> int:
    """Distances at a time: less than a row, a row of the small cases, everything."""
    monkeypatch.setattr(graphs, "BLOCK", request.param)
    return request.param


# ---- brute force ----


@pytest.mark.shapes
@pytest.mark.parametrize("sizes", [[1], [2], [5], [3, 1, 4], [1, 1], [1, 6, 1, 2]])
def test_complete_edges_are_all_pairs_of_each_graph_by_receiver(sizes):
    assert pairs(complete_edges(sizes)) == slow_complete(sizes)


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_complete_edges_are_right_for_any_sizes(sizes):
    assert pairs(complete_edges(sizes)) == slow_complete(sizes)


@pytest.mark.shapes
@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("radius", [0.5, 1.5, 100.0])
def test_radius_edges_are_all_pairs_that_near_by_receiver(radius, n):
    x = normal(7, n)
    assert pairs(radius_edges(x, radius)) == slow_radius(x, radius)


@pytest.mark.shapes
@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_nearest_edges_are_the_k_nearest_by_receiver(k, n):
    x = normal(7, n)
    assert pairs(nearest_edges(x, k)) == slow_nearest(x, k)


@settings(max_examples=30)
@given(nodes=st.integers(2, 12), n=st.integers(1, 4), seed=st.integers(0, 10**6), data=st.data())
def test_neighbours_are_right_at_any_size(nodes, n, seed, data):
    x, k = normal(nodes, n, seed=seed), data.draw(st.integers(1, nodes - 1))
    radius = data.draw(st.floats(0.1, 4))
    assert pairs(radius_edges(x, radius)) == slow_radius(x, radius)
    assert sorted(pairs(nearest_edges(x, k))) == sorted(slow_nearest(x, k))


# ---- special cases ----


def test_a_distance_equal_to_the_radius_is_near():
    x = torch.tensor([[0.0], [2.0], [4.5]])
    assert pairs(radius_edges(x, 2.0)) == [(1, 0), (0, 1)]


def test_nodes_in_one_place_are_neighbours_and_nobody_is_its_own():
    x = torch.zeros(3, 2)
    assert pairs(radius_edges(x, 0.1)) == slow_complete([3])
    edges = nearest_edges(x, 2)
    assert sorted(pairs(edges)) == sorted(slow_complete([3]))


@pytest.mark.parametrize("far", [1e3, 1e4])
def test_far_from_the_origin_the_neighbours_stay_the_same_in_float32(far):
    """|a|^2 + |b|^2 - 2ab would have lost every digit: its squares are 1e8, its distances 1."""
    x = (64 * normal(40, 3)).round() / 64  # sums with `far` are exact
    moved = (x + far).float()
    assert torch.equal(radius_edges(moved, 1.1), radius_edges(x, 1.1))
    near, wanted = nearest_edges(moved, 5), nearest_edges(x, 5)
    for edges in (near, wanted):
        length = (x[edges[0]] - x[edges[1]]).norm(dim=1).reshape(40, 5)
        assert (length.diff(dim=1) >= 0).all()
    torch.testing.assert_close(
        (x[near[0]] - x[near[1]]).norm(dim=1), (x[wanted[0]] - x[wanted[1]]).norm(dim=1)
    )


def test_one_node_has_no_neighbour_within_any_radius():
    assert radius_edges(torch.zeros(1, 3), 1.0).shape == (2, 0)


def test_positions_are_not_modified_and_get_no_gradient():
    x = normal(7, 3).requires_grad_()
    before = x.detach().clone()
    for edges in (radius_edges(x, 1.0), nearest_edges(x, 2)):
        assert not edges.requires_grad
    assert torch.equal(x, before)


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, call, types, arguments=(), options=None):
        out = call(*arguments, **(options or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("build", [lambda x: radius_edges(x, 0.3), lambda x: nearest_edges(x, 4)])
def test_no_tensor_holds_all_distances(build, monkeypatch):
    monkeypatch.setattr(graphs, "BLOCK", 2000)
    x = normal(400, 3)
    with LargestTensor() as seen:
        edges = build(x)
    assert seen.elements < 3 * max(2000, edges.numel()) < x.shape[0] ** 2


# ---- refusals ----


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: complete_edges([]), ValueError, "sizes to name at least one graph, given none"),
        (lambda: complete_edges([3, 0]), ValueError, "sizes to be at least 1, given 0"),
        (lambda: complete_edges([-2]), ValueError, "sizes to be at least 1, given -2"),
        (lambda: complete_edges([2.5]), TypeError, "sizes to be an int, given 2.5"),
        (lambda: radius_edges(normal(4, 3), 0.0), ValueError, "radius to be positive.*given 0.0"),
        (lambda: radius_edges(normal(4, 3), -1.0), ValueError, "positive and finite, given -1.0"),
        (lambda: radius_edges(normal(4, 3), NAN), ValueError, "positive and finite, given nan"),
        (lambda: radius_edges(normal(4, 3), 1 / 1e-309), ValueError, "and finite, given inf"),
        (lambda: nearest_edges(normal(4, 3), 0), ValueError, "k to be at least 1, given 0"),
        (lambda: nearest_edges(normal(4, 3), 1.5), TypeError, "k to be an int, given 1.5"),
        (lambda: nearest_edges(normal(4, 3), 4), ValueError, "k to be less than .* 4, given 4"),
    ],
)
def test_no_edges_come_from(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("build", [lambda x: radius_edges(x, 1.0), lambda x: nearest_edges(x, 1)])
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([[1.0]], TypeError, "x to be a tensor, given list"),
        (normal(4), ValueError, r"x to have shape \(nodes, n\), given \(4,\)"),
        (normal(2, 4, 3), ValueError, r"x to have shape \(nodes, n\), given \(2, 4, 3\)"),
        (normal(0, 3), ValueError, r"given \(0, 3\) \(no axis may be empty\)"),
        (normal(4, 0), ValueError, r"given \(4, 0\) \(no axis may be empty\)"),
        (torch.ones(4, 3).long(), TypeError, "x to be floating, given torch.int64"),
        (normal(4, 3) * NAN, ValueError, "x to be finite, given 12 NaN"),
    ],
)
def test_no_edges_come_from_positions_like(build, x, error, message):
    with pytest.raises(error, match=message):
        build(x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("build", [lambda x: radius_edges(x, 350.0), lambda x: nearest_edges(x, 1)])
def test_half_precision_finds_the_neighbours_of_float32(build, dtype):
    """The square of 350 is infinite in float16: then all pairs are as near as a node to itself."""
    x = torch.tensor([[0.0], [300.0], [700.0], [1500.0]]).to(dtype)
    assert torch.equal(build(x), build(x.float()))


@pytest.mark.parametrize(
    ("dtype", "unit"),
    [
        (torch.float32, 1e35),
        (torch.float32, 1e-37),
        (torch.float64, 1e300),
        (torch.float64, 1e-300),
    ],
)
def test_neighbours_are_the_same_in_every_unit_of_length(dtype, unit):
    x = torch.tensor([[0.0], [300.0], [700.0], [1500.0]], dtype=dtype)
    assert torch.equal(radius_edges(x * unit, 350 * unit), radius_edges(x, 350.0))
    assert torch.equal(nearest_edges(x * unit, 1), nearest_edges(x, 1))


def test_within_the_largest_radius_are_all_pairs_and_no_node_itself():
    x = normal(4, 3) * 1e-30
    assert pairs(radius_edges(x, 1.7e308)) == slow_complete([4])


def test_sizes_may_be_any_integers():
    counted = np.bincount([0, 0, 1])
    assert torch.equal(complete_edges(counted), complete_edges([2, 1]))
