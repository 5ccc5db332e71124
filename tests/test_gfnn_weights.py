"""Where a point lies on a grid: the spline's laws, its ends and seams, and broken twins."""

import numpy as np
import pytest
import torch
from drawing import seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline
from torch import Tensor

from archbook.gfnn import axis_weights, catmull_rom, grid_weights, weights

AXES = [(False, "clamp"), (False, "linear"), (True, "clamp")]
every_axis = pytest.mark.parametrize(("cyclic", "edges"), AXES, ids=["clamp", "linear", "cyclic"])
float64 = {"dtype": torch.float64}


def line(points: int = 401, low: float = 0.0, high: float = 1.0) -> Tensor:
    return torch.linspace(low, high, points, **float64)


def spline(y: np.ndarray, u: np.ndarray, cyclic: bool, edges: str) -> np.ndarray:
    """scipy's cubic through the nodes, with the slopes that the text states."""
    nodes = len(y)
    if cyclic:
        place, slope = np.arange(nodes + 1), (np.roll(y, -1) - np.roll(y, 1)) / 2
        return CubicHermiteSpline(place, np.append(y, y[0]), np.append(slope, slope[0]))(
            (u % 1) * nodes
        )
    first, last = (y[0], y[-1]) if edges == "clamp" else (2 * y[0] - y[1], 2 * y[-1] - y[-2])
    padded = np.concatenate([[first], y, [last]])
    slope = (padded[2:] - padded[:-2]) / 2
    return CubicHermiteSpline(np.arange(nodes), y, slope)(np.clip(u, 0, 1) * (nodes - 1))


def spline_error(nodes: int, cyclic: bool, edges: str) -> float:
    y = np.random.default_rng(nodes).normal(size=nodes)
    u = line(301, -0.3, 1.3)
    found = axis_weights(u, nodes, cyclic, edges=edges).numpy() @ y
    return float(np.abs(found - spline(y, u.numpy(), cyclic, edges)).max())


def ramp_error(u: Tensor, nodes: int, edges: str) -> float:
    """In steps between two nodes: how far the interpolated node number is from the place."""
    node = 1 + torch.arange(nodes, **float64)  # at 0 the weight of the first would not count
    return float(
        (axis_weights(u, nodes, False, edges=edges) @ node - u * (nodes - 1) - 1).abs().max()
    )


def keys(m: Tensor, a: float) -> Tensor:
    """The cubic convolution of Keys (1981): Catmull-Rom at a = -1/2; torch's bicubic at -3/4."""

    def near(t):
        return (a + 2) * t**3 - (a + 3) * t**2 + 1

    def far(t):
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a

    return torch.stack([far(1 + m), near(m), near(1 - m), far(2 - m)], dim=-1)


# ---- the four weights ----


@pytest.mark.shapes
@pytest.mark.parametrize(
    ("m", "wanted"),
    [(0.0, [0, 1, 0, 0]), (1.0, [0, 0, 1, 0]), (0.5, [-1 / 16, 9 / 16, 9 / 16, -1 / 16])],
)
def test_the_four_weights_at_the_ends_and_the_middle_of_a_cell(m, wanted):
    assert catmull_rom(torch.tensor(m, **float64)).tolist() == wanted


def test_the_least_weight_and_the_largest_sum_of_absolute_weights():
    c = catmull_rom(line(3001))
    assert float(c.min()) == pytest.approx(-2 / 27, abs=1e-7)
    assert float(c.abs().sum(-1).max()) == pytest.approx(1.25, abs=1e-12)
    assert float(c[1500].abs().sum()) == pytest.approx(1.25, abs=1e-12)


def test_the_four_weights_are_keys_convolution_at_minus_a_half():
    torch.testing.assert_close(catmull_rom(line()), keys(line(), -0.5), atol=1e-14, rtol=0)


def test_the_four_weights_weigh_every_quadratic_right():
    place = torch.arange(-1, 3, **float64)
    for power in range(3):
        found, wanted = catmull_rom(line()) @ place**power, line() ** power
        torch.testing.assert_close(found, wanted, atol=1e-14, rtol=0)


# ---- one axis ----


@pytest.mark.shapes
@every_axis
@pytest.mark.parametrize("nodes", [2, 3, 4, 5, 9])
def test_an_axis_equals_scipys_hermite_spline(nodes, cyclic, edges):
    assert spline_error(nodes, cyclic, edges) < 1e-13


@every_axis
def test_the_law_notices_bicubic_weights(cyclic, edges, monkeypatch):
    monkeypatch.setattr(weights, "catmull_rom", lambda m: keys(m, -0.75))
    assert spline_error(9, cyclic, edges) > 1e-2


axes = st.fixed_dictionaries(
    {
        "nodes": st.integers(1, 12),
        "axis": st.sampled_from(AXES),
        "seed": st.integers(0, 10**6),
        "dtype": st.sampled_from([torch.float32, torch.float64]),
    }
)


