"""Parity with performer-pytorch, an independent implementation: FAVOR+ by a copied projection.

It runs in an environment of its own: `make parity`. Their defaults add an epsilon to features that
are scaled by a maximum over all keys; without it, the outputs agree. Outputs and gradients in
float64; measured with performer-pytorch 1.1.4: 1e-14.
"""

import math
from functools import partial

import pytest
import torch
from drawing import gap
from plain_attention import performer, qkv, with_gradients

# A warning of their import would be an error in our test run.
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def peer():
    return pytest.importorskip(
        "performer_pytorch.performer_pytorch",
        reason="performer-pytorch is not installed: see `make parity`",
    )


def features(peer, layer, x, is_query: bool, eps: float = 0):
    if layer.kernel == "relu":
        return peer.generalized_kernel(x, projection_matrix=layer.projection)
    return peer.softmax_kernel(x, projection_matrix=layer.projection, is_query=is_query, eps=eps)


def both_features(peer, layer, q, k):
    return features(peer, layer, q, True), features(peer, layer, k, False)


@pytest.mark.parametrize("kernel", ["softmax", "relu"])
def test_outputs_and_gradients_are_theirs(peer, kernel):
    layer, case = performer(kernel, features=20).double(), qkv(seq=50)

    def theirs(q, k, v):
        return peer.linear_attention(*both_features(peer, layer, q, k), v)

    assert gap(with_gradients(layer, *case), with_gradients(theirs, *case)) < 1e-11


@pytest.mark.parametrize("kernel", ["softmax", "relu"])
def test_causal_outputs_and_gradients_are_theirs(peer, kernel):
    layer, case = performer(kernel, features=20).double(), qkv(seq=150)

    def theirs(q, k, v):
        q, k = both_features(peer, layer, q, k)
        return peer.causal_linear_attention_noncuda(q, k, v, chunk_size=3, eps=0)

    ours = partial(layer, group=1)
    assert gap(with_gradients(ours, *case), with_gradients(theirs, *case)) < 1e-11


def test_their_layer_with_the_relu_kernel_is_ours(peer):
    """The only kernel that their layer computes without the softmax epsilon."""
    layer, case = performer("relu", features=20).double(), qkv(seq=50)
    known = peer.FastAttention(4, 20, generalized_attention=True).double()
    known.projection_matrix.copy_(layer.projection)
    assert gap(layer(*case), known(*case)) < 1e-12


def test_their_epsilon_pulls_the_outputs_towards_the_mean(peer):
    layer, (q, k, v) = performer(features=20).double(), qkv(seq=50)
    known = peer.FastAttention(4, 20).double()
    known.projection_matrix.copy_(layer.projection)
    ours, mean = layer(3 * q, 3 * k, v), v.mean(2, keepdim=True)
    theirs = known(3 * q, 3 * k, v)
    assert gap(theirs, ours) > 1e-3
    assert (theirs - mean).norm() < (ours - mean).norm()


def test_their_orthogonal_projection_leans_to_one_side(peer):
    """The sign rule of QR is left in: the first entry of each block is never positive."""
    drawn = torch.stack([peer.gaussian_orthogonal_random_matrix(4, 4)[0, 0] for _ in range(200)])
    assert (drawn <= 0).all()
    assert drawn.mean() < -math.sqrt(2 / math.pi) / 2
