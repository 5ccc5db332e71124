"""Networks whose weights are a smooth function of a place on a grid."""

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from archbook.checks import require_choice, require_finite, require_input, require_positive_int
from archbook.gfnn.orders import Mixing, mixing
from archbook.gfnn.weights import Grid
from archbook.shaped import Shaped

ACTIVATIONS = {  # the ReLU is here to show what it breaks: a network with it is not C1 in g
    "elu": F.elu,
    "gelu": F.gelu,
    "relu": F.relu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}
INITS = ("independent", "tied")


class ExpertLinear(Shaped):
    """The parameters of one layer of all experts: W (experts, out, in), b (experts, out).

    init: every expert is drawn by itself ("independent"), or all are copies of one draw ("tied");
    Glorot's uniform weights, zero biases.
    """

    def __init__(
        self, in_features: int, out_features: int, experts: int, *, init: str = "independent"
    ):
        super().__init__()
        require_positive_int("in_features", in_features)
        require_positive_int("out_features", out_features)
        require_positive_int("experts", experts)
        require_choice("init", init, INITS)
        self.init = init
        self.W = nn.Parameter(torch.empty(experts, out_features, in_features))
        self.b = nn.Parameter(torch.empty(experts, out_features))
        self.reset_parameters()

    def forward(self, x: Float[Tensor, "batch in"], *, mix: Mixing) -> Float[Tensor, "batch out"]:
        """With the rule by which a network mixes its experts, and inputs that it has checked."""
        return mix(self.W, self.b, x)

    def reset_parameters(self) -> None:
        _, out_features, in_features = self.W.shape
        bound = math.sqrt(6 / (in_features + out_features))
        drawn = torch.empty_like(self.W[:1] if self.init == "tied" else self.W)
        with torch.no_grad():
            self.W.copy_(drawn.uniform_(-bound, bound))
            self.b.zero_()

    def extra_repr(self) -> str:
        experts, out_features, in_features = self.W.shape
        return f"in_features={in_features}, out_features={out_features}, experts={experts}"


class GridLinear(ExpertLinear):
    """A linear layer that varies with g: y = sum_k omega_k(g) (W_k x + b_k).

    omega_k(g): see `grid_weights`, with its `cyclic` and `edges`. Experts are numbered with the
    last axis of the grid running fastest. Stores prod N_d (in + 1) out numbers.
    Errors: ValueError or TypeError for a wrong shape, dtype, device or size, for NaN.

    >>> layer = GridLinear(3, 2, (4, 5))
    >>> layer(torch.randn(6, 3), torch.rand(6, 2)).shape
    torch.Size([6, 2])
    >>> layer.W.shape  # one expert a node
    torch.Size([20, 2, 3])
    """

    shaped_by = {"grid_shape": "grid.shape", "cyclic": "grid.cyclic", "edges": "grid.edges"}

    def __init__(
        self,
        in_features: int,
        out_features: int,
        grid_shape: Sequence[int],
        *,
        cyclic: Sequence[bool] | None = None,
        edges: str = "clamp",
        init: str = "independent",
    ):
        grid = Grid(grid_shape, cyclic, edges)
        super().__init__(in_features, out_features, grid.experts, init=init)
        self.grid = grid

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        x: Float[Tensor, "batch in"],
        g: Float[Tensor, "batch grid_dims"] | None = None,
        order: str = "auto",
        *,
        mix: Mixing | None = None,
    ) -> Float[Tensor, "batch out"]:
        """order: in which the same sums are done, see `archbook.gfnn.orders.mixing`.

        A network gives its layers the `mix` at places that it has checked, in place of g.
        """
        if mix is None:
            g = self.require_inputs(x, g)
            mix = grid_mixing([self], g, order)
        return super().forward(x, mix=mix)

    def require_inputs(self, x: Tensor, g: Tensor | None) -> Tensor:
        """g; raise unless x fits the weights and g the grid, in one batch, without NaN."""
        require_input("x", x, ("batch", self.W.shape[2]), self.W)
        places = cast(Tensor, g)
        require_input("g", places, (x.shape[0], self.grid.dims), self.W)
        require_finite("x", x)
        require_finite("g", places)
        return places

    def extra_repr(self) -> str:
        grid = f"grid_shape={self.grid.shape}, cyclic={self.grid.cyclic}"
        return f"{super().extra_repr()}, {grid}, edges={self.grid.edges!r}"


