"""The delay system as matrices: state space, discretisation, impulse response, readout."""

import math
import warnings
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from archbook.checks import (
    require_between,
    require_choice,
    require_like,
    require_positive_int,
    require_tensor,
)


def legendre_delay_matrices(
    order: int,
    theta: float,
    discretization: str = "zoh",
    *,
    dtype: torch.dtype = torch.float64,
) -> tuple[Float[Tensor, "order order"], Float[Tensor, " order"]]:
    """Discrete matrices (A_bar, B_bar) of a window of `theta` steps (2019, Eqs. 1-2; ZOH).

    theta dm/dt = A m + B u becomes m_t = A_bar m_{t-1} + B_bar u_t with a step of 1.
    Computed in float64 and cast to `dtype` last. `theta` is in steps, not in seconds.

    discretization: "zoh" holds u constant over a step (exact for such inputs, stable for every
        theta); "euler" is I + A / theta, which diverges unless theta is large against order.

    Raises TypeError or ValueError for an order that is not a positive int, a theta that is not
    a positive finite number, an unknown discretisation, a dtype other than float32 or float64;
    warns below two steps.

    >>> A_bar, B_bar = legendre_delay_matrices(order=4, theta=100.0)
    >>> A_bar.shape, B_bar.shape
    (torch.Size([4, 4]), torch.Size([4]))
    >>> bool(torch.linalg.eigvals(A_bar).abs().max() < 1)  # stable
    True
    """
    require_positive_int("order", order)
    theta = _window(theta)
    require_choice("discretization", discretization, ("zoh", "euler"))
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"wanted dtype to be torch.float32 or torch.float64, given {dtype}")
    i = torch.arange(order, dtype=torch.float64, device="cpu")
    row, col = i[:, None], i[None, :]
    sign = torch.where(row < col, -1.0, 1.0 - 2.0 * ((row - col + 1) % 2))
    A = (2 * row + 1) * sign
    B = (2 * i + 1) * (1.0 - 2.0 * (i % 2))
    if discretization == "euler":
        A_bar, B_bar = torch.eye(order, dtype=torch.float64, device="cpu") + A / theta, B / theta
    else:  # exp([[A, B], [0, 0]] / theta) = [[A_bar, B_bar], [0, 1]]: both at once
        generator = torch.zeros(order + 1, order + 1, dtype=torch.float64, device="cpu")
        generator[:order, :order] = A / theta
        generator[:order, order] = B / theta
        step = torch.linalg.matrix_exp(generator)
        A_bar, B_bar = step[:order, :order], step[:order, order]
    return A_bar.to(dtype).contiguous(), B_bar.to(dtype).contiguous()


def _window(theta: float) -> float:
    if isinstance(theta, bool) or not isinstance(theta, Real):
        raise TypeError(f"wanted theta to be a number of steps, given {theta!r}")
    if not (math.isfinite(theta) and theta > 0):
        raise ValueError(f"wanted theta to be positive and finite (steps), given {theta}")
    if theta < 2:
        warnings.warn(
            f"theta is {theta}: a window under two steps. theta is in steps, not in seconds",
            stacklevel=3,
        )
    return float(theta)


def impulse_response(
    A_bar: Float[Tensor, "order order"], B_bar: Float[Tensor, "*batch order"], length: int
) -> Float[Tensor, "*batch order length"]:
    """H = [B_bar, A_bar B_bar, ..., A_bar^(length-1) B_bar] (2021, Eq. 23), by doubling.

    H[:, k:2k] = A_bar^k H[:, :k], so log2(length) matrix products replace `length` steps.
    Cost O(order^2 length + order^3 log length). A batch of start vectors gives a batch of H.

    >>> impulse_response(torch.tensor([[0.5]]), torch.tensor([1.0]), length=4)
    tensor([[1.0000, 0.5000, 0.2500, 0.1250]])
    """
    require_positive_int("length", length)
    require_tensor("A_bar", A_bar, B_bar.shape[-1:] * 2)
    require_like("B_bar", B_bar, "A_bar", A_bar)
    H, power = B_bar.unsqueeze(-1), A_bar
    while H.shape[-1] < length:
        H = torch.cat([H, power @ H], dim=-1)
        power = power @ power
    return H[..., :length].contiguous()


def legendre_readout(
    order: int, relative_delay: Float[Tensor, " delays"]
) -> Float[Tensor, "delays order"]:
    """Rows of P_i(2r - 1): their product with m_t is u(t - r theta) (2019, Eq. 3).

    `relative_delay` is r = delay / theta in [0, 1]: 0 is now, 1 the far end of the window. The
    memory sees each sample held for one step, so the sample of k steps ago lies in the middle of
    that step, at r = (k + 1/2) / theta.

    >>> legendre_readout(3, torch.tensor([0.0, 0.5, 1.0]))  # now, the middle, the far end
    tensor([[ 1.0000, -1.0000,  1.0000],
            [ 1.0000,  0.0000, -0.5000],
            [ 1.0000,  1.0000,  1.0000]])
    """
    require_positive_int("order", order)
    require_tensor("relative_delay", relative_delay, ("delays",))
    require_between("relative_delay", relative_delay, low=0, high=1)
    x = 2 * relative_delay - 1
    rows = [torch.ones_like(x), x]
    for i in range(1, order - 1):  # Bonnet's recursion
        rows.append(((2 * i + 1) * x * rows[i] - i * rows[i - 1]) / (i + 1))
    return torch.stack(rows[:order], dim=-1)
