"""What tests/test_running_parallel.py runs in one process and, under torchrun, in several.

As a program: `parallel_work.py WHAT FILE`, where rank 0 writes what it measured as JSON.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from scripts import script
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim.optimizer import register_optimizer_step_pre_hook

from archbook.egnn import NBodyEGNN
from archbook.folded_cnn import GameCNN, fold_images, folded_cross_entropy
from archbook.gfnn import GridFunctionedNetwork
from archbook.lmu import LMUClassifier
from archbook.msa_transformer import MSATransformer, mask_tokens
from archbook.omninet import LanguageModel, OmniNet
from archbook.running import Run, cosine_adam, fit, processes, share
from archbook.running.parallel import joined, rank

STEPS, BATCH = 10, 6
Task = tuple[nn.Module, Callable[[torch.Generator], Tensor]]  # a model, and the loss of a batch


def normal(draw: torch.Generator, *shape: int) -> Tensor:
    """A batch of which each process keeps its share."""
    return share(torch.randn(BATCH, *shape, generator=draw))


def integers(draw: torch.Generator, below: int, *shape: int) -> Tensor:
    return share(torch.randint(below, (BATCH, *shape), generator=draw))


def lmu() -> Task:
    net = LMUClassifier(1, 6, 3, order=4, theta=12.0)

    def loss(draw: torch.Generator) -> Tensor:
        return cross_entropy(net(normal(draw, 12, 1)), integers(draw, 3))

    return net, loss


def egnn() -> Task:
    net = NBodyEGNN(6, 2)

    def loss(draw: torch.Generator) -> Tensor:
        x, v, wanted = (normal(draw, 4, 3) for _ in range(3))
        return mse_loss(net(x, v, normal(draw, 4).sign()), wanted)

    return net, loss


def gfnn() -> Task:
    net = GridFunctionedNetwork(2, 5, 1, grid_shape=(3, 3))

    def loss(draw: torch.Generator) -> Tensor:
        g = normal(draw, 2).sigmoid()
        return mse_loss(net(g, g), normal(draw, 1))

    return net, loss


def folded_cnn() -> Task:
    net = GameCNN(12, 12, 3, filters=4, convs=1, units=1, fold=2)

    def loss(draw: torch.Generator) -> Tensor:
        images = share(torch.randn(2 * BATCH, 3, 12, 12, generator=draw), 2)
        labels = share(torch.randint(3, (2 * BATCH,), generator=draw), 2)
        return folded_cross_entropy(net(fold_images(images, 2)), labels, 2)

    return net, loss


def omninet() -> Task:
    net = LanguageModel(OmniNet(2, 8, 2, partition=2, causal=True), 7, 9)

    def loss(draw: torch.Generator) -> Tensor:
        text = integers(draw, 7, 9)
        return cross_entropy(net(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())

    return net, loss


def msa_transformer() -> Task:
    """The first half of a batch asks for no letter: the counts differ as much as they can."""
    sizes = dict(layers=2, hidden=8, heads=2, ffn=12)
    net = MSATransformer(**sizes, start_token=False, attention_dropout=0.0)

    def loss(draw: torch.Generator) -> Tensor:
        tokens = torch.randint(4, 24, (BATCH, 3, 5), generator=draw)
        given, masked = mask_tokens(tokens, draw, 0.3)
        masked[: BATCH // 2] = False
        asked = masked.sum() / processes()
        tokens, given, masked = map(share, (tokens, given, masked))
        logits = net.letter_logits(net.encode(given)[masked])
        return cross_entropy(logits, tokens[masked], reduction="sum") / asked

    return net, loss


TASKS = {task.__name__: task for task in (lmu, egnn, gfnn, folded_cnn, omninet, msa_transformer)}
FSDP_ON_CPU = hasattr(torch.cpu.Stream, "record_event")  # torch 2.6 has FSDP2 for GPUs alone
SHARDED = {  # what of them FSDP2 shares out block by block
    "lmu": lambda net: ([net.body],),
    "egnn": lambda net: (net.body.layers,),
    "gfnn": lambda net: (net.layers,),
    "folded_cnn": lambda net: (net.children(),),
    "omninet": lambda net: (net.body.blocks,),
    "msa_transformer": lambda net: (net.blocks, "encode"),
}


def curve(name: str, *, fsdp: bool = False) -> list[float]:
    """The losses of ten steps, in float64."""
    torch.manual_seed(0)
    net, loss = TASKS[name]()
    net = net.double()
    for part in net.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    run = Run(quiet=True, fsdp=fsdp)
    if fsdp:
        run.shard(net, *SHARDED[name](net))
    draw, losses = torch.Generator().manual_seed(1), []
    fit(
        run,
        net,
        lambda: loss(draw),
        steps=STEPS,
        rule=cosine_adam(net, 1e-2, STEPS),
        clip=1.0,
        look=lambda _, recent: losses.extend(recent),
        draw=draw,
        losses=losses,
    )
    return losses


# Experiments as they are, at their tiny size, but for what differs between two runs: dropout, whose
# masks each process draws for itself, and a number of seconds to train.
STILL = ("dropout", "input_dropout", "loss", "seconds")
EXPERIMENTS = {
    "egnn/autoencoder": "egnn_community",
    "egnn/nbody": "egnn",
    "egnn/qm9": "egnn",
    "egnn/rollout": "egnn",
    "folded_cnn/accuracy": "f1",
    "gfnn/motion": "gfnn",
    "gfnn/regressions": "ripple-gfnn_4x4",
    "lmu/capacity": "lstm",
    "lmu/imdb": "lmu",
    "lmu/mackey_glass": "lmu",
    "lmu/psmnist": "lmu",
    "msa_transformer/pfam": "msa",
    "msa_transformer/potts": "sqrt",
    "omninet/depth": "base",
    "omninet/images": "base",
    "omninet/imdb": "base",
    "omninet/listops": "base",
    "omninet/shakespeare": "full_2",
    "omninet/translation": "base",
}


def experiment(name: str) -> list[float]:
    """The norm of the gradient at each of the first steps: later ones differ by rounding."""
    module = script(f"experiments/{name}.py")
    config = module.SIZES["tiny"][EXPERIMENTS[name]]
    still = {key: 0.0 for key in STILL if getattr(config, key, None)}
    norms: list[float] = []

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        found = [weight.grad.norm() for weight in weights if weight.grad is not None]
        norms.append(torch.stack(found).norm().item())

    handle = register_optimizer_step_pre_hook(look)
    torch.manual_seed(0)
    try:
        even = config.batch + config.batch % 2
        module.train(replace(config, **still, batch=even), Run(quiet=True))
    finally:
        handle.remove()
    return norms[:STEPS]


def everything(what: str) -> dict:
    if what == "experiments":
        return {name: experiment(name) for name in EXPERIMENTS}
    found = {name: curve(name) for name in TASKS}
    if FSDP_ON_CPU:
        found |= {f"{name} sharded": curve(name, fsdp=True) for name in SHARDED}
    return found


if __name__ == "__main__":
    if sys.argv[1] == "models":
        torch.set_default_dtype(torch.float64)
    with joined():
        measured = everything(sys.argv[1])
        if rank() == 0:
            Path(sys.argv[2]).write_text(json.dumps(measured), encoding="utf-8")
