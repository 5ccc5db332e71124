"""Measured rows of the benchmarks, each with the step that it timed, built anew to be counted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from archbook.attention import Full, Kind, Performer
from archbook.cost.counting import Count, count_step
from archbook.cost.published import Made
from archbook.egnn import EGNN
from archbook.folded_cnn import GAME_CNNS, GameCNN
from archbook.gfnn import GridFunctionedNetwork
from archbook.lmu import LMU
from archbook.msa_transformer import MSATransformer
from archbook.omninet import MetaLearner

Size = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One candidate at one size: measured, and how its step is built."""

    stem: str
    candidate: str
    size: Size
    backward: bool
    seconds: float
    peak: float | None  # bytes, where it was measured
    make: Callable[[], Made]

    @property
    def name(self) -> str:
        sizes = ", ".join(f"{key} {value}" for key, value in self.size.items() if key != "threads")
        kind = "step" if self.backward else "forward"
        return f"{self.stem}, {self.candidate}: {sizes}, {kind}"

    def count(self) -> Count:
        """Once for all machines that measured it."""
        key = (self.name, self.backward)
        if key not in _counted:
            _counted[key] = count_step(self.make, backward=self.backward)
        return _counted[key]


_counted: dict[tuple[str, bool], Count] = {}


class LastState(nn.Module):
    """The psMNIST network of the benchmark."""

    def __init__(self, order: int, T: int, mode: str | None):
        super().__init__()
        self.mode = mode
        self.lmu = LMU(1, 346, 1, order=order, theta=float(T), return_sequences=False)
        self.classify = nn.Linear(346, 10)

    def forward(self, x: Tensor) -> Tensor:
        lmu = self.lmu
        if self.mode is None:
            return self.classify(lmu(x))
        m = lmu.memory(lmu.f_1(lmu.U_x(x)), self.mode)[:, -1]
        return self.classify(lmu.f_2(lmu.U_m(m.flatten(-2)) + lmu.W_x(x[:, -1])))


def lmu(mode: str | None, size: Size) -> Made:
    x = torch.randn(size["batch"], size["T"], 1)
    return LastState(size["order"], size["T"], mode), (x,)


def egnn(dense: bool, size: Size) -> Made:
    graphs, nodes = size.get("graphs", 1), size["nodes"]
    h, x = torch.randn(graphs * nodes, 1), torch.randn(graphs * nodes, 3)
    model = EGNN(1, 64, size["layers"])
    if dense:
        return model, (h.unflatten(0, (graphs, nodes)), x.unflatten(0, (graphs, nodes)))
    edges = graphs * nodes * size.get("k", nodes - 1)
    return model, (h, x, torch.zeros(2, edges, dtype=torch.long))


def msa(size: Size) -> Made:
    model = MSATransformer(33, 4, 128, heads=8, ffn=512, dropout=0.0, activation_dropout=0.0)
    return model.eval(), (torch.zeros(1, size["rows"], size["columns"], dtype=torch.long),)


def gfnn(order: str, size: Size) -> Made:
    width, dims, batch = size["hidden"], size["dims"], size["batch"]
    model = GridFunctionedNetwork(width, width, width, grid_shape=(size["nodes"],) * dims)
    return model, (torch.randn(batch, width), torch.rand(batch, dims), order)


def omninet(kind: Kind, size: Size) -> Made:
    tokens = size["tokens"]
    depths = torch.randn(size["batch"], tokens, 2, 128).requires_grad_()
    return MetaLearner(128, 4, 2, meta=kind, length=tokens), (depths,)


def folded(fold: int, size: Size) -> Made:
    crop = GAME_CNNS["lol-gold1"]
    images = torch.randn(size["images"] // fold, 3 * fold, crop["height"], crop["width"])
    return GameCNN(**crop, fold=fold).eval(), (images,)


MAKES: dict[tuple[str, str], dict[str, Callable[[Size], Made]]] = {
    ("lmu", "last"): {"last state": partial(lmu, None), "FFT": partial(lmu, "fft")},
    ("egnn", "dense"): {"dense": partial(egnn, True), "edge list": partial(egnn, False)},
    ("egnn", "size"): {"edge list": partial(egnn, False)},
    ("msa_transformer", "model"): {"ours": msa},
    ("gfnn", "growth"): {"experts": partial(gfnn, "experts"), "blend": partial(gfnn, "blend")},
    ("omninet", "meta_2"): {
        "fused attention": partial(omninet, Full()),
        "Performer": partial(omninet, Performer(110)),
    },
    ("folded_cnn", "batch"): {
        f"f = {fold}, channels_last, eager": partial(folded, fold) for fold in (1, 4)
    },
}


def rows(stem: str, bench: dict) -> Iterator[Row]:
    """Those of a chapter's benchmark file that can be counted, at all of the machine's threads."""
    for table in bench["tables"]:
        for name, make in MAKES.get((stem, table["name"]), {}).items():
            for row in table["rows"]:
                size, one = row["size"], row["candidates"].get(name)
                if one is None or not _is_counted(name, size):
                    continue
                peak = one.get("peak_mib")
                yield Row(
                    stem,
                    name.removesuffix(", channels_last, eager"),
                    size,
                    row["pass"] != "forward",
                    one["ms"] / 1e3,
                    None if peak is None else peak * 2**20,
                    partial(make, size),
                )


def _is_counted(name: str, size: Size) -> bool:
    """Whole groups of images alone, and of two numbers of threads the larger."""
    return size.get("threads", 2) == 2 and not ("f = 4" in name and size["images"] < 4)
