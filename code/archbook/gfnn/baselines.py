"""The models that a grid is compared with: no experts, experts along a phase, a learned gate."""

import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archbook.checks import require_choice, require_finite, require_input, require_positive_int
from archbook.gfnn.network import (
    ACTIVATIONS,
    ExpertLinear,
    GridLinear,
    grid_mixing,
    layer_sizes,
    run_layers,
)
from archbook.gfnn.orders import dense
from archbook.shaped import Shaped


class MLP(Shaped):
    """The plain network: one expert, no grid. Glorot's uniform weights, zero biases.

    `hidden` as in `GridFunctionedNetwork`.

    >>> model = MLP(2, (16, 8), 1)
    >>> model(torch.rand(5, 2)).shape
    torch.Size([5, 1])
    """

    shaped_by = {"activation": "activation"}

    def __init__(
        self,
        in_features: int,
        hidden: int | Sequence[int],
        out_features: int,
        *,
        activation: str = "elu",
    ):
        super().__init__()
        require_positive_int("in_features", in_features)
        require_positive_int("out_features", out_features)
        require_choice("activation", activation, tuple(ACTIVATIONS))
        self.in_features, self.activation = in_features, activation
        self.layers = nn.ModuleList(
            nn.Linear(*size) for size in layer_sizes(in_features, hidden, out_features)
        )
        for name, parameter in self.named_parameters():
            (nn.init.zeros_ if name.endswith("bias") else nn.init.xavier_uniform_)(parameter)

    def forward(self, x: Float[Tensor, "batch in"]) -> Float[Tensor, "batch out"]:
        require_input("x", x, ("batch", self.in_features), next(self.parameters()))
        require_finite("x", x)
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        return self.layers[-1](x)


class FourierMLP(nn.Module):
    """An MLP on random Fourier features cos(2 pi B x), sin(2 pi B x) (Tancik et al. 2020).

    B (frequencies, in) is drawn once from a normal distribution of width `scale`, in periods a
    unit of x, and stays fixed; it belongs to the state_dict. The usual cure for what a plain
    network learns late, local detail, and one without experts.

    >>> model = FourierMLP(2, 16, 1, frequencies=8, scale=4.0)
    >>> model(torch.rand(5, 2)).shape, model.B.shape
    (torch.Size([5, 1]), torch.Size([8, 2]))
    """

    def __init__(
        self,
        in_features: int,
        hidden: int | Sequence[int],
        out_features: int,
        *,
        frequencies: int = 64,
        scale: float = 1.0,
        activation: str = "elu",
    ):
        super().__init__()
        require_positive_int("in_features", in_features)
        require_positive_int("frequencies", frequencies)
        if not 0 < scale < math.inf:
            raise ValueError(f"wanted scale to be positive and finite, given {scale}")
        self.register_buffer("B", scale * torch.randn(frequencies, in_features))
        self.mlp = MLP(2 * frequencies, hidden, out_features, activation=activation)

    B: Tensor

    def forward(self, x: Float[Tensor, "batch in"]) -> Float[Tensor, "batch out"]:
        require_input("x", x, ("batch", self.B.shape[1]), self.B)
        require_finite("x", x)
        turns = 2 * math.pi * (x[:, None] * self.B).sum(-1)  # no product that autocast would round
        return self.mlp(torch.cat([turns.cos(), turns.sin()], -1))


class PhaseFunctionedNetwork(Shaped):
    """PFNN (Holden et al. 2017): a network on a cyclic grid of four nodes on one axis, the phase.

    phase (batch,), in turns: 0 and 1 are the same. 4 P stored numbers, 4 P + M multiply-adds.
    Deviates from the paper: no dropout; Glorot's weights in place of +-sqrt(6 / (in out)).

    >>> model = PhaseFunctionedNetwork(3, 16, 2)
    >>> x = torch.randn(5, 3)
    >>> torch.allclose(model(x, torch.zeros(5)), model(x, torch.ones(5)))  # one place
    True
    """

    shaped_by = {"activation": "activation"}

    def __init__(
        self,
        in_features: int,
        hidden: int | Sequence[int],
        out_features: int,
        *,
        activation: str = "elu",
    ):
        super().__init__()
        require_choice("activation", activation, tuple(ACTIVATIONS))
        self.activation = activation
        self.layers = nn.ModuleList(
            GridLinear(inputs, outputs, (4,), cyclic=(True,))
            for inputs, outputs in layer_sizes(in_features, hidden, out_features)
        )

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Float[Tensor, "batch in"], phase: Float[Tensor, " batch"], order: str = "auto"
    ) -> Float[Tensor, "batch out"]:
        """order: in which the same sums are done, see `archbook.gfnn.orders.mixing`."""
        layers = cast("list[GridLinear]", list(self.layers))
        weight = layers[0].W
        require_input("x", x, ("batch", weight.shape[2]), weight)
        require_input("phase", phase, (x.shape[0],), weight)
        require_finite("x", x)
        require_finite("phase", phase)
        return run_layers(
            layers, grid_mixing(layers, phase[:, None], order), x, activation=self.activation
        )

    def extra_repr(self) -> str:
        return f"activation={self.activation!r}"


class ModeAdaptiveNetwork(Shaped):
    """MANN (Zhang et al. 2018): the weights of the experts come from a second network.

    omega(z) = softmax(gate(z)), z (batch, gate_features) being the part of the input that the gate
    sees. Learned and dense where a grid's weights are given and local: every sample pays for all
    experts. A convex mixture, which Catmull-Rom's is not.
    Deviates from the paper: no dropout; Glorot's weights for the experts as for the gate.

    >>> model = ModeAdaptiveNetwork(3, 16, 2, gate_features=4, experts=6)
    >>> x, z = torch.randn(5, 3), torch.randn(5, 4)
    >>> model(x, z).shape, model.omega(z).shape
    (torch.Size([5, 2]), torch.Size([5, 6]))
    """

    shaped_by = {"activation": "activation"}

    def __init__(
        self,
        in_features: int,
        hidden: int | Sequence[int],
        out_features: int,
        *,
        gate_features: int,
        experts: int = 8,
        gate_hidden: int | Sequence[int] = 32,
        activation: str = "elu",
    ):
        super().__init__()
        require_positive_int("experts", experts)
        require_positive_int("gate_features", gate_features)
        require_choice("activation", activation, tuple(ACTIVATIONS))
        self.activation = activation
        self.gate = MLP(gate_features, gate_hidden, experts, activation=activation)
        self.layers = nn.ModuleList(
            ExpertLinear(inputs, outputs, experts)
            for inputs, outputs in layer_sizes(in_features, hidden, out_features)
        )

    def omega(self, z: Float[Tensor, "batch gate"]) -> Float[Tensor, "batch experts"]:
        """The weights of the experts: positive, sum 1."""
        require_input("z", z, ("batch", self.gate.in_features), next(self.parameters()))
        require_finite("z", z)
        return self.gate(z).softmax(-1)

    def forward(
        self, x: Float[Tensor, "batch in"], z: Float[Tensor, "batch gate"]
    ) -> Float[Tensor, "batch out"]:
        layers = cast("list[ExpertLinear]", list(self.layers))
        weight = layers[0].W
        require_input("x", x, ("batch", weight.shape[2]), weight)
        require_input("z", z, (x.shape[0], self.gate.in_features), weight)
        require_finite("x", x)
        return run_layers(layers, partial(dense, self.omega(z)), x, activation=self.activation)
