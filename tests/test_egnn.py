"""The equivariant layer: its equations, its law, and broken twins that must fail them."""

import pytest
import torch
from drawing import largest, normal, order_one, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_egnn import (
    EDGES,
    HIDDEN,
    VARIANTS,
    Case,
    case_of,
    in_order,
    law_error,
    layer_of,
    outputs_and_gradients,
    rotation,
    slow_egcl,
)

from archbook.egnn import EGCL

every_variant = pytest.mark.parametrize("variant", VARIANTS)


# ---- the equations ----


@pytest.mark.shapes
@every_variant
def test_the_layer_equals_the_papers_double_loop(variant):
    layer = layer_of(variant)
    case = case_of(layer, HIDDEN)
    found = outputs_and_gradients(in_order(layer), layer, case)
    wanted = outputs_and_gradients(lambda *c: slow_egcl(layer, *c), layer, case)
    assert largest(found, wanted) < 1e-12


def test_the_perceptrons_are_the_papers():
    """Names, activations and biases; the double loop above takes them as they are."""
    layer = EGCL(4, 2, velocity=True, attention=True)
    linear, swish = torch.nn.Linear, torch.nn.SiLU
    kinds = {name: [type(part) for part in mlp] for name, mlp in layer.named_children()}
    assert kinds == {
        "phi_e": [linear, swish, linear, swish],
        "phi_h": [linear, swish, linear],
        "phi_x": [linear, swish, linear],
        "phi_v": [linear, swish, linear],
        "phi_inf": [linear, torch.nn.Sigmoid],
    }
    biased = [part.bias is not None for part in layer.modules() if isinstance(part, linear)]
    assert biased.count(False) == 1
    assert layer.phi_x[2].bias is None


@pytest.mark.slow
@every_variant
def test_the_gradients_equal_finite_differences(variant):
    layer = order_one(EGCL(2, **VARIANTS[variant]))
    case = case_of(layer, 2, n=2, edges=EDGES[:, :4], nodes=4)
    inputs = [t.requires_grad_() for t in case if t is not None and t.is_floating_point()]
    assert torch.autograd.gradcheck(
        lambda *_: in_order(layer)(*case), (*inputs, *layer.parameters())
    )


# ---- the law ----


@pytest.mark.shapes
@pytest.mark.parametrize("mirrored", [False, True], ids=["turned", "mirrored"])
@pytest.mark.parametrize("n", [2, 3, 7])
@every_variant
def test_the_layer_commutes_with_rotations_reflections_and_shifts(variant, n, mirrored):
    layer = layer_of(variant)
    Q, g = rotation(n, seed=n, mirrored=mirrored), 3 * normal(n, seed=8)
    assert law_error(in_order(layer), case_of(layer, HIDDEN, n), Q, g) < 1e-10


@every_variant
def test_in_float32_the_law_holds_to_rounding(variant):
    layer = layer_of(variant).float()
    case = case_of(layer, HIDDEN).to(torch.float32)
    Q, g = rotation(3, mirrored=True).float(), normal(3, seed=8).float()
    assert law_error(in_order(layer), case, Q, g) < 1e-4
    assert law_error(in_order(layer), case, torch.eye(3), torch.full((3,), 1000.0)) < 1e-2


@every_variant
def test_a_shift_by_a_thousand_is_only_a_shift(variant):
    layer = layer_of(variant)
    far = torch.full((3,), 1000.0).double()
    assert law_error(in_order(layer), case_of(layer, HIDDEN), torch.eye(3).double(), far) < 1e-9


@every_variant
def test_the_gradient_by_positions_turns_with_them(variant):
    layer = layer_of(variant)
    case, Q, g = case_of(layer, HIDDEN), rotation(3, mirrored=True), normal(3, seed=8)

    def gradient(x, v, turn):
        x = x.requires_grad_()
        h_out, x_out = in_order(layer)(case.h, x, case.edges, case.edge_attr, v)[:2]
        seen = (h_out * normal(*h_out.shape)).sum() + (x_out * (normal(*x_out.shape) @ turn)).sum()
        return torch.autograd.grad(seen, x)[0]

    v = case.v if case.v is None else case.v @ Q.T
    turned = gradient(case.x @ Q.T + g, v, Q.T)
    still = gradient(case.x.clone(), case.v, torch.eye(3).double())
    assert largest(turned, still @ Q.T) < 1e-10


@every_variant
def test_renumbered_nodes_and_edges_give_renumbered_outputs(variant):
    layer = layer_of(variant)
    case = case_of(layer, HIDDEN)
    node, edge = torch.randperm(7), torch.randperm(EDGES.shape[1])
    renumbered = Case(
        case.h[node],
        case.x[node],
        node.argsort()[EDGES[:, edge]],
        None if case.edge_attr is None else case.edge_attr[edge],
        None if case.v is None else case.v[node],
    )
    assert (
        largest(in_order(layer)(*renumbered), [out[node] for out in in_order(layer)(*case)]) < 1e-12
    )


@pytest.mark.shapes
@settings(max_examples=40)
@given(
    variant=st.sampled_from(list(VARIANTS)),
    n=st.integers(1, 9),
    nodes=st.integers(1, 8),
    edges=st.integers(0, 20),
    seed=st.integers(0, 10**6),
    mirrored=...,
)
def test_the_law_holds_at_any_size(variant, n, nodes, edges, seed, mirrored: bool):
    layer = layer_of(variant, seed=seed)
    generator = seeded(seed)
    edges = torch.randint(nodes, (2, edges), generator=generator)
    if layer.normalize:
        edges = edges[:, edges[0] != edges[1]]
    case = case_of(layer, HIDDEN, n, edges, nodes, seed)
    assert law_error(in_order(layer), case, rotation(n, seed, mirrored=mirrored), normal(n)) < 1e-10


# ---- broken twins: each must fail the law that the layer passes ----


class PerAxis(EGCL):
    """phi_x gives a number for every axis."""

    def __init__(self, hidden, **options):
        super().__init__(hidden, **options)
        self.phi_x[-1] = torch.nn.Linear(hidden, 3, bias=False)


class SeesPosition(EGCL):
    """An absolute coordinate leaks into the features."""

    def forward(self, h, x, *rest, **more):
        return super().forward(h + x[:, :1], x, *rest, **more)


class SeesNorm(EGCL):
    """|x|^2 leaks into the features: fine under rotations, not under shifts."""

    def forward(self, h, x, *rest, **more):
        return super().forward(h + x.square().sum(-1, keepdim=True), x, *rest, **more)


class Clips(EGCL):
    """Each component of a displacement is clipped, as in the authors' files, and reached."""

    def forward(self, h, x, *rest, **more):
        features, moved, *velocities = super().forward(h, x, *rest, **more)
        return features, x + (moved - x).clamp(-0.2, 0.2), *velocities


@pytest.mark.parametrize("variant", ["plain", "velocity"])
@pytest.mark.parametrize("twin", [PerAxis, SeesPosition, SeesNorm, Clips])
def test_the_law_notices_a_broken_layer(twin, variant):
    layer = layer_of(variant, twin)
    assert law_error(in_order(layer), case_of(layer, HIDDEN), rotation(3), normal(3, seed=8)) > 1e-2


def test_the_law_notices_a_shift_applied_to_velocities():
    layer = layer_of("velocity")
    case, Q, g = case_of(layer, HIDDEN), rotation(3), normal(3, seed=8)
    assert law_error(in_order(layer), case, Q, g, shift_of_v=1.0) > 1e-2
