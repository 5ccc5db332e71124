"""Sequences made by an equation or by a fixed order: all in float64, all from a seed."""

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from archbook.checks import as_size


def mackey_glass(
    series: int = 128,
    steps: int = 5000,
    *,
    tau: int = 17,
    substeps: int = 10,
    washout: int = 100,
    center: bool = True,
    seed: int | np.random.Generator = 0,
) -> Float[Tensor, "series steps"]:
    """The Mackey-Glass equation dx/dt = 0.2 x(t-tau) / (1 + x(t-tau)^10) - 0.1 x, squashed.

    Euler's method with `substeps` a unit of time, from a history of 1.2 + uniform(-0.1, 0.1); the
    first `washout` units are dropped, then tanh(x - 1), then (`center`) one mean over all series
    is removed, as in the 2019 LMU experiment. To predict k steps ahead over n steps, ask for
    n + k. Only sums, products and quotients, element by element, touch the state: a chaotic series
    would turn another order of rounding into another series.

    >>> series = mackey_glass(series=2, steps=300)
    >>> series.shape, bool(series.mean().abs() < 1e-6)
    (torch.Size([2, 300]), True)
    """
    series, steps = as_size("series", series), as_size("steps", steps)
    tau, substeps = as_size("tau", tau), as_size("substeps", substeps)
    washout = as_size("washout", washout, least=0)
    delay = tau * substeps
    draw = np.random.default_rng(seed).random((series, delay))
    past = 1.2 + 0.2 * (draw.T - 0.5)  # (delay, series), oldest first
    x = np.full(series, 1.2)
    length = (washout + steps) * substeps
    blocks = []
    for _ in range(-(-length // delay)):
        # inside one delay the feedback reads the past alone, so it is known for the whole block
        square = past * past
        fourth = square * square
        gain = 0.2 * past / (1.0 + fourth * fourth * square)
        now = np.empty_like(past)
        for j in range(delay):
            now[j] = x  # x(t) leaves for the history before it moves on
            x = x + (gain[j] - 0.1 * x) / substeps
        blocks.append(now)
        past = now
    fine = np.concatenate([*blocks, x[None]])
    units = fine[substeps::substeps][washout : washout + steps]  # one value a unit of time
    out = np.tanh(units - 1.0)
    if center:
        out = out - out.mean()
    return torch.from_numpy(np.ascontiguousarray(out.T))


def prediction_pairs(
    series: Float[Tensor, "*batch steps"], ahead: int = 15
) -> tuple[Float[Tensor, "*batch rest"], Float[Tensor, "*batch rest"]]:
    """(inputs, targets) = (x[t], x[t + ahead]): the target lies in the future.

    A public notebook for this task had the two swapped, which asks for a delay and not for a
    prediction.

    >>> inputs, targets = prediction_pairs(torch.arange(6), ahead=2)
    >>> inputs, targets
    (tensor([0, 1, 2, 3]), tensor([2, 3, 4, 5]))
    """
    steps = series.shape[-1]
    ahead = as_size("ahead", ahead)
    if not ahead < steps:
        raise ValueError(f"wanted 0 < ahead < {steps} (the steps given), given {ahead}")
    return series[..., :-ahead], series[..., ahead:]


def nrmse(prediction: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"]) -> float:
    """Root mean square error over the root mean square of the target, all entries as one.

    >>> target = torch.tensor([3.0, -4.0])
    >>> nrmse(target, target), nrmse(torch.zeros(2), target)
    (0.0, 1.0)
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"wanted a prediction of the target's shape {tuple(target.shape)}, "
            f"given {tuple(prediction.shape)}"
        )
    error = (prediction.double() - target.double()).square().mean()
    return math.sqrt(error / target.double().square().mean())


def white_signal(
    batch: int,
    steps: int,
    *,
    dt: float = 0.001,
    high: float = 10.0,
    rms: float = 0.5,
    seed: int | np.random.Generator = 0,
) -> Float[Tensor, "batch steps"]:
    """White noise with no power above `high` hertz nor at zero: random Fourier coefficients.

    `dt` is the length of a step in seconds. `rms` is the expected root mean square; a single
    signal scatters around it. Each signal repeats after `steps`, so cut what must not wrap around
    from a longer one.

    >>> signal = white_signal(batch=2, steps=1000)
    >>> signal.shape, round(float(signal.square().mean().sqrt()), 1)
    (torch.Size([2, 1000]), 0.4)
    """
    batch, steps = as_size("batch", batch), as_size("steps", steps)
    if not (dt > 0 and high > 0 and rms > 0):
        raise ValueError(f"wanted dt, high, rms > 0, given {dt}, {high}, {rms}")
    count = math.floor(high * steps * dt + 1e-9)  # frequencies k / (steps dt), k = 1..count
    if not 1 <= count < steps / 2:
        raise ValueError(
            f"wanted a frequency between 1 / (steps dt) = {1 / (steps * dt):g} Hz and high, and "
            f"high below 1 / (2 dt) = {0.5 / dt:g} Hz, given high = {high:g} Hz"
        )
    rng = np.random.default_rng(seed)
    real, imaginary = rng.standard_normal((batch, 2, count)).swapaxes(0, 1)
    spectrum = np.zeros((batch, steps // 2 + 1), dtype=np.complex128)
    spectrum[:, 1 : count + 1] = real + 1j * imaginary
    # a coefficient c adds |2 c / steps|^2 / 2 to the mean square, and E|c|^2 = 2
    return torch.from_numpy(np.fft.irfft(spectrum, n=steps) * (rms * steps / (2 * count**0.5)))


def permuted(
    images: UInt8[Tensor, "n height width"], seed: int = 0
) -> Float[Tensor, "n height*width"]:
    """Images as pixel sequences in one fixed random order, float32 in [0, 1] (psMNIST).

    The order is numpy's `default_rng(seed).permutation(height * width)`; published runs used
    orders of their own.

    >>> sequences = permuted(digits()[0])
    >>> sequences.shape, sequences.dtype
    (torch.Size([1797, 64]), torch.float32)
    """
    if images.dtype != torch.uint8 or images.ndim != 3:
        raise ValueError(
            "wanted uint8 images of shape (n, height, width), "
            f"given {images.dtype} of shape {tuple(images.shape)}"
        )
    pixels = images.flatten(1)  # (n, height*width)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(pixels.shape[1]))
    return pixels[:, order].float().div_(255)
