"""FAVOR+ in parts: what the random features estimate, how well, and what breaks the estimate."""

import itertools
import math
from functools import cache

import pytest
import torch
from drawing import gap, normal, seeded
from plain_attention import qkv
from torch import Tensor

from archbook.attention import (
    FullAttention,
    PerformerAttention,
    gaussian_projection,
    relu_features,
    softmax_features,
)

DIM = 16
both_draws = pytest.mark.parametrize("orthogonal", [False, True], ids=["iid", "orthogonal"])


@cache
def projections(draws: int, features: int, orthogonal: bool, dim: int = DIM) -> Tensor:
    """(draws, features, dim) in float64."""
    generator = seeded(8)
    given = {"orthogonal": orthogonal, "generator": generator}
    drawn = [gaussian_projection(features, dim, **given) for _ in range(draws)]
    return torch.stack(drawn).double()


def vector(norm: float, seed: int, dim: int = DIM) -> Tensor:
    x = normal(dim, seed=seed)
    return norm * x / x.norm()


def estimates(x: Tensor, y: Tensor, drawn: Tensor) -> Tensor:
    """One for each projection, divided by the kernel that they estimate."""
    rows = drawn.flatten(0, 1)
    products = softmax_features(x, rows) * softmax_features(y, rows) * len(drawn)
    return products.unflatten(0, drawn.shape[:2]).sum(1) / torch.exp(x @ y)


# ---- the projection ----


@pytest.mark.shapes
@pytest.mark.parametrize("features", [1, 5, 16, 17, 40])
def test_orthogonal_rows_are_orthogonal_in_blocks(features):
    W = gaussian_projection(features, DIM, generator=seeded(0)).double()
    assert W.shape == (features, DIM)
    for block in W.split(DIM):
        gram = block @ block.T
        assert gap(gram, torch.diag(gram.diagonal())) < 1e-4


@both_draws
def test_every_entry_is_standard_normal(orthogonal):
    """The sign rule of QR, left in, would make the first entry of a block always negative."""
    W = projections(2000, 5, orthogonal, dim=3)
    assert gap(W.mean(0), torch.zeros(5, 3).double()) < 5 / 2000**0.5
    assert gap(W.square().mean(0), torch.ones(5, 3).double()) < 5 * (2 / 2000) ** 0.5
    assert gap(W.pow(4).mean(0), torch.full((5, 3), 3.0).double()) < 5 * (96 / 2000) ** 0.5


def test_a_generator_fixes_the_projection_and_none_takes_the_global_one():
    first, again = (gaussian_projection(5, 3, generator=seeded(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, gaussian_projection(5, 3, generator=seeded(2)))
    torch.manual_seed(1)
    assert torch.equal(first, gaussian_projection(5, 3))


# ---- the softmax kernel ----


@pytest.mark.shapes
def test_the_features_are_their_formula():
    x, W = normal(2, 5, 4), normal(7, 4, seed=1)
    found, relu = softmax_features(x, W), relu_features(x, W)
    for b in range(2):
        for s in range(5):
            for r in range(7):
                u = sum(W[r, i] * x[b, s, i] for i in range(4))
                square = sum(x[b, s, i] ** 2 for i in range(4))
                assert found[b, s, r] == pytest.approx(math.exp(u - square / 2) / math.sqrt(7))
                assert relu[b, s, r] == pytest.approx(max(float(u), 0) + 1e-3)


@both_draws
@pytest.mark.parametrize(("features", "norm"), [(16, 0.5), (16, 1.0), (40, 1.0)])
def test_the_kernel_is_estimated_without_bias(features, norm, orthogonal):
    """Also along the first axis, where QR's sign rule would show."""
    for x, y in [(vector(norm, 1), vector(norm, 2)), (norm * torch.eye(DIM).double()[0],) * 2]:
        found = estimates(x, y, projections(2000, features, orthogonal))
        assert abs(float(found.mean()) - 1) < 5 * float(found.std()) / 2000**0.5


@pytest.mark.parametrize("features", [16, 64])
@pytest.mark.parametrize("norm", [0.5, 0.8])
def test_the_variance_of_independent_features_has_a_closed_form(norm, features):
    x, y = vector(norm, 1), vector(norm, 2)
    wanted = (math.exp(float((x + y).square().sum())) - 1) / features
    found = estimates(x, y, projections(6000, features, False))
    assert float(found.var()) == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("features", [4, 16])
def test_orthogonal_features_vary_less(features):
    x, y = vector(1.0, 1), vector(1.0, 2)
    iid, orthogonal = (
        float(estimates(x, y, projections(2000, features, kind)).var()) for kind in (False, True)
    )
    assert orthogonal < 0.9 * iid


def test_positive_features_cannot_be_negative_and_waves_can():
    """Sines and cosines estimate the same kernel; where it is small, some estimates are negative.

    Their relative variance at y = -x grows as exp(2 |x|^2), that of positive features is zero.
    """
    x, W = vector(1.5, 1), projections(200, 64, False)
    y = -x
    waves = torch.stack([(w @ (x - y)).cos().mean() for w in W]) * torch.exp(x @ x)
    positive = estimates(x, y, W)
    assert all((softmax_features(normal(50, DIM) * 2, w) > 0).all() for w in W[:3])
    assert gap(positive, torch.ones(200).double()) < 1e-12
    assert (waves < 0).any()


def test_the_relu_kernel_is_not_the_softmax_kernel():
    x, y, W = vector(1.0, 1), vector(1.0, 2), normal(4096, DIM)
    value = relu_features(x, W) @ relu_features(y, W) / 4096
    assert abs(float(value / torch.exp(x @ y)) - 1) > 0.3


# ---- attention made of them ----


def attention_errors(sizes: list[int], orthogonal: bool = True) -> list[float]:
    """Relative error of the output against full attention, mean of 30 draws."""
    q, k, v = qkv(1, 1, 64, DIM)
    q, k = q / 4, k / 4
    wanted = FullAttention()(q, k, v)
    errors = []
    for features in sizes:
        drawn = [
            PerformerAttention(DIM, features, orthogonal=orthogonal, generator=seeded(s)).double()
            for s in range(30)
        ]
        errors.append(sum(float((p(q, k, v) - wanted).norm() / wanted.norm()) for p in drawn) / 30)
    return errors


@both_draws
def test_the_error_of_attention_falls_as_the_root_of_the_number_of_features(orthogonal):
    errors = attention_errors([64, 256, 1024], orthogonal)
    for more, less in itertools.pairwise(errors):
        assert -0.6 < math.log(less / more) / math.log(4) < -0.4
    assert errors[-1] < 0.05


def test_the_performer_keeps_the_projection_of_its_generator():
    layer = PerformerAttention(3, 5, generator=seeded(1))
    assert torch.equal(layer.projection, gaussian_projection(5, 3, generator=seeded(1)))
    iid = PerformerAttention(3, 5, orthogonal=False, generator=seeded(1))
    wanted = gaussian_projection(5, 3, orthogonal=False, generator=seeded(1))
    assert torch.equal(iid.projection, wanted)
    assert not list(layer.parameters())