def sum_error(nodes: int, cyclic: bool, edges: str, u: Tensor) -> float:
    return float((axis_weights(u, nodes, cyclic, edges=edges).sum(-1) - 1).abs().max())


@pytest.mark.shapes
@settings(max_examples=60)
@given(problem=axes)
def test_the_weights_sum_to_one(problem):
    generator = seeded(problem["seed"])
    u = 3 * torch.rand(5, 7, generator=generator, dtype=problem["dtype"]) - 1
    tolerance = 1e-14 if problem["dtype"] == torch.float64 else 1e-6
    assert sum_error(problem["nodes"], *problem["axis"], u) < tolerance


@pytest.mark.parametrize(("nodes", "cyclic"), [(2, False), (5, False), (3, True), (2, True)])
def test_the_law_notices_duplicates_that_overwrite(nodes, cyclic, monkeypatch):
    assert sum_error(nodes, cyclic, "clamp", line()) < 1e-14
    monkeypatch.setattr(Tensor, "scatter_add", Tensor.scatter)
    assert sum_error(nodes, cyclic, "clamp", line()) > 1e-2


@every_axis
@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 7])
def test_at_a_node_exactly_that_node_is_read(nodes, cyclic, edges):
    place = torch.arange(nodes, **float64) / (nodes if cyclic else max(1, nodes - 1))
    found = axis_weights(place, nodes, cyclic, edges=edges)
    torch.testing.assert_close(found, torch.eye(nodes, **float64), atol=1e-14, rtol=0)


@pytest.mark.parametrize("nodes", [2, 3, 4, 8])
def test_linear_ends_keep_every_ramp(nodes):
    assert ramp_error(line(), nodes, "linear") < 1e-13


@pytest.mark.parametrize("nodes", [5, 8])
def test_clamped_ends_bend_a_ramp_by_two_27ths_of_a_step_in_the_outer_cells_only(nodes):
    step = 1 / (nodes - 1)
    assert ramp_error(line(999, step, 1 - step), nodes, "clamp") < 1e-13
    for outer in (line(3001, 0, step), line(3001, 1 - step, 1)):
        assert ramp_error(outer, nodes, "clamp") == pytest.approx(2 / 27, abs=1e-5)


def test_the_ramp_notices_bicubic_weights(monkeypatch):
    monkeypatch.setattr(weights, "catmull_rom", lambda m: keys(m, -0.75))
    assert ramp_error(line(), 8, "linear") > 1e-2


@every_axis
@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_a_constant_is_kept_by_every_rule(nodes, cyclic, edges):
    assert sum_error(nodes, cyclic, edges, line(99, -2, 2)) < 1e-14


def test_one_node_weighs_exactly_one():
    for cyclic, edges in AXES:
        assert (axis_weights(line(9, -1, 2), 1, cyclic, edges=edges) == 1).all()


def test_two_clamped_nodes_share_the_middle():
    assert axis_weights(torch.tensor(0.5, **float64), 2).tolist() == [0.5, 0.5]


def test_three_cyclic_nodes_add_the_node_that_comes_twice():
    found = axis_weights(torch.tensor(1 / 6, **float64), 3, cyclic=True)
    wanted = torch.tensor([0.5625, 0.5625, -0.125], **float64)
    torch.testing.assert_close(found, wanted, atol=1e-14, rtol=0)


@pytest.mark.parametrize("edges", ["clamp", "linear"])
@pytest.mark.parametrize("nodes", [2, 6])
def test_outside_a_non_cyclic_axis_the_end_is_read(nodes, edges):
    u = torch.tensor([-0.7, -1e-9, 1 + 1e-9, 4.0], **float64).requires_grad_()
    found = axis_weights(u, nodes, False, edges=edges)
    assert torch.equal(found[:2], torch.eye(nodes, **float64)[[0, 0]])
    assert torch.equal(found[2:], torch.eye(nodes, **float64)[[-1, -1]])
    (slope,) = torch.autograd.grad((found * torch.arange(nodes)).sum(), u)
    assert (slope == 0).all()


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 5, 8])
def test_a_cyclic_axis_repeats_after_one_turn(nodes):
    u = line(97)
    wanted = axis_weights(u, nodes, cyclic=True)
    for turns in (-2, -1, 1, 3):
        found = axis_weights(u + turns, nodes, cyclic=True)
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(wanted[0], wanted[-1], atol=0, rtol=0)


@pytest.mark.parametrize("nodes", [3, 7])
def test_after_thousands_of_turns_a_place_is_what_float32_still_knows_of_it(nodes):
    far = line(100).float() + 4096
    found = axis_weights(far, nodes, cyclic=True)
    torch.testing.assert_close(found, axis_weights(far - 4096, nodes, cyclic=True))


