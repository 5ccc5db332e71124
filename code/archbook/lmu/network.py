"""Networks around the memory: the parallel model of 2021 and the cell of 2019."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from archbook.checks import (
    require_false,
    require_finite,
    require_input,
    require_mask,
    require_positive_int,
    value_checks,
)
from archbook.lmu.memory import LegendreMemory
from archbook.shaped import Shaped

Activation = Callable[[Tensor], Tensor]


class LMU(Shaped):
    """The parallel LMU (2021, Eqs. 18-20): no path leads from the output back into the memory.

    u_t = f_1(U_x x_t + b_u), m_t = memory(u)_t, o_t = f_2(U_m m_t + W_x x_t + b_o).
    `U_x.bias` is b_u, `W_x.bias` is b_o; U_m reads the memory channel by channel
    (index channel * order + coefficient). `memory_size` is the number of channels d_u.

    write_activation: f_1; None hands on what U_x gives, as KerasLMU does. A relu here starts dead
        for many seeds: one channel of inputs in [0, 1] may never write anything but zero.

    One set of weights, three ways to run it: `forward` (parallel), `forward` with
    return_sequences=False (last output only, one matrix product), `step` (an RNN).

    >>> model = LMU(1, 32, 1, order=8, theta=100.0)
    >>> x = torch.randn(4, 100, 1)
    >>> model(x).shape
    torch.Size([4, 100, 32])
    >>> o_1, m_1 = model.step(x[:, 0])  # the same weights, run as an RNN
    >>> torch.allclose(o_1, model(x)[:, 0], atol=1e-5)
    True
    """

    shaped_by = {"write_activation": "f_1", "activation": "f_2"}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_size: int,
        *,
        order: int,
        theta: float,
        return_sequences: bool = True,
        write_activation: Activation | None = None,
        activation: Activation = torch.relu,
    ):
        super().__init__()
        require_positive_int("input_size", input_size)
        require_positive_int("hidden_size", hidden_size)
        require_positive_int("memory_size", memory_size)
        self.input_size, self.memory_size = input_size, memory_size
        self.return_sequences = return_sequences
        self.f_1 = nn.Identity() if write_activation is None else write_activation
        self.f_2 = activation
        self.U_x = nn.Linear(input_size, memory_size)
        self.memory = LegendreMemory(order, theta)
        self.U_m = nn.Linear(memory_size * order, hidden_size, bias=False)
        self.W_x = nn.Linear(input_size, hidden_size)

    def forward(
        self,
        x: Float[Tensor, "batch time input"],
        state: Float[Tensor, "batch channels order"] | None = None,
        mode: str = "auto",
        *,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch time hidden"] | Float[Tensor, "batch hidden"]:
        """All outputs, or with return_sequences=False the last one (`mode` plays no part then).

        mask: True = real; a masked step writes nothing. Sequences of unequal length are padded
        in front: the memory is then still empty, as if the padding were not there. Padding at the
        end is refused where the last output alone is wanted, which would be that of the padding.
        """
        u = self._write_sequence(x, mask)
        if mask is not None and not self.return_sequences:
            require_false("the last step to be real (padding in front)", ~mask[:, -1], ("batch",))
        if self.return_sequences:
            return self.read(self.memory(u, mode, state), x)
        return self.read(self.memory(u, state=state, last=True), x[:, -1])

    def final_state(
        self,
        x: Float[Tensor, "batch time input"],
        state: Float[Tensor, "batch channels order"] | None = None,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch channels order"]:
        """The memory after the whole of `x`: go on from it with `step` or `forward`."""
        return self.memory.last(self._write_sequence(x, mask), state)

    def step(
        self,
        x_t: Float[Tensor, "batch input"],
        state: Float[Tensor, "batch channels order"] | None = None,
    ) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch channels order"]]:
        """One time step: (o_t, m_t). Only the memory is carried, o_t never is."""
        require_input("x_t", x_t, ("batch", self.input_size), next(self.parameters()))
        require_finite("x_t", x_t)
        state = self.memory.step(self.write(x_t), state)
        return self.read(state, x_t), state

    def _write_sequence(self, x: Tensor, mask: Tensor | None) -> Tensor:
        require_input("x", x, ("batch", "time", self.input_size), next(self.parameters()))
        require_finite("x", x)  # f_1 may hide it: relu(-inf) is 0
        u = self.write(x)
        if mask is None:
            return u
        require_mask("mask", mask, x.shape[:2], x.device)
        return u.masked_fill(~mask[..., None], 0.0)

    def write(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps channels"]:
        """u of Eq. 18; override this to write otherwise."""
        return self.f_1(self.U_x(x))

    def read(
        self, m: Float[Tensor, "*steps channels order"], x: Float[Tensor, "*steps input"]
    ) -> Float[Tensor, "*steps hidden"]:
        """o of Eq. 20; override this to read otherwise."""
        return self.f_2(self.U_m(m.flatten(-2).to(x.dtype)) + self.W_x(x))


class LMUCell(nn.Module):
    """The LMU cell of 2019 (Eqs. 5-7): the hidden state writes into the memory and reads it.

    u_t = e_x x_t + e_h h_{t-1} + e_m m_{t-1} (one number), m_t as in the memory,
    h_t = tanh(W_x x_t + W_h h_{t-1} + W_m m_t). The tanh forbids a parallel form.

    >>> cell = LMUCell(1, 16, order=4, theta=20.0)
    >>> h, m = cell(torch.randn(2, 1))
    >>> h.shape, m.shape
    (torch.Size([2, 16]), torch.Size([2, 4]))
    >>> cell.unroll(torch.randn(2, 50, 1)).shape
    torch.Size([2, 50, 16])
    """

    def __init__(self, input_size: int, hidden_size: int, order: int, *, theta: float):
        super().__init__()
        require_positive_int("input_size", input_size)
        require_positive_int("hidden_size", hidden_size)
        self.memory = LegendreMemory(order, theta)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.e_x = nn.Linear(input_size, 1, bias=False)
        self.e_h = nn.Linear(hidden_size, 1, bias=False)
        self.e_m = nn.Linear(order, 1, bias=False)
        self.W_x = nn.Linear(input_size, hidden_size, bias=False)
        self.W_h = nn.Linear(hidden_size, hidden_size, bias=False)
        self.W_m = nn.Linear(order, hidden_size, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """LeCun uniform for e_x and e_h, zero for e_m, Glorot normal for the rest (as in 2019)."""
        for encoder in (self.e_x, self.e_h):
            bound = (3 / encoder.in_features) ** 0.5
            nn.init.uniform_(encoder.weight, -bound, bound)
        nn.init.zeros_(self.e_m.weight)
        for kernel in (self.W_x, self.W_h, self.W_m):
            nn.init.xavier_normal_(kernel.weight)

    def forward(
        self,
        x_t: Float[Tensor, "batch input"],
        state: tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch order"]] | None = None,
    ) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch order"]]:
        """One step: (h_t, m_t)."""
        require_input("x_t", x_t, ("batch", self.input_size), next(self.parameters()))
        require_finite("x_t", x_t)
        h, m = self._checked(state, x_t)
        u = self.e_x(x_t) + self.e_h(h) + self.e_m(m.to(x_t.dtype))
        m = self.memory.step(u, m[:, None])[:, 0]
        h = torch.tanh(self.W_x(x_t) + self.W_h(h) + self.W_m(m.to(x_t.dtype)))
        return h, m

    def _checked(self, state: tuple[Tensor, Tensor] | None, x: Tensor) -> tuple[Tensor, Tensor]:
        sizes = {"h": (x.shape[0], self.hidden_size), "m": (x.shape[0], self.memory.order)}
        if state is None:
            m = self.memory.A_bar.new_zeros(sizes["m"])  # float32 even in a bfloat16 module
            return x.new_zeros(sizes["h"]), m
        if not (isinstance(state, tuple) and len(state) == 2):
            raise TypeError(f"wanted state to be a pair (h, m), given {type(state).__name__}")
        likes = (next(self.parameters()), self.memory.A_bar)
        for (name, size), value, like in zip(sizes.items(), state, likes, strict=True):
            require_input(f"state {name}", value, size, like)
            require_finite(f"state {name}", value)
        return state

    def unroll(
        self,
        x: Float[Tensor, "batch time input"],
        state: tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch order"]] | None = None,
    ) -> Float[Tensor, "batch time hidden"]:
        """All h_t, step after step: the nonlinear feedback leaves no other way."""
        require_input("x", x, ("batch", "time", self.input_size), next(self.parameters()))
        require_finite("x", x)
        h, m = self._checked(state, x)
        outputs = []
        with value_checks(False):  # once for all steps: a check a step would stall a GPU
            for x_t in x.unbind(1):
                h, m = self(x_t, (h, m))
                outputs.append(h)
        return torch.stack(outputs, dim=1)