class GridFunctionedNetwork(Shaped):
    """A network whose parameters are blended of a grid of experts, for every sample anew.

    W^l(g) = sum_k omega_k(g) W_k^l, b^l(g) likewise; h^0 = x, h^l = act(W^l(g) h^(l-1) + b^l(g)),
    the last layer without act. Whether g is a part of x too is the caller's choice.

    hidden: the widths of the hidden layers; one int stands for two such layers, as in PFNN and
    MANN. grid_shape: nodes of each axis of g; cyclic, edges: see `axis_weights`. init: "tied"
    begins with one network everywhere on the grid, "independent" with a different one at each node;
    a node in whose neighbourhood no sample lies keeps it. Stores prod N_d times what one expert
    does; a sample costs 4^D experts, whatever N_d.

    C1 in g inside the grid and over the seam of a cyclic axis, with any activation but "relu"; not
    C2. A coordinate outside [0, 1] of a non-cyclic axis is clamped.
    Errors: ValueError or TypeError for a wrong shape, dtype, device or size, for NaN.
    Deviates from the paper: activation, ends of an axis and init are our choice, since the paper's
    are not known to us.

    >>> model = GridFunctionedNetwork(3, 16, 2, grid_shape=(4, 5), cyclic=(True, False))
    >>> x, g = torch.randn(6, 3), torch.rand(6, 2)
    >>> model(x, g).shape
    torch.Size([6, 2])
    >>> once_round = torch.tensor([1.0, 0.0])
    >>> torch.allclose(model(x, g + once_round), model(x, g), atol=1e-5)
    True
    """

    shaped_by = {"activation": "activation"}

    def __init__(
        self,
        in_features: int,
        hidden: int | Sequence[int],
        out_features: int,
        *,
        grid_shape: Sequence[int],
        cyclic: Sequence[bool] | None = None,
        edges: str = "clamp",
        activation: str = "elu",
        init: str = "independent",
    ):
        super().__init__()
        require_choice("activation", activation, tuple(ACTIVATIONS))
        self.activation = activation
        self.layers = nn.ModuleList(
            GridLinear(inputs, outputs, grid_shape, cyclic=cyclic, edges=edges, init=init)
            for inputs, outputs in layer_sizes(in_features, hidden, out_features)
        )

    def forward(
        self,
        x: Float[Tensor, "batch in"],
        g: Float[Tensor, "batch grid_dims"],
        order: str = "auto",
    ) -> Float[Tensor, "batch out"]:
        """order: in which the same sums are done, see `archbook.gfnn.orders.mixing`."""
        layers = cast("list[GridLinear]", list(self.layers))
        layers[0].require_inputs(x, g)
        return run_layers(layers, grid_mixing(layers, g, order), x, activation=self.activation)

    def extra_repr(self) -> str:
        return f"activation={self.activation!r}"


def layer_sizes(
    in_features: int, hidden: int | Sequence[int], out_features: int
) -> list[tuple[int, int]]:
    """(inputs, outputs) of every layer; an int `hidden` stands for two hidden layers."""
    widths = tuple(hidden) if isinstance(hidden, Sequence) else (hidden, hidden)
    for width in widths:
        require_positive_int("hidden", width)
    sizes = (in_features, *widths, out_features)
    return list(itertools.pairwise(sizes))


def run_layers(
    layers: Sequence[ExpertLinear], mix: Mixing, x: Tensor, *, activation: str
) -> Float[Tensor, "batch out"]:
    """The network of these layers with one rule of mixing their experts."""
    act, last = ACTIVATIONS[activation], layers[-1]
    for layer in layers[:-1]:
        x = act(layer(x, mix=mix))
    return last(x, mix=mix)


def grid_mixing(layers: Sequence[GridLinear], g: Tensor, order: str) -> Mixing:
    """One order for all layers, at places g already checked."""
    multiply_adds = sum(math.prod(layer.W.shape[1:]) for layer in layers) / len(layers)
    return mixing(layers[0].grid, g, order, multiply_adds=multiply_adds)