@pytest.mark.parametrize("nodes", [3, 4, 5, 7, 49])
def test_just_below_a_whole_turn_float32_rounds_into_the_first_cell_and_not_out_of_the_grid(nodes):
    below = torch.nextafter(torch.tensor([0.0, 1.0, 2.0]), torch.tensor(-1.0))
    found = axis_weights(below, nodes, cyclic=True)
    wanted = torch.eye(nodes)[[0, 0, 0]]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def slope_of(u: Tensor, y: Tensor, cyclic: bool, edges: str) -> tuple[Tensor, Tensor]:
    u = u.clone().requires_grad_()
    value = axis_weights(u, len(y), cyclic, edges=edges) @ y
    return value.detach(), torch.autograd.grad(value.sum(), u)[0]


@every_axis
@pytest.mark.parametrize("nodes", [2, 3, 5, 8])
def test_value_and_slope_are_continuous_at_every_node_and_over_the_seam(nodes, cyclic, edges):
    y = torch.randn(nodes, **float64)
    border = torch.arange(nodes, **float64) / nodes if cyclic else line(nodes)[1:-1]
    below, above = (
        slope_of(border - 1e-9, y, cyclic, edges),
        slope_of(border + 1e-9, y, cyclic, edges),
    )
    for left, right in zip(below, above, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=0)


def test_the_slope_at_a_node_is_half_the_step_between_its_neighbours():
    y = torch.randn(6, **float64)
    _, slope = slope_of(line(6)[1:-1], y, False, "clamp")
    torch.testing.assert_close(slope, (y[2:] - y[:-2]) / 2 * 5)


@pytest.mark.parametrize(("edges", "share"), [("clamp", 0.5), ("linear", 1.0)])
@pytest.mark.parametrize("nodes", [2, 6])
def test_the_slope_at_an_end_is_the_rules(nodes, edges, share):
    y = torch.randn(nodes, **float64)
    _, slope = slope_of(line(2), y, False, edges)
    steps = torch.stack([y[1] - y[0], y[-1] - y[-2]])
    torch.testing.assert_close(slope, share * steps * (nodes - 1))


@every_axis
def test_no_more_than_four_nodes_are_read_and_their_absolute_weights_are_bounded(cyclic, edges):
    found = axis_weights(line(), 9, cyclic, edges=edges)
    assert ((found != 0).sum(-1) <= 4).all()
    assert (axis_weights(line(), 9, cyclic, edges="clamp").abs().sum(-1) <= 1.25 + 1e-12).all()


@pytest.mark.shapes
@every_axis
def test_the_gradient_of_an_axis_equals_finite_differences(cyclic, edges):
    u = torch.tensor([[0.03, 0.29], [0.55, 0.97]], **float64).requires_grad_()  # off the borders
    assert torch.autograd.gradcheck(lambda u: axis_weights(u, 6, cyclic, edges=edges), (u,))
    assert torch.autograd.gradgradcheck(lambda u: axis_weights(u, 6, cyclic, edges=edges), (u,))


@every_axis
def test_a_half_precision_place_is_found_in_float32(cyclic, edges):
    u = torch.linspace(0, 1, 33).bfloat16()  # multiples of 1/32 are exact
    found = axis_weights(u, 60, cyclic, edges=edges)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, axis_weights(u.float(), 60, cyclic, edges=edges).bfloat16())


# ---- a grid ----


@pytest.mark.shapes
@pytest.mark.parametrize("edges", ["clamp", "linear"])
def test_the_weights_of_a_grid_are_the_outer_product_of_its_axes(edges):
    g, shape, cyclic = torch.rand(9, 3, **float64), (5, 2, 7), (True, False, False)
    a, b, c = (
        axis_weights(u, nodes, wraps, edges=edges)
        for u, nodes, wraps in zip(g.T, shape, cyclic, strict=True)
    )
    wanted = torch.einsum("bi,bj,bk->bijk", a, b, c)
    torch.testing.assert_close(
        grid_weights(g, shape, cyclic, edges=edges), wanted, atol=1e-13, rtol=0
    )


def test_a_grid_without_a_list_of_cyclic_axes_has_none():
    g = torch.rand(9, 2, **float64)
    assert torch.equal(grid_weights(g, (5, 4)), grid_weights(g, (5, 4), (False, False)))


@settings(max_examples=30)
@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    cyclic=st.lists(st.booleans(), min_size=3, max_size=3),
    seed=st.integers(0, 10**6),
)
def test_the_weights_of_a_grid_sum_to_one_with_absolute_sums_below_1_25_an_axis(
    shape, cyclic, seed
):
    generator = seeded(seed)
    g = torch.rand(11, len(shape), generator=generator, **float64)
    found = grid_weights(g, shape, cyclic[: len(shape)]).flatten(1)
    assert float((found.sum(1) - 1).abs().max()) < 1e-13
    assert float(found.abs().sum(1).max()) <= 1.25 ** len(shape) + 1e-12
    assert ((found != 0).sum(1) <= 4 ** len(shape)).all()


def test_a_place_is_never_modified():
    g = 3 * torch.rand(9, 2) - 1
    before = g.clone()
    grid_weights(g, (5, 4), (True, False), edges="linear")
    assert torch.equal(g, before)
