"""Parity with keras-lmu, an independent implementation by the papers' authors' company.

It runs in an environment of its own: `make parity`. Weights are drawn at random, copied into
both, and outputs and gradients compared in float64. Measured with keras-lmu 0.9.0 on random
weights: the recurrent form and the cell of 2019 to 1e-14; its FFT layer only to 1e-6, because
its impulse response is computed in float32 whatever its dtype.
"""

import numpy as np
import pytest
import torch
from drawing import largest
from torch import nn

from archbook.lmu import LMU, LMUCell, legendre_delay_matrices

# Their import emits warnings of their own; a warning is an error in our test run.
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

ORDER, THETA, INPUT, CHANNELS, HIDDEN = 6, 12.0, 3, 2, 5


@pytest.fixture(scope="module")
def peer():
    pytest.importorskip("keras_lmu", reason="keras-lmu is not installed: see `make parity`")
    import keras
    import keras_lmu
    import tensorflow as tf

    class Peer:
        dense, rnn, simple = keras.layers.Dense, keras.layers.RNN, keras.layers.SimpleRNNCell
        cell, feedforward = keras_lmu.LMUCell, keras_lmu.LMUFeedforward

        @staticmethod
        def outputs_and_gradients(layer, x: np.ndarray, weight: np.ndarray):
            """Outputs, their weighted sum's gradient by x, and by each weight, by name."""
            x = tf.constant(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
                total = tf.reduce_sum(y * tf.cast(weight, y.dtype))
            variables = [v.value for v in layer.trainable_variables]
            by_x, *by_weights = tape.gradient(total, [x, *variables])
            names = [v.path.split("/", 1)[-1] for v in layer.trainable_variables]
            by_name = {n: g.numpy() for n, g in zip(names, by_weights, strict=True)}
            return y.numpy(), by_x.numpy(), by_name

    return Peer


def signals(size: int, *outputs: int, dtype=np.float64) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(2, 40, size)).astype(dtype), random.normal(size=outputs)


