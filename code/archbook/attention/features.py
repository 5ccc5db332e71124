"""The parts of FAVOR+: random projections, and features whose products estimate a kernel."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from archbook.checks import as_size, require_like, require_tensor

RELU_EPS = 1e-3  # keeps every product of ReLU features above zero


def gaussian_projection(
    features: int, dim: int, *, orthogonal: bool = True, generator: torch.Generator | None = None
) -> Float[Tensor, "features dim"]:
    """Rows w ~ N(0, I); orthogonal makes them orthogonal in blocks of `dim`, each still Gaussian.

    The rows of a block turn a frame that is uniform among all frames, and their lengths are those
    of independent Gaussian vectors: estimates stay unbiased and vary less.

    >>> W = gaussian_projection(4, 4)
    >>> products = W @ W.T
    >>> torch.allclose(products, products.diag().diag(), atol=1e-4)  # orthogonal rows
    True
    """
    features, dim = as_size("features", features), as_size("dim", dim)
    place = {"generator": generator, "device": generator.device if generator else None}
    if not orthogonal:
        return torch.randn(features, dim, **place)
    q, r = torch.linalg.qr(torch.randn(math.ceil(features / dim), dim, dim, **place))
    # QR fixes the signs of q by its own rule, which always looks the same way; r knows the rule
    frames = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]  # columns are the frame
    rows = frames.mT.flatten(0, 1)[:features]
    return rows * torch.randn(features, dim, **place).norm(dim=1, keepdim=True)


def softmax_features(
    x: Float[Tensor, "*batch dim"], projection: Float[Tensor, "features dim"]
) -> Float[Tensor, "*batch features"]:
    """phi(x) = exp(W x - |x|^2 / 2) / sqrt(m): the mean of phi(x) . phi(y) over W is exp(x . y).

    For attention x = q / d_h^(1/4), y = k / d_h^(1/4). Independent rows of W give the relative
    variance (exp(|x + y|^2) - 1) / m. No stabiliser and no epsilon: the estimate is unbiased, and
    overflows where W x is large.

    >>> x, y = torch.tensor([0.6, 0.0]), torch.tensor([0.5, 0.5])
    >>> W = gaussian_projection(100_000, 2)
    >>> estimate = softmax_features(x, W) @ softmax_features(y, W)
    >>> bool((estimate - torch.exp(x @ y)).abs() < 0.05)
    True
    """
    _check(x, projection)
    return softmax_exponents(x, projection).exp() / math.sqrt(len(projection))


def relu_features(
    x: Float[Tensor, "*batch dim"], projection: Float[Tensor, "features dim"]
) -> Float[Tensor, "*batch features"]:
    """phi(x) = ReLU(W x) + 0.001: a kernel of its own, no estimate of the softmax kernel.

    >>> x = torch.tensor([[1.0, -1.0]])
    >>> relu_features(x, torch.eye(2))
    tensor([[1.0010e+00, 1.0000e-03]])
    """
    _check(x, projection)
    return (x @ projection.T).relu() + RELU_EPS


def softmax_exponents(x: Tensor, projection: Tensor) -> Tensor:
    """W x - |x|^2 / 2, finite also where the square is not."""
    largest = torch.finfo(x.dtype).max / 2
    return x @ projection.T - (x.square().sum(-1, keepdim=True) / 2).clamp(max=largest)


def _check(x: Tensor, projection: Tensor) -> None:
    require_tensor("projection", projection, ("features", "dim"))
    lead = tuple(x.shape[:-1]) if isinstance(x, Tensor) else ()
    require_tensor("x", x, (*lead, projection.shape[1]))
    require_like("x", x, "projection", projection)
