"""A linear recurrence with fixed matrices, computed step by step or in parallel."""

from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from archbook.autocast import without_autocast
from archbook.checks import require_choice, require_finite, require_like, require_tensor
from archbook.lmu.delay import impulse_response, legendre_delay_matrices
from archbook.shaped import Shaped

MODES = ("auto", "recurrent", "fft", "chunked")
MOST_TABLES = 8  # kept at a time, so that sequences of any lengths fill no memory
FFT_INPUTS = 8192  # batch x channels x time up to which the FFT won (benchmarks/bench_lmu.py)

Tables = OrderedDict[tuple[str, int, torch.device], Tensor]


class LinearMemory(Shaped):
    """m_t = A_bar m_{t-1} + B_bar u_t for every channel (2021, Eq. 19), fixed matrices.

    Nothing is learned and nothing enters the state_dict. The matrices are kept in float64;
    `.to()`, `.float()`, `.double()` recast from there. Arithmetic is in float32 or float64:
    under autocast, or in a half-precision module, the memory runs in float32 and so do its
    states (carried in bfloat16, a state loses every increment below 1/256 of itself).

    Tables of a length are made when it is first met and then kept; so run the model once at its
    length before torch.export, which takes them for constants.

    Shapes: u (batch, time, channels) -> (batch, time, channels, order); a state is one time
    slice, (batch, channels, order), None means zero. Errors: ValueError or TypeError for a wrong
    rank, an empty axis, NaN (see `archbook.checks.value_checks`), a mixed device or dtype.

    >>> half = LinearMemory(torch.tensor([[0.5]]), torch.tensor([1.0]))  # m = m / 2 + u
    >>> half(torch.ones(1, 4, 1)).flatten()
    tensor([1.0000, 1.5000, 1.7500, 1.8750])
    """

    shaped_by = {"matrices": "told"}

    def __init__(self, A_bar: Float[Tensor, "order order"], B_bar: Float[Tensor, " order"]):
        super().__init__()
        require_tensor("B_bar", B_bar, ("order",))
        require_tensor("A_bar", A_bar, (len(B_bar), len(B_bar)))
        if A_bar.is_complex() or B_bar.is_complex():
            raise TypeError(
                f"wanted A_bar and B_bar to be real, given {A_bar.dtype} and {B_bar.dtype}"
            )
        require_finite("A_bar", A_bar)
        require_finite("B_bar", B_bar)
        self.order = len(B_bar)
        # plain attributes, not buffers: a cast of the module must not round them; own copies,
        # so that nobody else can change them
        exact = {"device": "cpu", "dtype": torch.float64, "copy": True}
        self._exact = (A_bar.detach().to(**exact), B_bar.detach().to(**exact))
        like = torch.empty(0)  # knows the device of a surrounding `with`, on torch 2.6 too
        self.register_buffer("A_bar", A_bar.detach().to(like), persistent=False)
        self.register_buffer("B_bar", B_bar.detach().to(like), persistent=False)
        self._recast()

    A_bar: Tensor
    B_bar: Tensor

    def _apply(self, fn: Callable, recurse: bool = True) -> "LinearMemory":
        super()._apply(fn, recurse)
        self._recast()
        return self

    def _recast(self) -> None:
        double = self.A_bar.dtype == torch.float64
        where = torch.empty_like(
            self.A_bar, dtype=torch.float64 if double else torch.float32, device=self.A_bar.device
        )
        self.A_bar, self.B_bar = (exact.to(where, copy=True) for exact in self._exact)
        self._forget()

    def _forget(self) -> None:
        self._tables: Tables = OrderedDict()
        self._longest: dict[torch.device, Tensor] = {}

    def __getstate__(self) -> dict:
        """Tables can be made again: copies and files go without."""
        return {**super().__getstate__(), "_tables": OrderedDict(), "_longest": {}}

    @property
    def told(self) -> list[float]:
        """A few numbers that tell these matrices from others, to six digits."""
        A, B = self._exact
        return [float(f"{float(value):.6g}") for value in (A.norm(), A.sum(), B.norm(), B @ A @ B)]

    def extra_repr(self) -> str:
        return f"order={self.order}"

    # -- the four forms ---------------------------------------------------------------------

    def forward(
        self,
        u: Float[Tensor, "batch time channels"],
        mode: str = "auto",
        state: Float[Tensor, "batch channels order"] | None = None,
        *,
        last: bool = False,
    ) -> Float[Tensor, "batch time channels order"] | Float[Tensor, "batch channels order"]:
        """All states m_1 .. m_time; the last slice, [:, -1], is the state to go on from.

        last: that slice alone, computed as `last` does it, whatever the mode.

        mode: "recurrent" is Eq. 19 step by step; "fft" Eq. 26, O(time log time) a channel and
        coefficient, but it holds complex buffers of twice the length; "chunked" runs one matrix
        product inside chunks and carries the state between them, O(time order (chunk + order)),
        no complex numbers; "auto" takes the FFT for few inputs, else chunks.
        """
        require_choice("mode", mode, MODES)
        if last:
            return self.last(u, state)
        u, state = self._prepared(u, ("batch", "time", "channels"), state)
        batch, time, channels = u.shape
        if mode == "auto":
            mode = "fft" if state is None and batch * time * channels <= FFT_INPUTS else "chunked"
        form = {"recurrent": self.recurrent, "fft": self.fft, "chunked": self.chunked}[mode]
        with without_autocast(u):
            signals = u.transpose(1, 2).reshape(batch * channels, time)
            start = None if state is None else state.reshape(batch * channels, self.order)
            states = form(signals, start)  # (batch * channels, time, order)
        return states.reshape(batch, channels, time, self.order).transpose(1, 2)

    def last(
        self,
        u: Float[Tensor, "batch time channels"],
        state: Float[Tensor, "batch channels order"] | None = None,
    ) -> Float[Tensor, "batch channels order"]:
        """Only m_time, as one matrix product with the reversed H (2021, Eq. 25).

        O(time order) a channel, where the recurrence needs O(time order^2).
        """
        u, state = self._prepared(u, ("batch", "time", "channels"), state)
        batch, time, channels = u.shape
        with without_autocast(u):
            signals = u.transpose(1, 2).reshape(batch * channels, time)  # else: a product a signal
            final = signals @ self._reversed(time)
            final = final.reshape(batch, channels, self.order)
            if state is not None:
                final = final + state @ torch.linalg.matrix_power(self.A_bar, time).mT
        return final

    def step(
        self,
        u_t: Float[Tensor, "batch channels"],
        state: Float[Tensor, "batch channels order"] | None = None,
    ) -> Float[Tensor, "batch channels order"]:
        """One step of Eq. 19: the new state already holds `u_t`."""
        u_t, state = self._prepared(u_t, ("batch", "channels"), state)
        with without_autocast(u_t):
            new = u_t[..., None] * self.B_bar
            if state is not None:
                new = new + state @ self.A_bar.mT
        return new

    def recurrent(
        self, u: Float[Tensor, "signals time"], start: Float[Tensor, "signals order"] | None
    ) -> Float[Tensor, "signals time order"]:
        """Step by step (2021, Eq. 19); override this to write or decay otherwise."""
        written = (u.mT[..., None] * self.B_bar).unbind(0)  # time x (signals, order)
        m = written[0] if start is None else torch.addmm(written[0], start, self.A_bar.mT)
        states = [m]
        for write in written[1:]:
            m = torch.addmm(write, m, self.A_bar.mT)
            states.append(m)
        return torch.stack(states, dim=1)

    def fft(
        self, u: Float[Tensor, "signals time"], start: Float[Tensor, "signals order"] | None
    ) -> Float[Tensor, "signals time order"]:
        """As one convolution (2021, Eq. 26); override this to convolve otherwise."""
        time = u.shape[1]
        size = 2 * time  # at least 2 time - 1, or the end of the signal wraps onto its start
        H_hat = self._table("spectrum", time, self._spectrum)  # (order, time + 1)
        u_hat = torch.fft.rfft(u, size)
        states = torch.fft.irfft(u_hat[:, None] * H_hat, size)[..., :time].mT
        if start is not None:  # the free decay of the start is an impulse response too
            states = states + impulse_response(self.A_bar, start @ self.A_bar.mT, time).mT
        return states

    def chunked(
        self, u: Float[Tensor, "signals time"], start: Float[Tensor, "signals order"] | None
    ) -> Float[Tensor, "signals time order"]:
        """One matrix product in each chunk; override this to cut or carry otherwise."""
        signals, time = u.shape
        size = min(time, 64 if self.order <= 32 else 32)
        chunks = -(-time // size)
        u = F.pad(u, (0, chunks * size - time)).reshape(signals, chunks, size)
        ends = u @ self._reversed(size)  # (signals, chunks, order)
        kernel = self._table("chunk", size, self._chunk)  # (size + order, size * order)
        decay = kernel[size:, -self.order :]  # (A_bar^size)^T
        m = torch.zeros_like(ends[:, 0]) if start is None else start
        carried = [m]
        for k in range(chunks - 1):
            m = torch.addmm(ends[:, k], m, decay)
            carried.append(m)
        known = torch.cat([u, torch.stack(carried, dim=1)], dim=-1)
        states = known.reshape(signals * chunks, -1) @ kernel
        return states.reshape(signals, chunks * size, self.order)[:, :time]

    # -- tables: built once in float64, then cast ---------------------------------------------

    def _table(self, name: str, length: int, build: Callable[[int], Tensor]) -> Tensor:
        """Kept for the last MOST_TABLES lengths; a replica on another device makes its own."""
        device = self.A_bar.device
        key = (name, length, device)
        table = self._tables.pop(key, None)
        if table is None:
            # plain tensors even when first asked for in inference mode, so that training works
            with torch.inference_mode(False), torch.no_grad():
                table = build(length)
                table = table.to(device, self._like(table))
        self._tables[key] = table  # the newest last
        if len(self._tables) > MOST_TABLES:
            self._tables.popitem(last=False)
        return table

    def _like(self, table: Tensor) -> torch.dtype:
        if not table.is_complex():
            return self.A_bar.dtype
        return torch.complex128 if self.A_bar.dtype == torch.float64 else torch.complex64

    def _reversed(self, length: int) -> Float[Tensor, "length order"]:
        """H^T from its end: the shorter one is the end of the longer, so one serves all lengths."""
        known = self._longest.get(self.A_bar.device)
        if known is None or len(known) < length:
            with torch.inference_mode(False), torch.no_grad():
                H = impulse_response(*self._exact, length)
                known = H.flip(1).mT.contiguous().to(self.A_bar)
            self._longest[self.A_bar.device] = known
        return known[len(known) - length :]

    def _spectrum(self, length: int) -> Tensor:
        return torch.fft.rfft(impulse_response(*self._exact, length), 2 * length)

    def _chunk(self, length: int) -> Tensor:
        A_bar, _ = self._exact
        H = impulse_response(*self._exact, length).mT  # (length, order)
        t = torch.arange(length, device="cpu")
        age = t[None, :] - t[:, None]  # [written, read]
        inputs = torch.where((age >= 0)[..., None], H[age.clamp(min=0)], 0.0)
        powers = impulse_response(A_bar, A_bar.mT, length)  # [i, :, t] = A_bar^(t + 1) e_i
        return torch.cat([inputs.flatten(1), powers.mT.flatten(1)])

    def _prepared(
        self, u: Tensor, shape: tuple[str, ...], state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        require_tensor("u", u, shape)
        u = self._lifted("u", u)
        require_finite("u", u)
        if state is not None:
            require_tensor("state", state, (u.shape[0], u.shape[-1], self.order))
            state = self._lifted("state", state)
            require_finite("state", state)
        return u, state

    def _lifted(self, name: str, value: Tensor) -> Tensor:
        if value.dtype in (torch.float16, torch.bfloat16) and self.A_bar.dtype == torch.float32:
            value = value.float()
        require_like(name, value, "the memory", self.A_bar)
        return value


class LegendreMemory(LinearMemory):
    """The sliding window of the last `theta` steps as `order` Legendre coefficients.

    Matrices: `legendre_delay_matrices`. u(t - r theta) is `legendre_readout(order, r) @ m_t`.

    >>> memory = LegendreMemory(order=8, theta=20.0)
    >>> u = torch.sin(torch.arange(300) / 30)
    >>> m = memory(u[None, :, None])[0, -1, 0]  # the window after 300 steps
    >>> then = legendre_readout(8, torch.tensor([10.5 / 20])) @ m  # 10 steps ago
    >>> print(f"{float(then):.3f}, and was {float(u[289]):.3f}")
    -0.207, and was -0.207
    """

    shaped_by = {"order": "order", "theta": "theta", "discretization": "discretization"}

    def __init__(self, order: int, theta: float, discretization: str = "zoh"):
        super().__init__(*legendre_delay_matrices(order, theta, discretization))
        self.theta, self.discretization = float(theta), discretization

    def extra_repr(self) -> str:
        return f"order={self.order}, theta={self.theta:g}"