def randomised(layer, x: np.ndarray):
    """The layer with weights of order one."""
    layer(x)  # builds it
    random = np.random.default_rng(1)
    layer.set_weights([0.5 * random.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def ours(module: nn.Module, run, x: np.ndarray, weight: np.ndarray):
    leaf = torch.from_numpy(x).requires_grad_()
    y = run(leaf)
    (y * torch.from_numpy(weight).to(y.dtype)).sum().backward()
    grads = {name: p.grad.numpy() for name, p in module.named_parameters()}
    return y.detach().numpy(), leaf.grad.numpy(), grads


def apart(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """`largest` of arrays."""
    return largest(*([torch.from_numpy(one.copy()) for one in some] for some in (found, wanted)))


def parallel_from(kernel, bias, dense, dense_bias, return_sequences=True) -> LMU:
    """Theirs has no f_1; rows of `dense`: the memory channel by channel, then the input."""
    model = LMU(
        INPUT,
        HIDDEN,
        CHANNELS,
        order=ORDER,
        theta=THETA,
        return_sequences=return_sequences,
        write_activation=nn.Identity(),
    )
    split = CHANNELS * ORDER
    names = ("U_x.weight", "U_x.bias", "U_m.weight", "W_x.weight", "W_x.bias")
    values = (kernel.T, bias, dense[:split].T, dense[split:].T, dense_bias)
    weights = {n: torch.from_numpy(v.copy()) for n, v in zip(names, values, strict=True)}
    model.to(weights["U_x.weight"].dtype).load_state_dict(weights, strict=True)
    return model


def parallel_gradients(grads: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Our gradients in the shapes and the order of their weights."""
    dense = np.concatenate([grads["U_m.weight"].T, grads["W_x.weight"].T])
    return [grads["U_x.weight"].T, grads["U_x.bias"], dense, grads["W_x.bias"]]


def parallel_apart(peer, layer, x, weight, mode="auto", return_sequences=True) -> float:
    """How far outputs and all gradients of the two layers are apart."""
    y, by_x, by_name = peer.outputs_and_gradients(layer, x, weight)
    model = parallel_from(*layer.get_weights(), return_sequences=return_sequences)
    found, found_by_x, grads = ours(model, lambda x: model(x, mode=mode), x, weight)
    return apart([found, found_by_x, *parallel_gradients(grads)], [y, by_x, *by_name.values()])


options = {"memory_d": CHANNELS, "order": ORDER, "theta": THETA, "input_to_hidden": True}


@pytest.mark.parametrize("mode", ["recurrent", "fft", "chunked"])
def test_the_parallel_model_equals_their_recurrence_in_float64(peer, mode):
    x, weight = signals(INPUT, 2, 40, HIDDEN)
    hidden = peer.dense(HIDDEN, "relu", dtype="float64")
    cell = peer.cell(**options, hidden_cell=hidden, use_bias=True, dtype="float64")
    layer = randomised(peer.rnn(cell, return_sequences=True, dtype="float64"), x)
    assert parallel_apart(peer, layer, x, weight, mode) <= 1e-9


def test_the_last_output_equals_their_recurrence_in_float64(peer):
    x, weight = signals(INPUT, 2, HIDDEN)
    hidden = peer.dense(HIDDEN, "relu", dtype="float64")
    cell = peer.cell(**options, hidden_cell=hidden, use_bias=True, dtype="float64")
    layer = randomised(peer.rnn(cell, dtype="float64"), x)
    assert parallel_apart(peer, layer, x, weight, return_sequences=False) <= 1e-9


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-5)])
def test_the_parallel_model_equals_their_fft_layer(peer, dtype, tolerance):
    x, weight = signals(INPUT, 2, 40, HIDDEN, dtype=dtype)
    hidden = peer.dense(HIDDEN, "relu", dtype=dtype)
    layer = peer.feedforward(
        **options, hidden_cell=hidden, use_bias=True, return_sequences=True, dtype=dtype
    )
    assert parallel_apart(peer, randomised(layer, x), x, weight) <= tolerance


def test_the_cell_equals_theirs_with_every_connection_in_float64(peer):
    x, weight = signals(INPUT, 2, 40, HIDDEN)
    cell = peer.cell(
        **{**options, "memory_d": 1},
        hidden_cell=peer.simple(HIDDEN, use_bias=False, dtype="float64"),
        hidden_to_memory=True,
        memory_to_memory=True,
        dtype="float64",
    )
    layer = randomised(peer.rnn(cell, return_sequences=True, dtype="float64"), x)
    y, by_x, by_name = peer.outputs_and_gradients(layer, x, weight)
    encoder, recurrent, hidden, hidden_recurrent = layer.get_weights()
    values = {
        "e_x.weight": encoder[:INPUT].T,
        "e_h.weight": encoder[INPUT:].T,
        "e_m.weight": recurrent.T,
        "W_m.weight": hidden[:ORDER].T,
        "W_x.weight": hidden[ORDER:].T,
        "W_h.weight": hidden_recurrent.T,
    }
    mine = LMUCell(INPUT, HIDDEN, ORDER, theta=THETA).double()
    mine.load_state_dict({n: torch.from_numpy(v.copy()) for n, v in values.items()}, strict=True)
    found, found_by_x, grads = ours(mine, mine.unroll, x, weight)
    grouped = [
        np.concatenate([grads["e_x.weight"].T, grads["e_h.weight"].T]),
        grads["e_m.weight"].T,
        np.concatenate([grads["W_m.weight"].T, grads["W_x.weight"].T]),
        grads["W_h.weight"].T,
    ]
    assert apart([found, found_by_x, *grouped], [y, by_x, *by_name.values()]) <= 1e-9


@pytest.mark.parametrize(("order", "theta"), [(6, 12.0), (256, 784.0), (468, 784.0)])
@pytest.mark.parametrize("discretization", ["zoh", "euler"])
def test_the_matrices_equal_theirs(peer, order, theta, discretization):
    cell = peer.cell(
        memory_d=1,
        order=order,
        theta=theta,
        hidden_cell=None,
        discretizer=discretization,
        kernel_initializer=None,
        dtype="float64",
    )
    cell.build((1, 1))
    A_bar, B_bar = legendre_delay_matrices(order, theta, discretization)
    theirs = [np.asarray(cell.A), np.asarray(cell.B)]
    assert apart([A_bar.numpy().T, B_bar.numpy()[None]], theirs) <= 1e-11
