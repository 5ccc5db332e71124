"""How much of the past fits into the state: noise recalled at five delays (2019, capacity task).

Band-limited noise (10 Hz, a window of 1 s), sampled in `window` steps; the outputs are the input
0, 1/4, 1/2, 3/4 and 1 window ago. "lmu0" is not trained: it reads the memory through Legendre
polynomials, each sample in the middle of the step that holds it. "ridge" fits that readout by
least squares. "ema" gives the same readout a bank of exponential moving averages. "lstm" is
trained, for `seconds`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from archbook.checks import value_checks
from archbook.data import white_signal
from archbook.lmu import LegendreMemory, LinearMemory, legendre_readout
from archbook.running import Run, main, share

DELAYS = (0.0, 0.25, 0.5, 0.75, 1.0)  # in windows


@dataclass(frozen=True)
class Config:
    model: str = "lmu0"  # lmu0, ridge, ema or lstm
    order: int = 100  # size of the state: Legendre coefficients, averages or LSTM units
    window: int = 1000  # steps a second; theta is one more: samples 0 to `window` ago
    signals: int = 100  # to fit the readout or train on; as many again to test on
    seconds: float = 0.0  # LSTM only: training seconds
    batch: int = 50  # LSTM only: signals a step
    learning_rate: float = 2e-3  # LSTM only: of Adam


SIZES = {
    "tiny": {
        name: Config(name, order=8, window=50, signals=6, seconds=1.0, batch=3)
        for name in ("lmu0", "ridge", "ema", "lstm")
    },
    "full": {f"lmu0_{w}": Config(window=w) for w in (100, 1000, 10_000, 100_000)}
    | {f"lmu0_order_{d}": Config(order=d) for d in (6, 12, 25, 50)}
    | {f"{name}_1000": Config(name) for name in ("ridge", "ema")}
    | {f"lstm_{w}": Config("lstm", window=w, seconds=60.0) for w in (25, 100, 400)},
    "paper": {f"lstm_{w}": Config("lstm", window=w, seconds=3600.0) for w in (25, 100, 400, 1600)},
}


def load(config: Config, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs (signals, steps, 1) and delayed copies (signals, steps, delays); 2.5 windows long."""
    steps = 5 * config.window // 2
    u = white_signal(2 * config.signals, steps, dt=1 / config.window, high=10.0, seed=seed).float()
    targets = torch.zeros(*u.shape, len(DELAYS))
    for i, delay in enumerate(DELAYS):
        shift = round(delay * config.window)
        targets[:, shift:, i] = u[:, : steps - shift]
    return u[..., None], targets


def memory_of(config: Config) -> LinearMemory:
    if config.model == "ema":  # time constants from two steps to four windows
        scales = torch.logspace(0.3, 2.6, config.order, dtype=torch.float64).clamp(min=2.0)
        decay = torch.exp(-1 / (scales * config.window / 100))
        return LinearMemory(torch.diag(decay), 1 - decay)
    return LegendreMemory(config.order, config.window + 1.0)


@torch.no_grad()
def recall(config: Config, u: Tensor, targets: Tensor) -> Tensor:
    """Mean square error a delay on the second half of the signals, readout fitted on the first."""
    memory = memory_of(config).to(u.device)
    cut = config.signals
    if config.model == "lmu0":
        steps = torch.tensor(DELAYS, device=u.device) * config.window
        readout = legendre_readout(config.order, (steps + 0.5) / (config.window + 1)).T
    else:  # normal equations in float64, gathered signal by signal
        gram = torch.zeros(config.order, config.order, dtype=torch.float64, device=u.device)
        cross = torch.zeros(config.order, len(DELAYS), dtype=torch.float64, device=u.device)
        for signal, target in zip(u[:cut, None], targets[:cut], strict=True):
            m = memory(signal)[0, :, 0].double()
            gram += m.T @ m
            cross += m.T @ target.double()
        gram += 1e-9 * gram.diagonal().mean() * torch.eye(config.order, device=u.device)
        readout = torch.linalg.solve(gram, cross).float()
    errors = [
        (memory(signal)[0, :, 0] @ readout - target).square().mean(0)
        for signal, target in zip(u[cut:, None], targets[cut:], strict=True)
    ]
    return torch.stack(errors).mean(0)


class LSTM(nn.Module):
    def __init__(self, units: int):
        super().__init__()
        self.lstm = nn.LSTM(1, units, batch_first=True)
        self.readout = nn.Linear(units, len(DELAYS))

    def forward(self, u: Tensor) -> Tensor:
        return self.readout(self.lstm(u)[0])


def train_lstm(config: Config, run: Run, u: Tensor, *, targets: Tensor) -> tuple[Tensor, int]:
    """Mean square error a delay on the test signals, and the number of training steps."""
    model = LSTM(config.order).to(run.device)
    network = run.data_parallel(model)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    shuffle = torch.Generator().manual_seed(run.seed)
    cut, steps = config.signals, 0
    # Not `running.fit`: it trains for a time, not for a number of steps.
    for step in run.steps(1_000_000, model=model, optimizer=optimizer, shuffle=shuffle):
        batch = share(torch.randperm(cut, generator=shuffle)[: config.batch])
        loss = mse_loss(network(u[batch]), targets[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        steps = step + 1
        if run.is_over(config.seconds):
            break
    with torch.no_grad():
        return (model(u[cut:]) - targets[cut:]).square().mean((0, 1)), steps


def train(config: Config, run: Run) -> dict:
    u, targets = (part.to(run.device) for part in load(config, run.seed))
    steps = 0
    with value_checks(False):
        if config.model == "lstm":
            error, steps = train_lstm(config, run, u, targets=targets)
        else:
            error = recall(config, u, targets)
    power = targets[config.signals :].square().mean((0, 1))
    return {
        "test_nrmse": 100 * float((error.mean() / power.mean()).sqrt()),
        "test_nrmse_by_delay": (100 * (error / power).sqrt()).tolist(),
        "steps": steps,
    }


if __name__ == "__main__":
    main(__file__, SIZES, train)
