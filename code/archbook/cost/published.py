"""The six networks at the sizes of their papers, each as one step of one card and as a command."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from archbook.attention import Performer
from archbook.cost.counting import Count, Growing, count_step
from archbook.egnn import EGNNRegressor
from archbook.folded_cnn import GAME_CNNS, GameCNN
from archbook.gfnn import GridFunctionedNetwork
from archbook.lmu import LMU
from archbook.msa_transformer import MSATransformer
from archbook.omninet import LanguageModel, OmniNet

Made = tuple[nn.Module, tuple[Any, ...]]


@dataclass(frozen=True)
class Workload:
    """What is computed for `examples` examples, `batch` of them a step of all cards."""

    name: str
    unit: str  # of an example
    make: Callable[[int], Made]  # for a batch
    examples: int  # of a whole training; of a second where nothing is trained
    batch: int
    script: str = ""  # of experiments/, where one trains it
    options: str = ""
    blocks: int = 0  # that FSDP2 shares out
    in_steps: bool = False  # the experiment counts steps, not passes over its data
    trains: bool = True

    def count(self, batch: int) -> Count:
        return count_step(lambda: self.make(batch), backward=self.trains)

    def growing(self) -> Growing:
        return Growing(self.count(2), self.count(3))

    def command(self, cards: int, batch: int) -> str:
        """For machines of eight cards; `batch` is that of all cards. Empty where none runs it."""
        if not self.script:
            return ""
        if not self.trains:
            return f"python experiments/{self.script} {self.options} --device cuda"
        if cards <= 8:
            start = f"torchrun --standalone --nproc-per-node {cards}"
        else:
            start = f"torchrun --nnodes {cards // 8} --nproc-per-node 8"
            start += " --rdzv-backend c10d --rdzv-endpoint $HOST:29500"
        options = f"{self.options} --batch {batch}"
        if self.in_steps:
            options += f" --steps {self.examples // batch}"
        if self.blocks:
            options += " --fsdp"
        return f"{start} experiments/{self.script} {options}"


def msa_1b(batch: int) -> Made:
    """12 blocks of 768, 2^14 letters an alignment."""
    model = MSATransformer(33, 12, 768, heads=12, ffn=3072)
    return model, (torch.zeros(batch, 16, 1024, dtype=torch.long),)


def omninet_100m(batch: int) -> Made:
    body = OmniNet(
        12, 768, 12, partition=2, causal=True, meta=Performer(256), length=512, dropout=0.1
    )
    return LanguageModel(body, 100, 512), (torch.zeros(batch, 512, dtype=torch.long),)


def egnn_qm9(batch: int) -> Made:
    """Seven layers of 128, molecules of 18 atoms: QM9's mean."""
    nodes = 18 * batch
    graph = torch.arange(batch).repeat_interleave(18, output_size=nodes)
    edges = torch.zeros(2, nodes * 17, dtype=torch.long)
    model = ByPlace(EGNNRegressor(15, 128, 7), batch)
    return model, (torch.randn(nodes, 15), torch.randn(nodes, 3), edges, graph)


class ByPlace(nn.Module):
    """By place, where the network wants graphs by name."""

    def __init__(self, body: nn.Module, graphs: int):
        super().__init__()
        self.body, self.graphs = body, graphs

    def forward(self, h: Tensor, x: Tensor, edges: Tensor, graph: Tensor) -> Tensor:
        return self.body(h, x, edges, graph=graph, graphs=self.graphs)


class Characters(nn.Module):
    """A stack of LMU layers over letters: our sizes, since the paper's are not known to us."""

    def __init__(self, letters: int = 27, width: int = 512, layers: int = 6, theta: float = 512):
        super().__init__()
        self.embed = nn.Embedding(letters, width)
        self.layers = nn.ModuleList(
            LMU(width, width, width, order=4, theta=theta) for _ in range(layers)
        )
        self.read = nn.Linear(width, letters)

    def forward(self, text: Tensor) -> Tensor:
        x = self.embed(text)
        for layer in self.layers:
            x = x + layer(x)
        return self.read(x)


def lmu_text8(batch: int) -> Made:
    return Characters(), (torch.zeros(batch, 512, dtype=torch.long),)


def gfnn_characters(batch: int) -> Made:
    """A frame of so many characters: the widths of the published demo, phase and speed."""
    model = GridFunctionedNetwork(342, 512, 311, grid_shape=(4, 4), cyclic=(True, False))
    return model, (torch.randn(batch, 342), torch.rand(batch, 2), "experts")


def folded_streams(batch: int) -> Made:
    """Four images a pass of the network that reads a number off a game's screen."""
    model = GameCNN(**GAME_CNNS["lol-gold1"], fold=4).eval()
    size = GAME_CNNS["lol-gold1"]
    return model, (torch.randn(batch // 4, 12, size["height"], size["width"]),)


FPS, STREAMS = 30, 1000  # pictures a second of a camera, cameras
WORKLOADS = {
    "msa": Workload(
        "MSA-1b",
        "alignments",
        msa_1b,
        512 * 100_000,
        512,
        "msa_transformer/pfam.py",
        "--size full --variants msa --seeds 0 --layers 12 --hidden 768 --heads 12"
        " --columns 1024 --least_rows 16 --most_rows 16",
        blocks=12,
        in_steps=True,
    ),
    "omninet": Workload(
        "OmniNet, 100 M",
        "windows of 512",
        omninet_100m,
        64 * 5_000,
        64,
        "omninet/shakespeare.py",
        "--size paper --variants performer_2 --seeds 0 --layers 12 --hidden 768 --heads 12"
        " --ffn 3072",
        blocks=12,
        in_steps=True,
    ),
    "egnn": Workload(
        "EGNN on QM9",
        "molecules",
        egnn_qm9,
        100_000 * 1000,
        96,
        "egnn/qm9.py",
        "--size paper --seeds 0",
    ),
    "lmu": Workload("LMU on text8", "windows of 512", lmu_text8, 90_000_000 // 512 * 10, 512),
    "gfnn": Workload(
        "GFNN, a frame of 100",
        "characters",
        gfnn_characters,
        60 * 100,
        100,
        "gfnn/motion.py",
        "--size paper",
        trains=False,
    ),
    "folded_cnn": Workload(
        "FoldedCNN, 1,000 streams",
        "images",
        folded_streams,
        FPS * STREAMS,
        1000,
        "folded_cnn/serving.py",
        "--size paper",
        trains=False,
    ),
}
